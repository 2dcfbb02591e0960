//! One restore up to the cutover: plan, stage, verify; then prepare for the proof, and accept it.
//!
//! Each function is one order to a mover, under the target's lock, which the mover keeps between them.
//! The target's record says where things stand; until the cutover nothing that is live has been touched,
//! and [`discard`] takes everything back.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use undoo_archive::{
    backup::{Backup, Inspection},
    filestore::FilestorePart,
};
use undoo_core::{Finding, Kind, Problem, RestoreId, Result, Side, pair};

use crate::{
    attachments::{self, Reconciliation},
    blocking,
    cluster::{self, Cluster},
    files,
    filestore::{self, Hash, Stage},
    home::{Home, Marker, mark},
    load::{self, Load, Loaded, UnheldState, pace::Pace, read::Judge},
    lock::Locked,
    order::{Answer, Audience, Failure, Intent, Options, Parts, Phase, Strategy, Target},
    outgoing::{self, HeldOutgoing},
    pairs, pg, preflight,
    properties::Properties,
    record::{Record, State},
    stage::{self, Staged},
    swap,
    trust::Trust,
    verify::{self, Counted},
};

/// File of the restore's directory that lists what is held.
pub const HELD: &str = "held.json";
/// Threads that hash, link and fetch files.
pub(crate) const FILE_THREADS: usize = 4;
/// File of the restore's directory that holds its report.
pub const REPORT: &str = "report.json";

/// Who restores what to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The restore.
    pub id: RestoreId,
    /// The target.
    pub target: Target,
    /// How.
    pub options: Options,
    /// Password of the restore's own role; whoever ordered the restore made it and keeps it in memory.
    #[serde(serialize_with = "pg::expose")]
    pub loader_password: SecretString,
}

/// What would be done, and what stands in the way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What the backup is.
    pub backup: Inspection,
    /// What the server is.
    pub cluster: Cluster,
    /// Everything found, about both.
    pub findings: Vec<Finding>,
}

/// What a staged restore holds, and the proof of it so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The restore.
    pub id: RestoreId,
    /// The backup, as it was named.
    pub backup: String,
    /// The target, as it was named.
    pub target: String,
    /// The plan.
    pub plan: Plan,
    /// The load of the database.
    pub loaded: Option<Loaded>,
    /// What was counted in it.
    pub counted: Option<Counted>,
    /// The staged filestore.
    pub filestore: Option<filestore::Staged>,
    /// Attachments against files.
    pub attachments: Option<Reconciliation>,
    /// Everything found on the way, accepted or harmless.
    pub findings: Vec<Finding>,
    /// Seconds from the first byte to here.
    pub seconds: f64,
}

/// Looks at backup and target; touches nothing.
///
/// # Errors
/// When either cannot be read.
pub async fn plan(work: &Assignment, backup: &Arc<Backup>, audience: &dyn Audience) -> Result<Plan> {
    preflight::check_name(&work.target.database)?;
    if let Some(record) = pairs::unfinished(&work.target)?.first() {
        return Err(unfinished(record));
    }
    audience.tell(Answer::Phase { phase: Phase::Inspect });
    let inspected = Arc::clone(backup);
    let inspection = blocking(move || undoo_archive::backup::inspect(&inspected)).await?;
    audience.tell(Answer::Phase { phase: Phase::Preflight });
    let cluster = cluster::examine(&work.target).await?;
    let mut findings = inspection.findings.clone();
    findings.extend(cluster.findings(&work.target));
    if cluster.live.is_none() {
        findings.extend(not_copied_from_dropped(&work.target).await?);
    }
    findings.extend(preflight::findings(work, backup, &inspection, &cluster)?);
    Ok(Plan { backup: inspection, cluster, findings })
}

/// What an earlier restore kept of a live database that it dropped, and the role may not give to another.
async fn not_copied_from_dropped(target: &Target) -> Result<Vec<Finding>> {
    let kept = Home::of(&target.filestore_root).read_dropped::<Properties>(&target.database)?;
    let Some(kept) = kept else { return Ok(Vec::new()) };
    let server = target.admin.connect("postgres").await?;
    let unsettable = kept.unsettable(&server).await?;
    Ok(unsettable.iter().map(|setting| setting.finding(&target.admin.user)).collect())
}

