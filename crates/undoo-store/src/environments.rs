//! Environments.

use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};
use undoo_core::{
    EnvironmentId, Kind, OrganisationId, Problem, ProjectId, Result, ServerId, platform::Environment,
};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure, failure_or_taken, name_taken},
    page::listed,
    row,
    tables::environment::{Column, Entity, Model},
};

/// Adds one.
///
/// # Errors
/// `name_taken`, `already_adopted`; `gone_meanwhile` if what it belongs to is not there.
pub async fn insert(on: &impl Connection, environment: &Environment) -> Result<()> {
    row::insert(on.writes(), Model::from(environment)).await.map_err(|error| taken(error, environment))
}

/// One, also if it is gone (`deleted_at`).
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: EnvironmentId) -> Result<Option<Environment>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Environment::try_from).transpose()
}

/// One, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn locked(tx: &Tx, id: EnvironmentId) -> Result<Option<Environment>> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(Environment::try_from).transpose()
}

/// Writes it as it now is.
///
/// # Errors
/// `name_taken`, `already_adopted`; `changed_meanwhile` if it is not there.
pub async fn update(on: &impl Connection, environment: &Environment) -> Result<()> {
    let written = row::overwrite(on.writes(), Model::from(environment), Condition::all()).await;
    if written.map_err(|error| taken(error, environment))? {
        Ok(())
    } else {
        Err(changed_meanwhile("environment"))
    }
}

/// Those that are not gone: of an organisation, of these projects.
///
/// # Errors
/// Those of the database.
pub async fn list(
    on: &impl Connection,
    organisation: Option<OrganisationId>,
    projects: Option<&[ProjectId]>,
    page: Page,
) -> Result<Listed<Environment>> {
    let mut all = Entity::find()
        .filter(Column::DeletedAt.is_null())
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    if let Some(organisation) = organisation {
        all = all.filter(Column::OrganisationId.eq(organisation.uuid()));
    }
    if let Some(projects) = projects {
        all = all.filter(Column::ProjectId.is_in(projects.iter().map(|id| id.uuid())));
    }
    listed(on.reads(), all, page).await
}

/// The one that is this database of this container, if somebody has adopted it.
///
/// # Errors
/// Those of the database.
pub async fn by_container(
    on: &impl Connection,
    organisation: OrganisationId,
    server: ServerId,
    container: &str,
    database: &str,
) -> Result<Option<Environment>> {
    let found = Entity::find()
        .filter(Column::DeletedAt.is_null())
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .filter(Column::ServerId.eq(server.uuid()))
        .filter(Column::Container.eq(container))
        .filter(Column::DatabaseName.eq(database));
    found.one(on.reads()).await.map_err(failure)?.map(Environment::try_from).transpose()
}

/// Two things of an environment are unique, and the database names the one that is not.
fn taken(error: DbErr, environment: &Environment) -> Problem {
    let is_container = error.to_string().contains("container");
    failure_or_taken(error, || {
        if !is_container {
            return name_taken("an environment", &environment.name);
        }
        Problem::new(
            Kind::Conflict,
            "already_adopted",
            "another environment is this database of this container already",
            "use that environment, or remove it first",
        )
    })
}
