//! A task is watched to its end, whatever the server tells and leaves out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use undoo_api::Client;
use undoo_core::RestoreId;

use super::*;

#[test]
fn only_events_about_the_watched_thing_count() {
    let event = |data| Event { id: None, name: "restore.progress".into(), data };
    let about = Some("7");
    assert!(concerns(&event(json!({ "restore_id": "7" })), about));
    assert!(concerns(&event(json!({ "backup_id": "7" })), about));
    assert!(!concerns(&event(json!({ "restore_id": "8", "environment_id": "7" })), about));
    assert!(!concerns(&event(json!({ "restore_id": "7" })), None));
}

fn body(id: TaskId, status: &str, error: Option<&str>) -> Value {
    json!({
        "id": id, "organization_id": OrganisationId::generate(), "task_type": "restore", "status": status,
        "arq_job_id": id.to_string(), "priority": 0, "environment_id": null, "server_id": null, "attempts": 1,
        "max_attempts": 3, "progress": { "phase": "data", "done": 1, "total": 2, "unit": "bytes" },
        "result": null, "error_message": error, "create_date": "2025-01-15T10:30:00Z", "created_by": null,
        "started_at": null, "completed_at": null,
    })
}

/// Watches a task that is queued, then running, then `last`, on a server whose events say when to look.
async fn watched(last: Value, log: Value) -> Result<TaskResponse, Failure> {
    let id: TaskId = last["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let restore = RestoreId::generate().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let looked = Arc::new(AtomicUsize::new(0));
    let about = restore.clone();
    let server = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (looked, last, log, about) = (Arc::clone(&looked), last.clone(), log.clone(), about.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let read = connection.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let close = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                if request.contains("/events/stream") {
                    let head = format!("{close}content-type: text/event-stream\r\n\r\n");
                    let _ = connection.write_all(head.as_bytes()).await;
                    let event = json!({ "restore_id": about, "phase": "data" });
                    let event = format!("event: restore.progress\ndata: {event}\n\n");
                    while connection.write_all(event.as_bytes()).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    return;
                }
                let answer = match request.contains("/log ") {
                    true => log,
                    false => match looked.fetch_add(1, Ordering::SeqCst) {
                        0 => body(id, "queued", None),
                        1 => body(id, "running", None),
                        _ => last,
                    },
                };
                let answer = answer.to_string();
                let head = format!("{close}content-length: {}\r\n\r\n", answer.len());
                let _ = connection.write_all((head + &answer).as_bytes()).await;
            });
        }
    });
    let client = Client::new(&base, "t".into()).expect("a client");
    let remote = Remote { client, organisation: None };
    let begun = Instant::now();
    let ended = task(&remote, OrganisationId::generate(), id, Some(restore), &Ui::new(false)).await;
    // Events were heard, or it would have taken until it was looked again and again.
    assert!(begun.elapsed() < 2 * LOOK_EVERY, "{:?}", begun.elapsed());
    server.abort();
    ended
}

#[tokio::test]
async fn a_task_that_succeeds_ends_well() {
    let task = watched(body(TaskId::generate(), "completed", None), json!([])).await;
    assert_eq!(task.expect("it succeeded").status, TaskStatus::Completed);
}

#[tokio::test]
async fn a_task_that_ends_otherwise_has_the_exit_code_that_the_work_would_have_had_here() {
    let code = async |status: &str, log: Value| {
        let last = body(TaskId::generate(), status, Some("it did not boot"));
        watched(last, log).await.map_err(|failure| (failure.problem.exit_code(), failure.findings.len()))
    };
    let line = |event: &str, data: Value| {
        json!({ "sequence": 1, "step": "stage", "event": event, "data": data,
                                                  "create_date": "2025-01-15T10:30:00Z" })
    };
    let finding = json!({ "code": "missing_files", "severity": "error", "message": "m", "remedy": "r",
                          "acceptable": true });
    let cause = json!({ "step": "stage", "phase": null, "kind": "refused", "code": "findings", "message": "m",
                        "remedy": "r", "findings": [finding] });
    let log =
        json!([line("do_started", Value::Null), line("do_failed", cause), line("undo_started", Value::Null)]);
    assert_eq!(code("failed", log).await.expect_err("it fails"), (4, 1));
    assert_eq!(code("failed", json!([])).await.expect_err("it fails"), (9, 0));
    assert_eq!(code("cancelled", json!([])).await.expect_err("it fails"), (130, 0));
    assert_eq!(code("stuck", json!([])).await.expect_err("it fails"), (10, 0));
}
