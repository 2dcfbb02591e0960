//! Our own backups in other hands: Odoo itself loads them, they become another layout and come back, and
//! what happened to one that was damaged is named.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, output, succeed},
};

#[test]
fn odoo_19_loads_our_zip_with_its_own_command() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let other = Instance::up(Kind { pinned: false, ..Kind::ODOO_19 });
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(&undoo, &backup, folder.path());
    give(&other, &ours);
    let load =
        "exec odoo db --db_host=$HOST --db_user=$USER --db_password=$PASSWORD load loaded /tmp/ours.zip";
    run_in(&other, &["sh", "-c", load], b"");
    backup.is_live_on(&other, "loaded");
}

/// What Odoo's database manager calls, in a version that has no command for it.
#[test]
fn odoo_14_restores_our_zip_with_its_own_restore_db() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_14);
    let other = Instance::up(Kind { pinned: false, ..Kind::ODOO_14 });
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(&undoo, &backup, folder.path());
    give(&other, &ours);
    let program = "\
import os
import odoo
from odoo.service import db
server = {'host': 'HOST', 'user': 'USER', 'password': 'PASSWORD'}
odoo.tools.config.parse_config(['-c', '/etc/odoo/odoo.conf']
                               + [f'--db_{name}={os.environ[variable]}' for name, variable in server.items()])
with odoo.api.Environment.manage():
    db.restore_db('loaded', '/tmp/ours.zip', copy=True)
";
    run_in(&other, &["python3", "-"], program.as_bytes());
    backup.is_live_on(&other, "loaded");
}

#[test]
fn a_verified_backup_of_ours_is_whole_and_what_happened_to_a_damaged_one_is_named() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(&undoo, &backup, folder.path());
    for level in ["checksums", "deep"] {
        let report = verify(&undoo, &ours, level, 0);
        assert_eq!((&report["signature"], &report["broken"]["total"]), (&json!("valid"), &json!(0)));
        let parts = report["parts"].as_array().unwrap();
        let held: Vec<_> =
            parts.iter().map(|part| (part["part"].as_str().unwrap(), &part["holds"])).collect();
        assert_eq!(held, [("filestore", &json!(true)), ("database", &json!(true))], "{report}");
    }
    let attachments = verify(&undoo, &ours, "deep", 0)["attachments"].clone();
    assert_eq!(attachments["matched"], attachments["attachments"]);
    assert_eq!(attachments["missing"]["total"], 0);

    // One bit of one file, where no other checksum than the ZIP's and ours can tell.
    let name = format!("filestore/{}", store_fname(&backup.attachments()[0].sha1));
    let flipped = folder.path().join("flipped.zip");
    let mut bytes = fs::read(&ours).unwrap();
    let at =
        ZipArchive::new(File::open(&ours).unwrap()).unwrap().by_name(&name).unwrap().data_start().unwrap();
    bytes[at as usize + 1000] ^= 1;
    fs::write(&flipped, bytes).unwrap();
    for level in ["checksums", "deep"] {
        let report = verify(&undoo, flipped.to_str().unwrap(), level, 9);
        assert_eq!(report["broken"]["first"][0]["member"], *name, "{report}");
    }
    let page = undoo.run(&["verify", flipped.to_str().unwrap()]).ends(9);
    assert!(page.all().contains(&name) && page.err.contains("backup_not_whole"), "{}", page.all());

    // The same with a ZIP around it that is in order.
    let changed = folder.path().join("changed.zip");
    rewrite(&ours, &changed, |member, bytes| {
        if member == name {
            bytes[1000] ^= 1;
        }
        true
    });
    let report = verify(&undoo, changed.to_str().unwrap(), "checksums", 9);
    assert_eq!((&report["broken"]["total"], held(&report, "filestore")), (&json!(0), json!(false)));
    let report = verify(&undoo, changed.to_str().unwrap(), "deep", 9);
    assert_eq!(report["corrupt"]["first"][0]["store_fname"], name["filestore/".len()..]);

    let lost = folder.path().join("lost.zip");
    rewrite(&ours, &lost, |member, _| member != name);
    let report = verify(&undoo, lost.to_str().unwrap(), "checksums", 9);
    assert_eq!(held(&report, "filestore"), false);
    let report = verify(&undoo, lost.to_str().unwrap(), "deep", 9);
    assert_eq!(report["attachments"]["missing"]["first"][0]["attachment"], backup.attachments()[0].id);

    // Odoo's own ZIP has nothing that a lost file could be told by but the attachments.
    rewrite(&backup.zip(), &lost, |member, _| member != name);
    verify(&undoo, lost.to_str().unwrap(), "checksums", 0);
    let report = verify(&undoo, lost.to_str().unwrap(), "deep", 9);
    assert_eq!(report["attachments"]["missing"]["total"], 1);
}

