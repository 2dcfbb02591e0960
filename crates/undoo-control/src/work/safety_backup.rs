//! The backup of what is live, before a restore replaces it.
//!
//! It is never skipped silently: if it cannot be made, the restore fails here, unless whoever asked for the
//! restore said that the replaced pair as it is counts instead.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Finding, Kind, Problem, Result,
    platform::{Backup, BackupStatus, BackupType, Environment, RestorePoint},
};
use undoo_engine::order::Failure;
use undoo_store::{backups, restore_points};

use super::{
    backup::{self, complete, remove_remains},
    driver::{Cause, Step},
    progress::Teller,
    restore::Restoring,
    signal::Signal,
};
use crate::{
    NewBackup,
    restores::{add_finding, ends_of, settled, wish::SafetyBackup},
};

/// The step's name, in errors too.
pub(super) const NAME: &str = "safety_backup";

pub(super) struct Safety(pub Arc<Restoring>, pub Arc<Teller>);

#[async_trait]
impl Step for Safety {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let restoring = &*self.0;
        let point = restoring.point().await?;
        let wanted = settled(&point)?.safety_backup;
        if wanted == SafetyBackup::None {
            return Ok(Value::Null);
        }
        let (_, target) = ends_of(&restoring.held.control.store, &point).await?;
        let backup = match backup::under_way(&restoring.held.control, point.pre_restore_backup_id).await? {
            Some(backup) if backup.status == BackupStatus::Completed => return Ok(json!(backup.id)),
            Some(backup) => backup,
            None => self.begin(point, &target).await?,
        };
        let made = backup::make(&restoring.held, &self.1, backup.id, None, &target, signal).await;
        let failure = match made {
            Ok(made) => {
                let tx = restoring.held.begin().await?;
                complete(&restoring.held.control, &tx, backup.id, made).await?;
                tx.commit().await?;
                return Ok(json!(backup.id));
            }
            Err(failure) if failure.problem.kind == Kind::Cancelled || signal.why().is_some() => {
                return Err(failure);
            }
            Err(failure) => failure,
        };
        self.not_made(&backup, &failure).await?;
        match wanted {
            SafetyBackup::OrRawPair => self.raw_pair_instead(&failure).await.map_err(Failure::from),
            _ => Err(refused(&target, failure)),
        }
    }

    /// A complete one stays: it is named by the restore. What is left of another is removed.
    async fn undo(&self) -> Result<()> {
        let point = self.0.point().await?;
        let control = &self.0.held.control;
        let begun = backup::under_way(control, point.pre_restore_backup_id).await?;
        let Some(backup) = begun else { return Ok(()) };
        if backup.status != BackupStatus::Completed {
            remove_remains(control, backup.id).await;
            let tx = self.0.held.begin().await?;
            backup::call_off(control, &tx, backup.id, &of_restore(&point)).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    fn phase(&self) -> Option<String> {
        // Its own phases are those of a backup; the restore failed here.
        None
    }
}

impl Safety {
    async fn begin(&self, mut point: RestorePoint, target: &Environment) -> Result<Backup> {
        let control = &self.0.held.control;
        let new = NewBackup {
            description: Some(format!("Before restore {}", point.id)),
            backup_type: BackupType::PreRestore,
            ..NewBackup::default()
        };
        let mut backup = control.new_backup(&control.store, target, &new).await?;
        backup.task_id = Some(self.0.held.task());
        backup.created_by = point.created_by;
        point.pre_restore_backup_id = Some(backup.id);
        let tx = self.0.held.begin().await?;
        backups::insert(&tx, &backup).await?;
        restore_points::update(&tx, &point, point.status).await?;
        tx.commit().await?;
        Ok(backup)
    }

    async fn not_made(&self, backup: &Backup, failure: &Failure) -> Result<()> {
        let control = &self.0.held.control;
        remove_remains(control, backup.id).await;
        let cause = Cause::of_failure(NAME, self.1.phase(), failure);
        let tx = self.0.held.begin().await?;
        backup::fail(control, &tx, backup.id, &cause).await?;
        tx.commit().await
    }

    async fn raw_pair_instead(&self, failure: &Failure) -> Result<Value> {
        let finding = Finding::warning(
            "raw_pair_instead",
            format!("no safety backup could be made: {}", failure.problem.message),
            "As asked, the replaced pair counts instead. It is the only copy of what was live: it is kept until \
             somebody removes it.",
        );
        let mut point = self.0.point().await?;
        add_finding(&mut point, &finding);
        let tx = self.0.held.begin().await?;
        restore_points::update(&tx, &point, point.status).await?;
        tx.commit().await?;
        Ok(Value::Null)
    }
}

fn refused(target: &Environment, failure: Failure) -> Failure {
    let Failure { problem, findings } = failure;
    let message = format!(
        "the safety backup of \"{}\" could not be made, so nothing was restored: {}",
        target.name, problem.message
    );
    let instead = "If what is live cannot be backed up because it is damaged, restore with \
                   `keep_raw_pair_instead`: the replaced pair is then kept as it is.";
    let remedy = format!("{} {instead}", problem.remedy);
    Failure { problem: Problem::new(problem.kind, problem.code, message, remedy.trim_start()), findings }
}

fn of_restore(point: &RestorePoint) -> Cause {
    let message = format!("restore {} ended before it was complete", point.id);
    Cause::plain(NAME, Problem::new(Kind::Cancelled, "restore_ended", message, ""))
}
