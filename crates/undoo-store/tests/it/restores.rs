//! Backups and restore points: what is written is what is read, and nobody overtakes anybody.

use jiff::SignedDuration;
use serde_json::json;
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, RestoreId,
    platform::{Backup, BackupStatus, BackupType, Environment, RestoreMode, RestorePoint, RestoreStatus},
};
use undoo_store::{
    Page,
    backups::{self, BackupFilter},
    environments, people, restore_points, servers,
};

use crate::world::{World, environment, now, on_both, project};

on_both!(
    a_backup_is_read_back_as_it_was_written,
    a_backup_moves_only_from_where_it_is_expected_and_legally,
    backups_are_listed_newest_first_and_counted,
    a_restore_point_is_read_back_as_it_was_written,
    a_restore_moves_only_from_where_it_is_expected_and_legally,
    the_newest_live_restore_is_found,
    a_backup_in_use_is_known,
    expired_undo_pairs_are_found_the_longest_first,
    a_kept_pair_has_a_server_and_a_size,
    an_error_with_a_strange_character_is_kept_all_the_same,
);

async fn a_backup_is_read_back_as_it_was_written(world: World) {
    let backup = world.backup();
    backups::insert(&world.store, &backup).await.unwrap();
    assert_eq!(backups::get(&world.store, backup.id).await.unwrap(), Some(backup.clone()));
    assert_eq!(backups::get(&world.store, BackupId::generate()).await.unwrap(), None);
    assert_eq!(backups::insert(&world.store, &backup).await.unwrap_err().code, "exists_already");
    let nowhere = Backup { id: BackupId::generate(), environment_id: EnvironmentId::generate(), ..backup };
    assert_eq!(backups::insert(&world.store, &nowhere).await.unwrap_err().code, "gone_meanwhile");
}

async fn a_backup_moves_only_from_where_it_is_expected_and_legally(world: World) {
    let mut backup = world.backup();
    backups::insert(&world.store, &backup).await.unwrap();
    backup.status = BackupStatus::Running;
    backups::update(&world.store, &backup, BackupStatus::Pending).await.unwrap();
    let again = backups::update(&world.store, &backup, BackupStatus::Pending).await.unwrap_err();
    assert_eq!(again.code, "changed_meanwhile");
    backup.size_bytes = Some(1);
    backups::update(&world.store, &backup, BackupStatus::Running).await.unwrap();
    assert_eq!(backups::get(&world.store, backup.id).await.unwrap().unwrap(), backup);
    backup.status = BackupStatus::Deleted;
    let illegal = backups::update(&world.store, &backup, BackupStatus::Running).await.unwrap_err();
    assert_eq!(illegal.code, "store_misuse");
    backup.status = BackupStatus::Completed;
    backup.id = BackupId::generate();
    let missing = backups::update(&world.store, &backup, BackupStatus::Running).await.unwrap_err();
    assert_eq!(missing.code, "changed_meanwhile");
}

