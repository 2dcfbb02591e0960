//! Migrations: backups from elsewhere that environments wait for.

use jiff::Timestamp;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};
use undoo_core::{
    BackupId, EnvironmentId, MigrationId, OrganisationId, ProjectId, Result,
    platform::{Migration, MigrationStatus},
};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure},
    page::listed,
    row::{self, micros},
    tables::migration::{Column, Entity, Model},
};

/// Adds one, in the transaction of its environment and its backup.
///
/// # Errors
/// `gone_meanwhile` if one of those is not there.
pub async fn insert(on: &impl Connection, migration: &Migration) -> Result<()> {
    row::insert(on.writes(), Model::from(migration)).await.map_err(failure)
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: MigrationId) -> Result<Option<Migration>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Migration::try_from).transpose()
}

/// The same, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn locked(tx: &Tx, id: MigrationId) -> Result<Option<Migration>> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(Migration::try_from).transpose()
}

/// The one that an environment waits for, or came from.
///
/// # Errors
/// Those of the database.
pub async fn of_environment(on: &impl Connection, environment: EnvironmentId) -> Result<Option<Migration>> {
    let row = Entity::find().filter(Column::EnvironmentId.eq(environment.uuid())).one(on.reads()).await;
    row.map_err(failure)?.map(Migration::try_from).transpose()
}

/// The one that a backup is of.
///
/// # Errors
/// Those of the database.
pub async fn of_backup(on: &impl Connection, backup: BackupId) -> Result<Option<Migration>> {
    let row = Entity::find().filter(Column::BackupId.eq(backup.uuid())).one(on.reads()).await;
    row.map_err(failure)?.map(Migration::try_from).transpose()
}

/// Writes one as it now is.
///
/// # Errors
/// `changed_meanwhile` if it is not there.
pub async fn update(on: &impl Connection, migration: &Migration) -> Result<()> {
    if row::overwrite(on.writes(), Model::from(migration), Condition::all()).await.map_err(failure)? {
        Ok(())
    } else {
        Err(changed_meanwhile("migration"))
    }
}

/// Those of an organisation, of these projects, newest first.
///
/// # Errors
/// Those of the database.
pub async fn list(
    on: &impl Connection,
    organisation: OrganisationId,
    projects: Option<&[ProjectId]>,
    page: Page,
) -> Result<Listed<Migration>> {
    let mut all = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    if let Some(projects) = projects {
        all = all.filter(Column::ProjectId.is_in(projects.iter().map(|id| id.uuid())));
    }
    listed(on.reads(), all, page).await
}

/// Those with an unfinished upload to which nothing came since then, or that is not wanted any more.
///
/// # Errors
/// Those of the database.
pub async fn abandoned(on: &impl Connection, then: Timestamp, most: u64) -> Result<Vec<Migration>> {
    let found = Entity::find()
        .filter(Column::Upload.is_not_null())
        .filter(
            Condition::any()
                .add(Column::UploadAt.lt(micros(then)))
                .add(Column::Status.eq(MigrationStatus::Cancelled.as_str())),
        )
        .order_by_asc(Column::UploadAt)
        .limit(most)
        .all(on.reads())
        .await
        .map_err(failure)?;
    found.into_iter().map(Migration::try_from).collect()
}
