//! The work in the queue, and the audit log.

use axum::{Json, extract::State, response::Response};
use undoo_api::{
    audit::AuditEntryResponse,
    list::ListQuery,
    tasks::{StepLogResponse, TaskQuery, TaskResponse},
};
use undoo_core::{OrganisationId, TaskId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{caller::By, fields::At, page::Paged},
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(task_list))
        .routes(routes!(task_get))
        .routes(routes!(task_log))
        .routes(routes!(task_cancel))
        .routes(routes!(audit_list))
}

/// Tasks that the caller may see, newest first. The organisation can be left out by who belongs to one only.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", params(TaskQuery),
    responses((status = 200, description = "A page of them.", body = Vec<TaskResponse>)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn task_list(State(app): State<App>, By(caller): By, paged: Paged<TaskQuery>) -> Result<Response> {
    let organisation = wire::organization(&caller, paged.asked.organization_id)?;
    let TaskQuery { environment_id, status, .. } = paged.asked;
    let listed =
        app.control.task_list(&caller, organisation, None, environment_id, status, paged.page).await?;
    Ok(paged.answer(listed, TaskResponse::from))
}

/// A task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{task_id}", tag = "tasks", params(("task_id" = TaskId, Path)),
    responses((status = 200, description = "The task.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.environments.view")), ("x-scope" = json!("project")))
)]
async fn task_get(State(app): State<App>, By(caller): By, At(id): At<TaskId>) -> Result<Json<TaskResponse>> {
    Ok(Json(app.control.task_get(&caller, id).await?.into()))
}

/// What a task's steps did, in order.
#[utoipa::path(
    get, path = "/api/v1/tasks/{task_id}/log", tag = "tasks", params(("task_id" = TaskId, Path)),
    responses((status = 200, description = "All of it.", body = Vec<StepLogResponse>)),
    extensions(("x-permission" = json!("project.environments.view")), ("x-scope" = json!("project")))
)]
async fn task_log(
    State(app): State<App>,
    By(caller): By,
    At(id): At<TaskId>,
) -> Result<Json<Vec<StepLogResponse>>> {
    let log = app.control.task_log(&caller, id).await?;
    Ok(Json(log.into_iter().map(StepLogResponse::from).collect()))
}

/// Calls a task off. What it did is taken back; one that is over stays as it is.
#[utoipa::path(
    post, path = "/api/v1/tasks/{task_id}/cancel", tag = "tasks", params(("task_id" = TaskId, Path)),
    responses((status = 200, description = "Called off.", body = TaskResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn task_cancel(
    State(app): State<App>,
    By(caller): By,
    At(id): At<TaskId>,
) -> Result<Json<TaskResponse>> {
    Ok(Json(app.control.task_cancel(&caller, id).await?.into()))
}

/// The audit log of an organisation, newest first.
#[utoipa::path(
    get, path = "/api/v1/organizations/{organization_id}/audit", tag = "tasks",
    params(("organization_id" = OrganisationId, Path), ListQuery),
    responses((status = 200, description = "A page of it.", body = Vec<AuditEntryResponse>)),
    extensions(("x-permission" = json!("org.audit.view")), ("x-scope" = json!("organization")))
)]
async fn audit_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<OrganisationId>,
    paged: Paged,
) -> Result<Response> {
    let listed = app.control.audit_list(&caller, id, paged.page).await?;
    Ok(paged.answer(listed, |entry| AuditEntryResponse {
        sequence: entry.sequence,
        organization_id: entry.organisation_id,
        actor_id: entry.actor,
        action: entry.action,
        object: entry.object,
        data: entry.data,
        create_date: entry.at,
        hash: hex::encode(entry.hash),
    }))
}
