//! Backups: made, listed, shown, deleted, and what they can be restored to.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use tracing::Span;
use undoo_api::{
    backups::{
        BackupDownloadResponse, BackupQuery, BackupResponse, CompatibleEnvironment,
        CompatibleEnvironmentsResponse, CompatibleServer, CompatibleServersResponse, CreateBackupRequest,
        DownloadQuery, DownloadUrls,
    },
    environments::OrganizationQuery,
};
use undoo_control::{Caller, NewBackup, Once};
use undoo_core::{BackupId, EnvironmentId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{
        body::{Nothing, Sent},
        caller::By,
        fields::{Asked, At},
        page::Paged,
    },
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(backup_list, backup_create))
        .routes(routes!(backup_create_alias))
        .routes(routes!(backup_list_all))
        .routes(routes!(backup_get, backup_delete))
        .routes(routes!(backup_verify))
        .routes(routes!(backup_download))
        .routes(routes!(compatible_environments))
        .routes(routes!(compatible_servers))
}

/// Backups of an environment, newest first.
#[utoipa::path(
    get, path = "/api/v1/environments/{environment_id}/backups", tag = "backups",
    params(("environment_id" = EnvironmentId, Path), BackupQuery),
    responses((status = 200, description = "A page of them.", body = Vec<BackupResponse>)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn backup_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    paged: Paged<BackupQuery>,
) -> Result<Response> {
    let query =
        undoo_control::BackupQuery { status: paged.asked.status, backup_type: paged.asked.backup_type };
    let listed = app.control.backup_list(&caller, id, query, paged.page).await?;
    Ok(paged.answer(listed, BackupResponse::from))
}

/// Has a backup made. The answer comes at once; how far it is, events and the task tell.
#[utoipa::path(
    post, path = "/api/v1/environments/{environment_id}/backups", tag = "backups",
    params(("environment_id" = EnvironmentId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = CreateBackupRequest,
    responses((status = 201, description = "Queued.", body = BackupResponse)),
    extensions(("x-permission" = json!("project.backups.create")), ("x-scope" = json!("environment")))
)]
async fn backup_create(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { body, once }: Sent<CreateBackupRequest>,
) -> Result<(StatusCode, Json<BackupResponse>)> {
    create(&app, &caller, id, body, once).await
}

/// The same as `POST /api/v1/environments/{environment_id}/backups`.
#[utoipa::path(
    post, path = "/api/v1/backups/environments/{environment_id}/backups", tag = "backups",
    params(("environment_id" = EnvironmentId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = CreateBackupRequest,
    responses((status = 201, description = "Queued.", body = BackupResponse)),
    extensions(("x-permission" = json!("project.backups.create")), ("x-scope" = json!("environment")))
)]
async fn backup_create_alias(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { body, once }: Sent<CreateBackupRequest>,
) -> Result<(StatusCode, Json<BackupResponse>)> {
    create(&app, &caller, id, body, once).await
}

async fn create(
    app: &App,
    caller: &Caller,
    environment: EnvironmentId,
    body: CreateBackupRequest,
    once: Option<Once>,
) -> Result<(StatusCode, Json<BackupResponse>)> {
    let new = NewBackup {
        description: body.description,
        include_filestore: body.include_filestore,
        storage_id: body.storage_id,
        backup_type: body.backup_type,
    };
    let backup = app.control.backup_create(caller, environment, new, once).await?;
    if let Some(task) = backup.task_id {
        Span::current().record("task_id", tracing::field::display(task));
    }
    Ok((StatusCode::CREATED, Json(backup.into())))
}

