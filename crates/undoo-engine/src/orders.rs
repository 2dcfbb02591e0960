//! The orders that a mover carries out, one after another, and what it keeps between them: the lock.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use undoo_core::{BackupId, Kind, Problem, RestoreId, Result, Side};

use crate::{
    backup::{
        self, Made, Open, Step,
        kept::{self, Kept},
    },
    cluster, files,
    health::{self, Patience},
    home::Home,
    live,
    lock::{Locked, Work},
    order::{Audience, Failure, Strategy, Target},
    outgoing::HeldOutgoing,
    pairs,
    record::{self, Record, State},
    restore::{self, Assignment, Preparation},
    source::BackupOrder,
};

/// File of the restore's directory that holds its signed report.
const SIGNED_REPORT: &str = "report.signed.json";
/// File of the restore's directory with what its report will say, from before its cutover.
const DRAFT_REPORT: &str = "report.draft.json";

/// What a mover is told to do.
#[derive(Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Say what a restore would do; touch nothing. One that is to make room first takes the lock. Answers a
    /// [`restore::Plan`].
    Plan {
        /// The backup.
        backup: BackupOrder,
        /// The restore.
        work: Assignment,
    },
    /// Make and verify the staged pair. Answers a [`restore::Report`].
    Stage {
        /// The backup.
        backup: BackupOrder,
        /// The backup, as the person named it.
        name: String,
        /// The restore.
        work: Assignment,
    },
    /// Add the backup's files to the live filestore. Answers a [`files::Added`].
    AddFiles {
        /// The backup.
        backup: BackupOrder,
        /// The restore.
        work: Assignment,
    },
    /// Prepare the staged database and clone it. Answers a [`HeldOutgoing`].
    Prepare {
        /// The restore.
        work: Assignment,
        /// What is to be done.
        preparation: Preparation,
    },
    /// Have the server write what was loaded to disk, while there is nothing else to do.
    Flush {
        /// The restore.
        work: Assignment,
    },
    /// Ask an Odoo for its login page. Answers a [`health::Answered`].
    Probe {
        /// Address, such as `http://undoo-proof:8069`.
        base: String,
        /// The database to ask for.
        database: String,
        /// How long to ask.
        patience: Patience,
    },
    /// The proof is made: make the pair ready to go live.
    Accept {
        /// The restore.
        work: Assignment,
    },
    /// Let the target's lock go to the cutover of a restore, which is being started; see
    /// [`Locked::hand_over`].
    HandOver {
        /// The target.
        target: Target,
        /// The restore.
        id: RestoreId,
    },
    /// Take a staged restore back.
    Discard {
        /// The target.
        target: Target,
        /// The restore.
        id: RestoreId,
    },
    /// Make a backup, up to its manifest. Answers a [`backup::Unsigned`].
    Backup {
        /// The backup.
        work: Box<backup::Assignment>,
    },
    /// Finish the backup and read it back. Answers a [`backup::Made`].
    Seal {
        /// The backup.
        id: BackupId,
        /// The signature of the text that was answered.
        signature: String,
    },
    /// Match a live system's attachments with its files. Answers a reconciliation.
    Verify {
        /// The target.
        target: Target,
    },
    /// Say which restores a target knows. Answers a list of [`Listed`].
    List {
        /// The target.
        target: Target,
    },
    /// Store what the report of a restore will say, before a cutover whose end its caller may not see.
    DraftReport {
        /// The target.
        target: Target,
        /// The restore.
        id: RestoreId,
        /// The report, without the cutover.
        report: Value,
    },
    /// Store the signed report of a restore that has ended.
    KeepReport {
        /// The target.
        target: Target,
        /// The restore.
        id: RestoreId,
        /// The report, signed by whoever ordered the restore.
        report: Value,
    },
    /// Hand out the report of a restore, or of the newest one. Answers a [`Reported`].
    Report {
        /// The target.
        target: Target,
        /// The restore.
        id: Option<RestoreId>,
    },
    /// Say what the newest restore's undo would do. Answers an [`UndoPlan`].
    PlanUndo {
        /// The target.
        target: Target,
    },
    /// Remove kept pairs: the expired ones, or one restore's whatever its time. Answers their ids.
    Purge {
        /// The target.
        target: Target,
        /// The restore; `None` for all whose undo window is over.
        id: Option<RestoreId>,
    },
    /// Say which databases Odoo's role has on the target. Answers their names.
    Databases {
        /// The target; its own database is not looked at.
        target: Target,
    },
    /// Note containers that are about to be stopped to make room on a target.
    NoteStopped {
        /// The target.
        target: Target,
        /// Their ids.
        containers: Vec<String>,
    },
    /// Say which containers were stopped to make room, and were not started since. Answers their ids.
    Stopped {
        /// The target.
        target: Target,
    },
    /// Forget them: they were started.
    ForgetStopped {
        /// The target.
        target: Target,
    },
    /// Say from which addresses there are sessions on the target's database. Answers them.
    Sessions {
        /// The target.
        target: Target,
    },
    /// Let go held mail and crons of the newest restore. Answers how many of each.
    Release {
        /// The target.
        target: Target,
    },
}

