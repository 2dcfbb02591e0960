//! The record of a restore on its target: what was staged, what is live, until when it can be undone.
//!
//! It is written before each change of state and read by whoever comes next: another command, a control
//! plane, or a run after a crash.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use undoo_core::{Kind, Problem, RestoreId, Result, Side};

use crate::{
    home::Home,
    order::{Intent, Parts},
};

const FILE: &str = "record.json";

/// Where a restore stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The staged pair is being made. A record found like this belongs to a run that died.
    Staging,
    /// The staged pair is complete and verified, and waits for proof or cutover.
    Staged,
    /// A cutover is under way, in this direction.
    Swapping {
        /// The side that shall be live.
        to: Side,
    },
    /// One side is live and the other is kept.
    Live {
        /// Which.
        side: Side,
    },
    /// The kept side is gone; nothing can be undone any more.
    Purged,
}

/// The record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The restore.
    pub id: RestoreId,
    /// The backup, as it was named.
    pub backup: String,
    /// The target, as it was named.
    pub target: String,
    /// The database's live name.
    pub database: String,
    /// The role that owns the live database.
    pub owner: String,
    /// What was restored.
    pub parts: Parts,
    /// What for; known once the backup's own identity is.
    pub intent: Option<Intent>,
    /// OID of the restored database.
    pub restored_oid: Option<u32>,
    /// OID of the database that was live before; `None` when there was none.
    pub replaced_oid: Option<u32>,
    /// See [`State`].
    #[serde(flatten)]
    pub state: State,
    /// Fencing number: raised by whoever takes the restore over.
    pub epoch: u64,
    /// When it began.
    pub started: Timestamp,
    /// When a side last became live.
    pub swapped: Option<Timestamp>,
    /// Until when the kept side is kept.
    pub undo_until: Option<Timestamp>,
    /// Length of the undo window, in hours.
    pub undo_window_hours: u32,
    /// Downtime of the last cutover, in milliseconds, from stop to health.
    pub downtime_ms: Option<u64>,
}

impl Record {
    /// The epoch of a restore whose pairs were never swapped.
    pub const STAGED: u64 = 1;

    /// Reads a restore's record; `None` when it has none (it died before it did anything).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(home: &Home, id: &RestoreId) -> Result<Option<Self>> {
        home.read(id, FILE)
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// `Conflict` when someone with a higher epoch has taken over; else as [`Home::write`].
    pub fn write(&self, home: &Home) -> Result<()> {
        self.refuse_if_fenced(home)?;
        home.write(&self.id, FILE, self)
    }

    /// Whether this is still the record that counts.
    ///
    /// # Errors
    /// `Conflict` with code `fenced` when someone with a higher epoch has taken over.
    pub fn refuse_if_fenced(&self, home: &Home) -> Result<()> {
        match Self::read(home, &self.id)? {
            Some(there) => there.refuse_decision_of(self.epoch),
            None => Ok(()),
        }
    }

    /// Whether what was decided when the record had this epoch still holds.
    ///
    /// # Errors
    /// `Conflict` with code `fenced` when its pairs were swapped since, or are about to be, by another run.
    pub fn refuse_decision_of(&self, epoch: u64) -> Result<()> {
        if self.epoch <= epoch {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Conflict,
            "fenced",
            format!("restore {} was taken over by another run of undoo", self.id),
            "let that run finish; `undoo list` shows where it stands",
        ))
    }

    /// Moves to a new state and writes it.
    ///
    /// # Errors
    /// As [`Record::write`].
    pub fn advance(&mut self, home: &Home, state: State) -> Result<()> {
        self.state = state;
        self.write(home)
    }

    /// Notes that `side` became live now, and starts a full undo window for the other.
    pub fn went_live(&mut self, side: Side) {
        let now = Timestamp::now();
        self.state = State::Live { side };
        self.swapped = Some(now);
        let window = SignedDuration::from_hours(i64::from(self.undo_window_hours));
        self.undo_until = now.checked_add(window).ok();
    }

    /// Whether the kept side's time is over.
    pub fn expired(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Live { .. }) && self.undo_until.is_some_and(|until| until < now)
    }
}

/// All records of a target, oldest first.
///
/// # Errors
/// When one cannot be read.
pub fn all(home: &Home) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for id in home.restores()? {
        records.extend(Record::read(home, &id)?);
    }
    Ok(records)
}

/// The newest restore of `database` that reached a cutover; `None` once its kept side is gone. An older
/// one is no way back: what it replaced, or was replaced by, may be what the newest one parked.
///
/// # Errors
/// As [`all`].
pub fn newest(home: &Home, database: &str) -> Result<Option<Record>> {
    let swapped = |record: &Record| !matches!(record.state, State::Staging | State::Staged);
    let newest = all(home)?.into_iter().rfind(|record| record.database == database && swapped(record));
    Ok(newest.filter(|record| record.state != State::Purged))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_decided_before_a_swap_is_refused_after_it() {
        let record: Record = serde_json::from_value(json!({
            "id": RestoreId::generate(), "backup": "acme.zip", "target": "docker:acme", "database": "acme",
            "owner": "odoo", "parts": "all", "intent": null, "restored_oid": 2, "replaced_oid": 1,
            "state": "live", "side": "replaced", "epoch": 3, "started": "2026-01-01T00:00:00Z", "swapped": null,
            "undo_until": null, "undo_window_hours": 24, "downtime_ms": null,
        }))
        .expect("a record");
        assert_eq!(
            record.refuse_decision_of(Record::STAGED).expect_err("swapped twice since").code,
            "fenced"
        );
        assert_eq!(record.refuse_decision_of(2).expect_err("swapped since").code, "fenced");
        record.refuse_decision_of(3).expect("as it was seen");
    }
}