/// What [`plan`] says, and every finding of the dump too, which is read to its end for that.
///
/// # Errors
/// When backup or target cannot be read, or the dump is refused.
pub async fn plan_with_dump(
    work: &Assignment,
    backup: &Arc<Backup>,
    audience: &dyn Audience,
) -> Result<Plan> {
    let mut plan = plan(work, backup, audience).await?;
    if work.options.parts != Parts::Filestore && backup.database.is_some() {
        let trust = Trust::of(backup, &work.options.trusted_keys);
        let (backup, judge) =
            (Arc::clone(backup), Judge::new(plan.cluster.major, &work.options.accept, trust));
        let read = blocking(move || load::read::scan(backup.open_dump()?, judge)).await?;
        plan.findings.extend(read.findings);
    }
    Ok(plan)
}

/// Makes the staged pair and verifies it.
///
/// # Errors
/// With everything taken back; the live pair was not touched. A run that is killed leaves a record that
/// the next run clears away.
pub async fn stage(
    _locked: &Locked,
    work: &Assignment,
    name: &str,
    backup: Arc<Backup>,
    audience: &dyn Audience,
) -> Result<Report, Failure> {
    let began = Instant::now();
    let home = Home::of(&work.target.filestore_root);
    // First, since what died may hold the room that the plan looks for.
    pairs::sweep(&work.target, &home).await?;
    let plan = match work.options.strategy {
        Strategy::Beside => plan(work, &backup, audience).await?,
        // What is to be dropped is not dropped for a dump that will not be taken.
        Strategy::StopFirst { .. } => plan_with_dump(work, &backup, audience).await?,
    };
    stop_at(&plan.findings, &work.options.accept)?;
    let mut record = Record {
        id: work.id,
        backup: name.to_owned(),
        target: work.target.name.clone(),
        database: work.target.database.clone(),
        owner: work.target.owner.clone(),
        parts: work.options.parts,
        intent: None,
        restored_oid: None,
        replaced_oid: plan.cluster.live.as_ref().map(|live| live.oid),
        state: State::Staging,
        epoch: Record::STAGED,
        started: Timestamp::now(),
        swapped: None,
        undo_until: None,
        undo_window_hours: work.options.undo_window_hours,
        downtime_ms: None,
    };
    match (&work.options.strategy, &plan.cluster.live) {
        (Strategy::StopFirst { confirmed }, Some(_)) => {
            if *confirmed != work.target.database {
                return Err(not_confirmed(&work.target.database).into());
            }
            home.create(&work.id, &work.target.database)?;
            // What belongs to the name goes with the database: it is kept for the one to come, by this
            // restore or, if it fails, by another.
            let properties = swap::properties_of_live(&work.target).await?;
            home.write_dropped(&work.target.database, &properties)?;
            home.write(&work.id, swap::PROPERTIES, &properties)?;
            record.replaced_oid = None;
            record.write(&home)?;
            stage::drop_live(&work.target, confirmed).await?;
        }
        (_, Some(_)) => home.create(&work.id, &work.target.database)?,
        (_, None) => {
            home.create(&work.id, &work.target.database)?;
            if let Some(properties) = home.read_dropped::<Properties>(&work.target.database)? {
                home.write(&work.id, swap::PROPERTIES, &properties)?;
            }
        }
    }
    // The cutover sees neither plan nor options, and has to know what was accepted to be lost.
    home.write(&work.id, swap::LEFT_OUT, &work.options.accept)?;
    record.write(&home)?;
    let staged = stage_pair(work, &home, &mut record, &plan, backup, audience).await.and_then(|staged| {
        let report = Report {
            id: work.id,
            backup: name.to_owned(),
            target: work.target.name.clone(),
            plan,
            loaded: staged.loaded,
            counted: staged.counted,
            filestore: staged.filestore,
            attachments: staged.attachments,
            findings: staged.findings,
            seconds: began.elapsed().as_secs_f64(),
        };
        home.write(&work.id, REPORT, &report)?;
        Ok(report)
    });
    match staged {
        Ok(report) => Ok(report),
        Err(failure) => {
            if let Err(left) = pairs::purge(&work.target, &home, &mut record).await {
                audience.tell(Answer::Log {
                    message: format!(
                        "the staged pair could not be removed and stays until the next run: {left}"
                    ),
                });
            }
            Err(failure)
        }
    }
}

