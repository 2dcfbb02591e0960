//! An Odoo on another server, which nothing but SSH reaches: restored there, undone there, and refused.

use std::time::Instant;

use serde_json::json;
use undoo_hosts::{Docker, DockerEndpoint, host};
use undoo_storage::SshAccess;

use crate::support::{
    Instance, Kind, Undoo,
    backup::base64,
    link::Link,
    noise,
    second::{PASSWORD, STRANGER, Second, USER},
    sha1,
    undoo::Run,
    web::RUNTIME,
    weed,
};

/// How big the attachments are that make a backup bigger, and how many.
const BIG: usize = 6 << 20;
const MANY: u64 = 8;

/// An Odoo on the second server, its storage, and what `undoo` is told of both.
pub(crate) struct Elsewhere {
    pub(crate) live: Instance,
    pub(crate) second: Second,
    pub(crate) storage: Link,
    // The turn ends last.
    pub(crate) undoo: Undoo,
}

impl Elsewhere {
    pub(crate) fn up() -> Self {
        let mut undoo = Undoo::ready();
        let second = Second::up();
        undoo.moves_to_network_of(second.counted_network());
        Self { live: second.instance(Kind::ODOO_19), storage: second.storage(), second, undoo }
    }

    /// These words, followed by where the server is.
    pub(crate) fn words(&self, words: &[&str]) -> Vec<String> {
        let server = ["--server", &self.second.url(USER), "--host-key", self.second.host_key()];
        words.iter().chain(&server).map(|word| (*word).to_owned()).collect()
    }

    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        self.second.variables(&self.storage)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Run {
        let (words, variables) = (self.words(words), self.variables());
        self.undoo.run_with(&borrowed(&words), &pairs(&variables))
    }

    /// Backs the instance up; gives the backup's address and its bytes.
    pub(crate) fn backup(&self) -> (String, u64) {
        let made = self.run(&["backup", &self.live.target(), "--to", "s3://backups/second", "--json"]);
        let made = made.ends(0).result();
        (made["address"].as_str().unwrap().to_owned(), made["bytes"].as_u64().unwrap())
    }
}

pub(crate) fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

