//! Recovery after a loss: planned by what is known, carried out as restores, measured at the end.

use jiff::{SignedDuration, Timestamp};
use undoo_control::{NewStorage, RecoveryState, RecoveryStatus, RecoveryWish, ServerChange};
use undoo_core::{
    BackupId, EnvironmentId, ServerId, StorageId,
    platform::{
        Backup, BackupStatus, BackupType, Environment, EnvironmentType, ProjectRole, RestoreStatus,
        recovery::Gap,
        recovery_plan::{Target, Targets},
    },
};
use undoo_store::{backups, environments};

use crate::{
    fake_plane::{SOON, Trip},
    world::{FIRST, World, on_both},
};

on_both!(
    a_plan_puts_production_first_and_names_what_does_not_come_back,
    what_is_recovered_takes_the_place_of_what_was_lost,
    what_failed_and_what_could_not_begin_is_begun_again,
    a_backup_that_was_lost_too_is_told_from_one_that_is_elsewhere,
    a_plan_has_to_make_sense_and_is_for_who_has_the_servers,
);

/// A storage on no server of ours.
async fn shared(world: &World) -> StorageId {
    let config = serde_json::json!({ "provider": "minio", "bucket": "b", "access_key": "k", "secret_key": "s",
                                     "endpoint": "http://127.0.0.1:1" });
    let new = NewStorage {
        organisation_id: world.organisation,
        name: "shared".into(),
        config: serde_json::from_value(config).unwrap(),
        is_default: false,
    };
    world.control.storage_create(&world.admin, new).await.unwrap().id
}

/// A backup of an environment, so many hours old.
async fn backup(world: &World, of: &Environment, storage: StorageId, verified: bool, hours: i64) -> BackupId {
    let at = Timestamp::now() - SignedDuration::from_hours(hours);
    let backup = Backup {
        id: BackupId::generate(),
        organisation_id: of.organisation_id,
        project_id: of.project_id,
        environment_id: of.id,
        storage_id: Some(storage),
        key: Some(format!("backups/{}", of.id)),
        status: BackupStatus::Completed,
        backup_type: BackupType::Scheduled,
        description: None,
        include_filestore: true,
        size_bytes: Some(1 << 30),
        database_size_bytes: None,
        filestore_size_bytes: None,
        is_verified: verified,
        environment_snapshot: None,
        error_message: None,
        task_id: None,
        created_by: None,
        created_at: at,
        completed_at: Some(at),
    };
    backups::insert(world.control.store(), &backup).await.unwrap();
    backup.id
}

/// A third environment beside production and staging.
async fn development(world: &World) -> Environment {
    let environment = Environment {
        id: EnvironmentId::generate(),
        name: "try".into(),
        environment_type: EnvironmentType::Development,
        container: Some("try_odoo".into()),
        ..world.staging.clone()
    };
    environments::insert(world.control.store(), &environment).await.unwrap();
    environment
}

fn wish(world: &World) -> RecoveryWish {
    RecoveryWish {
        organisation_id: world.organisation,
        lost_servers: vec![world.production.server_id.unwrap()],
        environments: Vec::new(),
        to: Vec::new(),
        unverified: Vec::new(),
        lost_at: None,
        targets: Targets::default(),
    }
}

