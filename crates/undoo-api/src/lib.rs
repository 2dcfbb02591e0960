//! The REST API as both of its ends see it: what travels over it, and a client of it.
//!
//! A field's name is the source document's where that has one. Everything here is a value: this crate never
//! decides who may do what, and never opens a database.
//!
//! Requests refuse fields that they do not know: whoever misspells `create_pre_restore_backup` must not lose
//! their safety backup by it. Answers may gain fields, and whoever reads them overlooks those.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod addons;
pub mod audit;
pub mod backups;
pub mod client;
pub mod environments;
pub mod events;
pub mod identity;
pub mod list;
pub mod migrations;
pub mod organisations;
pub mod problem;
pub mod recovery;
pub mod restores;
pub mod schema;
pub mod secret;
pub mod servers;
pub mod storages;
pub mod tasks;

mod bounds;

pub use client::Client;
