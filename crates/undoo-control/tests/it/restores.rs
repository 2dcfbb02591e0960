//! What may be restored where, by whom, and what comes of it.

use undoo_control::{Once, RestoreWish};
use undoo_core::{
    Side,
    platform::{EnvironmentType, RestoreMode, RestoreStatus, TaskStatus},
};
use undoo_engine::{order::Strategy, record::State};

use crate::{
    fake_plane::Trip,
    world::{FIRST, World, on_both},
};

on_both!(
    a_restore_tells_how_far_it_is_and_what_came_of_it,
    a_request_that_comes_twice_is_carried_out_once,
    two_restores_of_one_environment_do_not_run_side_by_side,
    a_safety_backup_that_fails_is_skipped_only_if_it_was_asked_for,
    what_is_held_is_let_go_once,
    wishes_that_make_no_sense_are_refused,
    a_restore_is_undone_only_while_it_is_the_newest_and_in_time,
    restores_of_a_deleted_environment_are_seen_and_not_touched,
);

async fn restores_of_a_deleted_environment_are_seen_and_not_touched(world: World) {
    let (control, admin) = (&world.control, &world.admin);
    let backup = world.backed_up().await;
    let worker = world.worker();
    let point = world.restore(&backup).await;
    world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    control.environment_delete(admin, world.production.id).await.unwrap();
    assert_eq!(control.restore_get(admin, point.id).await.unwrap().status, RestoreStatus::Completed);
    let refused = [
        control.restore_undo(admin, point.id, None).await.unwrap_err(),
        control.restore_release(admin, point.id, None).await.unwrap_err(),
        control.restore_purge(admin, point.id, None).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|problem| problem.code == "environment_deleted"), "{refused:?}");
}

async fn a_restore_tells_how_far_it_is_and_what_came_of_it(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore(&backup).await;
    assert_eq!((point.status, point.mode), (RestoreStatus::Pending, RestoreMode::Original));
    let worker = world.worker();
    let task = world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    let point = world.control.restore_get(&world.admin, point.id).await.unwrap();
    assert_eq!(
        (task.status, point.status, point.progress),
        (TaskStatus::Completed, RestoreStatus::Completed, 100)
    );
    assert!(point.undo_until.is_some() && point.report.is_some() && point.pre_restore_backup_id.is_some());
    let events = world.events().await;
    let at = |wanted: &str| events.iter().position(|event| event == wanted).expect(wanted);
    assert!(at("restore.started") < at("restore.progress"));
    assert!(at("restore.progress") < at("restore.completed"));
    let audit = world.control.audit_list(&world.admin, world.organisation, FIRST).await.unwrap();
    assert!(audit.items.iter().any(|entry| entry.action == "restore.requested"));
    world.control.audit_verify(&world.admin, world.organisation).await.unwrap();
}

async fn a_request_that_comes_twice_is_carried_out_once(world: World) {
    let backup = world.backed_up().await;
    let once = |hash| Some(Once { key: "key".into(), request_hash: [hash; 32] });
    let start = |hash| world.control.restore_start(&world.admin, RestoreWish::of(backup.id), once(hash));
    let first = start(1).await.unwrap();
    let again = start(1).await.unwrap();
    assert_eq!((first.restore_point.id, first.task.id), (again.restore_point.id, again.task.id));
    assert_eq!(start(2).await.unwrap_err().code, "idempotency_key_reused");
    let new = || undoo_control::NewBackup::default();
    let key = || Some(Once { key: "backup".into(), request_hash: [3; 32] });
    let staging = world.staging.id;
    let first = world.control.backup_create(&world.admin, staging, new(), key()).await.unwrap();
    let again = world.control.backup_create(&world.admin, staging, new(), key()).await.unwrap();
    assert_eq!(first.id, again.id);
}

async fn two_restores_of_one_environment_do_not_run_side_by_side(world: World) {
    let backup = world.backed_up().await;
    world.restore(&backup).await;
    let second = world.control.restore_start(&world.admin, RestoreWish::of(backup.id), None).await;
    assert_eq!(second.unwrap_err().code, "environment_busy");
    let to_staging =
        RestoreWish { target_environment_id: Some(world.staging.id), ..RestoreWish::of(backup.id) };
    assert_eq!(world.restore_as(to_staging).await.mode, RestoreMode::Existing);
    let busy = world.control.environment_delete(&world.admin, world.staging.id).await.unwrap_err();
    assert_eq!(busy.code, "environment_busy");
    let in_use = world.control.backup_delete(&world.admin, backup.id).await.unwrap_err();
    assert_eq!(in_use.code, "backup_in_use");
}

