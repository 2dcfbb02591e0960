//! What rows of all tables have in common: how times, words and digests stand in them, and how one is written.

use std::str::FromStr;

use jiff::Timestamp;
use sea_orm::{
    ActiveModelTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait,
    QueryFilter, Update, sea_query::OnConflict,
};
use serde_json::Value;
use undoo_core::Result;

use crate::failure::unreadable;

/// A time as it is kept: microseconds, UTC.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A time that was kept.
pub(crate) fn time(column: &str, micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| unreadable(column, error))
}

/// The same, where there may be none.
pub(crate) fn maybe_time(column: &str, micros: Option<i64>) -> Result<Option<Timestamp>> {
    micros.map(|micros| time(column, micros)).transpose()
}

/// A word that was kept.
pub(crate) fn word<W>(column: &str, word: &str) -> Result<W>
where
    W: FromStr,
    W::Err: std::error::Error + Send + Sync + 'static,
{
    word.parse().map_err(|error: W::Err| unreadable(column, error))
}

/// JSON as it is kept: as text, which every database gives back as it was written.
pub(crate) fn json_text(value: &Value) -> String {
    value.to_string()
}

/// JSON that was kept.
pub(crate) fn json(column: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

/// The same, where there may be none.
pub(crate) fn maybe_json(column: &str, text: Option<&str>) -> Result<Option<Value>> {
    text.map(|text| json(column, text)).transpose()
}

/// An error's text as every database can hold it. What went wrong may quote a stranger's bytes, and that it
/// went wrong has to be written down all the same.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// A digest that was kept.
pub(crate) fn digest(column: &str, bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|error: std::array::TryFromSliceError| unreadable(column, error))
}

/// A row of a table of ours.
pub(crate) trait Row:
    ModelTrait<Entity: EntityTrait<Model = Self>> + IntoActiveModel<Active<Self>>
{
}

impl<M> Row for M where M: ModelTrait<Entity: EntityTrait<Model = M>> + IntoActiveModel<Active<M>> {}

type Active<M> = <<M as ModelTrait>::Entity as EntityTrait>::ActiveModel;

fn all_columns<M: Row>(row: M) -> Active<M> {
    row.into_active_model().reset_all()
}

/// Adds a row.
pub(crate) async fn insert<M: Row>(on: &impl ConnectionTrait, row: M) -> Result<(), DbErr> {
    M::Entity::insert(all_columns(row)).exec_without_returning(on).await.map(drop)
}

/// Adds a row if no other stands in its way; answers whether it did.
pub(crate) async fn insert_if_free<M: Row>(on: &impl ConnectionTrait, row: M) -> Result<bool, DbErr> {
    let nothing = OnConflict::new().do_nothing().to_owned();
    let insert = M::Entity::insert(all_columns(row)).on_conflict(nothing);
    Ok(insert.exec_without_returning(on).await? == 1)
}

/// Writes every column of the row with this one's key, if it is as `condition` says; answers whether it was.
pub(crate) async fn overwrite<M: Row>(
    on: &impl ConnectionTrait,
    row: M,
    condition: Condition,
) -> Result<bool, DbErr> {
    let update = Update::one(all_columns(row)).validate()?;
    match update.filter(condition).exec_without_returning(on).await {
        Ok(_) => Ok(true),
        Err(DbErr::RecordNotUpdated) => Ok(false),
        Err(error) => Err(error),
    }
}
