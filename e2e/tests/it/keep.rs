//! Backups that are kept in a bucket: encrypted, known to be whole, pruned, and restored with their key.

use std::{fs, path::Path, thread, time::Duration};

use age::secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    storage::what_anyone_sees,
    support::{Instance, Kind, Made, Undoo, weed},
};

/// Where the backups of a test are; the server outlives one, and a run.
fn storage(test: &str) -> String {
    format!("{test}-{}-{}", std::process::id(), std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos())
}

/// A key in a file: the file, the public half, the secret one.
fn key(folder: &Path) -> (String, String, String) {
    let identity = age::x25519::Identity::generate();
    let file = folder.join("undoo.key");
    let secret = identity.to_string().expose_secret().to_owned();
    fs::write(&file, format!("# a key\n{secret}\n")).unwrap();
    (file.display().to_string(), identity.to_public().to_string(), secret)
}

/// An Odoo's own backup made one of ours, encrypted, in the bucket under this name.
fn kept(undoo: &Undoo, folder: &Path, to: &str, zip: &str, key: &str) {
    let name = key.rsplit('/').next().unwrap();
    let out = folder.join(name).display().to_string();
    undoo.run(&["convert", zip, &out, "--level", "1", "--encrypt-to", to]).ends(0);
    weed::put(key, &fs::read(&out).unwrap());
}

#[test]
fn encrypted_backups_in_a_bucket_are_verified_and_pruned() {
    let undoo = Undoo::ready();
    let zip = Made::of(Kind::ODOO_19).zip();
    let storage = storage("kept");
    let at = |name: &str| format!("{storage}/backups/acme/prod/{name}");
    let folder = tempfile::tempdir().unwrap();
    let (file, public, _) = key(folder.path());
    for name in ["1.zip.age", "2.zip.age", "3.zip.age", "4.zip.age"] {
        kept(&undoo, folder.path(), &public, &zip, &at(name));
    }
    weed::put(&at("note.txt"), b"a note");
    weed::put(&at("odoo.zip"), &fs::read(&zip).unwrap());

    let signing = folder.path().join("signing.key").display().to_string();
    let mut variables = weed::variables();
    variables.push(("UNDOO_SIGNING_KEY", signing));
    let plain = variables.clone();
    variables.push(("UNDOO_IDENTITY", file));
    let run = |words: &[&str], with: &[(&'static str, String)]| {
        let with: Vec<_> = with.iter().map(|(name, value)| (*name, value.as_str())).collect();
        undoo.run_with(words, &with)
    };
    let address = |name: &str| format!("s3://backups/{}", at(name));

    // Without the key it is told what is missing; with it the backup is read by range.
    let refused = run(&["inspect", &address("2.zip.age"), "--json"], &plain).ends(6);
    assert_eq!(refused.json()["code"], "encrypted");
    let seen = run(&["inspect", &address("2.zip.age")], &variables).ends(0);
    assert!(seen.out.contains("[encrypted]") && seen.out.contains("[backup_on_same_server]"), "{}", seen.out);
    assert!(seen.out.contains("signature   valid"), "{}", seen.out);

    let prune = |with: &[(&'static str, String)], further: &[&str]| {
        let root = format!("s3://backups/{storage}");
        let words = ["prune", &root, "--keep-last", "1", "--min-age", "0h", "--json"];
        run(&[&words, further].concat(), with)
    };
    // Nobody has said yet that one of them is whole.
    prune(&variables, &["--yes"]).ends(4);
    run(&["verify", &address("2.zip.age")], &variables).ends(0);
    let plan = prune(&variables, &["--dry-run"]).ends(0).json();
    let backups = plan["environments"][0]["backups"].as_array().unwrap();
    let stays = |backup: &serde_json::Value| !backup["kept_because"].as_array().unwrap().is_empty();
    let names = |stay: bool| -> Vec<&str> {
        let some = backups.iter().filter(|backup| stays(backup) == stay);
        some.map(|backup| backup["key"].as_str().unwrap().rsplit('/').next().unwrap()).collect()
    };
    assert_eq!((names(true), names(false)), (vec!["4.zip.age", "2.zip.age"], vec!["3.zip.age", "1.zip.age"]));
    assert_eq!(plan["unknown"].as_array().unwrap().len(), 2, "{plan}");

    // Without the key only the one is known of which it was said.
    let plan = prune(&plain, &["--dry-run"]).ends(0).json();
    assert_eq!(plan["environments"][0]["backups"].as_array().unwrap().len(), 1, "{plan}");
    prune(&variables, &[]).ends(130);
    let done = prune(&variables, &["--yes"]).ends(0).json();
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    let after = prune(&variables, &["--dry-run"]).ends(0).json();
    assert_eq!(after["environments"][0]["backups"].as_array().unwrap().len(), 2, "{after}");
    assert_eq!(after["unknown"].as_array().unwrap().len(), 2, "{after}");
}

#[test]
fn a_live_odoo_is_backed_up_encrypted_and_restored_without_showing_the_key() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    let folder = tempfile::tempdir().unwrap();
    let (file, public, secret) = key(folder.path());
    let variables = weed::variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (to, target) = (format!("s3://backups/{}", storage("live")), live.target());
    let words = ["backup", &target, "--to", &to, "--env", "prod", "--encrypt-to", &public, "--json"];
    let made = undoo.run_with(&words, &variables).ends(0).result();
    let from = made["address"].as_str().unwrap();
    assert!(made["verified"] == true && from.ends_with(".zip.age"), "{made}");
    let codes: Vec<_> = made["findings"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!(codes, ["backup_on_same_server", "encrypted"]);
    // That it was read back stands beside it, so that it is known without its key.
    let words = ["prune", &to, "--keep-last", "1", "--min-age", "0h", "--dry-run", "--json"];
    let plan = undoo.run_with(&words, &variables).ends(0).json();
    let backup = &plan["environments"][0]["backups"][0];
    assert_eq!((&backup["backup_id"], &backup["verified"]["level"]), (&made["id"], &"checksums".into()));
    undoo.run_with(&["restore", from, "--into", &target, "--yes"], &variables).ends(6);

    let renamed = || live.web().count("res.partner", json!([["name", "=", "renamed"]]));
    live.sql("UPDATE res_partner SET name = 'renamed' WHERE parent_id IS NOT NULL");
    assert!(renamed() > 0);
    // The files are not at hand: they have to come out of the bucket.
    fs::remove_dir_all(live.filestore()).unwrap();
    let words = ["restore", from, "--into", &target, "--identity", &file, "--yes", "--json"];
    let mut seen = String::new();
    let mut run = undoo.start(&words, &variables);
    while run.is_running() {
        seen += &what_anyone_sees(&live);
        thread::sleep(Duration::from_millis(50));
    }
    let run = run.finish().ends(0);
    assert_eq!(renamed(), 0);
    undoo.run(&["verify", &target]).ends(0);
    assert!(seen.contains("sh.undoo.role"), "containers were looked at while they ran");
    assert!(!seen.contains(&secret) && !run.all().contains(&secret), "the key was shown");
}
