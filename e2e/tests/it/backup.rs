//! Backups of a live Odoo: exact, restorable, without a secret to be seen, and whole or not there at all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    storage::what_anyone_sees,
    support::{
        Instance, Kind, Undoo,
        backup::base64,
        docker::{docker, output},
        link::Link,
        noise, sha1, wait_for,
        weed::{self, SECRET},
    },
};

/// A partner with a file; answers the attachment's id.
fn attach(live: &Instance, name: &str, bytes: &[u8]) -> i64 {
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": name }));
    let values = json!({
        "name": format!("{name}.bin"), "res_model": "res.partner", "res_id": partner, "datas": base64(bytes),
    });
    web.create("ir.attachment", values)
}

/// Puts a file of so many bytes into the filestore, which no attachment names.
fn put_orphan(live: &Instance, length: usize) {
    let bytes = noise(11, length);
    let name = sha1(&bytes);
    let folder = live.filestore().join(&name[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// A module that Odoo's user has put into the data directory.
fn put_module(live: &Instance) {
    let module = live.data_dir().join("addons/19.0/acme");
    fs::create_dir_all(&module).unwrap();
    let manifest = "{'name': 'Acme', 'version': '19.0.1.0', 'external_dependencies': {'python': ['xlrd']}}";
    fs::write(module.join("__manifest__.py"), manifest).unwrap();
    fs::write(module.join("__init__.py"), "").unwrap();
}

/// Directories of backups on the target.
fn snapshots(live: &Instance) -> Vec<PathBuf> {
    let home = fs::read_dir(live.data_dir().join("filestore/.undoo")).into_iter().flatten().flatten();
    let found = home.map(|entry| entry.path());
    found.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("backup-")).collect()
}

fn manifest_of(backup: &Path) -> Value {
    let mut zip = zip::ZipArchive::new(fs::File::open(backup).unwrap()).unwrap();
    serde_json::from_reader(zip.by_name("manifest.json").unwrap()).unwrap()
}

fn admin_password(live: &Instance) -> String {
    let conf = fs::read_to_string(live.conf()).unwrap();
    conf.lines().find_map(|line| line.strip_prefix("admin_passwd = ")).unwrap().to_owned()
}

#[test]
fn a_backup_is_exact_and_restores_beside_the_live_database() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    attach(&live, "kept", &noise(3, 50_000));
    put_module(&live);
    let (folder, target) = (tempfile::tempdir().unwrap(), live.target());
    let to = folder.path().display().to_string();
    let made = undoo.run(&["backup", &target, "--to", &to, "--json"]).ends(0).result();
    let address = made["address"].as_str().unwrap();
    assert!(address.starts_with(&format!("{to}/backups/local/{0}/{0}_20", live.name)), "{address}");
    assert_eq!(made["verified"], true);
    assert_eq!(made["bytes"].as_u64().unwrap(), fs::metadata(address).unwrap().len());
    assert_eq!(made["warnings"], json!([]));
    assert_eq!((snapshots(&live).len(), live.leftovers()), (0, Vec::new()));

    let manifest = manifest_of(Path::new(address));
    let environment = &manifest["undoo"]["environment"];
    assert_eq!(environment["addons"][0]["modules"]["acme"], "19.0.1.0", "{environment}");
    assert_eq!(environment["addons"][0]["requirements"], json!(["xlrd"]));
    assert!(environment["odoo_image_digest"].as_str().unwrap().contains("sha256:"), "{environment}");
    assert_eq!(manifest["version_info"], json!([19, 0, 0, "final", 0, ""]));
    assert_eq!(manifest["modules"]["contacts"].as_str().map(|version| &version[..4]), Some("19.0"));
    for secret in [live.password(), admin_password(&live)] {
        assert!(!manifest.to_string().contains(&secret), "the manifest shows a secret");
    }

    let report = undoo.run(&["verify", address, "--level", "deep", "--json"]).ends(0).json();
    assert_eq!(report["signature"], "valid");
    assert_eq!(report["attachments"]["missing"]["total"], 0);
    assert_eq!(report["attachments"]["matched"], report["attachments"]["attachments"]);

    let words = ["restore", address, "--into", &target, "--database", "other", "--yes", "--no-boot"];
    undoo.run(&words).ends(0);
    undoo.run(&["verify", &target, "--database", "other"]).ends(0);
    let partners = "SELECT count(*) FROM res_partner";
    assert_eq!(live.sql_in("other", partners), live.sql(partners));
    let again = undoo.run(&["backup", &target, "--to", &to, "--database-only"]).ends(0);
    assert!(again.out.contains("files       0"), "{}", again.out);
    assert_eq!(live.leftovers(), [""; 0]);
}

/// The S3 server behind a slow link, and what is in it of an instance.
struct Remote {
    link: Link,
    variables: Vec<(&'static str, String)>,
    folder: String,
}

impl Remote {
    fn of(live: &Instance) -> Self {
        let link = Link::to(weed::weed().s3);
        let mut variables = weed::variables();
        for (name, value) in &mut variables {
            if *name == "AWS_ENDPOINT_URL" {
                *value = format!("http://127.0.0.1:{}", link.port);
            }
        }
        Self { link, variables, folder: format!("/buckets/backups/backups/local/{}", live.name) }
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Objects under the instance's keys.
    fn objects(&self) -> usize {
        listed(&self.folder)
    }
}

/// Multipart uploads that nobody has ended.
fn uploads() -> usize {
    listed("/buckets/backups/.uploads")
}

/// Entries of a folder of the S3 server's.
fn listed(folder: &str) -> usize {
    let url = format!("http://127.0.0.1:{}{folder}/", weed::weed().filer);
    let answer = output(Command::new("curl").args(["-s", "-H", "Accept: application/json", &url]), b"");
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    answer["Entries"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_backup_to_s3_on_loopback_shows_no_secret() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    live.sql_in("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    live.sql_in("postgres", "SELECT pg_reload_conf()");
    put_orphan(&live, 10 << 20);
    let remote = Remote::of(&live);
    remote.link.slow_down(6 << 20);
    let secrets = [SECRET.to_owned(), live.password(), admin_password(&live)];
    let target = live.target();
    let words = ["backup", &target, "--to", "s3://backups", "--json"];
    let (mut seen, mut dumping) = (String::new(), 0);
    let mut run = undoo.start(&words, &remote.variables());
    while run.is_running() {
        seen += &what_anyone_sees(&live);
        let dumps = environments_of("pg_dump");
        dumping += usize::from(!dumps.is_empty());
        seen += &dumps;
    }
    let run = run.finish().ends(0);
    assert!(dumping > 0, "pg_dump was never looked at");
    assert!(seen.contains("sh.undoo.role"), "containers were looked at while they ran");
    let log = crate::support::docker::logs(&live.db());
    for secret in &secrets {
        assert!(!seen.contains(secret.as_str()), "docker inspect, docker logs, ps or /proc shows a secret");
        assert!(
            !run.all().contains(secret.as_str()) && !log.contains(secret.as_str()),
            "a log shows a secret"
        );
    }
    let made = run.result();
    assert_eq!(made["verified"], true);
    remote.link.slow_down(0);
    let address = made["address"].as_str().unwrap();
    undoo.run_with(&["verify", address, "--level", "deep"], &remote.variables()).ends(0);
    assert_eq!(live.leftovers(), [""; 0]);
}

/// Arguments and environment of every process of this name.
fn environments_of(name: &str) -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let named =
        processes.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let read = |path: PathBuf| {
        ["cmdline", "environ"]
            .map(|file| String::from_utf8_lossy(&fs::read(path.join(file)).unwrap_or_default()).into_owned())
    };
    named.flat_map(read).collect()
}

#[test]
fn whatever_is_killed_or_breaks_off_leaves_no_backup_and_the_next_one_cleans() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    put_orphan(&live, 40 << 20);
    let remote = Remote::of(&live);
    let (target, before) = (live.target(), uploads());
    let words = ["backup", &target, "--to", "s3://backups", "--level", "1", "--json"];
    let nothing_is_there = |after: &str| {
        assert_eq!(remote.objects(), 0, "objects after {after}");
    };
    let left = || (uploads() - before, snapshots(&live).len());
    // Once its own upload is the only one, whatever a dead one has left.
    let halfway = || {
        remote.link.slow_down(4 << 20);
        let dead = snapshots(&live);
        let run = undoo.start(&words, &remote.variables());
        wait_for("an upload", Duration::from_secs(60), || {
            let now = snapshots(&live);
            (now.len() == 1 && now != dead && uploads() == before + 1).then_some(())
        });
        run
    };

    let run = halfway();
    run.interrupt();
    assert_eq!(run.finish().ends(130).json()["code"], "cancelled");
    nothing_is_there("Ctrl-C");
    assert_eq!(left(), (0, 0));
    assert_eq!(live.leftovers(), [""; 0]);

    // Its mover notices and ends; but the way to a storage on loopback went with the command.
    let mut run = halfway();
    run.kill();
    drop(run);
    wait_for("the mover's end", Duration::from_secs(30), || {
        live.of_undoo("mover", false).is_empty().then_some(())
    });
    nothing_is_there("kill -9 of the command");
    assert_eq!(left(), (1, 1));
    assert_eq!(
        fs::read_dir(&snapshots(&live)[0]).unwrap().count(),
        2,
        "nothing but what is to be looked for"
    );

    let run = halfway();
    docker(&["kill", &live.of_undoo("mover", false)[0]]);
    assert_eq!(run.finish().ends(8).json()["code"], "mover_died");
    nothing_is_there("kill -9 of the mover");
    assert_eq!(left(), (1, 1));

    // A storage that refuses everything, tidying up too.
    let run = halfway();
    remote.link.refuse(true);
    let failure = run.finish().ends(6).json();
    assert_eq!(failure["code"], "no_permission", "{failure}");
    nothing_is_there("a storage that refuses");
    assert_eq!(left(), (1, 1));

    remote.link.refuse(false);
    remote.link.slow_down(0);
    let made = undoo.run_with(&words, &remote.variables()).ends(0).result();
    assert_eq!(made["verified"], true);
    // The backup, and that it was read back.
    assert_eq!((remote.objects(), left()), (2, (0, 0)));
    assert_eq!(live.leftovers(), [""; 0]);
}
