//! Between the words of the port and those of the work: what a job asks for, and what came of it.

use std::fs;

use serde_json::json;
use undoo_control::plane::{BackupJob, MadeBackup, RestoreJob, StagedRestore};
use undoo_core::{Kind, Problem, Result};
use undoo_engine::{
    encryption::Recipients,
    order::{Intent, Parts},
    outgoing::HeldOutgoing,
    pg,
    record::{Record, State},
    restore::{Assignment, Plan},
};
use undoo_storage::{Access, StorageConfig};

use crate::{
    place::Place,
    work::{
        backup::{self, Backup, Kept, not_made},
        restore::{Restore, Staged},
    },
};

/// A restore as it was ordered.
pub(super) fn restore(job: &RestoreJob, place: &Place) -> Result<Restore> {
    Ok(Restore {
        backup: job.backup.clone(),
        name: job.backup_name.clone(),
        work: Assignment {
            id: job.id,
            target: place.target().clone(),
            options: job.options.clone(),
            loader_password: pg::random_password()?,
        },
        intent: job.intent,
        neutralize: job.neutralize,
        hold_outgoing: job.hold_outgoing,
        boot: true,
        auto_rollback: job.auto_rollback,
    })
}

/// A backup as it was ordered. A folder of this machine is there then, and named from the root.
pub(super) fn backup(job: &BackupJob) -> Result<Backup> {
    Ok(Backup {
        id: job.id,
        created_at: job.created_at,
        kept: job.kept,
        storage: on_this_machine(&job.storage)?,
        key: job.key.clone(),
        recipients: Recipients::default(),
        database_only: job.database_only,
        level: backup::LEVEL,
        threads: backup::threads(None),
        addons: Vec::new(),
        organisation: job.organisation.clone(),
        environment: job.environment.clone(),
        pg_dump: None,
    })
}

fn on_this_machine(storage: &StorageConfig) -> Result<StorageConfig> {
    let mut storage = storage.clone();
    if let Access::Local { path } = &mut storage.order.0 {
        let whole = fs::create_dir_all(&*path).and_then(|()| fs::canonicalize(&*path));
        *path = whole.map_err(|error| not_made(path, error))?;
    }
    Ok(storage)
}

/// A backup that was made, as the port tells of it.
pub(super) fn made(job: &BackupJob, kept: Kept) -> MadeBackup {
    let made = kept.made;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    MadeBackup {
        size_bytes: bytes(made.bytes),
        database_size_bytes: bytes(made.dump_bytes),
        filestore_size_bytes: (!job.database_only).then(|| bytes(made.files_bytes)),
        verified: made.verified,
        environment_snapshot: kept.manifest["undoo"]["environment"].clone(),
    }
}

/// A staged restore, as the port tells of it.
pub(super) fn staged(staged: &Staged) -> StagedRestore {
    let report = &staged.report;
    StagedRestore {
        intent: staged.intent,
        neutralized: staged.neutralized,
        held: staged.held.clone(),
        findings: report.plan.findings.iter().chain(&report.findings).cloned().collect(),
        booted_ms: staged.boot.as_ref().map(|answered| answered.after_ms),
        report: staged.known(),
    }
}

/// The same, back: a worker may have to go on with what another one has staged.
pub(super) fn known(staged: &StagedRestore) -> Result<Staged> {
    serde_json::from_value(staged.report.clone()).map_err(|error| {
        Problem::new(
            Kind::Internal,
            "staged_report",
            "the report of the staged restore cannot be read again",
            "see that all workers are the same version of undoo",
        )
        .caused_by(error)
    })
}

/// A restore of files alone that can be done.
pub(super) fn planned(restore: &Restore, plan: Plan) -> StagedRestore {
    StagedRestore {
        intent: restore.intent.unwrap_or(Intent::Recover),
        neutralized: false,
        held: HeldOutgoing::default(),
        report: json!({ "plan": plan }),
        findings: plan.findings,
        booted_ms: None,
    }
}

/// The record that a restore of files alone does not have on its target: nothing of it is kept.
pub(super) fn of_files(restore: &Restore, intent: Intent) -> Record {
    let target = &restore.work.target;
    let now = jiff::Timestamp::now();
    Record {
        id: restore.work.id,
        backup: restore.name.clone(),
        target: target.name.clone(),
        database: target.database.clone(),
        owner: target.owner.clone(),
        parts: Parts::Filestore,
        intent: Some(intent),
        restored_oid: None,
        replaced_oid: None,
        state: State::Purged,
        epoch: 1,
        started: now,
        swapped: Some(now),
        undo_until: None,
        undo_window_hours: 0,
        downtime_ms: Some(0),
    }
}
