//! Environments that the platform has made itself: with what, and how far they are.

use sea_orm_migration::{prelude::*, schema::*};

use super::words::{GONE_WITH, Said, index_where, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let deployments = table(
            "deployments",
            [
                pk_uuid("environment_id"),
                uuid("organisation_id"),
                text("state"),
                text("prefix"),
                text("public_network"),
                text("postgres_image"),
                integer_null("http_port"),
                text("odoo_conf"),
                blob("sealed"),
                big_integer("created_at"),
            ],
        );
        let deployments = deployments.refers("environment_id", "environments", GONE_WITH).refers(
            "organisation_id",
            "organisations",
            GONE_WITH,
        );
        manager.create_table(deployments).await?;
        // What a reconciler asks for each minute, among thousands that are just there.
        let unfinished =
            index_where("deployments_unfinished", "deployments", ["created_at"], "state <> 'deployed'");
        manager.create_index(unfinished).await
    }
}
