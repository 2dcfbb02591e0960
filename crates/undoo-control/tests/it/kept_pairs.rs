//! When a kept pair is removed, and when it is not.

use undoo_control::{
    Reconcilers, RestoreWish,
    plane::{Location, Plane, ServerAccess},
};
use undoo_core::platform::{BackupStatus, BackupType, RestoreStatus, TaskKind, TaskStatus};
use undoo_engine::record::State;
use undoo_store::tasks::{self, TaskFilter};

use crate::{
    fake_plane::Trip,
    world::{FIRST, World, on_both},
};

on_both!(
    a_replaced_pair_goes_only_after_a_backup_of_that_very_pair,
    a_pair_that_cannot_be_backed_up_stays_for_another_window,
    without_a_safety_backup_it_goes_when_its_time_is_over,
    a_pair_that_was_live_again_meanwhile_gets_another_final_backup,
    a_pair_that_somebody_removed_on_the_server_is_not_backed_up,
);

async fn restored(world: &World, wish: RestoreWish) -> undoo_core::RestoreId {
    let point = world.restore_as(wish).await;
    let worker = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    assert_eq!(world.point(point.id).await.status, RestoreStatus::Completed);
    point.id
}

/// A round of the reconcilers, and the purge that came of it.
async fn purged(world: &World) -> TaskStatus {
    Reconcilers::round(&world.control).await.unwrap();
    let filter = TaskFilter { environment_id: Some(world.production.id), ..TaskFilter::default() };
    let task = tasks::list(world.control.store(), filter, FIRST).await.unwrap().items.remove(0);
    assert_eq!(task.kind, TaskKind::Purge);
    let worker = world.worker();
    let task = world.task_over(task.id).await;
    worker.stop().await;
    task.status
}

async fn a_replaced_pair_goes_only_after_a_backup_of_that_very_pair(world: World) {
    let backup = world.backed_up().await;
    let id = restored(&world, RestoreWish::of(backup.id)).await;
    Reconcilers::round(&world.control).await.unwrap();
    assert_eq!(world.plane.calls("purge"), 0, "its time is not over");
    world.later(25);
    assert_eq!(purged(&world).await, TaskStatus::Completed);
    assert_eq!((world.plane.calls("back_up_kept"), world.plane.state(id)), (1, Some(State::Purged)));
    let newest = world.environment_backups(world.production.id).await.remove(0);
    assert_eq!((newest.status, newest.backup_type), (BackupStatus::Completed, BackupType::PreRestore));
    assert!(newest.is_verified);
    assert_eq!(world.point(id).await.undo_until, None);
}

async fn a_pair_that_cannot_be_backed_up_stays_for_another_window(world: World) {
    let backup = world.backed_up().await;
    let id = restored(&world, RestoreWish::of(backup.id)).await;
    world.later(25);
    world.plane.trip("back_up_kept", Trip::Fails, 1);
    assert_eq!(purged(&world).await, TaskStatus::Failed);
    assert_eq!(world.plane.calls("purge"), 0);
    let point = world.point(id).await;
    assert!(point.undo_until.unwrap() > jiff::Timestamp::now() + crate::fake_plane::hours(47));
    assert!(point.findings.to_string().contains("kept_pair_stays"));
    // A person who does not need it has it removed.
    let started = world.control.restore_purge(&world.admin, id, None).await.unwrap();
    let worker = world.worker();
    assert_eq!(world.task_over(started.task.id).await.status, TaskStatus::Completed);
    worker.stop().await;
    assert_eq!(world.plane.state(id), Some(State::Purged));
}

async fn without_a_safety_backup_it_goes_when_its_time_is_over(world: World) {
    let backup = world.backed_up().await;
    let wish = RestoreWish { create_pre_restore_backup: false, ..RestoreWish::of(backup.id) };
    let id = restored(&world, wish).await;
    world.later(25);
    assert_eq!(purged(&world).await, TaskStatus::Completed);
    assert_eq!((world.plane.calls("back_up_kept"), world.plane.state(id)), (0, Some(State::Purged)));
}

async fn a_pair_that_was_live_again_meanwhile_gets_another_final_backup(world: World) {
    let backup = world.backed_up().await;
    let wish = RestoreWish { undo_window_hours: Some(100), ..RestoreWish::of(backup.id) };
    let id = restored(&world, wish).await;
    world.later(101);
    world.plane.trip("purge", Trip::Fails, 1);
    assert_eq!(purged(&world).await, TaskStatus::Failed);
    assert_eq!(world.plane.calls("back_up_kept"), 1);
    // As if it had been found a little later that its time was not over.
    world.later(-101);
    let worker = world.worker();
    for status in [RestoreStatus::Undone, RestoreStatus::Completed] {
        let started = world.control.restore_undo(&world.admin, id, None).await.unwrap();
        world.task_over(started.task.id).await;
        assert_eq!(world.point(id).await.status, status);
    }
    worker.stop().await;
    world.later(101);
    assert_eq!(purged(&world).await, TaskStatus::Completed);
    assert_eq!(world.plane.calls("back_up_kept"), 2, "what was written while it was live again is backed up");
}

async fn a_pair_that_somebody_removed_on_the_server_is_not_backed_up(world: World) {
    let backup = world.backed_up().await;
    let id = restored(&world, RestoreWish::of(backup.id)).await;
    let at = Location { server: ServerAccess::Here, target: "docker:production_odoo".into(), database: None };
    world.plane.purge(&at, id).await.unwrap();
    world.later(25);
    assert_eq!(purged(&world).await, TaskStatus::Completed);
    assert_eq!(world.plane.calls("back_up_kept"), 0);
    assert_eq!(world.point(id).await.undo_until, None);
}
