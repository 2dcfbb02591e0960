//! `undoo restore`: plan, stage, prove, cut over; and what is said of it at the end.

use std::{fs, time::Instant};

use serde_json::json;
use undoo_core::{Finding, RestoreId, Result, Side};
use undoo_engine::{
    health::Answered,
    order::{self, Answer, Audience, Failure, Parts, Phase},
    orders::{Order, ended},
    outgoing::HeldOutgoing,
    pg,
    record::Record,
    restore::{Assignment, Plan, Preparation, Report},
};
use undoo_storage::Access;

use super::{bytes, can_confirm, confirm, report};
use crate::{
    cli::{Intent, Restore, Strategy},
    place::{Cutover, Place},
    signature,
    ui::{self, Ui},
};

/// Code of the problem with which an order ends at Ctrl-C.
const CANCELLED: &str = "cancelled";
/// `maintenance_work_mem` of all loading sessions together, in MiB.
const MAINTENANCE_MIB: u32 = 768;

pub(super) async fn run(arguments: &Restore, ui: &Ui) -> Result<(), Failure> {
    let began = Instant::now();
    if !arguments.dry_run && !arguments.filestore_only {
        can_confirm(arguments.yes, ui)?;
    }
    let mut place = Place::find(arguments.into.as_deref(), &arguments.place).await?;
    place.settle(arguments.owner.as_deref()).await?;
    let outcome = run_on(arguments, &place, began, ui).await;
    // With it goes the target's lock, so that whoever comes next does not have to wait for it.
    if let Err(left) = place.close().await {
        ui.say(&format!("the container of this restore stays until the next run: {left}"));
    }
    outcome
}

async fn run_on(arguments: &Restore, place: &Place, began: Instant, ui: &Ui) -> Result<(), Failure> {
    let work = assignment(arguments, place)?;
    if arguments.dry_run {
        return dry_run(arguments, place, work, ui).await;
    }
    if work.options.parts == Parts::Filestore {
        return files_only(arguments, place, work, ui).await;
    }
    let stopped = arguments.strategy == Strategy::StopFirst && make_room(arguments, place, &work, ui).await?;
    match stage_and_finish(arguments, place, &work, ui).await {
        Ok((report, end)) => {
            let mut result = ended(end.known.clone(), &end.record);
            result["seconds"] = json!(began.elapsed().as_secs_f64());
            report::keep(place, work.id, &result, ui).await;
            show(&end, &report, result, began, ui)
        }
        Err((failure, Reached::Staging)) if stopped => Err(with_odoo_stopped(place, failure).await),
        Err((failure, _)) => Err(failure),
    }
}

/// For `stop-first`: what is to be seen before the drop is seen, then Odoo is stopped. Answers whether it
/// was; the database is dropped by the order that stages.
async fn make_room(arguments: &Restore, place: &Place, work: &Assignment, ui: &Ui) -> Result<bool, Failure> {
    let database = &place.target().database;
    let order =
        Order::Plan { backup: super::backup(arguments.backup(), &arguments.keys)?, work: work.clone() };
    let plan: Plan = place.order(order, ui).await?;
    if let Some(failure) = Failure::of(&plan.findings, &work.options.accept) {
        return Err(failure);
    }
    if arguments.drop_live.as_ref() != Some(database) {
        return Ok(false);
    }
    let question = format!("Stop Odoo and drop \"{database}\" now? This cannot be undone.");
    confirm(&question, arguments.yes, ui).await?;
    match place.stop().await {
        Ok(()) => Ok(true),
        Err(problem) => Err(with_odoo_stopped(place, problem.into()).await),
    }
}

/// A failure after Odoo was stopped to make room: where nothing was dropped it is started again, else it
/// has to be said that it stays stopped, and why.
async fn with_odoo_stopped(place: &Place, mut failure: Failure) -> Failure {
    let target = place.target();
    let database = &target.database;
    let quiet = Ui::quiet();
    let names = place.order::<Vec<String>>(Order::Databases { target: target.clone() }, &quiet).await;
    let said = match names {
        Ok(names) if names.contains(database) => match place.start_again().await {
            Ok(()) => {
                format!("Odoo was stopped to make room, and runs again on \"{database}\", which is whole")
            }
            Err(problem) => format!(
                "Odoo was stopped to make room and could not be started again ({problem}); start it: \
                 \"{database}\" is whole"
            ),
        },
        Ok(_) => format!(
            "Odoo is stopped, because its database \"{database}\" was dropped to make room, as confirmed: it \
             has none until a restore succeeds, which starts it and gives the database its settings and \
             grants back"
        ),
        Err(_) => format!(
            "Odoo is stopped, to make room; whether its database \"{database}\" was dropped could not be seen"
        ),
    };
    failure.problem.message = format!("{}. {said}", failure.problem.message);
    failure
}

