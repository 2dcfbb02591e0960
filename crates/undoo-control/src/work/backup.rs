//! Making a backup: one step, which a restore's safety backup takes as well.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    BackupId, Kind, Problem, RestoreId, Result,
    platform::{Backup, BackupStatus, Environment, EventKind},
};
use undoo_engine::order::Failure;
use undoo_storage::{Options, backup_key};
use undoo_store::{Tx, backups, environments, storages};

use super::{
    driver::{Answers, Cause, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    signal::Signal,
};
use crate::{
    Control,
    backups::known,
    control::Named,
    plane::{BackupJob, MadeBackup},
    tasks::backup_event,
};

pub(super) fn workflow(held: Arc<Held>, id: BackupId) -> Workflow {
    let teller = Teller::new(Arc::clone(&held), Subject::Backup(id));
    let control = held.control.clone();
    Workflow {
        steps: vec![Box::new(Make { held, teller, id })],
        conclusion: Box::new(Concluded { control, id }),
    }
}

/// Makes it.
struct Make {
    held: Arc<Held>,
    teller: Arc<Teller>,
    id: BackupId,
}

#[async_trait]
impl Step for Make {
    fn name(&self) -> &'static str {
        "back_up"
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let control = &self.held.control;
        let backup = known(&control.store, self.id).await?;
        let environment = environments::get(&control.store, backup.environment_id).await?;
        let environment = environment.ok_or_else(|| Named("environment", backup.environment_id).missing())?;
        let made = make(&self.held, &self.teller, self.id, None, &environment, signal).await?;
        Ok(json!(made))
    }

    async fn undo(&self) -> Result<()> {
        remove_remains(&self.held.control, self.id).await;
        Ok(())
    }

    fn phase(&self) -> Option<String> {
        self.teller.phase()
    }
}

struct Concluded {
    control: Control,
    id: BackupId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        let made = answers.get("back_up").and_then(|made| serde_json::from_value(made.clone()).ok());
        match (end, made) {
            (End::Succeeded, Some(made)) => complete(&self.control, tx, self.id, made).await?,
            (End::Succeeded, None) => {
                let message = "what was backed up was not kept";
                return Err(Problem::new(Kind::Internal, "answer_missing", message, "please report this"));
            }
            (End::Cancelled(cause), _) => call_off(&self.control, tx, self.id, cause).await?,
            (End::Failed(cause) | End::Stuck(cause), _) => fail(&self.control, tx, self.id, cause).await?,
        }
        Ok(Some(json!({ "backup_id": self.id })))
    }
}

/// The backup that a step has asked for, if it can be gone on with.
pub(super) async fn under_way(control: &Control, id: Option<BackupId>) -> Result<Option<Backup>> {
    use BackupStatus::{Completed, Pending, Running};
    let Some(id) = id else { return Ok(None) };
    let backup = backups::get(&control.store, id).await?;
    Ok(backup.filter(|backup| matches!(backup.status, Pending | Running | Completed)))
}

/// Says that a backup is being made, and where it will be.
async fn begin(held: &Held, mut backup: Backup, environment: &Environment) -> Result<Backup> {
    let before = backup.status;
    backup.key = Some(key(&backup, environment)?);
    backup.status = BackupStatus::Running;
    let tx = held.begin().await?;
    backups::update(&tx, &backup, before).await?;
    held.control.tell(&tx, backup_event(&backup, EventKind::BackupStarted, Value::Null)).await?;
    tx.commit().await?;
    Ok(backup)
}

/// What a backup becomes in its storage.
pub(super) fn key(backup: &Backup, environment: &Environment) -> Result<String> {
    let database = environment.database_name.as_deref().unwrap_or("odoo");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let database: String = database.chars().map(plain).collect();
    let begun = backup.created_at.strftime("%Y-%m-%d_%H-%M-%S");
    let name = format!("{database}_{begun}_{}.zip", backup.id.short());
    backup_key(&backup.organisation_id.to_string(), &backup.environment_id.to_string(), &name)
}

