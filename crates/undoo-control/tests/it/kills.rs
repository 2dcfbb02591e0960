//! Workers that die, pause, fail and are called off at every call to the data plane: a restore ends completed,
//! undone or stuck, never two of them, and nothing is left half-way.

use undoo_control::{Reconcilers, RestoreWish, work::WorkerSettings};
use undoo_core::{
    Side,
    platform::{BackupStatus, RestoreStatus, StepEvent, TaskStatus},
};
use undoo_engine::record::State;
use undoo_store::tasks;

use crate::{
    fake_plane::{SOON, Trip},
    world::{FIRST, LEASE, World, on_both},
};

on_both!(
    a_worker_that_dies_at_any_call_is_followed_by_one_that_completes_the_restore,
    a_failure_at_any_call_leaves_what_was_live,
    a_restore_that_hangs_is_cancelled_and_leaves_nothing,
    a_worker_that_shuts_down_hands_back_what_it_staged,
    a_task_that_kills_its_workers_ends,
    a_worker_whose_lease_is_taken_writes_nothing,
    an_undo_survives_its_workers,
    a_backup_survives_its_workers,
    what_cannot_be_taken_back_is_stuck_with_a_command,
    a_stuck_restore_that_was_ended_on_the_server_is_known_to_be_over,
    a_restore_that_is_live_completes_although_its_last_worker_was_lost,
);

const CALLS: [&str; 4] = ["plan", "back_up", "stage", "cut_over"];

async fn a_worker_that_dies_at_any_call_is_followed_by_one_that_completes_the_restore(world: World) {
    let backup = world.backed_up().await;
    for call in CALLS {
        for trip in [Trip::LostBefore, Trip::LostWithin, Trip::LostAfter] {
            if call == "plan" && trip == Trip::LostWithin {
                continue;
            }
            world.plane.trip(call, trip, 1);
            let point = world.restore(&backup).await;
            let worker = world.worker();
            tokio::time::timeout(SOON, world.plane.lost.notified()).await.expect(call);
            worker.kill().await;
            let next = world.worker();
            let task = world.task_over(point.task_id.unwrap()).await;
            next.stop().await;
            let point = world.point(point.id).await;
            let what = format!("{call} {trip:?}: {:?}", point.error_message);
            assert_eq!(
                (task.status, point.status),
                (TaskStatus::Completed, RestoreStatus::Completed),
                "{what}"
            );
            assert_eq!(world.plane.state(point.id), Some(State::Live { side: Side::Restored }), "{what}");
            assert!(world.plane.is_whole(), "{what}");
            let safety = world.backup(point.pre_restore_backup_id.unwrap()).await;
            assert_eq!(safety.status, BackupStatus::Completed, "{what}");
            assert_eq!(task.attempts, 2, "{what}");
        }
    }
}

async fn a_failure_at_any_call_leaves_what_was_live(world: World) {
    let backup = world.backed_up().await;
    for (call, step) in CALLS.into_iter().zip(["validate", "safety_backup", "stage", "cut_over"]) {
        let objects = world.objects().await;
        world.plane.trip(call, Trip::Fails, 1);
        let point = world.restore(&backup).await;
        let worker = world.worker();
        let task = world.task_over(point.task_id.unwrap()).await;
        worker.stop().await;
        let point = world.point(point.id).await;
        assert_eq!((task.status, point.status), (TaskStatus::Failed, RestoreStatus::Failed), "{call}");
        assert!(world.plane.is_whole() && world.plane.state(point.id).is_none(), "{call}");
        assert_eq!(point.error_step.as_deref(), Some(step));
        let message = point.error_message.clone().unwrap();
        assert!(message.contains("told to fail"), "{message}");
        assert!(point.duration_seconds().is_some());
        // A safety backup that was made stays, and is named.
        let made = matches!(call, "stage" | "cut_over");
        assert_eq!(world.objects().await - objects, usize::from(made), "{call}");
        assert_eq!(message.contains("safety backup"), made || call == "back_up", "{message}");
        assert!(world.events().await.iter().any(|event| event == "restore.failed"));
        let log = tasks::log(world.control.store(), task.id).await.unwrap();
        let begun = log.iter().filter(|line| line.event == StepEvent::DoStarted).count();
        let undone = log.iter().filter(|line| line.event == StepEvent::UndoFinished).count();
        assert_eq!(begun, undone, "{call}: every step that was begun is undone");
    }
}

