//! A backup as the control plane knows it.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{BackupId, EnvironmentId, OrganisationId, ProjectId, StorageId, TaskId, UserId},
    word::words,
};

words! {
    /// How a backup is.
    BackupStatus {
        /// It waits for its turn.
        Pending = "pending",
        /// It is being made.
        Running = "running",
        /// It stands in its storage, whole.
        Completed = "completed",
        /// It could not be made; nothing of it is left.
        Failed = "failed",
        /// It was called off; nothing of it is left.
        Cancelled = "cancelled",
        /// It is being removed from its storage.
        Deleting = "deleting",
        /// It is gone from its storage.
        Deleted = "deleted",
    }
}

impl BackupStatus {
    /// Whether a backup may go from here to there.
    pub fn may_become(self, next: Self) -> bool {
        use BackupStatus as S;
        match self {
            S::Pending => matches!(next, S::Running | S::Failed | S::Cancelled),
            S::Running => matches!(next, S::Completed | S::Failed | S::Cancelled),
            S::Completed | S::Failed | S::Cancelled => next == S::Deleting,
            // One that could not be removed stays what it was before.
            S::Deleting => matches!(next, S::Deleted | S::Completed | S::Failed | S::Cancelled),
            S::Deleted => false,
        }
    }
}

words! {
    /// Why a backup was made.
    BackupType {
        /// Somebody asked for it.
        Manual = "manual",
        /// Its time had come.
        Scheduled = "scheduled",
        /// A restore was about to replace what is in it.
        PreRestore = "pre_restore",
        /// It came from elsewhere.
        Migration = "migration",
    }
}

/// A backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// Its id, also in its manifest.
    pub id: BackupId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// The project of its environment.
    pub project_id: ProjectId,
    /// What it is a backup of.
    pub environment_id: EnvironmentId,
    /// Where it lies; `None` once that storage is gone.
    pub storage_id: Option<StorageId>,
    /// Its key there, known once it is being made.
    pub key: Option<String>,
    /// How it is.
    pub status: BackupStatus,
    /// Why it was made.
    pub backup_type: BackupType,
    /// What somebody wrote about it.
    pub description: Option<String>,
    /// Whether it has files besides the database.
    pub include_filestore: bool,
    /// Bytes of the object.
    pub size_bytes: Option<i64>,
    /// Bytes of the dump in it.
    pub database_size_bytes: Option<i64>,
    /// Bytes of the files in it; `None` where it has none.
    pub filestore_size_bytes: Option<i64>,
    /// Whether it was read back and is what was written.
    pub is_verified: bool,
    /// What the environment was: the versions, modules and names in its manifest.
    pub environment_snapshot: Option<Value>,
    /// Why it could not be made.
    pub error_message: Option<String>,
    /// The task that makes it.
    pub task_id: Option<TaskId>,
    /// Who asked for it.
    pub created_by: Option<UserId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was complete.
    pub completed_at: Option<Timestamp>,
}
