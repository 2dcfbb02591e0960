//! A production is damaged and brought back from its own backup; then back, and forth again.

use std::fs;

use serde_json::json;

use crate::support::{Instance, Kind, Made, Undoo, backup::base64, noise};

#[test]
fn a_damaged_odoo_is_recovered_in_place_undone_and_redone_with_what_was_entered_since() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::SALES);
    let live = Instance::up(Kind::SALES);
    live.is_origin_of(backup.uuid());
    let target = live.target();

    let web = live.web();
    let content = noise(99, 50_000);
    let partner = web.create("res.partner", json!({ "name": "Entered after the backup" }));
    let late = web.create(
        "ir.attachment",
        json!({ "name": "late.bin", "res_model": "res.partner", "res_id": partner, "datas": base64(&content) }),
    );
    // Files that the backup has as well.
    let shared: Vec<_> =
        files(&backup.filestore()).into_iter().filter(|f| live.filestore().join(f).exists()).collect();
    assert!(shared.len() > 10, "the instance has the template's files");
    let (truncated, removed) = (live.filestore().join(&shared[0]), live.filestore().join(&shared[1]));
    fs::File::options().write(true).open(&truncated).unwrap().set_len(3).unwrap();
    fs::remove_file(&removed).unwrap();
    let damaged = undoo.run(&["verify", &target, "--json"]).ends(9).json();
    assert_eq!(damaged["code"], "filestore_not_whole");

    let run = undoo.run(&["restore", &backup.zip(), "--into", &target, "--yes", "--json"]).ends(0);
    let result = run.result();
    backup.is_live_on(&live, &live.name);
    assert_eq!(live.web().count("res.partner", json!([["name", "=", "Entered after the backup"]])), 0);
    assert_eq!(result["intent"], "recover");
    let report = &result["report"];
    assert_eq!(report["attachments"]["missing"], json!([]));
    assert_eq!(report["attachments"]["corrupt"], json!([]));
    assert_eq!(report["filestore"]["live_corrupt"], json!([shared[0]]));
    let rows =
        live.sql("SELECT count(*) FROM ir_attachment WHERE type = 'binary' AND store_fname IS NOT NULL");
    // Odoo has made its asset bundles anew since, at most a few.
    let (now, matched) = (rows.parse::<u64>().unwrap(), report["attachments"]["matched"].as_u64().unwrap());
    assert!(now >= matched && now <= matched + 8, "{matched} attachments matched, {now} are there");
    undoo.run(&["verify", &target]).ends(0);

    let web = live.web();
    let customer = web.create("res.partner", json!({ "name": "Entered after the cutover" }));
    let order = web.create("sale.order", json!({ "partner_id": customer }));
    let plan = undoo.run(&["undo", &target, "--dry-run", "--json"]).ends(0).result();
    let created = |table: &str| {
        let written = plan["written"].as_array().unwrap().iter().find(|row| row["table"] == table);
        written.map_or(0, |row| row["created"].as_i64().unwrap())
    };
    assert_eq!(created("sale_order"), 1, "{plan}");
    assert_eq!(created("res_partner"), 1, "{plan}");
    assert!(live.web().count("sale.order", json!([["id", "=", order]])) == 1, "a dry run touches nothing");

    undoo.run(&["undo", &target, "--yes"]).ends(0);
    let web = live.web();
    assert_eq!(web.count("res.partner", json!([["name", "=", "Entered after the backup"]])), 1);
    assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 0);
    assert_eq!(web.attachment(late), content, "a file that the backup does not have");
    assert_eq!(fs::metadata(&truncated).unwrap().len(), 3, "the damaged pair is as it was, damage and all");
    assert!(!removed.exists());

    undoo.run(&["undo", &target, "--yes"]).ends(0);
    let web = live.web();
    assert_eq!(web.count("sale.order", json!([["id", "=", order]])), 1, "what was entered is back");
    assert_eq!(web.count("res.partner", json!([["name", "=", "Entered after the cutover"]])), 1);
    undoo.run(&["verify", &target]).ends(0);
    assert_eq!(live.leftovers(), [""; 0]);
}

/// `xx/…` paths below a filestore.
fn files(filestore: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for folder in fs::read_dir(filestore).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if name.len() == 2 {
            let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
            files.extend(inside.map(|file| format!("{name}/{}", file.to_str().unwrap())));
        }
    }
    files.sort();
    files
}
