//! Tables of people and what they belong to.

use undoo_core::{
    Problem, Result,
    platform::{Organisation, Project, User},
};

use crate::row::{maybe_time, micros, time};

pub(crate) mod user {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub email: String,
        pub name: String,
        pub password_hash: Option<String>,
        pub portal_admin: bool,
        pub disabled_at: Option<i64>,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl user::Model {
    pub(crate) fn new(of: &User, password_hash: Option<&str>) -> Self {
        Self {
            password_hash: password_hash.map(str::to_owned),
            id: of.id.uuid(),
            email: of.email.clone(),
            name: of.name.clone(),
            portal_admin: of.portal_admin,
            disabled_at: of.disabled_at.map(micros),
            created_at: micros(of.created_at),
        }
    }
}

impl TryFrom<user::Model> for User {
    type Error = Problem;

    fn try_from(row: user::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            email: row.email,
            name: row.name,
            portal_admin: row.portal_admin,
            disabled_at: maybe_time("disabled_at", row.disabled_at)?,
            created_at: time("created_at", row.created_at)?,
        })
    }
}

pub(crate) mod organisation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "organisations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub name: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Organisation> for organisation::Model {
    fn from(of: &Organisation) -> Self {
        Self { id: of.id.uuid(), name: of.name.clone(), created_at: micros(of.created_at) }
    }
}

impl TryFrom<organisation::Model> for Organisation {
    type Error = Problem;

    fn try_from(row: organisation::Model) -> Result<Self> {
        Ok(Self { id: row.id.into(), name: row.name, created_at: time("created_at", row.created_at)? })
    }
}

pub(crate) mod project {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "projects")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub name: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Project> for project::Model {
    fn from(of: &Project) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            name: of.name.clone(),
            created_at: micros(of.created_at),
        }
    }
}

impl TryFrom<project::Model> for Project {
    type Error = Problem;

    fn try_from(row: project::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            name: row.name,
            created_at: time("created_at", row.created_at)?,
        })
    }
}

pub(crate) mod organisation_member {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "organisation_members")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: Uuid,
        pub role: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod project_member {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "project_members")]
    pub struct Model {
        pub organisation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub project_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: Uuid,
        pub role: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
