//! Workers that are paused for longer than their lease: whoever wakes up writes nothing any more, and touches
//! nothing of what another has begun since.

use std::fs::File;

use serde_json::json;
use undoo_core::platform::{EventKind, StepEvent};

use crate::support::{
    Instance, Undoo,
    docker::docker,
    site::{ENDED, Site, held_at},
    undoo::Running,
};

/// What a worker says of a task that it does not have any more.
fn has_lost_its_task(worker: &Running) {
    crate::support::wait_for("the end of the lost task", std::time::Duration::from_secs(60), || {
        ["\"message\":\"task lost\"", "\"message\":\"task left to another worker\""]
            .into_iter()
            .find_map(|line| worker.heard(line).pop())
    });
}

#[test]
fn a_worker_that_wakes_up_after_its_lease_touches_nothing_of_what_another_does() {
    let undoo = Undoo::ready();
    let mut site = Site::on_postgres(&undoo);
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str| files.path().join(name).display().to_string();

    // In the middle of staging; the other one has staged again, and holds what it has staged.
    site.kill(false);
    let paused = site.platform.worker(&undoo, "paused", &[]);
    let restore = site.restore(false);
    let task = site.task();
    site.ended(&restore, &["restoring_db"]);
    paused.signal("-STOP");
    let (at, until) = ("stage:do_finished:after", file("staged"));
    let second =
        site.platform.worker(&undoo, "second", &[("UNDOO_HOLD_AT", at), ("UNDOO_HOLD_UNTIL", &until)]);
    second.line(&held_at(at));
    let (movers, staged) = (site.live.of_undoo("mover", false), site.live.staged());
    assert_eq!(movers.len(), 1);
    paused.signal("-CONT");
    has_lost_its_task(&paused);
    assert_eq!(site.live.of_undoo("mover", false), movers, "the second's mover goes on");
    assert_eq!(site.live.staged(), staged, "and so does what it has staged");
    File::create(until).unwrap();
    let done = site.ended(&restore, &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    site.is_restored();
    drop(paused);
    let ledger = site.ledger(&restore, &task);
    assert_eq!(ledger.task.attempts, 2);
    ledger.has_once(StepEvent::DoFinished, &["validate", "safety_backup", "stage", "cut_over"]);
    assert_eq!(ledger.told(EventKind::RestoreStarted), 1);
    assert_eq!(ledger.told(EventKind::RestoreCompleted), 1);
    site.is_at_rest(1);

    // Just before staging, while another one stages; and just before the cutover, which yet another one has made
    // since, and somebody has undone.
    site.damage();
    drop(second);
    let (at, until) = ("stage:do_started:after", file("first"));
    let hold = [("UNDOO_HOLD_AT", at), ("UNDOO_HOLD_UNTIL", &until)];
    let first = site.platform.worker(&undoo, "first", &hold);
    let restore = site.restore(false);
    let task = site.task();
    first.line(&held_at(at));
    first.signal("-STOP");
    let (at, until_second) = ("cut_over:do_started:after", file("second"));
    let hold = [("UNDOO_HOLD_AT", at), ("UNDOO_HOLD_UNTIL", &until_second)];
    let second = site.platform.worker(&undoo, "second", &hold);
    site.ended(&restore, &["restoring_db"]);
    File::create(until).unwrap();
    first.signal("-CONT");
    has_lost_its_task(&first);
    drop(first);
    second.line(&held_at(at));
    second.signal("-STOP");
    let third = site.platform.worker(&undoo, "third", &[]);
    let done = site.ended(&restore, &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    site.is_restored();
    site.platform.post(&format!("/restore/{restore}/undo"), json!({}));
    let undone = site.ended(&restore, &["undone", "stuck"]);
    assert_eq!(undone["status"], "undone", "{undone}");
    let (record, started) = (site.live.record(), started_at(&site.live));
    File::create(until_second).unwrap();
    second.signal("-CONT");
    has_lost_its_task(&second);
    assert_eq!(site.get(&restore), undone);
    assert_eq!(site.live.record(), record);
    assert_eq!(started_at(&site.live), started, "Odoo was not stopped");
    site.is_damaged();
    drop((second, third));
    let ledger = site.ledger(&restore, &task);
    assert_eq!(ledger.task.attempts, 3);
    ledger.has_once(StepEvent::DoFinished, &["validate", "safety_backup", "stage", "cut_over"]);
    assert_eq!(ledger.events.last(), Some(&EventKind::RestoreUndone));
    site.is_at_rest(2);
}

/// Since when Odoo runs.
fn started_at(live: &Instance) -> String {
    docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", &live.odoo()])
}
