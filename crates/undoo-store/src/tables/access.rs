//! Tables of what somebody signs in with. Of a secret they only ever hold its hash.

use undoo_core::{
    Problem, Result,
    platform::{ApiToken, Permission},
};

use crate::{
    failure::unreadable,
    row::{maybe_time, micros, time},
};

pub(crate) mod session {
    use sea_orm::entity::prelude::*;

    use crate::tables::user;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "sessions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub hash: Vec<u8>,
        pub user_id: Uuid,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(belongs_to = "user::Entity", from = "Column::UserId", to = "user::Column::Id")]
        User,
    }

    impl Related<user::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::User.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod token {
    use sea_orm::entity::prelude::*;

    use crate::tables::user;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "tokens")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub hash: Vec<u8>,
        pub user_id: Uuid,
        pub name: String,
        pub organisation_id: Option<Uuid>,
        pub scopes: Option<String>,
        pub created_at: i64,
        pub expires_at: Option<i64>,
        pub revoked_at: Option<i64>,
        pub last_used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(belongs_to = "user::Entity", from = "Column::UserId", to = "user::Column::Id")]
        User,
    }

    impl Related<user::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::User.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

impl token::Model {
    pub(crate) fn new(of: &ApiToken, hash: &[u8; 32]) -> Self {
        Self {
            id: of.id.uuid(),
            hash: hash.to_vec(),
            user_id: of.user_id.uuid(),
            name: of.name.clone(),
            organisation_id: of.organisation_id.map(|id| id.uuid()),
            scopes: of.scopes.as_ref().map(|scopes| serde_json::json!(scopes).to_string()),
            created_at: micros(of.created_at),
            expires_at: of.expires_at.map(micros),
            revoked_at: of.revoked_at.map(micros),
            last_used_at: of.last_used_at.map(micros),
        }
    }
}

impl TryFrom<token::Model> for ApiToken {
    type Error = Problem;

    fn try_from(row: token::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            name: row.name,
            organisation_id: row.organisation_id.map(Into::into),
            scopes: row.scopes.as_deref().map(scopes).transpose()?,
            created_at: time("created_at", row.created_at)?,
            expires_at: maybe_time("expires_at", row.expires_at)?,
            revoked_at: maybe_time("revoked_at", row.revoked_at)?,
            last_used_at: maybe_time("last_used_at", row.last_used_at)?,
        })
    }
}

pub(crate) mod link {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "links")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub hash: Vec<u8>,
        pub purpose: String,
        pub user_id: Option<Uuid>,
        pub expires_at: i64,
        pub organisation_id: Option<Uuid>,
        pub role: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn scopes(words: &str) -> Result<Vec<Permission>> {
    serde_json::from_str(words).map_err(|error| unreadable("scopes", error))
}
