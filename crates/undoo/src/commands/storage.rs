//! `undoo storage`: whether a storage is fit to keep backups in.

use serde::Serialize;
use undoo_core::Finding;
use undoo_engine::order::Failure;
use undoo_storage::{Location, Options, Outcome, Report, Step, test};

use super::print_json;
use crate::{
    cli::{Storage, StorageCommand, StorageTest},
    ui,
};

pub(super) async fn run(arguments: &Storage) -> Result<(), Failure> {
    match &arguments.command {
        StorageCommand::Test(arguments) => run_test(arguments).await,
    }
}

async fn run_test(arguments: &StorageTest) -> Result<(), Failure> {
    let access = Location::parse(&arguments.address)?.with_environment()?;
    let storage = access.storage(&Options::default())?;
    let report = test(&*storage).await;
    let finding = access.on_this_server();
    if arguments.json {
        print_json(&Tested { report: &report, findings: finding.as_slice() })?;
    } else {
        page(&report);
        if let Some(finding) = &finding {
            println!("{}", ui::finding_lines(finding));
        }
    }
    match report.problem() {
        // Told on the page already; here it is for the exit code.
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

/// What the test came to, and what there is to say of the place.
#[derive(Serialize)]
struct Tested<'a> {
    #[serde(flatten)]
    report: &'a Report,
    findings: &'a [Finding],
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
