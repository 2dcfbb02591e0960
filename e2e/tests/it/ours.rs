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
    backup::base64,
    docker::{docker, succeed},
    noise,
};

#[test]
fn odoo_19_loads_our_backup_with_its_own_command() {
    let load =
        "exec odoo db --db_host=$HOST --db_user=$USER --db_password=$PASSWORD load loaded /tmp/ours.zip";
    odoo_loads(Kind::ODOO_19, &["sh", "-c", load], "");
}

/// What Odoo's database manager calls, in a version that has no command for it.
#[test]
fn odoo_14_restores_our_backup_with_its_own_restore_db() {
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
    odoo_loads(Kind::ODOO_14, &["python3", "-"], program);
}

/// Backs an instance up, has its own Odoo load that into another database, and looks at it as a user.
fn odoo_loads(kind: Kind, words: &[&str], program: &str) {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind { pinned: false, ..kind });
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": "In our backup" }));
    let content = noise(7, 300_000);
    let attached = web.create(
        "ir.attachment",
        json!({ "name": "a.bin", "res_model": "res.partner", "res_id": partner, "datas": base64(&content) }),
    );
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let backup = ["backup", &live.target(), "--database", &live.name, "--to", to, "--json"];
    let backup = undoo.run(&backup).ends(0).result();
    docker(&["cp", backup["address"].as_str().unwrap(), &format!("{}:/tmp/ours.zip", live.odoo())]);
    docker(&["exec", "-u", "root", &live.odoo(), "chmod", "644", "/tmp/ours.zip"]);
    succeed(Command::new("docker").args(["exec", "-i", &live.odoo()]).args(words), program.as_bytes());

    let loaded = live.web_of("loaded");
    assert_eq!(loaded.count("res.partner", json!([["name", "=", "In our backup"]])), 1);
    let everyone = json!([["active", "in", [true, false]]]);
    assert_eq!(loaded.count("res.partner", everyone.clone()), web.count("res.partner", everyone));
    assert!(loaded.attachment(attached) == content, "an attachment has other bytes");
}

/// A module's trigger, as none of ours knows it.
const CODE: &str = "CREATE FUNCTION public.e2e_touch() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN NEW.comment := 'touched'; RETURN NEW; END $$; \
    CREATE TRIGGER e2e_touch BEFORE UPDATE ON public.res_partner FOR EACH ROW EXECUTE FUNCTION public.e2e_touch()";

#[test]
fn code_of_a_backup_needs_no_consent_from_whoever_signed_it_or_trusts_who_did() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    live.sql(CODE);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ours, stranger, to) = (path("ours.key"), path("stranger.key"), path("storage"));
    let run = |key: &str, words: &[&str]| undoo.run_with(words, &[("UNDOO_SIGNING_KEY", key)]);
    let backup = run(&ours, &["backup", &live.target(), "--to", &to, "--json"]).ends(0).result();
    let backup = backup["address"].as_str().unwrap();

    let plan = ["restore", backup, "--into", &live.target(), "--dry-run"];
    let refused = run(&stranger, &plan).ends(4).all();
    assert_eq!(refused.matches("--accept code:").count(), 4, "a function and a trigger, twice:\n{refused}");
    let inspected = undoo.run(&["inspect", backup, "--json"]).ends(0).json();
    let key = inspected["undoo"]["public_key"].as_str().unwrap();
    let trusted = run(&stranger, &[&plan[..], &["--trust-key", key]].concat()).ends(0).all();
    let said = format!("accepted by the signature of key {key}: ");
    assert_eq!(trusted.matches(&said).count(), 2, "{trusted}");

    let words = ["restore", backup, "--into", &live.target(), "--yes", "--no-boot", "--json"];
    let restored = run(&ours, &words).ends(0).result();
    let findings = restored["report"]["findings"].as_array().unwrap();
    let accepted = |finding: &&Value| finding["message"].as_str().unwrap().starts_with(&said);
    assert_eq!(findings.iter().filter(accepted).count(), 2, "{findings:?}");
    live.sql("UPDATE res_partner SET name = name WHERE id = 1");
    assert!(live.sql("SELECT comment FROM res_partner WHERE id = 1").contains("touched"));
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
