//! The one way to a Docker Engine.
//!
//! Everything in this crate goes through a [`Docker`], so that an engine behind SSH is one more
//! endpoint and nothing else has to know. Errors of the engine become problems here: with the thing that was
//! being done, and the engine's own words in the message, since those name the cause.

mod remote;

use std::path::PathBuf;

use bollard::errors::Error as EngineError;
use undoo_core::{Kind, Problem, Result};
use undoo_storage::{SshAccess, problem_among, problem_of};

use remote::Remote;

/// The socket of an engine that was installed in the usual way.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
/// How long the engine may take to answer one request. Streams are not bound by it once they flow.
const REQUEST_TIMEOUT_SECONDS: u64 = 120;

/// Where an engine listens.
#[derive(Debug, Clone, Default)]
pub enum DockerEndpoint {
    /// The engine of this machine: the socket that `DOCKER_HOST` names, else `/var/run/docker.sock`.
    #[default]
    Local,
    /// The engine behind this socket.
    Socket(PathBuf),
    /// The engine of another server, by SSH.
    Ssh(SshAccess),
}

/// The socket of this machine's engine.
fn local_socket(docker_host: Option<&str>) -> Result<PathBuf> {
    match docker_host {
            None | Some("") => Ok(PathBuf::from(USUAL_SOCKET)),
            Some(host) => host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| {
                Problem::new(
                    Kind::Invalid,
                    "docker_host_unsupported",
                    format!("DOCKER_HOST is {host:?}, which is not a socket of this machine."),
                    "Set DOCKER_HOST to unix:///path/of/the/socket, or unset it; another server is named by --server.",
                )
            }),
        }
}

/// The machine that an engine runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its kind of processor, such as `x86_64`.
    pub architecture: String,
    /// How many processors it has.
    pub processors: usize,
}

/// A Docker Engine that has answered once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Docker {
    engine: bollard::Docker,
    /// As a path on the engine's own host.
    socket: PathBuf,
    /// The engine's server, where that is another than this machine.
    remote: Option<Remote>,
    /// Its address.
    server: Option<String>,
}

impl Docker {
    /// Connects, and settles on the newest API version that both sides speak.
    ///
    /// # Errors
    /// `docker_unavailable` where nobody answers, `docker_denied` where the socket may not be opened. By SSH also
    /// those of [`undoo_storage::ssh::Connection::open`], and `docker_missing` where the server has no Docker.
    pub async fn connect(endpoint: DockerEndpoint) -> Result<Self> {
        match endpoint {
            DockerEndpoint::Local => {
                Self::connect_here(local_socket(std::env::var("DOCKER_HOST").ok().as_deref())?).await
            }
            DockerEndpoint::Socket(path) => Self::connect_here(path).await,
            DockerEndpoint::Ssh(access) => Self::connect_by(Remote::new(access)).await,
        }
    }

    async fn connect_by(remote: Remote) -> Result<Self> {
        // Apart from a request, so that what stands in the way is told in its own words.
        drop(remote.dial().await?);
        let (server, socket, carrier) = (remote.address(), remote.socket(), remote.clone());
        let transport = move |request| carrier.clone().request(request);
        // The address is the library's only: requests go through the connection.
        let engine = bollard::Docker::connect_with_custom_transport(
            transport,
            Some("http://docker"),
            REQUEST_TIMEOUT_SECONDS,
            bollard::API_DEFAULT_VERSION,
        );
        let engine =
            engine.map_err(|error| problem(error, || format!("connecting to Docker on {server}")))?;
        let engine = engine
            .negotiate_version()
            .await
            .map_err(|error| problem(error, || format!("asking Docker on {server} for its version")))?;
        Ok(Self { engine, socket, remote: Some(remote), server: Some(server) })
    }

    async fn connect_here(socket: PathBuf) -> Result<Self> {
        let shown = socket.display().to_string();
        // Tried apart from the library's own attempt because only here the reason is still an I/O error.
        if let Err(error) = tokio::net::UnixStream::connect(&socket).await {
            return Err(match error.kind() {
                std::io::ErrorKind::PermissionDenied => Problem::new(
                    Kind::Denied,
                    "docker_denied",
                    format!("This user may not open Docker's socket {shown}."),
                    "Run as root, or add this user to the group that owns the socket (usually \"docker\").",
                ),
                _ => Problem::new(
                    Kind::Unavailable,
                    "docker_unavailable",
                    format!("No Docker Engine answers at {shown}: {error}."),
                    "Start Docker, or set DOCKER_HOST to the socket of the engine that runs Odoo.",
                ),
            }
            .caused_by(error));
        }
        let engine =
            bollard::Docker::connect_with_unix(&shown, REQUEST_TIMEOUT_SECONDS, bollard::API_DEFAULT_VERSION)
                .map_err(|error| problem(error, || format!("connecting to Docker at {shown}")))?
                .negotiate_version()
                .await
                .map_err(|error| problem(error, || format!("asking Docker at {shown} for its version")))?;
        Ok(Self { engine, socket, remote: None, server: None })
    }

