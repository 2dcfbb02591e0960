//! A Docker Engine on another server, which nothing but SSH reaches.
//!
//! Each request has a channel of its own in one connection: to the engine's socket, or, where the server
//! forwards no sockets, to Docker's own program for this. A connection that broke is made anew for the next
//! request. What a request asked for is never asked for twice: whether it was done, only whoever asked can
//! look.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bollard::{BollardRequest, errors::Error as EngineError};
use http::{HeaderValue, Response, Uri, header::HOST};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use undoo_core::{Kind, Problem, Result};
use undoo_storage::{
    Options, SshAccess,
    ssh::{CHANNEL_REFUSED, Connection, Output, Stream},
};

use super::USUAL_SOCKET;

/// Carries one connection to the engine on standard input and output.
const DIAL: &str = "docker system dial-stdio";
/// Asks the server's own Docker program for the engine's version and address. Its other exit codes are below.
const LOOK: &str = r#"sh -c 'docker version --format "{{.Server.Version}}" && docker context inspect --format "{{.Endpoints.docker.Host}}" && exit 0; if test -S /var/run/docker.sock; then test -w /var/run/docker.sock || exit 42; elif ! command -v docker >/dev/null; then exit 41; fi; command -v docker >/dev/null && exit 43; exit 44'"#;
/// There is neither a socket nor the program.
const MISSING: u32 = 41;
/// The user may not open the socket.
const DENIED: u32 = 42;
/// The program says why not.
const SAID: u32 = 43;
/// There is a socket, and no program that could say more.
const UNSAID: u32 = 44;
/// A version, an address, or what a shell says instead.
const ANSWER_LIMIT: u64 = 16 * 1024;

/// The way to an engine behind SSH. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    access: SshAccess,
    connection: tokio::sync::Mutex<Option<Connection>>,
    way: Mutex<Option<Way>>,
}

/// How requests go from the connection to the engine.
#[derive(Clone)]
enum Way {
    /// By a channel to this socket.
    Socket(PathBuf),
    /// By [`DIAL`], which uses this socket.
    Program(PathBuf),
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Remote").field(&self.address()).finish()
    }
}

impl Remote {
    pub(super) fn new(access: SshAccess) -> Self {
        Self(Arc::new(Inner { access, connection: tokio::sync::Mutex::default(), way: Mutex::default() }))
    }

    /// The server's address, without secrets.
    pub(super) fn address(&self) -> String {
        self.0.access.to_string()
    }

    /// The engine's socket there, as far as is known.
    pub(super) fn socket(&self) -> PathBuf {
        match self.way() {
            Some(Way::Socket(path) | Way::Program(path)) => path,
            None => PathBuf::from(USUAL_SOCKET),
        }
    }

