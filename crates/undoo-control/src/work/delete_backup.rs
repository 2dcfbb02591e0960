//! Removing a backup from its storage.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    BackupId, Kind, Problem, Result,
    platform::{Backup, BackupStatus, EventKind},
};
use undoo_engine::order::Failure;
use undoo_storage::{CancellationToken, Options};
use undoo_store::{Tx, backups, migrations};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    signal::Signal,
};
use crate::{Control, backups::known, tasks::backup_event};

pub(super) fn workflow(held: Arc<Held>, id: BackupId) -> Workflow {
    let control = held.control.clone();
    Workflow { steps: vec![Box::new(Remove { held, id })], conclusion: Box::new(Concluded { control, id }) }
}

struct Remove {
    held: Arc<Held>,
    id: BackupId,
}

#[async_trait]
impl Step for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let backup = known(&self.held.control.store, self.id).await?;
        // It never came to be anywhere, or nothing of it is ours.
        if backup.key.is_none() || is_anothers(&self.held.control, &backup).await? {
            return Ok(Value::Null);
        }
        let (config, key) = self.held.control.backup_place(&backup).await?;
        let storage = config.storage(&options(signal.stop()))?;
        if let Some(until) = storage.locked_until(&key).await.unwrap_or_default() {
            let until = jiff::Timestamp::try_from(until).map_or_else(|_| String::new(), |at| at.to_string());
            return Err(Problem::new(
                Kind::Refused,
                "backup_locked",
                format!("backup {} is locked by its storage until {until}", self.id),
                "It can be deleted when the lock is over.",
            )
            .into());
        }
        storage.delete(&key).await?;
        Ok(Value::Null)
    }

    /// What is gone cannot be brought back: where the storage has carried it out although it was broken off
    /// here, the backup is deleted. A storage that does not answer leaves the backup as it was.
    async fn undo(&self) -> Result<()> {
        let control = &self.held.control;
        let backup = known(&control.store, self.id).await?;
        if backup.key.is_none() || is_anothers(control, &backup).await? {
            return Ok(());
        }
        let (config, key) = control.backup_place(&backup).await?;
        match config.storage(&Options::default())?.stat(&key).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let tx = self.held.begin().await?;
                gone(control, &tx, self.id).await?;
                tx.commit().await
            }
            Err(problem) => {
                tracing::warn!(%problem, backup = %self.id, "whether a backup is gone could not be seen");
                Ok(())
            }
        }
    }
}

/// Whether the object lay in its storage before it became a backup of ours: then it is forgotten, and stays.
async fn is_anothers(control: &Control, backup: &Backup) -> Result<bool> {
    let migration = migrations::of_backup(&control.store, backup.id).await?;
    Ok(migration.is_some_and(|migration| migration.upload_bytes.is_none()))
}

/// Writes that a backup is not there any more.
async fn gone(control: &Control, tx: &Tx, id: BackupId) -> Result<()> {
    let backup = backups::get(tx, id).await?;
    let Some(mut backup) = backup.filter(|backup| backup.status == BackupStatus::Deleting) else {
        return Ok(());
    };
    backup.status = BackupStatus::Deleted;
    backups::update(tx, &backup, BackupStatus::Deleting).await?;
    control.tell(tx, backup_event(&backup, EventKind::BackupDeleted, Value::Null)).await
}

fn options(stop: &CancellationToken) -> Options {
    Options { cancel: stop.clone(), ..Options::default() }
}

struct Concluded {
    control: Control,
    id: BackupId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, _: &Answers) -> Result<Option<Value>> {
        if *end != End::Succeeded {
            self.control.stays(tx, self.id).await?;
            return Ok(None);
        }
        gone(&self.control, tx, self.id).await?;
        Ok(Some(json!({ "backup_id": self.id })))
    }
}
