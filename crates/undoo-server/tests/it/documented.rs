//! The source document's endpoints: its fields, its status codes, its bounds.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use undoo_core::{
    BackupId, EnvironmentId, RestoreId,
    platform::{BackupStatus, EnvironmentType, RestoreStatus, Role},
};
use undoo_store::restore_points;

use crate::{
    place::Place,
    platform::{Answered, Platform},
};

const RESTORE: &str = "/api/v1/backups/restore";
const RESTORE_V2: &str = "/api/v1/backups/restore/v2";

struct World {
    platform: Platform,
    place: Place,
    admin: String,
}

impl World {
    async fn new() -> Self {
        let platform = Platform::on_sqlite().await;
        let place = platform.place(EnvironmentType::Production).await;
        let admin = platform.token_of(Role::ProjectAdmin, &place).await;
        Self { platform, place, admin }
    }

    /// An environment of the same project with nothing at work in it.
    async fn idle(&self, kind: EnvironmentType) -> EnvironmentId {
        let (server, storage) = (Some(&self.place.server), Some(self.place.storage.id));
        self.platform.environment(&self.place.project, server, storage, kind).await.id
    }

    async fn restore(&self, path: &str, token: &str, body: Value) -> Answered {
        self.platform.post(path, token, body).await
    }
}

#[track_caller]
fn refused(answered: &Answered, status: u16, code: &str) {
    assert_eq!((answered.status.as_u16(), answered.code().as_str()), (status, code), "{}", answered.json());
}

#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is not in {value}");
    }
}

#[tokio::test]
async fn a_restore_of_the_first_version_answers_201_with_the_restore_point() {
    let world = World::new().await;
    let target = world.idle(EnvironmentType::Staging).await;
    let body = json!({ "backup_id": world.place.backup.id, "target_environment_id": target });
    let answered = world.restore(RESTORE, &world.admin, body).await;
    assert_eq!(answered.status, StatusCode::CREATED);
    let point = answered.json();
    has(
        &point,
        &[
            "id",
            "backup_id",
            "target_environment_id",
            "status",
            "task_id",
            "pre_restore_backup_id",
            "is_new_environment",
            "is_cross_server",
            "started_at",
            "completed_at",
            "duration_seconds",
            "error_message",
            "error_step",
            "create_date",
            "created_by",
        ],
    );
    assert_eq!((&point["status"], &point["target_environment_id"]), (&json!("pending"), &json!(target)));
    assert_eq!((&point["is_new_environment"], &point["started_at"]), (&json!(false), &Value::Null));
    let path = format!("/api/v1/restore/{}", point["id"].as_str().unwrap());
    assert_eq!(world.platform.get(&path, &world.admin).await.json(), point);
}

#[tokio::test]
async fn a_restore_of_the_second_version_answers_201_with_restore_point_task_and_target() {
    let world = World::new().await;
    let target = world.idle(EnvironmentType::Staging).await;
    let target_of = json!({ "mode": "existing", "environment_id": target });
    let body = json!({ "backup_id": world.place.backup.id, "target": target_of });
    let answered = world.restore(RESTORE_V2, &world.admin, body).await;
    assert_eq!(answered.status, StatusCode::CREATED, "{}", answered.json());
    let answer = answered.json();
    has(&answer["restore_point"], &["id", "target_vm_id", "status"]);
    assert_eq!(answer["task"]["task_type"], "restore");
    assert_eq!(
        (&answer["task"]["status"], &answer["task"]["arq_job_id"]),
        (&json!("queued"), &answer["task"]["id"])
    );
    assert_eq!(answer["target_environment"]["id"], json!(target));
    has(&answer["target_environment"], &["name", "environment_type", "status"]);
}

