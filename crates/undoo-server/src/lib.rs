//! The HTTP side of the control plane: routes, and the OpenAPI document made of the same routes.
//!
//! A handler parses, calls one use case of [`undoo_control::Control`] and maps the answer. Nothing is decided
//! here, and nothing here knows SQL, Docker or a database.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

mod deploy_page;
mod document;
mod events;
mod failure;
mod layers;
mod operations;
mod pages;
mod reference;
mod request;
mod routes;
mod serve;
mod watch;
mod welcome;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, header},
};
use tokio_util::sync::CancellationToken;
use undoo_control::Control;
use utoipa::openapi::OpenApi;

pub use self::{
    document::{PUBLIC, SIGNED_IN},
    operations::operations,
    serve::serve,
    welcome::LinkTo,
};

/// What is set for a server.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where people reach it, such as `https://undo.example.com`, without a slash at its end. Without one
    /// it is told by each request's `Host`.
    pub public_url: Option<String>,
    /// Cancelled when the server is to stop: streams of events end then.
    pub stop: CancellationToken,
}

impl Settings {
    /// Whether people reach it by TLS only: then cookies and browsers are told to insist on it.
    fn secure(&self) -> bool {
        self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// What handlers have. Clones are the same one.
#[derive(Clone)]
pub(crate) struct App {
    control: Control,
    settings: Arc<Settings>,
    document: Bytes,
    feed: events::Feed,
}

impl App {
    /// Where this server is reached: as it was told, or as the request says.
    fn base_url(&self, headers: &HeaderMap) -> String {
        let told = || {
            let host = headers.get(header::HOST)?.to_str().ok()?;
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
            host.chars().all(plain).then(|| format!("http://{host}"))
        };
        self.settings.public_url.clone().or_else(told).unwrap_or_default()
    }
}

/// The whole of it. One reader of events runs as long as the router, or until `settings.stop`.
pub fn router(control: Control, settings: Settings) -> Router {
    let (api, document) = routes::all().split_for_parts();
    let document = serde_json::to_vec(&completed(document)).expect("a document is text and numbers");
    let feed = events::Feed::open(control.clone(), settings.stop.clone());
    let secure = settings.secure();
    let operations = operations(control.clone(), settings.stop.clone());
    let app = App { control, settings: Arc::new(settings), document: document.into(), feed };
    let pages =
        pages::routes().merge(reference::routes()).merge(welcome::routes()).merge(deploy_page::routes());
    let router = api.merge(pages).with_state(app).merge(operations);
    layers::around(router, secure)
}

/// The OpenAPI document of the routes.
pub fn openapi() -> OpenApi {
    completed(routes::all().into_openapi())
}

fn completed(mut document: OpenApi) -> OpenApi {
    document::complete(&mut document);
    document
}
