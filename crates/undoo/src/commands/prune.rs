//! `undoo prune`: which backups of a storage go, why the others stay, and their removal.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use undoo_core::{Finding, Kind, Problem, Result, retention::Policy};
use undoo_engine::{
    catalog::{self, Catalog, Environment, Kept, Query},
    order::Failure,
    orders::{Listed, Order},
    record::State,
};
use undoo_storage::{Location, Options, Storage};

use super::{bytes, confirm, print_json};
use crate::{
    caller::Caller,
    cli::{Prune, SshArgs, TargetArgs},
    place::Place,
    signature,
    ui::{self, Ui},
};

/// What came of it, for programs.
#[derive(Serialize)]
struct Outcome<'a> {
    storage: &'a str,
    policy: Policy,
    dry_run: bool,
    #[serde(flatten)]
    catalog: &'a Catalog,
    removed: Vec<&'a str>,
    failed: Vec<Failed<'a>>,
}

/// A backup that would not go.
#[derive(Serialize)]
struct Failed<'a> {
    key: &'a str,
    code: &'static str,
    message: String,
}

pub(super) async fn run(arguments: &Prune, ui: &Ui) -> Result<(), Failure> {
    let policy = policy(arguments)?;
    let access = Location::parse(&arguments.storage)?.with_environment()?;
    let storage = access.storage(&Options::default())?;
    let mut trusted = arguments.trust_key.clone();
    trusted.push(signature::signer()?.public_key());
    let query = Query {
        organisation: arguments.org.clone(),
        environment: arguments.env.clone(),
        identities: arguments.keys.read()?,
        trusted,
        in_use: in_use(&arguments.target, &arguments.ssh, ui).await?,
    };
    let catalog = catalog::plan(&*storage, &query, &policy, Timestamp::now()).await?;
    if !arguments.json {
        page(&*storage, &catalog);
    }
    let findings: Vec<Finding> =
        catalog.environments.iter().flat_map(|environment| environment.findings.clone()).collect();
    let doomed: Vec<&Kept> = backups(&catalog).filter(|backup| !backup.is_kept()).collect();
    let outcome = Outcome {
        storage: storage.place(),
        policy,
        dry_run: arguments.dry_run,
        catalog: &catalog,
        removed: Vec::new(),
        failed: Vec::new(),
    };
    if let Some(failure) = Failure::of(&findings, &arguments.accept) {
        if arguments.json {
            print_json(&outcome)?;
        }
        // Each was shown with the plan.
        return Err(Failure { findings: Vec::new(), ..failure });
    }
    if arguments.dry_run || doomed.is_empty() {
        return if arguments.json { print_json(&outcome) } else { Ok(()) };
    }
    let size = bytes(doomed.iter().map(|backup| backup.bytes).sum());
    confirm(&format!("Remove {} ({size}) for good?", counted(doomed.len())), arguments.yes, ui).await?;
    remove(&*storage, &doomed, outcome, arguments.json).await
}

/// Removes one after the other; one that will not go does not keep the others.
async fn remove(
    storage: &dyn Storage,
    doomed: &[&Kept],
    mut outcome: Outcome<'_>,
    json: bool,
) -> Result<(), Failure> {
    let mut first = None;
    for backup in doomed {
        match catalog::remove(storage, backup).await {
            Ok(()) => outcome.removed.push(&backup.key),
            Err(problem) if problem.kind == Kind::Cancelled => return Err(problem.into()),
            Err(problem) => {
                if !json {
                    ui::complain(&format!("  stays: {} [{}]", problem.message, problem.code));
                }
                let (code, message) = (problem.code, problem.message.clone());
                outcome.failed.push(Failed { key: &backup.key, code, message });
                first.get_or_insert(problem);
            }
        }
    }
    if json {
        print_json(&outcome)?;
    } else {
        println!("Removed {}", counted(outcome.removed.len()));
    }
    first.map_or(Ok(()), |problem| Err(problem.into()))
}

fn policy(arguments: &Prune) -> Result<Policy> {
    let policy = Policy {
        keep_last: arguments.keep_last,
        daily: arguments.daily,
        weekly: arguments.weekly,
        monthly: arguments.monthly,
        yearly: arguments.yearly,
        min_age_hours: 0,
    };
    if policy.keeps_nothing() {
        return Err(Problem::new(
            Kind::Invalid,
            "no_policy",
            "nothing says which backups are to be kept",
            "Give at least one of --keep-last, --daily, --weekly, --monthly and --yearly.",
        ));
    }
    Ok(Policy { min_age_hours: arguments.min_age, ..policy })
}

/// The backups that restores on these targets are reading, as they were named there.
async fn in_use(targets: &[String], ssh: &SshArgs, ui: &Ui) -> Result<Vec<String>, Failure> {
    let caller = Caller::at(ui);
    let mut reading = BTreeSet::new();
    let args = TargetArgs { ssh: ssh.clone(), ..TargetArgs::default() };
    for target in targets {
        let place = Place::find(Some(target), &args, caller).await?;
        let order = Order::List { target: place.target().clone() };
        let listed: Vec<Listed> = place.order(order, caller.quietly()).await?;
        let unfinished = |row: &Listed| !matches!(row.record.state, State::Live { .. } | State::Purged);
        reading.extend(listed.into_iter().filter(unfinished).map(|row| row.record.backup));
    }
    Ok(reading.into_iter().collect())
}

fn backups(catalog: &Catalog) -> impl Iterator<Item = &Kept> {
    catalog.environments.iter().flat_map(|environment| &environment.backups)
}

fn page(storage: &dyn Storage, catalog: &Catalog) {
    println!("{}", storage.place());
    for environment in &catalog.environments {
        let Environment { organisation, environment, backups, findings } = environment;
        println!("\n{organisation}/{environment}");
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "BACKUP", "BEGUN", "SIZE", "VERIFIED", "WHY"]);
        for backup in backups {
            let name = backup.key.rsplit('/').next().unwrap_or_default();
            let verified = backup.verified.as_ref().map(|found| found.verified_at);
            let why: Vec<String> = backup.kept_because.iter().map(ToString::to_string).collect();
            table.add_row([
                if backup.is_kept() { "keep" } else { "remove" },
                name,
                &shown(backup.created_at),
                &bytes(backup.bytes),
                &verified.map_or("-".to_owned(), shown),
                if why.is_empty() { "no rule keeps it".to_owned() } else { why.join(", ") }.as_str(),
            ]);
        }
        println!("{table}");
        for finding in findings {
            println!("{}", ui::finding_lines(finding));
        }
    }
    if !catalog.unknown.is_empty() {
        println!("\nNot known, and left alone");
        for unknown in &catalog.unknown {
            println!("  {} ({}): {}", unknown.key, bytes(unknown.bytes), unknown.why);
        }
    }
    let doomed = backups(catalog).filter(|backup| !backup.is_kept()).count();
    println!("\n{} of {} would go", counted(doomed), backups(catalog).count());
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

fn counted(count: usize) -> String {
    format!("{count} {}", if count == 1 { "backup" } else { "backups" })
}
