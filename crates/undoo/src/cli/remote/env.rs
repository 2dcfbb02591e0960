//! `undoo env`: environments of the server that one is signed in to.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use undoo_core::platform::EnvironmentType;

use super::{ServerArgs, words};

/// `undoo env`
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List environments.
    List(ServerArgs),
    /// Show an environment.
    Show(EnvShow),
    /// List the Odoos that run on a server, adopted or not.
    Found(EnvFound),
    /// Make an Odoo that runs already an environment. Nothing in it is changed.
    Adopt(EnvAdopt),
    /// Make an environment that waits for its migration; of any other that the platform has deployed, make the
    /// containers anew: its data stays.
    Deploy(EnvDeploy),
    /// Start an environment that the platform has deployed.
    Start(EnvAct),
    /// Stop an environment that the platform has deployed; its data stays.
    Stop(EnvAct),
    /// Remove an environment that the platform has deployed, with its database and files. Backups stay.
    Destroy(EnvDestroy),
}

impl EnvCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::List(server) => server.json,
            Self::Show(show) => show.server.json,
            Self::Found(found) => found.server.json,
            Self::Adopt(adopt) => adopt.server.json,
            Self::Deploy(deploy) => deploy.act.server.json,
            Self::Start(act) | Self::Stop(act) => act.server.json,
            Self::Destroy(destroy) => destroy.server.json,
        }
    }
}

/// `undoo env show`
#[derive(Debug, Args)]
pub struct EnvShow {
    /// The environment: its id, PROJECT/NAME, or NAME where it is the only one.
    pub environment: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo env found`
#[derive(Debug, Args)]
pub struct EnvFound {
    /// The server to look on, by its name or id, where there are several.
    #[arg(long, value_name = "SERVER")]
    pub on: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo env adopt`
#[derive(Debug, Args)]
pub struct EnvAdopt {
    /// Its Odoo container, as `undoo env found` names it.
    pub container: String,
    /// Its name, unique in the project.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it is for.
    #[arg(long = "type", value_name = "TYPE", value_parser = words::<EnvironmentType>())]
    pub environment_type: EnvironmentType,
    /// The project, by its name or id, where there are several.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// The server it is on, by its name or id, where there are several.
    #[arg(long, value_name = "SERVER")]
    pub on: Option<String>,
    /// Its database, where that Odoo has several.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Where its users find it.
    #[arg(long, value_name = "HOST")]
    pub domain: Option<String>,
    /// Storage for its backups, by its name or id. [default: the organisation's]
    #[arg(long, value_name = "STORAGE")]
    pub storage: Option<String>,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo env deploy`
#[derive(Debug, Args)]
pub struct EnvDeploy {
    /// What is deployed.
    #[command(flatten)]
    pub act: EnvAct,
    /// Restore the backup of its migration again, over what is live now. That is backed up before; what was
    /// written since the first restore is then to be found there only. Asks for the word RESTORE.
    #[arg(long, conflicts_with = "image")]
    pub force_restore: bool,
    /// The word RESTORE, to go on without the question of --force-restore.
    #[arg(long, value_name = "RESTORE", requires = "force_restore")]
    pub confirm: Option<String>,
    /// Odoo's image for an environment that waits for its migration. [default: that of the backup's version]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// For an environment that waits for its migration: a git repository with custom modules, fetched by HTTPS,
    /// instead of those that were named before. REFERENCE is a branch, a tag or a whole commit. [default: its default
    /// branch] May be given several times.
    #[arg(long, value_name = "URL[#REFERENCE]", conflicts_with = "force_restore")]
    pub addons: Vec<String>,
    /// File with what opens these repositories, in lines https://USER:TOKEN@HOST, as git's own credential store
    /// keeps them.
    #[arg(long, value_name = "FILE", requires = "addons")]
    pub git_credentials: Option<PathBuf>,
    /// Accept a finding about the migration's backup by its code; may be given several times.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
}

/// `undoo env start|stop`
#[derive(Debug, Args)]
pub struct EnvAct {
    /// The environment: its id, PROJECT/NAME, or NAME where it is the only one.
    pub environment: String,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
    /// Answer yes to the question that a production asks for.
    #[arg(long, short)]
    pub yes: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo env destroy`
#[derive(Debug, Args)]
pub struct EnvDestroy {
    /// The environment: its id, PROJECT/NAME, or NAME where it is the only one.
    pub environment: String,
    /// The environment's name, to say that its database and files may go for good; asked for without it.
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    /// Show how it goes on until it is done; the exit code then says how it ended.
    #[arg(long)]
    pub watch: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}