fn not_confirmed(database: &str) -> Problem {
    Problem::new(
        Kind::Refused,
        "not_confirmed",
        format!("dropping database \"{database}\" first was not confirmed by its name"),
        format!("give --drop-live {database} if you can do without it; it cannot be undone"),
    )
}

fn unfinished(record: &Record) -> Problem {
    Problem::new(
        Kind::Conflict,
        "cutover_unfinished",
        format!("restore {} of \"{}\" broke off in its cutover", record.id, record.database),
        "run `undoo undo` to go back to the replaced pair, or `undoo resume` to finish the cutover",
    )
}

fn stop_at(findings: &[Finding], accepted: &[String]) -> Result<(), Failure> {
    Failure::of(findings, accepted).map_or(Ok(()), Err)
}

#[derive(Default)]
struct StagedPair {
    loaded: Option<Loaded>,
    counted: Option<Counted>,
    filestore: Option<filestore::Staged>,
    attachments: Option<Reconciliation>,
    findings: Vec<Finding>,
}

async fn stage_pair(
    work: &Assignment,
    home: &Home,
    record: &mut Record,
    plan: &Plan,
    backup: Arc<Backup>,
    audience: &dyn Audience,
) -> Result<StagedPair, Failure> {
    let target = &work.target;
    audience.tell(Answer::Phase { phase: Phase::Prepare });
    let staged = Staged::create(target, &plan.cluster, &work.id, &work.loader_password).await?;
    record.restored_oid = Some(staged.oid);
    record.write(home)?;
    let live = target.filestore_root.join(&target.database);
    let parked = home.parked(&work.id, Side::Restored);
    let stage = Arc::new(Stage::create(&parked, &live, target.files_owner, work.options.trust_size)?);

    let dump = {
        let backup = Arc::clone(&backup);
        blocking(move || backup.open_dump()).await?
    };
    let load = Load {
        staged: &staged,
        cluster: &plan.cluster,
        options: &work.options,
        trust: Trust::of(&backup, &work.options.trusted_keys),
        pace: Arc::new(Pace::watch(target, &staged.database).await),
        target,
        audience,
    };
    // Whichever fails first ends the other, and so does a caller that drops all of this.
    let stopper = StopOnDrop(Arc::clone(&stage));
    let files_failed = tokio::sync::Notify::new();
    let filling = async {
        let filled = fill(Arc::clone(&backup), Arc::clone(&stage), work.options.parts).await;
        if filled.is_err() {
            files_failed.notify_one();
        }
        filled
    };
    let loading = async {
        let loaded = tokio::select! {
            loaded = load.run(dump, backup.database.as_ref().and_then(|part| part.size)) => loaded.map(Some),
            () = files_failed.notified() => Ok(None),
        };
        if loaded.is_err() {
            stopper.0.stop();
        }
        loaded
    };
    let (loaded, filled) = tokio::join!(loading, filling);
    drop(stopper);
    let loaded = loaded?;
    filled?;
    let Some((loaded, load_findings)) = loaded else {
        return Err(Failure::from(Problem::new(
            Kind::Internal,
            "load_dropped",
            "the load ended for files that did not fail",
            "please report this",
        )));
    };

    audience.tell(Answer::Phase { phase: Phase::Verify });
    let client = staged.loader.connect(&staged.database).await?;
    let counted = verify::count(&client, &loaded.rows, &loaded.skippable).await?;
    let stage = Arc::into_inner(stage).ok_or_else(|| {
        Problem::new(
            Kind::Internal,
            "stage_shared",
            "the staged filestore is still in use",
            "please report this",
        )
    })?;
    let (mut staged_files, files) = stage.finish()?;
    let corrupt = std::mem::take(&mut staged_files.corrupt);
    // A file that the backup lacks may be there, whole, in the live filestore.
    let healing = Stage::create(&parked, &live, target.files_owner, false)?;
    let mut heal = |hash: &Hash| healing.link_live(hash, None);
    let attachments = attachments::reconcile(&client, &files, corrupt, &mut heal).await?;
    healing.finish()?;
    let mut findings = load_findings;
    findings.extend(attachments.findings());
    findings.extend(held_by_the_backup(&loaded, &counted));
    stop_at(&findings, &work.options.accept)?;
    mark(&parked, Marker { restore: work.id, side: Side::Restored })?;
    for directory in [home.proof(&work.id), home.proof(&work.id).join("filestore")] {
        std::fs::create_dir_all(&directory).map_err(crate::home::at("create", &directory))?;
        filestore::own(&directory, target.files_owner)?;
    }
    record.advance(home, State::Staged)?;
    Ok(StagedPair {
        loaded: Some(loaded),
        counted: Some(counted),
        filestore: Some(staged_files),
        attachments: Some(attachments),
        findings,
    })
}

