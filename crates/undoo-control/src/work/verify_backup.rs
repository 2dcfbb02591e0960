//! Reading a backup from end to end, where it lies.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{BackupId, Kind, Problem, Result, platform::BackupStatus};
use undoo_engine::{
    order::Failure,
    part::{self, Report},
};
use undoo_store::{Tx, backups};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    signal::Signal,
};
use crate::backups::known;

pub(super) fn workflow(held: Arc<Held>, id: BackupId) -> Workflow {
    let teller = Teller::new(Arc::clone(&held), Subject::Task);
    Workflow { steps: vec![Box::new(Read { held, teller, id })], conclusion: Box::new(Concluded { id }) }
}

struct Read {
    held: Arc<Held>,
    teller: Arc<Teller>,
    id: BackupId,
}

#[async_trait]
impl Step for Read {
    fn name(&self) -> &'static str {
        "read"
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let backup = known(&self.held.control.store, self.id).await?;
        crate::backups::completed(&backup)?;
        let order = self.held.control.backup_order(&backup).await?;
        let work = |watch: crate::plane::Watch| async move {
            part::verify(&order, watch.audience, watch.stop).await
        };
        let report = self.teller.during(signal.stop(), work).await?;
        if !report.is_whole() {
            return Err(not_whole(&format!("backup {}", self.id), &report).into());
        }
        Ok(json!({ "members": report.members, "bytes": report.bytes, "files": report.files }))
    }

    fn phase(&self) -> Option<String> {
        self.teller.phase()
    }
}

/// What is said of one that was read and is not whole.
pub(super) fn not_whole(what: &str, report: &Report) -> Problem {
    Problem::new(
        Kind::NotProven,
        "backup_not_whole",
        format!(
            "{what} is not what it should be: {} members are broken, {} files are corrupt",
            report.broken.total, report.corrupt.total
        ),
        "Use another backup; what holds of this one can still be restored, with what is missing accepted.",
    )
}

struct Concluded {
    id: BackupId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        let whole = match end {
            End::Succeeded => true,
            End::Failed(cause) if cause.code == "backup_not_whole" => false,
            _ => return Ok(None),
        };
        let backup = backups::get(tx, self.id).await?;
        if let Some(mut backup) = backup.filter(|backup| backup.status == BackupStatus::Completed) {
            backup.is_verified = whole;
            backups::update(tx, &backup, BackupStatus::Completed).await?;
        }
        Ok(answers.get("read").cloned())
    }
}