async fn a_restore_that_hangs_is_cancelled_and_leaves_nothing(world: World) {
    let backup = world.backed_up().await;
    for call in ["plan", "back_up", "stage"] {
        world.plane.trip(call, Trip::Hangs, 1);
        let point = world.restore(&backup).await;
        let worker = world.worker();
        tokio::time::timeout(SOON, world.plane.hanging.notified()).await.expect(call);
        world.control.restore_cancel(&world.admin, point.id).await.unwrap();
        let task = world.task_over(point.task_id.unwrap()).await;
        worker.stop().await;
        let point = world.point(point.id).await;
        assert_eq!((task.status, point.status), (TaskStatus::Cancelled, RestoreStatus::Cancelled), "{call}");
        assert!(world.plane.is_whole() && world.plane.state(point.id).is_none(), "{call}");
        if let Some(safety) = point.pre_restore_backup_id {
            let status = world.backup(safety).await.status;
            assert!(matches!(status, BackupStatus::Completed | BackupStatus::Cancelled), "{call}: {status}");
        }
        let again = world.control.restore_cancel(&world.admin, point.id).await.unwrap_err();
        assert_eq!(again.code, "not_cancellable");
    }
    // One that waits is cancelled at once.
    let point = world.restore(&backup).await;
    let point = world.control.restore_cancel(&world.admin, point.id).await.unwrap();
    assert_eq!(point.status, RestoreStatus::Cancelled);
    assert!(world.events().await.iter().any(|event| event == "restore.cancelled"));
}

async fn a_worker_that_shuts_down_hands_back_what_it_staged(world: World) {
    let backup = world.backed_up().await;
    world.plane.trip("stage", Trip::Hangs, 1);
    let point = world.restore(&backup).await;
    let worker = world.worker();
    tokio::time::timeout(SOON, world.plane.hanging.notified()).await.unwrap();
    worker.stop().await;
    let task = world.task(point.task_id.unwrap()).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Queued, 0), "the attempt is given back");
    assert!(world.plane.is_whole());
    let next = world.worker();
    let task = world.task_over(task.id).await;
    next.stop().await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Completed, 1));
    let of_production = world.environment_backups(world.production.id).await;
    assert_eq!(of_production.len(), 2, "the safety backup was not made again");
}

async fn a_task_that_kills_its_workers_ends(world: World) {
    let backup = world.backed_up().await;
    for call in ["stage", "cut_over"] {
        world.plane.trip(call, Trip::LostWithin, 3);
        // The cutover that broke off is finished by a swap, which is as deadly.
        world.plane.trip("swap", Trip::LostWithin, if call == "cut_over" { 2 } else { 0 });
        let point = world.restore(&backup).await;
        for _ in 0..3 {
            let worker = world.worker();
            tokio::time::timeout(SOON, world.plane.lost.notified()).await.expect(call);
            worker.kill().await;
        }
        let last = world.worker();
        let task = world.task_over(point.task_id.unwrap()).await;
        last.stop().await;
        let point = world.point(point.id).await;
        assert_eq!((task.status, point.status), (TaskStatus::Failed, RestoreStatus::Failed), "{call}");
        assert!(point.error_message.as_ref().unwrap().contains("every worker that took it was lost"));
        assert!(world.plane.is_whole(), "{call}");
        assert_ne!(world.plane.state(point.id), Some(State::Live { side: Side::Restored }), "{call}");
    }
}

async fn a_worker_whose_lease_is_taken_writes_nothing(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore(&backup).await;
    let settings = WorkerSettings::named("paused");
    let paused = tasks::Worker { name: settings.name, kinds: settings.kinds, lease: LEASE };
    let store = world.control.store();
    let now = jiff::Timestamp::now();
    let (_, lease) = tasks::claim(store, &paused, now).await.unwrap().unwrap();
    let next = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    let refused = store.begin_held(&lease).await.err().unwrap();
    assert_eq!(refused.code, "lease_lost");
    assert!(tasks::progress(store, &lease, &serde_json::json!({})).await.is_err());
    next.stop().await;
    assert_eq!(world.point(point.id).await.status, RestoreStatus::Completed);
}

async fn an_undo_survives_its_workers(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore(&backup).await;
    let worker = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    let sides = [Side::Replaced, Side::Restored, Side::Replaced];
    for (trip, side) in [Trip::LostBefore, Trip::LostWithin, Trip::LostAfter].into_iter().zip(sides) {
        world.plane.trip("swap", trip, 1);
        let started = world.control.restore_undo(&world.admin, point.id, None).await.unwrap();
        let worker = world.worker();
        tokio::time::timeout(SOON, world.plane.lost.notified()).await.unwrap();
        worker.kill().await;
        let next = world.worker();
        let task = world.task_over(started.task.id).await;
        next.stop().await;
        assert_eq!(task.status, TaskStatus::Completed, "{trip:?}");
        assert_eq!(world.plane.state(point.id), Some(State::Live { side }), "{trip:?}");
        let status = world.point(point.id).await.status;
        let wanted = if side == Side::Replaced { RestoreStatus::Undone } else { RestoreStatus::Completed };
        assert_eq!(status, wanted, "{trip:?}");
    }
    // A swap that fails leaves the restore as it was.
    world.plane.trip("swap", Trip::Fails, 1);
    let started = world.control.restore_undo(&world.admin, point.id, None).await.unwrap();
    let worker = world.worker();
    let task = world.task_over(started.task.id).await;
    worker.stop().await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert_eq!(world.point(point.id).await.status, RestoreStatus::Undone);
    assert!(world.plane.is_whole());
}

