//! Accounts: inviting people, letting them in anew, disabling them.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use undoo_api::{
    identity::{CreateUserRequest, CreateUserResponse, UserPatch, UserResponse},
    list::ListQuery,
    secret::Secret,
};
use undoo_control::{AccountLink, NewUser, UserChange};
use undoo_core::UserId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App, LinkTo,
    failure::Result,
    request::{body::Sent, caller::By, fields::At, page::Paged},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(user_list, user_create))
        .routes(routes!(user_get, user_update))
        .routes(routes!(user_invite))
}

/// Everybody who has an account, newest first.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "organizations", params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<UserResponse>)),
    extensions(("x-permission" = json!("platform.manage")), ("x-scope" = json!("platform")))
)]
async fn user_list(State(app): State<App>, By(caller): By, paged: Paged) -> Result<Response> {
    let listed = app.control.user_list(&caller, paged.page).await?;
    Ok(paged.answer(listed, UserResponse::from))
}

/// Invites somebody into an organisation.
///
/// The answer has the link of the invitation, which is shown this once. Who is new is a member at once; who has
/// an account already is one when they accept. Inviting an address again voids its invitation before.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "organizations", request_body = CreateUserRequest,
    responses((status = 201, description = "Invited.", body = CreateUserResponse)),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn user_create(
    State(app): State<App>,
    By(caller): By,
    headers: HeaderMap,
    Sent { body, .. }: Sent<CreateUserRequest>,
) -> Result<(StatusCode, Json<CreateUserResponse>)> {
    let new = NewUser {
        email: body.email,
        name: body.name,
        organisation_id: body.organization_id,
        role: body.role,
    };
    let link = app.control.user_create(&caller, new).await?;
    Ok((StatusCode::CREATED, Json(invited(&app, &headers, link))))
}

/// Somebody of an organisation of the caller's.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}", tag = "organizations", params(("user_id" = UserId, Path)),
    responses((status = 200, description = "Who it is.", body = UserResponse)),
    extensions(("x-permission" = json!("org.members.view")), ("x-scope" = json!("organization")))
)]
async fn user_get(State(app): State<App>, By(caller): By, At(id): At<UserId>) -> Result<Json<UserResponse>> {
    Ok(Json(app.control.user_get(&caller, id).await?.into()))
}

/// Disables an account, enables it, or makes it a portal admin's.
///
/// It takes the permission in every organisation that the account is in. Owners are changed by owners, portal
/// admins by portal admins, and nobody changes their own account.
#[utoipa::path(
    patch, path = "/api/v1/users/{user_id}", tag = "organizations", params(("user_id" = UserId, Path)),
    request_body = UserPatch,
    responses((status = 200, description = "Changed.", body = UserResponse)),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn user_update(
    State(app): State<App>,
    By(caller): By,
    At(id): At<UserId>,
    Sent { body, .. }: Sent<UserPatch>,
) -> Result<Json<UserResponse>> {
    let change = UserChange { disabled: body.disabled, portal_admin: body.is_portal_admin };
    Ok(Json(app.control.user_update(&caller, id, change).await?.into()))
}

/// Makes a link with which somebody chooses a password: for the first time, or anew.
///
/// It takes what changing the account takes. Links that were made like this before are void. The password of
/// now holds until the link is used; then every session of the account ends.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/invitation", tag = "organizations",
    params(("user_id" = UserId, Path)),
    responses((status = 201, description = "Made.", body = CreateUserResponse)),
    extensions(("x-permission" = json!("org.members.manage")), ("x-scope" = json!("organization")))
)]
async fn user_invite(
    State(app): State<App>,
    By(caller): By,
    headers: HeaderMap,
    At(id): At<UserId>,
) -> Result<(StatusCode, Json<CreateUserResponse>)> {
    let link = app.control.user_invite(&caller, id).await?;
    Ok((StatusCode::CREATED, Json(invited(&app, &headers, link))))
}

fn invited(app: &App, headers: &HeaderMap, link: AccountLink) -> CreateUserResponse {
    let AccountLink { user, email, token, expires_at } = link;
    let url = LinkTo::Account.url(&app.base_url(headers), &token);
    let url = Secret::from(url);
    CreateUserResponse { user: user.map(Into::into), email, invitation: token.into(), url, expires_at }
}
