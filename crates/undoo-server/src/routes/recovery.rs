//! Recovery plans.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use undoo_api::{
    environments::OrganizationQuery,
    recovery::{
        RecoveryEntry, RecoveryGap, RecoveryPlanRequest, RecoveryPlanResponse, RecoveryStatus as Status,
        RecoveryTarget, RecoveryTargets,
    },
};
use undoo_control::{MeasuredEntry, RecoveryState, RecoveryStatus, RecoveryWish};
use undoo_core::{
    RecoveryPlanId,
    platform::{
        recovery::Gap,
        recovery_plan::{Target, Targets},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    failure::Result,
    request::{body::Sent, caller::By, fields::At, page::Paged},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(recovery_plan_list, recovery_plan_create))
        .routes(routes!(recovery_plan_get))
        .routes(routes!(recovery_plan_start))
}

/// Recovery plans of an organisation, newest first.
#[utoipa::path(
    get, path = "/api/v1/recovery-plans", tag = "recovery", params(OrganizationQuery),
    responses((status = 200, description = "A page of them.", body = Vec<RecoveryPlanResponse>)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn recovery_plan_list(
    State(app): State<App>,
    By(caller): By,
    paged: Paged<OrganizationQuery>,
) -> Result<Response> {
    let listed = app.control.recovery_list(&caller, paged.asked.organization_id, paged.page).await?;
    Ok(paged.answer(listed, shown))
}

/// Says what would come back where after a loss. Nothing is touched.
///
/// Production goes first, then staging, then development. What cannot come back is in the plan with the reason.
#[utoipa::path(
    post, path = "/api/v1/recovery-plans", tag = "recovery", request_body = RecoveryPlanRequest,
    responses((status = 201, description = "The plan.", body = RecoveryPlanResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn recovery_plan_create(
    State(app): State<App>,
    By(caller): By,
    Sent { body, .. }: Sent<RecoveryPlanRequest>,
) -> Result<(StatusCode, Json<RecoveryPlanResponse>)> {
    let wish = RecoveryWish {
        organisation_id: body.organization_id,
        lost_servers: body.lost_server_ids,
        environments: body.environment_ids,
        to: body.to_server_ids,
        unverified: body.unverified_environment_ids,
        lost_at: body.lost_at,
        targets: body.targets.map_or_else(Targets::default, targets),
    };
    let plan = app.control.recovery_plan(&caller, wish).await?;
    Ok((StatusCode::CREATED, Json(shown(plan))))
}

/// A recovery plan, and how far it is.
#[utoipa::path(
    get, path = "/api/v1/recovery-plans/{recovery_plan_id}", tag = "recovery",
    params(("recovery_plan_id" = RecoveryPlanId, Path)),
    responses((status = 200, description = "The plan.", body = RecoveryPlanResponse)),
    extensions(("x-permission" = json!("org.servers.view")), ("x-scope" = json!("organization")))
)]
async fn recovery_plan_get(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RecoveryPlanId>,
) -> Result<Json<RecoveryPlanResponse>> {
    Ok(Json(shown(app.control.recovery_get(&caller, id).await?)))
}

/// Carries a recovery plan out: a restore across servers for each environment that can come back, in the plan's
/// order.
///
/// It can be asked for again: then it begins what could not be begun before, and what has failed. An environment
/// that was lost makes room for its successor by taking another name.
#[utoipa::path(
    post, path = "/api/v1/recovery-plans/{recovery_plan_id}/start", tag = "recovery",
    params(("recovery_plan_id" = RecoveryPlanId, Path)),
    responses((status = 202, description = "Begun.", body = RecoveryPlanResponse)),
    extensions(("x-permission" = json!("org.servers.manage")), ("x-scope" = json!("organization")))
)]
async fn recovery_plan_start(
    State(app): State<App>,
    By(caller): By,
    At(id): At<RecoveryPlanId>,
) -> Result<(StatusCode, Json<RecoveryPlanResponse>)> {
    let state = app.control.recovery_start(&caller, id).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(state))))
}

fn targets(asked: RecoveryTargets) -> Targets {
    let one = |asked: RecoveryTarget| Target {
        recovery_seconds: asked.recovery_seconds,
        data_loss_seconds: asked.data_loss_seconds,
    };
    Targets {
        production: one(asked.production),
        staging: one(asked.staging),
        development: one(asked.development),
    }
}

fn shown(state: RecoveryState) -> RecoveryPlanResponse {
    let RecoveryState { plan, status, entries, report } = state;
    RecoveryPlanResponse {
        id: plan.id,
        organization_id: plan.organisation_id,
        status: match status {
            RecoveryStatus::Planned => Status::Planned,
            RecoveryStatus::Running => Status::Running,
            RecoveryStatus::Completed => Status::Completed,
            RecoveryStatus::Incomplete => Status::Incomplete,
        },
        lost_server_ids: plan.lost_servers,
        lost_at: plan.lost_at,
        entries: entries.into_iter().map(entry).collect(),
        findings: plan.findings,
        create_date: plan.created_at,
        started_at: plan.started_at,
        report: report.map(|signed| serde_json::json!(signed)),
    }
}

fn entry(one: MeasuredEntry) -> RecoveryEntry {
    let MeasuredEntry { entry, restore, recovery, target, met } = one;
    let assigned = entry.recovery.outcome.as_ref().ok();
    let gap = entry.recovery.outcome.as_ref().err();
    let backup_id = match gap {
        Some(Gap::NoVerifiedBackup { newest }) => Some(*newest),
        _ => assigned.map(|it| it.backup),
    };
    let (refused_code, refused_message) = entry.refused.map(|it| (it.code, it.message)).unzip();
    RecoveryEntry {
        environment_id: entry.recovery.environment,
        name: entry.name,
        environment_type: entry.environment_type,
        gap: gap.map(|gap| match gap {
            Gap::NoBackup => RecoveryGap::NoBackup,
            Gap::NoVerifiedBackup { .. } => RecoveryGap::NoVerifiedBackup,
            Gap::BackupLost => RecoveryGap::BackupLost,
            Gap::NoRoom => RecoveryGap::NoRoom,
        }),
        backup_id,
        server_id: assigned.map(|it| it.server),
        estimate_seconds: assigned.and_then(|it| it.estimate).map(|estimate| estimate.as_secs()),
        data_loss_seconds: assigned.map(|it| it.data_loss.as_secs()),
        data_loss_target_seconds: target.data_loss_seconds,
        recovery_seconds: recovery.map(|took| took.as_secs()),
        recovery_target_seconds: target.recovery_seconds,
        targets_met: met,
        restore_id: entry.restore,
        restore_status: restore.as_ref().map(|point| point.status),
        new_environment_id: restore.as_ref().map(|point| point.target_environment_id),
        restore_error: restore.and_then(|point| point.error_message),
        refused_code,
        refused_message,
    }
}
