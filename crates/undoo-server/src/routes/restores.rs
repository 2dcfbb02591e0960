//! Restores: planned, started, followed, called off, undone; and what a restored system holds back.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::Span;
use undoo_api::restores::{
    Estimate, HeldResponse, NewEnvironment, RestorePlanResponse, RestorePointResponse, RestoreQuery,
    RestoreRequest, RestoreRequestV2, RestoreResponseV2, RestoreStrategy, UndoPlanResponse,
};
use undoo_control::{DeploymentWish, RestoreWish, Started};
use undoo_core::{EnvironmentId, RestoreId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::{Failure, Result},
    request::{
        body::{Nothing, Sent},
        caller::By,
        fields::At,
        page::Paged,
    },
    wire,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(restore_start))
        .routes(routes!(restore_start_v2))
        .routes(routes!(restore_list))
        .routes(routes!(restore_get))
        .routes(routes!(restore_cancel))
        .routes(routes!(restore_undo))
        .routes(routes!(restore_undo_plan))
        .routes(routes!(restore_held))
        .routes(routes!(restore_release))
        .routes(routes!(restore_purge))
        .routes(routes!(restore_report))
}

/// Restores a backup to the environment that it was made of, or to another one of its project.
///
/// The answer comes at once; how far it is, events and the restore point tell. What is live stays live until
/// the restored system is proven.
#[utoipa::path(
    post, path = "/api/v1/backups/restore", tag = "restores", request_body = RestoreRequest,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 201, description = "Queued.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_start(
    State(app): State<App>,
    By(caller): By,
    Sent { body, once }: Sent<RestoreRequest>,
) -> Result<(StatusCode, Json<RestorePointResponse>)> {
    let wish = RestoreWish {
        target_environment_id: body.target_environment_id,
        create_pre_restore_backup: body.create_pre_restore_backup,
        include_filestore: body.include_filestore,
        ..RestoreWish::of(body.backup_id)
    };
    let started = app.control.restore_start(&caller, wish, once).await?;
    note(&started);
    Ok((StatusCode::CREATED, Json(started.restore_point.into())))
}

