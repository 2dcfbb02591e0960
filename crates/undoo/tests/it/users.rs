//! The last admin, who has lost the password, gets in again by the machine that the platform is on.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use undoo_api::{
    Client,
    client::Patience,
    identity::{InvitationRequest, LoginRequest, SetupRequest},
};

use crate::undoo;

const FORGOTTEN: &str = "correct horse battery";
const NEW: &str = "another horse battery";

/// `undoo serve`, which ends with this.
struct Serving {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Serving {
    fn at(folder: &Path, listen: &str) -> Self {
        let mut command = undoo();
        command.args(["serve", "--no-worker", "--listen", listen, "--log", "off", "--data-dir"]).arg(folder);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// The part of its output's first line that has this in it, before and after.
    fn line(&mut self, of: &str) -> (String, String) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((before, after)) = line.trim().split_once(of) {
                return (before.to_owned(), after.to_owned());
            }
            line.clear();
        }
        panic!("it ended before it said {of}")
    }

    fn stop(mut self) {
        let told = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(told.success() && self.process.wait().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn reset(folder: &Path, email: &str, listen: &str) -> Output {
    let mut command = undoo();
    command.args(["users", "reset", email, "--data-dir"]).arg(folder).env("UNDOO_LISTEN", listen);
    command.output().unwrap()
}

#[tokio::test]
async fn the_last_admin_gets_a_link_from_the_machine_itself() {
    let folder = tempfile::tempdir().unwrap();
    // Free now, and nobody else asks for ports by number.
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut serving = Serving::at(folder.path(), &listen);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (base, token) = serving.line("/setup#token=");
    assert_eq!(base, format!("http://{listen}"));
    let client = Client::anonymous(&base).unwrap();
    let setup = SetupRequest {
        token: token.into(),
        email: "ada@example.com".into(),
        name: "Ada".into(),
        password: FORGOTTEN.into(),
        organization_name: "Acme".into(),
    };
    client.setup(&setup).await.unwrap();

    let refused = reset(folder.path(), "ada@example.com", &listen);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(7) && said.contains("[database_in_use]"), "{said}");
    assert!(said.contains("top that one first"), "{said}");
    serving.stop();

    let unknown = reset(folder.path(), "eve@example.com", &listen);
    assert_eq!(unknown.status.code(), Some(5), "{unknown:?}");
    let link = reset(folder.path(), "Ada@example.com", &listen);
    assert!(link.status.success(), "{link:?}");
    let said = String::from_utf8(link.stdout).unwrap();
    let token = said.split_once(&format!("http://{listen}/setup#invitation=")).unwrap().1;
    let token = token.split_whitespace().next().unwrap();

    let serving = Serving::at(folder.path(), &listen);
    // One that does not go on with a connection to the process before, and waits for this one to listen.
    let client = Client::patient(&base, Patience { attempts: 7, ..Patience::default() }).unwrap();
    let request = InvitationRequest { token: token.into(), password: NEW.into() };
    client.invitation_accept(&request).await.unwrap();
    let login = async |password: &str| {
        let request = LoginRequest { email: "ada@example.com".into(), password: password.into() };
        client.login(&request).await.map_or_else(|problem| problem.code, |_| "fine")
    };
    assert_eq!((login(FORGOTTEN).await, login(NEW).await), ("wrong_login", "fine"));
    serving.stop();
}

#[test]
fn a_wrong_folder_does_not_become_a_platform() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("typo");
    let refused = reset(&nowhere, "ada@example.com", "127.0.0.1:1");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(5) && said.contains("[no_platform]"), "{said}");
    assert!(!nowhere.exists());
}