pub(crate) fn pairs<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn an_odoo_on_another_server_is_restored_and_undone_while_its_bytes_pass_by_whoever_asked() {
    let there = Elsewhere::up();
    let web = there.live.web();
    let attachment = |index: u64| {
        let values = json!({ "name": format!("big-{index}.bin"), "datas": base64(&noise(index, BIG)) });
        web.create("ir.attachment", values)
    };
    let attachments: Vec<i64> = (0..MANY).map(attachment).collect();
    web.create("res.partner", json!({ "name": "Entered before the backup" }));
    let (address, size) = there.backup();
    assert!(size > 40 << 20, "{size} bytes");

    // The damage, and what is entered on top of it.
    web.call("ir.attachment", "unlink", json!([attachments]), json!({}));
    let late = web.create("res.partner", json!({ "name": "Entered after the backup" }));
    there.live.sql("DELETE FROM res_partner WHERE name = 'Entered before the backup'");
    let named = |name: &str| there.live.web().count("res.partner", json!([["name", "=", name]]));

    let (before, began) = (there.second.counted(), Instant::now());
    let target = there.live.target();
    let restored = there.run(&["restore", &address, "--into", &target, "--yes", "--json"]).ends(0).result();
    let counted = there.second.counted() - before;
    println!(
        "restored {size} bytes on another server in {:.1} s; {counted} bytes passed the machine that asked",
        began.elapsed().as_secs_f64()
    );
    assert!(restored["boot"]["after_ms"].is_number(), "it was proven: {restored}");
    assert!(counted < size / 5, "{counted} bytes of {size}");
    assert_eq!(named("Entered before the backup"), 1);
    assert_eq!(named("Entered after the backup"), 0);
    let web = there.live.web();
    for (index, id) in attachments.iter().enumerate() {
        assert_eq!(sha1(&web.attachment(*id)), sha1(&noise(index as u64, BIG)), "attachment {id}");
    }
    there.run(&["verify", &target]).ends(0);

    there.run(&["undo", &target, "--yes"]).ends(0);
    assert_eq!(named("Entered before the backup"), 0);
    assert_eq!(there.live.web().count("res.partner", json!([["id", "=", late]])), 1);
    assert_eq!(there.live.leftovers(), [""; 0]);
    let listed = there.run(&["list", &target, "--json"]).ends(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn a_backup_of_this_machine_is_brought_to_an_odoo_on_another_server() {
    let there = Elsewhere::up();
    let web = there.live.web();
    let content = noise(1, BIG);
    let values = json!({ "name": "big.bin", "datas": base64(&content) });
    let attachment = web.create("ir.attachment", values);
    let (address, size) = there.backup();
    web.call("ir.attachment", "unlink", json!([[attachment]]), json!({}));
    let name = sha1(&content);
    std::fs::remove_file(there.live.filestore().join(&name[..2]).join(&name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("with a space.zip");
    let bytes = RUNTIME.block_on(async {
        let url = weed::http(address.strip_prefix("s3://backups/").unwrap());
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    });
    assert_eq!(bytes.len() as u64, size);
    std::fs::write(&file, bytes).unwrap();

    let target = there.live.target();
    let plan = there.run(&["restore", file.to_str().unwrap(), "--into", &target, "--dry-run", "--json"]);
    plan.ends(0);
    let before = there.second.counted();
    there.run(&["restore", file.to_str().unwrap(), "--into", &target, "--yes", "--json"]).ends(0);
    let counted = there.second.counted() - before;
    // What the live files have is not fetched.
    assert!(counted > BIG as u64, "{counted} bytes came this way");
    assert_eq!(sha1(&there.live.web().attachment(attachment)), sha1(&content));
    there.run(&["undo", &target, "--yes"]).ends(0);
    assert_eq!(there.live.leftovers(), [""; 0]);
}

/// Why a server was refused, in the words for scripts; what it has is as it was.
#[test]
fn a_server_that_does_not_let_in_or_has_no_docker_to_give_is_told_apart_and_left_as_it_is() {
    let undoo = Undoo::ready();
    let mut second = Second::up();
    let before = second.inventory();
    let key = [("UNDOO_SSH_KEY_FILE", second.key_file().to_owned())];
    let password = |password: &str| [("UNDOO_SSH_PASSWORD", password.to_owned())];
    let ask = |url: &str, host_key: Option<&str>, login: &[(&'static str, String)]| {
        let backup = "https://198.51.100.1:9/backup.zip";
        let words = ["restore", backup, "--into", "docker:nothing", "--yes", "--json", "--server", url];
        let host_key = host_key.map(|key| ["--host-key", key]);
        let words = [&words[..], host_key.as_ref().map_or(&[], |words| &words[..])].concat();
        undoo.run_with(&words, &pairs(login))
    };
    let (url, pinned) = (second.url(USER), second.host_key().to_owned());

    let unknown = ask(&url, None, &key).ends(6).json();
    assert_eq!(unknown["code"], "host_key_unknown");
    assert!(unknown.to_string().contains(&pinned), "its fingerprint is shown: {unknown}");
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let changed = ask(&url, Some(other), &key).ends(6).json();
    assert_eq!(changed["code"], "host_key_changed");
    assert!(changed.to_string().contains(&pinned) && changed.to_string().contains(other), "{changed}");

    let wrong = ask(&url, Some(&pinned), &password("not it")).ends(6);
    assert_eq!(wrong.json()["code"], "wrong_login");
    assert!(!wrong.all().contains("not it"));
    // Who is let in finds that there is no such target.
    assert_eq!(ask(&url, Some(&pinned), &password(PASSWORD)).ends(5).json()["code"], "container_missing");
    let denied = ask(&second.url(STRANGER), Some(&pinned), &key).ends(6).json();
    assert_eq!(denied["code"], "docker_denied");
    assert!(denied.to_string().contains(STRANGER), "{denied}");

    let folder = tempfile::tempdir().unwrap();
    let words = ["restore", folder.path().to_str().unwrap(), "--into", "docker:nothing", "--yes", "--json"];
    let words = [&words[..], &["--server", &url, "--host-key", &pinned]].concat();
    let local = undoo.run_with(&words, &pairs(&key)).ends(3).json();
    assert_eq!(local["code"], "backup_not_on_server");

    second.stop_engine();
    assert_eq!(ask(&url, Some(&pinned), &key).ends(8).json()["code"], "docker_unavailable");
    second.start_engine();
    assert_eq!(second.inventory(), before);
}

#[test]
fn a_server_is_looked_at_by_ssh() {
    let _turn = Undoo::ready();
    let second = Second::up();
    let access = SshAccess {
        host: second.address().to_owned(),
        port: None,
        user: USER.to_owned(),
        password: Some(PASSWORD.into()),
        private_key: None,
        passphrase: None,
        host_key: Some(second.host_key().to_owned()),
    };
    let before = second.inventory();
    let docker = RUNTIME.block_on(Docker::connect(DockerEndpoint::Ssh(access))).unwrap();
    let seen = RUNTIME.block_on(host::look(&docker, false)).unwrap();
    let version = second.engine.docker(&["version", "-f", "{{.Server.Version}}"]);
    assert_eq!(seen.docker_version.as_ref(), Some(&version));
    assert_eq!(seen.cores, Some(std::thread::available_parallelism().unwrap().get() as u64));
    assert!(seen.memory.unwrap() > 1 << 30);
    let here = Docker::connect(DockerEndpoint::Local);
    let here = RUNTIME.block_on(async { host::look(&here.await?, true).await }).unwrap();
    let (there, here) = (seen.disk.expect("its disk"), here.disk.unwrap());
    assert!(there.free > 0 && there.free <= there.size, "{there:?}");
    assert_eq!(there.size > 0, here.size > 0);
    assert_eq!(second.inventory(), before);
}
