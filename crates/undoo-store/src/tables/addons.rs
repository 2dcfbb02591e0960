//! The table of git repositories with the custom modules of environments.

use undoo_core::{Problem, Result, platform::AddonsRecord};

use crate::{
    failure::unreadable,
    row::{json, micros, time},
};

pub(crate) mod addons_origins {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "addons_origins")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub environment_id: Uuid,
        pub origins: String,
        pub sealed: Vec<u8>,
        pub changed_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&AddonsRecord> for addons_origins::Model {
    fn from(of: &AddonsRecord) -> Self {
        Self {
            environment_id: of.environment_id.uuid(),
            origins: serde_json::json!(of.origins).to_string(),
            sealed: of.sealed.clone(),
            changed_at: micros(of.changed_at),
        }
    }
}

impl TryFrom<addons_origins::Model> for AddonsRecord {
    type Error = Problem;

    fn try_from(row: addons_origins::Model) -> Result<Self> {
        let origins = json("origins", &row.origins)?;
        Ok(Self {
            environment_id: row.environment_id.into(),
            origins: serde_json::from_value(origins).map_err(|error| unreadable("origins", error))?,
            sealed: row.sealed,
            changed_at: time("changed_at", row.changed_at)?,
        })
    }
}
