//! Servers are reached over SSH: as whom, with what sealed, and how they were when they were last looked at.
//!
//! `draining` was one of the words of `status`, which from here on says only what was observed.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            integer_null("ssh_port"),
            text_null("ssh_user"),
            text_null("host_key"),
            blob_null("sealed"),
            integer_null("cpu_cores_limit"),
            integer_null("memory_gb_limit"),
            integer_null("disk_gb_limit"),
            integer_null("free_disk_gb"),
            text_null("docker_version"),
            big_integer_null("checked_at"),
            big_integer_null("unreachable_since"),
            text_null("last_problem"),
            boolean("draining").default(false).take(),
        ];
        // SQLite adds one column at a time.
        for column in columns {
            manager.alter_table(Table::alter().table("servers").add_column(column).take()).await?;
        }
        let apart = "UPDATE servers SET draining = TRUE, status = 'online' WHERE status = 'draining'";
        manager.get_connection().execute_unprepared(apart).await?;
        Ok(())
    }
}
