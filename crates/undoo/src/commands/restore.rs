//! `undoo restore`: the questions between plan, stage and cutover; and what is said of it at the end.

use std::time::Instant;

use serde_json::{Value, json};
use undoo_core::{Finding, RestoreId, Result};
use undoo_engine::{
    order::{self, Answer, Audience, Failure, Parts},
    orders::ended,
    pg,
    record::Record,
    restore::{Assignment, Plan},
    source::BackupOrder,
};

use super::{bytes, can_confirm, confirm, new};
use crate::{
    caller::Caller,
    cli::{Intent, Restore as Arguments, Strategy},
    place::Place,
    relay, signature,
    ui::{self, Ui},
    work::{
        self, report,
        restore::{Restore, Staged},
        stop_first,
    },
};

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<(), Failure> {
    let began = Instant::now();
    if !arguments.dry_run && !arguments.filestore_only {
        can_confirm(arguments.yes, ui)?;
    }
    let backup = super::backup(arguments.backup(), &arguments.keys)?;
    // Before the program is sent to that server.
    if let Some(server) = &arguments.place.ssh.server {
        relay::refuse_from(server, backup.storage.access(), relay::Use::Read)?;
    }
    if let Some(name) = &arguments.new.name {
        return new::run(arguments, name, backup, began, ui).await;
    }
    let caller = Caller::at(ui);
    let mut place = Place::find(arguments.into.as_deref(), &arguments.place, caller).await?;
    place.settle(arguments.owner.as_deref()).await?;
    let outcome = run_on(arguments, backup, &place, began, ui).await;
    // With it goes the target's lock, so that whoever comes next does not have to wait for it.
    if let Err(left) = place.close().await {
        ui.say(&format!("the container of this restore stays until the next run: {left}"));
    }
    outcome
}

async fn run_on(
    arguments: &Arguments,
    backup: BackupOrder,
    place: &Place,
    began: Instant,
    ui: &Ui,
) -> Result<(), Failure> {
    let restore = restore(arguments, backup, place)?;
    if arguments.dry_run {
        return dry_run(arguments, &restore, place, ui).await;
    }
    if restore.work.options.parts == Parts::Filestore {
        return files_only(&restore, place, ui).await;
    }
    let caller = Caller::at(ui);
    let stopped = stop_first::is_due(&restore, place, caller).await?;
    if stopped {
        let database = &place.target().database;
        let question = format!("Stop Odoo and drop \"{database}\" now? This cannot be undone.");
        confirm(&question, arguments.yes, ui).await?;
        stop_first::stop(place, caller).await?;
    }
    let staged = match stage(arguments, &restore, place, ui).await {
        Err(failure) if stopped => {
            return Err(stop_first::with_odoo_stopped(place, failure, caller).await);
        }
        staged => staged?,
    };
    let (record, result) = go_live(&restore, place, &staged, began, caller).await?;
    show(&staged, &record, result, began, ui)
}

/// Cuts over, and signs and stores the report of it.
pub(super) async fn go_live(
    restore: &Restore,
    place: &Place,
    staged: &Staged,
    began: Instant,
    caller: Caller<'_>,
) -> Result<(Record, Value), Failure> {
    let record = restore.cut_over(place, staged, Record::STAGED, caller).await?;
    let mut result = ended(staged.known(), &record);
    result["seconds"] = json!(began.elapsed().as_secs_f64());
    match signature::signer() {
        Ok(signer) => drop(report::keep(place, record.id, &result, &signer, caller).await),
        Err(problem) => report::not_stored(&problem, caller),
    }
    Ok((record, result))
}

/// Stages and proves, and asks whether it shall go live.
async fn stage(arguments: &Arguments, restore: &Restore, place: &Place, ui: &Ui) -> Result<Staged, Failure> {
    let caller = Caller::at(ui);
    let staged = restore.stage(place, caller).await?;
    let question = format!("Put the restored \"{}\" in the place of the live one?", place.target().database);
    match confirm(&question, arguments.yes, ui).await {
        Ok(()) => Ok(staged),
        Err(failure) => {
            restore.discard(place, caller).await;
            Err(failure)
        }
    }
}

