//! Containers of our own: created, watched, and always removed.
//!
//! A [`Scratch`] removes its container when it is dropped, as far as that is possible (the runtime must
//! live on); [`crate::cleanup`] finds what was left when it was not.

use std::time::Duration;

use bollard::{
    container::{AttachContainerResults, LogOutput},
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountTmpfsOptions, MountType},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use undoo_core::{Kind, Problem, Result};

use crate::{
    docker::{Docker, is_being_removed, is_missing, is_unchanged, problem},
    lines::Tail,
    mover::Bind,
};

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEnd {
    /// The process's exit code; 137 is a kill.
    pub exit_code: i64,
    /// Whether the kernel killed it because the memory limit was reached.
    pub oom_killed: bool,
    /// The end of what it wrote (which of the streams, the function that returns this says).
    pub output: String,
}

impl ContainerEnd {
    /// The last lines of the output, for a message.
    pub fn last_lines(&self) -> String {
        last_lines(&self.output)
    }
}

/// The end of a log, for a message.
pub fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// A container of ours that goes when this goes.
pub(crate) struct Scratch {
    docker: Docker,
    pub(crate) id: String,
    pub(crate) name: String,
    removed: bool,
}

impl Scratch {
    /// Creates a container with a name that says what it is for.
    pub(crate) async fn create(docker: &Docker, purpose: &str, body: ContainerCreateBody) -> Result<Self> {
        let name = format!("undoo-{purpose}-{:012x}", rand::random::<u64>() >> 16);
        Self::create_named(docker, name, body).await
    }

    /// Creates a container of this very name; `docker_conflict` where there is one already.
    pub(crate) async fn create_named(
        docker: &Docker,
        name: String,
        body: ContainerCreateBody,
    ) -> Result<Self> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = docker.engine().create_container(Some(options), body).await.map_err(|error| {
            if is_missing(&error) {
                return Problem::new(
                    Kind::Missing,
                    "image_missing",
                    format!("Docker could not create {name} from the image {image}: {error}."),
                    "Check with \"docker images\" that the image is still there; pull or load it again.",
                )
                .caused_by(error);
            }
            problem(error, || format!("creating the container {name} from {image}"))
        })?;
        Ok(Self { docker: docker.clone(), id: created.id, name, removed: false })
    }

    pub(crate) async fn start(&self) -> Result<()> {
        self.docker
            .engine()
            .start_container(&self.id, None)
            .await
            .map_err(|error| problem(error, || format!("starting the container {}", self.name)))
    }

    /// Connects to the standard streams. To be called before the start, so that nothing is missed.
    pub(crate) async fn attach(&self) -> Result<AttachContainerResults> {
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        self.docker
            .engine()
            .attach_container(&self.id, Some(options))
            .await
            .map_err(|error| problem(error, || format!("attaching to the container {}", self.name)))
    }

    /// Waits until the process has ended; gives the end of both of its streams together.
    pub(crate) async fn finish(&self) -> Result<ContainerEnd> {
        let mut end = wait(&self.docker, &self.id).await?;
        end.output = log_tail(&self.docker, &self.id).await?;
        Ok(end)
    }

    /// Removes the container, killing it if it runs. Its volumes stay: none of them is its own.
    pub(crate) async fn remove(mut self) -> Result<()> {
        self.removed = true;
        remove(&self.docker, &self.id).await
    }

    /// Leaves the container alone from now on.
    pub(crate) fn keep(mut self) -> (String, String) {
        self.removed = true;
        (std::mem::take(&mut self.id), std::mem::take(&mut self.name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let (docker, id) = (self.docker.clone(), self.id.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = remove(&docker, &id).await {
                    tracing::warn!(container = id, %error, "a container could not be removed");
                }
            });
        }
    }
}

/// Removes a container of ours, killing it if it runs; that it is gone already is fine.
pub(crate) async fn remove(docker: &Docker, id: &str) -> Result<()> {
    // Never with its volumes: a volume without a name that came by VolumesFrom belongs to Odoo, and
    // would go too if Odoo's container had just been replaced.
    let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
    match docker.engine().remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_missing(&error) || is_being_removed(&error) => Ok(()),
        Err(error) => Err(problem(error, || format!("removing the container {id}"))),
    }
}

