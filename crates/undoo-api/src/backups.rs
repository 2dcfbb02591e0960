//! Backups: made, shown, downloaded, and what they can be restored to.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, ProjectId, ServerId, StorageId, TaskId, UserId,
    platform::{Backup, BackupStatus, BackupType, Environment, EnvironmentStatus, EnvironmentType},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    bounds::{self, yes},
    list::{PageNumber, PageSize},
    secret::Secret,
};

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupResponse {
    /// Its id, also in its manifest.
    pub id: BackupId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// The project of its environment.
    pub project_id: ProjectId,
    /// What it is a backup of.
    pub environment_id: EnvironmentId,
    /// Where it lies; `null` once that storage is gone.
    pub storage_id: Option<StorageId>,
    /// Its key there, known once it is being made.
    pub storage_key: Option<String>,
    /// How it is. Only one that is `completed` can be restored.
    pub status: BackupStatus,
    /// Why it was made.
    pub backup_type: BackupType,
    /// What somebody wrote about it.
    pub description: Option<String>,
    /// Whether it has files besides the database.
    pub include_filestore: bool,
    /// Bytes of it all, as it lies in its storage.
    pub size_bytes: Option<i64>,
    /// Bytes of the dump in it.
    pub database_size_bytes: Option<i64>,
    /// Bytes of the files in it; `null` where it has none.
    pub filestore_size_bytes: Option<i64>,
    /// Whether it was read back from its storage and is what was written.
    pub is_verified: bool,
    /// What the environment was when it was made: versions, modules and names. `null` in lists.
    #[schema(value_type = Option<Object>)]
    pub environment_snapshot: Option<Value>,
    /// Why it could not be made.
    pub error_message: Option<String>,
    /// The task that makes it.
    pub task_id: Option<TaskId>,
    /// When it was asked for.
    pub create_date: Timestamp,
    /// When it was complete.
    pub completed_at: Option<Timestamp>,
    /// Who asked for it.
    pub created_by: Option<UserId>,
}

impl From<Backup> for BackupResponse {
    fn from(backup: Backup) -> Self {
        Self {
            id: backup.id,
            organization_id: backup.organisation_id,
            project_id: backup.project_id,
            environment_id: backup.environment_id,
            storage_id: backup.storage_id,
            storage_key: backup.key,
            status: backup.status,
            backup_type: backup.backup_type,
            description: backup.description,
            include_filestore: backup.include_filestore,
            size_bytes: backup.size_bytes,
            database_size_bytes: backup.database_size_bytes,
            filestore_size_bytes: backup.filestore_size_bytes,
            is_verified: backup.is_verified,
            environment_snapshot: backup.environment_snapshot,
            error_message: backup.error_message,
            task_id: backup.task_id,
            create_date: backup.created_at,
            completed_at: backup.completed_at,
            created_by: backup.created_by,
        }
    }
}

/// Making a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackupRequest {
    /// Why it is made. Those that a restore makes for safety, it makes itself.
    #[serde(default = "manual", deserialize_with = "asked")]
    #[schema(value_type = AskedBackupType, default = "manual")]
    pub backup_type: BackupType,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_description")]
    #[schema(max_length = 2000, example = "Pre-upgrade safety backup")]
    pub description: Option<String>,
    /// Whether the files are backed up besides the database.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_filestore: bool,
    /// The storage. The environment's, else the organisation's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<StorageId>,
}

impl Default for CreateBackupRequest {
    fn default() -> Self {
        Self { backup_type: manual(), description: None, include_filestore: yes(), storage_id: None }
    }
}

/// Why somebody has a backup made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AskedBackupType {
    /// They want one.
    Manual,
    /// Its time has come.
    Scheduled,
}

fn asked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackupType, D::Error> {
    Ok(match AskedBackupType::deserialize(deserializer)? {
        AskedBackupType::Manual => BackupType::Manual,
        AskedBackupType::Scheduled => BackupType::Scheduled,
    })
}

