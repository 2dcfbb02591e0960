//! What happened, in one sequence for each organisation.
//!
//! A place in the sequence is given under a lock that is held until the transaction is over. So places become
//! visible in their order, without gaps, and whoever has read up to one has missed none before it.

use jiff::Timestamp;
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use undoo_core::{
    OrganisationId, Result,
    platform::{Event, NewEvent},
};

use crate::{
    Connection, Hint, Tx,
    failure::failure,
    row::{insert, json_text, micros},
    tables::{event, sequence},
};

/// Followed organisations that one question is about: it has two parameters for each.
const AT_ONCE: usize = 500;

/// Adds an event; answers its place. Other writers of the organisation's events wait for this transaction:
/// add events last.
///
/// # Errors
/// `gone_meanwhile` if the organisation is not there.
pub async fn append(tx: &Tx, new: &NewEvent) -> Result<i64> {
    let first = sequence::ActiveModel {
        organisation_id: ActiveValue::Set(new.organisation_id.uuid()),
        last: ActiveValue::Set(1),
    };
    let next = Expr::col((sequence::Entity, sequence::Column::Last)).add(1);
    let place = sequence::Entity::insert(first)
        .on_conflict(
            OnConflict::column(sequence::Column::OrganisationId)
                .value(sequence::Column::Last, next)
                .to_owned(),
        )
        .exec_with_returning(tx.raw())
        .await
        .map_err(failure)?
        .last;
    let row = event::Model {
        organisation_id: new.organisation_id.uuid(),
        sequence: place,
        project_id: new.project_id.map(|id| id.uuid()),
        environment_id: new.environment_id.map(|id| id.uuid()),
        kind: new.kind.to_string(),
        data: json_text(&new.data),
        at: micros(Timestamp::now()),
    };
    insert(tx.raw(), row).await.map_err(failure)?;
    tx.hint(Hint::Events);
    Ok(place)
}

/// What came after these places, at most so many: one organisation after another, each in its sequence. With
/// `limit` of them there may be more.
///
/// # Errors
/// Those of the database.
pub async fn after(on: &impl Connection, from: &[(OrganisationId, i64)], limit: u64) -> Result<Vec<Event>> {
    use event::{Column, Entity};
    let mut events = Vec::new();
    for some in from.chunks(AT_ONCE) {
        let room = limit.saturating_sub(events.len() as u64);
        if room == 0 {
            break;
        }
        let later = some.iter().fold(Condition::any(), |any, (organisation, last)| {
            let theirs = Column::OrganisationId.eq(organisation.uuid());
            any.add(Condition::all().add(theirs).add(Column::Sequence.gt(*last)))
        });
        let rows = Entity::find()
            .filter(later)
            .order_by_asc(Column::OrganisationId)
            .order_by_asc(Column::Sequence)
            .limit(room)
            .all(on.reads())
            .await
            .map_err(failure)?;
        for row in rows {
            events.push(row.try_into()?);
        }
    }
    Ok(events)
}

/// The place of an organisation's newest event; 0 if there was none.
///
/// # Errors
/// Those of the database.
pub async fn last(on: &impl Connection, organisation: OrganisationId) -> Result<i64> {
    let row = sequence::Entity::find_by_id(organisation.uuid()).one(on.reads()).await.map_err(failure)?;
    Ok(row.map_or(0, |row| row.last))
}

/// Forgets events from before that time; answers how many. Places are not given again.
///
/// # Errors
/// Those of the database.
pub async fn prune(on: &impl Connection, older_than: Timestamp) -> Result<u64> {
    let old = event::Entity::delete_many().filter(event::Column::At.lt(micros(older_than)));
    Ok(old.exec(on.writes()).await.map_err(failure)?.rows_affected)
}
