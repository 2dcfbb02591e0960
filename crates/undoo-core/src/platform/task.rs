//! Work in the queue, and the log of its steps.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{EnvironmentId, OrganisationId, ServerId, TaskId, UserId},
    word::words,
};

words! {
    /// What is to be done.
    TaskKind {
        /// Make a backup.
        Backup = "backup",
        /// Restore one.
        Restore = "restore",
        /// Swap a restore's two pairs: undo, or the redo of an undo.
        Undo = "undo",
        /// Let held mails and crons go.
        Release = "release",
        /// Remove a kept pair whose time is over.
        Purge = "purge",
        /// Read a backup from end to end.
        VerifyBackup = "verify_backup",
        /// Remove a backup from its storage.
        DeleteBackup = "delete_backup",
        /// Make the containers of an environment anew; its data stays.
        Deploy = "deploy",
        /// Start an environment.
        Start = "start",
        /// Stop one.
        Stop = "stop",
        /// Remove one from its server, with all its data.
        Destroy = "destroy",
    }
}

words! {
    /// Where a task stands.
    TaskStatus {
        /// It waits for a worker.
        Queued = "queued",
        /// A worker has it.
        Running = "running",
        /// It was called off, and a worker takes back what it did.
        Cancelling = "cancelling",
        /// It is done.
        Completed = "completed",
        /// It ended without being done; what it did is taken back.
        Failed = "failed",
        /// It was called off, and what it did is taken back.
        Cancelled = "cancelled",
        /// It could be brought to no end; a person has to look.
        Stuck = "stuck",
    }
}

impl TaskStatus {
    /// Whether it is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Stuck)
    }

    /// Whether a task may go from here to there.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            // One that waits is called off without anything to take back.
            Self::Queued => matches!(next, Self::Running | Self::Cancelled | Self::Failed),
            // A worker that shuts down hands it back.
            Self::Running => next != Self::Running,
            // The work may have been done before the wish arrived.
            Self::Cancelling => !matches!(next, Self::Queued | Self::Running | Self::Cancelling),
            Self::Completed | Self::Failed | Self::Cancelled | Self::Stuck => false,
        }
    }
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// What is to be done.
    pub kind: TaskKind,
    /// Where it stands.
    pub status: TaskStatus,
    /// Higher goes first.
    pub priority: i32,
    /// The environment that it changes: one task at a time is active on each.
    pub environment_id: Option<EnvironmentId>,
    /// The server that it works on, which has room for so many.
    pub server_id: Option<ServerId>,
    /// What its kind needs to know; `undoo-control` gives it its shape.
    pub payload: Value,
    /// How often a worker has taken it.
    pub attempts: i32,
    /// How often one may.
    pub max_attempts: i32,
    /// Raised whenever a worker takes it: writes of an earlier one are refused.
    pub epoch: i64,
    /// The worker that has it.
    pub worker: Option<String>,
    /// Until when that worker has it without another sign of life.
    pub lease_until: Option<Timestamp>,
    /// Before when it is not taken.
    pub run_after: Timestamp,
    /// How far it is: phase, done, total, unit.
    pub progress: Option<Value>,
    /// What came of it.
    pub result: Option<Value>,
    /// What went wrong: thing, cause and next step.
    pub error: Option<String>,
    /// Who asked for it.
    pub created_by: Option<UserId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When a worker first took it.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

words! {
    /// What the log says about a step.
    StepEvent {
        /// Its work is about to begin.
        DoStarted = "do_started",
        /// Its work is done.
        DoFinished = "do_finished",
        /// Its work failed.
        DoFailed = "do_failed",
        /// Its work is about to be taken back.
        UndoStarted = "undo_started",
        /// Its work is taken back.
        UndoFinished = "undo_finished",
        /// Its work could not be taken back.
        UndoFailed = "undo_failed",
    }
}

/// A line of a task's log.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLog {
    /// The task.
    pub task_id: TaskId,
    /// Its place in the log, from 1.
    pub sequence: i32,
    /// The step.
    pub step: String,
    /// What happened.
    pub event: StepEvent,
    /// What the step answered, or why it failed.
    pub data: Value,
    /// The epoch of the worker that wrote it.
    pub epoch: i64,
    /// When.
    pub at: Timestamp,
}
