//! Which environments come back where, after servers were lost: decided from what is known, without looking.
//!
//! Production goes first, then staging, then development; within a type, the largest first, because it fits in
//! the fewest places. Each goes to the server that then has the most memory left. What cannot come back is
//! named with its reason and takes no room, and nothing is left out silently.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::EnvironmentType;
use crate::id::{BackupId, EnvironmentId, ServerId};

/// What an environment takes of a server, or a server has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Cores.
    pub cpu_cores: i32,
    /// MiB of memory.
    pub ram_mb: i32,
    /// GiB of disk.
    pub disk_gb: i32,
}

impl Resources {
    /// What is left; `None` where it does not fit.
    pub fn without(self, taken: Self) -> Option<Self> {
        let left = |has: i32, takes: i32| has.checked_sub(takes).filter(|left| *left >= 0);
        Some(Self {
            cpu_cores: left(self.cpu_cores, taken.cpu_cores)?,
            ram_mb: left(self.ram_mb, taken.ram_mb)?,
            disk_gb: left(self.disk_gb, taken.disk_gb)?,
        })
    }
}

/// An environment that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// It.
    pub environment: EnvironmentId,
    /// What it was for.
    pub environment_type: EnvironmentType,
    /// What it takes.
    pub takes: Resources,
    /// Its newest backup that was read back and found whole.
    pub verified: Option<Candidate>,
    /// Its newest backup, verified or not.
    pub newest: Option<Candidate>,
    /// How long restores of this size took; `None` where there was none yet.
    pub estimate: Option<SignedDuration>,
}

/// A backup that an environment can come back from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// It.
    pub backup: BackupId,
    /// The moment that it holds.
    pub taken_at: Timestamp,
    /// Whether it lies on a disk of a server that was lost.
    pub lost_too: bool,
}

/// Why an environment does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "gap")]
pub enum Gap {
    /// It was never backed up.
    NoBackup,
    /// None of its backups was found whole; a person may choose the newest all the same.
    NoVerifiedBackup {
        /// The newest.
        newest: BackupId,
    },
    /// Its backups were lost with a server.
    BackupLost,
    /// No server has what it takes.
    NoRoom,
}

impl Gap {
    /// Its stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoBackup => "no_backup",
            Self::NoVerifiedBackup { .. } => "no_verified_backup",
            Self::BackupLost => "backup_lost",
            Self::NoRoom => "no_room",
        }
    }
}

/// An environment in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// It.
    pub environment: EnvironmentId,
    /// Where it goes and from what, or why not.
    pub outcome: Result<Assigned, Gap>,
}

/// Where an environment comes back, and what from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The server.
    pub server: ServerId,
    /// The backup.
    pub backup: BackupId,
    /// How much work is lost: from the backup's moment to the loss. Never less than nothing.
    pub data_loss: SignedDuration,
    /// See [`Lost::estimate`].
    pub estimate: Option<SignedDuration>,
}

/// Says what becomes of each, in the order in which they are to be worked off.
pub fn plan(lost: Vec<Lost>, lost_at: Timestamp, servers: &[(ServerId, Resources)]) -> Vec<Recovery> {
    let mut lost = lost;
    lost.sort_by_key(|one| {
        (rank(one.environment_type), Reverse((one.takes.ram_mb, one.takes.disk_gb)), one.environment)
    });
    let mut room = servers.to_vec();
    let each = lost.into_iter().map(|one| {
        let outcome = usable(&one).and_then(|candidate| {
            let server = take_room(&mut room, one.takes).ok_or(Gap::NoRoom)?;
            Ok(Assigned {
                server,
                backup: candidate.backup,
                data_loss: lost_at.duration_since(candidate.taken_at).max(SignedDuration::ZERO),
                estimate: one.estimate,
            })
        });
        Recovery { environment: one.environment, outcome }
    });
    each.collect()
}

fn rank(of: EnvironmentType) -> u8 {
    match of {
        EnvironmentType::Production => 0,
        EnvironmentType::Staging => 1,
        EnvironmentType::Development => 2,
    }
}

fn usable(one: &Lost) -> Result<Candidate, Gap> {
    match (one.verified, one.newest) {
        (Some(verified), _) if !verified.lost_too => Ok(verified),
        (_, Some(newest)) if !newest.lost_too => Err(Gap::NoVerifiedBackup { newest: newest.backup }),
        (None, None) => Err(Gap::NoBackup),
        _ => Err(Gap::BackupLost),
    }
}

/// The server that has the most memory left afterwards, and takes its share.
fn take_room(room: &mut [(ServerId, Resources)], takes: Resources) -> Option<ServerId> {
    let fits = room.iter_mut().filter_map(|(id, has)| has.without(takes).map(|left| (*id, has, left)));
    let (id, has, left) = fits.max_by_key(|(id, _, left)| (left.ram_mb, left.disk_gb, Reverse(*id)))?;
    *has = left;
    Some(id)
}

#[cfg(test)]
mod tests;
