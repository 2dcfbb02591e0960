//! Requests that were carried out, so that one that comes twice is not.

use jiff::{SignedDuration, Timestamp};
use sea_orm::{ActiveValue, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use undoo_core::{Kind, Problem, Result, UserId};
use uuid::Uuid;

use crate::{
    Connection, Tx,
    failure::{failure, misuse},
    row::{insert_if_free, micros},
    tables::request::{ActiveModel, Column, Entity, Model},
};

/// How long a key is remembered.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// What a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new: do it, and say what came of it with [`done`], in the same transaction.
    Fresh,
    /// This came of it.
    Same(Uuid),
}

/// Takes a key for a request. Whoever comes with the same key waits until the transaction is over.
///
/// # Errors
/// `idempotency_key_reused` if the key came with another request.
pub async fn take(tx: &Tx, user: UserId, key: &str, request_hash: [u8; 32], now: Timestamp) -> Result<Taken> {
    let row = Model {
        user_id: user.uuid(),
        key: key.to_owned(),
        request_hash: request_hash.to_vec(),
        object: None,
        at: micros(now),
    };
    if insert_if_free(tx.raw(), row.clone()).await.map_err(failure)? {
        return Ok(Taken::Fresh);
    }
    let found = Entity::find_by_id((user.uuid(), key.to_owned())).lock_exclusive().one(tx.raw()).await;
    let Some(found) = found.map_err(failure)? else {
        return Err(Problem::new(
            Kind::Conflict,
            "idempotency_key_expired",
            "the idempotency key was forgotten in this very moment",
            "send the request again",
        ));
    };
    if found.at <= oldest(now)? {
        let again = ActiveModel {
            request_hash: ActiveValue::Set(row.request_hash),
            object: ActiveValue::Set(None),
            at: ActiveValue::Set(row.at),
            ..ActiveModel::default()
        };
        let update = Entity::update_many().set(again);
        let update = update.filter(Column::UserId.eq(user.uuid())).filter(Column::Key.eq(key));
        update.exec(tx.raw()).await.map_err(failure)?;
        return Ok(Taken::Fresh);
    }
    if found.request_hash != request_hash {
        return Err(Problem::new(
            Kind::Conflict,
            "idempotency_key_reused",
            "the idempotency key came with another request before",
            "use a new key for a new request",
        ));
    }
    // Without an object, whoever took it did not say what came of it, so nothing did.
    Ok(found.object.map_or(Taken::Fresh, Taken::Same))
}

/// Says what came of a request.
///
/// # Errors
/// `store_misuse` if the key was not taken.
pub async fn done(tx: &Tx, user: UserId, key: &str, object: Uuid) -> Result<()> {
    let done = ActiveModel { object: ActiveValue::Set(Some(object)), ..ActiveModel::default() };
    let update = Entity::update_many().set(done);
    let update = update.filter(Column::UserId.eq(user.uuid())).filter(Column::Key.eq(key));
    match update.exec(tx.raw()).await.map_err(failure)?.rows_affected {
        1 => Ok(()),
        _ => Err(misuse("an idempotency key is done that was not taken")),
    }
}

/// Forgets keys whose time is over.
///
/// # Errors
/// Those of the database.
pub async fn prune(on: &impl Connection, now: Timestamp) -> Result<()> {
    let old = Entity::delete_many().filter(Column::At.lte(oldest(now)?));
    old.exec(on.writes()).await.map_err(failure).map(drop)
}

fn oldest(now: Timestamp) -> Result<i64> {
    let oldest = now.checked_sub(REMEMBERED).map_err(|error| misuse("no such time").caused_by(error))?;
    Ok(micros(oldest))
}
