//! Migrations: backups from elsewhere, and the environments that wait for them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{
    BackupId, EnvironmentId, MigrationId, OrganisationId, ProjectId, StorageId, UserId,
    platform::{Migration, MigrationSource, MigrationStatus},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    bounds,
    list::{PageNumber, PageSize},
    restores::NewEnvironment,
};

/// Media type of bytes that go on with an upload: <https://tus.io/protocols/resumable-upload>.
pub const UPLOAD_TYPE: &str = "application/offset+octet-stream";
/// Header that says from which byte on they are, and in answers how many there are.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// Header that says how many there are to be.
pub const UPLOAD_LENGTH: &str = "upload-length";
/// Header with the version of the protocol.
pub const TUS_RESUMABLE: &str = "tus-resumable";
/// That version.
pub const TUS_VERSION: &str = "1.0.0";

/// A migration that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// The project of its environment.
    pub project_id: ProjectId,
    /// Where it comes from, for people.
    #[serde(default = "other")]
    #[schema(default = "other")]
    pub source: MigrationSource,
    /// Bytes of its file, if that is to be uploaded, in as many pieces as it takes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 5_497_558_138_880>"
    )]
    #[schema(minimum = 1, maximum = 5_497_558_138_880_u64)]
    pub upload_bytes: Option<u64>,
    /// Where its file is, if it lies in a storage. This takes `org.backups.list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredFile>,
    /// The environment that is made for it; it needs its server.
    pub environment: NewEnvironment,
    /// Cores that the environment may use.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub cpu_cores: Option<i32>,
    /// Memory that it may use, in MiB.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub ram_mb: Option<i32>,
    /// Disk that it may use, in GiB.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub disk_gb: Option<i32>,
    /// Storage that an uploaded file goes to, and later the environment's backups. The organisation's default
    /// without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<StorageId>,
    /// Codes of findings that were read and accepted, such as `server_full`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub accept: Vec<String>,
}

const fn other() -> MigrationSource {
    MigrationSource::Other
}

/// A file that lies in a storage of the organisation, and stays there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// The storage.
    pub storage_id: StorageId,
    /// Its key, counted from the storage's own folder.
    #[serde(deserialize_with = "bounds::text::<_, 1024>")]
    #[schema(min_length = 1, max_length = 1024, example = "from-odoo-sh/acme.zip")]
    pub key: String,
}

/// How far the upload of a migration's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadResponse {
    /// Bytes that have arrived: the offset of the next one.
    pub arrived_bytes: u64,
    /// Bytes that there are to be.
    pub size_bytes: u64,
}

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MigrationResponse {
    /// Its id.
    pub id: MigrationId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// The project of its environment.
    pub project_id: ProjectId,
    /// The environment that waits for it, or came from it.
    pub environment_id: EnvironmentId,
    /// Its backup: completed as soon as its file was read from end to end.
    pub backup_id: BackupId,
    /// Where it comes from.
    pub source: MigrationSource,
    /// How far it is.
    pub status: MigrationStatus,
    /// Bytes that are to be uploaded; `null` for a file that lay in a storage.
    pub upload_bytes: Option<i64>,
    /// Why its file could not be read, or not be restored.
    pub error_message: Option<String>,
    /// When it was begun.
    pub create_date: Timestamp,
    /// Who began it.
    pub created_by: Option<UserId>,
    /// When all of its file was there.
    pub uploaded_at: Option<Timestamp>,
    /// When that had been read from end to end.
    pub verified_at: Option<Timestamp>,
    /// When its last restore was asked for.
    pub restore_started_at: Option<Timestamp>,
    /// When it was last restored.
    pub completed_at: Option<Timestamp>,
    /// When it failed last.
    pub failed_at: Option<Timestamp>,
}

impl From<Migration> for MigrationResponse {
    fn from(migration: Migration) -> Self {
        Self {
            id: migration.id,
            organization_id: migration.organisation_id,
            project_id: migration.project_id,
            environment_id: migration.environment_id,
            backup_id: migration.backup_id,
            source: migration.source,
            status: migration.status,
            upload_bytes: migration.upload_bytes,
            error_message: migration.error_message,
            create_date: migration.created_at,
            created_by: migration.created_by,
            uploaded_at: migration.uploaded_at,
            verified_at: migration.verified_at,
            restore_started_at: migration.restore_started_at,
            completed_at: migration.completed_at,
            failed_at: migration.failed_at,
        }
    }
}

/// Which of the migrations that the caller may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MigrationQuery {
    /// The organisation. It can be left out by who belongs to one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganisationId>,
    /// Those of one project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}
