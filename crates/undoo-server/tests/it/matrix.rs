//! Who may do what, asked of every operation of the document as every role, on what is theirs, another
//! project's and another organisation's. What has to come out is told by `x-permission`, `x-scope` and the
//! table of permissions in `undoo-core`; an operation that says nothing fails.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use undoo_core::platform::{Decision, EnvironmentType, Grants, Permission, Role, Scope};

use crate::{
    place::Place,
    plane::HOST_KEY,
    platform::{Answered, Platform},
};

/// Where what an operation is asked for is, as seen from the caller's role.
const PLACES: [&str; 4] = ["own staging", "own production", "other project", "other organisation"];

struct Operation {
    id: String,
    method: Method,
    path: String,
    parameters: Vec<(String, String)>,
    has_body: bool,
    permission: String,
    scope: String,
    also: Vec<Permission>,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(undoo_server::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters = parameters.map(|one| {
                (one["name"].as_str().unwrap().to_owned(), one["in"].as_str().unwrap().to_owned())
            });
            let also = operation["x-also"].as_array().into_iter().flatten();
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                parameters: parameters.collect(),
                has_body: !operation["requestBody"].is_null(),
                permission: text("x-permission"),
                scope: text("x-scope"),
                also: also.map(|one| one.as_str().unwrap().parse().unwrap()).collect(),
                id,
            });
        }
    }
    operations
}

