//! The backup of a pair that a restore replaced, as it was at the cutover, before that pair is removed.
//!
//! The safety backup was made before the cutover: what was written in between is in the replaced pair alone.
//! Who asked for a safety backup wants what was live to be kept, so such a pair is not removed before a
//! verified backup of that very pair exists. If none can be made, the pair is kept for another window, and
//! that is said; a person can have it removed all the same.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Kind, Problem, RestoreId, Result,
    platform::{Backup, BackupStatus, BackupType, Environment, RestorePoint, RestoreStatus},
};
use undoo_engine::{order::Failure, record::State};
use undoo_store::{backups, restore_points};

use super::{
    backup::{self, complete, remove_remains},
    driver::{Cause, Step},
    held::Held,
    progress::Teller,
    purge::due,
    signal::Signal,
    undo::point_at,
};
use crate::{
    NewBackup,
    backups::known,
    control::Named,
    restores::{ends_of, settled, wish::SafetyBackup},
};

/// The step's name.
pub(super) const NAME: &str = "final_backup";

/// Makes it, where it is needed.
pub(super) struct FinalBackup {
    pub held: Arc<Held>,
    pub teller: Arc<Teller>,
    pub id: RestoreId,
    /// Whether a person has said that the pair is not needed.
    pub accepted: bool,
}

/// Whether the kept pair is the only place of something that was to be kept.
fn needed(point: &RestorePoint) -> Result<bool> {
    // Of an undone restore the restored pair is what is kept: it came out of a backup.
    let replaced_is_kept = point.status == RestoreStatus::Completed;
    Ok(replaced_is_kept && settled(point)?.safety_backup != SafetyBackup::None)
}

#[async_trait]
impl Step for FinalBackup {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let control = &self.held.control;
        let point = self.point().await?;
        if self.accepted || !needed(&point)? {
            return Ok(Value::Null);
        }
        due(&point, control.now())?;
        let (_, at) = point_at(&self.held, self.id).await?;
        let standing = control.plane.standing(&at, self.id).await?.map(|listed| listed.record.state);
        if matches!(standing, None | Some(State::Purged)) {
            // Somebody has removed it on the server.
            return Ok(Value::Null);
        }
        let (_, target) = ends_of(&control.store, &point).await?;
        let backup = match backup::under_way(control, settled(&point)?.final_backup).await? {
            Some(backup) if backup.status == BackupStatus::Completed => return Ok(json!(backup.id)),
            Some(backup) => backup,
            None => self.begin(point, &target).await?,
        };
        let kept = Some(self.id);
        match backup::make(&self.held, &self.teller, backup.id, kept, &target, signal).await {
            Ok(made) => {
                let tx = self.held.begin().await?;
                complete(control, &tx, backup.id, made).await?;
                tx.commit().await?;
                Ok(json!(backup.id))
            }
            Err(failure) => {
                if failure.problem.kind != Kind::Cancelled && signal.why().is_none() {
                    let cause = Cause::of_failure(NAME, self.teller.phase(), &failure);
                    let tx = self.held.begin().await?;
                    backup::fail(control, &tx, backup.id, &cause).await?;
                    tx.commit().await?;
                }
                Err(failure)
            }
        }
    }

    /// A complete one stays. What is left of another is removed.
    async fn undo(&self) -> Result<()> {
        let control = &self.held.control;
        let point = self.point().await?;
        let Some(id) = settled(&point)?.final_backup else { return Ok(()) };
        let backup = known(&control.store, id).await?;
        if backup.status == BackupStatus::Completed {
            return Ok(());
        }
        remove_remains(control, id).await;
        let message = format!("the pair of restore {} was not removed after all", self.id);
        let cause = Problem::new(Kind::Cancelled, "purge_ended", message, "");
        let tx = self.held.begin().await?;
        backup::call_off(control, &tx, id, &Cause::plain(NAME, cause)).await?;
        tx.commit().await
    }

    fn phase(&self) -> Option<String> {
        self.teller.phase()
    }
}

impl FinalBackup {
    async fn point(&self) -> Result<RestorePoint> {
        let point = restore_points::get(&self.held.control.store, self.id).await?;
        point.ok_or_else(|| Named("restore", self.id).missing())
    }

    async fn begin(&self, mut point: RestorePoint, target: &Environment) -> Result<Backup> {
        let control = &self.held.control;
        let new = NewBackup {
            description: Some(format!("What restore {} replaced, as it was at the cutover", point.id)),
            backup_type: BackupType::PreRestore,
            ..NewBackup::default()
        };
        let mut backup = control.new_backup(&control.store, target, &new).await?;
        backup.task_id = Some(self.held.task());
        point.options["final_backup"] = json!(backup.id);
        let tx = self.held.begin().await?;
        backups::insert(&tx, &backup).await?;
        restore_points::update(&tx, &point, point.status).await?;
        tx.commit().await?;
        Ok(backup)
    }
}
