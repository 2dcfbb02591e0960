//! A backup that Odoo itself made elsewhere comes to the platform over a line that breaks, and becomes an environment
//! on another server: restored once, and again only by the word.

use std::{fs, process::Command};

use serde_json::{Value, json};
use undoo_testing::{
    git::GitServer,
    weed::{BUCKET, KEY},
};

use crate::support::{
    Kind, Undoo,
    backup::Made,
    docker::output,
    platform::Platform,
    second::{Second, USER},
    sha1,
    web::Web,
};

const TASK_ENDED: [&str; 4] = ["completed", "failed", "cancelled", "stuck"];
const PORT: u16 = 18_071;
/// The network that Traefik would be in.
const PUBLIC: &str = "undoo-e2e-public";

/// What the second server has, but for undoo's own program and the network that stays for other environments.
fn left(second: &Second) -> Vec<String> {
    let all = second.inventory().into_iter();
    all.filter(|thing| !thing.starts_with("volume undoo_bin_") && *thing != format!("network {PUBLIC}"))
        .collect()
}

/// Sends a file's first bytes, and is gone before the others.
fn sends_half(platform: &Platform, id: &str, file: &str, bytes: usize) -> u64 {
    let half = &fs::read(file).unwrap()[..bytes];
    let token = format!("Authorization: Bearer {}", platform.token());
    let address = format!("{}/api/v1/migrations/{id}/upload", platform.base());
    let words = ["-sS", "--noproxy", "*", "-X", "PATCH", "-H", &token, "-H", "Upload-Offset: 0", "-H"];
    let kind = "Content-Type: application/offset+octet-stream";
    let mut curl = Command::new("curl");
    let curl = curl.args(words).args([kind, "--data-binary", "@-", &address]);
    assert!(output(curl, half).status.success());
    platform.get(&format!("/migrations/{id}/upload"))["arrived_bytes"].as_u64().unwrap()
}

