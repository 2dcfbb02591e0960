//! Environments that restores make: whole, or not there at all.

use undoo_control::{DeployAction, NewEnvironment, Reconcilers, RestoreWish, plane::DeployStep};
use undoo_core::{
    ServerId,
    platform::{
        Backup, EnvironmentStatus, EnvironmentType, ProjectRole, RestoreMode, RestorePoint, RestoreStatus,
        TaskStatus,
    },
};
use undoo_store::{deployments, environments};

use crate::{
    fake_plane::{SOON, Trip},
    world::{FIRST, World, on_both},
};

on_both!(
    a_restore_makes_its_environment_and_lets_people_in_last,
    a_failure_at_any_step_leaves_nothing,
    a_worker_that_dies_at_any_step_is_followed_by_one_that_completes,
    what_is_called_off_leaves_nothing,
    what_a_silent_server_keeps_is_removed_when_it_answers_again,
    a_wish_for_a_new_environment_has_to_make_sense,
    a_server_without_room_is_refused_unless_that_is_accepted,
    an_environment_that_was_made_is_stopped_started_deployed_and_destroyed,
    what_was_adopted_is_not_touched,
);

fn new(name: &str) -> NewEnvironment {
    NewEnvironment {
        name: name.into(),
        environment_type: EnvironmentType::Staging,
        server_id: None,
        domain: Some("copy.example.com".into()),
        odoo_image: None,
        deployment: Default::default(),
        addons: Vec::new(),
    }
}

fn to_new(backup: &Backup, name: &str) -> RestoreWish {
    RestoreWish {
        mode: Some(RestoreMode::New),
        new_environment: Some(new(name)),
        // What the machine has is not known before somebody has looked at it.
        accept: vec!["server_full".to_owned()],
        ..RestoreWish::of(backup.id)
    }
}

/// The restore is over, and nothing is left of what it made.
async fn nothing_is_left(world: &World, point: &RestorePoint, what: &str) {
    let id = point.target_environment_id;
    assert_eq!(world.plane.deployed(id), None, "{what}");
    assert!(deployments::get(world.control.store(), id).await.unwrap().is_none(), "{what}");
    let gone = environments::get(world.control.store(), id).await.unwrap().unwrap();
    assert!(gone.deleted_at.is_some(), "{what}");
    let all = world.control.environment_list(&world.admin, world.organisation, None, FIRST).await.unwrap();
    assert_eq!(all.items.len(), 2, "{what}");
}

async fn a_restore_makes_its_environment_and_lets_people_in_last(world: World) {
    let backup = world.backed_up().await;
    let server_id = Some(world.second_server().await);
    let wish = RestoreWish {
        mode: Some(RestoreMode::CrossServer),
        new_environment: Some(NewEnvironment { server_id, ..new("copy") }),
        ..RestoreWish::of(backup.id)
    };
    let planned = world.control.restore_plan(&world.admin, wish.clone()).await.unwrap();
    assert!(planned.plan.is_none() && planned.findings.is_empty(), "{:?}", planned.findings);
    let started = world.control.restore_start(&world.admin, wish, None).await.unwrap();
    let id = started.target_environment.id;
    assert_eq!(started.target_environment.status, EnvironmentStatus::Pending);
    assert_eq!(started.target_environment.container.as_deref(), Some(format!("{id}_odoo").as_str()));
    assert_eq!(started.restore_point.target_server_id, server_id);
    let worker = world.worker();
    let task = world.task_over(started.task.id).await;
    worker.stop().await;
    let point = world.point(started.restore_point.id).await;
    assert_eq!((task.status, point.status), (TaskStatus::Completed, RestoreStatus::Completed), "{point:?}");
    assert_eq!(world.plane.deployed(id), Some(DeployStep::Release));
    assert_eq!(world.plane.passwords(id).len(), 1, "every step knows the same");
    assert!(point.undo_until.is_none() && point.pre_restore_backup_id.is_none());
    let environment = world.control.environment_get(&world.admin, id).await.unwrap();
    assert_eq!(environment.status, EnvironmentStatus::Running);
    assert_eq!(environment.odoo_image.as_deref(), Some("odoo:19.0"), "its version's");
    let undo = world.control.restore_undo(&world.admin, point.id, None).await.unwrap_err();
    assert_eq!(undo.code, "not_undoable");
}

