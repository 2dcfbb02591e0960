//! Environments that a restore makes, and what is done with them afterwards: the source document's fields and
//! status codes, and what is refused.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use serde_json::{Value, json};
use undoo_core::{
    EnvironmentId, ServerId,
    platform::{DeploymentState, Environment, EnvironmentType, Role, Server},
};
use undoo_store::servers;

use crate::{
    place::{Place, server},
    platform::{Answered, Platform},
};

/// Environments of a place.
const BEFORE: usize = 2;
const RESTORE_V2: &str = "/api/v1/backups/restore/v2";

struct World {
    platform: Platform,
    place: Place,
    owner: String,
}

impl World {
    async fn new() -> Self {
        let platform = Platform::on_sqlite().await;
        let place = platform.place(EnvironmentType::Production).await;
        let owner = platform.token_of(Role::OrgOwner, &place).await;
        Self { platform, place, owner }
    }

    /// Asks for a restore of the place's backup to an environment that is made for it.
    async fn restore(&self, token: &str, mode: &str, more: Value) -> Answered {
        let mut new = json!({ "name": "Clone", "environment_type": "staging" });
        merge(&mut new, more);
        let target = json!({ "mode": mode, "new_environment": new });
        let body = json!({ "backup_id": self.place.backup.id, "target": target });
        self.platform.post(RESTORE_V2, token, body).await
    }

    /// Another server of the organisation.
    async fn server(&self, change: impl FnOnce(&mut Server)) -> ServerId {
        let mut server = server(self.place.organisation.id);
        change(&mut server);
        servers::insert(&self.platform.store, &server).await.unwrap();
        server.id
    }

    async fn deployed(&self, state: DeploymentState) -> Environment {
        self.platform.deployed(&self.place, state).await
    }

    async fn act(&self, token: &str, id: EnvironmentId, action: &str, body: Option<Value>) -> Answered {
        let path = format!("/api/v1/environments/{id}/{action}");
        self.platform.ask(Method::POST, &path, token, body).await
    }
}

fn merge(into: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}

#[track_caller]
fn refused(answered: &Answered, status: u16, code: &str) {
    assert_eq!((answered.status.as_u16(), answered.code().as_str()), (status, code), "{}", answered.json());
}

