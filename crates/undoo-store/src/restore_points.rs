//! Restore points.

use jiff::Timestamp;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, JoinType, Query},
    sqlx::types::Uuid,
};
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, RestoreId, Result, ServerId,
    platform::{RestorePoint, RestoreStatus},
};

use crate::{
    Connection, Listed, Page,
    failure::{changed_meanwhile, failure, misuse},
    page::listed,
    row::{self, micros},
    tables::{
        backup, environment,
        restore_point::{Column, Entity, Model},
    },
};

/// Adds one.
///
/// # Errors
/// `gone_meanwhile` if what it belongs to is not there.
pub async fn insert(on: &impl Connection, point: &RestorePoint) -> Result<()> {
    row::insert(on.writes(), Model::from(point)).await.map_err(failure)
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: RestoreId) -> Result<Option<RestorePoint>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(RestorePoint::try_from).transpose()
}

/// Writes it as it now is, if it is still as it was.
///
/// # Errors
/// `changed_meanwhile` if it is not `expected`, or not there; `store_misuse` if it may not become what it is
/// to be.
pub async fn update(on: &impl Connection, point: &RestorePoint, expected: RestoreStatus) -> Result<()> {
    if expected != point.status && !expected.may_become(point.status) {
        return Err(misuse(format!("A restore that is {expected} cannot become {}.", point.status)));
    }
    let unchanged = Condition::all().add(Column::Status.eq(expected.as_str()));
    let written = row::overwrite(on.writes(), Model::from(point), unchanged).await.map_err(failure)?;
    if written { Ok(()) } else { Err(changed_meanwhile("restore")) }
}

