//! All that the control plane keeps, in SQLite or PostgreSQL: every statement of SQL that there is.
//!
//! [`Store`] is the opened database, [`Tx`] a transaction in it; the modules have a function for each
//! question and each change. Entities are those of `undoo-core`. Which moves between states are legal is asked
//! there; who may do what is not asked here at all. Nothing here knows HTTP, Docker or what a task does.
//!
//! A function that reads or writes one thing takes the store or a transaction. One whose writes belong with
//! others takes a transaction. What a worker writes takes one that was begun with its lease.
//!
//! Times are kept to the microsecond; what is returned is what is kept.

pub mod access;
pub mod addons;
pub mod audit;
pub mod backups;
mod belongs;
pub mod deployments;
pub mod environments;
pub mod events;
mod failure;
mod hints;
pub mod idempotency;
pub mod migrations;
mod page;
pub mod people;
mod postgres;
pub mod recovery_plans;
pub mod restore_points;
mod row;
mod schema;
pub mod servers;
pub mod settings;
mod sqlite;
pub mod storages;
mod store;
mod tables;
pub mod tasks;

pub use hints::Hint;
pub use page::{LARGEST_PAGE, Listed, MOST_COUNTED, Page};
pub use store::{Connection, Store, Tx};
