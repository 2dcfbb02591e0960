//! After a restore: which pair is live, what it holds back, its report, and the pair that is kept.

use serde_json::{Value, json};
use undoo_core::{
    Kind, Problem, RestoreId, Result, Side,
    platform::{Permission, RestorePoint, RestoreStatus, TaskKind},
};
use undoo_engine::{order::Failure, orders::UndoPlan};
use undoo_store::{Tx, restore_points};

use super::{Started, ends_of, is_released};
use crate::{
    Caller, Control, Once,
    control::{Named, invalid},
    tasks::About,
    work::Payload,
};

impl Control {
    /// Brings back what a restore replaced; once more, and the restored pair is back.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore`; `not_undoable` (`Invalid`); `undo_window_over`,
    /// `not_the_newest`, `environment_busy` (`Conflict`).
    pub async fn restore_undo(&self, caller: &Caller, id: RestoreId, once: Option<Once>) -> Result<Started> {
        let tx = self.store.begin().await?;
        let point = self.restore_for(&tx, caller, id, Permission::BackupsRestore).await?;
        if self.once(&tx, caller, once.as_ref()).await?.is_some() {
            return self.started(&tx, point).await;
        }
        let to = self.swappable(&tx, &point).await?;
        let payload = Payload::Undo { restore_id: id, to };
        let started =
            self.task_about(tx, caller, point, TaskKind::Undo, payload, "restore.undo_requested", once);
        started.await
    }

    /// The side that an undo would make live.
    async fn swappable(&self, tx: &Tx, point: &RestorePoint) -> Result<Side> {
        let id = point.id;
        if point.mode.makes_environment() {
            let message =
                format!("restore {id} made its environment: nothing was there before that could come back");
            return Err(invalid("not_undoable", message, "To take it back, destroy the environment."));
        }
        let to = match point.status {
            RestoreStatus::Completed => Side::Replaced,
            RestoreStatus::Undone => Side::Restored,
            status => {
                let message = format!("restore {id} is {status}: there is nothing to swap");
                return Err(invalid(
                    "not_undoable",
                    message,
                    "Only a completed or undone restore can be swapped.",
                ));
            }
        };
        self.newest_live(tx, point).await?;
        if point.undo_until.is_none_or(|until| until <= self.now()) {
            return Err(Problem::new(
                Kind::Conflict,
                "undo_window_over",
                format!("the undo window of restore {id} is over"),
                "Restore the safety backup instead, if there is one.",
            ));
        }
        Ok(to)
    }

    /// What an undo would do: which side goes live, and what was written since the cutover.
    ///
    /// # Errors
    /// As [`Control::restore_undo`]; those of the data plane.
    pub async fn restore_undo_plan(&self, caller: &Caller, id: RestoreId) -> Result<UndoPlan, Failure> {
        let point = self.restore_for(&self.store, caller, id, Permission::BackupsRestore).await?;
        let (_, target) = ends_of(&self.store, &point).await?;
        let plan = self.plane.undo_plan(&self.location_of(&target).await?).await?;
        if plan.record.id != id {
            let message = format!("the newest restore on the target is {}, and not {id}", plan.record.id);
            let remedy = "Undo that one; older states come back from backups.";
            return Err(Problem::new(Kind::Conflict, "not_the_newest", message, remedy).into());
        }
        Ok(plan)
    }

    /// What a restore holds back: mails and crons that were due. `None` for nothing.
    ///
    /// # Errors
    /// As [`Control::restore_get`].
    pub async fn restore_held(&self, caller: &Caller, id: RestoreId) -> Result<Option<Value>> {
        Ok(self.restore_get(caller, id).await?.held)
    }

    /// Lets go what a restore holds back.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore`; `nothing_held` (`Invalid`); `not_the_newest`,
    /// `environment_busy` (`Conflict`).
    pub async fn restore_release(
        &self,
        caller: &Caller,
        id: RestoreId,
        once: Option<Once>,
    ) -> Result<Started> {
        let tx = self.store.begin().await?;
        let point = self.restore_for(&tx, caller, id, Permission::BackupsRestore).await?;
        if self.once(&tx, caller, once.as_ref()).await?.is_some() {
            return self.started(&tx, point).await;
        }
        let holds = point.held.as_ref().is_some_and(|held| !is_released(held));
        if point.status != RestoreStatus::Completed || !holds {
            let message = format!("restore {id} holds nothing back");
            return Err(invalid("nothing_held", message, "Nothing has to be released."));
        }
        self.newest_live(&tx, &point).await?;
        let payload = Payload::Release { restore_id: id };
        self.task_about(tx, caller, point, TaskKind::Release, payload, "restore.release_requested", once)
            .await
    }

    /// Removes the pair that a restore keeps, before its time or although nothing else has what is in it.
    /// Afterwards the restore cannot be undone.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore`; `nothing_kept` (`Invalid`); `environment_busy`.
    pub async fn restore_purge(&self, caller: &Caller, id: RestoreId, once: Option<Once>) -> Result<Started> {
        let tx = self.store.begin().await?;
        let point = self.restore_for(&tx, caller, id, Permission::BackupsRestore).await?;
        if self.once(&tx, caller, once.as_ref()).await?.is_some() {
            return self.started(&tx, point).await;
        }
        if point.undo_until.is_none() {
            let message = format!("restore {id} keeps no pair");
            return Err(invalid("nothing_kept", message, "There is nothing to remove."));
        }
        let payload = Payload::Purge { restore_id: id, accepted: true };
        self.task_about(tx, caller, point, TaskKind::Purge, payload, "restore.purge_requested", once).await
    }

    /// Queues a task about a restore that is over, and ends the transaction.
    #[allow(clippy::too_many_arguments, reason = "each is said once, by four callers")]
    async fn task_about(
        &self,
        tx: Tx,
        caller: &Caller,
        mut point: RestorePoint,
        kind: TaskKind,
        payload: Payload,
        action: &str,
        once: Option<Once>,
    ) -> Result<Started> {
        let task = self.enqueue(&tx, kind, About::restore(&point, payload), caller).await?;
        point.task_id = Some(task.id);
        restore_points::update(&tx, &point, point.status).await?;
        self.note(&tx, Some(caller), point.organisation_id, action, point.id, json!({ "task": task.id }))
            .await?;
        self.done_once(&tx, caller, once.as_ref(), point.id.uuid()).await?;
        let started = self.started(&tx, point).await?;
        tx.commit().await?;
        Ok(started)
    }

    /// The signed report of a restore.
    ///
    /// # Errors
    /// As [`Control::restore_get`]; `not_found` for one that has none.
    pub async fn restore_report(&self, caller: &Caller, id: RestoreId) -> Result<Value> {
        let point = self.restore_get(caller, id).await?;
        point.report.ok_or_else(|| Named("report of restore", id).missing())
    }
}
