//! The audit log: who did what.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{OrganisationId, UserId};
use utoipa::ToSchema;

/// An entry of an organisation's audit log. Each holds the hash of the one before it, so that nobody changes
/// or removes one unseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntryResponse {
    /// Its place in the log, from 1.
    pub sequence: i64,
    /// Whose log it is.
    pub organization_id: OrganisationId,
    /// Who did it; `null` for the platform itself.
    pub actor_id: Option<UserId>,
    /// What was done.
    #[schema(example = "restore.start")]
    pub action: String,
    /// What it was done to.
    pub object: String,
    /// What else there is to know.
    pub data: Value,
    /// When.
    pub create_date: Timestamp,
    /// SHA-256 of this entry and of the hash before it, hexadecimal.
    pub hash: String,
}
