//! Environments, and the storages that their backups go to.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    id::{EnvironmentId, OrganisationId, ProjectId, ServerId, StorageId, UserId},
    word::words,
};

words! {
    /// What an environment is for.
    EnvironmentType {
        /// For those who program.
        Development = "development",
        /// For those who test.
        Staging = "staging",
        /// For those who work with it.
        Production = "production",
    }
}

words! {
    /// How an environment is.
    EnvironmentStatus {
        /// Being made, or waiting for its first restore.
        Pending = "pending",
        /// Serving.
        Running = "running",
        /// Stopped on purpose.
        Stopped = "stopped",
        /// Not to be reached, or its Odoo does not answer.
        Unreachable = "unreachable",
    }
}

/// One Odoo with its database and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its id; the second part of the keys of its backups.
    pub id: EnvironmentId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Its name, unique in the project.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// How it is.
    pub status: EnvironmentStatus,
    /// The server it is on.
    pub server_id: Option<ServerId>,
    /// Its Odoo container there, as `docker:CONTAINER` names it.
    pub container: Option<String>,
    /// Its database.
    pub database_name: Option<String>,
    /// Version of its Odoo, such as `19.0`.
    pub odoo_version: Option<String>,
    /// Its Odoo's image.
    pub odoo_image: Option<String>,
    /// Version of its PostgreSQL.
    pub postgres_version: Option<String>,
    /// Where its users find it.
    pub domain: Option<String>,
    /// Cores that it may use.
    pub cpu_cores: Option<i32>,
    /// Memory that it may use, in MiB.
    pub ram_mb: Option<i32>,
    /// Disk that it may use, in GiB.
    pub disk_gb: Option<i32>,
    /// Storage that its backups go to; `None` for the organisation's default.
    pub storage_id: Option<StorageId>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is gone; what belonged to it can still be seen.
    pub deleted_at: Option<Timestamp>,
}

/// A configured storage, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRecord {
    /// Its id.
    pub id: StorageId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// The provider, as `undoo-storage` names it.
    pub provider: String,
    /// What may be shown of its configuration.
    pub shown: Value,
    /// All of its configuration, sealed.
    pub sealed: Vec<u8>,
    /// Whether backups go there when nobody says where.
    pub is_default: bool,
    /// When it was added.
    pub created_at: Timestamp,
}
