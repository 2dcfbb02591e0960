//! The mover: the data plane in a throw-away container beside the environment.
//!
//! Its order goes in on standard input and its answers come out as lines; secrets are nowhere else. It
//! parses what strangers wrote, so it gets the rights to own and link files and no others, a root file
//! system that it cannot write, and never Docker's socket.

use std::{pin::Pin, time::Duration};

use bollard::{
    container::{AttachContainerResults, LogOutput},
    models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkConnectRequest},
};
use futures_util::StreamExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem, Result};

pub use crate::scratch::ContainerEnd;
use crate::{
    binary,
    docker::{Docker, problem},
    labels::{Labels, Role},
    lines::{LineSplitter, Tail},
    scratch::{self, Cover, Scratch},
    target::inspect,
};

/// What a mover does to files: give them their owner, and link and replace those of others.
const CAPABILITIES: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];
/// How long a cancelled mover may take to put its things in order before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// A directory or file of the Docker host in one of our containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the Docker host. It must exist.
    pub source: String,
    /// Path inside.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// How to run the binary in a container.
#[derive(Debug, Clone)]
pub struct MoverSpec {
    /// The image: the database container's, else Odoo's. Its own program is not run.
    pub image: String,
    /// The networks to be in, by name; none: no network at all.
    pub networks: Vec<String>,
    /// The container whose mounts it gets, at the same paths with the same rights; Docker's socket is
    /// hidden if it is among them.
    pub volumes_from: Option<String>,
    /// Further mounts.
    pub binds: Vec<Bind>,
    /// Whose work this is.
    pub labels: Labels,
    /// Memory limit in bytes (no swap on top).
    pub memory_limit: Option<u64>,
    /// Limit of processor time, in processors.
    pub cpu_limit: Option<f64>,
    /// Arguments for the binary, such as `["mover"]`. Never secrets.
    pub args: Vec<String>,
    /// Lines for `/etc/hosts`, as `name:address`.
    pub extra_hosts: Vec<String>,
}

impl MoverSpec {
    /// A mover of this image without network, mounts or limits.
    pub fn new(image: impl Into<String>, args: &[&str], labels: Labels) -> Self {
        Self {
            image: image.into(),
            networks: Vec::new(),
            volumes_from: None,
            binds: Vec::new(),
            labels,
            memory_limit: None,
            cpu_limit: None,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            extra_hosts: Vec::new(),
        }
    }
}

/// Runs a mover to its end: gives it `order`, hands each line of its standard output to `on_line`.
///
/// The answer holds the exit code, whatever it is, and the last 64 KiB of standard error. When `cancel`
/// fires, the mover gets SIGTERM and a grace of 20 s, its last lines are still handed over, and the
/// answer is the problem `cancelled`. The container is removed in every case.
///
/// # Errors
/// Those of the engine, `container_line_too_long`, `mover_out_of_memory`, `cancelled`.
pub async fn run(
    docker: &Docker,
    spec: &MoverSpec,
    binary_volume: &str,
    order: &[u8],
    mut on_line: impl FnMut(&str) + Send,
    cancel: &CancellationToken,
) -> Result<ContainerEnd> {
    let scratch = create(docker, spec, binary_volume, Role::Mover).await?;
    let end = converse(docker, &scratch, order, &mut on_line, cancel).await;
    let removed = scratch.remove().await;
    let end = end?;
    removed?;
    if cancel.is_cancelled() {
        return Err(Problem::new(Kind::Cancelled, "cancelled", "The work was cancelled.", ""));
    }
    if end.oom_killed {
        return Err(Problem::new(
            Kind::Unavailable,
            "mover_out_of_memory",
            match spec.memory_limit {
                Some(limit) => {
                    format!("The mover was killed because it reached its memory limit of {limit} bytes.")
                }
                None => "The mover was killed because the server ran out of memory.".to_owned(),
            },
            "Raise the limit, or free memory on the server; nothing live was touched by this.",
        ));
    }
    Ok(end)
}

