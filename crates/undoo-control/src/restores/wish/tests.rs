//! Where a wish leads, and what is told about it, on values alone.

use jiff::Timestamp;
use serde_json::json;
use undoo_core::{
    OrganisationId, ProjectId, ServerId,
    platform::{BackupStatus, BackupType, EnvironmentStatus},
};

use super::*;

fn environment(project: ProjectId, kind: EnvironmentType) -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        organisation_id: OrganisationId::generate(),
        project_id: project,
        name: kind.to_string(),
        environment_type: kind,
        status: EnvironmentStatus::Running,
        server_id: Some(ServerId::generate()),
        container: Some("acme_odoo".into()),
        database_name: Some("acme".into()),
        odoo_version: Some("19.0".into()),
        odoo_image: None,
        postgres_version: None,
        domain: None,
        cpu_cores: None,
        ram_mb: None,
        disk_gb: None,
        storage_id: None,
        created_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        deleted_at: None,
    }
}

fn backup_of(environment: &Environment) -> Backup {
    Backup {
        id: BackupId::generate(),
        organisation_id: environment.organisation_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        storage_id: None,
        key: None,
        status: BackupStatus::Completed,
        backup_type: BackupType::Manual,
        description: None,
        include_filestore: true,
        size_bytes: None,
        database_size_bytes: None,
        filestore_size_bytes: None,
        is_verified: true,
        environment_snapshot: Some(json!({ "odoo_version": "18.0" })),
        error_message: None,
        task_id: None,
        created_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        completed_at: None,
    }
}

#[test]
fn in_place_it_recovers_and_elsewhere_it_is_a_neutralized_copy() {
    let project = ProjectId::generate();
    let production = environment(project, EnvironmentType::Production);
    let staging = environment(project, EnvironmentType::Staging);
    let backup = backup_of(&production);
    let in_place = RestoreWish::of(backup.id).settle(&backup, &production, &production).unwrap();
    assert_eq!(
        (in_place.intent, in_place.neutralize, in_place.hold_outgoing),
        (Intent::Recover, false, true)
    );
    let copy = RestoreWish::of(backup.id).settle(&backup, &production, &staging).unwrap();
    assert_eq!((copy.intent, copy.neutralize, copy.hold_outgoing), (Intent::Copy, true, false));
    assert_eq!((copy.safety_backup, copy.undo_window_hours), (SafetyBackup::Needed, 24));
}

#[test]
fn the_first_versions_target_tells_the_mode() {
    let project = ProjectId::generate();
    let production = environment(project, EnvironmentType::Production);
    let staging = environment(project, EnvironmentType::Staging);
    let backup = backup_of(&production);
    let to = |target| RestoreWish { target_environment_id: target, ..RestoreWish::of(backup.id) };
    assert_eq!(to(None).goal(&backup).unwrap(), (RestoreMode::Original, Goal::There(production.id)));
    assert_eq!(
        to(Some(production.id)).goal(&backup).unwrap(),
        (RestoreMode::Original, Goal::There(production.id))
    );
    assert_eq!(to(Some(staging.id)).goal(&backup).unwrap(), (RestoreMode::Existing, Goal::There(staging.id)));
    let contradiction = RestoreWish { mode: Some(RestoreMode::Original), ..to(Some(staging.id)) };
    assert_eq!(contradiction.goal(&backup).unwrap_err().code, "target_contradicts_mode");
}

#[test]
fn another_version_is_a_warning_and_a_target_without_a_server_is_refused() {
    let project = ProjectId::generate();
    let production = environment(project, EnvironmentType::Production);
    let backup = backup_of(&production);
    let wish = RestoreWish::of(backup.id);
    let settled = wish.settle(&backup, &production, &production).unwrap();
    let found = findings(&backup, &production, &settled);
    assert_eq!(found.iter().map(|found| found.code.as_str()).collect::<Vec<_>>(), ["odoo_version_differs"]);
    assert!(!found[0].blocks(&[]));
    let nowhere = Environment { server_id: None, ..production.clone() };
    assert_eq!(wish.settle(&backup, &production, &nowhere).unwrap_err().code, "no_server");
    let running = Backup { status: BackupStatus::Running, ..backup };
    assert_eq!(wish.settle(&running, &production, &production).unwrap_err().code, "backup_not_completed");
}
