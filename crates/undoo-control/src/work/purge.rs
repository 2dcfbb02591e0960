//! Removing the pair that a restore keeps: after its final backup, where one is needed.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use undoo_core::{Finding, Kind, Problem, RestoreId, Result, platform::RestorePoint};
use undoo_engine::{order::Failure, record::State};
use undoo_store::{Tx, restore_points};

use super::{
    driver::{Answers, Cause, Conclude, End, Step, Workflow},
    final_backup::{FinalBackup, NAME as FINAL_BACKUP},
    held::Held,
    progress::{Subject, Teller},
    restore::half_way,
    signal::Signal,
    undo::point_at,
};
use crate::{
    Control,
    restores::{add_finding, settled},
};

const PURGE: &str = "purge";

pub(super) fn workflow(held: Arc<Held>, id: RestoreId, accepted: bool) -> Workflow {
    let control = held.control.clone();
    let teller = Teller::new(Arc::clone(&held), Subject::Task);
    Workflow {
        steps: vec![
            Box::new(FinalBackup { held: Arc::clone(&held), teller, id, accepted }),
            Box::new(Purge { held, id, accepted }),
        ],
        conclusion: Box::new(Concluded { control, id }),
    }
}

/// Code of the problem with which a purge ends that came too early.
const NOT_DUE: &str = "undo_window_open";

/// Refuses a pair whose time is not over: it may have been swapped since somebody looked.
pub(super) fn due(point: &RestorePoint, now: Timestamp) -> Result<()> {
    if point.undo_until.is_none_or(|until| until <= now) {
        return Ok(());
    }
    let message = format!("what restore {} keeps can still be brought back", point.id);
    Err(Problem::new(Kind::Conflict, NOT_DUE, message, "It is removed when its undo window is over."))
}

struct Purge {
    held: Arc<Held>,
    id: RestoreId,
    accepted: bool,
}

#[async_trait]
impl Step for Purge {
    fn name(&self) -> &'static str {
        PURGE
    }

    async fn act(&self, _: &Signal) -> Result<Value, Failure> {
        let (point, at) = point_at(&self.held, self.id).await?;
        if !self.accepted {
            due(&point, self.held.control.now())?;
        }
        let plane = &self.held.control.plane;
        match plane.standing(&at, self.id).await?.map(|listed| listed.record.state) {
            Some(State::Live { .. }) => plane.purge(&at, self.id).await?,
            Some(State::Swapping { .. }) => {
                return Err(half_way(self.id, &at, "which of its pairs is kept is not decided").into());
            }
            None | Some(State::Staging | State::Staged | State::Purged) => {}
        }
        Ok(Value::Null)
    }

    /// What is half removed is no way back: it is waited for.
    fn is_waited_for(&self) -> bool {
        true
    }
}

struct Concluded {
    control: Control,
    id: RestoreId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, _: &Answers) -> Result<Option<Value>> {
        let Some(mut point) = restore_points::get(tx, self.id).await? else { return Ok(None) };
        let (action, data) = match end {
            End::Succeeded => {
                point.undo_until = None;
                ("restore.purged", json!({ "environment": point.target_environment_id }))
            }
            End::Failed(cause) if cause.code == NOT_DUE => return Ok(None),
            End::Failed(cause) => {
                self.keep_longer(&mut point, cause)?;
                ("restore.kept_longer", json!({ "until": point.undo_until, "why": cause.text() }))
            }
            End::Cancelled(_) | End::Stuck(_) => return Ok(None),
        };
        restore_points::update(tx, &point, point.status).await?;
        self.control.note(tx, None, point.organisation_id, action, point.id, data).await?;
        Ok(Some(json!({ "restore_id": point.id })))
    }
}

impl Concluded {
    /// Keeps the pair for another window, and says so where people look: at the restore, in the audit log, in
    /// the metrics. Trying again each minute would fill the list of backups with failed ones.
    fn keep_longer(&self, point: &mut RestorePoint, cause: &Cause) -> Result<()> {
        let hours = i64::from(settled(point)?.undo_window_hours);
        point.undo_until = self.control.now().checked_add(SignedDuration::from_hours(hours)).ok();
        let why = match cause.step.as_str() {
            FINAL_BACKUP => "a backup of it, which is to be there before it is removed, could not be made",
            _ => "it could not be removed",
        };
        let finding = Finding::warning(
            "kept_pair_stays",
            format!("the replaced pair is kept for another {hours} hours: {why} ({})", cause.message),
            "It takes as much disk as a second system. When it is not needed any more, have it removed: \
             `POST /api/v1/restore/{id}/purge`.",
        );
        add_finding(point, &finding);
        metrics::counter!("undoo_kept_pairs_prolonged_total").increment(1);
        tracing::warn!(restore = %point.id, why = finding.message, "a replaced pair is kept longer");
        Ok(())
    }
}
