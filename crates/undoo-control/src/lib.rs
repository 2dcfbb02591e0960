//! What the platform decides: who may do what, what a restore consists of, what is tried again.
//!
//! A use case is a method of [`Control`], in the file of its subject: it asks [`Control::allow`] (the one place
//! that does), changes what it changes in one transaction together with the audit entry, the event and the
//! task about it, and answers an entity. What takes longer than a transaction is a task, and `work` carries
//! it out. What has to stay true without being asked for is in `reconcile`.
//!
//! SQL is `undoo-store`'s. Docker, databases and files are behind [`plane::Plane`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

mod audit;
mod backups;
mod control;
mod deployments;
mod environments;
mod events;
mod identity;
mod migrations;
mod organisations;
pub mod plane;
mod reconcile;
mod recovery;
mod restores;
mod secrets;
mod servers;
mod signing;
mod storages;
mod tasks;
mod throttle;
pub mod work;

pub use backups::{
    BackupQuery, CompatibleEnvironment, CompatibleServer, Download, NewBackup, Part, PartLink, Urls,
};
pub use control::{Caller, Clock, Control, Once, Settings, Via};
pub use deployments::{AddonsSeen, DeployAction, DeploymentWish};
pub use environments::{Adopt, EnvironmentChange};
pub use identity::{AccountLink, NewToken, NewUser, Setup, UserChange};
pub use migrations::{Deploy, MigrationFrom, MigrationWish, UploadState};
pub use reconcile::Reconcilers;
pub use recovery::{MeasuredEntry, RecoveryState, RecoveryStatus, RecoveryWish};
pub use restores::{NewEnvironment, RestorePlan, RestoreWish, Started};
pub use secrets::Sealer;
pub use servers::{NewServer, ServerChange, ServerTested, SshChange};
pub use storages::{NewStorage, Rotated, StorageChange};
pub use undoo_store::{Hint, Listed, MOST_COUNTED, Page};
