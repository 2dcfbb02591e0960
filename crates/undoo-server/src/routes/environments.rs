//! Environments: adopted, listed, changed and forgotten; those that the platform has made also deployed again,
//! started, stopped and destroyed.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use tracing::Span;
use undoo_api::{
    addons::{AddonsRequest, AddonsResponse},
    environments::{
        AdoptRequest, DeployQuery, DeployRequest, DestroyRequest, EnvironmentDetails, EnvironmentPatch,
        EnvironmentQuery, EnvironmentResponse,
    },
    tasks::TaskResponse,
};
use undoo_control::{Adopt, Deploy, DeployAction, EnvironmentChange};
use undoo_core::{EnvironmentId, platform::Task};
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
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(environment_list, environment_adopt))
        .routes(routes!(environment_get, environment_update, environment_delete))
        .routes(routes!(environment_addons_set))
        .routes(routes!(environment_deploy))
        .routes(routes!(environment_start))
        .routes(routes!(environment_stop))
        .routes(routes!(environment_destroy))
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

/// An environment, and how it is deployed.
#[utoipa::path(
    get, path = "/api/v1/environments/{environment_id}", tag = "environments",
    params(("environment_id" = EnvironmentId, Path)),
    responses((status = 200, description = "The environment.", body = EnvironmentDetails)),
    extensions(("x-permission" = json!("project.environments.view")), ("x-scope" = json!("project")))
)]
async fn environment_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
) -> Result<Json<EnvironmentDetails>> {
    let environment = app.control.environment_get(&caller, id).await?.into();
    let deployment = app.control.environment_deployment(&caller, id).await?.map(Into::into);
    let migration = app.control.environment_migration(&caller, id).await?;
    let addons = app.control.environment_addons(&caller, id).await?;
    let restored_at = migration.as_ref().and_then(|migration| migration.restored_at);
    Ok(Json(EnvironmentDetails {
        environment,
        deployment,
        migration_id: migration.map(|migration| migration.id),
        migration_restore_completed: restored_at.is_some(),
        migration_restore_completed_at: restored_at,
        addons: addons.into_iter().map(Into::into).collect(),
    }))
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

/// Names the git repositories that the custom modules of an environment are fetched from that waits to be deployed.
#[utoipa::path(
    put, path = "/api/v1/environments/{environment_id}/addons", tag = "environments",
    params(("environment_id" = EnvironmentId, Path)), request_body = AddonsRequest,
    responses((status = 200, description = "Named.", body = Vec<AddonsResponse>)),
    extensions(("x-permission" = json!("project.environments.update")), ("x-scope" = json!("environment")))
)]
async fn environment_addons_set(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { body, .. }: Sent<AddonsRequest>,
) -> Result<Json<Vec<AddonsResponse>>> {
    let sources = body.addons.into_iter().map(Into::into).collect();
    let named = app.control.environment_addons_set(&caller, id, sources).await?;
    Ok(Json(named.into_iter().map(Into::into).collect()))
}

/// Makes the containers of an environment anew that the platform has deployed. Its data stays.
///
/// One that waits for its migration is made around the restore of that backup: then the task is that restore. It is
/// restored once; `force_restore` restores it over what is live.
#[utoipa::path(
    post, path = "/api/v1/environments/{environment_id}/deploy", tag = "environments", request_body = DeployRequest,
    params(("environment_id" = EnvironmentId, Path), DeployQuery, ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.environments.update")), ("x-scope" = json!("environment")))
)]
async fn environment_deploy(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Asked(query): Asked<DeployQuery>,
    Sent { body, once }: Sent<DeployRequest>,
) -> Result<(StatusCode, Json<TaskResponse>)> {
    let DeployRequest { odoo_image, accept } = body;
    let deploy = Deploy { force_restore: query.force_restore, odoo_image, accept };
    let task = app.control.environment_deploy(&caller, id, deploy, once).await?;
    Ok(queued(task))
}

/// Starts an environment that the platform has deployed.
#[utoipa::path(
    post, path = "/api/v1/environments/{environment_id}/start", tag = "environments",
    params(("environment_id" = EnvironmentId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.environments.update")), ("x-scope" = json!("environment")))
)]
async fn environment_start(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<TaskResponse>)> {
    let task = app.control.environment_do(&caller, id, DeployAction::Start, None, once).await?;
    Ok(queued(task))
}

/// Stops an environment that the platform has deployed. Its data stays, and it does not start by itself.
#[utoipa::path(
    post, path = "/api/v1/environments/{environment_id}/stop", tag = "environments",
    params(("environment_id" = EnvironmentId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.environments.update")), ("x-scope" = json!("environment")))
)]
async fn environment_stop(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<TaskResponse>)> {
    let task = app.control.environment_do(&caller, id, DeployAction::Stop, None, once).await?;
    Ok(queued(task))
}

/// Removes an environment that the platform has deployed, with its database and files. Its backups stay.
#[utoipa::path(
    post, path = "/api/v1/environments/{environment_id}/destroy", tag = "environments",
    params(("environment_id" = EnvironmentId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = DestroyRequest,
    responses((status = 202, description = "Queued.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.environments.delete")), ("x-scope" = json!("environment")))
)]
async fn environment_destroy(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    Sent { body, once }: Sent<DestroyRequest>,
) -> Result<(StatusCode, Json<TaskResponse>)> {
    let confirmed = Some(body.confirm.as_str());
    let task = app.control.environment_do(&caller, id, DeployAction::Destroy, confirmed, once).await?;
    Ok(queued(task))
}

fn queued(task: Task) -> (StatusCode, Json<TaskResponse>) {
    Span::current().record("task_id", tracing::field::display(task.id));
    (StatusCode::ACCEPTED, Json(task.into()))
}
