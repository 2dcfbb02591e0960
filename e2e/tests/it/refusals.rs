//! What does not prove whole never stays live: refused before the cutover, or swapped back after it.

use std::{fs, time::Duration};

use serde_json::json;

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, pg_dump},
    wait_for,
};

#[test]
fn a_backup_on_which_odoo_cannot_boot_is_refused_at_the_proof() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let started = docker(&["inspect", "-f", "{{.State.StartedAt}}", &live.odoo()]);
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("db.dump");
    live.sql_in("postgres", "CREATE DATABASE broken");
    live.sql_in("broken", &fs::read_to_string(backup.plain()).unwrap());
    // Tables that are whole for PostgreSQL, and not for Odoo.
    live.sql_in("broken", "ALTER TABLE res_users DROP COLUMN login CASCADE");
    fs::write(&dump, pg_dump(&live.db(), "broken", &["-Fc"])).unwrap();
    live.sql_in("postgres", "DROP DATABASE broken");
    let files = backup.filestore();
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(files)
            .arg(folder.path().join("filestore"))
            .status()
            .unwrap()
            .success()
    );

    let words = ["restore", folder.path().to_str().unwrap(), "--into", &live.target(), "--yes", "--json"];
    let run = undoo.run(&words).ends(9);
    let message = run.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("login"), "Odoo's own words are in it: {message}");
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.StartedAt}}", &live.odoo()]),
        started,
        "Odoo was not stopped"
    );
    live.web();
    assert_eq!(live.staged(), [""; 0]);
    assert_eq!(live.newest_restore(), None);
    assert_eq!(live.leftovers(), [""; 0]);
}

#[test]
fn an_odoo_that_does_not_answer_after_the_cutover_is_swapped_back() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    live.web().create("res.partner", json!({ "name": "Entered after the backup" }));
    let good = fs::read_to_string(live.conf()).unwrap();
    let run = undoo.start(&["restore", &backup.zip(), "--into", &live.target(), "--yes", "--json"], &[]);
    run.hears("\"phase\":\"boot\"");
    // The running Odoo has read its own; the next start fails.
    fs::write(live.conf(), format!("{good}workers = many\n")).unwrap();
    run.hears("swapping back");
    fs::write(live.conf(), &good).unwrap();
    let run = run.finish().ends(9);
    assert_eq!(run.json()["code"], "health_check", "{}", run.all());

    let web = live.web();
    assert_eq!(web.count("res.partner", json!([["name", "=", "Entered after the backup"]])), 1);
    assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 0);
    assert_eq!(live.leftovers(), [""; 0]);
    // The restored pair is kept: it was proven, only the configuration was not.
    undoo.run(&["undo", &live.target(), "--yes"]).ends(0);
    wait_for("Odoo", Duration::from_secs(30), || Instance::runs(&live.odoo()).then_some(()));
    backup.is_live_on(&live, &live.name);
}

#[test]
fn a_stop_first_that_fails_says_that_odoo_is_stopped_and_the_next_restore_brings_all_back() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.sql_in("postgres", &format!("ALTER DATABASE \"{}\" SET work_mem TO '7MB'", live.name));
    // That the dump's files are not there is seen once it is loaded.
    let (dump, target) = (backup.plain(), live.target());
    let words = ["restore", &dump, "--into", &target, "--yes", "--json", "--strategy", "stop-first"];
    let words: Vec<&str> = words.into_iter().chain(["--drop-live", &live.name]).collect();
    let run = undoo.run(&words).ends(4);
    assert_eq!(run.findings(), ["missing_files"]);
    let message = run.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Odoo is stopped, because its database"), "{message}");
    assert!(!Instance::runs(&live.odoo()));
    assert_eq!(live.staged(), [""; 0]);
    assert_eq!(live.leftovers(), [""; 0]);

    let words = ["restore", &backup.zip(), "--into", &target, "--yes", "--json", "--intent", "recover"];
    undoo.run(&words).ends(0);
    backup.is_live_on(&live, &live.name);
    assert_eq!(live.sql("SHOW work_mem"), "7MB");
}
