//! The reference at `/api/docs`: a page of our own that shows the document, and needs nothing from elsewhere.

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{App, pages};

const PAGE: &str = include_str!("reference/page.html");
const SCRIPT: &str = include_str!("reference/page.js");
const STYLE: &str = include_str!("reference/page.css");
/// The page and the document that it shows.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/docs", get(|| async { pages::html(PAGE) }))
        .route("/api/docs/page.js", get(|| async { pages::script(SCRIPT) }))
        .route("/api/docs/page.css", get(|| async { pages::style(STYLE) }))
}

async fn document(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}
