//! Pages of our own: what a browser may do with them, and that they need nothing from elsewhere.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::App;

/// How the pages look on which people do something.
const STYLE: &str = include_str!("pages.css");

/// A page may load what is beside it and ask this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn routes() -> Router<App> {
    Router::new().route("/pages.css", get(|| async { style(STYLE) }))
}

pub fn html(text: &'static str) -> Response {
    part("text/html; charset=utf-8", text)
}

pub fn script(text: &'static str) -> Response {
    part("text/javascript; charset=utf-8", text)
}

pub fn style(text: &'static str) -> Response {
    part("text/css; charset=utf-8", text)
}

fn part(media_type: &'static str, text: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, media_type)], text).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
