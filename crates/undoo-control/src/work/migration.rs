//! Reading the file of a migration from end to end: what it is, and whether it is whole. Only then it is a backup.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Kind, MigrationId, Problem, Result,
    platform::{BackupStatus, EventKind, MigrationStatus},
};
use undoo_engine::{order::Failure, part};
use undoo_store::{Tx, backups, migrations};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    signal::Signal,
    verify_backup::not_whole,
};
use crate::{Control, backups::known, control::Named, migrations::locked, plane::Watch, tasks::backup_event};

pub(super) fn workflow(held: Arc<Held>, id: MigrationId) -> Workflow {
    let teller = Teller::new(Arc::clone(&held), Subject::Task);
    let control = held.control.clone();
    Workflow {
        steps: vec![Box::new(Read { held, teller, id })],
        conclusion: Box::new(Concluded { control, id }),
    }
}

struct Read {
    held: Arc<Held>,
    teller: Arc<Teller>,
    id: MigrationId,
}

#[async_trait]
impl Step for Read {
    fn name(&self) -> &'static str {
        "read"
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let control = &self.held.control;
        let migration = migrations::get(&control.store, self.id).await?;
        let migration = migration.ok_or_else(|| Named("migration", self.id).missing())?;
        let backup = known(&control.store, migration.backup_id).await?;
        let order = control.backup_order(&backup).await?;
        let work = |watch: Watch| async move {
            let described = part::describe(&order).await?;
            let report = part::verify(&order, watch.audience, watch.stop).await?;
            Ok::<_, Problem>((described, report))
        };
        let (described, report) = self.teller.during(signal.stop(), work).await?;
        if !described.has_database {
            return Err(Problem::new(
                Kind::Invalid,
                "no_database",
                "there is no dump of a database in it",
                "Upload a backup that has one: `undoo inspect FILE` says what is in a file.",
            )
            .into());
        }
        if !report.is_whole() {
            return Err(not_whole(&format!("the backup of migration {}", self.id), &report).into());
        }
        Ok(json!(described))
    }

    fn phase(&self) -> Option<String> {
        self.teller.phase()
    }
}

struct Concluded {
    control: Control,
    id: MigrationId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        let control = &self.control;
        match end {
            End::Succeeded => {
                let described = answers.get("read").cloned().unwrap_or_default();
                let described = serde_json::from_value(described).map_err(|error| {
                    let message = format!("what was read of migration {} was not kept", self.id);
                    Problem::new(Kind::Internal, "answer_missing", message, "please report this")
                        .caused_by(error)
                })?;
                control.migration_read(tx, self.id, described).await?;
            }
            End::Failed(cause) | End::Stuck(cause) | End::Cancelled(cause) => {
                control.migration_unread(tx, self.id, &cause.text()).await?;
            }
        }
        Ok(Some(json!({ "migration_id": self.id })))
    }
}

impl Control {
    /// Notes that the file of a migration is a backup, and what it is of.
    async fn migration_read(&self, tx: &Tx, id: MigrationId, described: part::Described) -> Result<()> {
        let mut migration = locked(tx, id).await?;
        let now = self.now();
        if !migration.is_over() {
            migration.status = MigrationStatus::Uploaded;
        }
        (migration.verified_at, migration.error_message) = (Some(now), None);
        migrations::update(tx, &migration).await?;
        let found = backups::get(tx, migration.backup_id).await?;
        let Some(mut backup) = found.filter(|backup| backup.status == BackupStatus::Pending) else {
            return Ok(());
        };
        backup.status = BackupStatus::Running;
        backups::update(tx, &backup, BackupStatus::Pending).await?;
        backup.status = BackupStatus::Completed;
        backup.is_verified = true;
        backup.include_filestore = described.has_filestore;
        backup.environment_snapshot = Some(described.snapshot);
        backup.completed_at = Some(now);
        backups::update(tx, &backup, BackupStatus::Running).await?;
        self.tell(tx, backup_event(&backup, EventKind::BackupCompleted, Value::Null)).await
    }

    /// Notes that the file of a migration could not be read. It stays, and can be read again.
    pub(crate) async fn migration_unread(&self, tx: &Tx, id: MigrationId, why: &str) -> Result<()> {
        let mut migration = locked(tx, id).await?;
        if migration.status != MigrationStatus::Verifying {
            return Ok(());
        }
        migration.status = MigrationStatus::Failed;
        (migration.failed_at, migration.error_message) = (Some(self.now()), Some(why.to_owned()));
        migrations::update(tx, &migration).await
    }
}
