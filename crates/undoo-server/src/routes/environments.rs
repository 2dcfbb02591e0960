//! Environments: adopted, listed, changed and forgotten.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::environments::{AdoptRequest, EnvironmentPatch, EnvironmentQuery, EnvironmentResponse};
use undoo_control::{Adopt, EnvironmentChange};
use undoo_core::EnvironmentId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{body::Sent, caller::By, fields::At, page::Paged},
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(environment_list, environment_adopt)).routes(routes!(
        environment_get,
        environment_update,
        environment_delete
    ))
}

/// Environments that the caller may see. The organisation can be left out by who belongs to one only.
#[utoipa::path(
    get, path = "/api/v1/environments", tag = "environments", params(EnvironmentQuery),
    responses((status = 200, description = "A page of them.", body = Vec<EnvironmentResponse>)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn environment_list(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<EnvironmentQuery>,
) -> Result<Response> {
    let organisation = wire::organization(&caller, paged.asked.organization_id)?;
    let project = paged.asked.project_id;
    let listed = app.control.environment_list(&caller, organisation, project, paged.page).await?;
    Ok(paged.answer(listed, EnvironmentResponse::from))
}

/// Adopts an Odoo that runs already: it becomes an environment, and nothing of it is changed.
///
/// Takes `org.servers.view` as well: what is adopted can be restored over.
#[utoipa::path(
    post, path = "/api/v1/environments", tag = "environments", request_body = AdoptRequest,
    responses((status = 201, description = "Adopted.", body = EnvironmentResponse)),
    extensions(
        ("x-permission" = json!("project.environments.create")), ("x-scope" = json!("project")),
        ("x-also" = json!(["org.servers.view"]))
    )
)]
async fn environment_adopt(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<AdoptRequest>,
) -> Result<(StatusCode, Json<EnvironmentResponse>)> {
    let adopt = Adopt {
        project_id: body.project_id,
        name: body.name,
        environment_type: body.environment_type,
        server_id: body.server_id,
        container: body.container,
        database_name: body.database_name,
        domain: body.domain,
        storage_id: body.storage_id,
    };
    let environment = app.control.environment_adopt(&caller, adopt).await?;
    Ok((StatusCode::CREATED, Json(environment.into())))
}

/// An environment.
#[utoipa::path(
    get, path = "/api/v1/environments/{environment_id}", tag = "environments",
    params(("environment_id" = EnvironmentId, Path)),
    responses((status = 200, description = "The environment.", body = EnvironmentResponse)),
    extensions(("x-permission" = json!("project.environments.view")), ("x-scope" = json!("project")))
)]
async fn environment_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
) -> Result<Json<EnvironmentResponse>> {
    Ok(Json(app.control.environment_get(&caller, id).await?.into()))
}

/// Changes what is known of an environment. Its Odoo is not touched.
#[utoipa::path(
    patch, path = "/api/v1/environments/{environment_id}", tag = "environments",
    params(("environment_id" = EnvironmentId, Path)), request_body = EnvironmentPatch,
    responses((status = 200, description = "Changed.", body = EnvironmentResponse)),
    extensions(("x-permission" = json!("project.environments.update")), ("x-scope" = json!("environment")))
)]
async fn environment_update(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { body, .. }: Sent<EnvironmentPatch>,
) -> Result<Json<EnvironmentResponse>> {
    let change = EnvironmentChange {
        name: body.name,
        environment_type: body.environment_type,
        domain: body.domain,
        cpu_cores: body.cpu_cores,
        ram_mb: body.ram_mb,
        disk_gb: body.disk_gb,
        storage_id: body.storage_id,
    };
    Ok(Json(app.control.environment_update(&caller, id, change).await?.into()))
}

/// Forgets an environment. Its Odoo, its data and its backups stay where they are.
#[utoipa::path(
    delete, path = "/api/v1/environments/{environment_id}", tag = "environments",
    params(("environment_id" = EnvironmentId, Path)),
    responses((status = 204, description = "Forgotten.")),
    extensions(("x-permission" = json!("project.environments.delete")), ("x-scope" = json!("environment")))
)]
async fn environment_delete(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
) -> Result<StatusCode> {
    app.control.environment_delete(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
