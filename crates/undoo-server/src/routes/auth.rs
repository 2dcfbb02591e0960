//! Signing in and out, and who one is.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use undoo_api::identity::{
    InvitationRequest, LoginRequest, MeResponse, PasswordRequest, SetupRequest, UserResponse,
};
use undoo_control::Setup;
use undoo_core::platform::User;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{
        body::Sent,
        caller::{self, By, OwnPage},
    },
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(auth_setup))
        .routes(routes!(auth_login))
        .routes(routes!(auth_logout))
        .routes(routes!(auth_me))
        .routes(routes!(auth_password))
        .routes(routes!(auth_invitation_accept))
}

/// Sets a new platform up: its first admin, organisation, project, server and storage.
///
/// Takes the one-time token that the server printed when it first started. The answer signs the admin in.
#[utoipa::path(
    post, path = "/api/v1/auth/setup", tag = "auth", request_body = SetupRequest,
    responses((status = 201, description = "Set up, and signed in by cookie.", body = UserResponse)),
    extensions(("x-permission" = json!("public")))
)]
async fn auth_setup(
    State(app): State<App>,
    _: OwnPage,
    Sent { body, .. }: Sent<SetupRequest>,
) -> Result<Response> {
    let setup = Setup {
        email: body.email,
        name: body.name,
        password: body.password.into_inner(),
        organisation_name: body.organization_name,
    };
    let (session, user) = app.control.setup(&body.token.into_inner(), setup).await?;
    Ok(signed_in(&app, StatusCode::CREATED, &session, user))
}

/// Signs somebody in; the session is in a cookie that scripts cannot read.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest,
    responses((status = 200, description = "Signed in by cookie.", body = UserResponse)),
    extensions(("x-permission" = json!("public")))
)]
async fn auth_login(
    State(app): State<App>,
    _: OwnPage,
    Sent { body, .. }: Sent<LoginRequest>,
) -> Result<Response> {
    let (session, user) = app.control.sign_in(&body.email, body.password.into_inner()).await?;
    Ok(signed_in(&app, StatusCode::OK, &session, user))
}

/// Ends the session of the cookie.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    responses((status = 204, description = "Signed out.")),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn auth_logout(State(app): State<App>, _: By, headers: HeaderMap) -> Result<Response> {
    if let Some(session) = caller::session(&headers) {
        app.control.sign_out(&session).await?;
    }
    let gone = caller::cookie(None, app.settings.secure());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response())
}

/// Who one is, and where one belongs.
#[utoipa::path(
    get, path = "/api/v1/auth/me", tag = "auth",
    responses((status = 200, description = "The caller.", body = MeResponse)),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn auth_me(State(app): State<App>, By(caller): By) -> Result<Json<MeResponse>> {
    Ok(Json(app.control.me(&caller).await?.into()))
}

/// Changes one's own password. Every session of the caller ends, and the answer begins a new one.
#[utoipa::path(
    post, path = "/api/v1/auth/password", tag = "auth", request_body = PasswordRequest,
    responses((status = 204, description = "Changed, and signed in anew by cookie.")),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn auth_password(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<PasswordRequest>,
) -> Result<Response> {
    let (old, new) = (body.current_password.into_inner(), body.new_password.into_inner());
    let session = app.control.password_change(&caller, old, new).await?;
    let cookie = caller::cookie(Some(&session), app.settings.secure());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Uses a link up: accepts an invitation, or chooses a password anew. The answer signs in.
///
/// Who has an account already accepts an invitation with the password of that account.
#[utoipa::path(
    post, path = "/api/v1/auth/invitations/accept", tag = "auth", request_body = InvitationRequest,
    responses((status = 200, description = "Accepted, and signed in by cookie.", body = UserResponse)),
    extensions(("x-permission" = json!("public")))
)]
async fn auth_invitation_accept(
    State(app): State<App>,
    _: OwnPage,
    Sent { body, .. }: Sent<InvitationRequest>,
) -> Result<Response> {
    let (token, password) = (body.token.into_inner(), body.password.into_inner());
    let (session, user) = app.control.invitation_accept(&token, password).await?;
    Ok(signed_in(&app, StatusCode::OK, &session, user))
}

fn signed_in(app: &App, status: StatusCode, session: &SecretString, user: User) -> Response {
    let cookie = caller::cookie(Some(session), app.settings.secure());
    (status, [(header::SET_COOKIE, cookie)], Json(UserResponse::from(user))).into_response()
}
