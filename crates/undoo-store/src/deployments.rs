//! Deployments: what is kept of environments that the platform has made itself.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{DeploymentRecord, DeploymentState},
};

use crate::{
    Connection, Listed, Page,
    failure::{changed_meanwhile, failure},
    page::listed,
    row,
    tables::deployment::{Column, Entity, Model},
};

/// Adds one, in the transaction of its environment.
///
/// # Errors
/// `gone_meanwhile` if there is no such environment.
pub async fn insert(on: &impl Connection, deployment: &DeploymentRecord) -> Result<()> {
    row::insert(on.writes(), Model::from(deployment)).await.map_err(failure)
}

/// An environment's; `None` for one that was adopted, or is not on its server any more.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, environment: EnvironmentId) -> Result<Option<DeploymentRecord>> {
    let row = Entity::find_by_id(environment.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(DeploymentRecord::try_from).transpose()
}

/// Writes it as it now is, if it was in `expected` before.
///
/// # Errors
/// `changed_meanwhile` if it was not; `deployment_state` (`Internal`) for a move that there is not.
pub async fn update(
    on: &impl Connection,
    deployment: &DeploymentRecord,
    expected: DeploymentState,
) -> Result<()> {
    if expected != deployment.state && !expected.may_become(deployment.state) {
        let message = format!("a deployment that is {expected} does not become {}", deployment.state);
        return Err(Problem::new(Kind::Internal, "deployment_state", message, "please report this"));
    }
    let only = Condition::all().add(Column::State.eq(expected.to_string()));
    if row::overwrite(on.writes(), Model::from(deployment), only).await.map_err(failure)? {
        Ok(())
    } else {
        Err(changed_meanwhile("deployment"))
    }
}

/// Forgets one: nothing of it is on its server any more.
///
/// # Errors
/// Those of the database.
pub async fn delete(on: &impl Connection, environment: EnvironmentId) -> Result<()> {
    Entity::delete_by_id(environment.uuid()).exec(on.writes()).await.map_err(failure).map(drop)
}

/// Those that are not just there, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn unfinished(on: &impl Connection, most: u64) -> Result<Vec<DeploymentRecord>> {
    let found = Entity::find()
        .filter(Column::State.ne(DeploymentState::Deployed.to_string()))
        .order_by_asc(Column::CreatedAt)
        .limit(most)
        .all(on.reads())
        .await
        .map_err(failure)?;
    found.into_iter().map(DeploymentRecord::try_from).collect()
}

/// All of them, oldest first, so that none is missed while pages are walked: for sealing them under another
/// key.
///
/// # Errors
/// Those of the database.
pub async fn all(on: &impl Connection, page: Page) -> Result<Listed<DeploymentRecord>> {
    let all = Entity::find().order_by_asc(Column::CreatedAt).order_by_asc(Column::EnvironmentId);
    listed(on.reads(), all, page).await
}