const fn manual() -> BackupType {
    BackupType::Manual
}

/// Which backups of an environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackupQuery {
    /// Those that are so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub status: Option<BackupStatus>,
    /// Those that were made for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub backup_type: Option<BackupType>,
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}

/// For how long the addresses of a download hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DownloadQuery {
    /// Seconds for which the addresses hold.
    #[serde(default)]
    #[param(value_type = u32, minimum = 1, maximum = 86400, default = 3600)]
    pub expires_in: ExpiresIn,
}

/// Seconds for which an address holds: 1 to 86400, an hour unless somebody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ExpiresIn(u32);

impl Default for ExpiresIn {
    fn default() -> Self {
        Self(undoo_core::link::EXPIRES_IN)
    }
}

impl TryFrom<u32> for ExpiresIn {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        const MOST: u32 = undoo_core::link::MOST_EXPIRES_IN;
        match seconds {
            1..=MOST => Ok(Self(seconds)),
            seconds => Err(format!("an address holds for 1 to {MOST} seconds, not {seconds}")),
        }
    }
}

impl From<ExpiresIn> for u32 {
    fn from(seconds: ExpiresIn) -> Self {
        seconds.0
    }
}

/// Where a backup can be fetched without signing in. An address is as secret as what it leads to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupDownloadResponse {
    /// The backup.
    pub backup_id: BackupId,
    /// Seconds for which the addresses hold.
    #[schema(example = 3600)]
    pub expires_in: u32,
    /// The addresses.
    pub urls: DownloadUrls,
}

/// The addresses of a backup's parts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DownloadUrls {
    /// The dump.
    #[schema(value_type = String, format = "uri")]
    pub database: Secret,
    /// The files, as a `.tar.gz` whose top folder has the database's name; `null` where it has none.
    #[schema(value_type = Option<String>, format = "uri")]
    pub filestore: Option<Secret>,
    /// All of it, as it lies in its storage.
    #[schema(value_type = String, format = "uri")]
    pub zip: Secret,
}

/// Environments that a backup can be restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompatibleEnvironmentsResponse {
    /// Those of the same project that have a server.
    pub environments: Vec<CompatibleEnvironment>,
}

/// An environment that a backup can be restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompatibleEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// How it is.
    pub status: EnvironmentStatus,
    /// The server it is on.
    pub server_name: String,
    /// Version of its Odoo. One that differs from the backup's is warned of.
    pub odoo_version: Option<String>,
}

impl CompatibleEnvironment {
    /// An environment and the name of the server it is on.
    pub fn new(environment: Environment, server_name: String) -> Self {
        Self {
            id: environment.id,
            name: environment.name,
            environment_type: environment.environment_type,
            status: environment.status,
            server_name,
            odoo_version: environment.odoo_version,
        }
    }
}

/// Servers that a backup can be restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompatibleServersResponse {
    /// Those of the same organisation, with what speaks against each.
    pub servers: Vec<CompatibleServer>,
}

/// A server that a backup can be restored to, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompatibleServer {
    /// Its id.
    pub id: ServerId,
    /// Its name.
    pub name: String,
    /// Where it is; `null` for the machine that the worker runs on.
    pub ip_address: Option<String>,
    /// Cores that no environment on it has been given.
    pub available_cpu: i64,
    /// Memory that no environment on it has been given, in MiB.
    pub available_ram_mb: i64,
    /// Disk that no environment on it has been given, in GiB.
    pub available_disk_gb: i64,
    /// Environments on it.
    pub current_environments: i64,
    /// Whether it is among those to be taken first.
    pub recommended: bool,
    /// Whether what is available is enough.
    pub has_sufficient_resources: bool,
    /// What speaks against it.
    #[schema(example = "Insufficient CPU (available: 2, required: 4)")]
    pub incompatibility_reason: Option<String>,
}
