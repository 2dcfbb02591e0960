//! What a restore must not let out: mail and crons of staged, proven, kept and copied databases.
//!
//! The backup has a mail in its queue and a cron that sends one each minute; the live Odoo has neither,
//! serves every database that it sees, and is poked twice a second to run whatever crons it finds.
//! So a mail that arrives was sent by a database that should have been silent.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::support::{
    Instance, Kind, Undoo,
    docker::{docker, logs, pg_dump},
    mail::MailSink,
    wait_for,
};

const QUEUED: &str = "queued when the dump was made";

#[test]
fn nothing_is_sent_and_no_cron_runs_before_release_and_a_copy_is_neutralized() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind { pinned: false, ..Kind::ODOO_19 });
    let target = live.target();
    let sink = MailSink::on(&live.gateway());
    let backup = backup_with_outgoing_mail(&live, &sink);
    for setting in
        ["log_connections = on", "log_statement = 'mod'", "log_line_prefix = '%m [%p] db=%d app=%a '"]
    {
        live.sql_in("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    live.sql_in("postgres", "SELECT pg_reload_conf()");
    let _poke = Poke::start(&live);
    // The pokes and the mail server are real: what is asked for is sent.
    live.sql(
        "UPDATE ir_cron SET active = true, nextcall = now() - interval '1 hour' WHERE cron_name = 'E2E'",
    );
    wait_for("the live cron's mail", Duration::from_secs(100), || {
        (!sink.subjects().is_empty()).then_some(())
    });
    live.sql("UPDATE ir_cron SET active = false");
    std::thread::sleep(Duration::from_secs(1));
    sink.clear();

    let backup = backup.path().to_str().unwrap();
    let run =
        undoo.run(&["restore", backup, "--into", &target, "--yes", "--json", "--hold-outgoing"]).ends(0);
    let result = run.result();
    assert_eq!(result["intent"], "recover");
    assert_eq!(result["held"]["mails"].as_array().unwrap().len(), 1, "{}", result["held"]);
    assert_eq!(result["held"]["crons"].as_array().unwrap().len(), 2, "{}", result["held"]);
    live.web();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(sink.subjects(), [""; 0], "nothing goes out before the release");
    assert_eq!(strangers(&live), [""; 0], "Odoo was in a staged or kept database");

    undoo.run(&["release", &target]).ends(0);
    let cron = format!("cron ran in {}", live.name);
    wait_for("the released mail and cron", Duration::from_secs(100), || {
        let subjects = sink.subjects();
        (subjects.contains(&QUEUED.to_owned()) && subjects.contains(&cron)).then_some(())
    });
    live.sql("UPDATE ir_cron SET active = false");
    std::thread::sleep(Duration::from_secs(2));
    sink.clear();

    let copy = format!("{}-copy", live.name);
    let words = ["restore", backup, "--into", &target, "--database", &copy, "--yes", "--json"];
    let result = undoo.run(&words).ends(0).result();
    assert_eq!(result["intent"], "copy");
    assert_eq!(result["neutralized"], true);
    live.web_of(&copy);
    assert_eq!(live.parameter(&copy, "database.is_neutralized").to_lowercase(), "true");
    let servers = live.sql_in(&copy, "SELECT smtp_host FROM ir_mail_server WHERE active");
    assert_eq!(servers, "invalid", "the dummy that Odoo puts in the place of real ones");
    let uuid = live.parameter(&live.name, "database.uuid");
    assert_ne!(live.parameter(&copy, "database.uuid"), uuid);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(sink.subjects(), [""; 0], "a copy sends nothing");
    assert_eq!(strangers(&live), [""; 0], "Odoo was in a staged or kept database");
    assert_eq!(live.leftovers(), [""; 0]);
}

/// A folder with `db.dump` and `filestore/` in which a mail waits and a cron is due.
fn backup_with_outgoing_mail(live: &Instance, sink: &MailSink) -> tempfile::TempDir {
    live.sql("UPDATE ir_cron SET active = false");
    let web = live.web();
    let server = json!({ "name": "sink", "smtp_host": live.gateway(), "smtp_port": sink.port, "smtp_encryption": "none" });
    web.create("ir.mail_server", server);
    let mail = |subject: &str| json!({ "subject": subject, "email_from": "a@example.com", "email_to": "b@example.com", "body_html": "x" });
    web.create("mail.mail", mail(QUEUED));
    let model = web.call("ir.model", "search", json!([[["model", "=", "res.partner"]]]), json!({}));
    let code = "env['mail.mail'].create({'subject': 'cron ran in ' + env.cr.dbname, 'email_from': \
                'a@example.com', 'email_to': 'b@example.com', 'body_html': 'x'}).send()";
    web.create(
        "ir.cron",
        json!({
            "name": "E2E", "model_id": model[0], "state": "code", "code": code, "active": false,
            "interval_number": 1, "interval_type": "minutes",
        }),
    );
    docker(&["stop", &live.odoo()]);
    live.sql(
        "UPDATE ir_cron SET active = true, nextcall = now() AT TIME ZONE 'UTC' - interval '1 hour' \
         WHERE cron_name IN ('E2E', 'Mail: Email Queue Manager')",
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("db.dump"), pg_dump(&live.db(), &live.name, &["-Fc"])).unwrap();
    let copied =
        Command::new("cp").arg("-a").arg(live.filestore()).arg(folder.path().join("filestore")).status();
    assert!(copied.unwrap().success());
    live.sql("UPDATE ir_cron SET active = false; DELETE FROM mail_mail");
    docker(&["start", &live.odoo()]);
    folder
}

/// Lines of the server's log in which Odoo itself (not a proof, which has a role of its own) entered a
/// staged, cloned or kept database, or anyone ran a cron there.
fn strangers(live: &Instance) -> Vec<String> {
    logs(&live.db())
        .lines()
        .filter(|line| {
            let entered = line.contains("database=undoo_")
                && line.contains("user=odoo ")
                && line.contains("application_name=odoo-");
            let ran = line.contains("db=undoo_")
                && line.contains("app=odoo-")
                && line.contains("UPDATE \"ir_cron\"");
            entered || ran
        })
        .map(str::to_owned)
        .collect()
}

/// Tells Odoo twice a second that crons of every database are due.
struct Poke(Child);

impl Poke {
    fn start(live: &Instance) -> Self {
        let poke = "while :; do psql -qAtX -U odoo -d postgres -c \"SELECT pg_notify('cron_trigger', datname) \
                    FROM pg_database\" >/dev/null; sleep 0.5; done";
        let child = Command::new("docker")
            .args(["exec", "-u", "postgres", &live.db(), "sh", "-c", poke])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Poke {
    fn drop(&mut self) {
        // What runs inside goes with the container.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
