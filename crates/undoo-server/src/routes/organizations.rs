//! Organisations, their projects, and the people in them.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::{
    list::ListQuery,
    organisations::{
        NameRequest, OrganizationMember, OrganizationResponse, OrganizationRoleRequest, ProjectMember,
        ProjectResponse, ProjectRoleRequest,
    },
};
use undoo_core::{OrganisationId, ProjectId, UserId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{body::Sent, caller::By, fields::At, page::Paged},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(organization_list, organization_create))
        .routes(routes!(organization_get, organization_rename))
        .routes(routes!(organization_member_list))
        .routes(routes!(organization_member_set, organization_member_remove))
        .routes(routes!(project_list, project_create))
        .routes(routes!(project_get, project_rename))
        .routes(routes!(project_member_list))
        .routes(routes!(project_member_set, project_member_remove))
}

/// Organisations that the caller belongs to; all of them for a portal admin.
#[utoipa::path(
    get, path = "/api/v1/organizations", tag = "organizations", params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<OrganizationResponse>)),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn organization_list(State(app): State<App>, By(caller): By, paged: Paged) -> Result<Response> {
    let listed = app.control.organisation_list(&caller, paged.page).await?;
    Ok(paged.answer(listed, OrganizationResponse::from))
}

/// Makes an organisation, with a project and the local storage to begin with.
#[utoipa::path(
    post, path = "/api/v1/organizations", tag = "organizations", request_body = NameRequest,
    responses((status = 201, description = "Made.", body = OrganizationResponse)),
    extensions(("x-permission" = json!("platform.manage")), ("x-scope" = json!("platform")))
)]
async fn organization_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<NameRequest>,
) -> Result<(StatusCode, Json<OrganizationResponse>)> {
    let organisation = app.control.organisation_create(&caller, &body.name).await?;
    Ok((StatusCode::CREATED, Json(organisation.into())))
}

/// An organisation.
#[utoipa::path(
    get, path = "/api/v1/organizations/{organization_id}", tag = "organizations",
    params(("organization_id" = OrganisationId, Path)),
    responses((status = 200, description = "The organisation.", body = OrganizationResponse)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn organization_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<OrganisationId>,
) -> Result<Json<OrganizationResponse>> {
    Ok(Json(app.control.organisation_get(&caller, id).await?.into()))
}

/// Renames an organisation.
#[utoipa::path(
    patch, path = "/api/v1/organizations/{organization_id}", tag = "organizations",
    params(("organization_id" = OrganisationId, Path)), request_body = NameRequest,
    responses((status = 200, description = "Renamed.", body = OrganizationResponse)),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn organization_rename(
    State(app): State<App>,
    By(caller): By,
    At(id): At<OrganisationId>,
    Sent { body, .. }: Sent<NameRequest>,
) -> Result<Json<OrganizationResponse>> {
    Ok(Json(app.control.organisation_rename(&caller, id, &body.name).await?.into()))
}

/// Who belongs to an organisation.
#[utoipa::path(
    get, path = "/api/v1/organizations/{organization_id}/members", tag = "organizations",
    params(("organization_id" = OrganisationId, Path), ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<OrganizationMember>)),
    extensions(("x-permission" = json!("org.members.view")), ("x-scope" = json!("organization")))
)]
async fn organization_member_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<OrganisationId>,
    paged: Paged,
) -> Result<Response> {
    let listed = app.control.member_list(&caller, id, paged.page).await?;
    Ok(paged.answer(listed, OrganizationMember::from))
}

