//! How tasks end, and who may not end them any more.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use undoo_core::{
    Kind, TaskId,
    platform::{StepEvent, TaskStatus},
};
use undoo_store::tasks::{self, Heartbeat, Lease, NewTask};

use crate::world::{World, later, on_both};

on_both!(
    an_ended_lease_is_taken_again_and_the_old_one_is_refused,
    a_heartbeat_keeps_the_task,
    while_a_worker_writes_nobody_takes_its_task,
    a_task_that_ends_its_workers_is_ended,
    cancelling_does_what_the_state_allows,
    an_abandoned_cancelled_task_stays_cancelled_for_the_next,
    a_task_that_is_handed_back_is_as_if_never_taken,
    a_cancelled_task_is_not_handed_back,
    ends_are_legal_and_held,
    the_log_is_in_order_across_workers,
);

async fn refused(world: &World, lease: &Lease) {
    let problem = world.store.begin_held(lease).await.err().unwrap();
    assert_eq!((problem.kind, problem.code), (Kind::Conflict, "lease_lost"));
    assert_eq!(tasks::progress(&world.store, lease, &json!(1)).await.unwrap_err().code, "lease_lost");
    let length = Duration::from_secs(60);
    assert_eq!(tasks::heartbeat(&world.store, lease, length).await.unwrap(), Heartbeat::Lost);
}

async fn cancel(world: &World, id: TaskId) -> TaskStatus {
    let tx = world.store.begin().await.unwrap();
    let status = tasks::cancel(&tx, id).await.unwrap();
    tx.commit().await.unwrap();
    status
}

async fn an_ended_lease_is_taken_again_and_the_old_one_is_refused(world: World) {
    let task = world.enqueued(world.task()).await;
    let (_, first) = world.claim("paused").await.unwrap();
    assert_eq!(world.claim("w").await, None);
    let (again, second) = world.claim_at("w", later()).await.unwrap();
    assert_eq!((again.id, again.attempts, again.worker.as_deref()), (task.id, 2, Some("w")));
    assert!(second.epoch > first.epoch);
    refused(&world, &first).await;
    tasks::progress(&world.store, &second, &json!({ "phase": "data" })).await.unwrap();
    world.finish(&second, TaskStatus::Completed).await.unwrap();
    refused(&world, &second).await;
    refused(&world, &first).await;
    let task = tasks::get(&world.store, task.id).await.unwrap().unwrap();
    assert_eq!((task.status, task.progress), (TaskStatus::Completed, Some(json!({ "phase": "data" }))));
    assert_eq!((task.lease_until, task.result), (None, Some(json!({ "done": true }))));
    assert!(task.finished_at >= task.started_at);
    let nobodys = Lease { task_id: TaskId::generate(), ..second };
    refused(&world, &nobodys).await;
}

async fn a_heartbeat_keeps_the_task(world: World) {
    let task = world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    let beat = tasks::heartbeat(&world.store, &lease, Duration::from_secs(600)).await.unwrap();
    let Heartbeat::Held { cancelling: false, until } = beat else { panic!("{beat:?}") };
    assert!(until > lease.until);
    assert_eq!(world.claim_at("v", later()).await, None);
    cancel(&world, task.id).await;
    let beat = tasks::heartbeat(&world.store, &lease, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(beat, Heartbeat::Held { cancelling: true, .. }), "{beat:?}");
}

