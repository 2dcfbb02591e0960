//! Environments, and the Odoos that could become ones.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{
    EnvironmentId, MigrationId, OrganisationId, ProjectId, ServerId, StorageId, UserId,
    platform::{DeploymentRecord, DeploymentState, Environment, EnvironmentStatus, EnvironmentType},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    addons::AddonsResponse,
    bounds,
    list::{PageNumber, PageSize},
};

/// One Odoo with its database and files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentResponse {
    /// Its id.
    pub id: EnvironmentId,
    /// Whose it is.
    pub organization_id: OrganisationId,
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
    /// Its Odoo container there.
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
    /// Storage that its backups go to; `null` for the organisation's default.
    pub storage_id: Option<StorageId>,
    /// When it was made.
    pub create_date: Timestamp,
    /// Who made it.
    pub created_by: Option<UserId>,
}

impl From<Environment> for EnvironmentResponse {
    fn from(environment: Environment) -> Self {
        Self {
            id: environment.id,
            organization_id: environment.organisation_id,
            project_id: environment.project_id,
            name: environment.name,
            environment_type: environment.environment_type,
            status: environment.status,
            server_id: environment.server_id,
            container: environment.container,
            database_name: environment.database_name,
            odoo_version: environment.odoo_version,
            odoo_image: environment.odoo_image,
            postgres_version: environment.postgres_version,
            domain: environment.domain,
            cpu_cores: environment.cpu_cores,
            ram_mb: environment.ram_mb,
            disk_gb: environment.disk_gb,
            storage_id: environment.storage_id,
            create_date: environment.created_at,
            created_by: environment.created_by,
        }
    }
}

/// An environment, and how it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentDetails {
    /// The environment.
    #[serde(flatten)]
    pub environment: EnvironmentResponse,
    /// How the platform has deployed it; `null` for one that was adopted, or waits for its migration.
    pub deployment: Option<DeploymentResponse>,
    /// The migration that it waits for, or came from.
    pub migration_id: Option<MigrationId>,
    /// Whether the backup of that migration was restored: deploying the environment does not restore it again.
    pub migration_restore_completed: bool,
    /// When it was.
    pub migration_restore_completed_at: Option<Timestamp>,
    /// Git repositories that its modules are fetched from when it is made, before those of the backup.
    #[serde(default)]
    pub addons: Vec<AddonsResponse>,
}

/// How an environment is to be deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Odoo's image, for an environment of which nothing is on its server yet. Without it the one that was named
    /// before, or that of the backup's version.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_visible::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", example = "odoo:19.0")]
    pub odoo_image: Option<String>,
    /// Codes of findings that were read and accepted, for the restore of a migration's backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 1000>")]
    #[schema(max_items = 1000)]
    pub accept: Vec<String>,
}

/// What is asked for of a deployment in its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// Restores the backup of the environment's migration over what is live, which is backed up before. This
    /// takes `project.backups.restore`.
    #[serde(default)]
    #[param(default = false)]
    pub force_restore: bool,
}

/// What the platform has put on a server for an environment. Its passwords and the options of its `odoo.conf`
/// are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentResponse {
    /// How far it is.
    pub state: DeploymentState,
    /// PostgreSQL's image.
    pub postgres_image: String,
    /// A port of the server at which it is to be found as well.
    pub http_port: Option<u16>,
    /// The network of the server that Traefik is in.
    pub public_network: String,
    /// What the names of its networks, volumes and folders begin with.
    pub prefix: String,
    /// When it was begun.
    pub create_date: Timestamp,
}

impl From<DeploymentRecord> for DeploymentResponse {
    fn from(record: DeploymentRecord) -> Self {
        Self {
            state: record.state,
            postgres_image: record.postgres_image,
            http_port: record.http_port,
            public_network: record.public_network,
            prefix: record.prefix,
            create_date: record.created_at,
        }
    }
}

/// Removing an environment with everything that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestroyRequest {
    /// The environment's name, to say that its database and files may go for good.
    #[serde(deserialize_with = "bounds::text::<_, 200>")]
    #[schema(min_length = 1, max_length = 200, example = "Production Clone (Jan 2025)")]
    pub confirm: String,
}

/// Which of the environments that the caller may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentQuery {
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

/// Adopting an Odoo that runs already: it becomes an environment, and nothing in it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// The project that it will belong to.
    pub project_id: ProjectId,
    /// Its name, unique in the project.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Production")]
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// The server it is on.
    pub server_id: ServerId,
    /// Its Odoo container there, as `GET /api/v1/servers/{id}/containers` names it.
    #[serde(deserialize_with = "bounds::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255, example = "acme_odoo")]
    pub container: String,
    /// Its database. It can be left out where that Odoo has but one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 63>"
    )]
    #[schema(min_length = 1, max_length = 63, example = "acme")]
    pub database_name: Option<String>,
    /// Where its users find it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 253>"
    )]
    #[schema(min_length = 1, max_length = 253, example = "odoo.example.com")]
    pub domain: Option<String>,
    /// Storage that its backups are to go to. The organisation's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<StorageId>,
}

/// Changes to an environment. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentPatch {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_name")]
    #[schema(value_type = Option<bounds::Name>)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_type: Option<EnvironmentType>,
    /// Where its users find it; `null` for nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::present_domain")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 253)]
    pub domain: Option<Option<String>>,
    /// Cores that it may use.
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
    /// Storage that its backups go to; `null` for the organisation's default.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::present")]
    #[schema(value_type = Option<StorageId>)]
    pub storage_id: Option<Option<StorageId>>,
}

/// What belongs to one organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrganizationQuery {
    /// The organisation.
    pub organization_id: OrganisationId,
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}

/// An Odoo container that was found on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundOdoo {
    /// Its container's name.
    pub container: String,
    /// Its image.
    pub image: String,
    /// Its databases: the one that it is pinned to, or all that its role owns.
    pub databases: Vec<String>,
    /// Its version, such as `19.0`.
    pub odoo_version: Option<String>,
    /// Version of its PostgreSQL.
    pub postgres_version: Option<String>,
    /// The container of its PostgreSQL, where that is on the same Docker Engine.
    pub database_container: Option<String>,
    /// Where its files are, inside its container.
    pub filestore: String,
    /// Whether it runs.
    pub running: bool,
}

/// What to look for in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InspectQuery {
    /// The database, where that Odoo has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
