//! Whatever is killed, and whenever: one of the two whole pairs is live afterwards, and Odoo answers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Instance, Kind, Made, Undoo, backup::base64, docker::docker, noise, wait_for};

/// An instance with something in it that the backup does not have.
struct Pairs {
    live: Instance,
    backup: Made,
    late: i64,
}

const LATE: &str = "Entered after the backup";

impl Pairs {
    fn up(kind: Kind) -> Self {
        let backup = Made::of(Kind::ODOO_19);
        let live = Instance::up(kind);
        live.is_origin_of(backup.uuid());
        let web = live.web();
        let partner = web.create("res.partner", json!({ "name": LATE }));
        let values = json!({
            "name": "late.bin", "res_model": "res.partner", "res_id": partner, "datas": base64(&noise(7, 20_000)),
        });
        let late = web.create("ir.attachment", values);
        Self { live, backup, late }
    }

    /// Insists that the pair from before the restore is live, rows and files.
    fn replaced_is_live(&self) {
        let web = self.live.web();
        assert_eq!(web.count("res.partner", json!([["name", "=", LATE]])), 1, "the replaced database");
        assert_eq!(web.attachment(self.late), noise(7, 20_000), "the replaced files");
        assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 0);
    }

    /// Insists that the restored pair is live, rows and files.
    fn restored_is_live(&self) {
        self.backup.is_live_on(&self.live, &self.live.name);
    }

    /// Insists on one of the two, and that nothing of undoo runs or lies about.
    fn is_live(&self, restored: bool, after: &str) {
        if restored {
            self.restored_is_live();
        } else {
            self.replaced_is_live();
        }
        assert_eq!(self.live.leftovers(), [""; 0], "after {after}");
    }

    fn words<'a>(&'a self, zip: &'a str, target: &'a str) -> [&'a str; 6] {
        ["restore", zip, "--into", target, "--yes", "--json"]
    }
}

#[test]
fn a_mover_killed_while_it_loads_leaves_the_live_pair_and_nothing_else() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind::ODOO_19);
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    let run = undoo.start(&pairs.words(&zip, &target), &[]);
    run.hears("\"phase\":\"data\"");
    for mover in pairs.live.of_undoo("mover", false) {
        docker(&["kill", &mover]);
    }
    let run = run.finish().ends(8);
    assert_eq!(run.json()["code"], "mover_died");
    pairs.replaced_is_live();
    assert_eq!(pairs.live.leftovers(), [""; 0]);
    assert_eq!(pairs.live.staged(), [""; 0], "databases and roles");
    assert_eq!(pairs.live.newest_restore(), None, "directories");
}

#[test]
fn what_a_killed_command_left_is_gone_after_the_next_one_which_need_not_wait() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind::ODOO_19);
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    // While it loads, and while its mover waits for the proof.
    for moment in ["data", "boot"] {
        let mut run = undoo.start(&pairs.words(&zip, &target), &[]);
        run.hears(&format!("\"phase\":\"{moment}\""));
        if moment == "boot" {
            wait_for("the proof", Duration::from_secs(20), || pairs.live.of_undoo("proof", false).pop());
        }
        run.kill();
        drop(run);
    }
    pairs.replaced_is_live();

    undoo.run(&pairs.words(&zip, &target)).ends(0);
    pairs.restored_is_live();
    assert_eq!(pairs.live.leftovers(), [""; 0]);
    // Of the kept pair there may be a database and a role; of the killed runs nothing.
    let kept = pairs.live.staged();
    let restore = |name: &String| name.split('_').nth(1).unwrap().to_owned();
    let restores: std::collections::BTreeSet<String> = kept.iter().map(restore).collect();
    assert_eq!(restores.len(), 1, "{kept:?}");
    undoo.run(&["undo", &target, "--yes"]).ends(0);
    pairs.replaced_is_live();
}

#[test]
fn the_second_of_two_restores_at_once_is_refused_and_the_first_completes() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind::ODOO_19);
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    let first = undoo.start(&pairs.words(&zip, &target), &[]);
    first.hears("\"phase\":\"data\"");
    let movers = pairs.live.of_undoo("mover", false);
    assert_eq!(movers.len(), 1);
    // It has nothing to do then, and holds the lock; its command waits, so that it does not end
    // before the two are refused.
    first.hears("\"phase\":\"boot\"");
    first.signal("-STOP");
    assert!(pairs.live.of_undoo("mover", false).contains(&movers[0]), "one mover for all");
    let id = pairs.live.record().unwrap()["id"].as_str().unwrap().to_owned();
    for words in [&pairs.words(&zip, &target)[..], &["purge", &target, "--json"]] {
        let refused = undoo.run(words).ends(7).json();
        assert_eq!(refused["code"], "target_busy");
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains(&id) && message.contains(&zip) && message.contains(" since 20"),
            "{message}"
        );
    }
    first.signal("-CONT");
    first.finish().ends(0);
    pairs.restored_is_live();
    assert_eq!(pairs.live.leftovers(), [""; 0]);
}

