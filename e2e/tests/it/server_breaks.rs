//! The way to another server breaks, or the server does, in the middle of a restore.

use std::time::Duration;

use serde_json::json;

use crate::{
    server::{Elsewhere, borrowed, pairs},
    support::{undoo::Running, wait_for},
};

const LATE: &str = "Entered after the backup";

/// An Odoo that was backed up, and into which something was entered since.
fn backed_up() -> (Elsewhere, String) {
    let there = Elsewhere::up();
    let (address, _) = there.backup();
    there.live.web().create("res.partner", json!({ "name": LATE }));
    (there, address)
}

impl Elsewhere {
    fn restore(&self, address: &str) -> Vec<String> {
        self.words(&["restore", address, "--into", &self.live.target(), "--yes", "--json"])
    }

    fn start(&self, words: &[String]) -> Running {
        self.undoo.start(&borrowed(words), &pairs(&self.variables()))
    }

    fn entered(&self) -> i64 {
        self.live.web().count("res.partner", json!([["name", "=", LATE]]))
    }
}

#[test]
fn an_ssh_connection_that_is_cut_while_a_backup_is_loaded_costs_that_restore_only() {
    let (mut there, address) = backed_up();
    let words = there.restore(&address);
    let run = there.start(&words);
    run.hears("\"phase\":\"data\"");
    there.second.cut();
    let cut = run.finish().ends(8);
    assert_eq!(cut.json()["code"], "connection_broken", "{}", cut.all());
    assert_eq!(there.entered(), 1, "the live pair");

    let again = there.undoo.run_with(&borrowed(&words), &pairs(&there.variables()));
    again.ends(0);
    assert_eq!(there.entered(), 0);
    assert_eq!(there.live.leftovers(), [""; 0]);
    there.run(&["undo", &there.live.target(), "--yes"]).ends(0);
    assert_eq!(there.entered(), 1);
}

#[test]
fn a_server_that_is_rebooted_while_a_backup_is_loaded_has_its_live_odoo_and_takes_the_next_restore() {
    let (mut there, address) = backed_up();
    let (odoo, db) = (there.live.odoo(), there.live.db());
    there.second.engine.docker(&["update", "--restart", "unless-stopped", &odoo, &db]);
    let words = there.restore(&address);
    let run = there.start(&words);
    run.hears("\"phase\":\"data\"");
    there.second.reboot();
    let lost = run.finish().ends(8);
    let code = lost.json()["code"].clone();
    assert!(
        ["connection_broken", "connection_refused", "docker_unavailable"].contains(&code.as_str().unwrap()),
        "{}",
        lost.all()
    );

    there.second.is_back();
    wait_for("Odoo", Duration::from_secs(60), || {
        let state = there.second.engine.docker_maybe(&["inspect", "-f", "{{.State.Running}}", &odoo]);
        (state.as_deref() == Some("true")).then_some(())
    });
    assert_eq!(there.entered(), 1, "the live pair");
    there.undoo.run_with(&borrowed(&words), &pairs(&there.variables())).ends(0);
    assert_eq!(there.entered(), 0);
    assert_eq!(there.live.leftovers(), [""; 0]);
}
