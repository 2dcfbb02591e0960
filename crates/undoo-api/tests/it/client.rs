//! The client against a server that answers, refuses, breaks off and stalls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use undoo_api::{
    Client,
    client::{IdempotencyKey, Patience, findings},
    environments::EnvironmentQuery,
    identity::{CreateTokenRequest, LoginRequest},
    restores::RestoreRequestV2,
};
use undoo_core::{BackupId, Kind, Problem, RestoreId, ServerId, UserId};

use crate::server::{Server, Step, answer, json, problem};

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    answer: Duration::from_millis(300),
    long_answer: Duration::from_millis(300),
    silence: Duration::from_millis(300),
    comeback: Duration::from_secs(2),
    attempts: 3,
    pause: Duration::from_millis(10),
};

fn client(server: &Server) -> Client {
    Client::patient(&server.base, PATIENCE).unwrap().with_token("geheim".into())
}

fn me() -> Value {
    json!({
        "user": {
            "id": UserId::generate(), "email": "a@example.com", "name": "A", "is_portal_admin": true,
            "disabled_at": null, "create_date": "2025-01-15T10:30:00Z",
        },
        "organizations": [], "projects": [],
    })
}

fn backup(id: BackupId) -> Value {
    json!({
        "id": id, "organization_id": id, "project_id": id, "environment_id": id, "storage_id": null,
        "storage_key": null, "status": "pending", "backup_type": "manual", "description": null,
        "include_filestore": true, "size_bytes": null, "database_size_bytes": null,
        "filestore_size_bytes": null, "is_verified": false, "environment_snapshot": null,
        "error_message": null, "task_id": null, "create_date": "2025-01-15T10:30:00Z", "completed_at": null,
        "created_by": null,
    })
}

/// A problem in words, with everything that could be printed of it.
fn printed(problem: &Problem) -> String {
    format!("{problem:?} {problem} {}", problem.remedy)
}

#[tokio::test]
async fn a_request_shows_its_token_and_asks_for_json() {
    let server = Server::with([json(&me())]).await;
    assert_eq!(client(&server).me().await.unwrap().user.email, "a@example.com");
    let request = server.requests().remove(0).to_lowercase();
    assert!(request.starts_with("get /api/v1/auth/me http/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer geheim\r\n"));
    assert!(request.contains("accept: application/json\r\n"));
}

#[tokio::test]
async fn a_server_below_a_path_is_asked_below_it_and_names_stay_one_part_of_the_path() {
    let found = json!({
        "container": "a/b", "image": "odoo", "databases": [], "odoo_version": null,
        "postgres_version": null, "database_container": null, "filestore": "/f", "running": true,
    });
    let server = Server::with([json(&found)]).await;
    let base = format!("{}/undoo/", server.base);
    let client = Client::new(&base, "t".into()).unwrap();
    let id = ServerId::generate();
    client.container(id, "../a b/c?d", Some("x&y".into())).await.unwrap();
    let expected = format!("GET /undoo/api/v1/servers/{id}/containers/..%2Fa%20b%2Fc%3Fd?database=x%26y ");
    assert!(server.requests()[0].starts_with(&expected), "{}", server.requests()[0]);
}

#[tokio::test]
async fn a_problem_of_the_server_is_the_clients_with_its_findings() {
    let finding = json!({ "code": "missing_files", "severity": "error", "message": "3 files are missing",
                          "remedy": "read the list", "acceptable": true });
    let details = json!({
        "type": "about:blank", "title": "Unprocessable Content", "status": 422,
        "detail": "a finding stands in the way: missing_files. read each", "remedy": "read each",
        "code": "findings", "kind": "refused", "request_id": "r-1", "findings": [finding],
    });
    let server = Server::with([problem(422, &details)]).await;
    let request = RestoreRequestV2::new(BackupId::generate());
    let problem = client(&server).restore_plan(&request).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Refused, "findings"));
    assert_eq!(problem.message, "a finding stands in the way: missing_files");
    assert_eq!(problem.remedy, "read each");
    assert_eq!(findings(&problem)[0].code, "missing_files");
    assert!(!printed(&problem).contains("geheim"));
}

