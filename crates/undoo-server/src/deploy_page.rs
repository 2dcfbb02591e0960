//! The page where people deploy an environment that came from a migration.
//!
//! What is live is replaced by the migration's backup only after the word RESTORE was typed: the API trusts who
//! may restore, and a person clicks by mistake. The page decides nothing else, and may do no more than who is
//! signed in. The environment's id is in the fragment of its address.

use axum::{Router, routing::get};

use crate::{App, pages};

const PAGE: &str = include_str!("deploy_page/page.html");
const SCRIPT: &str = include_str!("deploy_page/page.js");
const STYLE: &str = include_str!("deploy_page/page.css");

pub fn routes() -> Router<App> {
    Router::new()
        .route("/deploy", get(|| async { pages::html(PAGE) }))
        .route("/deploy/page.js", get(|| async { pages::script(SCRIPT) }))
        .route("/deploy/page.css", get(|| async { pages::style(STYLE) }))
}
