//! Making an environment on a server, around a restore, and taking it away again (decision 0025).
//!
//! An environment is made in three calls: [`infrastructure`] with a container that carries the restore and
//! was never started, [`make_durable`] once the restore is live, and [`release`], which puts the container
//! that can be reached in the carrier's place. Each looks first at what is there, so that it can be called
//! again after a crash, and says what it did. Everything carries the environment's id as a label, by which
//! [`list`] and [`destroy`] find it.
//!
//! Nothing here may touch what has such a name and not that label: it is somebody else's (`name_taken`).
//! Nothing here may read or write a file of this machine: the server may be another.

mod database;
mod durable;
mod exec;
mod files;
mod images;
mod look;
mod network;
mod odoo;
mod packages;
mod released;
mod things;

use serde::Serialize;
use undoo_core::{Kind, Problem, Result, platform::Deployment};

pub use durable::make_durable;
pub use files::put_addons;
pub use images::{Image, ensure_image, is_present};
pub use look::refuse_taken;
pub use packages::put_requirements;
pub use released::{redeploy, release, start, stop};
pub(crate) use things::is_carrier;
pub use things::{
    Deployed, LABEL_ENVIRONMENT, LABEL_NAME, LABEL_PART, LABEL_PREFIX, Part, Thing, ThingKind, destroy, list,
};

use crate::docker::Docker;

/// What became of a part of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// It was there already as it is to be.
    Found,
    /// It was made.
    Made,
    /// It was made again: how it was to be has changed.
    Replaced,
    /// It was started.
    Started,
    /// It was stopped.
    Stopped,
    /// It answers as it should.
    Answered,
    /// It was removed.
    Removed,
}

impl Did {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Made => "made",
            Self::Replaced => "replaced",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Answered => "answered",
            Self::Removed => "removed",
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// What it was done to.
    pub part: Part,
    /// Its name on the server.
    pub name: String,
    /// What became of it.
    pub did: Did,
}

/// Who is told of each thing as soon as it is done. An answer other than `Ok` ends the work there: for a
/// worker that has lost its lease, and for tests.
pub type Told<'a> = &'a mut (dyn FnMut(&Done) -> Result<()> + Send);

/// Makes all of an environment but the Odoo that can be reached: networks, volumes, configuration, a
/// PostgreSQL that runs with settings that are fast and forget everything in a crash of the server, and the
/// carrier of the restore.
///
/// What an earlier attempt has made is found. A fast PostgreSQL that does not run any more is not trusted:
/// it, its volume and the files are made anew from nothing.
///
/// # Errors
/// `name_taken`, `image_missing`, `no_room`, `no_network_left`, `database_not_ready`, `deployment_invalid`, and
/// those of the engine. If nothing of the environment was there before, nothing is left.
pub async fn infrastructure(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    deployment.check()?;
    let before = things::of(docker, &deployment.names).await?;
    let made = make(docker, deployment, told).await;
    let Err(problem) = made else { return Ok(()) };
    if before.is_empty()
        && let Err(left) = destroy(docker, &deployment.names).await
    {
        tracing::warn!(%left, environment = %deployment.names.environment(), "a half-made environment stays");
    }
    Err(plain(problem))
}

async fn make(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    let names = &deployment.names;
    let odoo_image = ensure_image(docker, &deployment.odoo_image).await?;
    told(&Done { part: Part::OdooImage, name: odoo_image.name.clone(), did: odoo_image.did })?;
    let postgres_image = ensure_image(docker, &deployment.postgres_image).await?;
    told(&Done { part: Part::DatabaseImage, name: postgres_image.name.clone(), did: postgres_image.did })?;

    look::refuse_taken(docker, names).await?;
    if database::is_lost(docker, names).await? {
        for gone in database::forget(docker, names).await? {
            told(&gone)?;
        }
    }
    // It is there before the folder is, which has no label: whose network there is has the folder, too.
    if !look::network(docker, names).await? {
        files::refuse_taken(docker, names, &odoo_image).await?;
    }
    told(&network::private(docker, names, &odoo_image).await?)?;
    told(&network::public(docker, &deployment.public_network).await?)?;
    for part in [Part::DatabaseVolume, Part::OdooVolume] {
        told(&look::ensure_volume(docker, names, part).await?)?;
    }
    told(&files::write(docker, deployment, &odoo_image).await?)?;
    told(&database::ensure_fast(docker, deployment, &postgres_image).await?)?;
    told(&database::await_ready(docker, names).await?)?;
    told(&odoo::ensure_carrier(docker, deployment, &odoo_image).await?)
}

/// Causes that stand in the engine's words only, as problems of their own.
fn plain(problem: Problem) -> Problem {
    let said = problem.message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (kind, code, remedy) = if has(&["no space left on device", "disk quota exceeded"]) {
        (
            Kind::Unavailable,
            "no_room",
            "Make room on the disk of Docker's data on that server (\"docker system df\" shows what takes it), \
             or choose another server.",
        )
    } else if has(&["port is already allocated", "address already in use"]) {
        (
            Kind::Conflict,
            "port_taken",
            "Choose another port for the environment, or stop what listens on it (\"ss -ltnp\" on that server).",
        )
    } else if has(&["non-overlapping ipv4 address pool", "address pools have been fully subnetted"]) {
        (
            Kind::Unavailable,
            "no_network_left",
            "Give the engine more addresses (\"default-address-pools\" in /etc/docker/daemon.json), or choose \
             another server.",
        )
    } else {
        return problem;
    };
    Problem::new(kind, code, problem.message.clone(), remedy).caused_by(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_in_the_engines_words_become_codes() {
        let code = |message: &str| plain(Problem::new(Kind::Unavailable, "docker_failed", message, "")).code;
        assert_eq!(code("Docker failed at x: write /y: No space left on device."), "no_room");
        assert_eq!(code("Bind for 0.0.0.0:8069 failed: port is already allocated."), "port_taken");
        assert_eq!(code("listen tcp4 0.0.0.0:80: bind: address already in use"), "port_taken");
        assert_eq!(code("all predefined address pools have been fully subnetted"), "no_network_left");
        assert_eq!(code("something else"), "docker_failed");
    }
}
