//! The binary: parses the command line, calls one command, turns its end into an exit code.

#[macro_use]
mod output;

mod agent;
mod caller;
mod cli;
mod commands;
mod direct;
mod docker;
mod git_credentials;
mod hold;
mod interrupt;
mod mover;
mod place;
mod plane;
mod platform;
mod relay;
mod remote;
mod shell;
mod signature;
mod ui;
mod work;

use std::process::ExitCode;

use clap::Parser;
use undoo_engine::order::{Answer, Audience, Failure};

use cli::{
    Cli, Command,
    remote::{BackupCommand, RestoreCommand},
};
use ui::Ui;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Two TLS providers are linked in; the choice is made once, before anything connects.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The platform's log is a setting.
    if !matches!(cli.command, Command::Platform(_)) {
        platform::of_command();
    }
    match cli.command {
        Command::Mover => mover::run().await,
        Command::CutoverAgent => agent::run().await,
        Command::Relay => relay::inside::run().await,
        Command::Platform(command) => end(&Ui::new(false), platform::run(command).await),
        command => {
            let ui = Ui::new(wants_json(&command));
            end(&ui, commands::run(command, &ui).await)
        }
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Inspect(inspect) => inspect.json,
        Command::Restore(restore) => {
            restore.command.as_ref().map_or(restore.json, RestoreCommand::wants_json)
        }
        Command::Backup(backup) => backup.command.as_ref().map_or(backup.json, BackupCommand::wants_json),
        Command::Remote(command) => command.wants_json(),
        Command::Undo(undo) => undo.on.json,
        Command::Purge(purge) => purge.on.json,
        Command::Report(report) => report.on.json,
        Command::Verify(verify) => verify.json,
        Command::Convert(convert) => convert.json,
        Command::Prune(prune) => prune.json,
        Command::Resume(on) | Command::List(on) | Command::Release(on) => on.json,
        // Its report is the one document, also when a step failed.
        Command::Storage(_) | Command::Platform(_) | Command::Completions { .. } => false,
        Command::Mover | Command::CutoverAgent | Command::Relay => true,
    }
}

/// Says how it ended, and answers the exit code.
fn end(ui: &Ui, outcome: Result<(), Failure>) -> ExitCode {
    ui.settle();
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let code = failure.problem.exit_code();
    tracing::debug!(error = ?failure.problem, "failed");
    if ui.is_json() {
        ui.tell(Answer::failed(failure));
    } else {
        for finding in &failure.findings {
            ui::complain(&ui::finding_lines(finding));
        }
        ui::complain(&format!("undoo: {} [{}]", failure.problem.message, failure.problem.code));
        if !failure.problem.remedy.is_empty() {
            ui::complain(&format!("       {}", failure.problem.next_step()));
        }
    }
    ExitCode::from(code)
}
