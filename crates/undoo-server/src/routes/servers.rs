//! Servers, and the Odoos that run on them, adopted or not.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::{
    environments::{FoundOdoo, InspectQuery, OrganizationQuery},
    secret::Secret,
    servers::{
        CreateServerRequest, ServerPatch, ServerResponse, ServerTestRequest, ServerTestResponse, SshLogin,
    },
};
use undoo_control::{
    NewServer, ServerChange, ServerTested, SshChange,
    plane::{ServerAccess, SshAccess},
};
use undoo_core::{Problem, ServerId, platform::Capacity};
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
        .routes(routes!(server_list, server_create))
        .routes(routes!(server_test))
        .routes(routes!(server_get, server_update, server_delete))
        .routes(routes!(server_verify))
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

/// Adds a server, once it was reached.
///
/// Without a host key that a person has confirmed, the answer is 403 with the code `host_key_unknown`, and names
/// the key.
#[utoipa::path(
    post, path = "/api/v1/servers", tag = "servers", request_body = CreateServerRequest,
    responses((status = 201, description = "Added.", body = ServerResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn server_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<CreateServerRequest>,
) -> Result<(StatusCode, Json<ServerResponse>)> {
    let new = NewServer {
        organisation_id: body.organization_id,
        name: body.name,
        access: access(body.ssh),
        limit: Capacity {
            cpu_cores: body.cpu_cores_limit,
            memory_gb: body.memory_gb_limit,
            disk_gb: body.disk_gb_limit,
        },
        task_limit: body.task_limit,
    };
    Ok((StatusCode::CREATED, Json(app.control.server_add(&caller, new).await?.into())))
}

/// Reaches a server, and keeps nothing of how.
///
/// That it cannot be reached is in the answer, which is 200 all the same: so is the host key that a person has to
/// confirm.
#[utoipa::path(
    post, path = "/api/v1/servers/test", tag = "servers", request_body = ServerTestRequest,
    responses((status = 200, description = "What came of it.", body = ServerTestResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn server_test(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<ServerTestRequest>,
) -> Result<Json<ServerTestResponse>> {
    let tested = app.control.server_test(&caller, body.organization_id, &access(body.ssh)).await?;
    Ok(Json(shown(tested)?))
}

/// Changes a server. Where it is to be reached in another way, it is reached that way first.
#[utoipa::path(
    patch, path = "/api/v1/servers/{server_id}", tag = "servers", params(("server_id" = ServerId, Path)),
    request_body = ServerPatch,
    responses((status = 200, description = "Changed.", body = ServerResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn server_update(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ServerId>,
    Sent { body, .. }: Sent<ServerPatch>,
) -> Result<Json<ServerResponse>> {
    let ssh = body.ssh.map_or_else(SshChange::default, |ssh| SshChange {
        host: ssh.host,
        port: ssh.port,
        user: ssh.user,
        password: ssh.password.map(Secret::into_inner),
        private_key: ssh.private_key.map(Secret::into_inner),
        passphrase: ssh.passphrase.map(Secret::into_inner),
        host_key: ssh.host_key,
    });
    let change = ServerChange {
        name: body.name,
        ssh,
        cpu_cores_limit: body.cpu_cores_limit,
        memory_gb_limit: body.memory_gb_limit,
        disk_gb_limit: body.disk_gb_limit,
        task_limit: body.task_limit,
        draining: body.draining,
    };
    Ok(Json(app.control.server_update(&caller, id, change).await?.into()))
}

/// Forgets a server that nothing is on any more. The server itself is not touched.
#[utoipa::path(
    delete, path = "/api/v1/servers/{server_id}", tag = "servers", params(("server_id" = ServerId, Path)),
    responses((status = 204, description = "Forgotten.")),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn server_delete(State(app): State<App>, By(caller): By, At(id): At<ServerId>) -> Result<StatusCode> {
    app.control.server_remove(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at a server now. That it does not answer is in what is answered of it.
#[utoipa::path(
    post, path = "/api/v1/servers/{server_id}/verify", tag = "servers",
    params(("server_id" = ServerId, Path)),
    responses((status = 200, description = "The server as it now is.", body = ServerResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn server_verify(
    State(app): State<App>,
    By(caller): By,
    At(id): At<ServerId>,
) -> Result<Json<ServerResponse>> {
    Ok(Json(app.control.server_verify(&caller, id).await?.into()))
}

fn access(login: Option<SshLogin>) -> ServerAccess {
    login.map_or(ServerAccess::Here, |login| {
        ServerAccess::Ssh(SshAccess {
            host: login.host,
            port: login.port,
            user: login.user,
            password: login.password.map(Secret::into_inner),
            private_key: login.private_key.map(Secret::into_inner),
            passphrase: login.passphrase.map(Secret::into_inner),
            host_key: login.host_key,
        })
    })
}

fn shown(tested: ServerTested) -> Result<ServerTestResponse> {
    let ServerTested { found, host_key } = tested;
    let facts = found.as_ref().ok().map(wire::answered).transpose()?;
    let told = |word: fn(&Problem) -> String| found.as_ref().err().map(word);
    Ok(ServerTestResponse {
        ok: found.is_ok(),
        facts,
        kind: found.as_ref().err().map(|problem| problem.kind),
        code: told(|problem| problem.code.to_owned()),
        message: told(|problem| problem.message.clone()),
        remedy: told(|problem| problem.remedy.clone()),
        host_key,
    })
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
