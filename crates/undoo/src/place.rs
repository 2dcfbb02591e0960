//! A target as the command line works on it: in Docker, or directly.
//!
//! Commands speak to a [`Place`] and do not know which of the two it is.

use std::path::PathBuf;

use serde_json::Value;
use undoo_archive::manifest::ours::Environment;
use undoo_core::{Kind, Problem, RestoreId, Result, Side};
use undoo_engine::{
    health::Answered,
    order::{Failure, Target},
    orders::{Listed, Order},
    record::Record,
    restore::Assignment,
};

use crate::{caller::Caller, cli::TargetArgs, direct::DirectPlace, docker::DockerPlace};

/// Where a command works.
pub enum Place {
    /// An Odoo container and its database.
    Docker(Box<DockerPlace>),
    /// A database server and a directory, without Docker.
    Direct(Box<DirectPlace>),
}

/// Which way a cutover goes, and how it is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Cutover {
    /// The restore.
    pub id: RestoreId,
    /// The side to bring to life.
    pub to: Side,
    /// Epoch of the restore's record when this was decided: what others have swapped since then stays.
    pub epoch: u64,
    /// Whether an unhealthy Odoo makes it swap back.
    pub auto_rollback: bool,
    /// How long Odoo took to boot for the proof, in milliseconds.
    pub booted_ms: Option<u64>,
}

impl Place {
    /// Finds the place that the arguments name.
    ///
    /// # Errors
    /// When it does not exist, or cannot be looked at.
    pub async fn find(name: Option<&str>, args: &TargetArgs, caller: Caller<'_>) -> Result<Self> {
        match name {
            Some(name) => {
                let found = DockerPlace::find(args.ssh.endpoint()?, name, args.database.as_deref(), caller);
                found.await.map(|place| Self::Docker(Box::new(place)))
            }
            None => DirectPlace::find(args).map(|place| Self::Direct(Box::new(place))),
        }
    }

