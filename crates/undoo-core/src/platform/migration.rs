//! A migration: a backup from elsewhere that an environment waits for. It is restored when the environment is
//! first deployed, and never again unless a person says so.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{BackupId, EnvironmentId, MigrationId, OrganisationId, ProjectId, UserId},
    word::words,
};

words! {
    /// Where a migration comes from; for people only.
    MigrationSource {
        /// Odoo.sh.
        OdooSh = "odoo_sh",
        /// Odoo Online.
        OdooOnline = "odoo_online",
        /// The database manager of an Odoo of one's own.
        DatabaseManager = "database_manager",
        /// Anything else.
        Other = "other",
    }
}

words! {
    /// How far a migration is.
    MigrationStatus {
        /// Nothing of its backup has arrived.
        Pending = "pending",
        /// Some of it has.
        Uploading = "uploading",
        /// All of it is there, and is read from end to end.
        Verifying = "verifying",
        /// It is whole, and waits for its environment to be deployed.
        Uploaded = "uploaded",
        /// It is being restored.
        Restoring = "restoring",
        /// It was restored.
        Completed = "completed",
        /// It could not be read, or not be restored: the error says why, and it can be tried again.
        Failed = "failed",
        /// Nobody went on with it, or its environment is not wanted any more.
        Cancelled = "cancelled",
    }
}

/// A migration, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Its id.
    pub id: MigrationId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// The project of its environment.
    pub project_id: ProjectId,
    /// The environment that waits for it.
    pub environment_id: EnvironmentId,
    /// Its backup; complete once it was read from end to end.
    pub backup_id: BackupId,
    /// Where it comes from.
    pub source: MigrationSource,
    /// How far it is.
    pub status: MigrationStatus,
    /// Bytes that are to be uploaded; `None` for a backup that lay in a storage already, and is not ours.
    pub upload_bytes: Option<i64>,
    /// What the storage knows the unfinished upload by.
    pub upload: Option<String>,
    /// Counts those who send: only the last one's bytes are taken.
    pub upload_epoch: i64,
    /// When bytes arrived last.
    pub upload_at: Option<Timestamp>,
    /// How its environment is to be deployed, as the control plane understands it.
    pub deployment: Value,
    /// Why it could not be read or restored.
    pub error_message: Option<String>,
    /// Who began it.
    pub created_by: Option<UserId>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When all of its backup was there.
    pub uploaded_at: Option<Timestamp>,
    /// When that had been read from end to end.
    pub verified_at: Option<Timestamp>,
    /// When its last restore was asked for.
    pub restore_started_at: Option<Timestamp>,
    /// When it was restored into what is live now: the environment's `migration_restore_completed_at`. While a
    /// person's wish to restore it again is carried out, there is none.
    pub restored_at: Option<Timestamp>,
    /// When it was last restored.
    pub completed_at: Option<Timestamp>,
    /// When it failed last.
    pub failed_at: Option<Timestamp>,
}

impl Migration {
    /// Whether deploying its environment restores it: it is whole, and was not restored.
    pub fn waits(&self) -> bool {
        self.verified_at.is_some() && self.restored_at.is_none() && !self.is_over()
    }

    /// Whether nothing is to come of it any more.
    pub fn is_over(&self) -> bool {
        self.status == MigrationStatus::Cancelled
    }

    /// Whether bytes are taken.
    pub fn takes_bytes(&self) -> bool {
        matches!(self.status, MigrationStatus::Pending | MigrationStatus::Uploading)
            && self.upload_bytes.is_some()
    }
}
