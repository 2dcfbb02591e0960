//! What the platform itself remembers, by name: seeds of signing keys and the like, sealed by whoever sets
//! them.

use sea_orm::{EntityTrait, sea_query::OnConflict};
use undoo_core::Result;

use crate::{
    Connection,
    failure::{failure, misuse},
    row::insert_if_free,
    tables::setting::{Column, Entity, Model},
};

/// What is set.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, name: &str) -> Result<Option<Vec<u8>>> {
    Ok(Entity::find_by_id(name).one(on.reads()).await.map_err(failure)?.map(|row| row.value))
}

/// Sets it, whatever it was.
///
/// # Errors
/// Those of the database.
pub async fn set(on: &impl Connection, name: &str, value: &[u8]) -> Result<()> {
    let row = Model { name: name.to_owned(), value: value.to_owned() };
    let other = OnConflict::column(Column::Name).update_column(Column::Value).to_owned();
    let set = Entity::insert(sea_orm::IntoActiveModel::into_active_model(row)).on_conflict(other);
    set.exec_without_returning(on.writes()).await.map_err(failure).map(drop)
}

/// Sets it if it is not set; answers what it is then. Of several processes that do so at once, all get the
/// same answer.
///
/// # Errors
/// Those of the database.
pub async fn set_once(on: &impl Connection, name: &str, value: &[u8]) -> Result<Vec<u8>> {
    let row = Model { name: name.to_owned(), value: value.to_owned() };
    if insert_if_free(on.writes(), row).await.map_err(failure)? {
        return Ok(value.to_owned());
    }
    get(on, name).await?.ok_or_else(|| misuse(format!("the setting {name} was removed")))
}