    /// Whether the engine is on another machine: its directories are not this machine's, nor are its addresses.
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The address of the engine's server, without secrets; `None` for this machine.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// What a command on another server says that succeeds there; `None` where it fails, where the server runs none,
    /// and on this machine. A server need not run any, so nothing may depend on one.
    pub(crate) async fn ask_server(&self, command: &str) -> Option<String> {
        match self.remote.as_ref()?.run(command).await {
            Ok(output) if output.ending.exit_status == Some(0) => {
                Some(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(output) => {
                tracing::debug!(command, said = output.ending.stderr, "the command failed on the server");
                None
            }
            Err(problem) => {
                tracing::debug!(command, %problem, "the server did not run the command");
                None
            }
        }
    }

    /// What the engine says of its machine.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn machine(&self) -> Result<Machine> {
        let info = self.engine.info().await;
        let info = info.map_err(|error| problem(error, || "asking for its machine".into()))?;
        Ok(Machine {
            architecture: info.architecture.unwrap_or_default(),
            processors: info.ncpu.and_then(|count| usize::try_from(count).ok()).unwrap_or(1).max(1),
        })
    }

    /// The client underneath, for what this crate has no words for.
    pub fn engine(&self) -> &bollard::Docker {
        &self.engine
    }

    /// The client with more patience than usual, for requests that wait on a container.
    pub(crate) fn engine_patient(&self, extra: std::time::Duration) -> bollard::Docker {
        self.engine
            .clone()
            .with_timeout(std::time::Duration::from_secs(REQUEST_TIMEOUT_SECONDS).saturating_add(extra))
    }

    /// The engine's socket as a path on the engine's own host.
    pub fn socket_on_host(&self) -> &std::path::Path {
        &self.socket
    }
}

/// Turns an engine's error into a problem that says what was being done.
pub(crate) fn problem(error: EngineError, doing: impl FnOnce() -> String) -> Problem {
    let error = match error {
        // Why the engine's server could not be reached says more than what it was reached for.
        EngineError::IOError { err } => match problem_of(err) {
            Ok(problem) => return problem,
            Err(err) => EngineError::IOError { err },
        },
        error => match problem_among(&error) {
            Some(found) => {
                let found = Problem::new(found.kind, found.code, found.message.clone(), found.remedy.clone());
                return found.caused_by(error);
            }
            None => error,
        },
    };
    let doing = doing();
    let (kind, code, cause, remedy) = match &error {
        EngineError::DockerResponseServerError { status_code, message } => {
            let message = message.trim().trim_end_matches('.').to_owned();
            match status_code {
                404 => (
                    Kind::Missing,
                    "docker_not_found",
                    message,
                    "Check the name with \"docker ps --all\"; it may have been removed or renamed meanwhile.",
                ),
                401 | 403 => (
                    Kind::Denied,
                    "docker_denied",
                    message,
                    "Check what this user may do with this Docker Engine.",
                ),
                409 => (
                    Kind::Conflict,
                    "docker_conflict",
                    message,
                    "Another program works on the same thing, or an earlier run left it; try again, and see \"docker ps --all\".",
                ),
                400..=499 => (Kind::Invalid, "docker_refused", message, ""),
                _ => (
                    Kind::Unavailable,
                    "docker_failed",
                    message,
                    "Read the engine's log (\"journalctl --unit docker\") and try again.",
                ),
            }
        }
        EngineError::RequestTimeoutError => (
            Kind::Unavailable,
            "docker_timeout",
            "it did not answer in time".to_owned(),
            "Check the load and the disk of the server, then try again.",
        ),
        other => (
            Kind::Unavailable,
            "docker_connection",
            other.to_string(),
            "Check that the Docker Engine runs (\"docker version\"), then try again.",
        ),
    };
    Problem::new(kind, code, format!("Docker failed at {doing}: {cause}."), remedy).caused_by(error)
}

/// Whether the engine said that the thing is not there, which is success for whoever wants it gone.
pub(crate) fn is_missing(error: &EngineError) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine said that there is nothing to change (started already, stopped already).
pub(crate) fn is_unchanged(error: &EngineError) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code: 304, .. })
}

/// Whether a removal of the same thing is under way.
pub(crate) fn is_being_removed(error: &EngineError) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code: 409, message }
        if message.contains("already in progress"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_names_a_socket_or_is_refused() {
        let socket = |host| local_socket(host).map(|path| path.display().to_string());
        assert_eq!(socket(None).unwrap(), USUAL_SOCKET);
        assert_eq!(socket(Some("unix:///run/user/1000/docker.sock")).unwrap(), "/run/user/1000/docker.sock");
        assert_eq!(socket(Some("tcp://10.0.0.1:2375")).unwrap_err().code, "docker_host_unsupported");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_a_problem_that_names_it() {
        let endpoint = DockerEndpoint::Socket("/nonexistent/docker.sock".into());
        let problem = Docker::connect(endpoint).await.unwrap_err();
        assert_eq!(problem.code, "docker_unavailable");
        assert!(problem.message.contains("/nonexistent/docker.sock"), "{}", problem.message);
    }
}
