//! A task that a worker has, and the only way to write about it.

use serde_json::Value;
use undoo_core::{
    Problem, Result, TaskId,
    platform::{StepEvent, StepLog, TaskStatus},
};
use undoo_store::{
    Tx,
    tasks::{self, Lease},
};

use super::hold::Hold;
use crate::Control;

/// A task and the lease on it.
pub(crate) struct Held {
    pub control: Control,
    pub lease: Lease,
    /// Where tests hold it.
    pub hold: Hold,
}

impl Held {
    /// The task.
    pub(crate) fn task(&self) -> TaskId {
        self.lease.task_id
    }

    /// Begins to write, if the worker still has the task.
    ///
    /// # Errors
    /// `lease_lost` (`Conflict`): nothing is to be written any more.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        self.control.store.begin_held(&self.lease).await
    }

    /// Ends a task that cannot even be begun, or concluded: so that it does not come back for ever.
    pub(crate) async fn fail(&self, problem: &Problem) -> Result<()> {
        let tx = self.begin().await?;
        let error = format!("{}. {}", problem.message.trim_end_matches('.'), problem.remedy);
        let status = if self.lease.exhausted { TaskStatus::Stuck } else { TaskStatus::Failed };
        tasks::finish(&tx, &self.lease, status, None, Some(&error)).await?;
        tx.commit().await
    }

    /// Adds a line to the task's log.
    pub(crate) async fn append(&self, step: &str, event: StepEvent, data: &Value) -> Result<()> {
        self.hold.checkpoint(|| format!("{step}:{event}:before")).await;
        let tx = self.begin().await?;
        tasks::log_append(&tx, &self.lease, step, event, data).await?;
        tx.commit().await?;
        self.hold.checkpoint(|| format!("{step}:{event}:after")).await;
        Ok(())
    }

    /// Whether somebody has called the task off.
    pub(crate) async fn is_cancelling(&self) -> Result<bool> {
        let task = tasks::get(&self.control.store, self.task()).await?;
        Ok(task.is_some_and(|task| task.status == TaskStatus::Cancelling))
    }

    /// The task's log.
    pub(crate) async fn log(&self) -> Result<Vec<StepLog>> {
        tasks::log(&self.control.store, self.task()).await
    }
}