async fn a_safety_backup_that_fails_is_skipped_only_if_it_was_asked_for(world: World) {
    let backup = world.backed_up().await;
    world.plane.trip("back_up", Trip::Fails, 2);
    let worker = world.worker();
    let point = world.restore(&backup).await;
    world.task_over(point.task_id.unwrap()).await;
    let point = world.point(point.id).await;
    assert_eq!(point.error_step.as_deref(), Some("safety_backup"));
    assert!(point.error_message.unwrap().contains("keep_raw_pair_instead"));
    assert_eq!(world.plane.calls("stage"), 0);
    let wish = RestoreWish { keep_raw_pair_instead: true, ..RestoreWish::of(backup.id) };
    let point = world.restore_as(wish).await;
    world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    let point = world.point(point.id).await;
    assert_eq!(point.status, RestoreStatus::Completed);
    assert!(point.findings.to_string().contains("raw_pair_instead"));
}

async fn what_is_held_is_let_go_once(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore(&backup).await;
    let worker = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    let held = world.control.restore_held(&world.admin, point.id).await.unwrap().unwrap();
    assert_eq!(held["mails"].as_array().unwrap().len(), 1);
    let started = world.control.restore_release(&world.admin, point.id, None).await.unwrap();
    world.task_over(started.task.id).await;
    worker.stop().await;
    assert!(world.plane.released(point.id));
    let again = world.control.restore_release(&world.admin, point.id, None).await.unwrap_err();
    assert_eq!(again.code, "nothing_held");
}

async fn wishes_that_make_no_sense_are_refused(world: World) {
    let backup = world.backed_up().await;
    let code = async |wish: RestoreWish| {
        let planned = world.control.restore_plan(&world.admin, wish.clone()).await;
        let code = world.control.restore_start(&world.admin, wish, None).await.unwrap_err().code;
        assert_eq!(planned.unwrap_err().problem.code, code, "plan and start agree");
        code
    };
    let wish = || RestoreWish::of(backup.id);
    let new = RestoreWish { mode: Some(RestoreMode::New), ..wish() };
    assert_eq!(code(new).await, "new_environment_needed");
    let existing = RestoreWish { mode: Some(RestoreMode::Existing), ..wish() };
    assert_eq!(code(existing).await, "target_needed");
    let nothing = RestoreWish { include_database: false, include_filestore: false, ..wish() };
    assert_eq!(code(nothing).await, "nothing_to_restore");
    let strategy = Strategy::StopFirst { confirmed: "other".into() };
    assert_eq!(code(RestoreWish { strategy, ..wish() }).await, "confirmation_missing");
    assert_eq!(code(RestoreWish { undo_window_hours: Some(0), ..wish() }).await, "undo_window_invalid");
    let other = world.control.project_create(&world.admin, world.organisation, "Other").await.unwrap();
    let adopt = undoo_control::Adopt {
        project_id: other.id,
        name: "elsewhere".into(),
        environment_type: EnvironmentType::Staging,
        server_id: world.staging.server_id.unwrap(),
        container: "elsewhere_odoo".into(),
        database_name: None,
        domain: None,
        storage_id: None,
    };
    let elsewhere = world.control.environment_adopt(&world.admin, adopt).await.unwrap();
    let across = RestoreWish { target_environment_id: Some(elsewhere.id), ..wish() };
    assert_eq!(code(across).await, "cross_project");
    world.control.environment_delete(&world.admin, world.staging.id).await.unwrap();
    let deleted = RestoreWish { target_environment_id: Some(world.staging.id), ..wish() };
    assert_eq!(code(deleted).await, "not_found");
    let plan = world.control.restore_plan(&world.admin, wish()).await.unwrap();
    assert!(plan.safety_backup && plan.hold_outgoing && !plan.neutralize);
    assert!(plan.took.is_empty());
}

async fn a_restore_is_undone_only_while_it_is_the_newest_and_in_time(world: World) {
    let backup = world.backed_up().await;
    let worker = world.worker();
    let older = world.restore(&backup).await;
    let undo = world.control.restore_undo(&world.admin, older.id, None).await;
    assert_eq!(undo.unwrap_err().code, "not_undoable");
    world.task_over(older.task_id.unwrap()).await;
    let newer = world.restore(&backup).await;
    world.task_over(newer.task_id.unwrap()).await;
    let plan = world.control.restore_plan(&world.admin, RestoreWish::of(backup.id)).await.unwrap();
    let (first, second) = (world.point(older.id).await, world.point(newer.id).await);
    let mut expected = [first, second].map(|point| point.duration_seconds().unwrap());
    expected.sort_unstable();
    assert_eq!(plan.took, expected, "what the environment's completed restores took");
    let undo = world.control.restore_undo(&world.admin, older.id, None).await;
    assert_eq!(undo.unwrap_err().code, "not_the_newest");
    let started = world.control.restore_undo(&world.admin, newer.id, None).await.unwrap();
    world.task_over(started.task.id).await;
    worker.stop().await;
    assert_eq!(world.plane.state(newer.id), Some(State::Live { side: Side::Replaced }));
    world.later(25);
    let late = world.control.restore_undo(&world.admin, newer.id, None).await;
    assert_eq!(late.unwrap_err().code, "undo_window_over");
}