async fn a_failure_at_any_step_leaves_nothing(world: World) {
    let backup = world.backed_up().await;
    let steps = [
        ("infrastructure", "infrastructure"),
        ("addons", "addons"),
        ("plan", "validate"),
        ("stage", "stage"),
        ("cut_over", "cut_over"),
        ("make_durable", "make_durable"),
        ("let_out", "release"),
    ];
    for (call, step) in steps {
        world.plane.trip(call, Trip::Fails, 1);
        let point = world.restore_as(to_new(&backup, "again and again")).await;
        let worker = world.worker();
        let task = world.task_over(point.task_id.unwrap()).await;
        worker.stop().await;
        let point = world.point(point.id).await;
        assert_eq!((task.status, point.status), (TaskStatus::Failed, RestoreStatus::Failed), "{call}");
        assert_eq!(point.error_step.as_deref(), Some(step), "{call}");
        nothing_is_left(&world, &point, call).await;
    }
}

async fn a_worker_that_dies_at_any_step_is_followed_by_one_that_completes(world: World) {
    let backup = world.backed_up().await;
    for call in ["infrastructure", "addons", "stage", "cut_over", "make_durable", "let_out"] {
        for trip in [Trip::LostBefore, Trip::LostWithin, Trip::LostAfter] {
            let what = format!("{call} {trip:?}");
            world.plane.trip(call, trip, 1);
            let point = world.restore_as(to_new(&backup, &what)).await;
            let worker = world.worker();
            tokio::time::timeout(SOON, world.plane.lost.notified()).await.expect(call);
            worker.kill().await;
            // It is at work for all that anybody knows: no reconciler takes its environment away.
            Reconcilers::round(&world.control).await.unwrap();
            let next = world.worker();
            let task = world.task_over(point.task_id.unwrap()).await;
            next.stop().await;
            let point = world.point(point.id).await;
            assert_eq!(task.status, TaskStatus::Completed, "{what}: {:?}", point.error_message);
            let id = point.target_environment_id;
            assert_eq!(world.plane.deployed(id), Some(DeployStep::Release), "{what}");
            assert_eq!(world.plane.passwords(id).len(), 1, "{what}");
        }
    }
}

async fn what_is_called_off_leaves_nothing(world: World) {
    let backup = world.backed_up().await;
    for call in ["infrastructure", "addons", "stage", "make_durable", "let_out"] {
        world.plane.trip(call, Trip::Hangs, 1);
        let point = world.restore_as(to_new(&backup, "called off")).await;
        let worker = world.worker();
        tokio::time::timeout(SOON, world.plane.hanging.notified()).await.expect(call);
        world.control.restore_cancel(&world.admin, point.id).await.unwrap();
        let task = world.task_over(point.task_id.unwrap()).await;
        worker.stop().await;
        assert_eq!(task.status, TaskStatus::Cancelled, "{call}");
        nothing_is_left(&world, &point, call).await;
    }
    // One that waits is cancelled at once.
    let point = world.restore_as(to_new(&backup, "called off")).await;
    world.control.restore_cancel(&world.admin, point.id).await.unwrap();
    nothing_is_left(&world, &point, "queued").await;
}

async fn what_a_silent_server_keeps_is_removed_when_it_answers_again(world: World) {
    let backup = world.backed_up().await;
    world.plane.trip("stage", Trip::Fails, 1);
    world.plane.trip("destroy", Trip::Fails, 5);
    let point = world.restore_as(to_new(&backup, "left behind")).await;
    let worker = world.worker();
    let task = world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    assert_eq!(task.status, TaskStatus::Stuck);
    let id = point.target_environment_id;
    assert!(world.plane.deployed(id).is_some());
    // It still takes what it takes.
    let all = world.control.environment_list(&world.admin, world.organisation, None, FIRST).await.unwrap();
    assert_eq!(all.items.len(), 3);
    world.plane.trip("destroy", Trip::Fails, 0);
    Reconcilers::round(&world.control).await.unwrap();
    Reconcilers::round(&world.control).await.unwrap();
    nothing_is_left(&world, &point, "reconciled").await;
    assert_eq!(world.point(point.id).await.status, RestoreStatus::Failed);
}

