//! The words of the control plane: who owns what, who may do what, and the states that things go through.
//!
//! Plain values, as everything in this crate. Which moves between states are legal is decided here, once,
//! and whoever stores or shows them asks.

pub mod addons;
mod backup;
mod deployed;
pub mod deployment;
mod environment;
mod event;
pub mod images;
mod migration;
mod people;
mod permission;
pub mod recovery;
pub mod recovery_plan;
mod restore_point;
mod server;
mod task;

pub use addons::{AddonsOrigin, AddonsRecord, AddonsSource};
pub use backup::{Backup, BackupStatus, BackupType};
pub use deployed::{DeploymentRecord, DeploymentState};
pub use deployment::{Deployment, Limits, Names, Passwords};
pub use environment::{Environment, EnvironmentStatus, EnvironmentType, StorageRecord};
pub use event::{Event, EventKind, NewEvent};
pub use migration::{Migration, MigrationSource, MigrationStatus};
pub use people::{ApiToken, Membership, OrgRole, Organisation, Project, ProjectRole, User};
pub use permission::{Decision, Grants, Permission, Role, Scope};
pub use restore_point::{RestoreMode, RestorePoint, RestoreStatus};
pub use server::{Capacity, Server, ServerStatus};
pub use task::{StepEvent, StepLog, Task, TaskKind, TaskStatus};
