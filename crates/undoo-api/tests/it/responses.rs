//! What is answered, field by field as the source document shows it.

use serde_json::{Value, json};
use undoo_api::{
    backups::{BackupDownloadResponse, BackupResponse, CompatibleEnvironment, CompatibleServersResponse},
    events::RestoreEvent,
    identity::CreateTokenResponse,
    restores::{Estimate, HeldResponse, RestorePointResponse},
    tasks::TaskResponse,
};
use undoo_core::{
    BackupId, EnvironmentId, Finding, OrganisationId, ProjectId, RestoreId, ServerId, TaskId, UserId,
    platform::{
        Backup, BackupStatus, BackupType, Environment, EnvironmentStatus, EnvironmentType, RestoreMode,
        RestorePoint, RestoreStatus, Task, TaskKind, TaskStatus,
    },
};

fn point() -> RestorePoint {
    RestorePoint {
        id: RestoreId::generate(),
        organisation_id: OrganisationId::generate(),
        project_id: ProjectId::generate(),
        backup_id: BackupId::generate(),
        source_environment_id: EnvironmentId::generate(),
        target_environment_id: EnvironmentId::generate(),
        target_server_id: Some(ServerId::generate()),
        mode: RestoreMode::Original,
        options: json!({}),
        status: RestoreStatus::Pending,
        phase: None,
        progress: 0,
        task_id: Some(TaskId::generate()),
        pre_restore_backup_id: None,
        started_at: None,
        completed_at: None,
        error_message: None,
        error_step: None,
        findings: json!([]),
        held: None,
        report: None,
        undo_until: None,
        created_at: "2025-01-15T10:30:00Z".parse().unwrap(),
        created_by: Some(UserId::generate()),
    }
}

/// Those fields of an answer, and that no other is `null` instead of missing, or missing instead of `null`.
fn fields(answer: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(answer.get(name), Some(value), "{name} in {answer:#}");
    }
}

#[test]
fn a_restore_point_has_the_documents_fields() {
    let point = point();
    let expected = json!({
        "id": point.id,
        "backup_id": point.backup_id,
        "target_environment_id": point.target_environment_id,
        "status": "pending",
        "task_id": point.task_id,
        "pre_restore_backup_id": null,
        "is_new_environment": false,
        "is_cross_server": false,
        "target_vm_id": point.target_server_id,
        "started_at": null,
        "completed_at": null,
        "duration_seconds": null,
        "error_message": null,
        "error_step": null,
        "create_date": "2025-01-15T10:30:00Z",
        "created_by": point.created_by,
    });
    fields(&serde_json::to_value(RestorePointResponse::from(point)).unwrap(), &expected);
}

#[test]
fn a_restore_point_says_how_long_it_took_and_where_it_goes() {
    let ended = |mode| RestorePoint {
        mode,
        status: RestoreStatus::Completed,
        started_at: Some("2025-01-15T10:30:00Z".parse().unwrap()),
        completed_at: Some("2025-01-15T10:33:00Z".parse().unwrap()),
        ..point()
    };
    let response = RestorePointResponse::from(ended(RestoreMode::New));
    assert_eq!(response.duration_seconds, Some(180));
    assert_eq!((response.is_new_environment, response.is_cross_server), (true, false));
    let response = RestorePointResponse::from(ended(RestoreMode::CrossServer));
    assert_eq!((response.is_new_environment, response.is_cross_server), (true, true));
    let response = RestorePointResponse::from(ended(RestoreMode::Existing));
    assert_eq!((response.is_new_environment, response.is_cross_server), (false, false));
}

#[test]
fn a_restore_point_lists_its_findings_and_none_where_none_were_kept() {
    let finding = Finding::needs_acceptance("missing_files", "3 files are missing", "read the list");
    let kept = RestorePoint { findings: json!([finding]), ..point() };
    assert_eq!(RestorePointResponse::from(kept).findings, [finding]);
    let none = RestorePoint { findings: Value::Null, ..point() };
    assert_eq!(RestorePointResponse::from(none).findings, []);
}

#[test]
fn an_answer_that_has_more_fields_than_are_known_is_read_all_the_same() {
    let mut answer = serde_json::to_value(RestorePointResponse::from(point())).unwrap();
    answer["later"] = json!({ "added": true });
    assert!(serde_json::from_value::<RestorePointResponse>(answer).is_ok());
}

#[test]
fn a_task_has_the_documents_fields() {
    let id = TaskId::generate();
    let now = "2025-01-15T10:30:00Z".parse().unwrap();
    let task = Task {
        id,
        organisation_id: OrganisationId::generate(),
        kind: TaskKind::Restore,
        status: TaskStatus::Queued,
        priority: 0,
        environment_id: None,
        server_id: None,
        payload: json!({ "not": "for everybody" }),
        attempts: 0,
        max_attempts: 3,
        epoch: 0,
        worker: Some("worker-1".into()),
        lease_until: None,
        run_after: now,
        progress: None,
        result: None,
        error: None,
        created_by: None,
        created_at: now,
        started_at: None,
        finished_at: None,
    };
    let answer = serde_json::to_value(TaskResponse::from(task)).unwrap();
    let expected =
        json!({ "id": id, "task_type": "restore", "status": "queued", "arq_job_id": id.to_string() });
    fields(&answer, &expected);
    assert!(!answer.to_string().contains("not"), "{answer}");
}

