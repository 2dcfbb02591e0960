//! The table of migrations.

use undoo_core::{Problem, Result, platform::Migration};

use crate::row::{json, json_text, maybe_time, micros, storable, time, word};

pub(crate) mod migration {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "migrations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub project_id: Uuid,
        pub environment_id: Uuid,
        pub backup_id: Uuid,
        pub source: String,
        pub status: String,
        pub upload_bytes: Option<i64>,
        pub upload: Option<String>,
        pub upload_epoch: i64,
        pub upload_at: Option<i64>,
        pub deployment: String,
        pub error_message: Option<String>,
        pub created_by: Option<Uuid>,
        pub created_at: i64,
        pub uploaded_at: Option<i64>,
        pub verified_at: Option<i64>,
        pub restore_started_at: Option<i64>,
        pub restored_at: Option<i64>,
        pub completed_at: Option<i64>,
        pub failed_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Migration> for migration::Model {
    fn from(of: &Migration) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            project_id: of.project_id.uuid(),
            environment_id: of.environment_id.uuid(),
            backup_id: of.backup_id.uuid(),
            source: of.source.to_string(),
            status: of.status.to_string(),
            upload_bytes: of.upload_bytes,
            upload: of.upload.clone(),
            upload_epoch: of.upload_epoch,
            upload_at: of.upload_at.map(micros),
            deployment: json_text(&of.deployment),
            error_message: of.error_message.as_deref().map(storable),
            created_by: of.created_by.map(|user| user.uuid()),
            created_at: micros(of.created_at),
            uploaded_at: of.uploaded_at.map(micros),
            verified_at: of.verified_at.map(micros),
            restore_started_at: of.restore_started_at.map(micros),
            restored_at: of.restored_at.map(micros),
            completed_at: of.completed_at.map(micros),
            failed_at: of.failed_at.map(micros),
        }
    }
}

impl TryFrom<migration::Model> for Migration {
    type Error = Problem;

    fn try_from(row: migration::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            project_id: row.project_id.into(),
            environment_id: row.environment_id.into(),
            backup_id: row.backup_id.into(),
            source: word("source", &row.source)?,
            status: word("status", &row.status)?,
            upload_bytes: row.upload_bytes,
            upload: row.upload,
            upload_epoch: row.upload_epoch,
            upload_at: maybe_time("upload_at", row.upload_at)?,
            deployment: json("deployment", &row.deployment)?,
            error_message: row.error_message,
            created_by: row.created_by.map(Into::into),
            created_at: time("created_at", row.created_at)?,
            uploaded_at: maybe_time("uploaded_at", row.uploaded_at)?,
            verified_at: maybe_time("verified_at", row.verified_at)?,
            restore_started_at: maybe_time("restore_started_at", row.restore_started_at)?,
            restored_at: maybe_time("restored_at", row.restored_at)?,
            completed_at: maybe_time("completed_at", row.completed_at)?,
            failed_at: maybe_time("failed_at", row.failed_at)?,
        })
    }
}
