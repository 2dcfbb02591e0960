//! Tables of tasks and of the log of their steps.

use undoo_core::{
    Problem, Result,
    platform::{StepLog, Task},
};

use crate::row::{json, json_text, maybe_json, maybe_time, micros, time, word};

pub(crate) mod task {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "tasks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub kind: String,
        pub status: String,
        pub priority: i32,
        pub environment_id: Option<Uuid>,
        pub server_id: Option<Uuid>,
        pub payload: String,
        pub attempts: i32,
        pub max_attempts: i32,
        pub epoch: i64,
        pub worker: Option<String>,
        pub lease_until: Option<i64>,
        pub run_after: i64,
        pub progress: Option<String>,
        pub result: Option<String>,
        pub error: Option<String>,
        pub created_by: Option<Uuid>,
        pub created_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Task> for task::Model {
    fn from(of: &Task) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            kind: of.kind.to_string(),
            status: of.status.to_string(),
            priority: of.priority,
            environment_id: of.environment_id.map(|id| id.uuid()),
            server_id: of.server_id.map(|id| id.uuid()),
            payload: json_text(&of.payload),
            attempts: of.attempts,
            max_attempts: of.max_attempts,
            epoch: of.epoch,
            worker: of.worker.clone(),
            lease_until: of.lease_until.map(micros),
            run_after: micros(of.run_after),
            progress: of.progress.as_ref().map(json_text),
            result: of.result.as_ref().map(json_text),
            error: of.error.clone(),
            created_by: of.created_by.map(|id| id.uuid()),
            created_at: micros(of.created_at),
            started_at: of.started_at.map(micros),
            finished_at: of.finished_at.map(micros),
        }
    }
}

impl TryFrom<task::Model> for Task {
    type Error = Problem;

    fn try_from(row: task::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            kind: word("kind", &row.kind)?,
            status: word("status", &row.status)?,
            priority: row.priority,
            environment_id: row.environment_id.map(Into::into),
            server_id: row.server_id.map(Into::into),
            payload: json("payload", &row.payload)?,
            attempts: row.attempts,
            max_attempts: row.max_attempts,
            epoch: row.epoch,
            worker: row.worker,
            lease_until: maybe_time("lease_until", row.lease_until)?,
            run_after: time("run_after", row.run_after)?,
            progress: maybe_json("progress", row.progress.as_deref())?,
            result: maybe_json("result", row.result.as_deref())?,
            error: row.error,
            created_by: row.created_by.map(Into::into),
            created_at: time("created_at", row.created_at)?,
            started_at: maybe_time("started_at", row.started_at)?,
            finished_at: maybe_time("finished_at", row.finished_at)?,
        })
    }
}

pub(crate) mod step {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "steps")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub task_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i32,
        pub step: String,
        pub event: String,
        pub data: String,
        pub epoch: i64,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&StepLog> for step::Model {
    fn from(of: &StepLog) -> Self {
        Self {
            task_id: of.task_id.uuid(),
            sequence: of.sequence,
            step: of.step.clone(),
            event: of.event.to_string(),
            data: json_text(&of.data),
            epoch: of.epoch,
            at: micros(of.at),
        }
    }
}

impl TryFrom<step::Model> for StepLog {
    type Error = Problem;

    fn try_from(row: step::Model) -> Result<Self> {
        Ok(Self {
            task_id: row.task_id.into(),
            sequence: row.sequence,
            step: row.step,
            event: word("event", &row.event)?,
            data: json("data", &row.data)?,
            epoch: row.epoch,
            at: time("at", row.at)?,
        })
    }
}