/// Backups of an organisation, newest first: those that the caller may see.
#[utoipa::path(
    get, path = "/api/v1/backups", tag = "backups", params(OrganizationQuery),
    responses((status = 200, description = "A page of them.", body = Vec<BackupResponse>)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn backup_list_all(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<OrganizationQuery>,
) -> Result<Response> {
    let organisation = paged.asked.organization_id;
    let query = undoo_control::BackupQuery::default();
    let listed = app.control.backup_list_all(&caller, organisation, None, query, paged.page).await?;
    Ok(paged.answer(listed, BackupResponse::from))
}

/// A backup.
#[utoipa::path(
    get, path = "/api/v1/backups/{backup_id}", tag = "backups", params(("backup_id" = BackupId, Path)),
    responses((status = 200, description = "The backup.", body = BackupResponse)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn backup_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
) -> Result<Json<BackupResponse>> {
    Ok(Json(app.control.backup_get(&caller, id).await?.into()))
}

/// Has a backup removed from its storage. The answer comes at once.
#[utoipa::path(
    delete, path = "/api/v1/backups/{backup_id}", tag = "backups", params(("backup_id" = BackupId, Path)),
    responses((status = 200, description = "It is being removed.", body = BackupResponse)),
    extensions(("x-permission" = json!("project.backups.delete")), ("x-scope" = json!("project")))
)]
async fn backup_delete(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
) -> Result<Json<BackupResponse>> {
    Ok(Json(app.control.backup_delete(&caller, id).await?.into()))
}

/// Has a backup read from end to end: afterwards `is_verified` says whether it is what was written.
#[utoipa::path(
    post, path = "/api/v1/backups/{backup_id}/verify", tag = "backups",
    params(("backup_id" = BackupId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = BackupResponse)),
    extensions(("x-permission" = json!("project.backups.create")), ("x-scope" = json!("project")))
)]
async fn backup_verify(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<BackupResponse>)> {
    let backup = app.control.backup_verify(&caller, id, once).await?;
    Ok((StatusCode::ACCEPTED, Json(backup.into())))
}

/// Addresses from which a backup can be fetched for a while without signing in.
#[utoipa::path(
    get, path = "/api/v1/backups/{backup_id}/download", tag = "backups",
    params(("backup_id" = BackupId, Path), DownloadQuery),
    responses((status = 200, description = "The addresses.", body = BackupDownloadResponse)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn backup_download(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
    Asked(query): Asked<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Json<BackupDownloadResponse>> {
    let base = app.base_url(&headers);
    let download = app.control.backup_download(&caller, id, Some(query.expires_in.into()), &base).await?;
    let urls = DownloadUrls {
        database: download.urls.database.into(),
        filestore: download.urls.filestore.map(Into::into),
        zip: download.urls.zip.into(),
    };
    Ok(Json(BackupDownloadResponse { backup_id: id, expires_in: download.expires_in, urls }))
}

/// Environments of the same project that a backup can be restored to.
#[utoipa::path(
    get, path = "/api/v1/backups/{backup_id}/compatible-environments", tag = "backups",
    params(("backup_id" = BackupId, Path)),
    responses((status = 200, description = "All of them.", body = CompatibleEnvironmentsResponse)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn compatible_environments(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
) -> Result<Json<CompatibleEnvironmentsResponse>> {
    let found = app.control.compatible_environments(&caller, id).await?;
    let environments =
        found.into_iter().map(|one| CompatibleEnvironment::new(one.environment, one.server_name)).collect();
    Ok(Json(CompatibleEnvironmentsResponse { environments }))
}

/// Servers of the same organisation, and whether each has room for what a backup holds.
#[utoipa::path(
    get, path = "/api/v1/backups/{backup_id}/compatible-servers", tag = "backups",
    params(("backup_id" = BackupId, Path)),
    responses((status = 200, description = "All of them.", body = CompatibleServersResponse)),
    extensions(
        ("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")),
        ("x-also" = json!(["org.servers.view"]))
    )
)]
async fn compatible_servers(
    State(app): State<App>,
    By(caller): By,
    At(id): At<BackupId>,
) -> Result<Json<CompatibleServersResponse>> {
    let found = app.control.compatible_servers(&caller, id).await?;
    let servers = found.into_iter().map(|one| CompatibleServer {
        id: one.server.id,
        name: one.server.name,
        ip_address: one.server.ip_address,
        available_cpu: one.available_cpu.into(),
        available_ram_mb: one.available_ram_mb.into(),
        available_disk_gb: one.available_disk_gb.into(),
        current_environments: one.current_environments.try_into().unwrap_or(i64::MAX),
        recommended: one.recommended,
        has_sufficient_resources: one.has_sufficient_resources,
        incompatibility_reason: one.incompatibility_reason,
    });
    Ok(Json(CompatibleServersResponse { servers: servers.collect() }))
}
