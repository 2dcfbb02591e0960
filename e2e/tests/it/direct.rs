//! Without Docker: a database server by its URL, a filestore by its path, Odoo by two commands.

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::json;

use crate::support::{
    Instance, Kind, Made, Undoo,
    undoo::{Run, Running},
    wait_for,
};

/// An instance as a target without Docker, with something in it that the backup does not have.
struct Direct {
    undoo: Undoo,
    backup: Made,
    live: Instance,
    url: String,
    filestore: String,
    stop: String,
    start: String,
}

impl Direct {
    fn up() -> Self {
        let undoo = Undoo::ready();
        let backup = Made::of(Kind::ODOO_19);
        let live = Instance::up(Kind::ODOO_19);
        live.is_origin_of(backup.uuid());
        live.web().create("res.partner", json!({ "name": "Entered after the backup" }));
        let (password, address) = (live.password(), live.address(&live.db()));
        Self {
            url: format!("postgresql://odoo:{password}@{address}:5432/{}", live.name),
            filestore: live.filestore().display().to_string(),
            stop: format!("docker stop {}", live.odoo()),
            start: format!("docker start {}", live.odoo()),
            undoo,
            backup,
            live,
        }
    }

    fn words<'a>(&'a self, first: &[&'a str], stop: &'a str) -> Vec<&'a str> {
        let place = ["--filestore", &self.filestore, "--stop-command", stop, "--start-command", &self.start];
        [first, &place, &["--odoo-url", &self.live.url]].concat()
    }

    fn run(&self, first: &[&str]) -> Run {
        self.undoo.run_with(&self.words(first, &self.stop), &[("UNDOO_DATABASE_URL", &self.url)])
    }

    /// Starts it with another stop command, or held at a moment of the cutover.
    fn start(&self, first: &[&str], stop: &str, hold_at: &str) -> Running {
        let variables = [("UNDOO_DATABASE_URL", self.url.as_str()), ("UNDOO_HOLD_AT", hold_at)];
        self.undoo.start(&self.words(first, stop), &variables)
    }

    fn replaced_is_live(&self) {
        let web = self.live.web();
        assert_eq!(web.count("res.partner", json!([["name", "=", "Entered after the backup"]])), 1);
        assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 0);
    }

    fn restored_is_live(&self) {
        self.backup.is_live_on(&self.live, &self.live.name);
    }
}

#[test]
fn a_database_url_and_a_filestore_are_restored_into_and_undone() {
    let direct = Direct::up();
    let zip = direct.backup.zip();
    let run = direct.run(&["restore", &zip, "--yes", "--json"]).ends(0);
    assert!(!run.all().contains(&direct.live.password()));
    assert_eq!(run.result()["boot"], json!(null), "the report says that Odoo was not booted");
    direct.restored_is_live();
    direct.run(&["verify"]).ends(0);
    let listed = direct.run(&["list", "--json"]).ends(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(&direct.live.password()));

    direct.run(&["undo", "--yes"]).ends(0);
    direct.replaced_is_live();
}

/// There is no agent here that would go on alone: what the command was doing ends with it.
#[test]
fn a_command_killed_while_it_stages_asks_stops_or_renames_leaves_a_whole_pair_or_the_way_to_one() {
    let direct = Direct::up();
    let zip = direct.backup.zip();
    let restore = ["restore", &zip, "--yes", "--json"];

    let mut run = direct.start(&restore, &direct.stop, "");
    run.hears("\"phase\":\"data\"");
    run.kill();
    direct.replaced_is_live();

    killed_at_its_question(&direct);
    direct.replaced_is_live();
    assert!(Instance::runs(&direct.live.odoo()));

    // The stop command ends with the command: it would stop what the next one has started.
    let flag = tempfile::tempdir().unwrap();
    let stopping = flag.path().join("stopping");
    let slow = format!("touch {}; sleep 2; {}", stopping.display(), direct.stop);
    let mut run = direct.start(&restore, &slow, "");
    wait_for("the stop command", Duration::from_secs(60), || stopping.exists().then_some(()));
    run.kill();
    drop(run);
    sleep(Duration::from_secs(4));
    assert!(Instance::runs(&direct.live.odoo()), "the stop command went on");
    assert_eq!(direct.run(&restore).ends(7).json()["code"], "cutover_unfinished");
    direct.run(&["undo", "--yes"]).ends(0);
    direct.replaced_is_live();

    let mut run = direct.start(&restore, &direct.stop, "rename_databases:after");
    run.hears("held at");
    run.kill();
    drop(run);
    assert_eq!(direct.run(&restore).ends(7).json()["code"], "cutover_unfinished");
    direct.run(&["resume"]).ends(0);
    direct.restored_is_live();

    let mut run = direct.start(&["undo", "--yes", "--json"], &direct.stop, "park_directory:after");
    run.hears("held at");
    run.kill();
    drop(run);
    direct.run(&["undo", "--yes"]).ends(0);
    direct.replaced_is_live();

    direct.run(&restore).ends(0);
    direct.restored_is_live();
    direct.run(&["undo", "--yes"]).ends(0);
    direct.replaced_is_live();
    let restores = |name: &String| name.split('_').nth(1).unwrap().to_owned();
    let kept: std::collections::BTreeSet<String> = direct.live.staged().iter().map(restores).collect();
    assert_eq!(kept.len(), 3, "of the five restores, those that came to their cutover: {kept:?}");
}

/// Between the proof and the cutover a person is asked, on a terminal.
fn killed_at_its_question(direct: &Direct) {
    let zip = direct.backup.zip();
    let words = direct.words(&["restore", &zip], &direct.stop);
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let command = format!("exec {} {}", direct.undoo.program().display(), quoted.join(" "));
    let mut terminal = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("UNDOO_DATABASE_URL", &direct.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = terminal.stdout.take().unwrap();
    let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&shown).contains("[y/N]") {
        let read = out.read(&mut piece).unwrap();
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&piece[..read]);
    }
    let process = child_of(terminal.id());
    assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    terminal.wait().unwrap();
}

/// The process that another one has started.
fn child_of(parent: u32) -> String {
    let parent = format!("PPid:\t{parent}\n");
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let is_it = |id: &String| {
        let status = std::fs::read_to_string(Path::new("/proc").join(id).join("status"));
        status.is_ok_and(|status| status.contains(&parent))
    };
    processes.into_iter().find(is_it).expect("the terminal's process")
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
