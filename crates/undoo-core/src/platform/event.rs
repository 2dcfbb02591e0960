//! What happened, in the order in which an organisation's followers are told.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{EnvironmentId, OrganisationId, ProjectId},
    word::words,
};

words! {
    /// The name of an event, as SSE sends it.
    EventKind {
        /// A restore was begun.
        RestoreStarted = "restore.started",
        /// A restore came further.
        RestoreProgress = "restore.progress",
        /// A restore is live.
        RestoreCompleted = "restore.completed",
        /// A restore failed.
        RestoreFailed = "restore.failed",
        /// A restore was called off.
        RestoreCancelled = "restore.cancelled",
        /// A restore was taken back.
        RestoreUndone = "restore.undone",
        /// A restore needs a person.
        RestoreStuck = "restore.stuck",
        /// A backup was begun.
        BackupStarted = "backup.started",
        /// A backup came further.
        BackupProgress = "backup.progress",
        /// A backup is complete.
        BackupCompleted = "backup.completed",
        /// A backup failed.
        BackupFailed = "backup.failed",
        /// A backup was called off.
        BackupCancelled = "backup.cancelled",
        /// A backup is gone.
        BackupDeleted = "backup.deleted",
    }
}

/// An event that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Whose followers are told.
    pub organisation_id: OrganisationId,
    /// Those who may not see this project are not told.
    pub project_id: Option<ProjectId>,
    /// What it is about.
    pub environment_id: Option<EnvironmentId>,
    /// Its name.
    pub kind: EventKind,
    /// Its data.
    pub data: Value,
}

/// An event that is in the sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place, which only grows; the `id:` of SSE.
    pub sequence: i64,
    /// What it is.
    pub event: NewEvent,
    /// When it was told.
    pub at: Timestamp,
}