#[tokio::test]
async fn a_restore_that_cannot_be_is_refused_with_the_documented_status() {
    let world = World::new().await;
    let World { platform, place, admin } = &world;
    for status in [BackupStatus::Pending, BackupStatus::Running, BackupStatus::Failed, BackupStatus::Deleted]
    {
        let backup = platform.backup_in(place, status).await;
        let answered = world.restore(RESTORE, admin, json!({ "backup_id": backup.id })).await;
        refused(&answered, 400, "backup_not_completed");
    }
    refused(
        &world.restore(RESTORE, admin, json!({ "backup_id": BackupId::generate() })).await,
        404,
        "not_found",
    );
    let body = json!({ "backup_id": place.backup.id, "target_environment_id": EnvironmentId::generate() });
    refused(&world.restore(RESTORE, admin, body).await, 404, "not_found");
    let body = json!({ "backup_id": place.backup.id, "target": { "mode": "existing" } });
    refused(&world.restore(RESTORE_V2, admin, body).await, 400, "target_needed");
    let other = platform.place_in(place.organisation.clone(), EnvironmentType::Staging).await;
    let owner = platform.token_of(Role::OrgOwner, place).await;
    let body = json!({ "backup_id": place.backup.id, "target_environment_id": other.environment.id });
    refused(&world.restore(RESTORE, &owner, body).await, 400, "cross_project");
    // The place's own waiting restore.
    refused(
        &world.restore(RESTORE, admin, json!({ "backup_id": place.backup.id })).await,
        409,
        "environment_busy",
    );
}

