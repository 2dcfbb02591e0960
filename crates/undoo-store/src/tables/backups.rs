//! The table of backups.

use undoo_core::{Problem, Result, platform::Backup};

use crate::row::{json_text, maybe_json, maybe_time, micros, storable, time, word};

pub(crate) mod backup {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "backups")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub project_id: Uuid,
        pub environment_id: Uuid,
        pub storage_id: Option<Uuid>,
        pub key: Option<String>,
        pub status: String,
        pub backup_type: String,
        pub description: Option<String>,
        pub include_filestore: bool,
        pub size_bytes: Option<i64>,
        pub database_size_bytes: Option<i64>,
        pub filestore_size_bytes: Option<i64>,
        pub is_verified: bool,
        pub environment_snapshot: Option<String>,
        pub error_message: Option<String>,
        pub task_id: Option<Uuid>,
        pub created_by: Option<Uuid>,
        pub created_at: i64,
        pub completed_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Backup> for backup::Model {
    fn from(of: &Backup) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            project_id: of.project_id.uuid(),
            environment_id: of.environment_id.uuid(),
            storage_id: of.storage_id.map(|id| id.uuid()),
            key: of.key.clone(),
            status: of.status.to_string(),
            backup_type: of.backup_type.to_string(),
            description: of.description.clone(),
            include_filestore: of.include_filestore,
            size_bytes: of.size_bytes,
            database_size_bytes: of.database_size_bytes,
            filestore_size_bytes: of.filestore_size_bytes,
            is_verified: of.is_verified,
            environment_snapshot: of.environment_snapshot.as_ref().map(json_text),
            error_message: of.error_message.as_deref().map(storable),
            task_id: of.task_id.map(|id| id.uuid()),
            created_by: of.created_by.map(|id| id.uuid()),
            created_at: micros(of.created_at),
            completed_at: of.completed_at.map(micros),
        }
    }
}

impl TryFrom<backup::Model> for Backup {
    type Error = Problem;

    fn try_from(row: backup::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            project_id: row.project_id.into(),
            environment_id: row.environment_id.into(),
            storage_id: row.storage_id.map(Into::into),
            key: row.key,
            status: word("status", &row.status)?,
            backup_type: word("backup_type", &row.backup_type)?,
            description: row.description,
            include_filestore: row.include_filestore,
            size_bytes: row.size_bytes,
            database_size_bytes: row.database_size_bytes,
            filestore_size_bytes: row.filestore_size_bytes,
            is_verified: row.is_verified,
            environment_snapshot: maybe_json("environment_snapshot", row.environment_snapshot.as_deref())?,
            error_message: row.error_message,
            task_id: row.task_id.map(Into::into),
            created_by: row.created_by.map(Into::into),
            created_at: time("created_at", row.created_at)?,
            completed_at: maybe_time("completed_at", row.completed_at)?,
        })
    }
}
