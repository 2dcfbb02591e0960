//! The container that runs a cutover and does not need its caller.
//!
//! Between stopping and starting Odoo nothing may depend on a connection or a terminal: the agent gets
//! its order once, and then whoever likes follows its log, from this process or another. It has Docker's
//! socket and therefore never parses anything that came out of a backup.

use std::time::Duration;

use bollard::{
    container::LogOutput,
    errors::Error as EngineError,
    query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder},
};
use futures_util::StreamExt as _;
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

use crate::{
    docker::{Docker, problem},
    labels::{LABEL_EPOCH, LABEL_ROLE, LABEL_TARGET, LABEL_TASK, Labels, Role, label_filter},
    lines::{LineSplitter, Tail},
    mover::{self, Bind, ContainerEnd, MoverSpec},
    scratch,
    target::{inspect, is_running, name},
};

/// Where the agent finds Docker's socket.
pub const SOCKET: &str = "/var/run/docker.sock";
/// The engine takes an order of any size at once, unless it is in trouble.
const ORDER_PATIENCE: Duration = Duration::from_secs(60);

/// An agent, running or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Whose work it does.
    pub labels: Labels,
    /// Whether it still works.
    pub running: bool,
    /// How it ended; `None` while it runs, or if it was never started.
    pub exit_code: Option<i64>,
}

/// Starts an agent: a container made as `spec` says, with Docker's socket added, that gets `order` on
/// its standard input and then goes on alone.
///
/// # Errors
/// Those of the engine; `agent_order_not_taken` if it could not be given its order. No agent is left
/// running then.
pub async fn start(docker: &Docker, spec: &MoverSpec, binary_volume: &str, order: &[u8]) -> Result<Agent> {
    let mut spec = spec.clone();
    spec.binds.push(Bind {
        source: docker.socket_on_host().display().to_string(),
        target: SOCKET.into(),
        read_only: false,
    });
    let scratch = mover::create(docker, &spec, binary_volume, Role::Agent).await?;
    let attached = scratch.attach().await?;
    scratch.start().await?;
    let fed = tokio::time::timeout(ORDER_PATIENCE, mover::feed(attached.input, order)).await;
    if !matches!(fed, Ok(Ok(()))) {
        scratch.remove().await?;
        return Err(Problem::new(
            Kind::Unavailable,
            "agent_order_not_taken",
            "The container that was to do the cutover did not take its order; nothing was cut over.",
            "Check the load of the server and Docker's log, then try again.",
        ));
    }
    let (id, name) = scratch.keep();
    Ok(Agent { id, name, labels: spec.labels, running: true, exit_code: None })
}

/// The agents of a task, or all of them; the newest first.
///
/// # Errors
/// Those of the engine.
pub async fn find_agents(docker: &Docker, task: Option<&str>) -> Result<Vec<Agent>> {
    let mut wanted = vec![(LABEL_ROLE, Some(Role::Agent.as_str()))];
    wanted.extend(task.map(|task| (LABEL_TASK, Some(task))));
    agents(docker, &wanted).await
}

/// The agents that work or worked on the Odoo container of this name; the newest first.
///
/// # Errors
/// Those of the engine.
pub async fn find_agents_on(docker: &Docker, target: &str) -> Result<Vec<Agent>> {
    agents(docker, &[(LABEL_ROLE, Some(Role::Agent.as_str())), (LABEL_TARGET, Some(target))]).await
}

async fn agents(docker: &Docker, wanted: &[(&str, Option<&str>)]) -> Result<Vec<Agent>> {
    let filters = label_filter(wanted);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let mut listed = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    listed.sort_by_key(|summary| std::cmp::Reverse(summary.created));
    let mut agents = Vec::new();
    for id in listed.into_iter().filter_map(|summary| summary.id) {
        let found = match inspect(docker, &id).await {
            // Whoever followed it has removed it meanwhile.
            Err(gone) if gone.kind == Kind::Missing => continue,
            found => found?,
        };
        let labels = found.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
        let state = found.state.clone().unwrap_or_default();
        let running = is_running(&found);
        let was_started = state.started_at.is_some_and(|at| !at.starts_with("0001-"));
        agents.push(Agent {
            name: name(&found),
            labels: Labels {
                task: labels.get(LABEL_TASK).cloned().unwrap_or_default(),
                epoch: labels.get(LABEL_EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
                target: labels.get(LABEL_TARGET).cloned(),
            },
            running,
            exit_code: state.exit_code.filter(|_| !running && was_started),
            id,
        });
    }
    Ok(agents)
}

/// Hands every line that an agent has written and will write to `on_line`, until it ends. May be called
/// again, from anywhere: it begins with the first line each time. The answer holds the exit code and the
/// last 64 KiB of standard error. The container stays; see [`remove`].
///
/// # Errors
/// Those of the engine, `container_line_too_long`; the agent goes on in any case.
pub async fn follow(docker: &Docker, id: &str, mut on_line: impl FnMut(&str) + Send) -> Result<ContainerEnd> {
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
    let mut chunks = std::pin::pin!(docker.engine().logs(id, Some(options)));
    let mut lines = LineSplitter::default();
    let mut errors = Tail::new(Tail::USUAL);
    while let Some(chunk) = chunks.next().await {
        match chunk.map_err(|error| broken_off(docker, error, id))? {
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                lines.push(&message, &mut on_line)?;
            }
            LogOutput::StdErr { message } => errors.push(&message),
            LogOutput::StdIn { .. } => {}
        }
    }
    lines.finish(&mut on_line);
    let mut end = scratch::wait(docker, id).await?;
    end.output = errors.into_text();
    Ok(end)
}

/// Why an agent cannot be followed any more. Of an answer that breaks off, the library keeps its own words only, and
/// not that it was the way to the server.
fn broken_off(docker: &Docker, error: EngineError, id: &str) -> Problem {
    match (docker.server(), &error) {
        (Some(server), EngineError::IOError { .. }) => Problem::new(
            Kind::Unavailable,
            "connection_broken",
            format!("the connection to Docker on {server} broke off while the cutover there was followed"),
            "Check the network and the server, then try again.",
        )
        .caused_by(error),
        _ => problem(error, || format!("following the container {id}")),
    }
}

/// Removes an agent, or another container of ours, that has ended. That it is gone already is fine.
///
/// # Errors
/// `agent_running` if it still works.
pub async fn remove(docker: &Docker, id: &str) -> Result<()> {
    match docker.engine().inspect_container(id, None).await {
        Err(error) if crate::docker::is_missing(&error) => return Ok(()),
        Err(error) => return Err(problem(error, || format!("inspecting the container {id}"))),
        Ok(found) if is_running(&found) => {
            return Err(Problem::new(
                Kind::Conflict,
                "agent_running",
                format!("The cutover in the container {} is still under way.", name(&found)),
                format!("Wait for it to end; its log: docker logs --follow {}", name(&found)),
            ));
        }
        Ok(_) => {}
    }
    scratch::remove(docker, id).await
}
