//! What requests leave behind for those who run the server: a line in the log, and figures for Prometheus.
//!
//! Neither holds a query, a body or a header: they may hold secrets. Figures name the route and not the
//! path, or there would be one for every id.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Span, field};

/// Upper bounds of the durations of requests, in seconds.
const REQUESTS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds of the durations of tasks, in seconds.
const TASKS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0];

/// Where the figures of this process are; the first who asks makes it the one that all figures go to.
pub fn figures() -> &'static PrometheusHandle {
    static FIGURES: OnceLock<PrometheusHandle> = OnceLock::new();
    FIGURES.get_or_init(|| {
        let buckets = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).expect("there are bounds")
        };
        let builder = buckets(PrometheusBuilder::new(), "http_request_duration_seconds", &REQUESTS);
        let recorder = buckets(builder, "undoo_task_duration_seconds", &TASKS).build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("figures of this process go elsewhere: /metrics has none");
        }
        handle
    })
}

/// Folds what was measured into what is kept, as long as nobody asks for it. Never returns.
pub async fn fold_figures() -> ! {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        figures().run_upkeep();
    }
}

/// The span of a request; handlers record the task that they start.
pub fn span(request: &Request, request_id: &str) -> Span {
    tracing::info_span!(
        "request",
        request_id,
        method = %request.method(),
        path = request.uri().path(),
        user_id = field::Empty,
        task_id = field::Empty,
    )
}

/// Measures a request and writes its line.
pub async fn watched(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // Callers may send any word as a method, and each would be a figure of its own.
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    let method = known.iter().find(|known| *known == request.method()).map_or("other", Method::as_str);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let (status, took) = (response.status(), begun.elapsed());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.as_str().to_owned())];
    counter!("http_requests_total", &labels).increment(1);
    histogram!("http_request_duration_seconds", &labels).record(took.as_secs_f64());
    tracing::info!(status = status.as_u16(), took_ms = took.as_secs_f64() * 1000.0, "answered");
    response
}