/// Those that go to an environment.
///
/// # Errors
/// Those of the database.
pub async fn of_environment(
    on: &impl Connection,
    target: EnvironmentId,
    status: Option<RestoreStatus>,
    page: Page,
) -> Result<Listed<RestorePoint>> {
    let mut all = Entity::find()
        .filter(Column::TargetEnvironmentId.eq(target.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    if let Some(status) = status {
        all = all.filter(Column::Status.eq(status.as_str()));
    }
    listed(on.reads(), all, page).await
}

/// How long the newest of an organisation took that completed, in seconds, and the bytes of their backups; those
/// of which both are known.
///
/// # Errors
/// Those of the database.
pub async fn newest_took(
    on: &impl Connection,
    organisation: OrganisationId,
    most: u64,
) -> Result<Vec<(i64, i64)>> {
    let found = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .filter(Column::Status.eq(RestoreStatus::Completed.as_str()))
        .order_by_desc(Column::CreatedAt)
        .limit(most)
        .all(on.reads())
        .await
        .map_err(failure)?;
    let sizes: Vec<(Uuid, Option<i64>)> = backup::Entity::find()
        .select_only()
        .columns([backup::Column::Id, backup::Column::SizeBytes])
        .filter(backup::Column::Id.is_in(found.iter().map(|point| point.backup_id)))
        .into_tuple()
        .all(on.reads())
        .await
        .map_err(failure)?;
    let took = found.into_iter().filter_map(|point| {
        let micros = point.completed_at?.checked_sub(point.started_at?)?;
        let (_, size) = sizes.iter().find(|(id, _)| *id == point.backup_id)?;
        Some((micros / 1_000_000, (*size)?))
    });
    Ok(took.collect())
}

/// The newest that went live on an environment, whether it was taken back since or not.
///
/// # Errors
/// Those of the database.
pub async fn newest_live_of(on: &impl Connection, target: EnvironmentId) -> Result<Option<RestorePoint>> {
    let found = Entity::find()
        .filter(Column::TargetEnvironmentId.eq(target.uuid()))
        .filter(Column::Status.is_in(went_live()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    found.one(on.reads()).await.map_err(failure)?.map(RestorePoint::try_from).transpose()
}

/// Whether a restore of this backup, or one whose safety backup it is, is under way or stuck.
///
/// # Errors
/// Those of the database.
pub async fn using_backup(on: &impl Connection, backup: BackupId) -> Result<bool> {
    let over = |status: &&RestoreStatus| status.is_final() && **status != RestoreStatus::Stuck;
    let over = RestoreStatus::ALL.iter().filter(over).map(|status| status.as_str());
    let either = Condition::any()
        .add(Column::BackupId.eq(backup.uuid()))
        .add(Column::PreRestoreBackupId.eq(backup.uuid()));
    let found = Entity::find()
        .filter(either)
        .filter(Column::Status.is_not_in(over))
        .one(on.reads())
        .await
        .map_err(failure)?;
    Ok(found.is_some())
}

/// Those whose time for an undo is over and whose kept pair is still there (`undo_until` is set until it is
/// not), the longest first.
///
/// # Errors
/// Those of the database.
pub async fn with_expired_undo(
    on: &impl Connection,
    now: Timestamp,
    limit: u64,
) -> Result<Vec<RestorePoint>> {
    let found = Entity::find()
        .filter(Column::UndoUntil.lte(micros(now)))
        .filter(Column::Status.is_in(went_live()))
        .order_by_asc(Column::UndoUntil)
        .limit(limit);
    found.all(on.reads()).await.map_err(failure)?.into_iter().map(RestorePoint::try_from).collect()
}

/// Those that are stuck, on environments that are not deleted, the oldest first.
///
/// # Errors
/// Those of the database.
pub async fn stuck(on: &impl Connection, limit: u64) -> Result<Vec<RestorePoint>> {
    let there = environment::Entity::find()
        .select_only()
        .column(environment::Column::Id)
        .filter(environment::Column::DeletedAt.is_null());
    let found = Entity::find()
        // In the words of the index: a parameter would hide from SQLite that it fits.
        .filter(Expr::cust("status = 'stuck'"))
        .filter(Column::TargetEnvironmentId.in_subquery(there.into_query()))
        .order_by_asc(Column::CreatedAt)
        .limit(limit);
    found.all(on.reads()).await.map_err(failure)?.into_iter().map(RestorePoint::try_from).collect()
}

/// For each pair that is kept beside a live one, or may be because its restore is stuck: the server that it is
/// on, and about how many bytes it has there. That is what its safety backup has unpacked; without one, what
/// the backup has that replaced it.
///
/// # Errors
/// Those of the database.
pub async fn kept_on_servers(
    on: &impl Connection,
    organisation: OrganisationId,
) -> Result<Vec<(ServerId, u64)>> {
    let bytes = "COALESCE(safety.database_size_bytes + COALESCE(safety.filestore_size_bytes, 0), \
                 backup.database_size_bytes + COALESCE(backup.filestore_size_bytes, 0), backup.size_bytes, 0)";
    let at = |join: &'static str| Expr::cust(join);
    let kept = Query::select()
        .expr_as(Expr::cust("environment.server_id"), "server_id")
        .expr_as(Expr::cust(bytes), "bytes")
        .from_as("restore_points", "point")
        .join_as(
            JoinType::InnerJoin,
            "environments",
            "environment",
            at("environment.id = point.target_environment_id"),
        )
        .join_as(JoinType::InnerJoin, "backups", "backup", at("backup.id = point.backup_id"))
        .join_as(JoinType::LeftJoin, "backups", "safety", at("safety.id = point.pre_restore_backup_id"))
        .and_where(sea_orm::sea_query::ExprTrait::eq(
            Expr::col(("point", "organisation_id")),
            organisation.uuid(),
        ))
        .and_where(Expr::cust("environment.server_id IS NOT NULL"))
        .and_where(Expr::cust("(point.undo_until IS NOT NULL OR point.status = 'stuck')"))
        .to_owned();
    let rows = on.reads().query_all(&kept).await.map_err(failure)?;
    let each = rows.iter().map(|row| {
        let server: Uuid = row.try_get("", "server_id").map_err(failure)?;
        let bytes: i64 = row.try_get("", "bytes").map_err(failure)?;
        Ok((server.into(), u64::try_from(bytes).unwrap_or(0)))
    });
    each.collect()
}

fn went_live() -> [&'static str; 2] {
    [RestoreStatus::Completed, RestoreStatus::Undone].map(RestoreStatus::as_str)
}