/// How far a restore came that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nothing of it is live.
    Staging,
    /// From here on the record on the target says how far it came.
    Cutover,
}

async fn stage_and_finish(
    arguments: &Restore,
    place: &Place,
    work: &Assignment,
    ui: &Ui,
) -> Result<(Report, End), (Failure, Reached)> {
    let staging = |failure: Failure| (failure, Reached::Staging);
    let backup =
        super::backup(arguments.backup(), &arguments.keys).map_err(|problem| staging(problem.into()))?;
    let name = named(&backup.storage.0);
    let dead = place.dead().await.map_err(staging)?;
    let order = Order::Stage { backup, name, work: work.clone() };
    let report: Report = match place.order(order, ui).await {
        Ok(report) => report,
        Err(failure) => {
            // A mover that was killed or cancelled could not take its own things back.
            if matches!(failure.problem.code, CANCELLED | "mover_died" | "mover_out_of_memory") {
                discard(place, work, ui).await;
            }
            return Err(staging(failure));
        }
    };
    // Staging has swept their pairs away, so that nothing of them is at work any more.
    if let Err(left) = place.bury(&dead).await {
        ui.say(&format!("containers of an earlier run stay: {left}"));
    }
    match finish(arguments, place, work, &report, ui).await {
        Ok(end) => Ok((report, end)),
        Err((failure, reached)) => {
            // Ctrl-C may come just before there is a cutover; a pair that has one is not discarded.
            if reached == Reached::Staging || failure.problem.code == CANCELLED {
                discard(place, work, ui).await;
            }
            Err((failure, reached))
        }
    }
}

