//! What `undoo restore` does on the server that one is signed in to.

use clap::{Args, Subcommand};
use undoo_core::{
    BackupId, RestoreId,
    platform::{EnvironmentType, RestoreStatus},
};

use super::{ServerArgs, words};
use crate::cli::{EnvironmentArgs, Intent, Strategy};

/// What `undoo restore` does on a server.
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// Have the server restore a backup.
    Start(Box<RestoreStart>),
    /// Show a restore of the server.
    Show(OneRestore),
    /// List restores to an environment, newest first.
    List(RestoreList),
    /// Call a restore off; what was live stays live.
    Cancel(OneRestore),
    /// Bring back what a restore replaced; once more, and the restored pair is back.
    Undo(RestoreUndo),
    /// Release the mail and crons that a restore holds.
    Release(RestoreRelease),
    /// Show a restore's signed report.
    Report(OneRestore),
}

/// `undoo restore start`
#[derive(Debug, Args)]
pub struct RestoreStart {
    /// The backup's id.
    #[arg(value_name = "BACKUP")]
    pub backup: BackupId,
    /// Another environment of the same project: its id, PROJECT/NAME, or NAME where it is the only one.
    /// [default: the one that the backup was made of]
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "EnvironmentArgs")]
    pub to: Option<String>,
    /// Answer with the plan and every finding, and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Restore the database only; live files stay.
    #[arg(long, conflicts_with = "filestore_only")]
    pub database_only: bool,
    /// Restore the files only, adding to what is there; nothing is removed.
    #[arg(long)]
    pub filestore_only: bool,
    /// Do not back up first what the restore replaces.
    #[arg(long)]
    pub no_safety_backup: bool,
    /// Go on if that backup cannot be made: what is replaced is then kept until somebody removes it.
    #[arg(long, conflicts_with = "no_safety_backup")]
    pub keep_raw_pair_instead: bool,
    /// What the restored system is for. [default: recover in place, copy elsewhere]
    #[arg(long, value_name = "INTENT")]
    pub intent: Option<Intent>,
    /// Leave a copy able to send mail, run crons and charge cards.
    #[arg(long)]
    pub no_neutralize: bool,
    /// Whether mail that waits and crons that are due are held until they are released. [default: on for
    /// production in place]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hold_outgoing: Option<bool>,
    /// Accept a finding by its code; may be given several times.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// What becomes of the live database while the new one is made.
    #[arg(long, value_name = "STRATEGY", default_value = "beside")]
    pub strategy: Strategy,
    /// With --strategy stop-first: the live database's name, to say that it may be dropped for good.
    #[arg(long, value_name = "NAME", required_if_eq("strategy", "stop-first"))]
    pub drop_live: Option<String>,
    /// When Odoo does not answer after the cutover, leave it so instead of swapping back.
    #[arg(long)]
    pub no_auto_rollback: bool,
    /// Hours for which the replaced pair is kept.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=720))]
    pub undo_window: u32,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
    /// Answer yes to the question that a production asks for.
    #[arg(long, short)]
    pub yes: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// An environment that is made for it. Last, as its heading is over all that follows.
    #[command(flatten)]
    pub new: RestoreNew,
}

/// An environment that a restore makes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A new environment")]
pub struct RestoreNew {
    /// Make an environment of this name for it, instead of restoring to one that is there: on the server of
    /// the backup's environment, with its resources. If that fails, nothing of it is left.
    #[arg(long = "new", value_name = "NAME")]
    #[arg(conflicts_with_all = ["to", "filestore_only", "keep_raw_pair_instead", "strategy", "drop_live"])]
    pub name: Option<String>,
    /// What it is for. [default: staging]
    #[arg(long = "type", value_name = "TYPE", requires = "name", value_parser = words::<EnvironmentType>())]
    pub environment_type: Option<EnvironmentType>,
    /// Another server for it, by its name or id.
    #[arg(long, value_name = "SERVER", requires = "name")]
    pub on: Option<String>,
    /// What else it is to be.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
}

/// A command about one restore.
#[derive(Debug, Args)]
pub struct OneRestore {
    /// The restore's id.
    #[arg(value_name = "RESTORE")]
    pub id: RestoreId,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo restore list`
#[derive(Debug, Args)]
pub struct RestoreList {
    /// The environment: its id, PROJECT/NAME, or NAME where it is the only one.
    pub environment: String,
    /// Those that stand there.
    #[arg(long, value_name = "STATUS", value_parser = words::<RestoreStatus>())]
    pub status: Option<RestoreStatus>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo restore undo`
#[derive(Debug, Args)]
pub struct RestoreUndo {
    /// Which.
    #[command(flatten)]
    pub one: OneRestore,
    /// Show what would come back and what was written since, and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
}

/// `undoo restore release`
#[derive(Debug, Args)]
pub struct RestoreRelease {
    /// Which.
    #[command(flatten)]
    pub one: OneRestore,
    /// Show what is held, and release nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
}

impl RestoreCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Start(start) => start.server.json,
            Self::List(list) => list.server.json,
            Self::Show(one) | Self::Cancel(one) | Self::Report(one) => one.server.json,
            Self::Undo(undo) => undo.one.server.json,
            Self::Release(release) => release.one.server.json,
        }
    }
}
