//! How a worker comes by a task.
//!
//! In one short transaction: the first task that may be taken is found and locked, with what others are just
//! taking passed over; the room on its server is counted with that server's row locked, so that two workers
//! cannot both take the last of it.

use std::time::Duration;

use jiff::Timestamp;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select,
    sea_query::{Expr, LockBehavior, LockType},
};
use undoo_core::{
    Result,
    platform::{Task, TaskKind, TaskStatus},
};
use uuid::Uuid;

use super::{Lease, lease::lease_end};
use crate::{
    Store, Tx,
    failure::{failure, misuse},
    row::micros,
    tables::{
        server,
        task::{ActiveModel, Column, Entity, Model},
    },
};

/// Whoever takes tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its name, unique among those that run.
    pub name: String,
    /// What it can do.
    pub kinds: Vec<TaskKind>,
    /// How long it may be silent.
    pub lease: Duration,
}

/// How often a claim looks again when the room that it saw was taken meanwhile.
const TRIES: usize = 16;

// What the indexes of the queue are for is written out in SQL: an index of some rows is used only where the
// statement, not its parameters, says that it is about those.
const QUEUED: &str = "status = 'queued'";
const HELD: &str = "status IN ('running', 'cancelling')";
const SERVER_HAS_ROOM: &str = "(server_id IS NULL OR server_id NOT IN (\
    SELECT busy.server_id FROM tasks AS busy \
    WHERE busy.status IN ('running', 'cancelling') AND busy.server_id IS NOT NULL \
    GROUP BY busy.server_id \
    HAVING COUNT(*) >= (SELECT task_limit FROM servers WHERE servers.id = busy.server_id)))";

/// Takes a task, if there is one: first the one whose worker was not heard of for the longest beyond its
/// lease, then of those that wait and are due the one of the highest priority, the oldest first.
///
/// A task that was taken as often as it may be is taken once more, to be ended: [`Lease::exhausted`].
///
/// # Errors
/// Those of the database.
pub async fn claim(store: &Store, worker: &Worker, now: Timestamp) -> Result<Option<(Task, Lease)>> {
    for _ in 0..TRIES {
        let tx = store.begin().await?;
        let Some(found) = first(&tx, worker, now).await? else {
            tx.roll_back().await?;
            return Ok(None);
        };
        let waited = found.status == TaskStatus::Queued.as_str();
        if let Some(server) = found.server_id
            && waited
            && !has_room(&tx, server).await?
        {
            tx.roll_back().await?;
            continue;
        }
        let taken = take(&tx, found, worker, now).await?;
        tx.commit().await?;
        return Ok(Some(taken));
    }
    Ok(None)
}

async fn first(tx: &Tx, worker: &Worker, now: Timestamp) -> Result<Option<Model>> {
    in_order_of_the_index(tx).await?;
    let abandoned = able(worker)
        .filter(Expr::cust(HELD))
        .filter(Column::LeaseUntil.lte(micros(now)))
        .order_by_asc(Column::LeaseUntil);
    if let Some(found) = one_that_nobody_takes(tx, abandoned).await? {
        return Ok(Some(found));
    }
    let waiting = able(worker)
        .filter(Expr::cust(QUEUED))
        .filter(Column::RunAfter.lte(micros(now)))
        .filter(Expr::cust(SERVER_HAS_ROOM))
        .order_by_desc(Column::Priority)
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id);
    one_that_nobody_takes(tx, waiting).await
}

/// How many tasks wait changes faster than PostgreSQL's statistics: after a burst it would believe that there
/// are few, and sort thousands to find one. Both questions are answered by an index in its order.
async fn in_order_of_the_index(tx: &Tx) -> Result<()> {
    if tx.raw().get_database_backend() == DbBackend::Postgres {
        let plans = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; \
                     SET LOCAL enable_seqscan = off";
        tx.raw().execute_unprepared(plans).await.map_err(failure)?;
    }
    Ok(())
}

fn able(worker: &Worker) -> Select<Entity> {
    Entity::find().filter(Column::Kind.is_in(worker.kinds.iter().map(|kind| kind.as_str())))
}

async fn one_that_nobody_takes(tx: &Tx, all: Select<Entity>) -> Result<Option<Model>> {
    // SQLite has one writer at a time, and no such words.
    let one = all.limit(1).lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    one.one(tx.raw()).await.map_err(failure)
}

async fn has_room(tx: &Tx, id: Uuid) -> Result<bool> {
    let server = server::Entity::find_by_id(id).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    let server = server.map_err(failure)?.ok_or_else(|| misuse("A task's server is not there."))?;
    let busy = Entity::find().filter(Expr::cust(HELD)).filter(Column::ServerId.eq(id)).count(tx.raw());
    Ok(busy.await.map_err(failure)? < u64::try_from(server.task_limit).unwrap_or(0))
}

async fn take(tx: &Tx, mut row: Model, worker: &Worker, now: Timestamp) -> Result<(Task, Lease)> {
    let exhausted = row.attempts >= row.max_attempts;
    let until = lease_end(now, worker.lease)?;
    if row.status == TaskStatus::Queued.as_str() {
        row.status = TaskStatus::Running.to_string();
    }
    row.attempts += i32::from(!exhausted);
    row.epoch += 1;
    row.worker = Some(worker.name.clone());
    row.lease_until = Some(micros(until));
    row.started_at = row.started_at.or(Some(micros(now)));
    let taken = ActiveModel {
        status: ActiveValue::Set(row.status.clone()),
        attempts: ActiveValue::Set(row.attempts),
        epoch: ActiveValue::Set(row.epoch),
        worker: ActiveValue::Set(row.worker.clone()),
        lease_until: ActiveValue::Set(row.lease_until),
        started_at: ActiveValue::Set(row.started_at),
        ..ActiveModel::default()
    };
    let update = Entity::update_many().set(taken).filter(Column::Id.eq(row.id));
    update.exec(tx.raw()).await.map_err(failure)?;
    let lease =
        Lease { task_id: row.id.into(), epoch: row.epoch, worker: worker.name.clone(), until, exhausted };
    Ok((row.try_into()?, lease))
}
