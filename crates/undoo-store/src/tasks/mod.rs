//! The queue. Who takes a task has it for a time (its lease), and only they can write about it.
//!
//! A claim raises the task's epoch; every write of a worker is refused unless it has the newest. So a worker
//! that was stopped for longer than its lease cannot harm what another has begun since.

mod claim;
mod lease;
mod log;

use jiff::Timestamp;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, LockType},
};
use serde_json::Value;
use undoo_core::{
    EnvironmentId, Kind, OrganisationId, Problem, ProjectId, Result, ServerId, TaskId, UserId,
    platform::{Task, TaskKind, TaskStatus},
};

pub use claim::{Worker, claim};
pub use lease::{Heartbeat, Lease, finish, hand_back, heartbeat, progress};
pub(crate) use lease::{Held, hold};
pub use log::{log, log_append};

use crate::{
    Connection, Hint, Listed, Page, Tx,
    failure::failure,
    page::listed,
    row::{insert_if_free, json_text, micros, word},
    tables::{
        environment,
        task::{ActiveModel, Column, Entity, Model},
    },
};

/// Work that is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// What is to be done.
    pub kind: TaskKind,
    /// Higher goes first.
    pub priority: i32,
    /// The environment that it changes, if it changes one.
    pub environment_id: Option<EnvironmentId>,
    /// The server that it works on.
    pub server_id: Option<ServerId>,
    /// What its kind needs to know.
    pub payload: Value,
    /// How often a worker may take it.
    pub max_attempts: i32,
    /// Before when it is not taken; `None` for at once.
    pub run_after: Option<Timestamp>,
    /// Who asked for it.
    pub created_by: Option<UserId>,
}

/// Which tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskFilter<'a> {
    /// Of this organisation.
    pub organisation_id: Option<OrganisationId>,
    /// Only those on environments of these projects.
    pub projects: Option<&'a [ProjectId]>,
    /// Only those on this environment.
    pub environment_id: Option<EnvironmentId>,
    /// Only those that stand there.
    pub status: Option<TaskStatus>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Tasks that wait.
    pub queued: u64,
    /// Tasks that a worker has.
    pub running: u64,
    /// Tasks that a worker takes back.
    pub cancelling: u64,
    /// Tasks that need a person.
    pub stuck: u64,
    /// Since when the oldest waits.
    pub oldest_queued: Option<Timestamp>,
}

/// Puts a task into the queue.
///
/// # Errors
/// `environment_busy`, naming the other task, when one is active on the environment.
pub async fn enqueue(tx: &Tx, new: &NewTask) -> Result<Task> {
    let now = Timestamp::now();
    let row = Model {
        id: TaskId::generate().uuid(),
        organisation_id: new.organisation_id.uuid(),
        kind: new.kind.to_string(),
        status: TaskStatus::Queued.to_string(),
        priority: new.priority,
        environment_id: new.environment_id.map(|id| id.uuid()),
        server_id: new.server_id.map(|id| id.uuid()),
        payload: json_text(&new.payload),
        attempts: 0,
        max_attempts: new.max_attempts,
        epoch: 0,
        worker: None,
        lease_until: None,
        run_after: micros(new.run_after.unwrap_or(now)),
        progress: None,
        result: None,
        error: None,
        created_by: new.created_by.map(|id| id.uuid()),
        created_at: micros(now),
        started_at: None,
        finished_at: None,
    };
    // The index of active tasks is what refuses: it holds whoever enqueues at the same time.
    if insert_if_free(tx.raw(), row.clone()).await.map_err(failure)? {
        tx.hint(Hint::Tasks);
        return row.try_into();
    }
    let other = Entity::find()
        .filter(Column::EnvironmentId.eq(row.environment_id))
        .filter(Expr::cust("status IN ('queued', 'running', 'cancelling')"))
        .one(tx.raw())
        .await
        .map_err(failure)?;
    Err(environment_busy(other.as_ref()))
}

fn environment_busy(other: Option<&Model>) -> Problem {
    let other = other.map_or_else(
        || "Another task".to_owned(),
        |other| format!("The task {} ({}, {})", other.id, other.kind, other.status),
    );
    Problem::new(
        Kind::Conflict,
        "environment_busy",
        format!("{other} is at work on this environment."),
        "wait until it is over, or cancel it",
    )
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: TaskId) -> Result<Option<Task>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Task::try_from).transpose()
}

