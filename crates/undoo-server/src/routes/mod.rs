//! What there is under `/api/v1`, by subject.

mod auth;
mod backups;
mod downloads;
mod environments;
mod migrations;
mod organizations;
mod recovery;
mod restores;
mod servers;
mod storages;
mod tasks;
mod tokens;
mod users;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, document, events};

/// All routes of the API, with the document that they make.
pub fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(document::opening())
        .merge(auth::routes())
        .merge(tokens::routes())
        .merge(users::routes())
        .merge(organizations::routes())
        .merge(environments::routes())
        .merge(migrations::routes())
        .merge(servers::routes())
        .merge(storages::routes())
        .merge(backups::routes())
        .merge(downloads::routes())
        .merge(restores::routes())
        .merge(recovery::routes())
        .merge(tasks::routes())
        .routes(routes!(events::stream::events_stream))
}
