//! Who did what: a log for each organisation whose entries each hash the one before, so that a changed or
//! missing one shows.

use jiff::Timestamp;
use sea_orm::{
    ActiveValue, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use undoo_core::{Kind, OrganisationId, Problem, Result, UserId};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{failure, misuse},
    page::listed,
    row::{insert, insert_if_free, micros},
    tables::{entry, head},
};

/// Entries that are checked at once.
const BATCH: u64 = 1000;

/// What the first entry follows.
const BEGINNING: [u8; 32] = [0; 32];

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAudit {
    /// Where.
    pub organisation_id: OrganisationId,
    /// By whom; `None` for the platform itself.
    pub actor: Option<UserId>,
    /// What, such as `restore.start`.
    pub action: String,
    /// To what: its kind and id.
    pub object: String,
    /// The particulars; never a secret.
    pub data: Value,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Where.
    pub organisation_id: OrganisationId,
    /// Its place in the log, from 1.
    pub sequence: i64,
    /// By whom; `None` for the platform itself.
    pub actor: Option<UserId>,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// The particulars.
    pub data: Value,
    /// When.
    pub at: Timestamp,
    /// SHA-256 over the hash before it and this entry.
    pub hash: [u8; 32],
}

/// Adds an entry. Other writers of the organisation's log wait for this transaction: add it last.
///
/// # Errors
/// `gone_meanwhile` if the organisation is not there.
pub async fn append(tx: &Tx, new: &NewAudit) -> Result<()> {
    let organisation_id = new.organisation_id.uuid();
    let first = head::Model { organisation_id, sequence: 0, hash: BEGINNING.to_vec() };
    insert_if_free(tx.raw(), first).await.map_err(failure)?;
    let head = head::Entity::find_by_id(organisation_id).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    let head = head.map_err(failure)?.ok_or_else(|| misuse("an organisation's audit log has no head"))?;
    let mut row = entry::Model {
        organisation_id,
        sequence: head.sequence + 1,
        actor: new.actor.map(|actor| actor.uuid()),
        action: new.action.clone(),
        object: new.object.clone(),
        data: new.data.to_string(),
        at: micros(Timestamp::now()),
        hash: Vec::new(),
    };
    row.hash = hash(&head.hash, &row);
    let now = head::ActiveModel {
        sequence: ActiveValue::Set(row.sequence),
        hash: ActiveValue::Set(row.hash.clone()),
        ..head::ActiveModel::default()
    };
    let update = head::Entity::update_many().set(now);
    let update = update.filter(head::Column::OrganisationId.eq(organisation_id));
    update.exec(tx.raw()).await.map_err(failure)?;
    insert(tx.raw(), row).await.map_err(failure)
}

/// An organisation's log, newest first.
///
/// # Errors
/// Those of the database.
pub async fn list(
    on: &impl Connection,
    organisation: OrganisationId,
    page: Page,
) -> Result<Listed<AuditEntry>> {
    let all = entry::Entity::find()
        .filter(entry::Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(entry::Column::Sequence);
    listed(on.reads(), all, page).await
}

/// Reads an organisation's log from its beginning; answers how many entries it has.
///
/// # Errors
/// `audit_log_changed`, naming the first entry that is not what was written.
pub async fn verify(on: &impl Connection, organisation: OrganisationId) -> Result<u64> {
    // The end first: what is added while this reads is not missing.
    let head = head::Entity::find_by_id(organisation.uuid()).one(on.reads()).await.map_err(failure)?;
    let (end, end_hash) = head.map_or((0, BEGINNING.to_vec()), |head| (head.sequence, head.hash));
    let (mut seen, mut before) = (0, BEGINNING.to_vec());
    while seen < end {
        let rows = entry::Entity::find()
            .filter(entry::Column::OrganisationId.eq(organisation.uuid()))
            .filter(entry::Column::Sequence.gt(seen))
            .filter(entry::Column::Sequence.lte(end))
            .order_by_asc(entry::Column::Sequence)
            .limit(BATCH)
            .all(on.reads())
            .await
            .map_err(failure)?;
        if rows.is_empty() {
            return Err(changed(seen + 1));
        }
        for row in rows {
            if row.sequence != seen + 1 || row.hash != hash(&before, &row) {
                return Err(changed(seen + 1));
            }
            (seen, before) = (row.sequence, row.hash);
        }
    }
    if before != end_hash {
        return Err(changed(end));
    }
    Ok(end.unsigned_abs())
}

/// Over a JSON array of everything in the entry, with its data as the text that is kept.
fn hash(before: &[u8], row: &entry::Model) -> Vec<u8> {
    let said = serde_json::json!([
        hex::encode(before),
        row.organisation_id,
        row.sequence,
        row.actor,
        row.action,
        row.object,
        row.data,
        row.at,
    ]);
    Sha256::digest(said.to_string()).to_vec()
}

fn changed(sequence: i64) -> Problem {
    Problem::new(
        Kind::Invalid,
        "audit_log_changed",
        format!("entry {sequence} of the audit log is not what was written, or is missing"),
        "somebody changed the database beside Undoo. Compare with a copy from before; keep both",
    )
}
