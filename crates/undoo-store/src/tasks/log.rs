//! The log of a task's steps: what was about to happen, and what did.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use undoo_core::{
    Result, TaskId,
    platform::{StepEvent, StepLog},
};

use super::Lease;
use crate::{
    Connection, Tx,
    failure::failure,
    row::{insert, json_text, micros},
    tables::step::{Column, Entity, Model},
};

/// Adds a line, in a transaction that was begun with the task's lease.
///
/// # Errors
/// `store_misuse` if it was not.
pub async fn log_append(tx: &Tx, lease: &Lease, step: &str, event: StepEvent, data: &Value) -> Result<()> {
    // The task's row is locked, so nobody else adds one.
    tx.held(lease)?;
    let last: Option<Option<i32>> = Entity::find()
        .select_only()
        .expr(Column::Sequence.max())
        .filter(Column::TaskId.eq(lease.task_id.uuid()))
        .into_tuple()
        .one(tx.raw())
        .await
        .map_err(failure)?;
    let row = Model {
        task_id: lease.task_id.uuid(),
        sequence: last.flatten().unwrap_or(0) + 1,
        step: step.to_owned(),
        event: event.to_string(),
        data: json_text(data),
        epoch: lease.epoch,
        at: micros(Timestamp::now()),
    };
    insert(tx.raw(), row).await.map_err(failure)
}

/// A task's log, from its beginning.
///
/// # Errors
/// Those of the database.
pub async fn log(on: &impl Connection, id: TaskId) -> Result<Vec<StepLog>> {
    let lines = Entity::find().filter(Column::TaskId.eq(id.uuid())).order_by_asc(Column::Sequence);
    lines.all(on.reads()).await.map_err(failure)?.into_iter().map(StepLog::try_from).collect()
}
