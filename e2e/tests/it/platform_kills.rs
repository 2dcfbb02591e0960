//! `kill -9` at every boundary between two steps: a restore that has lost every process that worked for it
//! ends once, and leaves nothing half-way.

use undoo_core::platform::{EventKind, StepEvent, TaskStatus};

use crate::support::{
    Undoo,
    site::{ENDED, Site},
};

/// Where what works for a restore is killed: before and after each line of its log. What comes before a step's
/// first line is what comes after the last one of the step before; the first of all is when the task is taken.
const RESTORE: [&str; 15] = [
    "validate:do_started:before",
    "validate:do_started:after",
    "validate:do_finished:before",
    "validate:do_finished:after",
    "safety_backup:do_started:after",
    "safety_backup:do_finished:before",
    "safety_backup:do_finished:after",
    "stage:do_started:after",
    "stage:do_finished:before",
    "stage:do_finished:after",
    "cut_over:do_started:after",
    // In the middle of the cutover.
    "rename_databases:after",
    "cut_over:do_finished:before",
    "cut_over:do_finished:after",
    "conclude:after",
];

const UNDO: [&str; 6] = [
    "swap:do_started:before",
    "swap:do_started:after",
    "rename_databases:after",
    "swap:do_finished:before",
    "swap:do_finished:after",
    "conclude:after",
];

/// Of a restore that is called off when its cutover is done. The undo of a step may be begun three times.
const BACK: [&str; 13] = [
    "cut_over:do_finished:before",
    "cut_over:undo_started:after",
    "cut_over:undo_finished:before",
    "cut_over:undo_finished:after",
    "stage:undo_started:after",
    "stage:undo_finished:before",
    "stage:undo_finished:after",
    "safety_backup:undo_started:after",
    "safety_backup:undo_finished:before",
    "safety_backup:undo_finished:after",
    "validate:undo_started:after",
    "validate:undo_finished:before",
    "conclude:after",
];

const STEPS: [&str; 4] = ["validate", "safety_backup", "stage", "cut_over"];

/// The two databases and the way back are worked on side by side: most of the time is spent waiting for leases.
#[test]
fn a_restore_and_its_undo_that_are_killed_at_every_boundary_end_once() {
    let undoo = Undoo::ready();
    std::thread::scope(|scope| {
        scope.spawn(|| forward_and_undone(&mut Site::on_sqlite(&undoo)));
        scope.spawn(|| forward_and_undone(&mut Site::on_postgres(&undoo)));
        scope.spawn(|| {
            let mut site = Site::on_postgres(&undoo);
            called_off(&mut site);
            stuck(&undoo, &mut site);
        });
    });
}

fn forward_and_undone(site: &mut Site<'_>) {
    let restore = site.killed_at(&RESTORE, |site| site.restore(true));
    let done = site.ended(&restore, &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    site.is_restored();
    site.is_at_rest(1);
    let task = site.task();
    let ledger = site.ledger(&restore, &task);
    assert_eq!(ledger.task.status, TaskStatus::Completed);
    // Whoever is killed after the end has no successor.
    assert_eq!(ledger.task.attempts as usize, RESTORE.len());
    ledger.has_once(StepEvent::DoFinished, &STEPS);
    ledger.has_once(StepEvent::UndoStarted, &[]);
    assert_eq!(ledger.safety_backups(), (1, 0));
    assert_eq!(ledger.told(EventKind::RestoreStarted), 1);
    assert_eq!(ledger.told(EventKind::RestoreCompleted), 1);
    assert_eq!(ledger.events.last(), Some(&EventKind::RestoreCompleted));

    let task = site.killed_at(&UNDO, |site| {
        site.platform.post(&format!("/restore/{restore}/undo"), serde_json::json!({}));
        site.task()
    });
    let undone = site.ended(&restore, &["undone", "stuck", "failed"]);
    assert_eq!(undone["status"], "undone", "{undone}");
    site.is_damaged();
    site.is_at_rest(1);
    let ledger = site.ledger(&restore, &task);
    assert_eq!(ledger.task.attempts as usize, UNDO.len());
    ledger.has_once(StepEvent::DoFinished, &["swap"]);
    assert_eq!(ledger.told(EventKind::RestoreUndone), 1);
    assert_eq!(ledger.told(EventKind::RestoreCompleted), 1);
}

fn called_off(site: &mut Site<'_>) {
    let restore = site.killed_at(&BACK, called_off_when_live);
    let done = site.ended(&restore, &ENDED);
    assert_eq!(done["status"], "cancelled", "{done}");
    site.is_damaged();
    assert_eq!((site.live.leftovers(), site.live.staged()), (vec![], vec![]));
    let task = site.task();
    let ledger = site.ledger(&restore, &task);
    assert_eq!(ledger.task.status, TaskStatus::Cancelled);
    ledger.has_once(StepEvent::UndoFinished, &["cut_over", "stage", "safety_backup", "validate"]);
    ledger.has_once(StepEvent::DoFinished, &STEPS[..3]);
    assert_eq!(ledger.safety_backups(), (1, 0));
    assert_eq!(ledger.told(EventKind::RestoreStarted), 1);
    assert_eq!(ledger.told(EventKind::RestoreCancelled), 1);
    assert_eq!(ledger.told(EventKind::RestoreCompleted), 0);
}

/// Every worker that begins to take the cutover back is killed: a person is told what to do, which helps.
fn stuck(undoo: &Undoo, site: &mut Site<'_>) {
    let begun = "cut_over:undo_started:after";
    let restore = site.killed_at(&[BACK[0], begun, begun, begun], called_off_when_live);
    let done = site.ended(&restore, &ENDED);
    assert_eq!(done["status"], "stuck", "{done}");
    let message = done["error_message"].as_str().unwrap();
    assert!(message.contains("`undoo list` and `undoo resume`"), "{message}");
    site.is_restored();
    let task = site.task();
    let ledger = site.ledger(&restore, &task);
    assert_eq!((ledger.task.status, ledger.task.attempts), (TaskStatus::Stuck, 5));
    assert_eq!(ledger.told(EventKind::RestoreStuck), 1);
    assert_eq!(ledger.told(EventKind::RestoreCompleted) + ledger.told(EventKind::RestoreCancelled), 0);
    undoo.run(&["undo", &site.live.target(), "--yes"]).ends(0);
    site.is_damaged();
    assert_eq!(site.live.leftovers(), [""; 0]);
}

/// Asks for a restore, and calls it off when what it restored is live and the platform does not know it yet.
fn called_off_when_live(site: &Site<'_>) -> String {
    let restore = site.restore(true);
    site.is_held_at(BACK[0]);
    site.is_restored();
    site.platform.post(&format!("/restore/{restore}/cancel"), serde_json::json!({}));
    restore
}