/// Creates (does not start) a container that runs the binary.
pub(crate) async fn create(
    docker: &Docker,
    spec: &MoverSpec,
    binary_volume: &str,
    role: Role,
) -> Result<Scratch> {
    let mut mounted: Vec<String> = spec.binds.iter().map(|bind| bind.target.clone()).collect();
    let mut hidden = Vec::new();
    if let Some(other) = &spec.volumes_from {
        for mount in inspect(docker, other).await?.mounts.into_iter().flatten() {
            let Some(destination) = mount.destination else { continue };
            let is_socket = mount.source.is_some_and(|source| source.ends_with("docker.sock"));
            if is_socket && !mounted.contains(&destination) {
                hidden.push(Bind {
                    source: "/dev/null".into(),
                    target: destination.clone(),
                    read_only: true,
                });
            }
            mounted.push(destination);
        }
    }
    let mut mounts = scratch::cover_image_volumes(docker, &spec.image, &mounted, Cover::ReadOnly).await?;
    mounts.push(binary::mount(binary_volume, true));
    mounts.extend(spec.binds.iter().chain(&hidden).map(scratch::bind));
    let (first, others) = match spec.networks.split_first() {
        Some((first, others)) => (first.clone(), others),
        None => ("none".to_owned(), Default::default()),
    };
    let memory = spec.memory_limit.and_then(|limit| i64::try_from(limit).ok());
    let body = ContainerCreateBody {
        image: Some(spec.image.clone()),
        user: Some("0:0".into()),
        working_dir: Some("/".into()),
        entrypoint: Some(vec![binary::PROGRAM.into()]),
        cmd: Some(spec.args.clone()),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(spec.labels.to_map(role)),
        // The image's own would be another one: PostgreSQL's is SIGINT.
        stop_signal: Some("SIGTERM".into()),
        // The image's health check belongs to the program that is not run.
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            readonly_rootfs: Some(true),
            network_mode: Some(first),
            mounts: Some(mounts),
            volumes_from: spec.volumes_from.clone().map(|other| vec![other]),
            extra_hosts: Some(spec.extra_hosts.clone()),
            memory,
            memory_swap: memory,
            // When processors are short, what is live comes first: Docker's usual weight is 1024. An agent
            // works while nothing is live, and gets what there is.
            cpu_shares: (role == Role::Mover).then_some(256),
            // Docker counts processors in units of 10⁻⁹.
            nano_cpus: spec.cpu_limit.map(|cpus| (cpus.clamp(0.01, 1024.0) * 1e9) as i64),
            ..scratch::hardened()
        }),
        ..Default::default()
    };
    let scratch = Scratch::create(docker, role.as_str(), body).await?;
    for network in others {
        connect(docker, network, &scratch.id, &[]).await?;
    }
    Ok(scratch)
}

/// Puts a container into one more network, under these further names.
pub(crate) async fn connect(docker: &Docker, network: &str, container: &str, aliases: &[&str]) -> Result<()> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: Some(EndpointSettings {
            aliases: Some(aliases.iter().map(|alias| (*alias).to_owned()).collect()),
            ..Default::default()
        }),
    };
    docker
        .engine()
        .connect_network(network, request)
        .await
        .map_err(|error| problem(error, || format!("connecting {container} to the network {network}")))
}

async fn converse(
    docker: &Docker,
    scratch: &Scratch,
    order: &[u8],
    on_line: &mut (dyn FnMut(&str) + Send),
    cancel: &CancellationToken,
) -> Result<ContainerEnd> {
    let AttachContainerResults { mut output, input } = scratch.attach().await?;
    scratch.start().await?;
    let over = CancellationToken::new();
    // Fed while its answers are read: neither side may wait for the other with a full pipe.
    let feed = async {
        tokio::select! {
            // A mover that ended before it had read everything says why by its exit code.
            fed = feed(input, order) => if let Err(error) = fed {
                tracing::debug!(%error, "the mover did not take its whole order");
            },
            () = over.cancelled() => {}
        }
    };
    let listen = async {
        let _guard = over.clone().drop_guard();
        let mut lines = LineSplitter::default();
        let mut errors = Tail::new(Tail::USUAL);
        while let Some(chunk) = output.next().await {
            match chunk.map_err(|error| problem(error, || format!("reading from {}", scratch.name)))? {
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    lines.push(&message, &mut |line| on_line(line))?;
                }
                LogOutput::StdErr { message } => errors.push(&message),
                LogOutput::StdIn { .. } => {}
            }
        }
        lines.finish(&mut |line| on_line(line));
        Ok(errors)
    };
    let watch = async {
        tokio::select! {
            () = cancel.cancelled() => scratch::stop(docker, &scratch.id, GRACE).await,
            () = over.cancelled() => Ok(()),
        }
    };
    let ((), heard, watched) = tokio::join!(feed, listen, watch);
    let errors: Tail = heard?;
    watched?;
    let mut end = scratch::wait(docker, &scratch.id).await?;
    end.output = errors.into_text();
    Ok(end)
}

/// Writes the order and closes.
pub(crate) async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, order: &[u8]) -> std::io::Result<()> {
    input.write_all(order).await?;
    input.shutdown().await
}