    /// Settles what only the database server knows: see [`DirectPlace::settle`]. In Docker the containers
    /// tell.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn settle(&mut self, named: Option<&str>) -> Result<()> {
        match self {
            Self::Docker(_) => Ok(()),
            Self::Direct(place) => place.settle(named).await,
        }
    }

    /// The target.
    pub fn target(&self) -> &Target {
        match self {
            Self::Docker(place) => place.target(),
            Self::Direct(place) => place.target(),
        }
    }

    /// Has an order carried out.
    ///
    /// # Errors
    /// Those of the order, and of getting it done.
    pub async fn order<T: serde::de::DeserializeOwned>(
        &self,
        order: Order,
        caller: Caller<'_>,
    ) -> Result<T, Failure> {
        let value: Value = match self {
            Self::Docker(place) => place.order(order, caller).await?,
            Self::Direct(place) => place.order(order, caller).await?,
        };
        serde_json::from_value(value).map_err(|error| {
            Problem::new(
                Kind::Internal,
                "answer",
                "an order's answer is not what was asked for",
                "see that both sides are the same version of undoo",
            )
            .caused_by(error)
            .into()
        })
    }

    /// The processors of the machine that works, where that is another than this one.
    pub fn processors(&self) -> Option<usize> {
        match self {
            Self::Docker(place) => place.processors(),
            Self::Direct(_) => None,
        }
    }

    /// Whether Odoo's own command can be run here against the staged database.
    pub fn has_odoo(&self) -> bool {
        matches!(self, Self::Docker(_))
    }

    /// Neutralizes the staged database by Odoo's own command.
    ///
    /// # Errors
    /// `NotProven` with the end of Odoo's log.
    pub async fn neutralize(&self, work: &Assignment, caller: Caller<'_>) -> Result<()> {
        match self {
            Self::Docker(place) => place.neutralize(work, caller).await,
            Self::Direct(_) => Err(no_odoo()),
        }
    }

    /// Boots Odoo on the clone and asks it for its login page.
    ///
    /// # Errors
    /// `NotProven` with the end of Odoo's log.
    pub async fn prove(&self, work: &Assignment, caller: Caller<'_>) -> Result<Answered, Failure> {
        match self {
            Self::Docker(place) => place.prove(work, caller).await,
            Self::Direct(_) => Err(no_odoo().into()),
        }
    }

    /// Restores whose commands died and left containers or networks here, by their records. To be asked
    /// before a restore is staged, which settles them.
    ///
    /// # Errors
    /// Those of Docker and of the target.
    pub async fn dead(&self, caller: Caller<'_>) -> Result<Vec<String>, Failure> {
        let Self::Docker(place) = self else { return Ok(Vec::new()) };
        let tasks = place.tasks().await?;
        // What only looks has no record and is gone in a moment.
        if tasks.iter().all(|task| task.parse::<RestoreId>().is_err()) {
            return Ok(Vec::new());
        }
        let order = Order::List { target: self.target().clone() };
        let listed: Vec<Listed> = self.order(order, caller.quietly()).await?;
        let known = listed.iter().map(|listed| listed.record.id.to_string());
        Ok(known.filter(|id| tasks.contains(id)).collect())
    }

    /// Removes what these restores left, once another restore has been staged in their place.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn bury(&self, dead: &[String]) -> Result<()> {
        let Self::Docker(place) = self else { return Ok(()) };
        for task in dead {
            let _: bool = place.remove_of(task).await?;
        }
        place.remove_old_binaries().await
    }

    /// Stops what runs on the target, for a restore that makes room first.
    ///
    /// # Errors
    /// Those of Docker or of the stop command.
    pub async fn stop(&self, caller: Caller<'_>) -> Result<()> {
        match self {
            Self::Docker(place) => place.stop(caller).await,
            Self::Direct(place) => place.stop().await,
        }
    }

    /// Whether something is stopped to make room and was not started since, whoever stopped it. Without Docker
    /// only the run that did knows it.
    ///
    /// # Errors
    /// Those of Docker and of the target.
    pub async fn is_stopped(&self, caller: Caller<'_>) -> Result<bool> {
        match self {
            Self::Docker(place) => place.stopped(caller).await.map(|stopped| !stopped.is_empty()),
            Self::Direct(_) => Ok(false),
        }
    }

    /// Starts again what [`Place::stop`] has stopped.
    ///
    /// # Errors
    /// Those of Docker and of the target, or of the start command.
    pub async fn start_again(&self, caller: Caller<'_>) -> Result<()> {
        match self {
            Self::Docker(place) => place.start_again(caller).await,
            Self::Direct(place) => place.start_again().await,
        }
    }

    /// Ends what is kept between the orders of a restore, and with it the target's lock.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn close(&self) -> Result<()> {
        match self {
            Self::Docker(place) => place.close().await,
            Self::Direct(_) => Ok(()),
        }
    }

    /// Ends what is kept between the orders, and waits until what they left open is taken back: a backup that
    /// will not be signed.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn call_off(&self) -> Result<()> {
        match self {
            Self::Docker(place) => place.call_off().await,
            Self::Direct(place) => {
                place.call_off().await;
                Ok(())
            }
        }
    }

    /// What a backup says about the system, and the folders of custom modules that are known here.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn environment(&self) -> Result<(Environment, Vec<PathBuf>)> {
        match self {
            Self::Docker(place) => place.environment().await,
            Self::Direct(_) => Ok((Environment::default(), Vec::new())),
        }
    }

    /// Removes containers that ended a while ago, and whose commands died before they could remove them.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn remove_ended(&self) -> Result<()> {
        match self {
            Self::Docker(place) => place.remove_ended().await,
            Self::Direct(_) => Ok(()),
        }
    }

    /// Names of what else is stopped for the cutover, besides Odoo.
    ///
    /// # Errors
    /// Those of Docker.
    pub async fn holders(&self, caller: Caller<'_>) -> Result<Vec<String>> {
        match self {
            Self::Docker(place) => {
                Ok(place.holders(caller).await?.into_iter().map(|holder| holder.name).collect())
            }
            Self::Direct(_) => Ok(Vec::new()),
        }
    }

    /// Cuts over.
    ///
    /// # Errors
    /// Those of [`undoo_engine::swap::Swap::make_live`].
    pub async fn cut_over(&self, cutover: Cutover, caller: Caller<'_>) -> Result<Record, Failure> {
        match self {
            Self::Docker(place) => place.cut_over(cutover, caller).await,
            Self::Direct(place) => Ok(place.cut_over(cutover, caller).await?),
        }
    }
}

fn no_odoo() -> Problem {
    Problem::new(
        Kind::NotProven,
        "no_odoo_here",
        "without Docker there is no Odoo at hand to run on the staged database",
        "restore into docker:CONTAINER, or go without (--no-boot)",
    )
}