#[test]
fn a_backup_has_the_fields_that_the_document_asks_for() {
    let backup = Backup {
        id: BackupId::generate(),
        organisation_id: OrganisationId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        storage_id: None,
        key: Some("backups/o/e/b.zip".into()),
        status: BackupStatus::Completed,
        backup_type: BackupType::PreRestore,
        description: None,
        include_filestore: true,
        size_bytes: Some(10),
        database_size_bytes: Some(6),
        filestore_size_bytes: Some(4),
        is_verified: true,
        environment_snapshot: Some(json!({ "postgres_version": "15.4" })),
        error_message: None,
        task_id: None,
        created_by: None,
        created_at: "2025-01-15T10:30:00Z".parse().unwrap(),
        completed_at: None,
    };
    let answer = serde_json::to_value(BackupResponse::from(backup)).unwrap();
    assert_eq!(answer["environment_snapshot"]["postgres_version"], "15.4");
    let expected = json!({
        "status": "completed", "backup_type": "pre_restore", "filestore_size_bytes": 4, "error_message": null,
        "is_verified": true, "create_date": "2025-01-15T10:30:00Z",
    });
    fields(&answer, &expected);
}

#[test]
fn a_download_is_the_documents_and_its_addresses_are_not_shown_in_logs() {
    let document = json!({
        "backup_id": BackupId::generate(),
        "expires_in": 3600,
        "urls": { "database": "https://d?sig=x", "filestore": "https://f?sig=x", "zip": "https://z?sig=x" },
    });
    let download: BackupDownloadResponse = serde_json::from_value(document.clone()).unwrap();
    assert!(!format!("{download:?}").contains("sig"));
    assert_eq!(serde_json::to_value(&download).unwrap(), document);
}

#[test]
fn compatible_environments_and_servers_are_the_documents() {
    let environment = Environment {
        id: EnvironmentId::generate(),
        organisation_id: OrganisationId::generate(),
        project_id: ProjectId::generate(),
        name: "Staging".into(),
        environment_type: EnvironmentType::Staging,
        status: EnvironmentStatus::Running,
        server_id: None,
        container: None,
        database_name: None,
        odoo_version: Some("17.0".into()),
        odoo_image: None,
        postgres_version: None,
        domain: None,
        cpu_cores: None,
        ram_mb: None,
        disk_gb: None,
        storage_id: None,
        created_by: None,
        created_at: "2025-01-15T10:30:00Z".parse().unwrap(),
        deleted_at: None,
    };
    let document = json!({
        "id": environment.id,
        "name": "Staging",
        "environment_type": "staging",
        "status": "running",
        "server_name": "Production Server 1",
        "odoo_version": "17.0",
    });
    let compatible = CompatibleEnvironment::new(environment, "Production Server 1".into());
    assert_eq!(serde_json::to_value(compatible).unwrap(), document);

    let document = json!({ "servers": [{
        "id": ServerId::generate(),
        "name": "Development Server 1",
        "ip_address": "192.168.1.101",
        "available_cpu": 2,
        "available_ram_mb": 2048,
        "available_disk_gb": 100,
        "current_environments": 8,
        "recommended": false,
        "has_sufficient_resources": false,
        "incompatibility_reason": "Insufficient CPU (available: 2, required: 4)",
    }] });
    let servers: CompatibleServersResponse = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(servers).unwrap(), document);
}

#[test]
fn the_documents_events_are_read_and_written_as_they_are() {
    let id = RestoreId::generate();
    for event in [
        json!({ "restore_id": id, "backup_id": BackupId::generate(), "environment_id": EnvironmentId::generate() }),
        json!({ "restore_id": id, "status": "downloading", "progress": 25 }),
        json!({ "restore_id": id, "status": "restoring_db", "progress": 50, "phase": "data", "done": 7,
                "total": 9, "unit": "bytes" }),
        json!({ "restore_id": id, "duration_seconds": 180 }),
    ] {
        let read: RestoreEvent = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), event);
    }
}

#[test]
fn what_is_held_is_read_from_what_the_engine_keeps() {
    let held = json!({ "mails": [{ "id": 7, "what": "a@example.com" }], "crons": [] });
    let held = HeldResponse::from(held);
    assert_eq!((held.mails[0].id, held.mails[0].what.as_str(), held.crons.len()), (7, "a@example.com", 0));
    assert_eq!(HeldResponse::from(Value::Null), HeldResponse::default());
}

#[test]
fn a_new_token_is_beside_its_details() {
    let answer = json!({
        "id": undoo_core::TokenId::generate(), "user_id": UserId::generate(), "name": "ci",
        "organization_id": null, "scopes": ["project.backups.restore"], "create_date": "2025-01-15T10:30:00Z",
        "expires_at": null, "revoked_at": null, "last_used_at": null, "token": "geheim",
    });
    let created: CreateTokenResponse = serde_json::from_value(answer).unwrap();
    assert_eq!((created.details.name.as_str(), created.token.expose()), ("ci", "geheim"));
    assert!(!format!("{created:?}").contains("geheim"));
}

#[test]
fn an_estimate_is_what_half_of_the_earlier_restores_did_not_exceed() {
    let median = |took: &[i64]| Estimate::of(took).map(|estimate| estimate.median_seconds);
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[7]), Some(7));
    assert_eq!(median(&[7, 9]), Some(7));
    let estimate = Estimate::of(&[1, 5, 90]).unwrap();
    assert_eq!((estimate.least_seconds, estimate.median_seconds, estimate.most_seconds), (1, 5, 90));
    assert_eq!(estimate.runs, 3);
}