async fn backups_are_listed_newest_first_and_counted(world: World) {
    let other = project(world.organisation.id, "Other");
    people::project_insert(&world.store, &other).await.unwrap();
    let elsewhere = environment(&other, "elsewhere");
    environments::insert(&world.store, &elsewhere).await.unwrap();
    let mut all = Vec::new();
    for number in 0..7 {
        let mut backup = world.backup();
        backup.created_at += SignedDuration::from_secs(number);
        if number % 2 == 1 {
            backup.backup_type = BackupType::PreRestore;
        }
        if number == 6 {
            (backup.project_id, backup.environment_id) = (other.id, elsewhere.id);
        }
        backups::insert(&world.store, &backup).await.unwrap();
        all.insert(0, Backup { environment_snapshot: None, ..backup });
    }
    let (environment, organisation, others) = (world.environment.id, world.organisation.id, [other.id]);
    let any = BackupFilter::default();
    let mut walked = Vec::new();
    for page in 1..=3 {
        let page = Page { page, size: 3 };
        let listed = backups::of_environment(&world.store, environment, any, page).await.unwrap();
        assert_eq!(listed.total, 6);
        walked.extend(listed.items);
    }
    assert_eq!(walked, all[1..]);
    let page = Page { page: 9, size: 3 };
    let beyond = backups::of_environment(&world.store, environment, any, page).await.unwrap();
    assert_eq!((beyond.items.len(), beyond.total), (0, 6));
    let page = Page { page: u64::MAX, size: u64::MAX };
    let beyond = backups::of_environment(&world.store, environment, any, page).await.unwrap();
    assert_eq!((beyond.items.len(), beyond.total), (0, 6));
    let page = Page::default();
    let safety = BackupFilter { backup_type: Some(BackupType::PreRestore), ..any };
    assert_eq!(backups::of_environment(&world.store, environment, safety, page).await.unwrap().total, 3);
    let failed = BackupFilter { status: Some(BackupStatus::Failed), ..any };
    assert_eq!(backups::of_environment(&world.store, environment, failed, page).await.unwrap().total, 0);
    let of = async |projects| backups::of_organisation(&world.store, organisation, projects, any, page).await;
    assert_eq!(of(None).await.unwrap().items, all);
    assert_eq!(of(Some(&others)).await.unwrap().items, all[..1]);
    assert_eq!(of(Some(&[])).await.unwrap().total, 0);
}

async fn point(world: &World) -> RestorePoint {
    let backup = world.backup();
    backups::insert(&world.store, &backup).await.unwrap();
    RestorePoint {
        id: RestoreId::generate(),
        organisation_id: world.organisation.id,
        project_id: world.project.id,
        backup_id: backup.id,
        source_environment_id: world.environment.id,
        target_environment_id: world.environment.id,
        target_server_id: Some(world.server.id),
        mode: RestoreMode::Original,
        options: json!({ "neutralize": true }),
        status: RestoreStatus::Pending,
        phase: None,
        progress: 0,
        task_id: None,
        pre_restore_backup_id: None,
        started_at: None,
        completed_at: None,
        error_message: None,
        error_step: None,
        findings: json!([]),
        held: None,
        report: None,
        undo_until: None,
        created_at: now(),
        created_by: Some(world.user.id),
    }
}

async fn inserted(world: &World, status: RestoreStatus) -> RestorePoint {
    let point = RestorePoint { status, ..point(world).await };
    restore_points::insert(&world.store, &point).await.unwrap();
    point
}

async fn a_restore_point_is_read_back_as_it_was_written(world: World) {
    let mut point = inserted(&world, RestoreStatus::Pending).await;
    assert_eq!(restore_points::get(&world.store, point.id).await.unwrap().unwrap(), point);
    point.status = RestoreStatus::Completed;
    (point.started_at, point.completed_at, point.undo_until) = (Some(now()), Some(now()), Some(now()));
    point.report = Some(json!({ "signature": "…" }));
    point.held = Some(json!(null));
    restore_points::update(&world.store, &point, RestoreStatus::Pending).await.unwrap();
    assert_eq!(restore_points::get(&world.store, point.id).await.unwrap().unwrap(), point);
    assert_eq!(restore_points::get(&world.store, RestoreId::generate()).await.unwrap(), None);
}

async fn a_restore_moves_only_from_where_it_is_expected_and_legally(world: World) {
    let mut point = inserted(&world, RestoreStatus::Pending).await;
    point.status = RestoreStatus::Verifying;
    restore_points::update(&world.store, &point, RestoreStatus::Pending).await.unwrap();
    let again = restore_points::update(&world.store, &point, RestoreStatus::Pending).await.unwrap_err();
    assert_eq!(again.code, "changed_meanwhile");
    point.status = RestoreStatus::Undone;
    let illegal = restore_points::update(&world.store, &point, RestoreStatus::Verifying).await.unwrap_err();
    assert_eq!(illegal.code, "store_misuse");
}