#[tokio::test]
async fn a_restore_to_a_new_environment_answers_201_with_one_that_is_pending_and_has_the_sources_resources() {
    let world = World::new().await;
    let more = json!({ "domain": "clone.example.com", "odoo_image": "acme/odoo:19.0",
        "postgres_image": "pgvector/pgvector:pg15", "http_port": 8070, "odoo_conf": { "workers": "2" } });
    let answered = world.restore(&world.owner, "new", more).await;
    assert_eq!(answered.status, StatusCode::CREATED, "{}", answered.json());
    let answer = answered.json();
    let (point, made) = (&answer["restore_point"], &answer["target_environment"]);
    assert_eq!((&point["is_new_environment"], &point["is_cross_server"]), (&json!(true), &json!(false)));
    assert_eq!((&point["mode"], &point["status"]), (&json!("new"), &json!("pending")));
    assert_eq!(point["target_vm_id"], json!(world.place.server.id));
    assert_eq!(
        (&answer["task"]["task_type"], &answer["task"]["status"]),
        (&json!("restore"), &json!("queued"))
    );
    assert_eq!(point["target_environment_id"], made["id"]);
    let source = &world.place.environment;
    for (field, value) in [
        ("name", json!("Clone")),
        ("environment_type", json!("staging")),
        ("status", json!("pending")),
        ("project_id", json!(source.project_id)),
        ("cpu_cores", json!(source.cpu_cores)),
        ("ram_mb", json!(source.ram_mb)),
        ("disk_gb", json!(source.disk_gb)),
        ("domain", json!("clone.example.com")),
        ("odoo_image", json!("acme/odoo:19.0")),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let path = format!("/api/v1/environments/{}", made["id"].as_str().unwrap());
    let shown = world.platform.get(&path, &world.owner).await;
    let deployment = &shown.json()["deployment"];
    assert_eq!(deployment["state"], "making");
    assert_eq!(deployment["postgres_image"], "pgvector/pgvector:pg15");
    assert_eq!(deployment["http_port"], 8070);
    for secret in ["workers", "sealed", "password"] {
        assert!(!String::from_utf8_lossy(&shown.body).contains(secret), "{secret}: {}", shown.json());
    }
}

#[tokio::test]
async fn a_restore_across_servers_goes_to_a_server_that_is_named_another_one_of_the_organisation_with_room() {
    let world = World::new().await;
    let other = world.server(|_| {}).await;
    let answered = world.restore(&world.owner, "cross_server", json!({ "server_id": other })).await;
    assert_eq!(answered.status, StatusCode::CREATED, "{}", answered.json());
    let point = &answered.json()["restore_point"];
    assert_eq!((&point["is_new_environment"], &point["is_cross_server"]), (&json!(true), &json!(true)));
    assert_eq!(point["target_vm_id"], json!(other));

    let own = world.place.server.id;
    let elsewhere = world.platform.place(EnvironmentType::Staging).await.server.id;
    let draining = world.server(|server| server.draining = true).await;
    let small = world.server(|server| server.has.memory_gb = Some(1)).await;
    for (more, status, code) in [
        (json!({}), 400, "server_needed"),
        (json!({ "server_id": own }), 400, "same_server"),
        (json!({ "server_id": elsewhere }), 404, "not_found"),
        (json!({ "server_id": draining }), 409, "server_draining"),
        (json!({ "server_id": small }), 409, "server_full"),
    ] {
        refused(&world.restore(&world.owner, "cross_server", more).await, status, code);
    }
}

#[tokio::test]
async fn a_new_environment_that_makes_no_sense_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    for (more, status, code) in [
        (json!({ "domain": "not a host" }), 400, "deployment_invalid"),
        (json!({ "odoo_conf": { "db_host": "elsewhere" } }), 400, "deployment_invalid"),
        (json!({ "odoo_conf": { "workers": 2 } }), 422, "invalid_fields"),
        (json!({ "http_port": 65_536 }), 422, "invalid_fields"),
        (json!({ "odoo_image": "odoo 19" }), 422, "invalid_fields"),
        (json!({ "name": world.place.environment.name }), 409, "name_taken"),
    ] {
        refused(&world.restore(&world.owner, "new", more).await, status, code);
    }
    let body = |target: Value| json!({ "backup_id": world.place.backup.id, "target": target });
    let alone = body(json!({ "mode": "new" }));
    refused(&world.platform.post(RESTORE_V2, &world.owner, alone).await, 400, "new_environment_needed");
    let new = json!({ "name": "Clone", "environment_type": "staging" });
    let there = world.place.environment.id;
    let both = body(json!({ "mode": "new", "environment_id": there, "new_environment": new }));
    refused(&world.platform.post(RESTORE_V2, &world.owner, both).await, 400, "target_contradicts_mode");
    for (part, code) in [
        (json!({ "include_database": false }), "database_needed"),
        (json!({ "strategy": "stop_first", "drop_live": "acme" }), "strategy_needs_live"),
    ] {
        let mut body = body(json!({ "mode": "new", "new_environment": new }));
        merge(&mut body, part);
        refused(&world.platform.post(RESTORE_V2, &world.owner, body).await, 400, code);
    }
    let path = format!("/api/v1/environments?project_id={}", world.place.project.id);
    assert_eq!(world.platform.get(&path, &world.owner).await.json().as_array().unwrap().len(), BEFORE);
}

#[tokio::test]
async fn the_plan_of_a_restore_to_a_new_environment_names_no_target_and_makes_none() {
    let world = World::new().await;
    let new = json!({ "name": "Clone", "environment_type": "staging" });
    let body = json!({ "backup_id": world.place.backup.id, "dry_run": true,
        "target": { "mode": "new", "new_environment": new } });
    let answered = world.platform.post(RESTORE_V2, &world.owner, body).await;
    assert_eq!(answered.status, StatusCode::OK, "{}", answered.json());
    let plan = answered.json();
    assert_eq!((&plan["plan"], &plan["target_environment_id"]), (&Value::Null, &Value::Null));
    assert_eq!(plan["can_start"], true);
    let path = format!("/api/v1/environments?project_id={}", world.place.project.id);
    assert_eq!(world.platform.get(&path, &world.owner).await.json().as_array().unwrap().len(), BEFORE);
}

