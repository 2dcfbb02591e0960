//! `undoo verify`: attachments against files, of a live system or of a backup where it lies.

use std::sync::Arc;

use undoo_archive::{
    Backup,
    verify::{self, Level, Options, Progress, Report},
};
use undoo_core::{Kind, Problem, word};
use undoo_engine::{
    attachments::Reconciliation,
    catalog::{Verification, keep_verification},
    order::{Answer, Failure, Phase},
    orders::Order,
    source::BackupOrder,
};

use super::{bytes, print_json};
use crate::{
    caller::Caller,
    cli::{Verify, VerifyLevel},
    place::Place,
    signature,
    ui::{self, Ui},
};

pub(super) async fn run(arguments: &Verify, ui: &Ui) -> Result<(), Failure> {
    let what = arguments.what.as_deref();
    match what.filter(|what| !what.starts_with("docker:") && !what.starts_with("compose:")) {
        Some(backup) => of_backup(backup, arguments, ui).await,
        None => of_target(arguments, ui).await,
    }
}

async fn of_backup(name: &str, arguments: &Verify, ui: &Ui) -> Result<(), Failure> {
    if arguments.place.ssh.server.is_some() {
        let message = format!("\"{name}\" is a backup, which is read from here and not from a server");
        let remedy = "Leave --server out, or name a live system: docker:CONTAINER or compose:PROJECT.";
        return Err(Problem::new(Kind::Invalid, "server_of_backup", message, remedy).into());
    }
    let level = match arguments.level.unwrap_or(VerifyLevel::Deep) {
        VerifyLevel::Checksums => Level::Checksums,
        VerifyLevel::Deep => Level::Deep,
    };
    let order = super::backup(name, &arguments.keys)?;
    let (backup, size) = order.open_sized(&undoo_storage::Options::default()).await?;
    // A program gets the report and nothing else.
    let caller = Caller::at(ui);
    let shown = if arguments.json { caller.quietly() } else { caller }.audience;
    shown.tell(Answer::Phase { phase: Phase::Verify });
    // The readers block, so they get a thread; what they tell comes back by this channel.
    let (told, mut telling) = tokio::sync::watch::channel((0, 0));
    let progress: Progress = Arc::new(move |done, total| {
        told.send_replace((done, total));
        Ok(())
    });
    let options = Options { level, jobs: arguments.jobs };
    let read = Arc::clone(&backup);
    let work = tokio::task::spawn_blocking(move || verify::verify(&read, &options, progress));
    while telling.changed().await.is_ok() {
        let (done, total) = *telling.borrow_and_update();
        let unit = "bytes".to_owned();
        shown.tell(Answer::Progress { phase: Phase::Verify, done, total: Some(total), unit });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let report = work.await.map_err(|error| {
        Problem::new(Kind::Internal, "verify", "the verification broke down", "please report this")
            .caused_by(error)
    })??;
    ui.settle();
    if arguments.json {
        print_json(&report)?;
    } else {
        page(name, &report);
    }
    if report.is_whole() {
        keep(&order, &backup, size, level).await;
        return Ok(());
    }
    Err(Problem::new(
        Kind::NotProven,
        "backup_not_whole",
        "the backup is not what it should be",
        "use another backup; what holds of this one can still be restored, with what is missing accepted",
    )
    .into())
}

/// Keeps beside a backup in a storage that it is whole, for `undoo prune`. What was found stands whether this
/// works or not: it takes the right to write there.
async fn keep(order: &BackupOrder, backup: &Backup, size: Option<u64>, level: Level) {
    let Some(((root, key), bytes)) = order.storage.access().in_storage().zip(size) else { return };
    let now = jiff::Timestamp::now();
    let Some(verification) = Verification::of(backup, key, bytes, level, now) else { return };
    let kept = async {
        let storage = root.storage(&undoo_storage::Options::default())?;
        keep_verification(&*storage, &verification, &signature::signer()?).await
    };
    if let Err(problem) = kept.await {
        ui::complain(&format!("  that it is whole was not kept beside it: {problem}"));
    }
}

fn page(name: &str, report: &Report) {
    println!("{name}");
    println!("  read        {} members, {}", report.members, bytes(report.bytes));
    println!("  signature   {}", word(&report.signature));
    for part in &report.parts {
        let holds = match part.holds {
            Some(true) => "as the manifest says",
            Some(false) => "NOT what the manifest says",
            None => "nothing to compare with",
        };
        println!("  {:11} {}, sha256 {}: {holds}", part.part, bytes(part.bytes), part.sha256);
    }
    println!("  files       {}, {} of them corrupt", report.files, report.corrupt.total);
    if let Some(found) = &report.attachments {
        println!("  attachments {} of {} matched", found.matched, found.attachments);
        println!("  in database {}", found.in_database);
        println!("  elsewhere   {}", found.external);
        println!("  orphans     {} files that no attachment names", found.orphans.total);
        for missing in &found.missing.first {
            println!(
                "  missing     {} {} (attachment {})",
                missing.store_fname, missing.name, missing.attachment
            );
        }
        for row in &found.differing.first {
            println!("  differing   {} {} (attachment {})", row.store_fname, row.name, row.attachment);
        }
    }
    for corrupt in &report.corrupt.first {
        println!("  corrupt     {} {}", corrupt.store_fname, corrupt.reason);
    }
    for broken in &report.broken.first {
        println!("  broken      {}: {} [{}]", broken.member, broken.message, broken.code);
    }
    for finding in &report.findings {
        println!("{}", ui::finding_lines(finding));
    }
}

async fn of_target(arguments: &Verify, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    if arguments.level.is_some() {
        return Err(Problem::new(
            Kind::Invalid,
            "verify_level",
            "--level is for backups; a live system is always matched whole",
            "leave --level out, or name a backup",
        )
        .into());
    }
    let place = Place::find(arguments.what.as_deref(), &arguments.place, caller).await?;
    let found: Reconciliation = place.order(Order::Verify { target: place.target().clone() }, caller).await?;
    ui.settle();
    if arguments.json {
        print_json(&found)?;
    } else {
        show(&place.target().database, &found);
    }
    if found.is_exact() {
        return Ok(());
    }
    Err(Problem::new(
        Kind::NotProven,
        "filestore_not_whole",
        format!(
            "{} attachments have no file, {} files are not what their names say",
            found.missing.len(),
            found.corrupt.len()
        ),
        "restore the files of a backup that has them: `undoo restore BACKUP --filestore-only`",
    )
    .into())
}

fn show(database: &str, found: &Reconciliation) {
    println!("Attachments of \"{database}\"");
    println!("  matched     {} of {}", found.matched, found.attachments);
    println!("  in database {}", found.in_database);
    println!("  elsewhere   {}", found.external);
    println!("  orphans     {} files that no attachment names", found.orphans.len());
    for missing in &found.missing {
        println!(
            "  missing     {} {} (attachment {})",
            missing.store_fname, missing.name, missing.attachment
        );
    }
    for corrupt in &found.corrupt {
        println!("  corrupt     {} {}", corrupt.store_fname, corrupt.reason);
    }
    for wrong in &found.wrong_size {
        println!("  wrong size  {} {} (attachment {})", wrong.store_fname, wrong.name, wrong.attachment);
    }
}