/// One of this kind that is not over yet, about the same.
///
/// # Errors
/// Those of the database.
pub async fn active(on: &impl Connection, kind: TaskKind, payload: &Value) -> Result<Option<Task>> {
    let found = Entity::find()
        .filter(Expr::cust("status IN ('queued', 'running', 'cancelling')"))
        .filter(Column::Kind.eq(kind.as_str()))
        .filter(Column::Payload.eq(json_text(payload)));
    found.one(on.reads()).await.map_err(failure)?.map(Task::try_from).transpose()
}

/// Tasks, newest first.
///
/// # Errors
/// Those of the database.
pub async fn list(on: &impl Connection, filter: TaskFilter<'_>, page: Page) -> Result<Listed<Task>> {
    let mut all = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    if let Some(organisation) = filter.organisation_id {
        all = all.filter(Column::OrganisationId.eq(organisation.uuid()));
    }
    if let Some(projects) = filter.projects {
        let theirs = environment::Entity::find()
            .select_only()
            .column(environment::Column::Id)
            .filter(environment::Column::ProjectId.is_in(projects.iter().map(|id| id.uuid())));
        all = all.filter(Column::EnvironmentId.in_subquery(theirs.into_query()));
    }
    if let Some(environment) = filter.environment_id {
        all = all.filter(Column::EnvironmentId.eq(environment.uuid()));
    }
    if let Some(status) = filter.status {
        all = all.filter(Column::Status.eq(status.as_str()));
    }
    listed(on.reads(), all, page).await
}

/// Calls a task off, and answers where it then stands: one that waits is over at once, one that a worker has
/// is taken back by it, one that is over stays as it is.
///
/// # Errors
/// `task_missing`.
pub async fn cancel(tx: &Tx, id: TaskId) -> Result<TaskStatus> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    let row = row.map_err(failure)?.ok_or_else(|| {
        Problem::new(
            Kind::Missing,
            "task_missing",
            format!("there is no task {id}"),
            "look at the list of tasks",
        )
    })?;
    let status: TaskStatus = word("status", &row.status)?;
    let next = match status {
        TaskStatus::Queued => TaskStatus::Cancelled,
        TaskStatus::Running => TaskStatus::Cancelling,
        other => return Ok(other),
    };
    let mut cancelled = ActiveModel { status: ActiveValue::Set(next.to_string()), ..ActiveModel::default() };
    if next.is_final() {
        cancelled.finished_at = ActiveValue::Set(Some(micros(Timestamp::now())));
    }
    let update = Entity::update_many().set(cancelled).filter(Column::Id.eq(id.uuid()));
    update.exec(tx.raw()).await.map_err(failure)?;
    tx.hint(Hint::Tasks);
    Ok(next)
}

/// How much there is to do.
///
/// # Errors
/// Those of the database.
pub async fn queue_depth(on: &impl Connection) -> Result<QueueDepth> {
    let on = on.reads();
    let (queued, oldest) = standing(on, "status = 'queued'").await?;
    // As the indexes have it.
    let held = "status IN ('running', 'cancelling')";
    let (cancelling, _) = standing(on, &format!("{held} AND status = 'cancelling'")).await?;
    let (all_held, _) = standing(on, held).await?;
    let (stuck, _) = standing(on, "status = 'stuck'").await?;
    Ok(QueueDepth {
        queued,
        running: all_held.saturating_sub(cancelling),
        cancelling,
        stuck,
        oldest_queued: crate::row::maybe_time("created_at", oldest)?,
    })
}

/// How many tasks a condition holds for, and when the oldest was made.
async fn standing(on: &impl ConnectionTrait, condition: &str) -> Result<(u64, Option<i64>)> {
    let query = Entity::find()
        .select_only()
        .expr(Column::Id.count())
        .expr(Column::CreatedAt.min())
        .filter(Expr::cust(condition.to_owned()));
    let found: Option<(i64, Option<i64>)> = query.into_tuple().one(on).await.map_err(failure)?;
    let (count, oldest) = found.unwrap_or_default();
    Ok((count.unsigned_abs(), oldest))
}
