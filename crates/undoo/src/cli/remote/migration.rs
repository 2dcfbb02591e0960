//! `undoo migration`: an environment from a backup that was made elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use undoo_core::{
    MigrationId,
    platform::{EnvironmentType, MigrationSource},
};

use super::{ServerArgs, words};
use crate::cli::EnvironmentArgs;

/// `undoo migration`
#[derive(Debug, Subcommand)]
pub enum MigrationCommand {
    /// Make an environment that waits for a backup from elsewhere, and upload that backup.
    New(Box<MigrationNew>),
    /// Go on with an upload where it was left.
    Resume(MigrationResume),
    /// List migrations, newest first.
    List(ServerArgs),
    /// Show a migration.
    Show(OneMigration),
    /// Read the backup of a migration again, after that has failed.
    Verify(OneMigration),
}

impl MigrationCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::New(new) => new.server.json,
            Self::Resume(resume) => resume.one.server.json,
            Self::List(server) => server.json,
            Self::Show(one) | Self::Verify(one) => one.server.json,
        }
    }
}

/// `undoo migration new`
#[derive(Debug, Args)]
#[command(after_long_help = NOTES)]
pub struct MigrationNew {
    /// The backup: one file, in any layout that `undoo inspect` knows.
    #[arg(value_name = "FILE", required_unless_present = "stored", conflicts_with = "stored")]
    pub file: Option<PathBuf>,
    /// A backup that lies in --storage already, by its key there, instead of a file. It stays where it is.
    #[arg(long, value_name = "KEY", requires = "storage")]
    pub stored: Option<String>,
    /// The environment's name, unique in the project.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it is for. A copy for staging or development is neutralized.
    #[arg(long = "type", value_name = "TYPE", value_parser = words::<EnvironmentType>())]
    pub environment_type: EnvironmentType,
    /// The server that it is to be on, by its name or id, where there are several.
    #[arg(long, value_name = "SERVER")]
    pub on: Option<String>,
    /// The project, by its name or id, where there are several.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Where the backup comes from, for people.
    #[arg(long, value_name = "SOURCE", default_value = "other", value_parser = words::<MigrationSource>())]
    pub source: MigrationSource,
    /// Storage for the backup, by its name or id, and later for those of the environment. [default: the
    /// organisation's]
    #[arg(long, value_name = "STORAGE")]
    pub storage: Option<String>,
    /// What else it is to be.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// Cores that it may use.
    #[arg(long, value_name = "CORES", value_parser = clap::value_parser!(i32).range(1..))]
    pub cpu_cores: Option<i32>,
    /// Memory that it may use, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(i32).range(1..))]
    pub ram_mb: Option<i32>,
    /// Disk that it may use, in GiB.
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(i32).range(1..))]
    pub disk_gb: Option<i32>,
    /// Accept a finding by its code, such as server_full; may be given several times.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

const NOTES: &str = "\
Nothing is put on the server yet. When all of the file has arrived, the platform reads it from end to end. Then
`undoo env deploy` makes the environment around it: staged, proven, and only then reachable. Mail and crons that are
due are held until `undoo restore release`, since the old system may still run.

It is restored once. Deploying the environment again keeps its data.

Where the line breaks, the upload goes on by itself; after this command was ended, with `undoo migration resume`.
What nobody goes on with for a week is removed.";

/// `undoo migration resume`
#[derive(Debug, Args)]
pub struct MigrationResume {
    /// Which.
    #[command(flatten)]
    pub one: OneMigration,
    /// The same file as before.
    pub file: PathBuf,
}

/// A command about one migration.
#[derive(Debug, Args)]
pub struct OneMigration {
    /// The migration's id.
    #[arg(value_name = "MIGRATION")]
    pub id: MigrationId,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}