#[test]
fn every_operation_says_which_permission_it_takes_and_what_on() {
    let operations = operations();
    assert!(operations.len() > 40, "only {} operations", operations.len());
    for Operation { id, permission, scope, .. } in operations {
        match permission.as_str() {
            undoo_server::PUBLIC | undoo_server::SIGNED_IN => assert_eq!(scope, "", "{id}"),
            permission => {
                permission
                    .parse::<Permission>()
                    .unwrap_or_else(|error| panic!("{id}: x-permission: {error}"));
                let known = ["platform", "organization", "project", "environment"];
                assert!(
                    known.contains(&scope.as_str()),
                    "{id}: x-scope: \"{scope}\" is not one of {known:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_every_role_as_the_table_of_permissions_says() {
    let platform = Platform::on_sqlite().await;
    let roles = Role::ALL.iter().copied().map(Some).chain([None]);
    let roles: Vec<Option<Role>> = roles.collect();
    let mut wrong = Vec::new();
    for operation in operations() {
        for role in &roles {
            let asked = PLACES.map(|place| check(&platform, &operation, *role, place));
            for (place, answered) in PLACES.iter().zip(join_all(asked).await) {
                if let Err(why) = answered {
                    let role = role.map_or("nobody", Role::as_str);
                    wrong.push(format!("{} as {role} on {place}: {why}", operation.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Asks one operation as one role about one place, everything made for it alone.
async fn check(
    platform: &Platform,
    operation: &Operation,
    role: Option<Role>,
    place: &str,
) -> Result<(), String> {
    let home = platform.place(EnvironmentType::Staging).await;
    let away = match place {
        "own staging" => None,
        "own production" => {
            let (organisation, project) = (home.organisation.clone(), home.project.clone());
            Some(platform.place_of(organisation, project, EnvironmentType::Production).await)
        }
        "other project" => Some(platform.place_in(home.organisation.clone(), EnvironmentType::Staging).await),
        _ => Some(platform.place(EnvironmentType::Staging).await),
    };
    let user = match role {
        Some(role) => platform.with_role(role, &home).await,
        None => platform.user(false).await,
    };
    let grants = platform.caller(&user).await.grants;
    let place = away.as_ref().unwrap_or(&home);
    let signed_out = platform.send(request(operation, place, None)).await;
    let session = platform.session(&user).await;
    let answered = platform.send(request(operation, place, Some(&session))).await;
    judge(operation, place, &grants, &signed_out, &answered)
}

fn judge(
    operation: &Operation,
    place: &Place,
    grants: &Grants,
    signed_out: &Answered,
    answered: &Answered,
) -> Result<(), String> {
    let got = || format!("{} {}", answered.status, answered.code());
    if operation.permission == undoo_server::PUBLIC {
        let lets_in = signed_out.code() != "not_signed_in" && !signed_out.status.is_server_error();
        return lets_in.then_some(()).ok_or(format!(
            "signed out: {} {}",
            signed_out.status,
            signed_out.code()
        ));
    }
    if (signed_out.status, signed_out.code().as_str()) != (StatusCode::UNAUTHORIZED, "not_signed_in") {
        return Err(format!("signed out: {} {}", signed_out.status, signed_out.code()));
    }
    if answered.status.is_server_error() && answered.code() != "out_of_reach" {
        return Err(got());
    }
    if operation.permission == undoo_server::SIGNED_IN {
        let refused = ["missing_permission", "not_signed_in"].contains(&answered.code().as_str());
        return if refused { Err(got()) } else { Ok(()) };
    }
    let permission = operation.permission.parse().unwrap();
    let decided = grants.decide(permission, scope(&operation.scope, place));
    // What is asked for besides is asked of the organisation.
    let besides = operation.also.iter();
    let besides = besides.map(|also| grants.decide(*also, Scope::Organisation(place.organisation.id)));
    let decided = std::iter::once(decided).chain(besides).find(|one| *one != Decision::Granted);
    match decided.unwrap_or(Decision::Granted) {
        Decision::Granted => match answered.code().as_str() {
            "missing_permission" | "not_found" | "not_signed_in" => {
                Err(format!("{}, and it is granted", got()))
            }
            _ => Ok(()),
        },
        Decision::Unseen => match (answered.status, answered.code().as_str()) {
            (StatusCode::NOT_FOUND, "not_found") => Ok(()),
            _ => Err(format!("{}, and it is not to be seen", got())),
        },
        Decision::Denied(permission) => {
            let detail = answered.json()["detail"].as_str().unwrap_or_default().to_owned();
            let named = detail.contains(permission.as_str());
            match (answered.status, answered.code().as_str()) {
                (StatusCode::FORBIDDEN, "missing_permission") if named => Ok(()),
                _ => Err(format!("{}, and {permission} is missing: {detail}", got())),
            }
        }
    }
}

fn scope(word: &str, place: &Place) -> Scope {
    let (organisation, project) = (place.organisation.id, place.project.id);
    match word {
        "platform" => Scope::Platform,
        "organization" => Scope::Organisation(organisation),
        "project" => Scope::Project(organisation, project),
        "environment" => Scope::Environment(organisation, project, place.environment.environment_type),
        other => panic!("x-scope: {other}"),
    }
}

fn request(operation: &Operation, place: &Place, session: Option<&str>) -> Request<Body> {
    let (mut path, mut query) = (operation.path.clone(), Vec::new());
    for (name, of) in &operation.parameters {
        match of.as_str() {
            "path" => path = path.replace(&format!("{{{name}}}"), &value(name, place)),
            "query" if name == "organization_id" => query.push(format!("{name}={}", place.organisation.id)),
            "query" if name == "signature" => query.push("signature=00".to_owned()),
            "query" if name == "expires" => query.push("expires=1".to_owned()),
            _ => {}
        }
    }
    let uri = format!("{path}?{}", query.join("&"));
    let mut request = Request::builder().method(operation.method.clone()).uri(uri);
    if let Some(session) = session {
        request = request.header("cookie", format!("undoo_session={session}"));
        request = request.header("x-requested-with", "test");
    }
    let body = if operation.has_body {
        let uploads = operation.id == "migration_upload";
        let kind = if uploads { "application/offset+octet-stream" } else { "application/json" };
        request = request.header("content-type", kind);
        if uploads {
            request = request.header("upload-offset", "0");
        }
        Body::from(body(&operation.id, place).to_string())
    } else {
        Body::empty()
    };
    request.body(body).unwrap()
}

/// What stands in a path.
fn value(name: &str, place: &Place) -> String {
    match name {
        "organization_id" => place.organisation.id.to_string(),
        "project_id" => place.project.id.to_string(),
        "environment_id" => place.environment.id.to_string(),
        "server_id" => place.server.id.to_string(),
        "storage_id" => place.storage.id.to_string(),
        "backup_id" => place.backup.id.to_string(),
        "restore_id" => place.restore.id.to_string(),
        "recovery_plan_id" => place.recovery.to_string(),
        "migration_id" => place.migration.to_string(),
        "task_id" => place.task.id.to_string(),
        "user_id" => place.member.id.to_string(),
        "token_id" => undoo_core::TokenId::generate().to_string(),
        "container" => "acme_odoo".to_owned(),
        "part" => "database".to_owned(),
        other => panic!("what is a {other}? say it here"),
    }
}

/// What is sent.
fn body(operation: &str, place: &Place) -> Value {
    let password = "correct horse battery staple";
    match operation {
        "auth_setup" => json!({ "token": "no", "email": "a@example.com", "name": "Ada", "password": password,
            "organization_name": "Acme" }),
        "auth_login" => json!({ "email": "a@example.com", "password": password }),
        "auth_password" => json!({ "current_password": "no", "new_password": password }),
        "auth_invitation_accept" => json!({ "token": "no", "password": password }),
        "user_create" => {
            json!({ "email": format!("{}@example.org", place.project.id.short()), "name": "Maria",
            "organization_id": place.organisation.id, "role": "member" })
        }
        "user_update" => json!({ "disabled": true }),
        "token_create" => json!({ "name": "nightly" }),
        "organization_create" | "organization_rename" | "project_create" | "project_rename" => {
            json!({ "name": format!("New {}", place.project.id) })
        }
        "organization_member_set" => json!({ "role": "admin" }),
        "project_member_set" => json!({ "role": "viewer" }),
        "environment_adopt" => json!({ "project_id": place.project.id, "name": "Adopted",
            "environment_type": "staging", "server_id": place.server.id, "container": "acme_odoo" }),
        "environment_destroy" => json!({ "confirm": place.environment.name }),
        "environment_addons_set" => json!({ "addons": [] }),
        "environment_update" => json!({ "domain": "odoo.example.com" }),
        "server_create" => json!({ "organization_id": place.organisation.id, "name": "Another",
            "ssh": login() }),
        "server_test" => json!({ "organization_id": place.organisation.id, "ssh": login() }),
        "server_update" => json!({ "draining": true }),
        "storage_create" => {
            json!({ "organization_id": place.organisation.id, "name": "Bucket", "config": s3() })
        }
        "storage_update" => json!({ "name": "Renamed" }),
        // What cannot be reached within the machine, so that nobody waits for it.
        "storage_test" => json!({ "provider": "minio", "bucket": "b", "access_key": "k", "secret_key": "s",
            "endpoint": "http://127.0.0.1:1", "attempts": 1 }),
        "backup_create" | "backup_create_alias" => json!({ "description": "before the upgrade" }),
        "environment_deploy" => json!({}),
        "migration_create" => json!({ "project_id": place.project.id,
            "upload_bytes": 1000, "environment": { "name": "Moved",
            "environment_type": "staging", "server_id": place.server.id } }),
        "migration_upload" => json!({}),
        "recovery_plan_create" => json!({ "organization_id": place.organisation.id,
            "lost_server_ids": [place.server.id] }),
        "restore_start" | "restore_start_v2" => json!({ "backup_id": place.backup.id }),
        other => panic!("what does {other} take? say it here"),
    }
}

fn login() -> Value {
    json!({ "host": "192.168.1.101", "user": "root", "password": "geheim", "host_key": HOST_KEY })
}

fn s3() -> Value {
    json!({ "provider": "minio", "bucket": "b", "access_key": "k", "secret_key": "s",
        "endpoint": "http://127.0.0.1:1" })
}