#[test]
fn ctrl_c_takes_back_what_is_staged_and_lets_a_cutover_go_on() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind::ODOO_19);
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    for (moment, more) in
        [("data", "--no-boot"), ("neutralize", "--intent=copy"), ("boot", "--undo-window=24")]
    {
        let words: Vec<&str> = pairs.words(&zip, &target).into_iter().chain([more]).collect();
        let run = undoo.start(&words, &[]);
        run.hears(&format!("\"phase\":\"{moment}\""));
        run.interrupt();
        let run = run.finish().ends(130);
        assert_eq!(run.json()["code"], "cancelled", "{moment}");
        assert_eq!(pairs.live.staged(), [""; 0], "databases and roles after {moment}");
        assert_eq!(pairs.live.newest_restore(), None, "directories after {moment}");
        assert_eq!(pairs.live.leftovers(), [""; 0], "after {moment}");
    }
    let mut run = undoo.start(&pairs.words(&zip, &target), &[]);
    wait_for("Odoo's stop", Duration::from_secs(120), || {
        assert!(run.is_running());
        (!Instance::runs(&pairs.live.odoo())).then_some(())
    });
    run.interrupt();
    let answer = run.finish().ends(130).json();
    assert_eq!(answer["code"], "cutover_goes_on");
    assert!(answer["remedy"].as_str().unwrap().contains("docker logs --follow undoo-"), "{answer}");
    wait_for("the end of the cutover", Duration::from_secs(60), || {
        pairs.live.of_undoo("cutover-agent", false).is_empty().then_some(())
    });
    pairs.restored_is_live();
    // Nobody saw the end; whoever asks for the report signs it, once.
    let signed = undoo.run(&["report", &target, "--json"]).ends(0).json();
    let report: Value = serde_json::from_str(signed["report"].as_str().unwrap()).unwrap();
    assert_eq!(report["restore"]["state"], "live");
    assert!(report["downtime_ms"].is_number() && report["boot"]["after_ms"].is_number(), "{report}");
    assert_eq!(undoo.run(&["report", &target, "--json"]).ends(0).json(), signed);
    undoo.run(&["undo", &target, "--yes"]).ends(0);
    assert_eq!(pairs.live.leftovers(), [""; 0]);
}

#[test]
fn a_cutover_whose_command_is_killed_between_stop_and_start_finishes() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind { pinned: false, ..Kind::ODOO_19 });
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    let mut run = undoo.start(&pairs.words(&zip, &target), &[]);
    wait_for("Odoo's stop", Duration::from_secs(120), || {
        assert!(run.is_running());
        (!Instance::runs(&pairs.live.odoo())).then_some(())
    });
    run.kill();
    drop(run);
    wait_for("the end of the cutover", Duration::from_secs(60), || {
        pairs.live.of_undoo("cutover-agent", false).is_empty().then_some(())
    });
    assert_eq!(pairs.live.record().unwrap()["state"], "live");
    pairs.restored_is_live();
    undoo.run(&["undo", &target, "--yes"]).ends(0);
    pairs.replaced_is_live();
    assert_eq!(pairs.live.leftovers(), [""; 0]);
}

/// What is left to do when a cutover is killed: after each of its steps, and before the first.
const MOMENTS: [&str; 9] = [
    "stop_services:before",
    "stop_services:after",
    "close_databases:after",
    "rename_databases:after",
    "park_directory:after",
    "place_directory:after",
    "open_database:after",
    "start_services:after",
    "await_health:after",
];

#[test]
fn an_undo_killed_at_any_step_is_resumed_or_undone_to_a_whole_pair() {
    let undoo = Undoo::ready();
    // Without db_name, the database has to be found while its name is in between.
    let pairs = Pairs::up(Kind { pinned: false, ..Kind::ODOO_19 });
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    undoo.run(&pairs.words(&zip, &target)).ends(0);
    let mut restored = true;
    for (index, moment) in MOMENTS.into_iter().enumerate() {
        kill_agent_at(&undoo, &pairs, &["undo", &target, "--yes", "--json"], moment);
        // The cutover was on its way to the other side; an undo goes to what was there before the restore.
        restored = if index % 2 == 0 {
            undoo.run(&["resume", &target, "--json"]).ends(0);
            !restored
        } else {
            undoo.run(&["undo", &target, "--yes", "--json"]).ends(0);
            false
        };
        pairs.is_live(restored, moment);
    }
    let nothing = undoo.run(&["resume", &target, "--json"]).ends(7);
    assert_eq!(nothing.json()["code"], "nothing_to_resume");
}

/// The first cutover of a restore: the live directory is one that Odoo made, and there is no proven way
/// back yet. A restore begun meanwhile is refused, whatever the cutover was doing.
#[test]
fn a_restores_cutover_killed_between_its_renames_is_resumed_or_undone_to_a_whole_pair() {
    let undoo = Undoo::ready();
    let pairs = Pairs::up(Kind::ODOO_19);
    let (zip, target) = (pairs.backup.zip(), pairs.live.target());
    let words: Vec<&str> = pairs.words(&zip, &target).into_iter().chain(["--no-boot"]).collect();
    let moments = ["rename_databases:after", "park_directory:after", "place_directory:after"];
    for (moment, onward) in moments.into_iter().zip([false, true, false]) {
        kill_agent_at(&undoo, &pairs, &words, moment);
        assert_eq!(undoo.run(&words).ends(7).json()["code"], "cutover_unfinished");
        let command = if onward { "resume" } else { "undo" };
        let yes: &[&str] = if onward { &[] } else { &["--yes"] };
        undoo.run(&[&[command, &target, "--json"], yes].concat()).ends(0);
        pairs.is_live(onward, moment);
        if onward {
            undoo.run(&["undo", &target, "--yes"]).ends(0);
            pairs.is_live(false, moment);
        }
    }
}

/// Starts a cutover and kills its container while it is held at this moment.
fn kill_agent_at(undoo: &Undoo, pairs: &Pairs, words: &[&str], moment: &str) {
    let run = undoo.start(words, &[("UNDOO_HOLD_AT", moment)]);
    run.hears(&format!("held at {moment}"));
    let agents = pairs.live.of_undoo("cutover-agent", false);
    assert_eq!(agents.len(), 1, "{agents:?}");
    docker(&["kill", &agents[0]]);
    let run = run.finish().ends(10);
    assert_eq!(run.json()["code"], "agent_died");
}