async fn the_newest_live_restore_is_found(world: World) {
    let target = world.environment.id;
    assert_eq!(restore_points::newest_live_of(&world.store, target).await.unwrap(), None);
    inserted(&world, RestoreStatus::Completed).await;
    let undone = inserted(&world, RestoreStatus::Undone).await;
    inserted(&world, RestoreStatus::Failed).await;
    inserted(&world, RestoreStatus::Pending).await;
    assert_eq!(restore_points::newest_live_of(&world.store, target).await.unwrap(), Some(undone));
    let page = Page::default();
    let listed = restore_points::of_environment(&world.store, target, None, page).await.unwrap();
    assert_eq!(listed.total, 4);
    assert!(listed.items.is_sorted_by_key(|point| std::cmp::Reverse(point.created_at)));
    let failed = Some(RestoreStatus::Failed);
    assert_eq!(restore_points::of_environment(&world.store, target, failed, page).await.unwrap().total, 1);
}

async fn a_backup_in_use_is_known(world: World) {
    for status in RestoreStatus::ALL {
        let point = inserted(&world, *status).await;
        let used = restore_points::using_backup(&world.store, point.backup_id).await.unwrap();
        let expected = !status.is_final() || *status == RestoreStatus::Stuck;
        assert_eq!(used, expected, "{status}");
    }
    assert!(!restore_points::using_backup(&world.store, BackupId::generate()).await.unwrap());
}

async fn expired_undo_pairs_are_found_the_longest_first(world: World) {
    let mut expected = Vec::new();
    for (minutes, status) in
        [(10, RestoreStatus::Completed), (30, RestoreStatus::Undone), (20, RestoreStatus::Stuck)]
    {
        let mut point = point(&world).await;
        point.status = status;
        point.undo_until = Some(now() - SignedDuration::from_mins(minutes));
        restore_points::insert(&world.store, &point).await.unwrap();
        expected.insert(0, point.id);
    }
    let mut still = point(&world).await;
    (still.status, still.undo_until) = (RestoreStatus::Completed, Some(now() + SignedDuration::from_mins(1)));
    restore_points::insert(&world.store, &still).await.unwrap();
    inserted(&world, RestoreStatus::Completed).await;
    let found = restore_points::with_expired_undo(&world.store, now(), 10).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|point| point.id).collect();
    assert_eq!(found, expected[1..]);
    let one = restore_points::with_expired_undo(&world.store, now(), 1).await.unwrap();
    assert_eq!(one.len(), 1);
}

async fn a_kept_pair_has_a_server_and_a_size(world: World) {
    let (store, server) = (&world.store, world.server.id);
    let placed = Environment { server_id: Some(server), ..world.environment.clone() };
    environments::update(store, &placed).await.unwrap();
    let mut safety = world.backup();
    (safety.database_size_bytes, safety.filestore_size_bytes) = (Some(40), Some(2));
    backups::insert(store, &safety).await.unwrap();
    let mut with_safety = point(&world).await;
    (with_safety.status, with_safety.undo_until) = (RestoreStatus::Completed, Some(now()));
    with_safety.pre_restore_backup_id = Some(safety.id);
    restore_points::insert(store, &with_safety).await.unwrap();
    inserted(&world, RestoreStatus::Stuck).await;
    inserted(&world, RestoreStatus::Completed).await;
    let mut kept = restore_points::kept_on_servers(store, world.organisation.id).await.unwrap();
    kept.sort_by_key(|(_, bytes)| *bytes);
    assert_eq!(kept, [(server, 42), (server, 3_000_000_000)]);
    assert_eq!(restore_points::kept_on_servers(store, OrganisationId::generate()).await.unwrap(), []);
    let deleted = Environment { deleted_at: Some(now()), ..placed };
    environments::update(store, &deleted).await.unwrap();
    let used = servers::in_use(store, server).await.unwrap();
    assert_eq!((used.environment, used.kept_pair), (None, Some(with_safety.id)));
}

async fn an_error_with_a_strange_character_is_kept_all_the_same(world: World) {
    let mut point = point(&world).await;
    point.error_message = Some("table \"a\0b\" is no table".into());
    point.findings = json!(["a\0b"]);
    restore_points::insert(&world.store, &point).await.unwrap();
    let read = restore_points::get(&world.store, point.id).await.unwrap().unwrap();
    assert_eq!(read.error_message.as_deref(), Some("table \"a\u{FFFD}b\" is no table"));
    assert_eq!(read.findings, point.findings);
}