/// Gives somebody a role in an organisation. Owners are made and removed by owners.
#[utoipa::path(
    put, path = "/api/v1/organizations/{organization_id}/members/{user_id}", tag = "organizations",
    params(("organization_id" = OrganisationId, Path), ("user_id" = UserId, Path)),
    request_body = OrganizationRoleRequest,
    responses((status = 204, description = "Given.")),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn organization_member_set(
    State(app): State<App>,
    By(caller): By,
    At((organization, user)): At<(OrganisationId, UserId)>,
    Sent { body, .. }: Sent<OrganizationRoleRequest>,
) -> Result<StatusCode> {
    app.control.member_set(&caller, organization, user, body.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes somebody out of an organisation and all its projects. The last owner stays.
#[utoipa::path(
    delete, path = "/api/v1/organizations/{organization_id}/members/{user_id}", tag = "organizations",
    params(("organization_id" = OrganisationId, Path), ("user_id" = UserId, Path)),
    responses((status = 204, description = "Taken out.")),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn organization_member_remove(
    State(app): State<App>,
    By(caller): By,
    At((organization, user)): At<(OrganisationId, UserId)>,
) -> Result<StatusCode> {
    app.control.member_remove(&caller, organization, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Projects of an organisation that the caller may look into.
#[utoipa::path(
    get, path = "/api/v1/organizations/{organization_id}/projects", tag = "organizations",
    params(("organization_id" = OrganisationId, Path), ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<ProjectResponse>)),
    extensions(("x-permission" = json!("org.view")), ("x-scope" = json!("organization")))
)]
async fn project_list(
    State(app): State<App>,
    By(caller): By,
    At(organization): At<OrganisationId>,
    paged: Paged,
) -> Result<Response> {
    let listed = app.control.project_list(&caller, organization, paged.page).await?;
    Ok(paged.answer(listed, ProjectResponse::from))
}

/// Makes a project.
#[utoipa::path(
    post, path = "/api/v1/organizations/{organization_id}/projects", tag = "organizations",
    params(("organization_id" = OrganisationId, Path)), request_body = NameRequest,
    responses((status = 201, description = "Made.", body = ProjectResponse)),
    extensions(("x-permission" = json!("org.projects.manage")), ("x-scope" = json!("organization")))
)]
async fn project_create(
    State(app): State<App>,
    By(caller): By,
    At(organization): At<OrganisationId>,
    Sent { body, .. }: Sent<NameRequest>,
) -> Result<(StatusCode, Json<ProjectResponse>)> {
    let project = app.control.project_create(&caller, organization, &body.name).await?;
    Ok((StatusCode::CREATED, Json(project.into())))
}

/// A project.
#[utoipa::path(
    get, path = "/api/v1/projects/{project_id}", tag = "organizations",
    params(("project_id" = ProjectId, Path)),
    responses((status = 200, description = "The project.", body = ProjectResponse)),
    extensions(("x-permission" = json!("project.view")), ("x-scope" = json!("project")))
)]
async fn project_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ProjectId>,
) -> Result<Json<ProjectResponse>> {
    Ok(Json(app.control.project_get(&caller, id).await?.into()))
}

/// Renames a project.
#[utoipa::path(
    patch, path = "/api/v1/projects/{project_id}", tag = "organizations",
    params(("project_id" = ProjectId, Path)), request_body = NameRequest,
    responses((status = 200, description = "Renamed.", body = ProjectResponse)),
    extensions(("x-permission" = json!("org.projects.manage")), ("x-scope" = json!("project")))
)]
async fn project_rename(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ProjectId>,
    Sent { body, .. }: Sent<NameRequest>,
) -> Result<Json<ProjectResponse>> {
    Ok(Json(app.control.project_rename(&caller, id, &body.name).await?.into()))
}

/// Who has a role in a project, besides those whose role in the organisation covers it.
#[utoipa::path(
    get, path = "/api/v1/projects/{project_id}/members", tag = "organizations",
    params(("project_id" = ProjectId, Path), ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<ProjectMember>)),
    extensions(("x-permission" = json!("project.view")), ("x-scope" = json!("project")))
)]
async fn project_member_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ProjectId>,
    paged: Paged,
) -> Result<Response> {
    let listed = app.control.project_member_list(&caller, id, paged.page).await?;
    Ok(paged.answer(listed, ProjectMember::from))
}

/// Gives somebody a role in a project.
#[utoipa::path(
    put, path = "/api/v1/projects/{project_id}/members/{user_id}", tag = "organizations",
    params(("project_id" = ProjectId, Path), ("user_id" = UserId, Path)), request_body = ProjectRoleRequest,
    responses((status = 204, description = "Given.")),
    extensions(("x-permission" = json!("project.members.manage")), ("x-scope" = json!("project")))
)]
async fn project_member_set(
    State(app): State<App>,
    By(caller): By,
    At((project, user)): At<(ProjectId, UserId)>,
    Sent { body, .. }: Sent<ProjectRoleRequest>,
) -> Result<StatusCode> {
    app.control.project_member_set(&caller, project, user, body.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes somebody out of a project.
#[utoipa::path(
    delete, path = "/api/v1/projects/{project_id}/members/{user_id}", tag = "organizations",
    params(("project_id" = ProjectId, Path), ("user_id" = UserId, Path)),
    responses((status = 204, description = "Taken out.")),
    extensions(("x-permission" = json!("project.members.manage")), ("x-scope" = json!("project")))
)]
async fn project_member_remove(
    State(app): State<App>,
    By(caller): By,
    At((project, user)): At<(ProjectId, UserId)>,
) -> Result<StatusCode> {
    app.control.project_member_remove(&caller, project, user).await?;
    Ok(StatusCode::NO_CONTENT)
}