/// Asks a container to end (SIGTERM), and kills it after `grace`.
pub(crate) async fn stop(docker: &Docker, id: &str, grace: Duration) -> Result<()> {
    let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::new().t(seconds).build();
    match docker.engine_patient(grace).stop_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_unchanged(&error) || is_missing(&error) => Ok(()),
        Err(error) => Err(problem(error, || format!("stopping the container {id}"))),
    }
}

/// Waits until a container has ended. `output` stays empty.
pub(crate) async fn wait(docker: &Docker, id: &str) -> Result<ContainerEnd> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut answers = std::pin::pin!(docker.engine().wait_container(id, Some(options)));
    // The library turns exit codes other than 0 into errors; the code is asked for below.
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }) => {}
            Err(error) => return Err(problem(error, || format!("waiting for the container {id}"))),
        }
    }
    let found = docker
        .engine()
        .inspect_container(id, None)
        .await
        .map_err(|error| problem(error, || format!("asking how the container {id} ended")))?;
    let state = found.state.unwrap_or_default();
    Ok(ContainerEnd {
        exit_code: state.exit_code.unwrap_or(-1),
        oom_killed: state.oom_killed.unwrap_or(false),
        output: String::new(),
    })
}

/// The end of what a container wrote on both streams.
pub(crate) async fn log_tail(docker: &Docker, id: &str) -> Result<String> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("1000").build();
    let mut chunks = std::pin::pin!(docker.engine().logs(id, Some(options)));
    let mut tail = Tail::new(Tail::USUAL);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| problem(error, || format!("reading the log of {id}")))?;
        tail.push(bytes_of(&chunk));
    }
    Ok(tail.into_text())
}

pub(crate) fn bytes_of(output: &LogOutput) -> &[u8] {
    match output {
        LogOutput::StdErr { message }
        | LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => message,
    }
}

/// The settings that every container of ours has: no right that it does not need, and a log of its own
/// whatever the engine's default is.
pub(crate) fn hardened() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        pids_limit: Some(1024),
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some([("max-size", "16m"), ("max-file", "2")].map(|(k, v)| (k.into(), v.into())).into()),
        }),
        ..Default::default()
    }
}

/// A bind mount as the engine wants it. With this form a missing source is an error; the older form
/// would make an empty directory in its place.
pub(crate) fn bind(bind: &Bind) -> Mount {
    Mount {
        target: Some(bind.target.clone()),
        source: Some(bind.source.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(bind.read_only),
        ..Default::default()
    }
}

/// How the volumes that an image declares are covered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Empty, and nothing can be written.
    ReadOnly,
    /// Empty, and something can be written, in memory.
    Writable,
}

/// Mounts for the volumes that an image declares, except where something is mounted already. Without
/// them the engine makes an anonymous volume for each, which outlives the container.
pub(crate) async fn cover_image_volumes(
    docker: &Docker,
    image: &str,
    mounted: &[String],
    cover: Cover,
) -> Result<Vec<Mount>> {
    let found = docker.engine().inspect_image(image).await.map_err(|error| {
        if is_missing(&error) {
            return Problem::new(
                Kind::Missing,
                "image_missing",
                format!("The image {image} is not on this Docker Engine."),
                "Check with \"docker images\"; pull or load the image again.",
            )
            .caused_by(error);
        }
        problem(error, || format!("inspecting the image {image}"))
    })?;
    let declared = found.config.and_then(|config| config.volumes).unwrap_or_default();
    let covers = declared
        .into_iter()
        .filter(|path| !mounted.iter().any(|other| other.trim_end_matches('/') == path.trim_end_matches('/')))
        .map(|path| Mount {
            target: Some(path),
            typ: Some(MountType::TMPFS),
            read_only: Some(cover == Cover::ReadOnly),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(if cover == Cover::ReadOnly { 4096 } else { 64 * 1024 * 1024 }),
                mode: Some(if cover == Cover::ReadOnly { 0o555 } else { 0o1777 }),
                ..Default::default()
            }),
            ..Default::default()
        });
    Ok(covers.collect())
}
