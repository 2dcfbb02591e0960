//! What a worker writes about the task that it has, and the check that it still has it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sea_orm::{
    ActiveValue, ColumnTrait, EntityTrait, QueryFilter, QuerySelect, UpdateMany,
    sea_query::{Expr, LockType},
};
use serde_json::Value;
use undoo_core::{Kind, Problem, Result, ServerId, TaskId, platform::TaskStatus};

use crate::{
    Hint, Store, Tx,
    failure::{failure, misuse},
    row::{json_text, micros, storable, word},
    tables::task::{ActiveModel, Column, Entity},
};

/// That a worker has a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The task.
    pub task_id: TaskId,
    /// The task's epoch, which this claim has raised.
    pub epoch: i64,
    /// The worker.
    pub worker: String,
    /// Until when, unless a heartbeat makes it longer.
    pub until: Timestamp,
    /// Its attempts are used up: end it instead of beginning it again.
    pub exhausted: bool,
}

/// What a sign of life is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// The worker has the task.
    Held {
        /// Somebody called it off: take back what was done.
        cancelling: bool,
        /// Until when without another sign of life.
        until: Timestamp,
    },
    /// It does not: stop, and touch nothing any more.
    Lost,
}

/// What a transaction found when it began to hold a task.
pub(crate) struct Held {
    task_id: TaskId,
    epoch: i64,
    status: TaskStatus,
    server_id: Option<ServerId>,
}

impl Held {
    pub(crate) fn is_of(&self, lease: &Lease) -> bool {
        self.task_id == lease.task_id && self.epoch == lease.epoch
    }
}

/// Locks the task's row, if the lease is the newest.
pub(crate) async fn hold(tx: &Tx, lease: &Lease) -> Result<Held> {
    let row = Entity::find_by_id(lease.task_id.uuid())
        .select_only()
        .columns([Column::Epoch, Column::Status, Column::ServerId])
        .lock(LockType::NoKeyUpdate)
        .into_tuple::<(i64, String, Option<uuid::Uuid>)>()
        .one(tx.raw())
        .await
        .map_err(failure)?;
    let Some((epoch, status, server)) = row else { return Err(lost(lease)) };
    let status: TaskStatus = word("status", &status)?;
    let at_work = matches!(status, TaskStatus::Running | TaskStatus::Cancelling);
    if epoch != lease.epoch || !at_work {
        return Err(lost(lease));
    }
    Ok(Held { task_id: lease.task_id, epoch, status, server_id: server.map(Into::into) })
}

fn lost(lease: &Lease) -> Problem {
    Problem::new(
        Kind::Conflict,
        "lease_lost",
        format!("the worker {} does not have the task {} any more", lease.worker, lease.task_id),
        "nothing is to be done: another worker has taken it up, or it is over",
    )
}

pub(super) fn lease_end(now: Timestamp, lease: Duration) -> Result<Timestamp> {
    let end = SignedDuration::try_from(lease).and_then(|lease| now.checked_add(lease));
    let end = end.map_err(|error| misuse("A lease without an end.").caused_by(error))?;
    // As it is kept.
    Timestamp::from_microsecond(micros(end)).map_err(|error| misuse("no such time").caused_by(error))
}

/// A write that happens only under the newest lease.
fn under(lease: &Lease, change: ActiveModel) -> UpdateMany<Entity> {
    Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(lease.task_id.uuid()))
        .filter(Column::Epoch.eq(lease.epoch))
        .filter(Expr::cust("status IN ('running', 'cancelling')"))
}

/// A sign of life: from now on the worker may be silent so long.
///
/// # Errors
/// Those of the database. Until the lease ends the worker still has the task then.
pub async fn heartbeat(store: &Store, lease: &Lease, length: Duration) -> Result<Heartbeat> {
    use crate::store::sealed::Connection as _;
    let until = lease_end(Timestamp::now(), length)?;
    let longer = ActiveModel { lease_until: ActiveValue::Set(Some(micros(until))), ..ActiveModel::default() };
    let rows = under(lease, longer).exec_with_returning(store.writes()).await.map_err(failure)?;
    Ok(rows.first().map_or(Heartbeat::Lost, |row| Heartbeat::Held {
        cancelling: row.status == TaskStatus::Cancelling.as_str(),
        until,
    }))
}

/// Says how far the task is.
///
/// # Errors
/// `lease_lost`.
pub async fn progress(store: &Store, lease: &Lease, progress: &Value) -> Result<()> {
    use crate::store::sealed::Connection as _;
    let further =
        ActiveModel { progress: ActiveValue::Set(Some(json_text(progress))), ..ActiveModel::default() };
    match under(lease, further).exec(store.writes()).await.map_err(failure)?.rows_affected {
        0 => Err(lost(lease)),
        _ => Ok(()),
    }
}

/// Ends a task, in a transaction that was begun with its lease.
///
/// # Errors
/// `store_misuse` if it was not, or if that is no end.
pub async fn finish(
    tx: &Tx,
    lease: &Lease,
    status: TaskStatus,
    result: Option<&Value>,
    error: Option<&str>,
) -> Result<()> {
    let held = tx.held(lease)?;
    if !status.is_final() || !held.status.may_become(status) {
        return Err(misuse(format!("A task that is {} cannot end as {status}.", held.status)));
    }
    let finished = ActiveModel {
        status: ActiveValue::Set(status.to_string()),
        result: ActiveValue::Set(result.map(json_text)),
        error: ActiveValue::Set(error.map(storable)),
        lease_until: ActiveValue::Set(None),
        finished_at: ActiveValue::Set(Some(micros(Timestamp::now()))),
        ..ActiveModel::default()
    };
    write(tx, lease, finished).await?;
    if held.server_id.is_some() {
        // There is room for another on that server.
        tx.hint(Hint::Tasks);
    }
    Ok(())
}

/// Puts a task back into the queue, as if it had not been taken: for a worker that shuts down and has taken
/// back what it did. In a transaction that was begun with its lease.
///
/// # Errors
/// `task_cancelling` if it was called off meanwhile: end it as cancelled. `store_misuse` if the transaction
/// was not begun with the lease.
pub async fn hand_back(tx: &Tx, lease: &Lease) -> Result<()> {
    let held = tx.held(lease)?;
    if !held.status.may_become(TaskStatus::Queued) {
        return Err(Problem::new(
            Kind::Conflict,
            "task_cancelling",
            format!("the task {} was called off", lease.task_id),
            "end it as cancelled",
        ));
    }
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::val(TaskStatus::Queued.as_str()))
        .col_expr(Column::Worker, Expr::val(None::<String>))
        .col_expr(Column::LeaseUntil, Expr::val(None::<i64>));
    // The claim that ends an exhausted task does not count.
    let update =
        if lease.exhausted { update } else { update.col_expr(Column::Attempts, Expr::cust("attempts - 1")) };
    let update = update.filter(Column::Id.eq(lease.task_id.uuid()));
    update.exec(tx.raw()).await.map_err(failure)?;
    tx.hint(Hint::Tasks);
    Ok(())
}

/// The row is locked and was found to be the lease's.
async fn write(tx: &Tx, lease: &Lease, change: ActiveModel) -> Result<()> {
    let update = Entity::update_many().set(change).filter(Column::Id.eq(lease.task_id.uuid()));
    update.exec(tx.raw()).await.map_err(failure).map(drop)
}
