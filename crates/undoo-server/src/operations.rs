//! What those who run the server ask it: whether it lives, whether it can work, and its figures.
//!
//! Outside the API, without signing in, and with nothing of anybody's in the answers. They are the same for a
//! server and for a worker.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use metrics::gauge;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use undoo_control::Control;

use crate::{
    failure::{Failure, Result},
    watch,
};

#[derive(Clone)]
struct Operations {
    control: Control,
    stop: CancellationToken,
}

/// `/healthz`, `/readyz` and `/metrics` of a process, which is not ready any more once `stop` is cancelled.
pub fn operations(control: Control, stop: CancellationToken) -> Router {
    watch::figures();
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Operations { control, stop })
}

/// The process answers.
async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and has the tables that this version needs.
async fn readyz(State(process): State<Operations>) -> Result<Json<serde_json::Value>> {
    let not_ready = |message: &str, remedy: &str| {
        Failure::with_status(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message, remedy)
    };
    if process.stop.is_cancelled() {
        return Err(not_ready("it is stopping", ""));
    }
    process.control.store().ping().await?;
    let pending = process.control.store().pending_migrations().await?;
    if !pending.is_empty() {
        let message = format!("the database lacks {} migrations", pending.len());
        return Err(not_ready(&message, "Run `undoo migrate`."));
    }
    Ok(Json(json!({ "status": "ready", "database": "ok", "migrations": "ok" })))
}

async fn metrics(State(process): State<Operations>) -> Response {
    match process.control.queue_depth().await {
        Ok(depth) => {
            let standing = [
                ("queued", depth.queued),
                ("running", depth.running),
                ("cancelling", depth.cancelling),
                ("stuck", depth.stuck),
            ];
            for (status, tasks) in standing {
                gauge!("undoo_tasks", "status" => status).set(tasks as f64);
            }
            let waits =
                depth.oldest_queued.map_or(0.0, |since| Timestamp::now().duration_since(since).as_secs_f64());
            gauge!("undoo_oldest_queued_task_seconds").set(waits.max(0.0));
        }
        Err(problem) => tracing::warn!(code = problem.code, "the queue could not be measured: {problem}"),
    }
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (text, watch::figures().render()).into_response()
}
