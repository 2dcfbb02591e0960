//! The one way to a Docker Engine.
//!
//! Everything in this crate goes through a [`Docker`], so that an engine behind SSH is one more
//! endpoint and nothing else changes. Errors of the engine become problems here: with the thing that was
//! being done, and the engine's own words in the message, since those name the cause.

use std::path::PathBuf;

use bollard::errors::Error as EngineError;
use undoo_core::{Kind, Problem, Result};

/// The socket of an engine that was installed in the usual way.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
/// How long the engine may take to answer one request. Streams are not bound by it once they flow.
const REQUEST_TIMEOUT_SECONDS: u64 = 120;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DockerEndpoint {
    /// The engine of this machine: the socket that `DOCKER_HOST` names, else `/var/run/docker.sock`.
    #[default]
    Local,
    /// The engine behind this socket.
    Socket(PathBuf),
}

impl DockerEndpoint {
    fn socket(&self) -> Result<PathBuf> {
        match self {
            Self::Socket(path) => Ok(path.clone()),
            Self::Local => match std::env::var("DOCKER_HOST") {
                Err(_) => Ok(PathBuf::from(USUAL_SOCKET)),
                Ok(host) if host.is_empty() => Ok(PathBuf::from(USUAL_SOCKET)),
                Ok(host) => host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| {
                    Problem::new(
                        Kind::Invalid,
                        "docker_host_unsupported",
                        format!("DOCKER_HOST is {host:?}, which is not a socket of this machine."),
                        "Set DOCKER_HOST to unix:///path/of/the/socket, or unset it.",
                    )
                }),
            },
        }
    }
}

/// A Docker Engine that has answered once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Docker {
    engine: bollard::Docker,
    socket: PathBuf,
}

impl Docker {
    /// Connects, and settles on the newest API version that both sides speak.
    ///
    /// # Errors
    /// `docker_unavailable` where nobody answers, `docker_denied` where the socket may not be opened.
    pub async fn connect(endpoint: DockerEndpoint) -> Result<Self> {
        let socket = endpoint.socket()?;
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
        Ok(Self { engine, socket })
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
