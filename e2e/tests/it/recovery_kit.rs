//! Everything but the storage is lost: an environment comes back on an empty server from one backup and one command.

use std::{fs, path::PathBuf, time::Instant};

use serde_json::json;
use undoo_testing::weed::BUCKET;

use crate::{
    server::{borrowed, pairs},
    support::{
        Instance, Kind, Undoo,
        backup::base64,
        link::Link,
        noise,
        second::{Second, USER},
        sha1,
        undoo::{Run, Running},
        web::Web,
    },
};

const PORT: u16 = 18_071;
const IMAGE: &str = "odoo:19.0";
const BIG: usize = 3 << 20;

/// A fresh server, the storage, and a machine that nobody has signed backups on. Nothing else is left.
struct Afterwards {
    second: Second,
    storage: Link,
    /// What the environment is called that comes back.
    name: String,
    own: tempfile::TempDir,
    // The turn ends last.
    undoo: Undoo,
}

impl Afterwards {
    fn up() -> Self {
        let mut undoo = Undoo::ready();
        let second = Second::up();
        undoo.moves_to_network_of(second.counted_network());
        let name = format!("kit-{:08x}", rand::random::<u32>());
        Self { storage: second.storage(), second, name, own: tempfile::tempdir().unwrap(), undoo }
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let server = ["--server", &self.second.url(USER), "--host-key", self.second.host_key()];
        words.iter().chain(&server).map(|word| (*word).to_owned()).collect()
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let key = self.own.path().join("signing.key").display().to_string();
        self.second.variables(&self.storage).into_iter().chain([("UNDOO_SIGNING_KEY", key)]).collect()
    }

    fn run(&self, words: &[&str]) -> Run {
        self.undoo.run_with(&borrowed(&self.words(words)), &pairs(&self.variables()))
    }

    fn start(&self, words: &[&str]) -> Running {
        self.undoo.start(&borrowed(&self.words(words)), &pairs(&self.variables()))
    }

    /// `undoo restore BACKUP --new NAME` and these words.
    fn restore<'a>(&'a self, backup: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let words = ["restore", backup, "--new", &self.name, "--json", "--yes"];
        [&words[..], more].concat()
    }

    fn folder(&self) -> PathBuf {
        self.second.engine.path(&format!("/opt/paasportal/{}", self.name))
    }

    /// What the server has, but for undoo's own program and the network for Traefik.
    fn left(&self) -> Vec<String> {
        let is_ours =
            |thing: &String| !thing.starts_with("volume undoo_bin_") && *thing != "network traefik-public";
        let folder = self.folder().exists().then(|| self.folder().display().to_string());
        self.second.inventory().into_iter().filter(is_ours).chain(folder).collect()
    }

    /// Takes an environment away as the guide says it.
    fn takes_away(&self, id: &str) {
        let (engine, filter) = (&self.second.engine, format!("label=sh.undoo.environment={id}"));
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
            (&["network", "ls", "-q"], &["network", "rm"]),
        ] {
            let found = engine.docker(&[list, &["--filter", &filter]].concat());
            if !found.is_empty() {
                engine.docker(&[remove, &found.lines().collect::<Vec<_>>()].concat());
            }
        }
        fs::remove_dir_all(self.folder()).unwrap();
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        // The server goes with its engine; its folders are those of this machine.
        fs::remove_dir_all(self.folder()).ok();
    }
}

