//! Carrying out tasks: workflows of steps with do and undo, and the workers that take them.
//!
//! A step's work is behind `Plane` or a storage; what it writes is fenced by the task's lease. A worker may die
//! between any two instructions: whoever takes its task reads the log, and goes on or back from there.

mod backup;
mod delete_backup;
mod deploy;
mod driver;
mod final_backup;
mod held;
mod hold;
mod migration;
mod progress;
mod purge;
mod release;
mod restore;
mod safety_backup;
mod signal;
mod undo;
mod verify_backup;
mod worker;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{
    BackupId, EnvironmentId, Kind, MigrationId, Problem, RestoreId, Result, Side,
    platform::{Task, TaskKind},
};

use self::{driver::Workflow, held::Held};
pub use self::{
    hold::Hold,
    worker::{Worker, WorkerSettings},
};
use crate::deployments::DeployAction;

/// What a task of each kind needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub(crate) enum Payload {
    /// A backup that is to be made, read or removed.
    Backup { backup_id: BackupId },
    /// A migration whose file is to be read.
    Migration { migration_id: MigrationId },
    /// A restore that is to be carried out.
    Restore { restore_id: RestoreId },
    /// A restore that makes the environment that it goes to.
    NewEnvironment { restore_id: RestoreId },
    /// A restore whose pairs are to be swapped.
    Undo { restore_id: RestoreId, to: Side },
    /// A restore that is to let go what it holds.
    Release { restore_id: RestoreId },
    /// A restore whose kept pair is to be removed; `accepted` when a person said so.
    Purge { restore_id: RestoreId, accepted: bool },
    /// An environment that is to be deployed again, started, stopped or destroyed.
    Environment { environment_id: EnvironmentId },
}

impl Payload {
    pub(crate) fn to_json(self) -> Value {
        serde_json::to_value(self).expect("ids and words can be written as JSON")
    }

    pub(crate) fn of(task: &Task) -> Result<Self> {
        serde_json::from_value(task.payload.clone()).map_err(|error| {
            let message = format!("it cannot be read what task {} is about", task.id);
            Problem::new(Kind::Internal, "task_unreadable", message, "please report this").caused_by(error)
        })
    }
}

/// The workflow of a task.
fn workflow(held: &Arc<Held>, task: &Task) -> Result<Workflow> {
    let held = Arc::clone(held);
    Ok(match (task.kind, Payload::of(task)?, DeployAction::of(task.kind)) {
        (TaskKind::Backup, Payload::Backup { backup_id }, _) => backup::workflow(held, backup_id),
        (TaskKind::DeleteBackup, Payload::Backup { backup_id }, _) => {
            delete_backup::workflow(held, backup_id)
        }
        (TaskKind::VerifyBackup, Payload::Backup { backup_id }, _) => {
            verify_backup::workflow(held, backup_id)
        }
        (TaskKind::VerifyBackup, Payload::Migration { migration_id }, _) => {
            migration::workflow(held, migration_id)
        }
        (TaskKind::Restore, Payload::Restore { restore_id }, _) => restore::workflow(held, restore_id),
        (TaskKind::Restore, Payload::NewEnvironment { restore_id }, _) => {
            restore::workflow_of_new(held, restore_id)
        }
        (TaskKind::Undo, Payload::Undo { restore_id, to }, _) => undo::workflow(held, restore_id, to),
        (TaskKind::Release, Payload::Release { restore_id }, _) => release::workflow(held, restore_id),
        (TaskKind::Purge, Payload::Purge { restore_id, accepted }, _) => {
            purge::workflow(held, restore_id, accepted)
        }
        (_, Payload::Environment { environment_id }, Some(action)) => {
            deploy::workflow(held, environment_id, action)
        }
        (kind, ..) => {
            let message = format!("task {} is a {kind} and about something else", task.id);
            return Err(Problem::new(Kind::Internal, "task_unreadable", message, "please report this"));
        }
    })
}
