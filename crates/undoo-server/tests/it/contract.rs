//! The server held to its own document by Schemathesis, which makes requests of it, right and wrong ones, and
//! compares the answers with what it says.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;
use undoo_control::NewToken;
use undoo_core::platform::{BackupStatus, DeploymentState, EnvironmentType, OrgRole, Role, User};
use undoo_store::people;

use crate::{place::Place, platform::Platform};

/// So many there are of what a request can take away.
const SPARE: usize = 6;

/// The path of the program.
async fn schemathesis() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/schemathesis");
    let output = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success(), "dev/schemathesis could not make the program available");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The ids of what there is, by the names of the parameters and fields that take them.
#[derive(Default)]
struct Ids(BTreeMap<&'static str, Vec<String>>);

impl Ids {
    fn add(&mut self, name: &'static str, id: impl Display) {
        self.0.entry(name).or_default().push(id.to_string());
    }

    /// As the settings of Schemathesis have it: most requests take one of them, the others what is made up.
    fn settings(&self) -> String {
        let mut text = String::new();
        for (name, ids) in &self.0 {
            writeln!(text, "[dictionaries.{name}]\nvalues = {ids:?}").unwrap();
        }
        text.push_str("[parameters]\n");
        for name in self.0.keys() {
            for key in [(*name).to_owned(), format!("\"body.{name}\"")] {
                writeln!(text, "{key} = {{ dictionary = \"{name}\", probability = 0.8 }}").unwrap();
            }
        }
        text
    }
}

/// One organisation with some of everything.
async fn things(platform: &Platform, at: &Place, owner: &User) -> Ids {
    let mut ids = Ids::default();
    ids.add("organization_id", at.organisation.id);
    ids.add("project_id", at.project.id);
    ids.add("server_id", at.server.id);
    ids.add("recovery_plan_id", at.recovery);
    ids.add("migration_id", at.migration);
    ids.add("container", "acme_odoo");
    let caller = platform.caller(owner).await;
    for _ in 0..SPARE {
        // With a restore that waits.
        let busy =
            platform.place_of(at.organisation.clone(), at.project.clone(), EnvironmentType::Staging).await;
        ids.add("restore_id", busy.restore.id);
        ids.add("task_id", busy.task.id);
        ids.add("backup_id", busy.backup.id);
        ids.add("storage_id", busy.storage.id);
        ids.add("user_id", busy.member.id);
        let (server, storage) = (Some(&at.server), Some(at.storage.id));
        let idle = platform.environment(&at.project, server, storage, EnvironmentType::Staging).await;
        ids.add("environment_id", idle.id);
        ids.add("environment_id", platform.deployed(at, DeploymentState::Deployed).await.id);
        ids.add("backup_id", platform.backup_in(at, BackupStatus::Completed).await.id);
        let member = platform.user(false).await;
        let role = Some(OrgRole::Member);
        people::org_role_set(&platform.store, at.organisation.id, member.id, role).await.unwrap();
        ids.add("user_id", member.id);
        let new =
            NewToken { name: "spare".into(), organisation_id: None, scopes: None, expires_in_days: None };
        ids.add("token_id", platform.control.token_create(&caller, new).await.unwrap().0.id);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_is_answered_as_the_document_says() {
    let program = schemathesis().await;
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let owner = platform.with_role(Role::OrgOwner, &place).await;
    let portal_admin = platform.user(true).await;
    let ids = things(&platform, &place, &owner).await;
    let settings = std::fs::read_to_string(format!("{tests}/schemathesis.toml")).unwrap();
    let file = platform.folder.path().join("schemathesis.toml");
    std::fs::write(&file, settings + &ids.settings()).unwrap();
    let url = platform.listen().await;
    let output = Command::new(program)
        .arg("--config-file")
        .arg(&file)
        .args(["run", "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--no-color"])
        .arg(format!("{url}/api/v1/openapi.json"))
        .env("UNDOO_TOKEN", platform.token(&owner, None).await)
        .env("UNDOO_PORTAL_TOKEN", platform.token(&portal_admin, None).await)
        .env("SCHEMATHESIS_HOOKS", format!("{tests}/schemathesis.py"))
        .current_dir(platform.folder.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{report}");
    assert!(output.status.success(), "{report}\n{errors}");
}
