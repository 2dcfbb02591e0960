//! The platform put together: its store, its keys, its data plane, and what runs on them.
//!
//! The one place that knows all of these. What is decided is decided in `undoo-control`.

mod config;
mod keys;
mod logs;
mod rotate;
mod serve;
mod users;
mod worker;

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use secrecy::ExposeSecret as _;
use undoo_control::{Control, Sealer, Settings};
use undoo_core::{Kind, Problem, Result};
use undoo_engine::order::Failure;
use undoo_store::Store;

use crate::{
    cli::{KeysCommand, PlatformCommand, SettingsArgs, UsersCommand},
    output::print,
    plane::DockerPlane,
    work::restore,
};
use config::{Config, Database};
use keys::Keys;
pub use logs::of_command;

/// Runs a command of the platform.
///
/// # Errors
/// Those of the command.
pub async fn run(command: PlatformCommand) -> Result<(), Failure> {
    match command {
        PlatformCommand::Serve(arguments) => serve::run(&started(Config::of_serve(&arguments)?)).await?,
        PlatformCommand::Worker(arguments) => worker::run(&started(Config::of_worker(&arguments)?)).await?,
        PlatformCommand::Migrate(arguments) => migrate(&arguments).await?,
        PlatformCommand::Openapi => print(&(openapi()? + "\n"))?,
        PlatformCommand::Keys(keys) => match keys.command {
            KeysCommand::Rotate(arguments) => rotate::run(&started(Config::of(&arguments)?)).await?,
        },
        PlatformCommand::Users(users) => match users.command {
            UsersCommand::Reset { email, settings } => {
                users::reset(&started(Config::of(&settings)?), &email).await?;
            }
        },
    }
    Ok(())
}

/// From here on there is a log.
fn started(config: Config) -> Config {
    logs::start(&config.log, config.log_format);
    config
}

/// Opens the store; the folder of one in a file is made.
async fn store(config: &Config) -> Result<Store> {
    if let Database::Sqlite(path) = &config.database {
        make(path.parent().unwrap_or(path))?;
    }
    Store::open(config.database.url().expose_secret()).await
}

/// The keys; the folder of those that are made is made.
async fn keys(config: &Config) -> Result<Keys> {
    if matches!(config.database, Database::Sqlite(_)) {
        make(&config.data_dir)?;
    }
    Keys::load(config).await
}

/// Nobody else may look into a folder that is made here.
fn make(folder: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Problem::new(
            Kind::Unavailable,
            "data_dir_not_made",
            format!("the folder {} is not there and cannot be made: {error}", folder.display()),
            "make it, for the user that undoo runs as, or name another one: --data-dir",
        )
        .caused_by(error)
    })
}

/// The control plane over this machine's data plane.
fn control(config: &Config, store: Store, sealer: Sealer) -> Control {
    let (restore_jobs, restore_maintenance_mib) = restore::jobs(Some(config.restore_jobs), None);
    let settings = Settings {
        session_hours: config.session_hours,
        link_hours: config.link_hours,
        local_storage: config.backups_dir.clone(),
        server_task_limit: config.server_tasks,
        task_attempts: config.task_attempts,
        restore_jobs,
        restore_maintenance_mib,
        event_days: config.event_days,
        storage_hosts: config.storage_hosts.clone(),
        deploy_prefix: config.deploy_prefix.clone(),
        deploy_network: config.deploy_network.clone(),
        postgres_image: config.postgres_image.clone(),
        ..Settings::default()
    };
    Control::new(store, Arc::new(DockerPlane::default()), sealer, settings)
}

async fn migrate(arguments: &SettingsArgs) -> Result<()> {
    let config = started(Config::of(arguments)?);
    if matches!(config.database, Database::Sqlite(_)) {
        // A database that is there without its key counts as one that has lost it.
        drop(keys(&config).await?);
    }
    let applied = store(&config).await?.migrate().await?;
    if applied.is_empty() {
        return print("The database is up to date\n");
    }
    for name in applied {
        print(&format!("{name}\n"))?;
    }
    Ok(())
}

fn openapi() -> Result<String> {
    undoo_server::openapi().to_pretty_json().map_err(|error| {
        Problem::new(Kind::Internal, "openapi", "the document could not be written", "please report this")
            .caused_by(error)
    })
}
