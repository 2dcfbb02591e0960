//! Storages that backups go to. Their secrets come in and never go out.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::{
    environments::OrganizationQuery,
    storages::{
        ByProvider, CreateStorageRequest, StorageConfig, StoragePatch, StorageResponse, StorageTestQuery,
        StorageTestResponse,
    },
};
use undoo_control::{NewStorage, StorageChange};
use undoo_core::StorageId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{
        body::Sent,
        caller::By,
        fields::{Asked, At},
        page::Paged,
    },
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(storage_list, storage_create))
        .routes(routes!(storage_get, storage_update, storage_delete))
        .routes(routes!(storage_test))
}

/// Storages of an organisation.
#[utoipa::path(
    get, path = "/api/v1/storages", tag = "storages", params(OrganizationQuery),
    responses((status = 200, description = "A page of them.", body = Vec<StorageResponse>)),
    extensions(("x-permission" = json!("org.storage.view")), ("x-scope" = json!("organization")))
)]
async fn storage_list(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<OrganizationQuery>,
) -> Result<Response> {
    let listed = app.control.storage_list(&caller, paged.asked.organization_id, paged.page).await?;
    Ok(paged.answer(listed, StorageResponse::from))
}

/// Adds a storage. Whether it works, the test of it says.
#[utoipa::path(
    post, path = "/api/v1/storages", tag = "storages", request_body = CreateStorageRequest,
    responses((status = 201, description = "Added.", body = StorageResponse)),
    extensions(("x-permission" = json!("org.storage.manage")), ("x-scope" = json!("organization")))
)]
async fn storage_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<CreateStorageRequest>,
) -> Result<(StatusCode, Json<StorageResponse>)> {
    let new = NewStorage {
        organisation_id: body.organization_id,
        name: body.name,
        config: wire::asked("config", &body.config)?,
        is_default: body.is_default,
    };
    Ok((StatusCode::CREATED, Json(app.control.storage_create(&caller, new).await?.into())))
}

/// A storage, without its secrets.
#[utoipa::path(
    get, path = "/api/v1/storages/{storage_id}", tag = "storages", params(("storage_id" = StorageId, Path)),
    responses((status = 200, description = "The storage.", body = StorageResponse)),
    extensions(("x-permission" = json!("org.storage.view")), ("x-scope" = json!("organization")))
)]
async fn storage_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<StorageId>,
) -> Result<Json<StorageResponse>> {
    Ok(Json(app.control.storage_get(&caller, id).await?.into()))
}

/// Changes a storage.
#[utoipa::path(
    patch, path = "/api/v1/storages/{storage_id}", tag = "storages",
    params(("storage_id" = StorageId, Path)), request_body = StoragePatch,
    responses((status = 200, description = "Changed.", body = StorageResponse)),
    extensions(("x-permission" = json!("org.storage.manage")), ("x-scope" = json!("organization")))
)]
async fn storage_update(
    State(app): State<App>,
    By(caller): By,
    At(id): At<StorageId>,
    Sent { body, .. }: Sent<StoragePatch>,
) -> Result<Json<StorageResponse>> {
    let config = body.config.as_ref().map(|config| wire::asked("config", config)).transpose()?;
    let change = StorageChange { name: body.name, config, is_default: body.is_default };
    Ok(Json(app.control.storage_update(&caller, id, change).await?.into()))
}

/// Forgets a storage that no backup lies in.
#[utoipa::path(
    delete, path = "/api/v1/storages/{storage_id}", tag = "storages",
    params(("storage_id" = StorageId, Path)),
    responses((status = 204, description = "Forgotten.")),
    extensions(("x-permission" = json!("org.storage.manage")), ("x-scope" = json!("organization")))
)]
async fn storage_delete(State(app): State<App>, By(caller): By, At(id): At<StorageId>) -> Result<StatusCode> {
    app.control.storage_delete(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries everything that backups will ask of a storage, and keeps nothing of its configuration.
///
/// What does not work is in the answer, which is 200 all the same. The organisation can be left out by who
/// belongs to one only.
#[utoipa::path(
    post, path = "/api/v1/backups/storage/test", tag = "storages", params(StorageTestQuery),
    request_body = ByProvider,
    responses((status = 200, description = "What was tried, and what came of it.", body = StorageTestResponse)),
    extensions(("x-permission" = json!("org.storage.manage")), ("x-scope" = json!("organization")))
)]
async fn storage_test(
    State(app): State<App>,
    By(caller): By,
    Asked(query): Asked<StorageTestQuery>,
    Sent { body, .. }: Sent<StorageConfig>,
) -> Result<Json<StorageTestResponse>> {
    let organisation = wire::organization(&caller, query.organization_id)?;
    let config = wire::asked("body", &body)?;
    let report = app.control.storage_test(&caller, organisation, &config).await?;
    Ok(Json(wire::answered(&report)?))
}
