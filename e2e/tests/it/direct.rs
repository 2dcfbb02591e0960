//! Without Docker: a database server by its URL, a filestore by its path, Odoo by two commands.

use std::{thread::sleep, time::Duration};

use serde_json::json;

use crate::support::{Instance, Kind, Made, Undoo, wait_for};

#[test]
fn a_database_url_and_a_filestore_are_restored_into_and_undone() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    live.web().create("res.partner", json!({ "name": "Entered after the backup" }));
    let url =
        format!("postgresql://odoo:{}@{}:5432/{}", live.password(), live.address(&live.db()), live.name);
    let (filestore, zip) = (live.filestore().display().to_string(), backup.zip());
    let (stop, start) = (format!("docker stop {}", live.odoo()), format!("docker start {}", live.odoo()));
    let place = [
        "--filestore",
        &filestore,
        "--stop-command",
        &stop,
        "--start-command",
        &start,
        "--odoo-url",
        &live.url,
    ];
    let with = |first: &[&str]| {
        let words: Vec<&str> = first.iter().chain(&place).copied().collect();
        undoo.run_with(&words, &[("UNDOO_DATABASE_URL", &url)])
    };

    let run = with(&["restore", &zip, "--yes", "--json"]).ends(0);
    assert!(!run.all().contains(&live.password()));
    assert_eq!(run.result()["boot"], json!(null), "the report says that Odoo was not booted");
    backup.is_live_on(&live, &live.name);
    with(&["verify"]).ends(0);
    let listed = with(&["list", "--json"]).ends(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(&live.password()));

    with(&["undo", "--yes"]).ends(0);
    let web = live.web();
    assert_eq!(web.count("res.partner", json!([["name", "=", "Entered after the backup"]])), 1);
    assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 0);
}

/// The command dies after it has ordered the hand-over and before the cutover asks for the lock.
#[test]
fn a_lock_that_is_handed_over_is_held_for_the_cutover_though_the_command_is_dead() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    let id = "01a2049a-6907-749f-92f4-ce47eb2964d1";
    let target = json!({
        "admin": {
            "host": live.address(&live.db()), "port": 5432, "user": "odoo", "password": live.password(),
        },
        "owner": "odoo", "database": live.name, "filestore_root": live.data_dir().join("filestore"),
        "files_owner": null, "shares_disk": true, "database_pinned": true, "name": "direct", "odoo_major": 19,
    });
    let held = || live.sql_in("postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'");
    let order = json!({ "order": "hand_over", "target": target, "id": id });
    let mut mover = undoo.order_and_leave(&order);
    wait_for("the lock", Duration::from_secs(20), || (held() == "1").then_some(()));
    sleep(Duration::from_millis(1500));
    assert_eq!(held(), "1", "it was let go for nobody");
    let key = format!("1970037871, hashtext('{}')", live.name);
    let cutover = format!(
        "SET application_name = 'undoo cutover {id}'; SET lock_timeout = '10s'; SELECT pg_advisory_lock({key})"
    );
    live.sql_in("postgres", &cutover);
    assert!(mover.wait().unwrap().success());

    // Any other order ends with the command.
    let probe = json!({
        "order": "probe", "base": "http://127.0.0.1:9", "database": "x",
        "patience": { "attempts": 1000, "interval_ms": 1000 },
    });
    let mut mover = undoo.order_and_leave(&probe);
    assert_eq!(mover.wait().unwrap().code(), Some(130));
}
