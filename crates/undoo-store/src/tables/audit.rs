//! Tables of the audit log and of the end of each organisation's chain.

use undoo_core::{Problem, Result};

use crate::{
    audit::AuditEntry,
    failure::unreadable,
    row::{digest, time},
};

pub(crate) mod entry {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_entries")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        pub actor: Option<Uuid>,
        pub action: String,
        pub object: String,
        pub data: String,
        pub at: i64,
        pub hash: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod head {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_heads")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation_id: Uuid,
        pub sequence: i64,
        pub hash: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl TryFrom<entry::Model> for AuditEntry {
    type Error = Problem;

    fn try_from(row: entry::Model) -> Result<Self> {
        Ok(Self {
            organisation_id: row.organisation_id.into(),
            sequence: row.sequence,
            actor: row.actor.map(Into::into),
            action: row.action,
            object: row.object,
            data: serde_json::from_str(&row.data).map_err(|error| unreadable("data", error))?,
            at: time("at", row.at)?,
            hash: digest("hash", &row.hash)?,
        })
    }
}