#[test]
fn a_backup_that_became_the_source_documents_layout_and_came_back_restores_as_the_same() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(&undoo, &backup, folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();

    let oec = path("oec.zip");
    undoo.run(&["convert", &ours, &oec]).ends(0);
    assert_eq!(members(&oec), ["dump.sql", "filestore.tar.gz", "manifest.json"]);
    is_restored(&undoo, &backup, &live, &oec);

    let back = path("back.zip");
    undoo.run(&["convert", &oec, &back, "--layout", "undoo"]).ends(0);
    is_restored(&undoo, &backup, &live, &back);
    let parts = |zip: &str| {
        let parts = verify(&undoo, zip, "checksums", 0)["parts"].clone();
        let part = |name| {
            let mut parts = parts.as_array().unwrap().iter();
            parts.find(|part| part["part"] == name).unwrap()["sha256"].clone()
        };
        [part("database"), part("filestore")]
    };
    assert_eq!(parts(&ours), parts(&back), "not a byte of it has changed on the way");

    // A custom dump stays one: what the source document calls dump.sql may be either.
    let custom = folder.path().join("custom");
    fs::create_dir(&custom).unwrap();
    fs::copy(backup.custom(), custom.join("db.dump")).unwrap();
    fs::copy(backup.manifest(), custom.join("manifest.json")).unwrap();
    let mut copy = Command::new("cp");
    succeed(copy.arg("-a").arg(backup.filestore()).arg(custom.join("filestore")), b"");
    let oec = path("custom.zip");
    undoo.run(&["convert", custom.to_str().unwrap(), &oec, "--layout", "oec"]).ends(0);
    let inspected = undoo.run(&["inspect", &oec, "--json"]).ends(0).json();
    assert_eq!(
        (&inspected["layout"], &inspected["database"]["format"]),
        (&json!("oec_zip"), &json!("custom"))
    );
    is_restored(&undoo, &backup, &live, &oec);
    let refused = undoo.run(&["convert", &oec, &path("none.zip"), "--layout", "undoo"]).ends(3);
    assert!(refused.err.contains("custom_dump"), "{}", refused.err);
    assert!(!Path::new(&path("none.zip")).exists());
}

/// The backup in our own layout.
fn ours(undoo: &Undoo, backup: &Made, folder: &Path) -> String {
    let ours = folder.join("ours.zip").display().to_string();
    undoo.run(&["convert", &backup.zip(), &ours, "--layout", "undoo"]).ends(0);
    ours
}

/// Puts a backup where the instance's Odoo can read it.
fn give(instance: &Instance, backup: &str) {
    docker(&["cp", backup, &format!("{}:/tmp/ours.zip", instance.odoo())]);
    docker(&["exec", "-u", "root", &instance.odoo(), "chmod", "644", "/tmp/ours.zip"]);
}

fn run_in(instance: &Instance, words: &[&str], input: &[u8]) {
    let out = output(Command::new("docker").args(["exec", "-i", &instance.odoo()]).args(words), input);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
}

/// Restores it over an instance that has none of its files, and insists that all is there.
fn is_restored(undoo: &Undoo, backup: &Made, live: &Instance, zip: &str) {
    for folder in fs::read_dir(live.filestore()).unwrap().map(|entry| entry.unwrap().path()) {
        if folder.file_name().unwrap().len() == 2 {
            fs::remove_dir_all(folder).unwrap();
        }
    }
    undoo.run(&["restore", zip, "--into", &live.target(), "--yes", "--no-boot"]).ends(0);
    backup.is_live_on(live, &live.name);
    undoo.run(&["verify", &live.target()]).ends(0);
}

fn verify(undoo: &Undoo, backup: &str, level: &str, ends: i32) -> Value {
    let run = undoo.run(&["verify", backup, "--level", level, "--json"]).ends(ends);
    // What is wrong comes as an answer of its own, after the report.
    let report = serde_json::Deserializer::from_str(&run.out).into_iter().next();
    report.unwrap().unwrap()
}

/// Whether a part is what the manifest says.
fn held(report: &Value, part: &str) -> Value {
    let mut parts = report["parts"].as_array().unwrap().iter();
    parts.find(|found| found["part"] == part).unwrap()["holds"].clone()
}

fn members(zip: &str) -> Vec<String> {
    let zip = ZipArchive::new(File::open(zip).unwrap()).unwrap();
    let mut names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    names
}

/// Copies a ZIP with the members that `keep` keeps, as it leaves them.
fn rewrite(from: &str, to: &Path, mut keep: impl FnMut(&str, &mut Vec<u8>) -> bool) {
    let mut from = ZipArchive::new(File::open(from).unwrap()).unwrap();
    let mut to = ZipWriter::new(File::create(to).unwrap());
    for index in 0..from.len() {
        let mut bytes = Vec::new();
        let mut member = from.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        member.read_to_end(&mut bytes).unwrap();
        if keep(&name, &mut bytes) {
            let method = CompressionMethod::Deflated;
            let options = SimpleFileOptions::default().compression_method(method).compression_level(Some(1));
            to.start_file(&name, options).unwrap();
            to.write_all(&bytes).unwrap();
        }
    }
    to.finish().unwrap();
}

/// Where a filestore has the file of this SHA-1.
fn store_fname(sha1: &str) -> String {
    format!("{}/{sha1}", &sha1[..2])
}