#[tokio::test]
async fn a_defect_of_the_server_names_the_request_to_look_for() {
    let details = json!({ "type": "about:blank", "title": "Internal Server Error", "status": 500,
                          "detail": "a defect", "code": "panic", "kind": "internal", "request_id": "r-7" });
    let server = Server::with([problem(500, &details)]).await;
    let problem = client(&server).me().await.unwrap_err();
    assert!(problem.kind == Kind::Internal && problem.remedy.contains("r-7"), "{problem:?}");
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_told_by_its_status() {
    let page = |status: &str| answer(status, "content-type: text/html\r\n", "<html>geheim</html>");
    for (status, kind, code) in [
        ("401 Unauthorized", Kind::Denied, "http_status"),
        ("404 Not Found", Kind::Missing, "http_status"),
        ("200 OK", Kind::Invalid, "not_undoo"),
    ] {
        let server = Server::with([page(status)]).await;
        let problem = client(&server).me().await.unwrap_err();
        assert_eq!((problem.kind, problem.code), (kind, code), "{status}");
        assert!(!printed(&problem).contains("geheim"), "{problem:?}");
        assert!(!problem.remedy.is_empty());
    }
}

#[tokio::test]
async fn credentials_are_not_taken_along_to_where_a_server_sends_requests_on_to() {
    let elsewhere = answer("308 Permanent Redirect", "location: https://other.example/x?geheim\r\n", "");
    let server = Server::with([elsewhere]).await;
    let problem = client(&server).me().await.unwrap_err();
    assert_eq!(problem.code, "server_elsewhere");
    assert!(problem.message.contains("https://other.example"), "{problem}");
    assert!(!printed(&problem).contains("geheim"));
}

#[tokio::test]
async fn nobody_listening_is_said_so_with_a_next_step() {
    let base = Server::with([]).await.base.clone();
    let client = Client::patient(&base, PATIENCE).unwrap().with_token("geheim".into());
    // The listener is gone once the server's task has been dropped.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let problem = client.me().await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "server_refused"));
    assert!(problem.message.contains(&base) && problem.remedy.contains("undoo serve"), "{problem:?}");
    assert!(!printed(&problem).contains("geheim"));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_not_tried_again() {
    let server = Server::with([Step::Blurt("HTTP/1.1 400 Bad Request\r\n\r\n".into())]).await;
    let base = server.base.replace("http://", "https://");
    let client = Client::patient(&base, PATIENCE).unwrap();
    let problem = client.me().await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Refused, "server_tls"), "{problem:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_said_so() {
    let client = Client::patient("http://undoo.invalid", Patience { attempts: 1, ..PATIENCE }).unwrap();
    let problem = client.me().await.unwrap_err();
    assert_eq!(problem.code, "server_unknown", "{problem:?}");
}

#[tokio::test]
async fn what_does_no_harm_twice_is_asked_again_and_what_may_is_not() {
    let half = || Step::Say("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"us".into());
    let busy = || answer("503 Service Unavailable", "retry-after: 0\r\n", "");
    let server = Server::with([half(), busy(), json(&me())]).await;
    assert!(client(&server).me().await.is_ok());
    assert_eq!(server.requests().len(), 3);

    let server = Server::with([half(), json(&me())]).await;
    let request =
        CreateTokenRequest { name: "ci".into(), organization_id: None, scopes: None, expires_in_days: None };
    let problem = client(&server).token_create(&request).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "connection_lost"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn it_gives_up_after_its_last_attempt() {
    let busy = || answer("503 Service Unavailable", "", "");
    let server = Server::with([busy(), busy(), busy(), json(&me())]).await;
    assert_eq!(client(&server).me().await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn work_that_is_started_again_after_a_broken_answer_keeps_its_key() {
    let id = BackupId::generate();
    let half = Step::Say("HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{".into());
    let server = Server::with([half, json(&backup(id))]).await;
    let key = IdempotencyKey::generate();
    let answer = client(&server).backup_verify(id, &key).await.unwrap();
    assert_eq!(answer.id, id);
    let requests = server.requests();
    let header = format!("idempotency-key: {}\r\n", key.as_str());
    assert_eq!(requests.iter().filter(|request| request.to_lowercase().contains(&header)).count(), 2);
    assert_ne!(key, IdempotencyKey::generate());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let server = Server::with([Step::Stall(String::new())]).await;
    let client = Client::patient(&server.base, Patience { attempts: 1, ..PATIENCE }).unwrap();
    let begun = Instant::now();
    let problem = client.me().await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "server_silent"));
    assert!(begun.elapsed() < Duration::from_secs(2));

    let stalled = Step::Stall("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".into());
    let server = Server::with([stalled]).await;
    let client = Client::patient(&server.base, Patience { attempts: 1, ..PATIENCE }).unwrap();
    assert_eq!(client.me().await.unwrap_err().code, "server_silent");
}

#[tokio::test]
async fn signing_in_gives_a_session_that_is_shown_as_a_cookie() {
    let user = me()["user"].clone();
    let cookies = "content-type: application/json\r\nset-cookie: other=1\r\n\
                   set-cookie: undoo_session=s3ssion; HttpOnly; SameSite=Lax; Path=/\r\n";
    let server = Server::with([answer("200 OK", cookies, &user.to_string()), json(&me())]).await;
    let client = Client::patient(&server.base, PATIENCE).unwrap();
    let login = LoginRequest { email: "a@example.com".into(), password: "geheim".into() };
    let (session, user) = client.login(&login).await.unwrap();
    assert_eq!(user.email, "a@example.com");
    client.with_session(session).me().await.unwrap();
    let requests = server.requests();
    assert!(requests[0].ends_with(r#"{"email":"a@example.com","password":"geheim"}"#));
    let second = requests[1].to_lowercase();
    assert!(second.contains("cookie: undoo_session=s3ssion\r\n") && second.contains("x-requested-with:"));
    assert!(!second.contains("authorization"));
}

#[tokio::test]
async fn a_list_is_read_to_its_end_page_by_page() {
    let environment = |name: String| {
        let id = RestoreId::generate();
        json!({
            "id": id, "organization_id": id, "project_id": id, "name": name, "environment_type": "staging",
            "status": "running", "server_id": null, "container": null, "database_name": null,
            "odoo_version": null, "odoo_image": null, "postgres_version": null, "domain": null,
            "cpu_cores": null, "ram_mb": null, "disk_gb": null, "storage_id": null,
            "create_date": "2025-01-15T10:30:00Z", "created_by": null,
        })
    };
    let page = |names: std::ops::Range<usize>| {
        let items: Vec<Value> = names.map(|number| environment(number.to_string())).collect();
        let headers = "content-type: application/json\r\nx-total-count: 150\r\n";
        answer("200 OK", headers, &Value::from(items).to_string())
    };
    let server = Server::with([page(0..100), page(100..150), page(0..2)]).await;
    let client = client(&server);
    let all = client.environments(&EnvironmentQuery::default()).all().await.unwrap();
    let names: Vec<&str> = all.iter().map(|environment| environment.name.as_str()).collect();
    assert_eq!((names.len(), names[0], names[149]), (150, "0", "149"));
    let first = client.environments(&EnvironmentQuery::default()).page(1, 2).await.unwrap();
    assert_eq!((first.items.len(), first.total), (2, 150));
    let requests = server.requests();
    assert!(requests[0].starts_with("GET /api/v1/environments?page=1&page_size=100 "), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /api/v1/environments?page=2&page_size=100 "));
    assert!(requests[2].starts_with("GET /api/v1/environments?page=1&page_size=2 "));
}

#[tokio::test]
async fn a_backup_is_fetched_without_credentials_and_its_address_is_in_no_error() {
    let whole = answer("200 OK", "", "PK-backup");
    let half = Step::Say("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nPK".into());
    let server = Server::with([whole, half, answer("403 Forbidden", "", "signature=geheim")]).await;
    let client = client(&server);
    let address = format!("{}/b.zip?signature=geheim", server.base).into();
    let mut download = client.fetch(&address).await.unwrap();
    assert_eq!(download.total(), Some(9));
    let mut read = Vec::new();
    while let Some(bytes) = download.next().await.unwrap() {
        read.extend(bytes);
    }
    assert_eq!(read, b"PK-backup");
    assert!(!server.requests()[0].to_lowercase().contains("authorization"));

    let mut download = client.fetch(&address).await.unwrap();
    let broken = loop {
        match download.next().await {
            Ok(bytes) => assert!(bytes.is_some()),
            Err(problem) => break problem,
        }
    };
    assert_eq!(broken.code, "connection_lost");
    let refused = client.fetch(&address).await.err().unwrap();
    assert_eq!(refused.kind, Kind::Denied);
    for problem in [broken, refused] {
        assert!(!printed(&problem).contains("geheim"), "{problem:?}");
    }
}