/// Has the data plane make a backup: of what is live, or of the pair that a restore keeps.
pub(super) async fn make(
    held: &Held,
    teller: &Arc<Teller>,
    id: BackupId,
    kept: Option<RestoreId>,
    environment: &Environment,
    signal: &Signal,
) -> Result<MadeBackup, Failure> {
    let control = &held.control;
    let mut backup = known(&control.store, id).await?;
    if backup.status == BackupStatus::Pending {
        backup = begin(held, backup, environment).await?;
    }
    let (config, key) = control.backup_place(&backup).await?;
    let job = BackupJob {
        id,
        created_at: backup.created_at,
        at: control.location_of(environment).await?,
        kept,
        storage: config,
        key,
        database_only: !backup.include_filestore,
        organisation: backup.organisation_id.to_string(),
        environment: backup.environment_id.to_string(),
        signer: control.signer(backup.organisation_id).await?,
    };
    let work = |watch| async move { control.plane.back_up(&job, &watch).await };
    let made = teller.during(signal.stop(), work).await?;
    if !made.verified {
        return Err(Problem::new(
            Kind::NotProven,
            "backup_not_verified",
            format!("backup {id} was written, and could not be read back as what was written"),
            "Test the storage: `POST /api/v1/backups/storage/test`. Nothing of the backup is kept.",
        )
        .into());
    }
    Ok(made)
}

/// Says that a backup is complete.
pub(super) async fn complete(control: &Control, tx: &Tx, id: BackupId, made: MadeBackup) -> Result<()> {
    let Some(mut backup) = backups::get(tx, id).await? else { return Ok(()) };
    let before = backup.status;
    if before == BackupStatus::Completed {
        return Ok(());
    }
    backup.status = BackupStatus::Completed;
    backup.size_bytes = Some(made.size_bytes);
    backup.database_size_bytes = Some(made.database_size_bytes);
    backup.filestore_size_bytes = made.filestore_size_bytes;
    backup.is_verified = made.verified;
    backup.environment_snapshot = Some(made.environment_snapshot);
    backup.error_message = None;
    backup.completed_at = Some(control.now());
    backups::update(tx, &backup, before).await?;
    metrics::counter!("undoo_backup_bytes_total").increment(made.size_bytes.unsigned_abs());
    let more = json!({ "size_bytes": backup.size_bytes, "is_verified": backup.is_verified });
    control.tell(tx, backup_event(&backup, EventKind::BackupCompleted, more)).await
}

/// Says that a backup could not be made.
pub(super) async fn fail(control: &Control, tx: &Tx, id: BackupId, cause: &Cause) -> Result<()> {
    ended(control, tx, id, BackupStatus::Failed, EventKind::BackupFailed, cause).await
}

/// Says that a backup was called off.
pub(super) async fn call_off(control: &Control, tx: &Tx, id: BackupId, cause: &Cause) -> Result<()> {
    ended(control, tx, id, BackupStatus::Cancelled, EventKind::BackupCancelled, cause).await
}

async fn ended(
    control: &Control,
    tx: &Tx,
    id: BackupId,
    status: BackupStatus,
    kind: EventKind,
    cause: &Cause,
) -> Result<()> {
    let Some(mut backup) = backups::get(tx, id).await? else { return Ok(()) };
    let before = backup.status;
    if !before.may_become(status) {
        return Ok(());
    }
    backup.status = status;
    backup.error_message = Some(cause.text());
    backups::update(tx, &backup, before).await?;
    let more = json!({ "error_message": backup.error_message, "error_step": cause.place() });
    control.tell(tx, backup_event(&backup, kind, more)).await
}

/// Removes what a backup that was not completed may have left in its storage. A storage that does not answer,
/// which often is why there is no backup, keeps nobody from ending in order.
pub(super) async fn remove_remains(control: &Control, id: BackupId) {
    for pause in [0, 1, 2] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        match try_remove(control, id).await {
            Ok(()) => return,
            Err(problem) => {
                tracing::warn!(%problem, backup = %id, "what it left may still be in its storage")
            }
        }
    }
}

async fn try_remove(control: &Control, id: BackupId) -> Result<()> {
    let backup = known(&control.store, id).await?;
    let storage = match backup.storage_id {
        Some(storage) => storages::get(&control.store, storage).await?,
        None => None,
    };
    let (Some(storage), Some(key)) = (storage, backup.key) else { return Ok(()) };
    let storage = control.storage_config(&storage)?.storage(&Options::default())?;
    // The key is this backup's alone. Some storages list what is unfinished by the whole key only, some by
    // whole folders only.
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let unfinished = match storage.unfinished(&format!("{folder}/")).await {
        Ok(unfinished) => unfinished,
        Err(problem) if problem.kind == Kind::Missing => Vec::new(),
        Err(problem) => return Err(problem),
    };
    for one in unfinished.iter().filter(|one| one.key == key) {
        storage.discard(one).await?;
    }
    storage.delete(&key).await
}