/// A restore that a target knows, as `undoo list` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Its record.
    #[serde(flatten)]
    pub record: Record,
    /// What it holds.
    pub held: HeldOutgoing,
    /// Whether it is the newest of its database and its window is open.
    pub can_be_undone: bool,
}

/// The report of a restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// As it was signed by whoever saw the restore end.
    Signed {
        /// Report and signature.
        signed: Value,
    },
    /// Nobody saw it end: whoever asks may sign it.
    Unsigned {
        /// The restore.
        id: RestoreId,
        /// The report.
        report: Value,
    },
}

/// What an undo would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoPlan {
    /// The restore.
    pub record: Record,
    /// The side that would be live afterwards.
    pub to: Side,
    /// What was written since the last cutover: it would be kept with the pair that is swapped out.
    pub written: Vec<pairs::WrittenSince>,
}

/// The orders of one caller. From the first one that changes something on a target, the target's lock is
/// held until the session is dropped, or hands it over.
#[derive(Default)]
pub struct Session {
    locked: Option<Locked>,
    /// A backup that is being made.
    backup: Option<Open>,
    /// The kept pair that is open for it.
    kept: Option<Kept>,
}

impl Session {
    /// Carries out an order. When this is dropped before it is ready, the order is cancelled, and what it
    /// has staged stays for [`Order::Discard`] or the next run; a backup goes on until [`Session::end`].
    ///
    /// # Errors
    /// Those of the order; `Conflict` when somebody else is at work on the target.
    pub async fn carry_out(&mut self, order: Order, audience: &dyn Audience) -> Result<Value, Failure> {
        let options = undoo_storage::Options::default();
        Ok(match order {
            Order::Plan { backup, work } => {
                if matches!(work.options.strategy, Strategy::StopFirst { .. }) {
                    // Odoo is stopped next: not for a restore that is refused then.
                    self.lock(&work.target, Work::Restore(work.id)).await?;
                }
                let backup = backup.open(&options).await?;
                value(&restore::plan_with_dump(&work, &backup, audience).await?)?
            }
            Order::Stage { backup, name, work } => {
                let locked = self.lock(&work.target, Work::Restore(work.id)).await?;
                let backup = backup.open(&options).await?;
                value(&restore::stage(locked, &work, &name, backup, audience).await?)?
            }
            Order::AddFiles { backup, work } => {
                let locked = self.lock(&work.target, Work::Restore(work.id)).await?;
                let backup = backup.open(&options).await?;
                value(&files::add(locked, &work, backup, audience).await?)?
            }
            Order::Prepare { work, preparation } => {
                let locked = self.lock(&work.target, Work::Restore(work.id)).await?;
                value(&restore::prepare(locked, &work, &preparation).await?)?
            }
            Order::Flush { work } => {
                restore::flush(self.lock(&work.target, Work::Restore(work.id)).await?).await?;
                Value::Null
            }
            Order::Probe { base, database, patience } => {
                value(&health::login_page(&base, &database, patience).await?)?
            }
            Order::Accept { work } => {
                restore::accept(self.lock(&work.target, Work::Restore(work.id)).await?, &work).await?;
                Value::Null
            }
            Order::HandOver { target, id } => {
                self.lock(&target, Work::Restore(id)).await?;
                if let Some(locked) = self.take_lock() {
                    locked.hand_over(id).await?;
                }
                Value::Null
            }
            Order::Discard { target, id } => {
                restore::discard(self.lock(&target, Work::Restore(id)).await?, &target, &id).await?;
                Value::Null
            }
            Order::Backup { work } => value(&self.back_up(*work, audience).await?)?,
            Order::Seal { id, signature } => value(&self.seal(id, signature, audience).await?)?,
            Order::Verify { target } => value(&live::verify(&target).await?)?,
            Order::List { target } => value(&list(&target)?)?,
            Order::DraftReport { target, id, report } => {
                Home::of(&target.filestore_root).write(&id, DRAFT_REPORT, &report)?;
                Value::Null
            }
            Order::KeepReport { target, id, report } => {
                Home::of(&target.filestore_root).write(&id, SIGNED_REPORT, &report)?;
                Value::Null
            }
            Order::Report { target, id } => value(&report(&target, id)?)?,
            Order::PlanUndo { target } => value(&plan_undo(&target).await?)?,
            Order::Purge { target, id } => {
                self.lock(&target, Work::Purge).await?;
                value(&purge(&target, id).await?)?
            }
            Order::Databases { target } => value(&databases(&target).await?)?,
            Order::NoteStopped { target, containers } => {
                Home::of(&target.filestore_root).note_stopped(&target.database, containers)?;
                Value::Null
            }
            Order::Stopped { target } => {
                value(&Home::of(&target.filestore_root).read_stopped(&target.database)?)?
            }
            Order::ForgetStopped { target } => {
                Home::of(&target.filestore_root).forget_stopped(&target.database)?;
                Value::Null
            }
            Order::Sessions { target } => {
                let server = target.admin.connect("postgres").await?;
                let sessions = cluster::sessions(&target.database, &server).await?;
                value(&sessions.into_iter().filter_map(|session| session.address).collect::<Vec<_>>())?
            }
            Order::Release { target } => {
                let record = newest(&target)?;
                let (mails, crons) = live::release(&target, &record).await?;
                json!({ "mails": mails, "crons": crons })
            }
        })
    }

