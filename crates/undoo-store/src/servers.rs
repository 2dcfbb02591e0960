//! Servers.

use sea_orm::{
    ActiveValue, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, LockType},
};
use undoo_core::{OrganisationId, RestoreId, Result, ServerId, TaskId, platform::Server};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure, failure_or_taken, name_taken},
    page::listed,
    row,
    tables::{
        environment, restore_point,
        server::{Column, Entity, Model},
        task,
    },
};

/// Tasks that are not over.
const ACTIVE: &str = "status IN ('queued', 'running', 'cancelling')";

/// What a server cannot be removed for: one of each sort that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InUse {
    /// The name of an environment on it that is not deleted.
    pub environment: Option<String>,
    /// A restore whose kept pair is on it, of an environment that may be deleted.
    pub kept_pair: Option<RestoreId>,
    /// A task on it that is not over.
    pub task: Option<TaskId>,
}

/// Adds one.
///
/// # Errors
/// `name_taken`; `gone_meanwhile` if its organisation is not there.
pub async fn insert(on: &impl Connection, server: &Server) -> Result<()> {
    let taken = || name_taken("a server", &server.name);
    row::insert(on.writes(), Model::from(server)).await.map_err(|error| failure_or_taken(error, taken))
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: ServerId) -> Result<Option<Server>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Server::try_from).transpose()
}

/// One, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn locked(tx: &Tx, id: ServerId) -> Result<Option<Server>> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(Server::try_from).transpose()
}

/// Writes it as it now is.
///
/// # Errors
/// `name_taken`; `changed_meanwhile` if it is not there.
pub async fn update(on: &impl Connection, server: &Server) -> Result<()> {
    let taken = || name_taken("a server", &server.name);
    let written = row::overwrite(on.writes(), Model::from(server), Condition::all()).await;
    if written.map_err(|error| failure_or_taken(error, taken))? {
        Ok(())
    } else {
        Err(changed_meanwhile("server"))
    }
}

/// Those of an organisation.
///
/// # Errors
/// Those of the database.
pub async fn list(on: &impl Connection, organisation: OrganisationId, page: Page) -> Result<Listed<Server>> {
    let all = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    listed(on.reads(), all, page).await
}

/// Those of all organisations, oldest first, so that none is missed while pages are walked.
///
/// # Errors
/// Those of the database.
pub async fn all(on: &impl Connection, page: Page) -> Result<Listed<Server>> {
    listed(on.reads(), Entity::find().order_by_asc(Column::CreatedAt).order_by_asc(Column::Id), page).await
}

/// What it cannot be removed for.
///
/// # Errors
/// Those of the database.
pub async fn in_use(on: &impl Connection, id: ServerId) -> Result<InUse> {
    let on_it = environment::Column::ServerId.eq(id.uuid());
    let environment = environment::Entity::find()
        .filter(on_it.clone())
        .filter(environment::Column::DeletedAt.is_null())
        .one(on.reads())
        .await
        .map_err(failure)?;
    let environments =
        environment::Entity::find().select_only().column(environment::Column::Id).filter(on_it).into_query();
    let kept_pair = restore_point::Entity::find()
        .filter(restore_point::Column::TargetEnvironmentId.in_subquery(environments))
        .filter(Expr::cust("undo_until IS NOT NULL"))
        .one(on.reads())
        .await
        .map_err(failure)?;
    let task = task::Entity::find()
        .filter(task::Column::ServerId.eq(id.uuid()))
        .filter(Expr::cust(ACTIVE))
        .one(on.reads())
        .await
        .map_err(failure)?;
    Ok(InUse {
        environment: environment.map(|environment| environment.name),
        kept_pair: kept_pair.map(|point| point.id.into()),
        task: task.map(|task| task.id.into()),
    })
}

/// Forgets one. Environments that are deleted and tasks that are over stay, and are on none.
///
/// # Errors
/// `gone_meanwhile` while there are others on it.
pub async fn delete(tx: &Tx, id: ServerId) -> Result<()> {
    let nowhere =
        environment::ActiveModel { server_id: ActiveValue::Set(None), ..environment::ActiveModel::default() };
    environment::Entity::update_many()
        .set(nowhere)
        .filter(environment::Column::ServerId.eq(id.uuid()))
        .filter(environment::Column::DeletedAt.is_not_null())
        .exec(tx.raw())
        .await
        .map_err(failure)?;
    let nowhere = task::ActiveModel { server_id: ActiveValue::Set(None), ..task::ActiveModel::default() };
    task::Entity::update_many()
        .set(nowhere)
        .filter(task::Column::ServerId.eq(id.uuid()))
        .filter(Condition::all().not().add(Expr::cust(ACTIVE)))
        .exec(tx.raw())
        .await
        .map_err(failure)?;
    Entity::delete_by_id(id.uuid()).exec(tx.raw()).await.map_err(failure).map(drop)
}