#[tokio::test]
async fn a_member_restores_production_to_staging_and_not_the_other_way() {
    let world = World::new().await;
    let member = world.platform.token_of(Role::ProjectMember, &world.place).await;
    let body = json!({ "backup_id": world.place.backup.id });
    let answered = world.restore(RESTORE, &member, body).await;
    refused(&answered, 403, "missing_permission");
    assert!(answered.json()["detail"].as_str().unwrap().contains("project.backups.restore"));
    let staging = world.idle(EnvironmentType::Staging).await;
    let body = json!({ "backup_id": world.place.backup.id, "target_environment_id": staging });
    assert_eq!(world.restore(RESTORE, &member, body).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_waiting_restore_is_cancelled_and_one_that_is_over_is_not() {
    let World { platform, place, admin } = World::new().await;
    let path = format!("/api/v1/restore/{}/cancel", place.restore.id);
    let answered = platform.ask(Method::POST, &path, &admin, None).await;
    assert_eq!((answered.status, &answered.json()["status"]), (StatusCode::OK, &json!("cancelled")));
    refused(&platform.ask(Method::POST, &path, &admin, None).await, 400, "not_cancellable");
    let path = format!("/api/v1/restore/{}/cancel", RestoreId::generate());
    refused(&platform.ask(Method::POST, &path, &admin, None).await, 404, "not_found");
}

#[tokio::test]
async fn restore_points_of_an_environment_are_a_plain_array_that_can_be_narrowed() {
    let World { platform, place, admin } = World::new().await;
    let path = format!("/api/v1/environments/{}/restore-points", place.environment.id);
    let all = platform.get(&path, &admin).await.json();
    assert_eq!(all[0]["id"], json!(place.restore.id), "{all}");
    assert_eq!(platform.get(&format!("{path}?status=completed"), &admin).await.json(), json!([]));
    assert_eq!(platform.get(&format!("{path}?status=pending&page_size=100"), &admin).await.json(), all);
}

#[tokio::test]
async fn what_a_restore_does_not_have_says_so() {
    let World { platform, mut place, admin } = World::new().await;
    let of = |what: &str| format!("/api/v1/restore/{}/{what}", place.restore.id);
    let (held, report, undo, release) = (of("held"), of("report"), of("undo"), of("release"));
    assert_eq!(platform.get(&held, &admin).await.json(), json!({ "mails": [], "crons": [] }));
    assert_eq!(platform.get(&report, &admin).await.json(), json!({ "proven": true }));
    refused(&platform.ask(Method::POST, &undo, &admin, None).await, 400, "not_undoable");
    refused(&platform.ask(Method::POST, &release, &admin, None).await, 400, "nothing_held");
    let before = place.restore.status;
    place.restore.status = RestoreStatus::Completed;
    restore_points::update(&platform.store, &place.restore, before).await.unwrap();
    refused(&platform.ask(Method::POST, &undo, &admin, None).await, 409, "undo_window_over");
}

#[tokio::test]
async fn what_a_backup_can_be_restored_to_comes_in_an_object() {
    let World { platform, place, admin } = World::new().await;
    let path = format!("/api/v1/backups/{}/compatible-environments", place.backup.id);
    let answer = platform.get(&path, &admin).await.json();
    let environment = &answer["environments"][0];
    has(environment, &["id", "name", "environment_type", "status", "server_name", "odoo_version"]);
    assert_eq!(environment["server_name"], json!(place.server.name));
    let path = format!("/api/v1/backups/{}/compatible-servers", place.backup.id);
    refused(&platform.get(&path, &admin).await, 403, "missing_permission");
    let owner = platform.token_of(Role::OrgOwner, &place).await;
    let answer = platform.get(&path, &owner).await.json();
    let server = &answer["servers"][0];
    has(
        server,
        &[
            "id",
            "name",
            "ip_address",
            "available_cpu",
            "available_ram_mb",
            "available_disk_gb",
            "current_environments",
            "recommended",
            "has_sufficient_resources",
            "incompatibility_reason",
        ],
    );
    assert_eq!((&server["available_cpu"], &server["recommended"]), (&json!(5), &json!(true)));
}

#[tokio::test]
async fn a_download_holds_for_an_hour_unless_told_otherwise_and_at_most_a_day() {
    let World { platform, place, admin } = World::new().await;
    let path = format!("/api/v1/backups/{}/download", place.backup.id);
    let answer = platform.get(&path, &admin).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    let answer = answer.json();
    assert_eq!((&answer["backup_id"], &answer["expires_in"]), (&json!(place.backup.id), &json!(3600)));
    has(&answer["urls"], &["database", "filestore", "zip"]);
    let longest = platform.get(&format!("{path}?expires_in=86400"), &admin).await;
    assert_eq!(longest.json()["expires_in"], 86_400);
    for expires_in in [0, 86_401] {
        let answered = platform.get(&format!("{path}?expires_in={expires_in}"), &admin).await;
        refused(&answered, 422, "invalid_fields");
    }
    let waiting = platform.backup_in(&place, BackupStatus::Pending).await;
    let path = format!("/api/v1/backups/{}/download", waiting.id);
    refused(&platform.get(&path, &admin).await, 400, "backup_not_completed");
    let url = answer["urls"]["database"].as_str().unwrap();
    let changed = url.replace("expires=", "expires=1");
    let path = changed.split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    refused(&platform.get(&path, "").await, 403, "link_invalid");
}

#[tokio::test]
async fn a_backup_is_made_by_either_address_and_deleted_only_when_nothing_reads_it() {
    let world = World::new().await;
    let World { platform, place, admin } = &world;
    let (one, other) =
        (world.idle(EnvironmentType::Staging).await, world.idle(EnvironmentType::Staging).await);
    let paths = [
        format!("/api/v1/environments/{one}/backups"),
        format!("/api/v1/backups/environments/{other}/backups"),
    ];
    for path in paths {
        let body = json!({ "backup_type": "manual", "description": "Pre-upgrade safety backup" });
        let answered = platform.post(&path, admin, body).await;
        assert_eq!(answered.status, StatusCode::CREATED, "{}", answered.json());
        assert_eq!(
            (&answered.json()["status"], &answered.json()["backup_type"]),
            (&json!("pending"), &json!("manual"))
        );
    }
    let path = format!("/api/v1/backups/{}", place.backup.id);
    refused(&platform.ask(Method::DELETE, &path, admin, None).await, 409, "backup_in_use");
    let unused = platform.backup_in(place, BackupStatus::Completed).await;
    let path = format!("/api/v1/backups/{}", unused.id);
    let answered = platform.ask(Method::DELETE, &path, admin, None).await;
    assert_eq!((answered.status, &answered.json()["status"]), (StatusCode::OK, &json!("deleting")));
}

#[tokio::test]
async fn a_storage_that_does_not_work_says_at_which_step_and_keeps_its_secrets() {
    let World { platform, place, .. } = World::new().await;
    let owner = platform.token_of(Role::OrgOwner, &place).await;
    let config = json!({ "provider": "minio", "bucket": "b", "access_key": "k", "secret_key": "very-secret",
        "endpoint": "http://127.0.0.1:1", "attempts": 1 });
    let answered = platform.post("/api/v1/backups/storage/test", &owner, config.clone()).await;
    assert_eq!(
        (answered.status, &answered.json()["ok"]),
        (StatusCode::OK, &json!(false)),
        "{}",
        answered.json()
    );
    assert_eq!(answered.json()["steps"][0]["outcome"], "failed");
    let new = json!({ "organization_id": place.organisation.id, "name": "Bucket", "config": config });
    let made = platform.post("/api/v1/storages", &owner, new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
    let path = format!("/api/v1/storages/{}", made.json()["id"].as_str().unwrap());
    for answered in [answered, made, platform.get(&path, &owner).await] {
        assert!(!String::from_utf8_lossy(&answered.body).contains("very-secret"));
    }
    // A folder of the server may be any folder.
    let local = json!({ "provider": "local", "path": "/etc" });
    let answered = platform.post("/api/v1/backups/storage/test", &owner, local).await;
    refused(&answered, 403, "missing_permission");
}

#[tokio::test]
async fn a_server_is_added_when_its_host_key_was_confirmed_and_keeps_its_secrets() {
    let World { platform, place, .. } = World::new().await;
    let owner = platform.token_of(Role::OrgOwner, &place).await;
    let login = json!({ "host": "192.168.1.101", "user": "root", "password": "very-secret" });
    let body = json!({ "organization_id": place.organisation.id, "ssh": login });
    let tested = platform.post("/api/v1/servers/test", &owner, body.clone()).await;
    assert_eq!((tested.status, &tested.json()["ok"]), (StatusCode::OK, &json!(false)), "{}", tested.json());
    assert_eq!(tested.json()["code"], "host_key_unknown");
    let mut new = body;
    new["name"] = json!("Another");
    refused(&platform.post("/api/v1/servers", &owner, new.clone()).await, 403, "host_key_unknown");
    new["ssh"]["host_key"] = tested.json()["host_key"].clone();
    let made = platform.post("/api/v1/servers", &owner, new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
    let server = made.json();
    assert_eq!((&server["status"], &server["docker_version"]), (&json!("online"), &json!("29.0.4")));
    let path = format!("/api/v1/servers/{}", server["id"].as_str().unwrap());
    let drained = platform.ask(Method::PATCH, &path, &owner, Some(json!({ "draining": true }))).await;
    assert_eq!((&drained.json()["draining"], &drained.json()["status"]), (&json!(true), &json!("online")));
    let verified = platform.ask(Method::POST, &format!("{path}/verify"), &owner, None).await;
    assert_eq!((verified.status, &verified.json()["draining"]), (StatusCode::OK, &json!(true)));
    for answered in [tested, made, drained, verified, platform.get(&path, &owner).await] {
        assert!(!String::from_utf8_lossy(&answered.body).contains("very-secret"));
    }
    let used = format!("/api/v1/servers/{}", place.server.id);
    refused(&platform.ask(Method::DELETE, &used, &owner, None).await, 409, "server_in_use");
    let removed = platform.ask(Method::DELETE, &path, &owner, None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    refused(&platform.get(&path, &owner).await, 404, "not_found");
}