async fn while_a_worker_writes_nobody_takes_its_task(world: World) {
    world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    let tx = world.store.begin_held(&lease).await.unwrap();
    let store = world.elsewhere().await;
    let other = tokio::spawn(async move {
        // On PostgreSQL the task is passed over, on SQLite this waits.
        tasks::claim(&store, &crate::world::worker("v"), later()).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    tasks::finish(&tx, &lease, TaskStatus::Completed, None, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(other.await.unwrap(), None);
}

async fn a_task_that_ends_its_workers_is_ended(world: World) {
    let task = world.enqueued(NewTask { max_attempts: 2, ..world.task() }).await;
    assert!(!world.claim("w").await.unwrap().1.exhausted);
    let mut now = later();
    assert!(!world.claim_at("w", now).await.unwrap().1.exhausted);
    for _ in 0..2 {
        now += jiff::SignedDuration::from_secs(61);
        let (claimed, lease) = world.claim_at("w", now).await.unwrap();
        assert_eq!((claimed.attempts, lease.exhausted), (2, true));
        refused(&world, &Lease { epoch: lease.epoch - 1, ..lease.clone() }).await;
        if lease.epoch == 4 {
            world.finish(&lease, TaskStatus::Failed).await.unwrap();
        }
    }
    assert_eq!(world.status(task.id).await, TaskStatus::Failed);
    assert_eq!(world.claim_at("w", now + jiff::SignedDuration::from_secs(61)).await, None);
}

async fn cancelling_does_what_the_state_allows(world: World) {
    let waiting = world.enqueued(world.task()).await;
    assert_eq!(cancel(&world, waiting.id).await, TaskStatus::Cancelled);
    let over = tasks::get(&world.store, waiting.id).await.unwrap().unwrap();
    assert!(over.finished_at.is_some());
    assert_eq!(world.claim("w").await, None);

    let running = world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    assert_eq!(cancel(&world, running.id).await, TaskStatus::Cancelling);
    assert_eq!(cancel(&world, running.id).await, TaskStatus::Cancelling);
    // The work was done before the wish arrived.
    world.finish(&lease, TaskStatus::Completed).await.unwrap();
    for status in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled, TaskStatus::Stuck] {
        let task = world.enqueued(world.task()).await;
        let (_, lease) = world.claim("w").await.unwrap();
        world.finish(&lease, status).await.unwrap();
        assert_eq!(cancel(&world, task.id).await, status);
    }
    let tx = world.store.begin().await.unwrap();
    assert_eq!(tasks::cancel(&tx, TaskId::generate()).await.unwrap_err().code, "task_missing");
}

async fn an_abandoned_cancelled_task_stays_cancelled_for_the_next(world: World) {
    let task = world.enqueued(world.task()).await;
    world.claim("w").await.unwrap();
    cancel(&world, task.id).await;
    let (claimed, lease) = world.claim_at("v", later()).await.unwrap();
    assert_eq!(claimed.status, TaskStatus::Cancelling);
    world.finish(&lease, TaskStatus::Cancelled).await.unwrap();
}

async fn a_task_that_is_handed_back_is_as_if_never_taken(world: World) {
    let task = world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    let tx = world.store.begin_held(&lease).await.unwrap();
    tasks::hand_back(&tx, &lease).await.unwrap();
    tx.commit().await.unwrap();
    refused(&world, &lease).await;
    let back = tasks::get(&world.store, task.id).await.unwrap().unwrap();
    assert_eq!((back.status, back.attempts), (TaskStatus::Queued, 0));
    assert_eq!((back.worker, back.lease_until), (None, None));
    let (again, second) = world.claim("v").await.unwrap();
    assert_eq!((again.attempts, second.epoch), (1, lease.epoch + 1));
    refused(&world, &lease).await;
}

async fn a_cancelled_task_is_not_handed_back(world: World) {
    let task = world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    cancel(&world, task.id).await;
    let tx = world.store.begin_held(&lease).await.unwrap();
    assert_eq!(tasks::hand_back(&tx, &lease).await.unwrap_err().code, "task_cancelling");
    tasks::finish(&tx, &lease, TaskStatus::Cancelled, None, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.status(task.id).await, TaskStatus::Cancelled);
}

async fn ends_are_legal_and_held(world: World) {
    world.enqueued(world.task()).await;
    world.enqueued(world.task()).await;
    let (_, lease) = world.claim("w").await.unwrap();
    let (_, other) = world.claim("w").await.unwrap();
    let tx = world.store.begin_held(&lease).await.unwrap();
    for status in [TaskStatus::Queued, TaskStatus::Running, TaskStatus::Cancelling] {
        assert_eq!(tasks::finish(&tx, &lease, status, None, None).await.unwrap_err().code, "store_misuse");
    }
    let not_held = tasks::finish(&tx, &other, TaskStatus::Completed, None, None).await.unwrap_err();
    assert_eq!(not_held.code, "store_misuse");
    drop(tx);
    let tx = world.store.begin().await.unwrap();
    assert_eq!(tasks::hand_back(&tx, &lease).await.unwrap_err().code, "store_misuse");
    let logged = tasks::log_append(&tx, &lease, "stage", StepEvent::DoStarted, &json!(null)).await;
    assert_eq!(logged.unwrap_err().code, "store_misuse");
    drop(tx);
    let tx = world.store.begin_held(&lease).await.unwrap();
    tasks::finish(&tx, &lease, TaskStatus::Failed, None, Some("the disk is full\0")).await.unwrap();
    tx.commit().await.unwrap();
    let ended = tasks::get(&world.store, lease.task_id).await.unwrap().unwrap();
    assert_eq!(ended.error.as_deref(), Some("the disk is full\u{FFFD}"));
}

async fn the_log_is_in_order_across_workers(world: World) {
    let task = world.enqueued(world.task()).await;
    let mut now = Timestamp::now();
    for worker in ["w", "v"] {
        let (_, lease) = world.claim_at(worker, now).await.unwrap();
        for event in [StepEvent::DoStarted, StepEvent::DoFinished] {
            let tx = world.store.begin_held(&lease).await.unwrap();
            tasks::log_append(&tx, &lease, "stage", event, &json!({ "by": worker })).await.unwrap();
            tx.commit().await.unwrap();
        }
        now = later();
    }
    let log = tasks::log(&world.store, task.id).await.unwrap();
    let lines: Vec<_> = log.iter().map(|line| (line.sequence, line.event, line.epoch)).collect();
    use StepEvent::{DoFinished, DoStarted};
    assert_eq!(lines, [(1, DoStarted, 1), (2, DoFinished, 1), (3, DoStarted, 2), (4, DoFinished, 2)]);
    assert_eq!(log[3].data, json!({ "by": "v" }));
    assert!(tasks::log(&world.store, TaskId::generate()).await.unwrap().is_empty());
}
