//! One file for each command. A command finds its place, gives orders, and shows what came of them.

mod backup;
mod convert;
mod inspect;
mod keep;
mod new;
mod prune;
mod report;
mod restore;
mod storage;
mod undo;
mod verify;

use std::io::IsTerminal;

use clap::CommandFactory;
use undoo_core::{Kind, Problem, Result};
use undoo_engine::{encryption::Identities, order::Failure, source::BackupOrder};

use crate::{
    cli::{Cli, Command, KeyArgs},
    docker,
    interrupt::interrupted,
    output::print,
    remote,
    ui::{self, Ui},
};

/// Runs a command.
///
/// # Errors
/// Those of the command.
pub async fn run(command: Command, ui: &Ui) -> Result<(), Failure> {
    match command {
        Command::Inspect(arguments) => inspect::run(&arguments).await,
        Command::Restore(arguments) => match arguments.command {
            Some(command) => remote::restore(command, ui).await,
            None => restore::run(&arguments, ui).await,
        },
        Command::Backup(arguments) => match arguments.command {
            Some(command) => remote::backup(command, ui).await,
            None => backup::run(&arguments, ui).await,
        },
        Command::Undo(arguments) => undo::run(&arguments, ui).await,
        Command::Resume(arguments) => undo::resume(&arguments, ui).await,
        Command::Verify(arguments) => verify::run(&arguments, ui).await,
        Command::Convert(arguments) => convert::run(&arguments, ui).await,
        Command::List(arguments) => keep::list(&arguments, ui).await,
        Command::Release(arguments) => keep::release(&arguments, ui).await,
        Command::Report(arguments) => report::run(&arguments, ui).await,
        Command::Purge(arguments) => keep::purge(&arguments, ui).await,
        Command::Prune(arguments) => prune::run(&arguments, ui).await,
        Command::Storage(arguments) => storage::run(&arguments).await,
        Command::Remote(command) => remote::run(command, ui).await,
        Command::Completions { shell } => completions(shell),
        // Dispatched before: they have no person to talk to, or a log of their own.
        Command::Mover | Command::CutoverAgent | Command::Relay | Command::Platform(_) => Ok(()),
    }
}

/// Prints what makes a shell complete the commands.
fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "undoo", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}

/// A backup by its address, with the credentials of this process's environment and the keys that were given.
///
/// # Errors
/// Those of the address, of the credentials and of the keys.
fn backup(address: &str, keys: &KeyArgs) -> Result<BackupOrder> {
    Ok(BackupOrder { storage: docker::storage(address)?, identities: keys.read()? })
}

impl KeyArgs {
    /// The keys themselves.
    fn read(&self) -> Result<Identities> {
        Identities::read(&self.identities)
    }
}

/// Prints a JSON document on standard output.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| {
        Problem::new(Kind::Internal, "answer", "an answer could not be written", "please report this")
            .caused_by(error)
    })?;
    Ok(print(&(text + "\n"))?)
}

/// Makes sure that there is someone to ask, before hours of work end in a question to nobody.
///
/// # Errors
/// `Cancelled` when there is not, and `--yes` was not given.
pub(crate) fn can_confirm(yes: bool, ui: &Ui) -> Result<(), Failure> {
    if yes || (!ui.is_json() && std::io::stdin().is_terminal()) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Cancelled,
        "not_confirmed",
        "nobody is there to confirm this",
        "give --yes to go on without a question",
    )
    .into())
}

/// Asks a person to go on.
///
/// # Errors
/// `Cancelled` when they do not, or press Ctrl-C, or when there is no one to ask.
pub(crate) async fn confirm(question: &str, yes: bool, ui: &Ui) -> Result<(), Failure> {
    can_confirm(yes, ui)?;
    if yes || matches!(typed(&format!("{question} [y/N] "), ui).await.as_str(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Problem::new(Kind::Cancelled, "not_confirmed", "not confirmed; nothing live was touched", "").into())
}

/// Has a person type the name of what is to be gone for good; `given` is what they gave as an option. Answers
/// the name.
///
/// # Errors
/// `Cancelled` when it is another name, or when there is no one to ask.
pub(crate) async fn confirm_by_name(
    question: &str,
    name: &str,
    (option, given): (&str, Option<&str>),
    ui: &Ui,
) -> Result<String, Failure> {
    let not_confirmed = |message: &str, remedy: String| {
        Failure::from(Problem::new(Kind::Cancelled, "not_confirmed", message, remedy))
    };
    let text = match given {
        Some(given) => given.to_owned(),
        None if ui.is_json() || !std::io::stdin().is_terminal() => {
            let remedy = format!("give {option} and the name to go on without a question");
            return Err(not_confirmed("nobody is there to confirm this", remedy));
        }
        None => typed(&format!("{question} "), ui).await,
    };
    if text == name {
        return Ok(text);
    }
    let message = format!("\"{text}\" is not \"{name}\"; nothing was touched");
    Err(not_confirmed(&message, String::new()))
}

/// The line that a person answers a question with; nothing at Ctrl-C.
async fn typed(question: &str, ui: &Ui) -> String {
    ui.settle();
    eprint!("{question}");
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that nobody waits for: a read of standard input cannot be called off.
    std::thread::spawn(move || {
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).is_ok() {
            let _ = tell.send(answer);
        }
    });
    let answer = tokio::select! {
        answer = told => answer.unwrap_or_default(),
        () = interrupted() => {
            ui::complain("");
            String::new()
        }
    };
    answer.trim().to_owned()
}

/// Bytes for a person.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_gone_for_good_takes_its_name_and_no_other() {
        let ui = Ui::new(true);
        let confirmed = async |given: Option<&str>| {
            let answer = confirm_by_name("Type its name:", "Staging", ("--confirm", given), &ui).await;
            answer.map_err(|failure| failure.problem)
        };
        assert_eq!(confirmed(Some("Staging")).await.expect("its name"), "Staging");
        for wrong in ["staging", "Staging ", "", "yes"] {
            let problem = confirmed(Some(wrong)).await.expect_err(wrong);
            assert_eq!((problem.code, problem.exit_code()), ("not_confirmed", 130));
            assert!(problem.message.contains("nothing was touched"), "{}", problem.message);
        }
        let nobody = confirmed(None).await.expect_err("nobody to ask");
        assert!(nobody.remedy.contains("--confirm"), "{}", nobody.remedy);
    }
}