pub(super) fn restore(arguments: &Arguments, backup: BackupOrder, place: &Place) -> Result<Restore> {
    Ok(Restore {
        name: work::restore::named(backup.storage.access()),
        backup,
        work: assignment(arguments, place)?,
        intent: arguments.intent.map(|intent| match intent {
            Intent::Recover => order::Intent::Recover,
            Intent::Copy => order::Intent::Copy,
            Intent::Move => order::Intent::Move,
        }),
        neutralize: !arguments.no_neutralize,
        hold_outgoing: arguments.hold_outgoing,
        boot: !arguments.no_boot,
        auto_rollback: !arguments.no_auto_rollback,
    })
}

fn assignment(arguments: &Arguments, place: &Place) -> Result<Assignment> {
    let (jobs, maintenance_mib) = work::restore::jobs(arguments.jobs, place.processors());
    let parts = if arguments.database_only {
        Parts::Database
    } else if arguments.filestore_only {
        Parts::Filestore
    } else {
        Parts::All
    };
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
            maintenance_mib,
        },
        loader_password: pg::random_password()?,
    })
}

/// The keys that were named, and this machine's own.
pub(super) fn trusted_keys(named: &[String]) -> Result<Vec<String>> {
    let own = signature::signer()?.public_key();
    Ok(named.iter().cloned().chain([own]).collect())
}

async fn dry_run(arguments: &Arguments, restore: &Restore, place: &Place, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let plan = restore.plan(place, caller).await?;
    ui.settle();
    if ui.is_json() {
        ui.done(&plan)?;
    } else {
        show_plan(arguments, place, &plan, &place.holders(caller).await?);
    }
    // Each was shown with the plan.
    let stands = Failure::of(&plan.findings, &restore.work.options.accept);
    stands.map_or(Ok(()), |failure| Err(Failure { findings: Vec::new(), ..failure }))
}

fn show_plan(arguments: &Arguments, place: &Place, plan: &Plan, holders: &[String]) {
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
fn steps(arguments: &Arguments, place: &Place, plan: &Plan, holders: &[String]) -> Vec<String> {
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

pub(super) fn show(
    staged: &Staged,
    record: &Record,
    result: Value,
    began: Instant,
    ui: &Ui,
) -> Result<(), Failure> {
    ui.settle();
    if ui.is_json() {
        ui.tell(Answer::Done { result });
        return Ok(());
    }
    let report = &staged.report;
    println!("Restored \"{}\" from {}", record.database, report.backup);
    println!("  restore     {}", record.id);
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
    match &staged.boot {
        Some(boot) => println!(
            "  proof       Odoo booted on a clone: login page after {:.1} s, {} assets",
            boot.after_ms as f64 / 1000.0,
            boot.assets
        ),
        None => println!("  proof       Odoo was not booted on a clone"),
    }
    let identity = if staged.neutralized { "a copy, neutralized" } else { "able to send mail and run crons" };
    println!("  intent      {:?}: {identity}", staged.intent);
    if !staged.held.is_empty() {
        println!(
            "  held        {} mails, {} crons: `undoo release {}`",
            staged.held.mails.len(),
            staged.held.crons.len(),
            record.target
        );
    }
    // Where nothing was live nothing was down, and what put nothing aside has nothing that could come back.
    if let Some(downtime) = record.downtime_ms.filter(|_| report.plan.cluster.live.is_some()) {
        println!("  downtime    {:.1} s", downtime as f64 / 1000.0);
    }
    if let Some(until) = record.undo_until.filter(|_| record.replaced_oid.is_some()) {
        println!("  undo        `undoo undo {}` until {until}", record.target);
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

async fn files_only(restore: &Restore, place: &Place, ui: &Ui) -> Result<(), Failure> {
    let added = restore.add_files(place, Caller::at(ui)).await?;
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