/// Ends the filling of a staged filestore when nobody waits for it any more.
struct StopOnDrop(Arc<Stage>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the backup's own data does not keep to.
fn held_by_the_backup(loaded: &Loaded, counted: &Counted) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named = |state| {
        let names: Vec<String> = loaded
            .unheld
            .iter()
            .filter(|unheld| unheld.state == state)
            .map(|unheld| format!("{} on {}", unheld.name, unheld.table))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(names) = named(UnheldState::NotValid) {
        findings.push(Finding::needs_acceptance(
            "orphan_keys",
            format!("the backup has rows that refer to rows it does not have: {names}"),
            "the keys stay as NOT VALID and bind new rows; accept that, or use an earlier backup",
        ));
    }
    if let Some(names) = named(UnheldState::Absent) {
        findings.push(Finding::needs_acceptance(
            "broken_constraints",
            format!("the backup's rows break constraints that were to hold: {names}"),
            "these constraints are left out; accept that, or use an earlier backup",
        ));
    }
    if !loaded.skippable.is_empty() {
        let tables: Vec<&str> = loaded.skippable.keys().map(String::as_str).collect();
        findings.push(Finding::info(
            "rows_skippable",
            format!("the dump lets PostgreSQL skip rows that are there already: {}", tables.join(", ")),
            "it was made with --on-conflict-do-nothing; that no row was lost is not proven for these tables",
        ));
    }
    if !counted.sequences_behind.is_empty() {
        findings.push(Finding::warning(
            "sequences_behind",
            format!("sequences are behind their columns: {}", counted.sequences_behind.join(", ")),
            "it was so when the dump was made; Odoo will run into taken ids there",
        ));
    }
    findings
}

/// Fills the staged filestore, on threads of its own.
pub(crate) async fn fill(backup: Arc<Backup>, stage: Arc<Stage>, parts: Parts) -> Result<()> {
    blocking(move || {
        if parts == Parts::Database {
            return stage.link_all(FILE_THREADS);
        }
        match &backup.filestore {
            FilestorePart::None => stage.link_all(FILE_THREADS),
            FilestorePart::Members(files) | FilestorePart::Directory(files) => {
                filestore::parallel(files.len(), FILE_THREADS, |index| {
                    let file = &files[index];
                    stage.place(&file.hash, file.size, || backup.open_file(file))
                })
            }
            FilestorePart::Tar { .. } => {
                let mut tar = backup.open_filestore_tar()?;
                while let Some((hash, size)) = tar.next_file()? {
                    if !stage.link_live(&hash, Some(size))? {
                        stage.receive(&hash, size, &mut tar)?;
                    }
                }
                Ok(())
            }
        }
    })
    .await
}

/// What happens to a staged database before anyone may see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preparation {
    /// What the restore is for.
    pub intent: Intent,
    /// Give it an identity of its own.
    pub renew_identity: bool,
    /// Neutralize it in SQL, because its Odoo has no command for it.
    pub neutralize_in_sql: bool,
    /// Hold its mail and crons.
    pub hold_outgoing: bool,
    /// Make the clone on which Odoo will prove it.
    pub clone: bool,
}