async fn a_wish_for_a_new_environment_has_to_make_sense(world: World) {
    let backup = world.backed_up().await;
    let control = &world.control;
    let refused =
        async |wish: RestoreWish| control.restore_start(&world.admin, wish, None).await.unwrap_err();
    let wish = || to_new(&backup, "copy");
    assert_eq!(refused(RestoreWish { new_environment: None, ..wish() }).await.code, "new_environment_needed");
    assert_eq!(refused(RestoreWish { include_database: false, ..wish() }).await.code, "database_needed");
    let there = Some(world.staging.id);
    assert_eq!(
        refused(RestoreWish { target_environment_id: there, ..wish() }).await.code,
        "target_contradicts_mode"
    );
    let across = |server_id| RestoreWish {
        mode: Some(RestoreMode::CrossServer),
        new_environment: Some(NewEnvironment { server_id, ..new("copy") }),
        ..wish()
    };
    assert_eq!(refused(across(None)).await.code, "server_needed");
    assert_eq!(refused(across(world.production.server_id)).await.code, "same_server");
    assert_eq!(refused(across(Some(ServerId::generate()))).await.code, "not_found");
    let taken = to_new(&backup, &world.staging.name);
    assert_eq!(refused(taken).await.code, "name_taken");
    let domain = Some("no host name".to_owned());
    let wrong = RestoreWish { new_environment: Some(NewEnvironment { domain, ..new("copy") }), ..wish() };
    assert_eq!(refused(wrong).await.code, "deployment_invalid");
    // Somebody who may restore, but not make environments.
    let member = world.somebody("member@example.com", Some(ProjectRole::Member)).await;
    let denied = control.restore_start(&member, wish(), None).await.unwrap_err();
    assert_eq!(denied.code, "missing_permission");
}

async fn a_server_without_room_is_refused_unless_that_is_accepted(world: World) {
    let backup = world.backed_up().await;
    let server = world.second_server().await;
    let change = undoo_control::ServerChange { cpu_cores_limit: Some(Some(1)), ..Default::default() };
    world.control.server_update(&world.admin, server, change).await.unwrap();
    let wish = |accept: &[&str]| RestoreWish {
        mode: Some(RestoreMode::CrossServer),
        new_environment: Some(NewEnvironment { server_id: Some(server), ..new("copy") }),
        accept: accept.iter().map(|code| (*code).to_owned()).collect(),
        ..RestoreWish::of(backup.id)
    };
    let refused = world.control.restore_start(&world.admin, wish(&[]), None).await.unwrap_err();
    assert_eq!(refused.code, "server_full");
    assert!(refused.message.contains("Insufficient CPU (available: 1, required: 2)"), "{refused}");
    world.control.restore_start(&world.admin, wish(&["server_full"]), None).await.unwrap();
    let change = undoo_control::ServerChange { draining: Some(true), ..Default::default() };
    world.control.server_update(&world.admin, server, change).await.unwrap();
    let refused = world.control.restore_start(&world.admin, wish(&["server_full"]), None).await.unwrap_err();
    assert_eq!(refused.code, "server_draining");
}

async fn an_environment_that_was_made_is_stopped_started_deployed_and_destroyed(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore_as(to_new(&backup, "copy")).await;
    let id = point.target_environment_id;
    let (control, admin) = (&world.control, &world.admin);
    let early = control.environment_do(admin, id, DeployAction::Stop, None, None).await.unwrap_err();
    assert_eq!(early.code, "not_deployed");
    let worker = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    for (action, step, status) in [
        (DeployAction::Stop, DeployStep::Stop, EnvironmentStatus::Stopped),
        (DeployAction::Start, DeployStep::Start, EnvironmentStatus::Running),
        (DeployAction::Deploy, DeployStep::Redeploy, EnvironmentStatus::Running),
    ] {
        let task = control.environment_do(admin, id, action, None, None).await.unwrap();
        assert_eq!(world.task_over(task.id).await.status, TaskStatus::Completed);
        assert_eq!(world.plane.deployed(id), Some(step));
        assert_eq!(control.environment_get(admin, id).await.unwrap().status, status);
    }
    let unsure = control.environment_do(admin, id, DeployAction::Destroy, Some("Copy"), None).await;
    assert_eq!(unsure.unwrap_err().code, "confirmation_missing");
    let task = control.environment_do(admin, id, DeployAction::Destroy, Some("copy"), None).await.unwrap();
    assert_eq!(world.task_over(task.id).await.status, TaskStatus::Completed);
    worker.stop().await;
    nothing_is_left(&world, &point, "destroyed").await;
}

async fn what_was_adopted_is_not_touched(world: World) {
    for action in [DeployAction::Stop, DeployAction::Start, DeployAction::Deploy, DeployAction::Destroy] {
        let id = world.staging.id;
        let refused = world.control.environment_do(&world.admin, id, action, Some("staging"), None).await;
        assert_eq!(refused.unwrap_err().code, "not_deployed");
    }
    let calls = ["stop", "start", "redeploy", "destroy"].map(|call| world.plane.calls(call));
    assert_eq!(calls, [0; 4]);
}