/// Restores a backup with everything that can be chosen; with `dry_run`, answers what that would do.
///
/// The modes `new` and `cross_server` make an environment for it, which takes `project.environments.create` as
/// well, and `org.servers.view` where it is to be on another server. It is `pending` until the restore is live;
/// if that fails or is called off, everything of it is removed.
#[utoipa::path(
    post, path = "/api/v1/backups/restore/v2", tag = "restores", request_body = RestoreRequestV2,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses(
        (status = 201, description = "Queued.", body = RestoreResponseV2),
        (status = 200, description = "What the restore would do: the answer to `dry_run`.", body = RestorePlanResponse),
    ),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_start_v2(
    State(app): State<App>,
    By(caller): By,
    Sent { body, once }: Sent<RestoreRequestV2>,
) -> Result<Response> {
    let dry_run = body.dry_run;
    let wish = wish(body)?;
    if dry_run {
        let (backup_id, accept) = (wish.backup_id, wish.accept.clone());
        let planned = app.control.restore_plan(&caller, wish).await;
        let planned = planned.map_err(|failed| Failure::because_of(failed.problem, failed.findings))?;
        let plan = planned.plan.as_ref().map(wire::answered).transpose()?;
        let of_engine = planned.plan.map(|plan| plan.findings).unwrap_or_default();
        let findings = [planned.findings, of_engine].concat();
        let is_there = !planned.mode.makes_environment();
        let answer = RestorePlanResponse {
            backup_id,
            target_environment_id: is_there.then_some(planned.target_environment.id),
            can_start: !findings.iter().any(|finding| finding.blocks(&accept)),
            findings,
            estimate: Estimate::of(&planned.took),
            plan,
        };
        return Ok(Json(answer).into_response());
    }
    let started = app.control.restore_start(&caller, wish, once).await?;
    note(&started);
    let answer = RestoreResponseV2 {
        restore_point: started.restore_point.into(),
        task: started.task.into(),
        target_environment: started.target_environment.into(),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn wish(body: RestoreRequestV2) -> Result<RestoreWish> {
    let strategy = match body.strategy {
        RestoreStrategy::Beside => json!({ "strategy": "beside" }),
        RestoreStrategy::StopFirst => {
            json!({ "strategy": "stop_first", "confirmed": body.drop_live.unwrap_or_default() })
        }
    };
    Ok(RestoreWish {
        keep_raw_pair_instead: body.keep_raw_pair_instead,
        mode: Some(body.target.mode),
        target_environment_id: body.target.environment_id,
        new_environment: body.target.new_environment.map(new_environment),
        create_pre_restore_backup: body.create_pre_restore_backup,
        include_filestore: body.include_filestore,
        include_database: body.include_database,
        intent: wire::asked("intent", &body.intent)?,
        neutralize: body.neutralize,
        hold_outgoing: body.hold_outgoing,
        accept: body.accept,
        strategy: wire::asked("strategy", &strategy)?,
        auto_rollback: body.auto_rollback,
        undo_window_hours: Some(body.undo_window_hours),
        ..RestoreWish::of(body.backup_id)
    })
}

/// An environment that is to be made.
pub(super) fn new_environment(new: NewEnvironment) -> undoo_control::NewEnvironment {
    undoo_control::NewEnvironment {
        name: new.name,
        environment_type: new.environment_type,
        server_id: new.server_id,
        domain: new.domain,
        odoo_image: new.odoo_image,
        deployment: DeploymentWish {
            postgres_image: new.postgres_image,
            http_port: new.http_port,
            odoo_conf: new.odoo_conf,
        },
        addons: new.addons.into_iter().map(Into::into).collect(),
    }
}

fn note(started: &Started) {
    Span::current().record("task_id", tracing::field::display(started.task.id));
}

/// Restores to an environment, newest first.
#[utoipa::path(
    get, path = "/api/v1/environments/{environment_id}/restore-points", tag = "restores",
    params(("environment_id" = EnvironmentId, Path), RestoreQuery),
    responses((status = 200, description = "A page of them.", body = Vec<RestorePointResponse>)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn restore_list(
    State(app): State<App>,
    By(caller): By,
    At(id): At<EnvironmentId>,
    paged: Paged<RestoreQuery>,
) -> Result<Response> {
    let listed = app.control.restore_list(&caller, id, paged.asked.status, paged.page).await?;
    Ok(paged.answer(listed, RestorePointResponse::from))
}

/// A restore.
#[utoipa::path(
    get, path = "/api/v1/restore/{restore_id}", tag = "restores", params(("restore_id" = RestoreId, Path)),
    responses((status = 200, description = "The restore.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn restore_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
) -> Result<Json<RestorePointResponse>> {
    Ok(Json(app.control.restore_get(&caller, id).await?.into()))
}

/// Calls a restore off. What it did is taken back, and what was live stays.
#[utoipa::path(
    post, path = "/api/v1/restore/{restore_id}/cancel", tag = "restores",
    params(("restore_id" = RestoreId, Path)),
    responses((status = 200, description = "Called off.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_cancel(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
) -> Result<Json<RestorePointResponse>> {
    Ok(Json(app.control.restore_cancel(&caller, id).await?.into()))
}

/// Takes the newest restore of an environment back, within its undo window; undoing again brings it back.
#[utoipa::path(
    post, path = "/api/v1/restore/{restore_id}/undo", tag = "restores",
    params(("restore_id" = RestoreId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_undo(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<RestorePointResponse>)> {
    let started = app.control.restore_undo(&caller, id, once).await?;
    note(&started);
    Ok((StatusCode::ACCEPTED, Json(started.restore_point.into())))
}

/// What an undo would do, and what was written since that it would put out of sight.
#[utoipa::path(
    get, path = "/api/v1/restore/{restore_id}/undo", tag = "restores",
    params(("restore_id" = RestoreId, Path)),
    responses((status = 200, description = "The plan.", body = UndoPlanResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_undo_plan(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
) -> Result<Json<UndoPlanResponse>> {
    let planned = app.control.restore_undo_plan(&caller, id).await;
    let plan = planned.map_err(|failed| Failure::because_of(failed.problem, failed.findings))?;
    let written = wire::answered(&plan.written)?;
    Ok(Json(UndoPlanResponse { restore_id: id, to: plan.to, written }))
}

/// Mails and crons that the restored system holds back.
#[utoipa::path(
    get, path = "/api/v1/restore/{restore_id}/held", tag = "restores",
    params(("restore_id" = RestoreId, Path)),
    responses((status = 200, description = "All of them.", body = HeldResponse)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn restore_held(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
) -> Result<Json<HeldResponse>> {
    Ok(Json(app.control.restore_held(&caller, id).await?.unwrap_or_default().into()))
}

/// Lets held mails and crons go.
#[utoipa::path(
    post, path = "/api/v1/restore/{restore_id}/release", tag = "restores",
    params(("restore_id" = RestoreId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_release(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<RestorePointResponse>)> {
    let started = app.control.restore_release(&caller, id, once).await?;
    note(&started);
    Ok((StatusCode::ACCEPTED, Json(started.restore_point.into())))
}

/// Removes the pair that a restore keeps, before its time. Afterwards the restore cannot be undone.
#[utoipa::path(
    post, path = "/api/v1/restore/{restore_id}/purge", tag = "restores",
    params(("restore_id" = RestoreId, Path), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    responses((status = 202, description = "Queued.", body = RestorePointResponse)),
    extensions(("x-permission" = json!("project.backups.restore")), ("x-scope" = json!("environment")))
)]
async fn restore_purge(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
    Sent { once, .. }: Sent<Nothing>,
) -> Result<(StatusCode, Json<RestorePointResponse>)> {
    let started = app.control.restore_purge(&caller, id, once).await?;
    note(&started);
    Ok((StatusCode::ACCEPTED, Json(started.restore_point.into())))
}

/// The signed report of a restore.
#[utoipa::path(
    get, path = "/api/v1/restore/{restore_id}/report", tag = "restores",
    params(("restore_id" = RestoreId, Path)),
    responses((status = 200, description = "The report, as it was signed.", body = Object)),
    extensions(("x-permission" = json!("project.backups.view")), ("x-scope" = json!("project")))
)]
async fn restore_report(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RestoreId>,
) -> Result<Json<Value>> {
    Ok(Json(app.control.restore_report(&caller, id).await?))
}