/// The record of a pair that is staged and still there: a lock that was lost with its session may have let
/// another run in, which has swept the pair away.
fn staged(home: &Home, work: &Assignment) -> Result<Record> {
    Record::read(home, &work.id)?.filter(|record| record.state == State::Staged).ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "staged_pair_gone",
            format!("the staged pair of restore {} was taken back by another run of undoo", work.id),
            "the live system is untouched; run it again when that one is done",
        )
    })
}

/// Prepares a staged database and clones it for the proof.
///
/// # Errors
/// When the server or the file system refuses. The restore can then be discarded.
pub async fn prepare(locked: &Locked, work: &Assignment, preparation: &Preparation) -> Result<HeldOutgoing> {
    let target = &work.target;
    let home = Home::of(&target.filestore_root);
    let mut record = staged(&home, work)?;
    let staged = pair::parked_database(&work.id, Side::Restored);
    let access = stage::loader_access(target, &work.id, &work.loader_password).await?;
    let held = {
        let client = access.connect(&staged).await?;
        if preparation.renew_identity {
            let live = target.admin.connect(&target.database).await.ok();
            outgoing::renew_identity(&client, live.as_ref()).await?;
        }
        if preparation.neutralize_in_sql {
            outgoing::neutralize_legacy(&client).await?;
        }
        if preparation.hold_outgoing { outgoing::hold(&client).await? } else { HeldOutgoing::default() }
    };
    // An earlier try may have held some already, and then they wait no more.
    let mut held_before: HeldOutgoing = home.read(&work.id, HELD)?.unwrap_or_default();
    held_before.extend(held);
    let held = held_before;
    home.write(&work.id, HELD, &held)?;
    record.intent = Some(preparation.intent);
    record.write(&home)?;
    if preparation.clone {
        let clone = pair::proof_database(&work.id);
        stage::clone_database(locked.server(), &staged, &clone, &access.user).await?;
        let tree = home.proof(&work.id).join("filestore").join(&clone);
        let (from, owner) = (home.parked(&work.id, Side::Restored), target.files_owner);
        // Hashed when they were staged.
        blocking(move || Stage::create(&tree, &from, owner, true)?.link_all(FILE_THREADS)).await?;
    }
    Ok(held)
}

/// Writes what was loaded to disk. To drop the clone, [`accept`] needs a checkpoint, and would wait for all
/// of that; while Odoo boots it costs nobody any time. Where the role may not ask for one, it does wait.
///
/// # Errors
/// When the server refuses for another reason than rights.
pub async fn flush(locked: &Locked) -> Result<()> {
    match locked.server().batch_execute("CHECKPOINT").await {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        outcome => outcome.map_err(pg::failed("writing what was loaded to disk")),
    }
}

/// Takes the proof's clone away and hands the staged tables to Odoo's role: the pair is ready to go live.
///
/// # Errors
/// When the server or the file system refuses.
pub async fn accept(locked: &Locked, work: &Assignment) -> Result<()> {
    let target = &work.target;
    let home = Home::of(&target.filestore_root);
    staged(&home, work)?;
    stage::drop_database(locked.server(), target, &pair::proof_database(&work.id)).await?;
    crate::home::remove_tree(&home.proof(&work.id))?;
    let report: Option<Report> = home.read(&work.id, REPORT)?;
    let confined = report.and_then(|report| report.loaded).map(|loaded| loaded.confined).unwrap_or_default();
    stage::hand_over(target, &work.id, &confined).await
}

/// Takes a staged restore back.
///
/// # Errors
/// `Conflict` when it is past staging.
pub async fn discard(_locked: &Locked, target: &Target, id: &RestoreId) -> Result<()> {
    let home = Home::of(&target.filestore_root);
    let Some(mut record) = Record::read(&home, id)? else {
        // Of files alone: what was moved aside is somebody's.
        return match home.restore(id).join(files::ASIDE).exists() {
            true => crate::home::remove_tree(&home.restore(id).join(files::STAGING)),
            false => home.remove(id),
        };
    };
    if !matches!(record.state, State::Staging | State::Staged) {
        return Err(Problem::new(
            Kind::Conflict,
            "not_staged",
            format!("restore {id} has gone live; it is undone, not discarded"),
            format!("run `undoo undo {}`", target.name),
        ));
    }
    pairs::purge(target, &home, &mut record).await
}
