//! Migrations, and the uploads of their files: the core of the tus protocol.

use std::pin::pin;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use undoo_api::migrations::{
    MigrationQuery, MigrationRequest, MigrationResponse, TUS_RESUMABLE, TUS_VERSION, UPLOAD_LENGTH,
    UPLOAD_OFFSET, UPLOAD_TYPE, UploadResponse,
};
use undoo_api::problem::ProblemDetails;
use undoo_control::{MigrationFrom, MigrationWish, UploadState};
use undoo_core::{Kind, MigrationId, Problem};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::restores::new_environment;
use crate::{
    App,
    failure::{Failure, Result},
    request::{
        body::{Nothing, Sent},
        caller::By,
        fields::At,
        page::Paged,
    },
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(migration_list, migration_create))
        .routes(routes!(migration_get))
        .routes(routes!(migration_verify))
        .routes(routes!(migration_upload_state, migration_upload))
}

/// Migrations that the caller may see, newest first.
#[utoipa::path(
    get, path = "/api/v1/migrations", tag = "migrations", params(MigrationQuery),
    responses((status = 200, description = "A page of them.", body = Vec<MigrationResponse>)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn migration_list(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<MigrationQuery>,
) -> Result<Response> {
    let organisation = wire::organization(&caller, paged.asked.organization_id)?;
    let project = paged.asked.project_id;
    let listed = app.control.migration_list(&caller, organisation, project, paged.page).await?;
    Ok(paged.answer(listed, MigrationResponse::from))
}

/// Makes an environment that waits for a backup from elsewhere: from Odoo.sh, a database manager, another hoster.
///
/// Nothing is put on its server yet. When its file is there and was read from end to end (status `uploaded`),
/// `POST /api/v1/environments/{environment_id}/deploy` makes the environment around it. Takes
/// `project.backups.restore` and `org.servers.view` as well.
#[utoipa::path(
    post, path = "/api/v1/migrations", tag = "migrations", request_body = MigrationRequest,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 201, description = "Begun.", body = MigrationResponse)),
    extensions(
        ("x-permission" = json!("project.environments.create")), ("x-scope" = json!("project")),
        ("x-also" = json!(["org.servers.view"]))
    )
)]
async fn migration_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, once }: Sent<MigrationRequest>,
) -> Result<(StatusCode, Json<MigrationResponse>)> {
    let wish = MigrationWish {
        project_id: body.project_id,
        source: body.source,
        from: match (body.upload_bytes, body.stored) {
            (Some(size), None) => MigrationFrom::Upload(size),
            (None, Some(stored)) => MigrationFrom::Stored(stored.storage_id, stored.key),
            _ => {
                let message = "a migration has one file: uploaded, or stored";
                let remedy = "Send either `upload_bytes` or `stored`.";
                return Err(Problem::new(Kind::Invalid, "file_needed", message, remedy).into());
            }
        },
        environment: new_environment(body.environment),
        limits: [body.cpu_cores, body.ram_mb, body.disk_gb],
        storage_id: body.storage_id,
        accept: body.accept,
    };
    let migration = app.control.migration_create(&caller, wish, once).await?;
    Ok((StatusCode::CREATED, Json(migration.into())))
}

/// A migration.
#[utoipa::path(
    get, path = "/api/v1/migrations/{migration_id}", tag = "migrations",
    params(("migration_id" = MigrationId, Path)),
    responses((status = 200, description = "The migration.", body = MigrationResponse)),
    extensions(("x-permission" = json!("project.environments.view")), ("x-scope" = json!("project")))
)]
async fn migration_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<MigrationId>,
) -> Result<Json<MigrationResponse>> {
    Ok(Json(app.control.migration_get(&caller, id).await?.into()))
}

