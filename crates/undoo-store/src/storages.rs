//! Configured storages. Their configuration is sealed: what is in it, nobody here can read.

use sea_orm::{ActiveValue, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder};
use undoo_core::{OrganisationId, Result, StorageId, platform::StorageRecord};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure, failure_or_taken, name_taken},
    page::listed,
    row,
    tables::storage::{ActiveModel, Column, Entity, Model},
};

/// Adds one. If it is the default, no other of its organisation is any more.
///
/// # Errors
/// `name_taken`; `gone_meanwhile` if its organisation is not there.
pub async fn insert(tx: &Tx, storage: &StorageRecord) -> Result<()> {
    let taken = || name_taken("a storage", &storage.name);
    make_way(tx, storage).await?;
    row::insert(tx.raw(), Model::from(storage)).await.map_err(|error| failure_or_taken(error, taken))
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: StorageId) -> Result<Option<StorageRecord>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(StorageRecord::try_from).transpose()
}

/// Writes it as it now is. If it is the default, no other of its organisation is any more.
///
/// # Errors
/// `name_taken`; `changed_meanwhile` if it is not there.
pub async fn update(tx: &Tx, storage: &StorageRecord) -> Result<()> {
    let taken = || name_taken("a storage", &storage.name);
    make_way(tx, storage).await?;
    let written = row::overwrite(tx.raw(), Model::from(storage), Condition::all()).await;
    if written.map_err(|error| failure_or_taken(error, taken))? {
        Ok(())
    } else {
        Err(changed_meanwhile("storage"))
    }
}

/// Forgets one. Backups in it, and environments that use it, stay and have none.
///
/// # Errors
/// Those of the database.
pub async fn delete(on: &impl Connection, id: StorageId) -> Result<()> {
    Entity::delete_by_id(id.uuid()).exec(on.writes()).await.map_err(failure).map(drop)
}

/// Those of an organisation.
///
/// # Errors
/// Those of the database.
pub async fn list(
    on: &impl Connection,
    organisation: OrganisationId,
    page: Page,
) -> Result<Listed<StorageRecord>> {
    let all = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    listed(on.reads(), all, page).await
}

/// Where an organisation's backups go when nobody says where.
///
/// # Errors
/// Those of the database.
pub async fn default_of(on: &impl Connection, organisation: OrganisationId) -> Result<Option<StorageRecord>> {
    let found = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .filter(Column::IsDefault.eq(true));
    found.one(on.reads()).await.map_err(failure)?.map(StorageRecord::try_from).transpose()
}

/// Those of all organisations, oldest first, so that none is missed while pages are walked: for sealing them
/// under another key.
///
/// # Errors
/// Those of the database.
pub async fn all(on: &impl Connection, page: Page) -> Result<Listed<StorageRecord>> {
    listed(on.reads(), Entity::find().order_by_asc(Column::CreatedAt).order_by_asc(Column::Id), page).await
}

async fn make_way(tx: &Tx, storage: &StorageRecord) -> Result<()> {
    if !storage.is_default {
        return Ok(());
    }
    let others = ActiveModel { is_default: ActiveValue::Set(false), ..ActiveModel::default() };
    let update = Entity::update_many()
        .set(others)
        .filter(Column::OrganisationId.eq(storage.organisation_id.uuid()))
        .filter(Column::IsDefault.eq(true))
        .filter(Column::Id.ne(storage.id.uuid()));
    update.exec(tx.raw()).await.map_err(failure).map(drop)
}
