//! How far a recovery is, and how long it took: read off its restores.

use jiff::SignedDuration;
use serde::Serialize;
use undoo_core::{
    Result, Signed,
    platform::{
        RestorePoint, RestoreStatus,
        recovery_plan::{Entry, RecoveryPlan, Target},
    },
};
use undoo_store::restore_points;

use super::ended_badly;
use crate::Control;

/// What a recovery's report is signed as.
const SIGNED: &[u8] = b"undoo recovery 1\n";

/// How far a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryStatus {
    /// Nobody has had it carried out.
    Planned,
    /// Restores wait or run.
    Running,
    /// Everything is back.
    Completed,
    /// What could be done is done, and something is not back.
    Incomplete,
}

/// An environment of a plan as it stands.
#[derive(Debug, Clone)]
pub struct MeasuredEntry {
    /// What was decided.
    pub entry: Entry,
    /// Its restore, as it is now.
    pub restore: Option<RestorePoint>,
    /// From the plan's start to the end of its restore, when it answered.
    pub recovery: Option<SignedDuration>,
    /// What it is measured against.
    pub target: Target,
    /// Whether both targets were met; `None` while it is not back.
    pub met: Option<bool>,
}

/// A plan as it stands.
#[derive(Debug, Clone)]
pub struct RecoveryState {
    /// It.
    pub plan: RecoveryPlan,
    /// How far it is.
    pub status: RecoveryStatus,
    /// Its environments, in the order in which they are worked off.
    pub entries: Vec<MeasuredEntry>,
    /// What came of it, signed, once nothing of it runs any more.
    pub report: Option<Signed>,
}

/// What is signed of an environment.
#[derive(Serialize)]
struct Reported<'a> {
    environment: String,
    name: &'a str,
    environment_type: String,
    backup: Option<String>,
    server: Option<String>,
    restore: Option<String>,
    outcome: String,
    recovery_seconds: Option<i64>,
    recovery_target_seconds: i64,
    data_loss_seconds: Option<i64>,
    data_loss_target_seconds: i64,
    met: Option<bool>,
}

impl Control {
    /// A plan with what its restores have come to.
    pub(super) async fn recovery_state(&self, plan: RecoveryPlan) -> Result<RecoveryState> {
        let mut entries = Vec::new();
        for entry in &plan.entries {
            let restore = match entry.restore {
                Some(id) => restore_points::get(&self.store, id).await?,
                None => None,
            };
            entries.push(measured(&plan, entry, restore));
        }
        let status = status(&plan, &entries);
        let over = matches!(status, RecoveryStatus::Completed | RecoveryStatus::Incomplete);
        let report = if over { Some(self.recovery_report(&plan, status, &entries).await?) } else { None };
        Ok(RecoveryState { plan, status, entries, report })
    }

    async fn recovery_report(
        &self,
        plan: &RecoveryPlan,
        status: RecoveryStatus,
        entries: &[MeasuredEntry],
    ) -> Result<Signed> {
        let signer = self.signer(plan.organisation_id).await?;
        let report = serde_json::json!({
            "recovery_plan": plan.id,
            "organization": plan.organisation_id,
            "lost_servers": plan.lost_servers,
            "lost_at": plan.lost_at,
            "started_at": plan.started_at,
            "status": status,
            "environments": entries.iter().map(reported).collect::<Vec<_>>(),
        });
        Signed::new(SIGNED, &report, &signer)
    }
}

fn measured(plan: &RecoveryPlan, entry: &Entry, restore: Option<RestorePoint>) -> MeasuredEntry {
    let target = plan.targets.of(entry.environment_type);
    let back = restore.as_ref().filter(|point| point.status == RestoreStatus::Completed);
    let recovery = back
        .and_then(|point| point.completed_at)
        .zip(plan.started_at)
        .map(|(ended, started)| ended.duration_since(started));
    let met = recovery.zip(entry.recovery.outcome.as_ref().ok()).map(|(took, assigned)| {
        took.as_secs() <= target.recovery_seconds && assigned.data_loss.as_secs() <= target.data_loss_seconds
    });
    MeasuredEntry { entry: entry.clone(), restore, recovery, target, met }
}

fn status(plan: &RecoveryPlan, entries: &[MeasuredEntry]) -> RecoveryStatus {
    if plan.started_at.is_none() {
        return RecoveryStatus::Planned;
    }
    let under_way = |one: &MeasuredEntry| one.restore.as_ref().is_some_and(|point| !point.status.is_final());
    if entries.iter().any(under_way) {
        return RecoveryStatus::Running;
    }
    let back = |one: &MeasuredEntry| {
        one.restore.as_ref().is_some_and(|point| point.status == RestoreStatus::Completed)
    };
    if entries.iter().all(back) { RecoveryStatus::Completed } else { RecoveryStatus::Incomplete }
}

fn reported(one: &MeasuredEntry) -> Reported<'_> {
    let MeasuredEntry { entry, restore, recovery, target, met } = one;
    let assigned = entry.recovery.outcome.as_ref().ok();
    let outcome = match (&entry.recovery.outcome, restore, &entry.refused) {
        (Err(gap), ..) => gap.code().to_owned(),
        (_, Some(point), _) if !ended_badly(point.status) => point.status.to_string(),
        (_, _, Some(refused)) => refused.code.clone(),
        (_, Some(point), _) => point.status.to_string(),
        (_, None, None) => "not_begun".to_owned(),
    };
    Reported {
        environment: entry.recovery.environment.to_string(),
        name: &entry.name,
        environment_type: entry.environment_type.to_string(),
        backup: assigned.map(|it| it.backup.to_string()),
        server: assigned.map(|it| it.server.to_string()),
        restore: entry.restore.map(|id| id.to_string()),
        outcome,
        recovery_seconds: recovery.map(|took| took.as_secs()),
        recovery_target_seconds: target.recovery_seconds,
        data_loss_seconds: assigned.map(|it| it.data_loss.as_secs()),
        data_loss_target_seconds: target.data_loss_seconds,
        met: *met,
    }
}