#[test]
fn a_backup_from_elsewhere_is_uploaded_over_a_line_that_breaks_and_restored_once() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let second = Second::up();
    let settings = [("UNDOO_DEPLOY_PREFIX", "undoo-test"), ("UNDOO_DEPLOY_NETWORK", PUBLIC)];
    let mut platform = Platform::up_with(&undoo, &settings);
    let organization = platform.get("/organizations")[0]["id"].clone();
    let ssh = json!({ "host": second.address(), "user": USER, "host_key": second.host_key(),
                      "private_key": fs::read_to_string(second.key_file()).unwrap() });
    let new = json!({ "organization_id": organization, "name": "Second", "ssh": ssh });
    platform.post("/servers", new);
    let before = left(&second);
    // Its code is not in a ZIP of Odoo's own; it is where people keep it.
    let git = GitServer::public();
    let repository = git.repository("acme-addons");
    repository.commit(&[
        ("moved_module/__manifest__.py", "{'name': 'Moved', 'license': 'LGPL-3'}"),
        ("moved_module/__init__.py", ""),
    ]);
    let file = backup.zip();
    let size = fs::metadata(&file).unwrap().len();

    // Half of it arrives before the platform is killed; the other half after it is back.
    let project =
        platform.get(&format!("/organizations/{}/projects", organization.as_str().unwrap()))[0]["id"].clone();
    let servers = platform.get(&format!("/servers?organization_id={}", organization.as_str().unwrap()));
    let server = servers.as_array().unwrap().iter().find(|one| one["name"] == "Second").unwrap();
    let migration = platform.post(
        "/migrations",
        json!({ "project_id": project, "source": "database_manager", "upload_bytes": size, "accept": ["server_full"],
                "environment": { "name": "Moved", "environment_type": "production", "server_id": server["id"],
                                 "http_port": PORT, "postgres_image": "postgres:15",
                                 "addons": [{ "url": repository.url, "reference": "no-such-branch" }] } }),
    );
    let (id, environment) = (
        migration["id"].as_str().unwrap().to_owned(),
        migration["environment_id"].as_str().unwrap().to_owned(),
    );
    let arrived = sends_half(&platform, &id, &file, usize::try_from(size / 2).unwrap());
    assert_eq!(arrived, size / 2);
    platform.kill_and_start(&undoo);
    let (base, token) = (platform.base().to_owned(), platform.token().to_owned());
    let run = |words: &[&str]| undoo.run_with(words, &[("UNDOO_URL", &base), ("UNDOO_TOKEN", &token)]);
    let resumed = run(&["migration", "resume", &id, &file, "--json"]).ends(0).result();
    assert_eq!(
        (&resumed["status"], &resumed["upload_bytes"]),
        (&json!("uploaded"), &json!(size)),
        "{resumed}"
    );
    assert_eq!(left(&second), before, "nothing is there before somebody deploys");

    let deploy = |more: &[&str]| {
        let words = [&["env", "deploy", &environment, "--watch", "-y", "--json"], more].concat();
        run(&words)
    };
    let details = |platform: &Platform| platform.get(&format!("/environments/{environment}"));
    // What cannot be fetched leaves nothing, and the environment waits on.
    let failed = deploy(&[]);
    assert_eq!(failed.code, 5, "{}", failed.all());
    assert!(failed.all().contains("no-such-branch"), "{}", failed.all());
    assert_eq!(left(&second), before);
    deploy(&["--addons", &repository.url]).ends(0);
    let now = details(&platform);
    assert_eq!(
        (&now["status"], &now["migration_restore_completed"]),
        (&json!("running"), &json!(true)),
        "{now}"
    );
    let first = now["migration_restore_completed_at"].clone();
    assert_eq!(platform.get(&format!("/migrations/{id}"))["status"], "completed");
    let module = format!("/opt/undoo-test/{environment}/addons/moved_module/__manifest__.py");
    assert!(second.engine.path(&module).exists(), "{module}");
    let url = format!("http://{}:{PORT}", second.address());
    let web = Web::login(&url, &environment, "admin", "admin").unwrap();
    let everyone = json!([["active", "in", [true, false]]]);
    assert_eq!(web.count("res.partner", everyone), backup.partners());
    for attached in backup.attachments() {
        assert_eq!(sha1(&web.attachment(attached.id)), attached.sha1, "attachment {}", attached.id);
    }
    web.create("res.partner", json!({ "name": "Since the migration" }));
    // From now on its backups go where its server reaches.
    let storage = second.storage();
    let config = json!({ "provider": "minio", "bucket": BUCKET, "access_key": KEY.0, "secret_key": KEY.1,
                         "endpoint": second.endpoint(&storage), "region": "us-east-1" });
    let new = json!({ "organization_id": organization, "name": "Shared", "config": config });
    let shared = platform.post("/storages", new)["id"].clone();
    platform.call("PATCH", &format!("/environments/{environment}"), Some(json!({ "storage_id": shared })));
    let since = json!([["name", "=", "Since the migration"]]);

    // Deployed again, what was written since is there.
    deploy(&[]).ends(0);
    let web = Web::login(&url, &environment, "admin", "admin").unwrap();
    assert_eq!(web.count("res.partner", since.clone()), 1);
    assert_eq!(details(&platform)["migration_restore_completed_at"], first);

    // Only the word restores it again, and that can be undone.
    let unsure = deploy(&["--force-restore", "--confirm", "restore"]).ends(130).json();
    assert_eq!(unsure["message"], "\"restore\" is not \"RESTORE\"; nothing was touched");
    deploy(&["--force-restore", "--confirm", "RESTORE"]).ends(0);
    let web = Web::login(&url, &environment, "admin", "admin").unwrap();
    assert_eq!(web.count("res.partner", since.clone()), 0);
    assert_ne!(details(&platform)["migration_restore_completed_at"], first);
    let restore = platform.get(&format!("/environments/{environment}/restore-points"))[0].clone();
    assert!(restore["pre_restore_backup_id"].is_string(), "{restore}");
    let undo = platform.post(&format!("/restore/{}/undo", restore["id"].as_str().unwrap()), json!({}));
    platform.ended(&format!("/restore/{}", undo["id"].as_str().unwrap()), &["undone", "stuck"]);
    let web = Web::login(&url, &environment, "admin", "admin").unwrap();
    assert_eq!(web.count("res.partner", since), 1);

    let task = platform.post(&format!("/environments/{environment}/destroy"), json!({ "confirm": "Moved" }));
    let ended: Value = platform.ended(&format!("/tasks/{}", task["id"].as_str().unwrap()), &TASK_ENDED);
    assert_eq!((&ended["status"], left(&second)), (&json!("completed"), before), "{ended}");
}
