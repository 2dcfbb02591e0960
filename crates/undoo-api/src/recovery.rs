//! Recovery plans: what comes back where after a loss, and how it went.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{
    BackupId, EnvironmentId, Finding, OrganisationId, RecoveryPlanId, RestoreId, ServerId,
    platform::{EnvironmentType, RestoreStatus},
};
use utoipa::ToSchema;

use crate::bounds;

/// Making a recovery plan. Nothing is touched by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoveryPlanRequest {
    /// Whose environments they are.
    pub organization_id: OrganisationId,
    /// Servers that were lost. Every environment on them is in the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub lost_server_ids: Vec<ServerId>,
    /// Environments that are in the plan besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub environment_ids: Vec<EnvironmentId>,
    /// Servers that may be used. Without it: all that answer and are not draining.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub to_server_ids: Vec<ServerId>,
    /// Environments that come back from their newest backup, although nobody has read it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub unverified_environment_ids: Vec<EnvironmentId>,
    /// When it happened. Without it: when a lost server stopped to answer, else now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// What recovery is measured against.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_object")]
    pub targets: Option<RecoveryTargets>,
}

impl RecoveryPlanRequest {
    /// A plan for these servers, with every default.
    pub fn new(organization_id: OrganisationId, lost_server_ids: Vec<ServerId>) -> Self {
        Self {
            organization_id,
            lost_server_ids,
            environment_ids: Vec::new(),
            to_server_ids: Vec::new(),
            unverified_environment_ids: Vec::new(),
            lost_at: None,
            targets: None,
        }
    }
}

/// Targets by what environments are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoveryTargets {
    /// For production.
    #[serde(deserialize_with = "bounds::object")]
    pub production: RecoveryTarget,
    /// For staging.
    #[serde(deserialize_with = "bounds::object")]
    pub staging: RecoveryTarget,
    /// For development.
    #[serde(deserialize_with = "bounds::object")]
    pub development: RecoveryTarget,
}

/// How long an environment may be away, and how much work may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoveryTarget {
    /// From the plan's start to Odoo's first answer.
    #[serde(deserialize_with = "bounds::number::<_, _, 0, 31_536_000>")]
    #[schema(minimum = 0, maximum = 31_536_000, example = 3600)]
    pub recovery_seconds: i64,
    /// From the backup's moment to the loss.
    #[serde(deserialize_with = "bounds::number::<_, _, 0, 31_536_000>")]
    #[schema(minimum = 0, maximum = 31_536_000, example = 86400)]
    pub data_loss_seconds: i64,
}

/// How far a recovery plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryStatus {
    /// Nobody has had it carried out.
    Planned,
    /// Restores wait or run.
    Running,
    /// Everything is back.
    Completed,
    /// What could be done is done, and something is not back.
    Incomplete,
}

/// Why an environment does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryGap {
    /// It was never backed up.
    NoBackup,
    /// None of its backups was found whole.
    NoVerifiedBackup,
    /// Its backups were lost with a server.
    BackupLost,
    /// No server has what it takes.
    NoRoom,
}

impl RecoveryGap {
    /// What can be done about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoBackup => "Nothing here brings it back; look for a dump that somebody has made.",
            Self::NoVerifiedBackup => {
                "Verify a backup of it, or make a plan that takes the newest unverified."
            }
            Self::BackupLost => {
                "Look for a copy of the backup elsewhere; keep backups off the server next time."
            }
            Self::NoRoom => "Add a server, or raise the limits of one, then make a new plan.",
        }
    }
}

/// An environment of a recovery plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryEntry {
    /// The environment that was lost.
    pub environment_id: EnvironmentId,
    /// Its name, which its successor takes.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// Why it does not come back; `null` where it does.
    pub gap: Option<RecoveryGap>,
    /// The backup that it comes back from; where none of its backups was verified, the newest.
    pub backup_id: Option<BackupId>,
    /// The server that it goes to.
    pub server_id: Option<ServerId>,
    /// Seconds that this is likely to take, by how long restores of such a size took.
    pub estimate_seconds: Option<i64>,
    /// Seconds of work that are lost: from the backup's moment to the loss.
    pub data_loss_seconds: Option<i64>,
    /// What that is measured against.
    pub data_loss_target_seconds: i64,
    /// Seconds from the plan's start to Odoo's first answer.
    pub recovery_seconds: Option<i64>,
    /// What that is measured against.
    pub recovery_target_seconds: i64,
    /// Whether both targets were met; `null` while it is not back.
    pub targets_met: Option<bool>,
    /// The restore that brings it back.
    pub restore_id: Option<RestoreId>,
    /// How that is.
    pub restore_status: Option<RestoreStatus>,
    /// What went wrong with that.
    pub restore_error: Option<String>,
    /// The environment that takes its place.
    pub new_environment_id: Option<EnvironmentId>,
    /// The code of why no restore could be begun when it was last tried.
    pub refused_code: Option<String>,
    /// The same, to be read.
    pub refused_message: Option<String>,
}

/// A recovery plan, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryPlanResponse {
    /// Its id.
    pub id: RecoveryPlanId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// How far it is.
    pub status: RecoveryStatus,
    /// The servers that were lost.
    pub lost_server_ids: Vec<ServerId>,
    /// When they were.
    pub lost_at: Timestamp,
    /// The environments, in the order in which they are worked off.
    pub entries: Vec<RecoveryEntry>,
    /// What somebody should know before having it carried out.
    pub findings: Vec<Finding>,
    /// When it was made.
    pub create_date: Timestamp,
    /// When somebody had it carried out.
    pub started_at: Option<Timestamp>,
    /// What came of it, signed by the organisation's key, once nothing of it runs any more. What is signed is
    /// `undoo recovery 1`, a line feed, and the text of `report`.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}
