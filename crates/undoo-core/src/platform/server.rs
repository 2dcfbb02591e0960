//! Servers: where environments are, how they are reached, and what they hold.
//!
//! What was observed of a server and what people want of it are kept apart: whoever looks never writes over a
//! wish, and a wish never hides how a server is.

use jiff::Timestamp;

use crate::{
    id::{OrganisationId, ServerId},
    word::words,
};

words! {
    /// How a server was when it was last looked at.
    ServerStatus {
        /// Its Docker Engine answers.
        Online = "online",
        /// It does not.
        Offline = "offline",
    }
}

/// What a server has, or may give to environments. What is not known is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capacity {
    /// Cores.
    pub cpu_cores: Option<i32>,
    /// Memory, in GiB.
    pub memory_gb: Option<i32>,
    /// Disk, in GiB.
    pub disk_gb: Option<i32>,
}

impl Capacity {
    /// Of each the less, where both are known.
    #[must_use]
    pub fn at_most(self, limit: Self) -> Self {
        let less = |has: Option<i32>, limit: Option<i32>| match (has, limit) {
            (Some(has), Some(limit)) => Some(has.min(limit)),
            (has, limit) => has.or(limit),
        };
        Self {
            cpu_cores: less(self.cpu_cores, limit.cpu_cores),
            memory_gb: less(self.memory_gb, limit.memory_gb),
            disk_gb: less(self.disk_gb, limit.disk_gb),
        }
    }
}

/// A server with a Docker Engine.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// Its name or address, where SSH reaches it; `None` for the machine that the worker runs on.
    pub ip_address: Option<String>,
    /// The port of its SSH server; `None` for 22.
    pub ssh_port: Option<i32>,
    /// Who logs in there.
    pub ssh_user: Option<String>,
    /// The key of its SSH server that a person has confirmed, as `undoo_storage::SshAccess` has it.
    pub host_key: Option<String>,
    /// Password, private key and its passphrase, sealed.
    pub sealed: Option<Vec<u8>>,
    /// What it has, as its engine says.
    pub has: Capacity,
    /// What a person lets environments have of it.
    pub limit: Capacity,
    /// What was free on the disk of its engine, in GiB.
    pub free_disk_gb: Option<i32>,
    /// Version of its Docker Engine.
    pub docker_version: Option<String>,
    /// How it was when it was last looked at.
    pub status: ServerStatus,
    /// When it was last looked at.
    pub checked_at: Option<Timestamp>,
    /// Since when it does not answer; `None` while it does.
    pub unreachable_since: Option<Timestamp>,
    /// Why it did not answer when it was last looked at, as a sentence.
    pub last_problem: Option<String>,
    /// Whether nothing new is to be put on it.
    pub draining: bool,
    /// Restores and backups that may run on it side by side.
    pub task_limit: i32,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Server {
    /// What environments may have of it, all together.
    pub fn capacity(&self) -> Capacity {
        self.has.at_most(self.limit)
    }

    /// Whether it is the machine that the worker runs on.
    pub fn is_here(&self) -> bool {
        self.ip_address.is_none()
    }
}

/// What is sealed stays out of logs, though nobody could read it.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("ip_address", &self.ip_address)
            .field("status", &self.status)
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lowers_what_there_is_and_stands_for_what_is_not_known() {
        let has = Capacity { cpu_cores: Some(8), memory_gb: Some(16), disk_gb: None };
        let limit = Capacity { cpu_cores: Some(4), memory_gb: Some(64), disk_gb: Some(100) };
        let both = Capacity { cpu_cores: Some(4), memory_gb: Some(16), disk_gb: Some(100) };
        assert_eq!(has.at_most(limit), both);
        assert_eq!(has.at_most(Capacity::default()), has);
    }
}