#[tokio::test]
async fn making_an_environment_by_restoring_takes_what_making_one_takes() {
    let world = World::new().await;
    let other = world.server(|_| {}).await;
    for (role, mode, more, permission) in [
        (Role::ProjectMember, "new", json!({}), "project.environments.create"),
        (Role::ProjectAdmin, "new", json!({ "server_id": other }), "org.servers.view"),
        (Role::ProjectAdmin, "cross_server", json!({ "server_id": other }), "org.servers.view"),
    ] {
        let token = world.platform.token_of(role, &world.place).await;
        let answered = world.restore(&token, mode, more).await;
        refused(&answered, 403, "missing_permission");
        assert!(answered.json()["detail"].as_str().unwrap().contains(permission), "{permission}");
    }
    let admin = world.platform.token_of(Role::ProjectAdmin, &world.place).await;
    assert_eq!(world.restore(&admin, "new", json!({})).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_the_platform_has_deployed_is_deployed_again_started_stopped_and_destroyed_as_tasks() {
    let world = World::new().await;
    for action in ["deploy", "start", "stop", "destroy"] {
        let environment = world.deployed(DeploymentState::Deployed).await;
        let body = (action == "destroy").then(|| json!({ "confirm": environment.name }));
        let answered = world.act(&world.owner, environment.id, action, body.clone()).await;
        assert_eq!(answered.status, StatusCode::ACCEPTED, "{action}: {}", answered.json());
        let task = answered.json();
        assert_eq!((&task["task_type"], &task["status"]), (&json!(action), &json!("queued")));
        assert_eq!(task["environment_id"], json!(environment.id));
        let again = world.act(&world.owner, environment.id, action, body).await;
        refused(&again, 409, "environment_busy");
    }
}

#[tokio::test]
async fn an_environment_is_destroyed_only_by_its_name_and_by_who_may_delete_it() {
    let world = World::new().await;
    let id = world.deployed(DeploymentState::Deployed).await.id;
    refused(&world.act(&world.owner, id, "destroy", None).await, 422, "invalid_fields");
    let wrong = json!({ "confirm": "Production" });
    refused(&world.act(&world.owner, id, "destroy", Some(wrong)).await, 400, "confirmation_missing");
    let member = world.platform.token_of(Role::ProjectMember, &world.place).await;
    for (action, permission) in [
        ("deploy", "project.environments.update"),
        ("start", "project.environments.update"),
        ("stop", "project.environments.update"),
        ("destroy", "project.environments.delete"),
    ] {
        let body = (action == "destroy").then(|| json!({ "confirm": "Clone" }));
        let answered = world.act(&member, id, action, body).await;
        refused(&answered, 403, "missing_permission");
        assert!(answered.json()["detail"].as_str().unwrap().contains(permission), "{action}");
    }
    let path = format!("/api/v1/environments/{id}");
    assert_eq!(world.platform.get(&path, &world.owner).await.json()["deployment"]["state"], "deployed");
}

#[tokio::test]
async fn what_was_adopted_or_is_still_being_made_is_not_touched() {
    let world = World::new().await;
    let kind = EnvironmentType::Staging;
    let adopted =
        world.platform.environment(&world.place.project, Some(&world.place.server), None, kind).await;
    let making = world.deployed(DeploymentState::Making).await;
    for environment in [&adopted, &making] {
        for action in ["deploy", "start", "stop", "destroy"] {
            let body = (action == "destroy").then(|| json!({ "confirm": environment.name }));
            let answered = world.act(&world.owner, environment.id, action, body).await;
            refused(&answered, 409, "not_deployed");
        }
    }
    let path = format!("/api/v1/environments/{}", adopted.id);
    assert_eq!(world.platform.get(&path, &world.owner).await.json()["deployment"], Value::Null);
}

#[tokio::test]
async fn what_is_shown_of_a_deployment_holds_no_secret() {
    let world = World::new().await;
    let id = world.deployed(DeploymentState::Deployed).await.id;
    for path in [format!("/api/v1/environments/{id}"), "/api/v1/environments".to_owned()] {
        let shown = world.platform.get(&path, &world.owner).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.json());
        let text = String::from_utf8_lossy(&shown.body);
        assert!(!text.contains("secret") && !text.contains("smtp_password"), "{text}");
    }
}

#[tokio::test]
async fn a_deployment_that_is_asked_for_twice_with_one_key_is_one_task() {
    let world = World::new().await;
    let id = world.deployed(DeploymentState::Deployed).await.id;
    let ask = async || {
        let request = Request::post(format!("/api/v1/environments/{id}/deploy"));
        let request = request.header("authorization", format!("Bearer {}", world.owner));
        let request = request.header("idempotency-key", "one").body(Body::empty()).unwrap();
        world.platform.send(request).await.json()["id"].clone()
    };
    let first = ask().await;
    assert!(first.is_string());
    assert_eq!(first, ask().await);
}
