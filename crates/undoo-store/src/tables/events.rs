//! Tables of events and of how far each organisation's sequence is.

use undoo_core::{
    Problem, Result,
    platform::{Event, NewEvent},
};

use crate::row::{json, time, word};

pub(crate) mod event {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "events")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        pub project_id: Option<Uuid>,
        pub environment_id: Option<Uuid>,
        pub kind: String,
        pub data: String,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod sequence {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "event_sequences")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation_id: Uuid,
        pub last: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl TryFrom<event::Model> for Event {
    type Error = Problem;

    fn try_from(row: event::Model) -> Result<Self> {
        Ok(Self {
            sequence: row.sequence,
            event: NewEvent {
                organisation_id: row.organisation_id.into(),
                project_id: row.project_id.map(Into::into),
                environment_id: row.environment_id.map(Into::into),
                kind: word("kind", &row.kind)?,
                data: json("data", &row.data)?,
            },
            at: time("at", row.at)?,
        })
    }
}