/// Reads the file of a migration again, after that has failed.
#[utoipa::path(
    post, path = "/api/v1/migrations/{migration_id}/verify", tag = "migrations",
    params(("migration_id" = MigrationId, Path)),
    responses((status = 202, description = "Queued.", body = MigrationResponse)),
    extensions(("x-permission" = json!("project.environments.create")), ("x-scope" = json!("project")))
)]
async fn migration_verify(
    State(app): State<App>,
    By(caller): By,
    At(id): At<MigrationId>,
    Sent { .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<MigrationResponse>)> {
    let migration = app.control.migration_verify(&caller, id).await?;
    Ok((StatusCode::ACCEPTED, Json(migration.into())))
}

/// How far the upload of a migration's file is. HEAD answers the same, in its headers.
#[utoipa::path(
    get, path = "/api/v1/migrations/{migration_id}/upload", tag = "migrations",
    params(("migration_id" = MigrationId, Path)),
    responses(
        (status = 200, description = "How far it is.", body = UploadResponse, headers(
            ("Upload-Offset" = u64, description = "Bytes that have arrived."),
            ("Upload-Length" = u64, description = "Bytes that there are to be."),
        )),
        (status = 409, description = "Its file lay in a storage already.", body = ProblemDetails,
            content_type = "application/problem+json"),
    ),
    extensions(("x-permission" = json!("project.environments.create")), ("x-scope" = json!("project")))
)]
async fn migration_upload_state(
    State(app): State<App>,
    By(caller): By,
    At(id): At<MigrationId>,
) -> Result<Response> {
    let state = app.control.migration_upload_state(&caller, id).await?;
    let answer = UploadResponse { arrived_bytes: state.arrived, size_bytes: state.size };
    Ok((headers(state), Json(answer)).into_response())
}

/// Uploads the file of a migration, from the byte that `Upload-Offset` says. Where it breaks off, what has arrived
/// stays; ask with HEAD how far that is, and go on from there. It is best sent in one request, whatever its size.
///
/// With the last byte it is whole, and is read from end to end.
#[utoipa::path(
    patch, path = "/api/v1/migrations/{migration_id}/upload", tag = "migrations",
    params(
        ("migration_id" = MigrationId, Path),
        ("Upload-Offset" = u64, Header, description = "The first byte that is sent."),
    ),
    request_body(content_type = "application/offset+octet-stream", content = String),
    responses((status = 204, description = "Taken.", headers(
        ("Upload-Offset" = u64, description = "Bytes that have arrived."),
        ("Upload-Length" = u64, description = "Bytes that there are to be."),
    ))),
    extensions(("x-permission" = json!("project.environments.create")), ("x-scope" = json!("project")))
)]
async fn migration_upload(
    State(app): State<App>,
    By(caller): By,
    At(id): At<MigrationId>,
    sent: HeaderMap,
    body: Body,
) -> Result<Response> {
    let from = offset(&sent)?;
    // Who sends may be gone before the last of it is in the storage.
    let receiving = tokio::spawn(async move {
        let content = pin!(body.into_data_stream());
        app.control.migration_upload(&caller, id, from, content, &app.settings.stop).await
    });
    let state = receiving.await.map_err(|error| {
        let message = "taking an upload was broken off";
        Problem::new(Kind::Internal, "upload_aborted", message, "").caused_by(error)
    })?;
    Ok((StatusCode::NO_CONTENT, headers(state?)).into_response())
}

fn offset(headers: &HeaderMap) -> Result<u64> {
    let is_upload = headers.get(header::CONTENT_TYPE).is_some_and(|value| value == UPLOAD_TYPE);
    if !is_upload {
        return Err(Failure::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "upload_type",
            &format!("bytes of an upload come as {UPLOAD_TYPE}"),
            "Set Content-Type to that.",
        ));
    }
    let offset = headers.get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
    offset.ok_or_else(|| Failure::of_field("Upload-Offset", "must be a number of bytes"))
}

fn headers(state: UploadState) -> [(HeaderName, HeaderValue); 3] {
    [
        (HeaderName::from_static(UPLOAD_OFFSET), state.arrived.into()),
        (HeaderName::from_static(UPLOAD_LENGTH), state.size.into()),
        (HeaderName::from_static(TUS_RESUMABLE), HeaderValue::from_static(TUS_VERSION)),
    ]
}