/// A backup as the record names it. One of this machine from the root: `undoo prune` has to know it, wherever
/// it runs.
fn named(backup: &Access) -> String {
    match backup {
        Access::Local { path } => {
            fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        other => other.location().to_string(),
    }
}

/// Takes a staged pair back. What cannot be taken back now, the next run on the target does.
async fn discard(place: &Place, work: &Assignment, ui: &Ui) {
    let discard = Order::Discard { target: place.target().clone(), id: work.id };
    if let Err(left) = place.order::<()>(discard, &Ui::quiet()).await {
        ui.say(&format!("the staged pair stays until the next run: {}", left.problem));
    }
}

fn assignment(arguments: &Restore, place: &Place) -> Result<Assignment> {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = arguments.jobs.unwrap_or_else(|| processors.min(8)).max(1);
    let parts = if arguments.database_only {
        Parts::Database
    } else if arguments.filestore_only {
        Parts::Filestore
    } else {
        Parts::All
    };
    let maintenance_mib = MAINTENANCE_MIB / u32::try_from(jobs).unwrap_or(u32::MAX).max(1);
    Ok(Assignment {
        id: RestoreId::generate(),
        target: place.target().clone(),
        options: order::Options {
            parts,
            strategy: match arguments.strategy {
                Strategy::Beside => order::Strategy::Beside,
                Strategy::StopFirst => {
                    order::Strategy::StopFirst { confirmed: arguments.drop_live.clone().unwrap_or_default() }
                }
            },
            accept: arguments.accept.clone(),
            trusted_keys: trusted_keys(&arguments.trust_key)?,
            trust_size: arguments.trust_size,
            undo_window_hours: arguments.undo_window,
            jobs,
            maintenance_mib: maintenance_mib.max(64),
        },
        loader_password: pg::random_password()?,
    })
}

/// The keys that were named, and this machine's own.
fn trusted_keys(named: &[String]) -> Result<Vec<String>> {
    let own = signature::signer()?.public_key();
    Ok(named.iter().cloned().chain([own]).collect())
}

async fn dry_run(arguments: &Restore, place: &Place, work: Assignment, ui: &Ui) -> Result<(), Failure> {
    let accepted = work.options.accept.clone();
    let plan: Plan = place
        .order(Order::Plan { backup: super::backup(arguments.backup(), &arguments.keys)?, work }, ui)
        .await?;
    ui.settle();
    if ui.is_json() {
        ui.done(&plan)?;
    } else {
        show_plan(arguments, place, &plan, &place.holders().await?);
    }
    // Each was shown with the plan.
    let stands = Failure::of(&plan.findings, &accepted);
    stands.map_or(Ok(()), |failure| Err(Failure { findings: Vec::new(), ..failure }))
}

fn show_plan(arguments: &Restore, place: &Place, plan: &Plan, holders: &[String]) {
    let target = place.target();
    println!("Plan: restore {} into database \"{}\" of {}", arguments.backup(), target.database, target.name);
    for (number, step) in steps(arguments, place, plan, holders).iter().enumerate() {
        println!("  {}. {step}", number + 1);
    }
    for finding in &plan.findings {
        println!("{}", ui::finding_lines(finding));
    }
}

/// What a restore with these arguments would do, in order.
fn steps(arguments: &Restore, place: &Place, plan: &Plan, holders: &[String]) -> Vec<String> {
    let database = &place.target().database;
    if arguments.filestore_only {
        return vec![
            "fetch the files that the live filestore does not have whole, and hash each".into(),
            "add them; a live file that is not what its name says is kept aside; nothing else is touched"
                .into(),
        ];
    }
    let others = if holders.is_empty() { String::new() } else { format!(" and {}", holders.join(", ")) };
    let stop_first = arguments.strategy == Strategy::StopFirst;
    let mut steps = Vec::new();
    if stop_first {
        steps.push(format!("stop Odoo{others} and drop the live \"{database}\": this cannot be undone"));
    }
    steps.push(format!(
        "load it as a staged database that no Odoo sees (PostgreSQL {})",
        plan.cluster.version
    ));
    steps.push(if arguments.database_only {
        "link the live files for it".into()
    } else {
        "stage its files, linking those that are there already".to_owned()
    });
    steps.push("count every table and match every attachment".into());
    if place.has_odoo() && !arguments.no_boot {
        steps.push("boot Odoo on a clone of it".into());
    }
    match &plan.cluster.live {
        Some(live) if !stop_first => {
            steps.push(format!("stop Odoo{others} and end the other sessions ({} now)", live.sessions.len()));
            steps.push(format!(
                "rename: the restored pair goes live, the replaced one ({}) is kept {} h for undo",
                bytes(live.bytes.unsigned_abs()),
                arguments.undo_window
            ));
        }
        _ => steps.push(format!("rename it to \"{database}\"")),
    }
    steps.push(if arguments.no_auto_rollback {
        "start Odoo and wait for its login page".into()
    } else {
        "start Odoo and wait for its login page; swap back if it does not come".to_owned()
    });
    steps
}

/// How a restore ended.
struct End {
    record: Record,
    intent: order::Intent,
    neutralized: bool,
    held: HeldOutgoing,
    boot: Option<Answered>,
    /// What the report says of it, but for the cutover.
    known: serde_json::Value,
}

/// From the verified staged pair to the live one.
async fn finish(
    arguments: &Restore,
    place: &Place,
    work: &Assignment,
    report: &Report,
    ui: &Ui,
) -> Result<End, (Failure, Reached)> {
    let staged = |failure: Failure| (failure, Reached::Staging);
    let intent = intent(arguments, report);
    let neutralize = intent == order::Intent::Copy && !arguments.no_neutralize;
    let by_odoo =
        neutralize && place.has_odoo() && place.target().odoo_major.is_some_and(|major| major >= 16);
    if by_odoo {
        ui.tell(Answer::Phase { phase: Phase::Neutralize });
        place.neutralize(work).await.map_err(|problem| staged(problem.into()))?;
    }
    let boots = place.has_odoo() && !arguments.no_boot;
    let preparation = Preparation {
        intent,
        renew_identity: intent == order::Intent::Copy,
        neutralize_in_sql: neutralize && !by_odoo,
        hold_outgoing: arguments.hold_outgoing.unwrap_or(intent == order::Intent::Recover),
        clone: boots,
    };
    let order = Order::Prepare { work: work.clone(), preparation };
    let held: HeldOutgoing = place.order(order, ui).await.map_err(staged)?;
    let boot = if boots {
        ui.tell(Answer::Phase { phase: Phase::Boot });
        let quiet = Ui::quiet();
        let flush = place.order::<()>(Order::Flush { work: work.clone() }, &quiet);
        let (boot, flushed) = tokio::join!(place.prove(work, ui), flush);
        let boot = boot.map_err(staged)?;
        flushed.map_err(staged)?;
        Some(boot)
    } else {
        None
    };
    place.order::<()>(Order::Accept { work: work.clone() }, ui).await.map_err(staged)?;
    let question = format!("Put the restored \"{}\" in the place of the live one?", place.target().database);
    confirm(&question, arguments.yes, ui).await.map_err(staged)?;
    let known = json!({
        "report": report,
        "intent": intent,
        "neutralized": neutralize,
        "held": held,
        "boot": boot,
    });
    report::draft(place, work.id, &known, ui).await;
    let cutover = Cutover {
        id: work.id,
        to: Side::Restored,
        auto_rollback: !arguments.no_auto_rollback,
        booted_ms: boot.as_ref().map(|answered| answered.after_ms),
    };
    let record = place.cut_over(cutover, ui).await.map_err(|failure| (failure, Reached::Cutover))?;
    Ok(End { record, intent, neutralized: neutralize, held, boot, known })
}

/// What was asked for; else the same instance is recovered and any other is copied.
fn intent(arguments: &Restore, report: &Report) -> order::Intent {
    match arguments.intent {
        Some(Intent::Recover) => order::Intent::Recover,
        Some(Intent::Copy) => order::Intent::Copy,
        Some(Intent::Move) => order::Intent::Move,
        None => {
            let live = report.plan.cluster.live.as_ref().and_then(|live| live.uuid.as_ref());
            let restored = report.counted.as_ref().and_then(|counted| counted.uuid.as_ref());
            if live.is_some() && live == restored { order::Intent::Recover } else { order::Intent::Copy }
        }
    }
}

fn show(
    end: &End,
    report: &Report,
    result: serde_json::Value,
    began: Instant,
    ui: &Ui,
) -> Result<(), Failure> {
    ui.settle();
    if ui.is_json() {
        ui.tell(Answer::Done { result });
        return Ok(());
    }
    println!("Restored \"{}\" from {}", end.record.database, report.backup);
    println!("  restore     {}", end.record.id);
    if let (Some(counted), Some(loaded)) = (&report.counted, &report.loaded) {
        println!(
            "  database    {} rows in {} tables counted equal, {} users, {} installed modules",
            counted.rows, counted.tables, counted.users, counted.installed_modules
        );
        println!(
            "  loading     {} in {:.1} s, indexes and keys in {:.1} s",
            bytes(loaded.bytes),
            loaded.data_seconds,
            loaded.post_data_seconds
        );
    }
    if let (Some(files), Some(matched)) = (&report.filestore, &report.attachments) {
        println!(
            "  filestore   {} files linked, {} fetched ({}); {} of {} attachments matched",
            files.linked,
            files.fetched,
            bytes(files.fetched_bytes),
            matched.matched,
            matched.attachments
        );
        for missing in &matched.missing {
            println!("              missing: {} ({})", missing.name, missing.store_fname);
        }
        for corrupt in &matched.corrupt {
            println!("              corrupt: {} {}", corrupt.store_fname, corrupt.reason);
        }
    }
    match &end.boot {
        Some(boot) => println!(
            "  proof       Odoo booted on a clone: login page after {:.1} s, {} assets",
            boot.after_ms as f64 / 1000.0,
            boot.assets
        ),
        None => println!("  proof       Odoo was not booted on a clone"),
    }
    let identity = if end.neutralized { "a copy, neutralized" } else { "able to send mail and run crons" };
    println!("  intent      {:?}: {identity}", end.intent);
    if !end.held.is_empty() {
        println!(
            "  held        {} mails, {} crons: `undoo release {}`",
            end.held.mails.len(),
            end.held.crons.len(),
            end.record.target
        );
    }
    if let Some(downtime) = end.record.downtime_ms {
        println!("  downtime    {:.1} s", downtime as f64 / 1000.0);
    }
    if let Some(until) = end.record.undo_until {
        println!("  undo        `undoo undo {}` until {until}", end.record.target);
    }
    println!("  took        {:.1} s", began.elapsed().as_secs_f64());
    notes(&report.findings, &report.plan.findings);
    Ok(())
}

fn notes(found: &[Finding], planned: &[Finding]) {
    for finding in planned.iter().chain(found) {
        println!("{}", ui::finding_lines(finding));
    }
}

async fn files_only(arguments: &Restore, place: &Place, work: Assignment, ui: &Ui) -> Result<(), Failure> {
    let backup = super::backup(arguments.backup(), &arguments.keys)?;
    let added: undoo_engine::files::Added = place.order(Order::AddFiles { backup, work }, ui).await?;
    ui.settle();
    if ui.is_json() {
        return ui.done(&added);
    }
    println!(
        "Added {} files ({}), replaced {} that were not what their names say, left {} as they were",
        added.added,
        bytes(added.bytes),
        added.replaced.len(),
        added.present
    );
    for corrupt in &added.corrupt {
        println!("  left out: {} {}", corrupt.store_fname, corrupt.reason);
    }
    if let Some(kept) = &added.kept {
        println!("  what was replaced is kept in {}", kept.display());
    }
    println!("  `undoo undo` does not take this back: it is about restores of a database");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn a_local_backup_is_named_from_the_root_in_the_record() {
        let relative = Access::Local { path: PathBuf::from("src/../Cargo.toml") };
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(named(&relative), fs::canonicalize(whole).expect("there").display().to_string());
        let gone = Access::Local { path: PathBuf::from("no/such/backup.zip") };
        assert_eq!(named(&gone), "no/such/backup.zip");
    }
}
