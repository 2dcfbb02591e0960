//! A one-time link may let somebody into an organisation: which, and as what.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column at a time.
        for column in [uuid_null("organisation_id"), text_null("role")] {
            manager.alter_table(Table::alter().table("links").add_column(column).take()).await?;
        }
        Ok(())
    }
}
