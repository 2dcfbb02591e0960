//! Nothing is left on a server of an environment that was not made, or was destroyed.
//!
//! Only what this platform has noted is removed, by the labels that it has put there. What carries such labels
//! and is not known here may be another platform's, or this one's from before its database was brought back.

use serde_json::{Value, json};
use undoo_core::{
    EnvironmentId, Result,
    platform::{DeploymentState, EventKind, RestoreStatus},
};
use undoo_store::{Page, Tx, deployments, environments, restore_points};

use crate::{
    Control,
    plane::{DeployStep, Watch},
    tasks::restore_event,
};

/// Deployments that one round looks at.
const AT_A_TIME: u64 = 50;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    for record in deployments::unfinished(&control.store, AT_A_TIME).await? {
        let environment = record.environment_id;
        if let Err(problem) = look(control, environment).await {
            tracing::debug!(%problem, %environment, "what is left of an environment stays for now");
        }
    }
    Ok(())
}

async fn look(control: &Control, id: EnvironmentId) -> Result<()> {
    let Some(environment) = environments::get(&control.store, id).await? else { return Ok(()) };
    // Whoever is at work on it makes it, or removes it.
    if let Err(busy) = control.not_busy(&control.store, &environment).await {
        return if busy.code == "environment_busy" { Ok(()) } else { Err(busy) };
    }
    let tx = control.store.begin().await?;
    // Since somebody looked, it may have been made: that, and the end of the task about it, come together.
    let now = deployments::get(&tx, id).await?;
    if now.is_none_or(|now| now.state == DeploymentState::Deployed) {
        return Ok(());
    }
    control.environment_to_remove(&tx, id).await?;
    tx.commit().await?;
    let (server, deployment) = control.deployment_at(id).await?;
    let destroyed = control.plane.deploy(&server, &deployment, DeployStep::Destroy, &Watch::silent()).await;
    destroyed.map_err(|failure| failure.problem)?;
    let tx = control.store.begin().await?;
    control.environment_unmade(&tx, id, "it was not finished, or is not wanted any more").await?;
    settle(control, &tx, id).await?;
    tx.commit().await
}

/// A restore that was stuck on what is gone now stands half-way no more.
async fn settle(control: &Control, tx: &Tx, id: EnvironmentId) -> Result<()> {
    let first = Page { page: 1, size: 100 };
    let stuck = restore_points::of_environment(tx, id, Some(RestoreStatus::Stuck), first).await?;
    for mut point in stuck.items {
        point.status = RestoreStatus::Failed;
        restore_points::update(tx, &point, RestoreStatus::Stuck).await?;
        control.tell(tx, restore_event(&point, EventKind::RestoreFailed, Value::Null)).await?;
        let data = json!({ "status": point.status });
        control.note(tx, None, point.organisation_id, "restore.settled", point.id, data).await?;
    }
    Ok(())
}
