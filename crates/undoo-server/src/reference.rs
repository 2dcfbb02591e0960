//! The reference at `/api/docs`: a page of our own that shows the document, and needs nothing from elsewhere.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::App;

const PAGE: &str = include_str!("reference/page.html");
const SCRIPT: &str = include_str!("reference/page.js");
const STYLE: &str = include_str!("reference/page.css");
/// The page may load what is beside it, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and the document that it shows.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/docs", get(|| async { text("text/html; charset=utf-8", PAGE) }))
        .route("/api/docs/page.js", get(|| async { text("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/api/docs/page.css", get(|| async { text("text/css; charset=utf-8", STYLE) }))
}

async fn document(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}

fn text(media_type: &'static str, text: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, media_type)], text).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
