//! Recovery plans: what was decided after a loss, and what was begun of it.

use sea_orm_migration::{prelude::*, schema::*};

use super::words::{GONE_WITH, Said, index, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let plans = table(
            "recovery_plans",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                text("lost_servers"),
                big_integer("lost_at"),
                text("targets"),
                text("entries"),
                text("findings"),
                big_integer("created_at"),
                uuid_null("created_by"),
                big_integer_null("started_at"),
            ],
        );
        let plans = plans.refers("organisation_id", "organisations", GONE_WITH);
        manager.create_table(plans).await?;
        let newest =
            index("recovery_plans_newest", "recovery_plans", ["organisation_id", "-created_at", "-id"]);
        manager.create_index(newest).await
    }
}
