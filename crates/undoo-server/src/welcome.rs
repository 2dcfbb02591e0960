//! The page behind a one-time link: the first user, an invitation, a new password.
//!
//! The link's token is in the fragment of its address, which a browser sends nowhere: it is in no log of ours
//! or a proxy's. The page sends it in the body of the same requests that programs make.

use axum::{Router, routing::get};
use secrecy::{ExposeSecret, SecretString};

use crate::{App, pages};

const PAGE: &str = include_str!("welcome/page.html");
const SCRIPT: &str = include_str!("welcome/page.js");

/// What a one-time link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTo {
    /// The first user of a platform.
    Setup,
    /// An account: an invitation, or a new password.
    Account,
}

impl LinkTo {
    /// The link, on a server that is reached at `base` (without a slash at its end).
    pub fn url(self, base: &str, token: &SecretString) -> String {
        let name = match self {
            Self::Setup => "token",
            Self::Account => "invitation",
        };
        format!("{base}/setup#{name}={}", token.expose_secret())
    }
}

pub fn routes() -> Router<App> {
    Router::new()
        .route("/setup", get(|| async { pages::html(PAGE) }))
        .route("/setup/page.js", get(|| async { pages::script(SCRIPT) }))
}
