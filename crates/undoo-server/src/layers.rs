//! What holds for every request, whatever it asks for.

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::CatchPanicLayer;
use undoo_api::migrations::UPLOAD_TYPE;

use crate::{failure, request::id, watch};

/// Bytes that a body may have: the largest are configurations of storages.
const MOST_OF_A_BODY: usize = 256 * 1024;
/// Until then an answer has to begin: looking at a target for a plan takes its time. Streams may go on as long as they like.
const BEGINS_WITHIN: Duration = Duration::from_secs(120);

/// Headers of every answer that has not said otherwise.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The router with all of it. The last layer is the first that a request meets.
pub fn around(router: Router, secure: bool) -> Router {
    router
        .layer(DefaultBodyLimit::max(MOST_OF_A_BODY))
        .layer(middleware::from_fn(begun))
        .layer(CatchPanicLayer::custom(failure::of_a_panic))
        .layer(middleware::from_fn(failure::told))
        .layer(middleware::from_fn(watch::watched))
        .layer(middleware::from_fn(move |request, next| secured(secure, request, next)))
        .layer(middleware::from_fn(id::identified))
}

/// Answers for what takes too long. Only uploads may take as long as they come: for days.
async fn begun(request: Request, next: Next) -> Response {
    let uploads = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == UPLOAD_TYPE);
    if uploads {
        return next.run(request).await;
    }
    let answered = tokio::time::timeout(BEGINS_WITHIN, next.run(request)).await;
    answered.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

async fn secured(secure: bool, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    if secure {
        let a_year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    }
    response
}
