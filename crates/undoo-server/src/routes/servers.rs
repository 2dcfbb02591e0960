//! Servers, and the Odoos that run on them, adopted or not.

use axum::{Json, extract::State, response::Response};
use undoo_api::environments::{FoundOdoo, InspectQuery, OrganizationQuery, ServerResponse};
use undoo_core::ServerId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{
        caller::By,
        fields::{Asked, At},
        page::Paged,
    },
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(server_list))
        .routes(routes!(server_get))
        .routes(routes!(container_list))
        .routes(routes!(container_get))
}

/// Servers of an organisation.
#[utoipa::path(
    get, path = "/api/v1/servers", tag = "servers", params(OrganizationQuery),
    responses((status = 200, description = "A page of them.", body = Vec<ServerResponse>)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn server_list(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<OrganizationQuery>,
) -> Result<Response> {
    let listed = app.control.server_list(&caller, paged.asked.organization_id, paged.page).await?;
    Ok(paged.answer(listed, ServerResponse::from))
}

/// A server.
#[utoipa::path(
    get, path = "/api/v1/servers/{server_id}", tag = "servers", params(("server_id" = ServerId, Path)),
    responses((status = 200, description = "The server.", body = ServerResponse)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn server_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ServerId>,
) -> Result<Json<ServerResponse>> {
    Ok(Json(app.control.server_get(&caller, id).await?.into()))
}

/// The Odoos that run on a server, adopted or not.
#[utoipa::path(
    get, path = "/api/v1/servers/{server_id}/containers", tag = "servers",
    params(("server_id" = ServerId, Path)),
    responses((status = 200, description = "All of them.", body = Vec<FoundOdoo>)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn container_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ServerId>,
) -> Result<Json<Vec<FoundOdoo>>> {
    let found = app.control.environment_discover(&caller, id).await?;
    Ok(Json(wire::answered(&found)?))
}

/// Looks at one Odoo of a server: what adopting it would take over.
#[utoipa::path(
    get, path = "/api/v1/servers/{server_id}/containers/{container}", tag = "servers",
    params(("server_id" = ServerId, Path), ("container" = String, Path), InspectQuery),
    responses((status = 200, description = "What was found.", body = FoundOdoo)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn container_get(
    State(app): State<App>,
    By(caller): By,
    At((server, container)): At<(ServerId, String)>,
    Asked(query): Asked<InspectQuery>,
) -> Result<Json<FoundOdoo>> {
    let database = query.database.as_deref();
    let found = app.control.environment_inspect(&caller, server, &container, database).await?;
    Ok(Json(wire::answered(&found)?))
}
