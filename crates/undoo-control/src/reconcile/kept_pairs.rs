//! Kept pairs whose undo window is over are removed, or kept longer where nothing else has what is in them.

use jiff::SignedDuration;
use serde_json::json;
use undoo_core::{
    Finding, Result,
    platform::{RestorePoint, TaskKind},
};
use undoo_store::restore_points;

use crate::{
    Control,
    restores::{add_finding, settled},
    tasks::About,
    work::{Payload, Purgeable, purgeable},
};

/// Restores that one round looks at.
const AT_A_TIME: u64 = 100;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let expired = restore_points::with_expired_undo(&control.store, control.now(), AT_A_TIME).await?;
    for point in expired {
        let done = match purgeable(&point)? {
            Purgeable::Yes => purge(control, &point).await,
            Purgeable::OnlyCopy(finding) => keep(control, point, &finding).await,
        };
        match done {
            // Somebody is at work there; the next round comes.
            Err(problem) if problem.code == "environment_busy" => {}
            done => done?,
        }
    }
    Ok(())
}

async fn purge(control: &Control, point: &RestorePoint) -> Result<()> {
    let payload = Payload::Purge { restore_id: point.id, accepted: false };
    let tx = control.store.begin().await?;
    control.enqueue_for(&tx, TaskKind::Purge, About::restore(point, payload), None).await?;
    tx.commit().await
}

/// Keeps it for another window, and says so where people look: at the restore, in the audit log, in the metrics.
async fn keep(control: &Control, mut point: RestorePoint, finding: &Finding) -> Result<()> {
    let hours = i64::from(settled(&point)?.undo_window_hours);
    let until = control.now().checked_add(SignedDuration::from_hours(hours)).ok();
    add_finding(&mut point, finding);
    point.undo_until = until;
    let tx = control.store.begin().await?;
    restore_points::update(&tx, &point, point.status).await?;
    let data = json!({ "until": until, "why": finding.message });
    control.note(&tx, None, point.organisation_id, "restore.kept_longer", point.id, data).await?;
    tx.commit().await?;
    metrics::counter!("undoo_kept_pairs_prolonged_total").increment(1);
    tracing::warn!(restore = %point.id, why = finding.message, "a replaced pair is kept for another window");
    Ok(())
}