    async fn back_up(
        &mut self,
        work: backup::Assignment,
        audience: &dyn Audience,
    ) -> Result<backup::Unsigned> {
        self.lock(&work.target, Work::Backup(work.id)).await?;
        kept::close_left(&work.target).await?;
        self.kept = match &work.kept {
            Some(id) => Some(Kept::open(&work.target, id).await?),
            None => None,
        };
        let id = work.id;
        self.backup = Some(Open::begin(work, self.kept.as_ref()));
        let unsigned = self.up_to_the_manifest(id, audience).await;
        if unsigned.is_err() {
            self.end().await;
        }
        unsigned
    }

    async fn up_to_the_manifest(
        &mut self,
        id: BackupId,
        audience: &dyn Audience,
    ) -> Result<backup::Unsigned> {
        while let Some(backup) = &mut self.backup {
            match backup.next(audience).await? {
                Step::Dumped => {
                    if let Some(kept) = self.kept.take() {
                        kept.close().await?;
                    }
                    self.locked = None;
                }
                Step::Unsigned(unsigned) => return Ok(unsigned),
                Step::Made(made) => return Err(out_of_turn(made.id)),
            }
        }
        Err(out_of_turn(id))
    }

    async fn seal(&mut self, id: BackupId, signature: String, audience: &dyn Audience) -> Result<Made> {
        let backup = self.backup.as_mut().filter(|backup| backup.id == id).ok_or_else(|| out_of_turn(id))?;
        backup.sign(signature);
        match backup.next(audience).await? {
            Step::Made(made) => Ok(*made),
            Step::Dumped | Step::Unsigned(_) => Err(out_of_turn(id)),
        }
    }

    /// Ends what goes on between orders, and waits until it is taken back. To be called in the end, whatever
    /// that was.
    pub async fn end(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        backup.cancel().await;
        if let Some(kept) = self.kept.take()
            && let Err(left) = kept.close().await
        {
            tracing::warn!(%left, "a kept database stays open until the next backup or restore");
        }
        self.locked = None;
    }

    /// The lock that the orders so far have taken. The session has none then.
    pub fn take_lock(&mut self) -> Option<Locked> {
        self.locked.take()
    }

    /// The target's lock, taken now if the session does not have it.
    async fn lock(&mut self, target: &Target, work: Work) -> Result<&Locked> {
        let held = match self.locked.take() {
            Some(locked) if locked.holds(target).await => locked,
            // The old one is let go first: it may be for the same database on a session that is lost.
            lost => {
                drop(lost);
                Locked::take(target, work).await?
            }
        };
        Ok(self.locked.insert(held))
    }
}

fn out_of_turn(id: BackupId) -> Problem {
    Problem::new(
        Kind::Internal,
        "backup_out_of_turn",
        format!("backup {id} was told something at the wrong time"),
        "please report this",
    )
}

fn value(answer: &impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|error| {
        Problem::new(Kind::Internal, "answer", "an answer could not be written", "please report this")
            .caused_by(error)
    })
}

