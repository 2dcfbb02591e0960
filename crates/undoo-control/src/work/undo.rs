//! Swapping a restore's two pairs: undo, and the redo of what was undone.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Kind, Problem, RestoreId, Result, Side,
    platform::{EventKind, RestorePoint, RestoreStatus},
};
use undoo_engine::{order::Failure, record::State};
use undoo_store::{Tx, restore_points};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    signal::Signal,
};
use crate::{
    control::Named,
    plane::{CutOver, Location, Watch},
    restores::ends_of,
    tasks::restore_event,
};

const SWAP: &str = "swap";

pub(super) fn workflow(held: Arc<Held>, id: RestoreId, to: Side) -> Workflow {
    let teller = Teller::new(Arc::clone(&held), Subject::Task);
    let swap = Swap { held: Arc::clone(&held), teller, id, to };
    Workflow { steps: vec![Box::new(swap)], conclusion: Box::new(Concluded { held, id, to }) }
}

/// The restore point as it is now, and where its target is.
pub(super) async fn point_at(held: &Held, id: RestoreId) -> Result<(RestorePoint, Location)> {
    let store = &held.control.store;
    let point = restore_points::get(store, id).await?.ok_or_else(|| Named("restore", id).missing())?;
    let at = held.control.location_of(&ends_of(store, &point).await?.1).await?;
    Ok((point, at))
}

struct Swap {
    held: Arc<Held>,
    teller: Arc<Teller>,
    id: RestoreId,
    to: Side,
}

impl Swap {
    async fn to(&self, side: Side, watch: &Watch) -> Result<CutOver, Failure> {
        let (point, at) = point_at(&self.held, self.id).await?;
        let control = &self.held.control;
        let listed = control.plane.standing(&at, self.id).await?;
        let listed = listed.ok_or_else(|| {
            let message = format!("{} knows nothing of restore {}", at.target, self.id);
            Problem::new(Kind::Missing, "restore_missing", message, "Restore a backup instead.")
        })?;
        if listed.record.state == (State::Live { side }) {
            return Ok(CutOver { record: listed.record, report: None });
        }
        let signer = control.signer(point.organisation_id).await?;
        control.plane.swap(&at, self.id, side, &signer, watch).await
    }
}

#[async_trait]
impl Step for Swap {
    fn name(&self) -> &'static str {
        SWAP
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let over = self.teller.during(signal.stop(), |watch| async move { self.to(self.to, &watch).await });
        Ok(json!(over.await?))
    }

    async fn found_done(&self) -> Result<Option<Value>> {
        let (_, at) = point_at(&self.held, self.id).await?;
        let listed = self.held.control.plane.standing(&at, self.id).await?;
        let live = listed.filter(|listed| listed.record.state == State::Live { side: self.to });
        Ok(live.map(|listed| json!(CutOver { record: listed.record, report: None })))
    }

    async fn undo(&self) -> Result<()> {
        let (_, at) = point_at(&self.held, self.id).await?;
        let listed = self.held.control.plane.standing(&at, self.id).await?;
        let state = listed.map(|listed| listed.record.state);
        if !matches!(state, Some(State::Swapping { .. } | State::Live { .. })) {
            // There is nothing that could be swapped.
            return Ok(());
        }
        let back = self.to(self.to.other(), &Watch::silent()).await;
        back.map(drop).map_err(|failure| failure.problem)
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn phase(&self) -> Option<String> {
        self.teller.phase()
    }
}

struct Concluded {
    held: Arc<Held>,
    id: RestoreId,
    to: Side,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        let Some(mut point) = restore_points::get(tx, self.id).await? else { return Ok(None) };
        let before = point.status;
        let (kind, more) = match end {
            End::Succeeded => {
                let over = answers.get(SWAP).cloned().unwrap_or_default();
                if let Ok(over) = serde_json::from_value::<CutOver>(over) {
                    point.undo_until = over.record.undo_until;
                    point.report = over.report.or(point.report);
                }
                // The pair that is kept now is another one, or will have been worked on.
                point.options["final_backup"] = Value::Null;
                match self.to {
                    Side::Replaced => {
                        point.status = RestoreStatus::Undone;
                        (EventKind::RestoreUndone, Value::Null)
                    }
                    Side::Restored => {
                        point.status = RestoreStatus::Completed;
                        let more = json!({ "duration_seconds": point.duration_seconds() });
                        (EventKind::RestoreCompleted, more)
                    }
                }
            }
            // The restore is what it was; that nothing came of the wish is the task's to say.
            End::Cancelled(_) => return Ok(None),
            End::Failed(cause) => {
                let more =
                    json!({ "task": "undo", "error_step": cause.place(), "error_message": cause.text() });
                (EventKind::RestoreFailed, more)
            }
            End::Stuck(cause) => {
                point.status = RestoreStatus::Stuck;
                point.error_step = Some(cause.place().to_owned());
                point.error_message = Some(cause.text());
                let more = json!({ "error_step": point.error_step, "error_message": point.error_message });
                (EventKind::RestoreStuck, more)
            }
        };
        restore_points::update(tx, &point, before).await?;
        self.held.control.tell(tx, restore_event(&point, kind, more)).await?;
        Ok(Some(json!({ "restore_id": point.id, "status": point.status })))
    }
}
