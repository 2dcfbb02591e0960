//! The table of restore points.

use undoo_core::{Problem, Result, platform::RestorePoint};

use crate::row::{json, json_text, maybe_json, maybe_time, micros, storable, time, word};

pub(crate) mod restore_point {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "restore_points")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub project_id: Uuid,
        pub backup_id: Uuid,
        pub source_environment_id: Uuid,
        pub target_environment_id: Uuid,
        pub target_server_id: Option<Uuid>,
        pub mode: String,
        pub options: String,
        pub status: String,
        pub phase: Option<String>,
        pub progress: i32,
        pub task_id: Option<Uuid>,
        pub pre_restore_backup_id: Option<Uuid>,
        pub started_at: Option<i64>,
        pub completed_at: Option<i64>,
        pub error_message: Option<String>,
        pub error_step: Option<String>,
        pub findings: String,
        pub held: Option<String>,
        pub report: Option<String>,
        pub undo_until: Option<i64>,
        pub created_at: i64,
        pub created_by: Option<Uuid>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&RestorePoint> for restore_point::Model {
    fn from(of: &RestorePoint) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            project_id: of.project_id.uuid(),
            backup_id: of.backup_id.uuid(),
            source_environment_id: of.source_environment_id.uuid(),
            target_environment_id: of.target_environment_id.uuid(),
            target_server_id: of.target_server_id.map(|id| id.uuid()),
            mode: of.mode.to_string(),
            options: json_text(&of.options),
            status: of.status.to_string(),
            phase: of.phase.clone(),
            progress: of.progress,
            task_id: of.task_id.map(|id| id.uuid()),
            pre_restore_backup_id: of.pre_restore_backup_id.map(|id| id.uuid()),
            started_at: of.started_at.map(micros),
            completed_at: of.completed_at.map(micros),
            error_message: of.error_message.as_deref().map(storable),
            error_step: of.error_step.clone(),
            findings: json_text(&of.findings),
            held: of.held.as_ref().map(json_text),
            report: of.report.as_ref().map(json_text),
            undo_until: of.undo_until.map(micros),
            created_at: micros(of.created_at),
            created_by: of.created_by.map(|id| id.uuid()),
        }
    }
}

impl TryFrom<restore_point::Model> for RestorePoint {
    type Error = Problem;

    fn try_from(row: restore_point::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            project_id: row.project_id.into(),
            backup_id: row.backup_id.into(),
            source_environment_id: row.source_environment_id.into(),
            target_environment_id: row.target_environment_id.into(),
            target_server_id: row.target_server_id.map(Into::into),
            mode: word("mode", &row.mode)?,
            options: json("options", &row.options)?,
            status: word("status", &row.status)?,
            phase: row.phase,
            progress: row.progress,
            task_id: row.task_id.map(Into::into),
            pre_restore_backup_id: row.pre_restore_backup_id.map(Into::into),
            started_at: maybe_time("started_at", row.started_at)?,
            completed_at: maybe_time("completed_at", row.completed_at)?,
            error_message: row.error_message,
            error_step: row.error_step,
            findings: json("findings", &row.findings)?,
            held: maybe_json("held", row.held.as_deref())?,
            report: maybe_json("report", row.report.as_deref())?,
            undo_until: maybe_time("undo_until", row.undo_until)?,
            created_at: time("created_at", row.created_at)?,
            created_by: row.created_by.map(Into::into),
        })
    }
}
