//! Without Docker: a database server by its URL, a filestore by its path, Odoo by two commands.

use serde_json::json;

use crate::support::{Instance, Kind, Made, Undoo};

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
