//! Git repositories with the custom modules of environments.

use sea_orm::{EntityTrait, QueryOrder};
use undoo_core::{EnvironmentId, Result, platform::AddonsRecord};

use crate::{
    Connection, Listed, Page,
    failure::failure,
    page::listed,
    row,
    tables::addons_origins::{Column, Entity, Model},
};

/// Keeps those of an environment, instead of any that were kept.
///
/// # Errors
/// `gone_meanwhile` if there is no such environment.
pub async fn put(on: &impl Connection, addons: &AddonsRecord) -> Result<()> {
    Entity::delete_by_id(addons.environment_id.uuid()).exec(on.writes()).await.map_err(failure)?;
    row::insert(on.writes(), Model::from(addons)).await.map_err(failure)
}

/// An environment's; `None` for one that has none.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, environment: EnvironmentId) -> Result<Option<AddonsRecord>> {
    let row = Entity::find_by_id(environment.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(AddonsRecord::try_from).transpose()
}

/// All of them, oldest first: for sealing them under another key.
///
/// # Errors
/// Those of the database.
pub async fn all(on: &impl Connection, page: Page) -> Result<Listed<AddonsRecord>> {
    let all = Entity::find().order_by_asc(Column::EnvironmentId);
    listed(on.reads(), all, page).await
}
