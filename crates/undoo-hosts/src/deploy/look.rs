//! What of an environment is there, and whether what has its names is its own.

use bollard::{
    errors::Error as EngineError,
    models::{ContainerInspectResponse, VolumeCreateRequest},
};
use undoo_core::{Kind, Problem, Result, platform::Names};

use super::{
    Did, Done, Part,
    things::{labels, part_of},
};
use crate::{
    docker::{Docker, is_missing, problem},
    target::{inspect, is_running, name},
};

/// A container of an environment.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) part: Part,
    pub(super) running: bool,
    /// Whether it has ever been started.
    pub(super) started: bool,
    pub(super) exit_code: i64,
    pub(super) inspected: ContainerInspectResponse,
}

impl Found {
    /// How it was called, after its entrypoint.
    pub(super) fn command(&self) -> &[String] {
        self.inspected.config.as_ref().and_then(|config| config.cmd.as_deref()).unwrap_or_default()
    }

    /// The networks that it is in, by name.
    pub(super) fn is_in(&self, network: &str) -> bool {
        let settings = self.inspected.network_settings.as_ref();
        settings.and_then(|settings| settings.networks.as_ref()).is_some_and(|all| all.contains_key(network))
    }
}

/// The container of this name; `None` where there is none.
///
/// # Errors
/// `name_taken` where it is not this environment's.
pub(super) async fn container(docker: &Docker, names: &Names, wanted: &str) -> Result<Option<Found>> {
    let inspected = match inspect(docker, wanted).await {
        // The engine also takes the beginning of an id for a name.
        Ok(inspected) if name(&inspected) != wanted => return Ok(None),
        Ok(inspected) => inspected,
        Err(problem) if problem.kind == Kind::Missing => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let labels = inspected.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    let Some(part) = part_of(&labels, names) else { return Err(taken("container", wanted)) };
    let state = inspected.state.clone().unwrap_or_default();
    Ok(Some(Found {
        id: inspected.id.clone().unwrap_or_default(),
        part,
        running: is_running(&inspected),
        started: state.started_at.is_some_and(|at| !at.starts_with("0001-")),
        exit_code: state.exit_code.unwrap_or(-1),
        inspected,
    }))
}

/// A container that has to be there.
///
/// # Errors
/// `environment_incomplete` where it is not, and as [`container`].
pub(super) async fn expect(docker: &Docker, names: &Names, wanted: &str) -> Result<Found> {
    container(docker, names, wanted).await?.ok_or_else(|| incomplete(names, &format!("container {wanted}")))
}

pub(super) fn incomplete(names: &Names, what: &str) -> Problem {
    Problem::new(
        Kind::Missing,
        "environment_incomplete",
        format!("The environment {} has no {what} on its server.", names.name()),
        "Deploy it again, or restore it to a new environment.",
    )
}

/// Whether the environment's network is there.
///
/// # Errors
/// `name_taken`.
pub(super) async fn network(docker: &Docker, names: &Names) -> Result<bool> {
    let name = names.network();
    match docker.engine().inspect_network(&name, None).await {
        Ok(found) if found.labels.as_ref().is_some_and(|labels| part_of(labels, names).is_some()) => Ok(true),
        Ok(_) => Err(taken("network", &name)),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(problem(error, || format!("inspecting the network {name}"))),
    }
}

/// Whether a volume of the environment is there.
///
/// # Errors
/// `name_taken`.
async fn volume(docker: &Docker, names: &Names, name: &str) -> Result<bool> {
    match docker.engine().inspect_volume(name).await {
        Ok(found) if part_of(&found.labels, names).is_some() => Ok(true),
        Ok(_) => Err(taken("volume", name)),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(problem(error, || format!("inspecting the volume {name}"))),
    }
}

/// Makes sure that a volume of the environment is there.
///
/// # Errors
/// `environment_incomplete`, `name_taken`.
pub(super) async fn expect_volume(docker: &Docker, names: &Names, name: &str) -> Result<()> {
    if volume(docker, names, name).await? {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Missing,
        "environment_incomplete",
        format!("The environment {} has no volume {name} on its server.", names.name()),
        "Its data are gone: restore a backup to a new environment.",
    ))
}

/// Makes one of the two volumes.
pub(super) async fn ensure_volume(docker: &Docker, names: &Names, part: Part) -> Result<Done> {
    let name = if part == Part::DatabaseVolume { names.pgdata() } else { names.data() };
    let did = if volume(docker, names, &name).await? {
        Did::Found
    } else {
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels(names, part)),
            ..Default::default()
        };
        docker
            .engine()
            .create_volume(request)
            .await
            .map_err(|error| problem(error, || format!("creating the volume {name}")))?;
        Did::Made
    };
    Ok(Done { part, name, did })
}

/// Makes sure that nothing with the environment's names is somebody else's, before anything is made.
///
/// # Errors
/// `name_taken`, and those of the engine.
pub async fn refuse_taken(docker: &Docker, names: &Names) -> Result<()> {
    network(docker, names).await?;
    for name in [names.pgdata(), names.data()] {
        volume(docker, names, &name).await?;
    }
    for name in [names.db(), names.odoo()] {
        container(docker, names, &name).await?;
    }
    Ok(())
}

pub(super) fn taken(kind: &str, name: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        "name_taken",
        format!("There is a {kind} {name} on the server already, and it is no part of this environment."),
        "Choose another name; or adopt what has it, or rename that.",
    )
}

/// Whether the engine said that something of the name is there already.
pub(super) fn is_conflict(error: &EngineError) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code: 409, .. })
}