/// The plan, once nothing of it runs any more.
async fn over(world: &World, state: &RecoveryState) -> RecoveryState {
    let over = async {
        loop {
            let now = world.control.recovery_get(&world.admin, state.plan.id).await.unwrap();
            if now.status != RecoveryStatus::Running {
                return now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, over).await.expect("it ends")
}

async fn environments(world: &World) -> Vec<String> {
    let all = world.control.environment_list(&world.admin, world.organisation, None, FIRST).await.unwrap();
    let mut names: Vec<String> = all.items.into_iter().map(|one| one.name).collect();
    names.sort();
    names
}

async fn a_plan_puts_production_first_and_names_what_does_not_come_back(world: World) {
    let (second, storage) = (world.second_server().await, shared(&world).await);
    let development = development(&world).await;
    let old = backup(&world, &world.production, storage, true, 5).await;
    backup(&world, &world.production, storage, false, 1).await;
    let newest = backup(&world, &world.staging, storage, false, 2).await;
    let lost_at = Timestamp::now();
    let asked = RecoveryWish { lost_at: Some(lost_at), ..wish(&world) };
    let state = world.control.recovery_plan(&world.admin, asked.clone()).await.unwrap();
    assert_eq!(state.status, RecoveryStatus::Planned);
    let plan = &state.plan;
    let order: Vec<EnvironmentId> = plan.entries.iter().map(|entry| entry.recovery.environment).collect();
    assert_eq!(order, [world.production.id, world.staging.id, development.id]);
    let assigned = plan.entries[0].recovery.outcome.as_ref().unwrap();
    assert_eq!((assigned.server, assigned.backup), (second, old), "the newest that was verified");
    assert_eq!(assigned.data_loss.as_hours(), 5);
    assert_eq!(plan.entries[1].recovery.outcome, Err(Gap::NoVerifiedBackup { newest }));
    assert_eq!(plan.entries[2].recovery.outcome, Err(Gap::NoBackup));
    assert_eq!(plan.findings[0].code, "server_answers");
    assert_eq!(environments(&world).await, ["production", "staging", "try"]);

    let chosen = RecoveryWish { unverified: vec![world.staging.id], ..asked };
    let state = world.control.recovery_plan(&world.admin, chosen).await.unwrap();
    assert_eq!(state.plan.entries[1].recovery.outcome.as_ref().unwrap().backup, newest);
    // It is kept, and found again.
    let listed = world.control.recovery_list(&world.admin, world.organisation, FIRST).await.unwrap();
    assert_eq!((listed.total, listed.items[0].plan.clone()), (2, state.plan));
}

async fn what_is_recovered_takes_the_place_of_what_was_lost(world: World) {
    let (second, storage) = (world.second_server().await, shared(&world).await);
    backup(&world, &world.production, storage, true, 5).await;
    backup(&world, &world.staging, storage, true, 48).await;
    let state = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap();
    let id = state.plan.id;
    let started = world.control.recovery_start(&world.admin, id).await.unwrap();
    assert_eq!(started.status, RecoveryStatus::Running, "{started:?}");
    let restores: Vec<_> = started.plan.entries.iter().map(|entry| entry.restore).collect();
    // Whoever did not hear the answer asks again.
    let again = world.control.recovery_start(&world.admin, id).await.unwrap();
    assert_eq!(again.plan.entries.iter().map(|entry| entry.restore).collect::<Vec<_>>(), restores);
    let worker = world.worker();
    let done = over(&world, &started).await;
    worker.stop().await;
    assert_eq!(done.status, RecoveryStatus::Completed, "{done:?}");
    let [production, staging] = &done.entries[..] else { panic!() };
    assert_eq!((production.met, staging.met), (Some(true), Some(false)), "two days of staging are lost");
    let point = production.restore.as_ref().unwrap();
    assert_eq!((point.status, point.target_server_id), (RestoreStatus::Completed, Some(second)));
    assert_eq!((&point.options["intent"], &point.options["neutralize"]), (&"move".into(), &false.into()));
    assert_eq!(point.options["hold_outgoing"], true);
    assert_eq!(staging.restore.as_ref().unwrap().options["hold_outgoing"], false);

    let names = environments(&world).await;
    let lost = |name: &str| names.iter().any(|other| other.starts_with(&format!("{name} (lost 20")));
    assert!(names.len() == 4 && lost("production") && lost("staging"), "{names:?}");
    let new = world.control.environment_get(&world.admin, point.target_environment_id).await.unwrap();
    assert_eq!((new.name.as_str(), new.environment_type), ("production", EnvironmentType::Production));

    let report = done.report.unwrap();
    assert!(report.holds(b"undoo recovery 1\n"));
    let told: serde_json::Value = serde_json::from_str(&report.report).unwrap();
    assert_eq!((&told["status"], &told["environments"][0]["met"]), (&"completed".into(), &true.into()));
    assert!(told["environments"][0]["data_loss_seconds"].as_i64().unwrap() >= 5 * 3600);

    // Nothing is brought back twice.
    let again = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap_err();
    assert_eq!(again.code, "nothing_lost");
    let late = development(&world).await;
    let rest = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap().plan;
    assert_eq!((rest.entries.len(), rest.entries[0].recovery.environment), (1, late.id));
    assert!(rest.findings.iter().any(|finding| finding.code == "recovered_already"), "{rest:?}");
}

async fn what_failed_and_what_could_not_begin_is_begun_again(world: World) {
    let (second, storage) = (world.second_server().await, shared(&world).await);
    backup(&world, &world.production, storage, true, 1).await;
    backup(&world, &world.staging, storage, true, 1).await;
    let state = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap();
    let id = state.plan.id;
    // Room for one is left when it is carried out.
    let limit = |cores| ServerChange { cpu_cores_limit: Some(Some(cores)), ..ServerChange::default() };
    world.control.server_update(&world.admin, second, limit(2)).await.unwrap();
    for environment in [&world.production, &world.staging] {
        let mut sized = environments::get(world.control.store(), environment.id).await.unwrap().unwrap();
        sized.cpu_cores = Some(2);
        environments::update(world.control.store(), &sized).await.unwrap();
    }
    world.plane.trip("stage", Trip::Fails, 1);
    let started = world.control.recovery_start(&world.admin, id).await.unwrap();
    let refused = started.plan.entries[1].refused.as_ref().unwrap();
    assert_eq!(refused.code, "server_full");
    assert!(refused.message.contains("Insufficient CPU"), "{refused:?}");
    let worker = world.worker();
    let failed = over(&world, &started).await;
    assert_eq!(failed.status, RecoveryStatus::Incomplete);
    assert_eq!(failed.entries[0].restore.as_ref().unwrap().status, RestoreStatus::Failed);
    let told: serde_json::Value = serde_json::from_str(&failed.report.unwrap().report).unwrap();
    let outcomes = [0, 1].map(|at| told["environments"][at]["outcome"].as_str().unwrap().to_owned());
    assert_eq!(outcomes, ["failed", "server_full"]);

    world.control.server_update(&world.admin, second, limit(8)).await.unwrap();
    let again = world.control.recovery_start(&world.admin, id).await.unwrap();
    assert_eq!(again.plan.entries[1].refused, None);
    assert_eq!(again.plan.started_at, started.plan.started_at, "it is measured from the first start");
    let done = over(&world, &again).await;
    worker.stop().await;
    assert_eq!(done.status, RecoveryStatus::Completed, "{done:?}");
    assert_ne!(done.plan.entries[0].restore, failed.plan.entries[0].restore);
}

async fn a_backup_that_was_lost_too_is_told_from_one_that_is_elsewhere(world: World) {
    let local = world.control.storage_list(&world.admin, world.organisation, FIRST).await.unwrap().items;
    let second = world.second_server().await;
    backup(&world, &world.production, local[0].id, true, 1).await;
    let state = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap();
    assert_eq!(state.plan.entries[0].recovery.outcome, Err(Gap::BackupLost));
    // An older one elsewhere goes before a newer one that is gone.
    let reached = backup(&world, &world.production, shared(&world).await, true, 30).await;
    let state = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap();
    assert_eq!(state.plan.entries[0].recovery.outcome.as_ref().unwrap().backup, reached);
    // Nothing goes to a server that drains.
    let drains = ServerChange { draining: Some(true), ..ServerChange::default() };
    world.control.server_update(&world.admin, second, drains).await.unwrap();
    let state = world.control.recovery_plan(&world.admin, wish(&world)).await.unwrap();
    assert_eq!(state.plan.entries[0].recovery.outcome, Err(Gap::NoRoom));
}

async fn a_plan_has_to_make_sense_and_is_for_who_has_the_servers(world: World) {
    let control = &world.control;
    let refused =
        async |wish: RecoveryWish| control.recovery_plan(&world.admin, wish).await.unwrap_err().code;
    assert_eq!(refused(RecoveryWish { lost_servers: Vec::new(), ..wish(&world) }).await, "nothing_lost");
    let unknown = vec![ServerId::generate()];
    assert_eq!(refused(RecoveryWish { lost_servers: unknown.clone(), ..wish(&world) }).await, "not_found");
    assert_eq!(refused(RecoveryWish { to: unknown, ..wish(&world) }).await, "not_found");
    let environments = vec![EnvironmentId::generate()];
    assert_eq!(refused(RecoveryWish { environments, ..wish(&world) }).await, "not_found");
    let tomorrow = Some(Timestamp::now() + SignedDuration::from_hours(24));
    assert_eq!(refused(RecoveryWish { lost_at: tomorrow, ..wish(&world) }).await, "lost_at_invalid");

    let target = Target { recovery_seconds: 60, data_loss_seconds: 0 };
    let targets = Targets { production: target, ..Targets::default() };
    let chosen = RecoveryWish {
        lost_servers: Vec::new(),
        environments: vec![world.production.id],
        targets,
        ..wish(&world)
    };
    let state = control.recovery_plan(&world.admin, chosen).await.unwrap();
    assert_eq!((state.entries.len(), state.entries[0].target), (1, target));
    assert_eq!(state.plan.findings[0].code, "server_answers", "its Odoo may run there still");
    let member = world.somebody("member@example.com", Some(ProjectRole::Admin)).await;
    let denied = control.recovery_start(&member, state.plan.id).await.unwrap_err();
    assert_eq!(denied.code, "missing_permission");
    assert_eq!(control.recovery_plan(&member, wish(&world)).await.unwrap_err().code, "missing_permission");
}
