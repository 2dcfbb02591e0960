//! A restore as the control plane knows it: the source document's restore point.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{BackupId, EnvironmentId, OrganisationId, ProjectId, RestoreId, ServerId, TaskId, UserId},
    word::words,
};

words! {
    /// Where a restore stands.
    RestoreStatus {
        /// It waits for its turn, or makes its safety backup.
        Pending = "pending",
        /// The backup is being opened and read.
        Downloading = "downloading",
        /// The database is being loaded beside the live one.
        RestoringDb = "restoring_db",
        /// The files are being placed beside the live ones.
        RestoringFiles = "restoring_files",
        /// Counting, matching, the proof, the cutover.
        Verifying = "verifying",
        /// The restored pair is live.
        Completed = "completed",
        /// It did not succeed; what is live is what was live before.
        Failed = "failed",
        /// It was called off; what is live is what was live before.
        Cancelled = "cancelled",
        /// It succeeded, and was taken back.
        Undone = "undone",
        /// Neither end could be reached; the error says what to do.
        Stuck = "stuck",
    }
}

impl RestoreStatus {
    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Undone | Self::Stuck)
    }

    /// How far the work is, among the states that it goes through one after another.
    fn rank(self) -> Option<u8> {
        match self {
            Self::Pending => Some(0),
            Self::Downloading => Some(1),
            Self::RestoringDb => Some(2),
            Self::RestoringFiles => Some(3),
            Self::Verifying => Some(4),
            _ => None,
        }
    }

    /// Whether a restore may go from here to there. A worker that takes one over begins again.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // Undo, and the redo of what was undone.
            (Self::Completed, Self::Undone) | (Self::Undone, Self::Completed) => true,
            // An operator has brought it to an end.
            (Self::Stuck, Self::Completed | Self::Failed | Self::Undone) => true,
            // An undo or redo that broke off half-way.
            (Self::Completed | Self::Undone, Self::Stuck) => true,
            _ => self.rank().is_some() && next != Self::Undone,
        }
    }
}

words! {
    /// Where a restore goes.
    RestoreMode {
        /// The environment that the backup was made of.
        Original = "original",
        /// Another environment of the same project.
        Existing = "existing",
        /// A new environment on the same server.
        New = "new",
        /// A new environment on another server.
        CrossServer = "cross_server",
    }
}

impl RestoreMode {
    /// Whether the restore makes the environment that it goes to.
    pub fn makes_environment(self) -> bool {
        matches!(self, Self::New | Self::CrossServer)
    }
}

/// A restore point.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePoint {
    /// Its id; the restore's records on the target have the same.
    pub id: RestoreId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// The project of the target.
    pub project_id: ProjectId,
    /// What is restored.
    pub backup_id: BackupId,
    /// What that is a backup of.
    pub source_environment_id: EnvironmentId,
    /// What it is restored to.
    pub target_environment_id: EnvironmentId,
    /// The server of that.
    pub target_server_id: Option<ServerId>,
    /// Where it goes.
    pub mode: RestoreMode,
    /// What was asked for besides; `undoo-control` gives it its shape.
    pub options: Value,
    /// Where it stands.
    pub status: RestoreStatus,
    /// The finer step that it is in, as the engine names its phases.
    pub phase: Option<String>,
    /// How far it is, from 0 to 100.
    pub progress: i32,
    /// The newest task about it: the restore's, later an undo's.
    pub task_id: Option<TaskId>,
    /// The safety backup, once there is one.
    pub pre_restore_backup_id: Option<BackupId>,
    /// When work on it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What went wrong: thing, cause and next step.
    pub error_message: Option<String>,
    /// The phase or step that it went wrong in.
    pub error_step: Option<String>,
    /// Findings that stood in the way, or were accepted.
    pub findings: Value,
    /// What the restored system holds back: mails and crons.
    pub held: Option<Value>,
    /// The signed report.
    pub report: Option<Value>,
    /// Until when it can be undone.
    pub undo_until: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked for it.
    pub created_by: Option<UserId>,
}

impl RestorePoint {
    /// Seconds from the beginning of the work to its end.
    pub fn duration_seconds(&self) -> Option<i64> {
        Some(self.completed_at?.as_second() - self.started_at?.as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_once_and_only_a_completed_restore_is_undone() {
        use RestoreStatus as S;
        for from in S::ALL {
            for to in S::ALL {
                let legal = from.may_become(*to);
                if *to == S::Undone {
                    assert_eq!(legal, matches!(from, S::Completed | S::Stuck), "{from}");
                }
                if matches!(from, S::Failed | S::Cancelled) {
                    assert!(!legal, "{from} became {to}");
                }
                if !from.is_final() && *to != S::Undone {
                    assert!(legal, "{from} cannot become {to}");
                }
            }
        }
    }
}
