//! What holds for every answer: problems, ids, pages, headers, bodies of any content type.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use undoo_core::{
    BackupId,
    platform::{EnvironmentType, Role},
};

use crate::platform::{Answered, Platform};

#[track_caller]
fn is_problem(answered: &Answered, status: u16, code: &str) -> Value {
    let body = answered.json();
    assert_eq!((answered.status.as_u16(), body["code"].as_str().unwrap()), (status, code), "{body}");
    assert_eq!(answered.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], answered.headers["x-request-id"].to_str().unwrap());
    for text in ["type", "title", "detail"] {
        assert!(!body[text].as_str().unwrap().is_empty(), "{text}: {body}");
    }
    body
}

async fn send(
    platform: &Platform,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answered {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    platform.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn every_failure_is_a_problem_with_the_id_of_its_request() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let token = platform.token_of(Role::OrgAdmin, &place).await;
    let bearer = format!("Bearer {token}");
    let signed = [("authorization", bearer.as_str())];
    is_problem(&platform.get("/api/v1/auth/me", "undoo_no").await, 401, "not_signed_in");
    is_problem(&platform.get("/nowhere", &token).await, 404, "no_such_path");
    let deleted = platform.ask(Method::DELETE, "/api/v1/auth/me", &token, None).await;
    is_problem(&deleted, 405, "method_not_allowed");
    let path = format!("/api/v1/backups/{}", BackupId::generate());
    is_problem(&platform.get(&path, &token).await, 404, "not_found");
    let restore = "/api/v1/backups/restore";
    is_problem(&send(&platform, Method::POST, restore, &signed, "{").await, 400, "invalid_json");
    is_problem(&send(&platform, Method::POST, restore, &signed, "{} x").await, 422, "invalid_fields");
    let long = format!("\"{}\"", "x".repeat(300_000));
    is_problem(&send(&platform, Method::POST, restore, &signed, &long).await, 413, "body_too_large");
    let inspected = format!("/api/v1/servers/{}/containers/panics", place.server.id);
    let body = is_problem(&platform.get(&inspected, &token).await, 500, "panic");
    assert!(!body.to_string().contains("asked to"), "what an internal error was is for the log: {body}");
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let token = platform.token_of(Role::OrgAdmin, &place).await;
    let id = place.backup.id;
    let v2 = "/api/v1/backups/restore/v2";
    let cases = [
        (json!({}), "backup_id"),
        (json!({ "backup_id": 7 }), "backup_id"),
        (json!({ "backup_id": id, "target": { "mode": "sideways" } }), "target.mode"),
        (
            json!({ "backup_id": id, "target": { "mode": "new", "new_environment": {} } }),
            "target.new_environment.name",
        ),
        (json!({ "backup_id": id, "create_pre_restore_bakup": false }), "create_pre_restore_bakup"),
        (json!({ "backup_id": id, "undo_window_hours": 0 }), "undo_window_hours"),
        (json!({ "backup_id": id, "accept": ["a\u{0}b"] }), "body"),
    ];
    for (body, field) in cases {
        let problem = is_problem(&platform.post(v2, &token, body).await, 422, "invalid_fields");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let queries = [
        ("page=0", "page"),
        ("page_size=101", "page_size"),
        ("page_size=x", "page_size"),
        ("status=fine", "status"),
        ("colour=blue", "colour"),
    ];
    for (query, field) in queries {
        let path = format!("/api/v1/environments/{}/backups?{query}", place.environment.id);
        let problem = is_problem(&platform.get(&path, &token).await, 422, "invalid_fields");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let problem = is_problem(&platform.get("/api/v1/backups/7", &token).await, 422, "invalid_fields");
    assert_eq!(problem["errors"][0]["field"], "backup_id");
}

#[tokio::test]
async fn json_is_taken_whatever_the_content_type_says_and_no_body_is_an_empty_object() {
    let platform = Platform::on_sqlite().await;
    let kinds = ["application/x-www-form-urlencoded", "text/plain", "application/json"];
    for kind in kinds {
        let place = platform.place(EnvironmentType::Staging).await;
        let bearer = format!("Bearer {}", platform.token_of(Role::ProjectAdmin, &place).await);
        let other = platform
            .environment(
                &place.project,
                Some(&place.server),
                Some(place.storage.id),
                EnvironmentType::Staging,
            )
            .await;
        let path = format!("/api/v1/environments/{}/backups", other.id);
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        let body = if kind == "text/plain" { "" } else { r#"{"backup_type": "manual"}"# };
        let answered = send(&platform, Method::POST, &path, &headers, body).await;
        assert_eq!(answered.status, StatusCode::CREATED, "{kind}: {}", answered.json());
    }
}

#[tokio::test]
async fn a_list_says_how_long_it_is_and_where_its_other_pages_are() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    for _ in 0..4 {
        platform.backup_in(&place, undoo_core::platform::BackupStatus::Completed).await;
    }
    let token = platform.token_of(Role::Viewer, &place).await;
    let path = format!("/api/v1/environments/{}/backups", place.environment.id);
    let answered = platform.get(&format!("{path}?status=completed&page=2&page_size=2"), &token).await;
    assert_eq!(answered.json().as_array().unwrap().len(), 2);
    assert_eq!(answered.headers["x-total-count"], "5");
    let links = answered.headers[header::LINK].to_str().unwrap();
    for (page, rel) in [(1, "first"), (1, "prev"), (3, "next"), (3, "last")] {
        let link = format!("<{path}?status=completed&page={page}&page_size=2>; rel=\"{rel}\"");
        assert!(links.contains(&link), "{link} is not in {links}");
    }
    let beyond = platform.get(&format!("{path}?page=9"), &token).await;
    assert_eq!((beyond.status, beyond.json()), (StatusCode::OK, json!([])));
}

#[tokio::test]
async fn the_same_request_with_the_same_key_is_carried_out_once() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let bearer = format!("Bearer {}", platform.token_of(Role::ProjectAdmin, &place).await);
    let target = platform
        .environment(&place.project, Some(&place.server), Some(place.storage.id), EnvironmentType::Staging)
        .await;
    let path = format!("/api/v1/environments/{}/backups", target.id);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "once")];
    let once = send(&platform, Method::POST, &path, &headers, "{}").await;
    let again = send(&platform, Method::POST, &path, &headers, "{}").await;
    assert_eq!((once.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(once.json()["id"], again.json()["id"]);
    let other = send(&platform, Method::POST, &path, &headers, r#"{"description": "other"}"#).await;
    is_problem(&other, 409, "idempotency_key_reused");
    let busy = send(&platform, Method::POST, &path, &headers[..1], "{}").await;
    is_problem(&busy, 409, "environment_busy");
    let key = [headers[0], ("idempotency-key", "")];
    is_problem(&send(&platform, Method::POST, &path, &key, "{}").await, 422, "invalid_fields");
}

#[tokio::test]
async fn whoever_runs_the_server_learns_whether_it_works_without_signing_in() {
    for platform in [Platform::on_sqlite().await, Platform::on_postgres().await] {
        let ask = async |path: &str| send(&platform, Method::GET, path, &[], "").await;
        assert_eq!(ask("/healthz").await.status, StatusCode::OK);
        assert_eq!(ask("/readyz").await.json()["status"], "ready");
        let figures = ask("/metrics").await;
        let figures = String::from_utf8(figures.body.to_vec()).unwrap();
        assert!(figures.contains("undoo_tasks{status=\"queued\"}"), "{figures}");
        assert!(figures.contains("route=\"/readyz\""), "{figures}");
        assert!(figures.contains("http_request_duration_seconds_bucket"), "{figures}");
        platform.stop.cancel();
        is_problem(&ask("/readyz").await, 503, "not_ready");
        assert_eq!(ask("/healthz").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn nothing_of_an_answer_is_kept_framed_or_guessed_by_a_browser() {
    let platform = Platform::on_sqlite().await;
    let answered =
        send(&platform, Method::GET, "/api/v1/auth/me", &[("x-request-id", "from-a-proxy")], "").await;
    let headers = &answered.headers;
    assert_eq!(headers["x-request-id"], "from-a-proxy");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(headers["www-authenticate"], "Bearer");
}
