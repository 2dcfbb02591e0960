//! Backups.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, IdenStatic, Iterable, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, LockType},
};
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, ProjectId, Result, StorageId,
    platform::{Backup, BackupStatus, BackupType},
};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure, misuse},
    page::listed,
    row,
    tables::backup::{Column, Entity, Model},
};

/// Which backups of an environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupFilter {
    /// Only those that are so.
    pub status: Option<BackupStatus>,
    /// Only those that were made for this.
    pub backup_type: Option<BackupType>,
}

/// Adds one.
///
/// # Errors
/// `gone_meanwhile` if what it belongs to is not there.
pub async fn insert(on: &impl Connection, backup: &Backup) -> Result<()> {
    row::insert(on.writes(), Model::from(backup)).await.map_err(failure)
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: BackupId) -> Result<Option<Backup>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Backup::try_from).transpose()
}

/// One, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn locked(tx: &Tx, id: BackupId) -> Result<Option<Backup>> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(Backup::try_from).transpose()
}

/// Writes it as it now is, if it is still as it was.
///
/// # Errors
/// `changed_meanwhile` if it is not `expected`, or not there; `store_misuse` if it may not become what it is
/// to be.
pub async fn update(on: &impl Connection, backup: &Backup, expected: BackupStatus) -> Result<()> {
    if expected != backup.status && !expected.may_become(backup.status) {
        return Err(misuse(format!("A backup that is {expected} cannot become {}.", backup.status)));
    }
    let unchanged = Condition::all().add(Column::Status.eq(expected.as_str()));
    let written = row::overwrite(on.writes(), Model::from(backup), unchanged).await.map_err(failure)?;
    if written { Ok(()) } else { Err(changed_meanwhile("backup")) }
}

/// Whether a storage has backups that are there, or are about to be.
///
/// # Errors
/// Those of the database.
pub async fn lie_in(on: &impl Connection, storage: StorageId) -> Result<bool> {
    let gone =
        [BackupStatus::Deleted, BackupStatus::Failed, BackupStatus::Cancelled].map(BackupStatus::as_str);
    let found = Entity::find()
        .filter(Column::StorageId.eq(storage.uuid()))
        .filter(Column::Status.is_not_in(gone))
        .one(on.reads());
    Ok(found.await.map_err(failure)?.is_some())
}

/// Those of an environment, without their snapshots: they are large, and looked at one by one.
///
/// # Errors
/// Those of the database.
pub async fn of_environment(
    on: &impl Connection,
    environment: EnvironmentId,
    filter: BackupFilter,
    page: Page,
) -> Result<Listed<Backup>> {
    let all = newest_first().filter(Column::EnvironmentId.eq(environment.uuid()));
    listed(on.reads(), filtered(all, filter), page).await
}

/// Those of an organisation, of these projects.
///
/// # Errors
/// Those of the database.
pub async fn of_organisation(
    on: &impl Connection,
    organisation: OrganisationId,
    projects: Option<&[ProjectId]>,
    filter: BackupFilter,
    page: Page,
) -> Result<Listed<Backup>> {
    let mut all = newest_first().filter(Column::OrganisationId.eq(organisation.uuid()));
    if let Some(projects) = projects {
        all = all.filter(Column::ProjectId.is_in(projects.iter().map(|id| id.uuid())));
    }
    listed(on.reads(), filtered(all, filter), page).await
}

fn newest_first() -> Select<Entity> {
    let shown = Column::iter().filter(|column| !matches!(column, Column::EnvironmentSnapshot));
    Entity::find()
        .select_only()
        .columns(shown)
        .expr_as(Expr::cust("CAST(NULL AS TEXT)"), Column::EnvironmentSnapshot.as_str())
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
}

fn filtered(mut all: Select<Entity>, filter: BackupFilter) -> Select<Entity> {
    if let Some(status) = filter.status {
        all = all.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(backup_type) = filter.backup_type {
        all = all.filter(Column::BackupType.eq(backup_type.as_str()));
    }
    all
}
