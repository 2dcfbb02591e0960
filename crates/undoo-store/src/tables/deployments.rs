//! The table of environments that the platform has made itself.

use undoo_core::{
    Problem, Result,
    platform::{DeploymentRecord, DeploymentState},
};

use crate::{
    failure::unreadable,
    row::{json, micros, time, word},
};

pub(crate) mod deployment {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "deployments")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub environment_id: Uuid,
        pub organisation_id: Uuid,
        pub state: String,
        pub prefix: String,
        pub public_network: String,
        pub postgres_image: String,
        pub http_port: Option<i32>,
        pub odoo_conf: String,
        pub sealed: Vec<u8>,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&DeploymentRecord> for deployment::Model {
    fn from(of: &DeploymentRecord) -> Self {
        Self {
            environment_id: of.environment_id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            state: of.state.to_string(),
            prefix: of.prefix.clone(),
            public_network: of.public_network.clone(),
            postgres_image: of.postgres_image.clone(),
            http_port: of.http_port.map(i32::from),
            odoo_conf: serde_json::json!(of.odoo_conf).to_string(),
            sealed: of.sealed.clone(),
            created_at: micros(of.created_at),
        }
    }
}

impl TryFrom<deployment::Model> for DeploymentRecord {
    type Error = Problem;

    fn try_from(row: deployment::Model) -> Result<Self> {
        let odoo_conf = json("odoo_conf", &row.odoo_conf)?;
        let port = row.http_port.map(u16::try_from).transpose();
        Ok(Self {
            environment_id: row.environment_id.into(),
            organisation_id: row.organisation_id.into(),
            state: word::<DeploymentState>("state", &row.state)?,
            prefix: row.prefix,
            public_network: row.public_network,
            postgres_image: row.postgres_image,
            http_port: port.map_err(|error| unreadable("http_port", error))?,
            odoo_conf: serde_json::from_value(odoo_conf).map_err(|error| unreadable("odoo_conf", error))?,
            sealed: row.sealed,
            created_at: time("created_at", row.created_at)?,
        })
    }
}
