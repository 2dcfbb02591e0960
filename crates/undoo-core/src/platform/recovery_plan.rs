//! A recovery plan as it is kept: what was decided, what was begun of it, and what it is measured against.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EnvironmentType, recovery::Recovery};
use crate::{
    Finding,
    id::{OrganisationId, RecoveryPlanId, RestoreId, ServerId, UserId},
};

/// How long an environment may be away, and how much work may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// From the plan's start to its first answer, in seconds.
    pub recovery_seconds: i64,
    /// From the backup's moment to the loss, in seconds.
    pub data_loss_seconds: i64,
}

/// Targets by what environments are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// For production.
    pub production: Target,
    /// For staging.
    pub staging: Target,
    /// For development.
    pub development: Target,
}

impl Targets {
    /// Those of one type.
    pub fn of(&self, environment_type: EnvironmentType) -> Target {
        match environment_type {
            EnvironmentType::Production => self.production,
            EnvironmentType::Staging => self.staging,
            EnvironmentType::Development => self.development,
        }
    }
}

impl Default for Targets {
    /// Production within an hour, the others within four and eight; never more than a day of work.
    fn default() -> Self {
        let hours = |hours: i64| Target { recovery_seconds: hours * 3600, data_loss_seconds: 24 * 3600 };
        Self { production: hours(1), staging: hours(4), development: hours(8) }
    }
}

/// An environment in a kept plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it goes and from what, or why not.
    pub recovery: Recovery,
    /// Its name, which the one that is made for it takes.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// The restore that brings it back, once one was begun; the newest, where one failed.
    pub restore: Option<RestoreId>,
    /// Why none could be begun when it was last tried.
    pub refused: Option<Refused>,
}

/// Why a restore could not be begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The problem's code.
    pub code: String,
    /// What was wrong, and what can be done.
    pub message: String,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// Its id.
    pub id: RecoveryPlanId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// The servers that were lost, where it was made for servers.
    pub lost_servers: Vec<ServerId>,
    /// When they, or the environments, were lost.
    pub lost_at: Timestamp,
    /// What recovery is measured against.
    pub targets: Targets,
    /// The environments, in the order in which they are worked off.
    pub entries: Vec<Entry>,
    /// What somebody should know before carrying it out.
    pub findings: Vec<Finding>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Option<UserId>,
    /// When somebody first had it carried out.
    pub started_at: Option<Timestamp>,
}