async fn a_backup_survives_its_workers(world: World) {
    for trip in [Trip::LostBefore, Trip::LostWithin, Trip::LostAfter, Trip::Fails] {
        let objects = world.objects().await;
        world.plane.trip("back_up", trip, 1);
        let new = undoo_control::NewBackup::default();
        let backup = world.control.backup_create(&world.admin, world.production.id, new, None).await.unwrap();
        let worker = world.worker();
        let next = match trip {
            Trip::Fails => worker,
            _ => {
                tokio::time::timeout(SOON, world.plane.lost.notified()).await.unwrap();
                worker.kill().await;
                world.worker()
            }
        };
        world.task_over(backup.task_id.unwrap()).await;
        next.stop().await;
        let failed = trip == Trip::Fails;
        let status = if failed { BackupStatus::Failed } else { BackupStatus::Completed };
        assert_eq!(world.backup(backup.id).await.status, status, "{trip:?}");
        assert_eq!(world.objects().await - objects, usize::from(!failed), "{trip:?}");
    }
}

async fn what_cannot_be_taken_back_is_stuck_with_a_command(world: World) {
    let backup = world.backed_up().await;
    world.plane.trip("cut_over", Trip::Fails, 1);
    world.plane.trip("discard", Trip::Fails, 10);
    let point = world.restore_as(RestoreWish::of(backup.id)).await;
    let worker = world.worker();
    let task = world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    let point = world.point(point.id).await;
    assert_eq!((task.status, point.status), (TaskStatus::Stuck, RestoreStatus::Stuck));
    let message = point.error_message.unwrap();
    assert!(message.contains("taking back stage failed"), "{message}");
    assert!(world.events().await.iter().any(|event| event == "restore.stuck"));
    let list = world.control.restore_list(&world.admin, world.production.id, None, FIRST).await.unwrap();
    assert_eq!(list.total, 1);
}

async fn a_stuck_restore_that_was_ended_on_the_server_is_known_to_be_over(world: World) {
    let backup = world.backed_up().await;
    let ends = [
        (Some(State::Live { side: Side::Restored }), RestoreStatus::Completed),
        (Some(State::Live { side: Side::Replaced }), RestoreStatus::Undone),
        (None, RestoreStatus::Failed),
    ];
    for (state, status) in ends {
        world.plane.trip("cut_over", Trip::Fails, 1);
        world.plane.trip("discard", Trip::Fails, 10);
        let point = world.restore(&backup).await;
        let worker = world.worker();
        world.task_over(point.task_id.unwrap()).await;
        worker.stop().await;
        Reconcilers::round(&world.control).await.unwrap();
        assert_eq!(world.point(point.id).await.status, RestoreStatus::Stuck, "nobody has ended it");
        world.plane.end(point.id, state);
        Reconcilers::round(&world.control).await.unwrap();
        let point = world.point(point.id).await;
        assert_eq!(point.status, status);
        assert_eq!(point.undo_until.is_some(), state.is_some());
        assert!(point.error_message.is_some(), "why it was stuck stays readable");
    }
    let events = world.events().await;
    for told in ["restore.completed", "restore.undone", "restore.failed"] {
        assert_eq!(events.iter().filter(|event| *event == told).count(), 1, "{told}");
    }
}

async fn a_restore_that_is_live_completes_although_its_last_worker_was_lost(world: World) {
    let backup = world.backed_up().await;
    world.plane.trip("cut_over", Trip::LostWithin, 1);
    world.plane.trip("swap", Trip::LostAfter, 2);
    let wish = RestoreWish { auto_rollback: false, ..RestoreWish::of(backup.id) };
    let point = world.restore_as(wish).await;
    for _ in 0..3 {
        let worker = world.worker();
        tokio::time::timeout(SOON, world.plane.lost.notified()).await.unwrap();
        worker.kill().await;
    }
    let last = world.worker();
    let task = world.task_over(point.task_id.unwrap()).await;
    last.stop().await;
    let point = world.point(point.id).await;
    let ended = (task.status, point.status);
    assert_eq!(ended, (TaskStatus::Completed, RestoreStatus::Completed), "{:?}", point.error_message);
    assert_eq!(world.plane.state(point.id), Some(State::Live { side: Side::Restored }));
}
