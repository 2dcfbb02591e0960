//! Bearer tokens of the caller.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::{
    identity::{CreateTokenRequest, CreateTokenResponse, TokenResponse},
    list::ListQuery,
};
use undoo_control::NewToken;
use undoo_core::TokenId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{body::Sent, caller::By, fields::At, page::Paged},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(token_list, token_create)).routes(routes!(token_revoke))
}

/// Makes a token. It can do no more than who makes it, and is shown this once.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateTokenRequest,
    responses((status = 201, description = "Made.", body = CreateTokenResponse)),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn token_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<CreateTokenRequest>,
) -> Result<(StatusCode, Json<CreateTokenResponse>)> {
    let new = NewToken {
        name: body.name,
        organisation_id: body.organization_id,
        scopes: body.scopes,
        expires_in_days: body.expires_in_days,
    };
    let (token, secret) = app.control.token_create(&caller, new).await?;
    let answer = CreateTokenResponse { details: token.into(), token: secret.into() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The caller's tokens, newest first.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens", params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Vec<TokenResponse>)),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn token_list(State(app): State<App>, By(caller): By, paged: Paged) -> Result<Response> {
    let listed = app.control.token_list(&caller, paged.page).await?;
    Ok(paged.answer(listed, TokenResponse::from))
}

/// Ends a token of the caller's, at once and for good.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{token_id}", tag = "tokens", params(("token_id" = TokenId, Path)),
    responses((status = 200, description = "Ended.", body = TokenResponse)),
    extensions(("x-permission" = json!("signed_in")))
)]
async fn token_revoke(
    State(app): State<App>,
    By(caller): By,
    At(id): At<TokenId>,
) -> Result<Json<TokenResponse>> {
    Ok(Json(app.control.token_revoke(&caller, id).await?.into()))
}
