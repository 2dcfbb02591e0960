//! Parts of backups, for whoever has a signed link. The link is the permission, and nobody has to sign in.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use undoo_control::PartLink;
use undoo_core::{BackupId, link::Member};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::fields::{Asked, At},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(backup_part))
}

/// What a link is signed with.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PartQuery {
    /// When the link ends, in seconds since 1970.
    expires: i64,
    /// The signature.
    #[param(max_length = 256)]
    signature: String,
}

/// A part of a backup, by an address of `GET /api/v1/backups/{backup_id}/download`.
#[utoipa::path(
    get, path = "/api/v1/backups/{backup_id}/parts/{part}", tag = "backups",
    params(("backup_id" = BackupId, Path), ("part" = String, Path, pattern = "^(database|filestore|zip)$"), PartQuery),
    responses(
        (status = 200, description = "Its bytes.", content_type = "application/octet-stream"),
        (status = 403, description = "The link was changed, or holds no longer.", body = undoo_api::problem::ProblemDetails,
            content_type = "application/problem+json"),
    ),
    extensions(("x-permission" = json!("public")))
)]
async fn backup_part(
    State(app): State<App>,
    At((backup_id, member)): At<(BackupId, Member)>,
    Asked(query): Asked<PartQuery>,
) -> Result<Response> {
    let link = PartLink { backup_id, member, expires: query.expires, signature: query.signature };
    let part = app.control.backup_part(&link).await?;
    let name = format!("attachment; filename=\"{}\"", part.file_name);
    let mut response = Body::from_stream(part.content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(part.media_type));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
