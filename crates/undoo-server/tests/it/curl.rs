//! The source document's curl examples, run as written by the real curl: host and token apart, and with ids
//! for what stands in braces.

use std::{fs::File, io::Write, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use undoo_core::platform::{BackupStatus, EnvironmentType, Role};
use zip::write::SimpleFileOptions;

use crate::{place::Place, platform::Platform};

struct World {
    platform: Platform,
    place: Place,
    base: String,
    token: String,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let platform = Platform::on_sqlite().await;
        let place = platform.place(EnvironmentType::Staging).await;
        let base = platform.listen().await;
        let token = platform.token_of(Role::OrgAdmin, &place).await;
        Self { platform, place, base, token, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs an example. A path without a host is one of this server, and the token is in curl's own
    /// configuration where an example leaves it out.
    async fn run(&self, example: &str) -> Output {
        let example =
            example.replace("https://portal.oec.sh", "").replace("\"/api", &format!("\"{}/api", self.base));
        let example = example.replace("{token}", &self.token);
        let configuration =
            format!("header = \"Authorization: Bearer {}\"\nsilent\nshow-error\n", self.token);
        std::fs::write(self.folder.path().join(".curlrc"), configuration).unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &example]).env("CURL_HOME", self.folder.path());
        shell.current_dir(self.folder.path()).output().await.unwrap()
    }

    /// What an example prints.
    async fn prints(&self, example: &str) -> String {
        let output = self.run(example).await;
        assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn answers(&self, example: &str) -> Value {
        let text = self.prints(example).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{example}: {text}"))
    }

    async fn idle(&self) -> String {
        let (server, storage) = (Some(&self.place.server), Some(self.place.storage.id));
        let kind = EnvironmentType::Staging;
        self.platform.environment(&self.place.project, server, storage, kind).await.id.to_string()
    }

    /// A backup as it would lie in the storage.
    fn written(&self) {
        let folder = self.platform.folder.path().join(self.place.server.id.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let mut zip =
            zip::ZipWriter::new(File::create(folder.join(self.place.backup.key.as_ref().unwrap())).unwrap());
        let members = [
            (
                "dump.sql",
                "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n--\n-- PostgreSQL database dump complete\n--\n\n",
            ),
            (
                "manifest.json",
                r#"{"odoo_dump": "1", "db_name": "acme", "version": "19.0", "version_info": [19, 0, 0, "final", 0, ""], "major_version": "19.0", "pg_version": "15.20", "modules": {}}"#,
            ),
            ("filestore/aa/aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d", "hello"),
        ];
        for (name, content) in members {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_before_an_upgrade() {
    let world = World::new().await;
    let (environment, staging) = (world.idle().await, world.idle().await);
    let example = r#"curl -X POST "https://portal.oec.sh/api/v1/environments/{env_id}/backups" \
        -H "Authorization: Bearer {token}" \
        -d '{"backup_type": "manual", "description": "Pre-upgrade safety backup"}'"#;
    let backup = world.answers(&example.replace("{env_id}", &environment)).await;
    assert_eq!(
        (&backup["status"], &backup["description"]),
        (&json!("pending"), &json!("Pre-upgrade safety backup"))
    );
    let example = r#"curl -X POST "https://portal.oec.sh/api/v1/backups/restore" \
        -d '{"backup_id": "{backup_id}", "target_environment_id": "{staging_id}"}'"#;
    let example = example.replace("{backup_id}", &world.place.backup.id.to_string());
    let restore = world.answers(&example.replace("{staging_id}", &staging)).await;
    assert_eq!((&restore["status"], &restore["target_environment_id"]), (&json!("pending"), &json!(staging)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_troubleshooting() {
    let world = World::new().await;
    let (backup, restore) = (world.place.backup.id.to_string(), world.place.restore.id.to_string());
    let example = r#"curl "/api/v1/backups/{backup_id}" | jq '.environment_snapshot.postgres_version'"#;
    assert_eq!(world.prints(&example.replace("{backup_id}", &backup)).await, "\"15.20\"\n");
    let example = r#"curl "/api/v1/backups/{backup_id}" | jq '.filestore_size_bytes'"#;
    assert_eq!(world.prints(&example.replace("{backup_id}", &backup)).await, "500\n");
    let example = r#"curl "/api/v1/backups/{backup_id}" | jq '.status, .error_message'"#;
    assert_eq!(world.prints(&example.replace("{backup_id}", &backup)).await, "\"completed\"\nnull\n");
    let example = r#"curl "/api/v1/environments/{env_id}/backups?page_size=10""#;
    let listed = world.answers(&example.replace("{env_id}", &world.place.environment.id.to_string())).await;
    assert_eq!(listed[0]["id"], json!(backup));

    let example = r#"curl -X POST "/api/v1/restore/{restore_id}/cancel""#;
    let cancelled = world.answers(&example.replace("{restore_id}", &restore)).await;
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    let example = r#"curl -X POST "/api/v1/backups/restore" \
        -d '{"backup_id": "{previous_backup_id}"}'"#;
    let restored = world.answers(&example.replace("{previous_backup_id}", &backup)).await;
    assert_eq!(restored["target_environment_id"], json!(world.place.environment.id), "{restored}");

    let old = world.platform.backup_in(&world.place, BackupStatus::Completed).await.id.to_string();
    let example = r#"curl -X DELETE "/api/v1/backups/{old_backup_id}""#;
    let deleted = world.answers(&example.replace("{old_backup_id}", &old)).await;
    assert_eq!(deleted["status"], "deleting");
    // What the example leaves out is named.
    let example = r#"curl -X POST "/api/v1/backups/storage/test" \
        -d '{"provider": "aws_s3", "access_key": "...", "bucket": "..."}'"#;
    let tested = world.answers(example).await;
    assert!(tested["status"] == 422 || tested["status"] == 400 || tested["ok"] == false, "{tested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_downloading() {
    let world = World::new().await;
    world.written();
    let example = r#"curl -X GET "https://portal.oec.sh/api/v1/backups/{backup_id}/download" \
        -H "Authorization: Bearer {token}""#;
    let answer = world.answers(&example.replace("{backup_id}", &world.place.backup.id.to_string())).await;
    let url = |name: &str| answer["urls"][name].as_str().unwrap().to_owned();
    for (example, name) in [
        (r#"curl -o backup.zip "{url}" && unzip -t backup.zip"#, "zip"),
        (r#"curl -o database.dump "{url}" && tail -n 2 database.dump"#, "database"),
        (r#"curl -o filestore.tar.gz "{url}" && tar -tzf filestore.tar.gz"#, "filestore"),
    ] {
        let printed = world.prints(&example.replace("{url}", &url(name))).await;
        let proof = match name {
            "zip" => "No errors detected",
            "database" => "--",
            _ => "aa/aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
        };
        assert!(printed.contains(proof), "{name}: {printed}");
    }
}
