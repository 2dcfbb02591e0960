//! The mover: the data plane in a throw-away container beside the environment.
//!
//! Orders go in on standard input, a line for each, and answers come out as lines; secrets are nowhere
//! else. It lives until its input is closed, which is also what happens when its caller is killed. It
//! parses what strangers wrote, so it gets the rights to own and link files and no others, a root file
//! system that it cannot write, and never Docker's socket.

use std::{io, ops::ControlFlow, pin::Pin, time::Duration};

use bollard::{
    container::{AttachContainerResults, LogOutput},
    errors::Error as EngineError,
    exec::StartExecResults,
    models::{ContainerCreateBody, EndpointSettings, ExecConfig, HostConfig, NetworkConnectRequest},
};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::StreamReader;
use undoo_core::{Kind, Problem, Result};

pub use crate::scratch::{ContainerEnd, last_lines};
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

/// A program beside a mover, in its container, by its standard streams. It ends with the container.
pub struct Beside {
    /// Its standard output.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// A mover that runs and takes one order after another. Its container is removed when this is dropped, if
/// the runtime lives on; better call [`Mover::close`].
pub struct Mover {
    docker: Docker,
    scratch: Scratch,
    memory_limit: Option<u64>,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, EngineError>> + Send>>,
    lines: LineSplitter,
    errors: Tail,
}

impl Mover {
    /// Starts a mover as `spec` says.
    ///
    /// # Errors
    /// Those of the engine; nothing is left then.
    pub async fn start(docker: &Docker, spec: &MoverSpec, binary_volume: &str) -> Result<Self> {
        let scratch = create(docker, spec, binary_volume, Role::Mover).await?;
        let AttachContainerResults { output, input } = scratch.attach().await?;
        scratch.start().await?;
        Ok(Self {
            docker: docker.clone(),
            scratch,
            memory_limit: spec.memory_limit,
            input,
            output,
            lines: LineSplitter::default(),
            errors: Tail::new(Tail::USUAL),
        })
    }

    /// Runs the binary once more in the mover's container, with these arguments.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn beside(&mut self, args: &[&str]) -> Result<Beside> {
        let doing = || format!("starting a program in the container {}", self.scratch.name);
        let words = std::iter::once(&binary::PROGRAM).chain(args);
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(words.map(|word| (*word).to_owned()).collect()),
            ..Default::default()
        };
        let engine = self.docker.engine();
        let exec = engine.create_exec(&self.scratch.id, config).await;
        let exec = exec.map_err(|error| problem(error, doing))?.id;
        let started = engine.start_exec(&exec, None).await.map_err(|error| problem(error, doing))?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(Problem::new(Kind::Internal, "docker_failed", doing(), "please report this"));
        };
        let container = self.scratch.name.clone();
        let output = output.filter_map(move |chunk| {
            let piece = match chunk {
                Ok(LogOutput::StdErr { message }) => {
                    tracing::debug!(container, said = %String::from_utf8_lossy(&message), "beside a mover");
                    None
                }
                Ok(output) => Some(Ok(output.into_bytes())),
                Err(error) => Some(Err(io::Error::other(error))),
            };
            std::future::ready(piece)
        });
        Ok(Beside { output: Box::pin(StreamReader::new(output)), input })
    }

    /// Gives it an order (without a line end in it), and hands each line of its standard output to
    /// `on_line` until that breaks: the line was the answer's last.
    ///
    /// After an error, or when this was dropped before it was ready, the mover takes no further order:
    /// [`Mover::cancel`] it.
    ///
    /// # Errors
    /// Those of the engine, `container_line_too_long`; `mover_out_of_memory` or `mover_died` with the end
    /// of its standard error, when it ended before it had answered.
    pub async fn order(
        &mut self,
        order: &[u8],
        mut on_line: impl FnMut(&str) -> ControlFlow<()> + Send,
    ) -> Result<()> {
        let Self { scratch, input, output, lines, errors, .. } = self;
        let feed = async {
            input.write_all(order).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        let listen = async {
            let mut answered = false;
            while let Some(chunk) = output.next().await {
                hear(scratch, chunk, lines, errors, &mut |line| answered |= on_line(line).is_break())?;
                if answered {
                    return Ok(true);
                }
            }
            lines.finish(&mut |line| answered |= on_line(line).is_break());
            Ok::<_, Problem>(answered)
        };
        // Fed while its answers are read: neither side may wait for the other with a full pipe.
        let mut listen = std::pin::pin!(listen);
        let answered = tokio::select! {
            answered = &mut listen => answered?,
            fed = feed => {
                // A mover that ended before it had read everything says why by its exit code.
                if let Err(error) = fed {
                    tracing::debug!(%error, "the mover did not take its whole order");
                }
                listen.await?
            }
        };
        if answered {
            return Ok(());
        }
        let end = scratch::wait(&self.docker, &self.scratch.id).await?;
        let errors = std::mem::replace(&mut self.errors, Tail::new(Tail::USUAL));
        Err(self.died(&ContainerEnd { output: errors.into_text(), ..end }))
    }

    /// Asks it to end (SIGTERM), whatever it does, with a grace of 20 s. What it still says is handed over.
    /// The container is removed in every case.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn cancel(mut self, mut on_line: impl FnMut(&str) + Send) -> Result<()> {
        let listen = async {
            while let Some(chunk) = self.output.next().await {
                hear(&self.scratch, chunk, &mut self.lines, &mut self.errors, &mut on_line)?;
            }
            self.lines.finish(&mut on_line);
            Ok::<_, Problem>(())
        };
        let (stopped, heard) = tokio::join!(scratch::stop(&self.docker, &self.scratch.id, GRACE), listen);
        self.scratch.remove().await?;
        stopped.and(heard)
    }

    /// Ends and removes a mover that has nothing to do.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn close(mut self) -> Result<()> {
        if let Err(error) = self.input.shutdown().await {
            tracing::debug!(%error, "the mover's input was closed already");
        }
        self.scratch.remove().await
    }

    fn died(&self, end: &ContainerEnd) -> Problem {
        if end.oom_killed {
            return Problem::new(
                Kind::Unavailable,
                "mover_out_of_memory",
                match self.memory_limit {
                    Some(limit) => {
                        format!("The mover was killed because it reached its memory limit of {limit} bytes.")
                    }
                    None => "The mover was killed because the server ran out of memory.".to_owned(),
                },
                "Raise the limit, or free memory on the server; nothing live was touched by this.",
            );
        }
        Problem::new(
            Kind::Unavailable,
            "mover_died",
            format!("the mover ended with {} before its work was done: {}", end.exit_code, end.last_lines()),
            "the live system is untouched; run it again",
        )
    }
}

/// Takes a chunk of what a mover says.
fn hear(
    scratch: &Scratch,
    chunk: Result<LogOutput, EngineError>,
    lines: &mut LineSplitter,
    errors: &mut Tail,
    on_line: &mut dyn FnMut(&str),
) -> Result<()> {
    match chunk.map_err(|error| problem(error, || format!("reading from {}", scratch.name)))? {
        LogOutput::StdOut { message } | LogOutput::Console { message } => lines.push(&message, on_line)?,
        LogOutput::StdErr { message } => errors.push(&message),
        LogOutput::StdIn { .. } => {}
    }
    Ok(())
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

/// Writes an agent's one order and closes.
pub(crate) async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, order: &[u8]) -> std::io::Result<()> {
    input.write_all(order).await?;
    input.shutdown().await
}
