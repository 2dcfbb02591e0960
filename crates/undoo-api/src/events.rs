//! What `GET /api/v1/events/stream` tells: Server-Sent Events, whose `event:` is an `EventKind` and whose
//! `data:` is one of the shapes here.

use serde::{Deserialize, Serialize};
use undoo_core::{
    BackupId, EnvironmentId, RestoreId,
    platform::{BackupStatus, RestoreStatus},
};
use utoipa::ToSchema;

/// What an event says about a restore. Which fields are there depends on the event: `restore.started` has
/// `backup_id` and `environment_id`, `restore.progress` has `status` and `progress`, `restore.completed` has
/// `duration_seconds`, `restore.failed` and `restore.stuck` have `error_step` and `error_message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestoreEvent {
    /// The restore.
    pub restore_id: RestoreId,
    /// What is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<BackupId>,
    /// What it is restored to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RestoreStatus>,
    /// How far it is, from 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<i32>,
    /// How far the phase is.
    #[serde(flatten)]
    pub step: PhaseProgress,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// The phase that it went wrong in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_step: Option<String>,
    /// What went wrong: thing, cause and next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// What an event says about a backup. Which fields are there depends on the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupEvent {
    /// The backup.
    pub backup_id: BackupId,
    /// What it is a backup of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// How it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<BackupStatus>,
    /// How far it is, from 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<i32>,
    /// How far the phase is.
    #[serde(flatten)]
    pub step: PhaseProgress,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// What went wrong: thing, cause and next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// How far a phase of the work is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseProgress {
    /// The phase: finer than a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "post_data")]
    pub phase: Option<String>,
    /// What is done of it, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// All there is to do, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// `bytes`, `files` or `statements`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
