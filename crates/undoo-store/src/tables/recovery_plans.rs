//! The table of recovery plans.

use undoo_core::{Problem, Result, platform::recovery_plan::RecoveryPlan};

use crate::{
    failure::unreadable,
    row::{json, json_text, maybe_time, micros, time},
};

pub(crate) mod recovery_plan {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "recovery_plans")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub lost_servers: String,
        pub lost_at: i64,
        pub targets: String,
        pub entries: String,
        pub findings: String,
        pub created_at: i64,
        pub created_by: Option<Uuid>,
        pub started_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&RecoveryPlan> for recovery_plan::Model {
    fn from(of: &RecoveryPlan) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            lost_servers: json_text(&serde_json::json!(of.lost_servers)),
            lost_at: micros(of.lost_at),
            targets: json_text(&serde_json::json!(of.targets)),
            entries: json_text(&serde_json::json!(of.entries)),
            findings: json_text(&serde_json::json!(of.findings)),
            created_at: micros(of.created_at),
            created_by: of.created_by.map(|user| user.uuid()),
            started_at: of.started_at.map(micros),
        }
    }
}

impl TryFrom<recovery_plan::Model> for RecoveryPlan {
    type Error = Problem;

    fn try_from(row: recovery_plan::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            lost_servers: serde_json::from_value(json("lost_servers", &row.lost_servers)?)
                .map_err(|error| unreadable("lost_servers", error))?,
            lost_at: time("lost_at", row.lost_at)?,
            targets: serde_json::from_value(json("targets", &row.targets)?)
                .map_err(|error| unreadable("targets", error))?,
            entries: serde_json::from_value(json("entries", &row.entries)?)
                .map_err(|error| unreadable("entries", error))?,
            findings: serde_json::from_value(json("findings", &row.findings)?)
                .map_err(|error| unreadable("findings", error))?,
            created_at: time("created_at", row.created_at)?,
            created_by: row.created_by.map(Into::into),
            started_at: maybe_time("started_at", row.started_at)?,
        })
    }
}
