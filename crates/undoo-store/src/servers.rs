//! Servers.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder};
use undoo_core::{OrganisationId, Result, ServerId, platform::Server};

use crate::{
    Connection, Listed, Page,
    failure::{changed_meanwhile, failure, failure_or_taken, name_taken},
    page::listed,
    row,
    tables::server::{Column, Entity, Model},
};

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