    /// Sends a request and gives the head of its answer.
    pub(super) async fn request(self, request: BollardRequest) -> Result<Response<Incoming>, EngineError> {
        let stream = self.dial().await.map_err(carried)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a request's connection to Docker ended");
            }
        });
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>()?;
        head.headers.insert(HOST, HeaderValue::from_static("docker"));
        match sender.send_request(BollardRequest::from_parts(head, body)).await {
            Ok(answer) => Ok(answer),
            // A program that cannot reach the engine ends, and says why to whoever looks.
            Err(error) if matches!(self.way(), Some(Way::Program(_))) => match self.connection().await {
                Ok(connection) => {
                    Err(self.look(&connection).await.err().map_or(EngineError::from(error), carried))
                }
                Err(problem) => Err(carried(problem)),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A stream to the engine.
    pub(super) async fn dial(&self) -> Result<Stream> {
        let connection = self.connection().await?;
        match self.dial_through(&connection).await {
            // Nothing has been asked of the engine yet. A refusal may be of one stream too many.
            Err(lost) if is_lost(&lost) || lost.code == CHANNEL_REFUSED => {
                self.let_go(&connection).await;
                let connection = self.connection().await?;
                self.dial_through(&connection).await
            }
            dialled => dialled,
        }
    }

    async fn dial_through(&self, connection: &Connection) -> Result<Stream> {
        let way = self.way();
        let socket = match &way {
            Some(Way::Program(_)) => return connection.command(DIAL).await,
            Some(Way::Socket(path)) => path.clone(),
            None => PathBuf::from(USUAL_SOCKET),
        };
        match to_socket(connection, &socket).await {
            Err(refused) if refused.code == CHANNEL_REFUSED => {}
            opened => {
                let stream = opened?;
                self.settle(Way::Socket(socket));
                return Ok(stream);
            }
        }
        let found = self.look(connection).await?;
        // That of a user's own engine lies elsewhere.
        if found != socket
            && let Ok(stream) = to_socket(connection, &found).await
        {
            self.settle(Way::Socket(found));
            return Ok(stream);
        }
        let stream = connection.command(DIAL).await?;
        // What was forwarded before will be again, when the engine is back.
        if way.is_none() {
            self.settle(Way::Program(found));
        }
        Ok(stream)
    }

    /// Asks the server itself why its engine's socket is out of reach. Where it is only for us, the answer is
    /// the socket's path.
    async fn look(&self, connection: &Connection) -> Result<PathBuf> {
        let output = connection.run(LOOK, ANSWER_LIMIT).await?;
        let server = self.address();
        let said = output.ending.stderr.trim().trim_end_matches('.').to_owned();
        let unavailable = |why: &str, remedy: &str| {
            Problem::new(
                Kind::Unavailable,
                "docker_unavailable",
                format!("No Docker Engine answers on {server}: {why}."),
                remedy,
            )
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut answers = stdout.lines().map(str::trim);
        match (output.ending.exit_status, answers.next()) {
            (Some(0), Some(version)) if !version.is_empty() => {
                let socket = answers.next().and_then(|host| host.strip_prefix("unix://"));
                Ok(PathBuf::from(socket.unwrap_or(USUAL_SOCKET)))
            }
            (Some(MISSING), _) => Err(Problem::new(
                Kind::Missing,
                "docker_missing",
                format!("There is no Docker on {server}: neither its socket nor its program."),
                "Install Docker Engine there, or check that this is the server you mean.",
            )),
            (Some(DENIED), _) => Err(self.denied()),
            (Some(SAID), _) if said.to_lowercase().contains("permission denied") => Err(self.denied()),
            (Some(SAID), _) => Err(unavailable(&said, "Start Docker there (\"systemctl start docker\").")),
            (Some(UNSAID), _) => Err(unavailable(
                "its socket takes no connections, or the server forwards none",
                "Start Docker there; if it runs, set AllowStreamLocalForwarding yes in sshd_config, or install \
                 the docker program.",
            )),
            (status, _) => Err(Problem::new(
                Kind::Denied,
                CHANNEL_REFUSED,
                format!(
                    "The server {server} forwards no sockets, and does not run commands as they are sent \
                     ({}).",
                    status.map_or_else(
                        || "no exit status".to_owned(),
                        |status| format!("exit status {status}")
                    )
                ),
                "Allow one of them: AllowStreamLocalForwarding yes, or no ForceCommand, in its sshd_config.",
            )),
        }
    }

    fn denied(&self) -> Problem {
        let (server, user) = (self.address(), &self.0.access.user);
        Problem::new(
            Kind::Denied,
            "docker_denied",
            format!("The user {user} may not open Docker's socket on {server}."),
            format!(
                "Add the user to the group that owns the socket (\"usermod --append --groups docker {user}\")."
            ),
        )
    }

    /// Runs a short command on the server itself.
    pub(super) async fn run(&self, command: &str) -> Result<Output> {
        self.connection().await?.run(command, ANSWER_LIMIT).await
    }

    /// The connection, made if there is none.
    async fn connection(&self) -> Result<Connection> {
        let mut kept = self.0.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let made = Connection::open(&self.0.access, &Options::default()).await?;
        *kept = Some(made.clone());
        Ok(made)
    }

    /// The next request makes another; what goes through this one goes on.
    async fn let_go(&self, connection: &Connection) {
        let mut kept = self.0.connection.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.is_same(connection)) {
            *kept = None;
        }
    }

    fn way(&self) -> Option<Way> {
        self.0.way.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn settle(&self, way: Way) {
        *self.0.way.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
    }
}

async fn to_socket(connection: &Connection, path: &Path) -> Result<Stream> {
    connection.unix_stream(&path.display().to_string()).await
}

fn is_lost(problem: &Problem) -> bool {
    matches!(problem.code, "connection_broken" | "server_timed_out")
}

/// A problem in the library's own error, out of which it is taken again.
fn carried(problem: Problem) -> EngineError {
    EngineError::IOError { err: io::Error::other(problem) }
}

#[cfg(test)]
mod tests;
