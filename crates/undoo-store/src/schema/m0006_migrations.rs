//! Migrations: backups from elsewhere, and the environments that wait for them.

use sea_orm_migration::{prelude::*, schema::*};

use super::words::{GONE_WITH, Said, index, index_where, table, unique};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let migrations = table(
            "migrations",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                uuid("project_id"),
                uuid("environment_id"),
                uuid("backup_id"),
                text("source"),
                text("status"),
                big_integer_null("upload_bytes"),
                text_null("upload"),
                big_integer("upload_epoch"),
                big_integer_null("upload_at"),
                text("deployment"),
                text_null("error_message"),
                uuid_null("created_by"),
                big_integer("created_at"),
                big_integer_null("uploaded_at"),
                big_integer_null("verified_at"),
                big_integer_null("restore_started_at"),
                big_integer_null("restored_at"),
                big_integer_null("completed_at"),
                big_integer_null("failed_at"),
            ],
        );
        let migrations = migrations
            .refers("organisation_id", "organisations", GONE_WITH)
            .refers("environment_id", "environments", GONE_WITH)
            .refers("backup_id", "backups", GONE_WITH);
        manager.create_table(migrations).await?;
        for of in ["environment_id", "backup_id"] {
            let name = if of == "backup_id" { "migrations_backup" } else { "migrations_environment" };
            manager.create_index(unique(index(name, "migrations", [of]))).await?;
        }
        let newest = index("migrations_newest", "migrations", ["organisation_id", "-created_at", "-id"]);
        manager.create_index(newest).await?;
        // What a reconciler looks for.
        let unfinished =
            index_where("migrations_unfinished", "migrations", ["upload_at"], "upload IS NOT NULL");
        manager.create_index(unfinished).await
    }
}