/// All restores of the target's database, oldest first.
///
/// # Errors
/// When a record cannot be read.
pub fn list(target: &Target) -> Result<Vec<Listed>> {
    let home = Home::of(&target.filestore_root);
    let newest = record::newest(&home, &target.database)?.map(|record| record.id);
    let now = jiff::Timestamp::now();
    let mut listed = Vec::new();
    for record in record::all(&home)? {
        if record.database != target.database {
            continue;
        }
        let held = home.read(&record.id, restore::HELD)?.unwrap_or_default();
        let can_be_undone = Some(record.id) == newest && !record.expired(now);
        listed.push(Listed { record, held, can_be_undone });
    }
    Ok(listed)
}

/// The newest restore of the target's database that can still go either way.
///
/// # Errors
/// `Missing` when there is none.
pub fn newest(target: &Target) -> Result<Record> {
    let home = Home::of(&target.filestore_root);
    record::newest(&home, &target.database)?.ok_or_else(|| {
        Problem::new(
            Kind::Missing,
            "nothing_to_undo",
            format!("no restore of database \"{}\" is kept on {}", target.database, target.name),
            "`undoo list` shows what there is; what --filestore-only added stays",
        )
    })
}

fn report(target: &Target, id: Option<RestoreId>) -> Result<Reported> {
    let id = match id {
        Some(id) => id,
        None => newest(target)?.id,
    };
    let home = Home::of(&target.filestore_root);
    if let Some(signed) = home.read(&id, SIGNED_REPORT)? {
        return Ok(Reported::Signed { signed });
    }
    let restored = Record::read(&home, &id)?
        .filter(|record| record.state == State::Live { side: Side::Restored })
        .zip(home.read(&id, DRAFT_REPORT)?);
    let Some((record, draft)) = restored else {
        return Err(Problem::new(
            Kind::Missing,
            "no_report",
            format!("{} has no signed report of restore {id}", target.name),
            "`undoo list` shows the restores; one that did not end well has none",
        ));
    };
    Ok(Reported::Unsigned { id, report: ended(draft, &record) })
}

/// What a report says once the cutover has ended.
pub fn ended(draft: Value, record: &Record) -> Value {
    let mut report = match draft {
        Value::Object(known) => known,
        _ => serde_json::Map::new(),
    };
    report.insert("restore".into(), json!(record));
    report.insert("downtime_ms".into(), json!(record.downtime_ms));
    Value::Object(report)
}

async fn databases(target: &Target) -> Result<Vec<String>> {
    let server = target.admin.connect("postgres").await?;
    let rows = server
        .query(
            // Closed ones too: a cutover that broke off has left the live one so. Parked ones are ours.
            "SELECT datname::text FROM pg_database WHERE pg_get_userbyid(datdba) = $1 \
             AND NOT datistemplate AND datname <> 'postgres' \
             AND datname !~ '^undoo_[0-9a-f]+_(restored|replaced|proof)$' ORDER BY 1",
            &[&target.owner],
        )
        .await
        .map_err(crate::pg::failed("listing databases"))?;
    let mut names: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    // One that was to be new, and whose cutover broke off, has no database of that name yet.
    for record in record::all(&Home::of(&target.filestore_root))? {
        if matches!(record.state, State::Swapping { .. }) {
            names.insert(record.database);
        }
    }
    Ok(names.into_iter().collect())
}

async fn plan_undo(target: &Target) -> Result<UndoPlan> {
    let record = newest(target)?;
    let to = match record.state {
        State::Live { side } => side.other(),
        // Whatever direction it broke off in, undoing means the pair that was there before.
        _ => Side::Replaced,
    };
    if record.state == (State::Live { side: Side::Restored }) && record.replaced_oid.is_none() {
        return Err(Problem::new(
            Kind::Conflict,
            "replaced_nothing",
            format!("restore {} put nothing aside that could come back", record.id),
            "restore another backup instead, or drop the database in Odoo's database manager",
        ));
    }
    let written = match (record.state, record.swapped) {
        (State::Live { .. }, Some(since)) => pairs::written_since(target, since).await?,
        _ => Vec::new(),
    };
    Ok(UndoPlan { record, to, written })
}

async fn purge(target: &Target, id: Option<RestoreId>) -> Result<Vec<RestoreId>> {
    let home = Home::of(&target.filestore_root);
    let Some(id) = id else {
        let purged = pairs::purge_expired(target, &home, jiff::Timestamp::now()).await?;
        return Ok(purged.into_iter().map(|record| record.id).collect());
    };
    let mut record = Record::read(&home, &id)?.ok_or_else(|| {
        Problem::new(
            Kind::Missing,
            "restore_missing",
            format!("{} knows no restore {id}", target.name),
            "`undoo list` shows what there is",
        )
    })?;
    pairs::purge(target, &home, &mut record).await?;
    Ok(vec![id])
}
