//! The same data in every layout that people bring, into the versions that they run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::{Instance, Kind, Made, Undoo, docker::succeed};

#[test]
fn odoo_14_is_restored_from_a_zip_a_custom_dump_and_a_folder_into_postgresql_13() {
    odoo_14_in_three_layouts("13");
}

#[test]
fn odoo_14_is_restored_from_a_zip_a_custom_dump_and_a_folder_into_postgresql_15() {
    odoo_14_in_three_layouts("15");
}

fn odoo_14_in_three_layouts(postgres: &'static str) {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_14);
    let live = Instance::up(Kind { postgres, ..Kind::ODOO_14 });
    let before = live.parameter(&live.name, "database.uuid");

    let result = restore(&undoo, &live, &backup.zip());
    assert_eq!(result["intent"], "copy", "the backup is of another instance");
    backup.is_live_on(&live, &live.name);
    assert_is_neutralized_copy(&live, &[backup.uuid(), &before]);

    // The database alone: its files are there already.
    live.is_origin_of(backup.uuid());
    let result = restore(&undoo, &live, &backup.custom());
    assert_eq!(result["intent"], "recover", "the backup is of this very instance");
    backup.is_live_on(&live, &live.name);
    assert_eq!(live.parameter(&live.name, "database.uuid"), backup.uuid());
    assert_eq!(live.parameter(&live.name, "database.is_neutralized"), "");

    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(&backup.custom()), &folder.path().join("db.dump"));
    copy(&backup.filestore(), &folder.path().join("filestore"));
    copy(&backup.manifest(), &folder.path().join("manifest.json"));
    lose_files(&live);
    restore(&undoo, &live, folder.path().to_str().unwrap());
    backup.is_live_on(&live, &live.name);
    assert_eq!(live.leftovers(), [""; 0]);
}

fn assert_is_neutralized_copy(live: &Instance, others: &[&str]) {
    assert_eq!(live.parameter(&live.name, "database.is_neutralized"), "true");
    let uuid = live.parameter(&live.name, "database.uuid");
    assert!(uuid.len() == 36 && !others.contains(&uuid.as_str()), "{uuid} is an identity of its own");
    let crons = live.sql("SELECT cron_name FROM ir_cron WHERE active");
    assert!(crons.lines().count() <= 1, "only the vacuum runs: {crons}");
    assert_eq!(live.sql("SELECT DISTINCT smtp_host FROM ir_mail_server WHERE active"), "invalid");
}

#[test]
fn dump_with_filestore_archive_and_a_daily_backup_restore_alike() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());

    // dump.sql (a custom dump under that name), filestore.tar.gz, manifest.json.
    let oec = tempfile::tempdir().unwrap();
    copy(Path::new(&backup.custom()), &oec.path().join("dump.sql"));
    copy(&backup.manifest(), &oec.path().join("manifest.json"));
    let parent = backup.filestore().parent().unwrap().to_owned();
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(oec.path().join("filestore.tar.gz")).arg("-C").arg(parent).arg("filestore");
    succeed(&mut tar, b"");
    lose_files(&live);
    let result = restore(&undoo, &live, oec.path().to_str().unwrap());
    backup.is_live_on(&live, &live.name);
    assert_eq!(result["report"]["attachments"]["missing"], Value::Array(Vec::new()));
    let matched = &result["report"]["attachments"]["matched"];

    // acme_daily.sql.gz, acme_daily/, acme_daily.json, as odoo.sh leaves them on its servers.
    let daily = tempfile::tempdir().unwrap();
    let gzip = succeed(Command::new("gzip").args(["-c", &backup.plain()]), b"");
    fs::write(daily.path().join("acme_daily.sql.gz"), gzip).unwrap();
    copy(&backup.filestore(), &daily.path().join("acme_daily"));
    copy(&backup.manifest(), &daily.path().join("acme_daily.json"));
    lose_files(&live);
    let result = restore(&undoo, &live, daily.path().to_str().unwrap());
    backup.is_live_on(&live, &live.name);
    assert_eq!(result["report"]["attachments"]["matched"], *matched, "both layouts hold the same");
}

fn restore(undoo: &Undoo, live: &Instance, backup: &str) -> Value {
    undoo.run(&["restore", backup, "--into", &live.target(), "--yes", "--json"]).ends(0).result()
}

/// What is restored must come from the backup.
fn lose_files(live: &Instance) {
    for folder in fs::read_dir(live.filestore()).unwrap().map(|entry| entry.unwrap().path()) {
        if folder.file_name().unwrap().len() == 2 {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

fn copy(from: &Path, to: &PathBuf) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to), b"");
}
