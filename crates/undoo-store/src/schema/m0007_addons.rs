//! Git repositories with the custom modules of environments.

use sea_orm_migration::{prelude::*, schema::*};

use super::words::{GONE_WITH, Said, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [pk_uuid("environment_id"), text("origins"), blob("sealed"), big_integer("changed_at")];
        let addons = table("addons_origins", columns);
        manager.create_table(addons.refers("environment_id", "environments", GONE_WITH)).await
    }
}
