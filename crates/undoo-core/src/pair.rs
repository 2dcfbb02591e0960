//! The two pairs of a restore, and which moves bring one of them to life.
//!
//! A pair is a database and its filestore directory. A restore has two: the *restored* one, which was
//! staged and proven, and the *replaced* one, which was live before. A cutover, an undo, a redo, an
//! automatic swap back and the resumption after a crash are all the same thing: bring one side to life
//! from wherever both happen to be. [`moves`] decides that from what is observed, so no history is
//! needed to end in a whole pair.

use serde::{Deserialize, Serialize};

use crate::RestoreId;

/// One of the two pairs of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the backup became.
    Restored,
    /// What was live when the restore cut over.
    Replaced,
}

impl Side {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Restored => Self::Replaced,
            Self::Replaced => Self::Restored,
        }
    }

    /// The word used in names of databases and directories.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Replaced => "replaced",
        }
    }
}

/// Name of the database in which a side waits while it is not live. It fits PostgreSQL's 63 bytes and no
/// dbfilter that was written for real databases.
pub fn parked_database(id: &RestoreId, side: Side) -> String {
    format!("undoo_{}_{}", id.short(), side.word())
}

/// Name of the throw-away clone on which Odoo proves the restored side.
pub fn proof_database(id: &RestoreId) -> String {
    format!("undoo_{}_proof", id.short())
}

/// The role that loads and owns the staged database. It is a member of nothing.
pub fn loader_role(id: &RestoreId) -> String {
    format!("undoo_{}_loader", id.short())
}

/// Where one half (database or directory) of a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Under the name that Odoo uses.
    Live,
    /// Under the name that [`parked_database`] gives, or in the restore's own directory.
    Parked,
    /// Nowhere: this side has no such half (a new database replaces nothing).
    Absent,
}

/// Where both halves of both sides are, as found on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The restored side's database.
    pub restored_database: Place,
    /// The replaced side's database.
    pub replaced_database: Place,
    /// The restored side's filestore directory.
    pub restored_directory: Place,
    /// The replaced side's filestore directory.
    pub replaced_directory: Place,
}

/// One move of a cutover, each safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Stop everything that holds a session or the filestore.
    StopServices,
    /// Forbid connections to both databases and end the ones there are.
    CloseDatabases,
    /// In one transaction: the live database to its parking name, the wanted one to the live name,
    /// with owner, settings, grants, limit and comment.
    RenameDatabases,
    /// The live directory, which belongs to the other side, to its parking place.
    ParkDirectory,
    /// The wanted directory to the live name.
    PlaceDirectory,
    /// Allow connections to the live database; the parked one stays closed.
    OpenDatabase,
    /// Start what was stopped.
    StartServices,
    /// Wait until Odoo answers.
    AwaitHealth,
}

impl Observed {
    fn database(&self, side: Side) -> Place {
        match side {
            Side::Restored => self.restored_database,
            Side::Replaced => self.replaced_database,
        }
    }

    fn directory(&self, side: Side) -> Place {
        match side {
            Side::Restored => self.restored_directory,
            Side::Replaced => self.replaced_directory,
        }
    }

    /// Whether `side` is live as a whole: both halves that it has are live, and none of the other's.
    pub fn is_live(&self, side: Side) -> bool {
        let other = side.other();
        self.database(side) != Place::Parked
            && self.directory(side) != Place::Parked
            && self.database(other) != Place::Live
            && self.directory(other) != Place::Live
    }

    /// What a move leaves behind; moves that touch neither databases nor directories change nothing.
    #[must_use]
    pub fn after(mut self, action: Move, desired: Side) -> Self {
        let set = |place: &mut Place, to: Place| {
            if *place != Place::Absent {
                *place = to;
            }
        };
        let (wanted_database, other_database, wanted_directory, other_directory) = match desired {
            Side::Restored => (
                &mut self.restored_database,
                &mut self.replaced_database,
                &mut self.restored_directory,
                &mut self.replaced_directory,
            ),
            Side::Replaced => (
                &mut self.replaced_database,
                &mut self.restored_database,
                &mut self.replaced_directory,
                &mut self.restored_directory,
            ),
        };
        match action {
            Move::RenameDatabases => {
                set(wanted_database, Place::Live);
                set(other_database, Place::Parked);
            }
            Move::ParkDirectory => set(other_directory, Place::Parked),
            Move::PlaceDirectory => set(wanted_directory, Place::Live),
            _ => {}
        }
        self
    }
}

/// The moves that make `desired` live, from whatever mix is observed.
///
/// Services are stopped first and started last even when nothing has to be renamed: a crash may have
/// left them in any state, and every move is safe to repeat.
pub fn moves(observed: &Observed, desired: Side) -> Vec<Move> {
    let other = desired.other();
    let mut moves = Vec::with_capacity(8);
    moves.push(Move::StopServices);
    if observed.database(desired) == Place::Parked || observed.database(other) == Place::Live {
        moves.push(Move::CloseDatabases);
        moves.push(Move::RenameDatabases);
    }
    if observed.directory(other) == Place::Live {
        moves.push(Move::ParkDirectory);
    }
    if observed.directory(desired) == Place::Parked {
        moves.push(Move::PlaceDirectory);
    }
    moves.extend([Move::OpenDatabase, Move::StartServices, Move::AwaitHealth]);
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 3] = [Place::Live, Place::Parked, Place::Absent];

    /// Every mix that a crash can leave: never two halves of one kind live at once.
    fn mixes() -> impl Iterator<Item = Observed> {
        let pairs = || PLACES.into_iter().flat_map(|a| PLACES.into_iter().map(move |b| (a, b)));
        pairs()
            .flat_map(move |databases| pairs().map(move |directories| (databases, directories)))
            .filter_map(
                |((restored_database, replaced_database), (restored_directory, replaced_directory))| {
                    let clash = |a, b| a == Place::Live && b == Place::Live;
                    (!clash(restored_database, replaced_database)
                        && !clash(restored_directory, replaced_directory))
                    .then_some(Observed {
                        restored_database,
                        replaced_database,
                        restored_directory,
                        replaced_directory,
                    })
                },
            )
    }

    #[test]
    fn from_every_mix_either_side_can_be_made_live_as_a_whole() {
        for start in mixes() {
            for desired in [Side::Restored, Side::Replaced] {
                let end = moves(&start, desired).into_iter().fold(start, |now, m| now.after(m, desired));
                assert!(end.is_live(desired), "{start:?} to {desired:?} ended as {end:?}");
            }
        }
    }

    #[test]
    fn broken_off_after_any_move_the_rest_can_still_go_either_way() {
        for start in mixes() {
            for first in [Side::Restored, Side::Replaced] {
                let planned = moves(&start, first);
                for cut in 0..=planned.len() {
                    let broken = planned[..cut].iter().fold(start, |now, m| now.after(*m, first));
                    for then in [Side::Restored, Side::Replaced] {
                        let end = moves(&broken, then).into_iter().fold(broken, |now, m| now.after(m, then));
                        assert!(end.is_live(then));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_renamed_while_services_run_or_databases_are_open() {
        for start in mixes() {
            let planned = moves(&start, Side::Restored);
            assert_eq!(planned[0], Move::StopServices);
            let at = |wanted: Move| planned.iter().position(|m| *m == wanted);
            if let Some(rename) = at(Move::RenameDatabases) {
                assert!(at(Move::CloseDatabases).is_some_and(|close| close < rename));
            }
            assert!(at(Move::OpenDatabase) < at(Move::StartServices));
        }
    }
}
