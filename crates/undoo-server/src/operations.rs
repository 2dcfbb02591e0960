//! What those who run the server ask it: whether it lives, whether it can work, and its figures.
//!
//! Outside the API, without signing in, and with nothing of anybody's in the answers.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    App,
    failure::{Failure, Result},
    watch,
};

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// The process answers.
async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and has the tables that this version needs.
async fn readyz(State(app): State<App>) -> Result<Json<serde_json::Value>> {
    let not_ready = |message: &str, remedy: &str| {
        Failure::with_status(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message, remedy)
    };
    if app.settings.stop.is_cancelled() {
        return Err(not_ready("the server is stopping", ""));
    }
    app.control.ping().await?;
    let pending = app.control.pending_migrations().await?;
    if !pending.is_empty() {
        let message = format!("the database lacks {} migrations", pending.len());
        return Err(not_ready(&message, "Run `undoo migrate`."));
    }
    Ok(Json(json!({ "status": "ready", "database": "ok", "migrations": "ok" })))
}

async fn metrics(State(app): State<App>) -> Response {
    if let Err(problem) = app.control.measure_queue().await {
        tracing::warn!(code = problem.code, "the queue could not be measured: {problem}");
    }
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (text, watch::figures().render()).into_response()
}
