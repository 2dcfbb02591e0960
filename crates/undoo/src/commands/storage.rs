//! `undoo storage`: whether a storage is fit to keep backups in.

use undoo_engine::order::Failure;
use undoo_storage::{Location, Options, Outcome, Report, Step, test};

use super::print_json;
use crate::cli::{Storage, StorageCommand, StorageTest};

pub(super) async fn run(arguments: &Storage) -> Result<(), Failure> {
    match &arguments.command {
        StorageCommand::Test(arguments) => run_test(arguments).await,
    }
}

async fn run_test(arguments: &StorageTest) -> Result<(), Failure> {
    let access = Location::parse(&arguments.address)?.with_environment()?;
    let storage = access.storage(&Options::default())?;
    let report = test(&*storage).await;
    if arguments.json {
        print_json(&report)?;
    } else {
        page(&report);
    }
    match report.problem() {
        // Told on the page already; here it is for the exit code.
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

fn page(report: &Report) {
    println!("{}", report.storage);
    for Step { name, outcome, milliseconds } in &report.steps {
        let name = serde_json::to_value(name).ok();
        let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
        let said = match outcome {
            Outcome::Ok => format!("ok ({milliseconds} ms)"),
            Outcome::NotOffered => "not offered by this storage".to_owned(),
            Outcome::NotTried => "not tried".to_owned(),
            Outcome::Failed { code, .. } => format!("failed: {code}"),
        };
        println!("  {name:<8} {said}");
    }
}
