//! Storages that backups go to: how they are configured, shown and tried.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{Kind, OrganisationId, StorageId, platform::StorageRecord};
use utoipa::{IntoParams, ToSchema};

pub use self::config::{ByProvider, FtpTls, LockMode, ObjectLock, StorageConfig, StorageProvider};
use crate::bounds;

mod config;

/// A configured storage, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageResponse {
    /// Its id.
    pub id: StorageId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// The provider.
    #[schema(example = "aws_s3")]
    pub provider: String,
    /// Its configuration as it was given, secrets left out.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Whether backups go there when nobody says where.
    pub is_default: bool,
    /// When it was added.
    pub create_date: Timestamp,
}

impl From<StorageRecord> for StorageResponse {
    fn from(storage: StorageRecord) -> Self {
        Self {
            id: storage.id,
            organization_id: storage.organisation_id,
            name: storage.name,
            provider: storage.provider,
            config: storage.shown,
            is_default: storage.is_default,
            create_date: storage.created_at,
        }
    }
}

/// Adding a storage.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateStorageRequest {
    /// Whose it will be.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Backups in Frankfurt")]
    pub name: String,
    /// How it is configured.
    #[schema(value_type = ByProvider)]
    pub config: StorageConfig,
    /// Whether backups go there when nobody says where.
    #[serde(default)]
    #[schema(default = false)]
    pub is_default: bool,
}

/// Changes to a storage. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoragePatch {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_name")]
    #[schema(value_type = Option<bounds::Name>)]
    pub name: Option<String>,
    /// All of its configuration, secrets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ByProvider>)]
    pub config: Option<StorageConfig>,
    /// `true` makes it the default in place of the one that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
}

/// For whom a storage is tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StorageTestQuery {
    /// The organisation. It can be left out by who belongs to one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganisationId>,
}

/// What the test of a storage found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageTestResponse {
    /// The storage's address, without secrets.
    pub storage: String,
    /// Whether no step failed.
    pub ok: bool,
    /// In the order in which they were tried.
    pub steps: Vec<StorageTestStep>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageTestStep {
    /// What was tried: `write`, `read`, `range`, `list`, `presign`, `delete` or `lock`.
    pub name: String,
    /// What came of it.
    pub outcome: StorageTestOutcome,
    /// How long it took.
    pub milliseconds: u64,
    /// Of a step that failed: what sort of problem it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Of a step that failed: the stable code of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a step that failed: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a step that failed: what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The host key that the server showed, where that is what has to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

/// What came of a step of the test of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageTestOutcome {
    /// It worked.
    Ok,
    /// The storage has no such thing; nothing is wrong.
    NotOffered,
    /// A step before it failed, without which it cannot be tried.
    NotTried,
    /// It failed.
    Failed,
}
