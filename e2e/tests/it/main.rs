//! The whole, as people use it: the real `undoo` binary against real Odoo and PostgreSQL in Docker.
//!
//! Every test brings an instance of its own up (`dev/demo-instance`, a few seconds once its template is
//! in the cache) and takes it down again, also when it fails. What came of a restore is asked of Odoo
//! over HTTP, as its users would see it. Backups are made here, by Odoo and `pg_dump`, and kept in the
//! cache. Tests take turns: two restores at once would measure each other.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod backup;
mod busy;
mod compose;
mod crash;
mod cross_server;
mod cross_server_breaks;
mod deploy;
mod direct;
mod disks;
mod fleet;
mod holders;
mod hostile;
mod hostile_input;
mod keep;
mod layouts;
mod memory;
mod migrate;
mod modules_from_git;
mod new_environment;
mod ours;
mod outgoing;
mod platform;
mod platform_kills;
mod platform_many;
mod platform_pauses;
mod recover;
mod recovery_kit;
mod refusals;
mod server;
mod server_breaks;
mod storage;
mod support;
