//! Tables of environments and of where their backups go.

use undoo_core::{
    Problem, Result,
    platform::{Environment, StorageRecord},
};

use crate::row::{json, json_text, maybe_time, micros, time, word};

pub(crate) mod environment {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "environments")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub project_id: Uuid,
        pub name: String,
        pub environment_type: String,
        pub status: String,
        pub server_id: Option<Uuid>,
        pub container: Option<String>,
        pub database_name: Option<String>,
        pub odoo_version: Option<String>,
        pub odoo_image: Option<String>,
        pub postgres_version: Option<String>,
        pub domain: Option<String>,
        pub cpu_cores: Option<i32>,
        pub ram_mb: Option<i32>,
        pub disk_gb: Option<i32>,
        pub storage_id: Option<Uuid>,
        pub created_by: Option<Uuid>,
        pub created_at: i64,
        pub deleted_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Environment> for environment::Model {
    fn from(of: &Environment) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            project_id: of.project_id.uuid(),
            name: of.name.clone(),
            environment_type: of.environment_type.to_string(),
            status: of.status.to_string(),
            server_id: of.server_id.map(|id| id.uuid()),
            container: of.container.clone(),
            database_name: of.database_name.clone(),
            odoo_version: of.odoo_version.clone(),
            odoo_image: of.odoo_image.clone(),
            postgres_version: of.postgres_version.clone(),
            domain: of.domain.clone(),
            cpu_cores: of.cpu_cores,
            ram_mb: of.ram_mb,
            disk_gb: of.disk_gb,
            storage_id: of.storage_id.map(|id| id.uuid()),
            created_by: of.created_by.map(|id| id.uuid()),
            created_at: micros(of.created_at),
            deleted_at: of.deleted_at.map(micros),
        }
    }
}

impl TryFrom<environment::Model> for Environment {
    type Error = Problem;

    fn try_from(row: environment::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            project_id: row.project_id.into(),
            name: row.name,
            environment_type: word("environment_type", &row.environment_type)?,
            status: word("status", &row.status)?,
            server_id: row.server_id.map(Into::into),
            container: row.container,
            database_name: row.database_name,
            odoo_version: row.odoo_version,
            odoo_image: row.odoo_image,
            postgres_version: row.postgres_version,
            domain: row.domain,
            cpu_cores: row.cpu_cores,
            ram_mb: row.ram_mb,
            disk_gb: row.disk_gb,
            storage_id: row.storage_id.map(Into::into),
            created_by: row.created_by.map(Into::into),
            created_at: time("created_at", row.created_at)?,
            deleted_at: maybe_time("deleted_at", row.deleted_at)?,
        })
    }
}

pub(crate) mod storage {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "storages")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub name: String,
        pub provider: String,
        pub shown: String,
        pub sealed: Vec<u8>,
        pub is_default: bool,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&StorageRecord> for storage::Model {
    fn from(of: &StorageRecord) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            name: of.name.clone(),
            provider: of.provider.clone(),
            shown: json_text(&of.shown),
            sealed: of.sealed.clone(),
            is_default: of.is_default,
            created_at: micros(of.created_at),
        }
    }
}

impl TryFrom<storage::Model> for StorageRecord {
    type Error = Problem;

    fn try_from(row: storage::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            name: row.name,
            provider: row.provider,
            shown: json("shown", &row.shown)?,
            sealed: row.sealed,
            is_default: row.is_default,
            created_at: time("created_at", row.created_at)?,
        })
    }
}
