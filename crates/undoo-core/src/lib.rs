//! The vocabulary of Undoo: what a finding, a problem, a restore and its cutover *are*.
//!
//! Everything here is a value. This crate must never open a file, a socket or a database, and never
//! wait: the other crates act, this one says what they talk about, so that it can be printed, hashed,
//! approved and tested without any of them.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod finding;
pub mod id;
pub mod link;
pub mod pair;
pub mod platform;
pub mod problem;
pub mod retention;
pub mod signature;
pub mod word;

pub use finding::{Finding, Severity};
pub use id::{
    BackupId, EnvironmentId, MigrationId, OrganisationId, ProjectId, RecoveryPlanId, RestoreId, ServerId,
    StorageId, TaskId, TokenId, UserId,
};
pub use pair::{Move, Observed, Place, Side};
pub use problem::{Kind, Problem, Result};
pub use signature::{Sign, Signed, Signer};
pub use word::word;
