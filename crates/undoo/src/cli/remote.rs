//! The commands that talk to an Undoo server instead of a machine: what `undoo login` signs in to.

mod env;
mod migration;
mod recover;
mod restore;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use undoo_core::{
    BackupId, TaskId,
    platform::{BackupStatus, EnvironmentType, MigrationSource, RestoreStatus, TaskStatus},
};

pub use env::{EnvAct, EnvAdopt, EnvCommand, EnvDeploy, EnvDestroy, EnvFound, EnvShow};
pub use migration::{MigrationCommand, MigrationNew, MigrationResume, OneMigration};
pub use recover::Recover;
pub use restore::{
    OneRestore, RestoreCommand, RestoreList, RestoreNew, RestoreRelease, RestoreStart, RestoreUndo,
};

use super::server::ServerCommand;

/// The commands that only a server has.
#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// Sign in to an Undoo server; the commands below env, backup, restore and task then talk to it.
    Login(Login),
    /// Forget the server, and end the token that signing in made.
    Logout,
    /// Environments of the server.
    #[command(subcommand)]
    Env(EnvCommand),
    /// Servers of the platform, which environments are on.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Make environments from backups that were made elsewhere: by Odoo.sh, a database manager, another hoster.
    #[command(subcommand)]
    Migration(MigrationCommand),
    /// Bring environments back on other servers after theirs were lost: a plan first, then carried out.
    Recover(Recover),
    /// Work of the server: what waits, what runs and what came of it.
    #[command(subcommand)]
    Task(TaskCommand),
}

/// `undoo login`
#[derive(Debug, Args)]
#[command(after_long_help = LOGIN_NOTES)]
pub struct Login {
    /// Address of the server, such as https://undo.example.com.
    pub url: String,
    /// The address to sign in with; asked for without it.
    #[arg(long, value_name = "EMAIL", conflicts_with = "token_stdin")]
    pub email: Option<String>,
    /// Read a token from standard input instead of asking for a password.
    #[arg(long)]
    pub token_stdin: bool,
    /// Days for which the token that is made holds.
    #[arg(long, value_name = "DAYS", default_value_t = 90, conflicts_with = "token_stdin")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

const LOGIN_NOTES: &str = "\
The password is not kept. What is kept is a token, in ~/.config/undoo/login.json, readable by its owner only.
UNDOO_URL and UNDOO_TOKEN, where they are set, go before that file.";

/// What every command to a server takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// The organisation, by its name or id, where one belongs to several.
    #[arg(long, value_name = "ORG", env = "UNDOO_ORG")]
    pub org: Option<String>,
    /// Print JSON instead of a page.
    #[arg(long)]
    pub json: bool,
}

/// What `undoo backup` does on a server.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// List backups on the server, newest first.
    List(BackupList),
    /// Have the server make a backup of an environment.
    Create(BackupCreate),
    /// Show a backup on the server.
    Show(OneBackup),
    /// Have the server remove a backup for good.
    Delete(BackupDelete),
    /// Fetch a backup from the server.
    Download(BackupDownload),
}

/// `undoo backup list`
#[derive(Debug, Args)]
pub struct BackupList {
    /// One environment only: its id, PROJECT/NAME, or NAME where it is the only one.
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: Option<String>,
    /// Those that are so.
    #[arg(long, value_name = "STATUS", requires = "environment", value_parser = words::<BackupStatus>())]
    pub status: Option<BackupStatus>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo backup create`
#[derive(Debug, Args)]
pub struct BackupCreate {
    /// The environment: its id, PROJECT/NAME, or NAME where it is the only one.
    pub environment: String,
    /// What there is to say about it.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Leave the files out.
    #[arg(long)]
    pub database_only: bool,
    /// The storage, by its name or id. [default: the environment's, else the organisation's]
    #[arg(long, value_name = "STORAGE")]
    pub storage: Option<String>,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A command about one backup.
#[derive(Debug, Args)]
pub struct OneBackup {
    /// The backup's id.
    #[arg(value_name = "BACKUP")]
    pub id: BackupId,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo backup delete`
#[derive(Debug, Args)]
pub struct BackupDelete {
    /// Which.
    #[command(flatten)]
    pub one: OneBackup,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
}

/// `undoo backup download`
#[derive(Debug, Args)]
pub struct BackupDownload {
    /// Which.
    #[command(flatten)]
    pub one: OneBackup,
    /// Which part of it.
    #[arg(long, value_name = "PART", default_value = "zip")]
    pub part: Part,
    /// The file to write. It must not be there yet. [default: the backup's id in this folder]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the addresses instead, for others to fetch it by. They are as secret as the backup.
    #[arg(long, conflicts_with = "output")]
    pub addresses: bool,
    /// Seconds for which the addresses hold.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub expires_in: u32,
}

/// A part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// All of it, as it lies in its storage.
    Zip,
    /// The dump.
    Database,
    /// The files, as a .tar.gz.
    Filestore,
}

