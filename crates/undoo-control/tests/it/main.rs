//! The use cases and the workflows over a fake data plane and the real databases: SQLite files and a
//! PostgreSQL server.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod accounts;
mod addons;
mod authorisation;
mod backups;
mod deployments;
mod environments;
mod fake_plane;
mod identity;
mod kept_pairs;
mod kills;
mod migrations;
mod recovery;
mod restores;
mod servers;
mod storages;
mod world;