#[test]
fn an_environment_comes_back_on_a_fresh_server_from_one_backup_without_a_platform() {
    let there = Afterwards::up();
    let live = Instance::up(Kind::ODOO_19);
    let conf = fs::read_to_string(live.conf()).unwrap();
    fs::write(live.conf(), format!("{conf}limit_time_real = 901\npidfile = /tmp/odoo.pid\n")).unwrap();
    let module = live.data_dir().join("addons/19.0/kit_module");
    fs::create_dir_all(&module).unwrap();
    fs::write(module.join("__init__.py"), "").unwrap();
    fs::write(module.join("__manifest__.py"), "{'name': 'Kit', 'license': 'LGPL-3'}").unwrap();
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": "Not to be lost" }));
    let content = noise(3, BIG);
    let attachment = web.create("ir.attachment", json!({ "name": "big.bin", "datas": base64(&content) }));
    // Its own machine signs with a key of its own.
    let to = format!("s3://{BUCKET}/kit");
    let (words, variables) =
        (["backup", &live.target(), "--to", &to, "--json"], there.second.variables(&there.storage));
    let made = there.undoo.run_with(&words, &pairs(&variables)).ends(0).result();
    let backup = made["address"].as_str().unwrap();
    drop(live);
    let before = there.left();

    // What stands in the way is told before anything is made.
    let plan = there.run(&there.restore(backup, &["--dry-run"])).ends(4);
    assert!(plan.out.contains("addons_untrusted") && plan.out.contains("conf_left_out"), "{}", plan.out);
    let inspected = there.undoo.run_with(&["inspect", backup, "--json"], &pairs(&variables)).ends(0).json();
    let key = inspected["undoo"]["public_key"].as_str().unwrap().to_owned();
    let restore = |more: &[&'static str]| {
        let trusted = ["--trust-key", &key, "--http-port", &PORT.to_string()].map(str::to_owned);
        let words = there.restore(backup, more);
        words.into_iter().map(str::to_owned).chain(trusted).collect::<Vec<_>>()
    };
    let plan = there.run(&borrowed(&restore(&["--dry-run"]))).ends(0).result();
    assert_eq!(plan["images"][0], json!({ "image": IMAGE, "is_present": true }), "{plan}");
    let other = ["--odoo-image", "undoo.example/no-such-odoo:1"];
    let missing = there.run(&borrowed(&restore(&other))).ends(5).json();
    assert_eq!(missing["code"], "image_missing", "{missing}");
    let (taken, port) = (format!("{}_odoo", there.name), format!("{PORT}:80"));
    let words = ["run", "-d", "--rm", "--name", &taken, "-p", &port, "--entrypoint", "sleep", IMAGE, "600"];
    there.second.engine.docker(&words);
    assert_eq!(there.run(&borrowed(&restore(&[]))).ends(7).json()["code"], "name_taken");
    there.second.engine.docker(&["rename", &taken, "somebody-elses"]);
    assert_eq!(there.run(&borrowed(&restore(&[]))).ends(7).json()["code"], "port_taken");
    there.second.engine.docker(&["rm", "-fv", "somebody-elses"]);
    assert_eq!(there.left(), before);

    // Called off while it loads.
    let off = there.start(&borrowed(&restore(&[])));
    off.hears("\"phase\":\"data\"");
    assert_ne!(there.left(), before);
    off.interrupt();
    let off = off.finish().ends(130).json();
    assert!(off["message"].as_str().unwrap().contains("Nothing of"), "{off}");
    assert_eq!(there.left(), before);

    let began = Instant::now();
    let run = there.run(&borrowed(&restore(&[]))).ends(0);
    let done = run.result();
    println!("from one backup to an Odoo that answers in {:.1} s", began.elapsed().as_secs_f64());
    assert!(done["boot"]["after_ms"].is_number(), "it was proven: {done}");
    assert_eq!((&done["intent"], &done["neutralized"]), (&json!("move"), &json!(false)), "{done}");
    let environment = &done["environment"];
    let address = environment["address"].as_str().unwrap();
    assert_eq!(address, format!("http://{}:{PORT}", there.second.address()));
    let web = Web::login(address, &there.name, "admin", "admin").unwrap();
    let named = json!([["id", "=", partner], ["name", "=", "Not to be lost"]]);
    assert_eq!(web.count("res.partner", named), 1);
    assert_eq!(sha1(&web.attachment(attachment)), sha1(&content));
    assert!(there.folder().join("addons/kit_module/__manifest__.py").exists());
    let conf =
        fs::read_to_string(there.second.engine.path(environment["odoo_conf"].as_str().unwrap())).unwrap();
    assert!(conf.contains("\nlimit_time_real = 901\n") && !conf.contains("pidfile"), "{conf}");
    for secret in ["admin_passwd", "db_password"] {
        let line = conf.lines().find_map(|line| line.strip_prefix(&format!("{secret} = "))).unwrap();
        assert!(!run.all().contains(line), "{secret} was shown");
    }

    let target = environment["target"].as_str().unwrap();
    let listed = there.run(&["list", target, "--json"]).ends(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(there.run(&["undo", target, "--yes", "--json"]).ends(7).json()["code"], "replaced_nothing");
    there.run(&["purge", target]).ends(0);
    assert_eq!(there.run(&borrowed(&restore(&[]))).ends(7).json()["code"], "name_taken");
    assert_eq!(Web::login(address, &there.name, "admin", "admin").map(drop), Ok(()));

    there.takes_away(environment["id"].as_str().unwrap());
    assert_eq!(there.left(), before);
}