/// `undoo task`
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// List tasks, newest first.
    List(TaskList),
    /// Show a task and what its steps did.
    Show(TaskShow),
    /// Call a task off; what it did is taken back.
    Cancel(OneTask),
}

/// `undoo task list`
#[derive(Debug, Args)]
pub struct TaskList {
    /// One environment only: its id, PROJECT/NAME, or NAME where it is the only one.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub env: Option<String>,
    /// Those that stand there.
    #[arg(long, value_name = "STATUS", value_parser = words::<TaskStatus>())]
    pub status: Option<TaskStatus>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A command about one task.
#[derive(Debug, Args)]
pub struct OneTask {
    /// The task's id.
    #[arg(value_name = "TASK")]
    pub id: TaskId,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo task show`
#[derive(Debug, Args)]
pub struct TaskShow {
    /// Which.
    #[command(flatten)]
    pub one: OneTask,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
}

/// Takes the words that a value has on the wire, and lists them in help and completion.
fn words<T>() -> impl clap::builder::TypedValueParser<Value = T>
where
    T: std::str::FromStr + Words + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    use clap::builder::TypedValueParser;
    let words = T::words().collect::<Vec<_>>();
    clap::builder::PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// A set of words.
trait Words: Sized {
    fn words() -> impl Iterator<Item = &'static str>;
}

macro_rules! words {
    ($($name:ident),+) => {
        $(impl Words for $name {
            fn words() -> impl Iterator<Item = &'static str> {
                Self::ALL.iter().map(|one| one.as_str())
            }
        })+
    };
}

words!(BackupStatus, EnvironmentType, MigrationSource, RestoreStatus, TaskStatus);

impl RemoteCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Login(_) | Self::Logout => false,
            Self::Env(command) => command.wants_json(),
            Self::Server(command) => command.wants_json(),
            Self::Migration(command) => command.wants_json(),
            Self::Recover(recover) => recover.server.json,
            Self::Task(command) => match command {
                TaskCommand::List(list) => list.server.json,
                TaskCommand::Show(show) => show.one.server.json,
                TaskCommand::Cancel(one) => one.server.json,
            },
        }
    }
}

impl BackupCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::List(list) => list.server.json,
            Self::Create(create) => create.server.json,
            Self::Show(one) => one.server.json,
            Self::Delete(delete) => delete.one.server.json,
            Self::Download(download) => download.one.server.json,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const ID: &str = "0198c0de-0000-7000-8000-000000000001";

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        let line = line.replace("ID", ID);
        Cli::try_parse_from(std::iter::once("undoo").chain(line.split(' '))).map(|cli| cli.command)
    }

    #[test]
    fn a_backup_is_made_here_or_by_a_server() {
        let Ok(Command::Backup(here)) = parsed("backup docker:odoo --to /srv/backups") else { panic!() };
        assert!(here.command.is_none());
        assert_eq!((here.to(), here.target.as_deref()), ("/srv/backups", Some("docker:odoo")));
        let Ok(Command::Backup(there)) = parsed("backup create Acme/Production --watch") else { panic!() };
        let Some(BackupCommand::Create(create)) = there.command else { panic!() };
        assert!(create.watch && create.environment == "Acme/Production");
        for command in
            ["list", "list Production --status completed", "show ID", "delete ID -y", "download ID"]
        {
            assert!(parsed(&format!("backup {command} --json")).is_ok(), "{command}");
        }
    }

    #[test]
    fn a_migration_takes_a_file_or_a_key_and_is_forced_by_a_word() {
        let line = "migration new acme.zip --name Acme --type production --source odoo_sh --conf workers=2";
        let Ok(Command::Remote(RemoteCommand::Migration(MigrationCommand::New(new)))) = parsed(line) else {
            panic!()
        };
        assert_eq!((new.source, new.environment.conf.len()), (MigrationSource::OdooSh, 1));
        let stored = "migration new --stored acme.zip --storage Bucket --name Acme --type staging --json";
        for line in [stored, "migration resume ID acme.zip", "migration list --json", "migration verify ID"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
        for line in [
            "migration new --name Acme --type staging",
            "migration new acme.zip --stored acme.zip --storage Bucket --name Acme --type staging",
            "migration new --stored acme.zip --name Acme --type staging",
            "env deploy Acme --confirm RESTORE",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        let line = "env deploy Acme --force-restore --confirm RESTORE --watch";
        let Ok(Command::Remote(RemoteCommand::Env(EnvCommand::Deploy(deploy)))) = parsed(line) else {
            panic!()
        };
        assert!(deploy.force_restore && deploy.act.watch && deploy.confirm.as_deref() == Some("RESTORE"));
    }

    #[test]
    fn what_is_recovered_is_named_or_in_a_plan() {
        let line =
            "recover Frankfurt --to Berlin --accept-unverified Shop/Test --lost-at 2026-11-22T14:30:00Z -y";
        let Ok(Command::Remote(RemoteCommand::Recover(recover))) = parsed(line) else { panic!() };
        assert_eq!((recover.lost.len(), recover.to.len(), recover.accept_unverified.len()), (1, 1, 1));
        assert!(recover.lost_at.is_some() && recover.yes && !recover.no_watch);
        for line in ["recover --environment Shop/Live --dry-run --json", "recover --plan ID"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
        for line in ["recover", "recover --to Berlin", "recover Frankfurt --plan ID"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_restore_is_done_here_or_by_a_server() {
        let Ok(Command::Restore(here)) = parsed("restore b.zip --into docker:odoo --dry-run") else {
            panic!()
        };
        assert!(here.command.is_none() && here.dry_run);
        assert_eq!(here.backup(), "b.zip");
        let line = "restore start ID --to Staging --accept missing_files --no-safety-backup --watch --yes";
        let Ok(Command::Restore(there)) = parsed(line) else { panic!() };
        let Some(RestoreCommand::Start(start)) = there.command else { panic!() };
        assert_eq!((start.backup.to_string().as_str(), start.to.as_deref()), (ID, Some("Staging")));
        assert!(start.no_safety_backup && start.watch && start.yes);
        for command in ["show ID", "list Production", "cancel ID", "undo ID -y", "release ID", "report ID"] {
            assert!(parsed(&format!("restore {command}")).is_ok(), "{command}");
        }
    }

    #[test]
    fn a_restore_makes_an_environment_where_it_is_told_one() {
        let line = "restore start ID --new Clone --type production --on Frankfurt --domain clone.example.com \
                    --odoo-image odoo:19.0 --http-port 8070 --conf workers=2 --conf limit_time_cpu=600 --watch";
        let Ok(Command::Restore(there)) = parsed(line) else { panic!() };
        let Some(RestoreCommand::Start(start)) = there.command else { panic!() };
        let new = start.new;
        assert_eq!((new.name.as_deref(), new.on.as_deref()), (Some("Clone"), Some("Frankfurt")));
        assert_eq!(
            (new.environment_type, new.environment.http_port),
            (Some(EnvironmentType::Production), Some(8070))
        );
        assert_eq!(new.environment.conf[1], ("limit_time_cpu".to_owned(), "600".to_owned()));
        assert!(parsed("restore start ID --new Clone --no-safety-backup --database-only").is_ok());
    }

    #[test]
    fn what_the_platform_has_deployed_is_destroyed_by_its_name() {
        let line = "env destroy Staging --confirm Staging --watch";
        let Ok(Command::Remote(RemoteCommand::Env(EnvCommand::Destroy(destroy)))) = parsed(line) else {
            panic!()
        };
        assert_eq!(destroy.confirm.as_deref(), Some("Staging"));
        for action in ["deploy", "start", "stop"] {
            assert!(parsed(&format!("env {action} Acme/Staging --watch --yes --json")).is_ok(), "{action}");
        }
    }

    #[test]
    fn what_is_needed_here_is_needed_still_and_the_two_uses_do_not_mix() {
        for wrong in [
            "backup docker:odoo",
            "backup --to /srv/backups",
            "backup docker:odoo --to /srv list",
            "restore b.zip",
            "restore --into docker:odoo",
            "restore --into docker:odoo show ID",
            "restore show no-id",
            "restore start ID --strategy stop-first",
            "restore start ID --undo-window 0",
            "restore start ID --new Clone --to Staging",
            "restore start ID --new Clone --filestore-only",
            "restore start ID --new Clone --strategy stop-first --drop-live acme",
            "restore start ID --new Clone --type live",
            "restore start ID --new Clone --http-port 0",
            "restore start ID --new Clone --conf workers",
            "restore start ID --on Frankfurt",
            "restore start ID --new Clone --server ssh://root@10.0.0.2",
            "env destroy Staging --yes",
            "backup list --status completed",
            "backup list Production --status finished",
            "backup download ID --expires-in 86401",
            "env adopt odoo --name Production --type live",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_words_of_the_server_are_what_is_typed() {
        let line = "env adopt odoo --name Production --type production";
        let Ok(Command::Remote(RemoteCommand::Env(EnvCommand::Adopt(adopt)))) = parsed(line) else {
            panic!()
        };
        assert_eq!(adopt.environment_type, EnvironmentType::Production);
        let Ok(Command::Remote(RemoteCommand::Task(TaskCommand::List(list)))) =
            parsed("task list --status stuck")
        else {
            panic!()
        };
        assert_eq!(list.status, Some(TaskStatus::Stuck));
    }

    #[test]
    fn every_shell_completes_the_commands_of_both_uses() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(
                shell,
                &mut <Cli as clap::CommandFactory>::command(),
                "undoo",
                &mut script,
            );
            let script = String::from_utf8(script).expect("text");
            for word in ["restore", "start", "--no-safety-backup", "completed"] {
                let word =
                    if shell == clap_complete::Shell::Fish { word.trim_start_matches('-') } else { word };
                assert!(script.contains(word), "{shell} {word}");
            }
        }
    }
}
