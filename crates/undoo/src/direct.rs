//! A target without Docker: the engine in this process, Odoo stopped and started by commands.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tokio::sync::Mutex;
use undoo_core::{Kind, Problem, Result};
use undoo_engine::{
    cluster,
    health::{self, Patience},
    home::Home,
    lock::{Locked, Work},
    order::{Failure, Target},
    orders::{Order, Session},
    pg::DatabaseAccess,
    record::Record,
    swap::{Services, Swap},
};

use crate::{caller::Caller, cli::TargetArgs, hold::Hold, interrupt::cancelled, place::Cutover, shell};

/// A database server and a directory.
pub struct DirectPlace {
    target: Target,
    services: Commands,
    /// The orders of this process, and between them the target's lock.
    session: Mutex<Session>,
}

struct Commands {
    stop: Option<String>,
    start: Option<String>,
    url: Option<String>,
    database: String,
}

impl DirectPlace {
    /// The place that `--database-url` and `--filestore` name.
    ///
    /// # Errors
    /// `Invalid` when they do not make a target.
    pub fn find(args: &TargetArgs) -> Result<Self> {
        let (url, filestore) = match (&args.database_url, &args.filestore) {
            (Some(url), Some(filestore)) => (url, filestore),
            _ => {
                return Err(invalid(
                    "no target was named",
                    "name docker:CONTAINER, or --database-url with --filestore",
                ));
            }
        };
        let (admin, in_url) = DatabaseAccess::from_url(url)?;
        let directory = filestore.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let database = args.database.clone().or(in_url).or_else(|| directory.clone());
        let (Some(database), Some(directory)) = (database, directory) else {
            return Err(invalid("the database has no name", "put it into the URL, or give --database"));
        };
        if directory != database && args.database.is_none() {
            return Err(invalid(
                "the filestore's directory is not named like the database",
                "give DATA_DIR/filestore/DATABASE: Odoo finds a filestore by its database's name",
            ));
        }
        let root = filestore.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let root = std::fs::canonicalize(root).map_err(|error| {
            invalid("the directory of filestores does not exist", "create Odoo's data_dir/filestore first")
                .caused_by(error)
        })?;
        let host = admin.host.clone();
        let target = Target {
            owner: admin.user.clone(),
            owner_assumed: true,
            admin,
            name: format!("--database-url … --filestore {}", filestore.display()),
            database: database.clone(),
            filestore_root: root,
            files_owner: None,
            shares_disk: matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") || host.starts_with('/'),
            database_disks: Vec::new(),
            database_pinned: false,
            odoo_major: None,
        };
        let services = Commands {
            stop: args.stop_command.clone(),
            start: args.start_command.clone(),
            url: args.odoo_url.clone(),
            database,
        };
        Ok(Self { target, services, session: Mutex::default() })
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Settles what only the server knows. Who shall own what a restore makes: the role that was named, else
    /// the live database's owner, else the role of the URL. Where a server of this machine keeps its data.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn settle(&mut self, named: Option<&str>) -> Result<()> {
        let known = match named {
            Some(named) => Some(named.to_owned()),
            None => cluster::owner_of(&self.target).await?,
        };
        if let Some(owner) = known {
            self.target.owner = owner;
            self.target.owner_assumed = false;
        }
        if self.target.shares_disk
            && let Some(data) = cluster::data_directory(&self.target).await?
        {
            self.target.database_disks = vec![data.clone(), data.join("pg_wal")];
        }
        Ok(())
    }

    /// Has an order carried out. The stop of its caller cancels it.
    ///
    /// # Errors
    /// Those of the order.
    pub async fn order(&self, order: Order, caller: Caller<'_>) -> Result<Value, Failure> {
        let mut session = self.session.lock().await;
        tokio::select! {
            outcome = session.carry_out(order, caller.audience) => outcome,
            () = caller.stop.asked() => {
                session.end().await;
                Err(cancelled().into())
            }
        }
    }

    /// Takes back what the orders so far have left open.
    pub async fn call_off(&self) {
        self.session.lock().await.end().await;
    }

    /// Starts Odoo again, where it was stopped to make room and that was for nothing.
    ///
    /// # Errors
    /// Those of the start command.
    pub async fn start_again(&self) -> Result<()> {
        self.services.start().await
    }

    /// Stops Odoo, for a restore that makes room first.
    ///
    /// # Errors
    /// Those of the stop command.
    pub async fn stop(&self) -> Result<()> {
        self.services.stop().await
    }

    /// Cuts over in this process, under the lock of the orders before, if they took it.
    ///
    /// # Errors
    /// Those of [`Swap::make_live`]; `Stuck` when it was left by a second Ctrl-C.
    pub async fn cut_over(&self, cutover: Cutover, caller: Caller<'_>) -> Result<Record> {
        let locked = match self.session.lock().await.take_lock() {
            Some(locked) if locked.holds(&self.target).await => locked,
            _ => Locked::take(&self.target, Work::Cutover(cutover.id)).await?,
        };
        let home = Home::of(&self.target.filestore_root);
        let mut record = Record::read(&home, &cutover.id)?.ok_or_else(|| {
            Problem::new(
                Kind::Missing,
                "restore_missing",
                format!("there is no restore {} on the target", cutover.id),
                "`undoo list` shows what there is",
            )
        })?;
        record.refuse_decision_of(cutover.epoch)?;
        let hold = Hold::asked();
        let swap = Swap {
            target: &self.target,
            home: &home,
            services: &self.services,
            audience: caller.audience,
            auto_rollback: cutover.auto_rollback,
            checkpoint: &|step, done| {
                hold.checkpoint(step, done, caller.audience);
                Ok(())
            },
        };
        let outcome = {
            let mut swapping = std::pin::pin!(swap.make_live(&locked, &mut record, cutover.to));
            tokio::select! {
                outcome = &mut swapping => outcome,
                () = caller.stop.asked() => {
                    caller.say("The cutover has begun and goes on to its end; Ctrl-C once more leaves it as it is.");
                    tokio::select! {
                        outcome = &mut swapping => outcome,
                        () = caller.stop.asked() => Err(left(&self.target.name)),
                    }
                }
            }
        };
        outcome.map(|()| record)
    }
}

fn left(target: &str) -> Problem {
    Problem::new(
        Kind::Stuck,
        "cutover_left",
        "the cutover was left where it was; Odoo may be stopped",
        format!("run `undoo resume {target}` to finish it, or `undoo undo {target}` to go back"),
    )
}

fn invalid(message: &str, remedy: &str) -> Problem {
    Problem::new(Kind::Invalid, "target", message, remedy)
}

impl Services for Commands {
    async fn stop(&self) -> Result<()> {
        run(self.stop.as_deref(), "stop_command").await
    }

    async fn start(&self) -> Result<()> {
        run(self.start.as_deref(), "start_command").await
    }

    async fn await_health(&self) -> Result<()> {
        let Some(url) = &self.url else { return Ok(()) };
        let base = url.trim_end_matches('/');
        health::login_page(base, &self.database, Patience::default()).await.map(|_| ())
    }
}

/// How long Odoo may take to stop or start.
const PATIENCE: Duration = Duration::from_secs(300);

async fn run(command: Option<&str>, code: &'static str) -> Result<()> {
    let Some(command) = command else { return Ok(()) };
    let failed = |cause: String| {
        Problem::new(
            Kind::Unavailable,
            code,
            format!("`{command}` failed: {cause}"),
            "mend the command, then run `undoo resume` or `undoo undo`",
        )
    };
    shell::run(command, PATIENCE).await.map_err(failed)
}
