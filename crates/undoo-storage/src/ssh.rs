//! One authenticated connection to an SSH server, and what goes through it.
//!
//! Nothing is said to a server whose host key nobody confirmed: neither a user's name nor a password. What it
//! asks for after that is answered only with what was given: no agent, no file of this machine's user.

mod stream;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    Channel, ChannelMsg,
    client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse, Msg},
    keys::{
        HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key,
        parse_public_key_base64,
    },
};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use undoo_core::{Kind, Problem, Result};

pub use self::stream::{Ending, Stream};
use crate::{
    access::{SshAccess, show_server},
    fault::{Cause, Fault, HostKey, chain, problem_of},
    options::Options,
    tcp,
};

/// A server that says nothing for so long is asked whether it is still there,
const KEEPALIVE: Duration = Duration::from_secs(15);
/// and after so many questions without an answer the connection counts as broken.
const KEEPALIVES: usize = 3;

/// Code of the problem with which a server refuses what was to go through a connection; it may take another.
pub const CHANNEL_REFUSED: &str = "ssh_channel_refused";

/// A connection that somebody is logged in on.
pub(crate) struct Ssh {
    handle: Handle<Seal>,
    patience: Duration,
}

/// Compares the server's key with the one that is pinned.
struct Seal {
    pinned: Option<String>,
    found: Arc<Mutex<Option<HostKey>>>,
}

impl client::Handler for Seal {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone(),
            PublicKeyOrCertificate::Certificate(certificate) => {
                PublicKey::from(certificate.public_key().clone())
            }
        };
        let found = HostKey {
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            algorithm: key.algorithm().to_string(),
        };
        let right = self.pinned.as_deref().is_some_and(|pinned| is_same(pinned, &found));
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(right)
    }
}

/// `pinned` is a fingerprint, or a line of `known_hosts` or of a `.pub` file.
fn is_same(pinned: &str, found: &HostKey) -> bool {
    if pinned.trim() == found.fingerprint {
        return true;
    }
    let key = pinned.split_whitespace().find(|word| word.starts_with("AAAA"));
    let key = key.and_then(|key| parse_public_key_base64(key).ok());
    key.is_some_and(|key| key.fingerprint(HashAlg::Sha256).to_string() == found.fingerprint)
}

impl Ssh {
    pub(crate) async fn connect(access: &SshAccess, options: &Options) -> Result<Self, Fault> {
        let patience = options.stall_timeout;
        let stream = tcp::connect(&access.host, access.port.unwrap_or(22), options).await?;
        let found = Arc::new(Mutex::new(None));
        let seal = Seal { pinned: access.host_key.clone(), found: Arc::clone(&found) };
        let config = client::Config {
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: KEEPALIVES,
            ..client::Config::default()
        };
        let connecting = client::connect_stream(Arc::new(config), stream, seal);
        let connected = within(patience, async { connecting.await.map_err(from_russh) }).await;
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut handle = match (connected, found, &access.host_key) {
            (Ok(handle), _, _) => handle,
            (Err(Fault { cause: Cause::HostKeyUnknown(_), .. }), Some(found), Some(pinned)) => {
                return Err(Cause::HostKeyChanged { pinned: pinned.trim().to_owned(), found }.into());
            }
            (Err(Fault { cause: Cause::HostKeyUnknown(_), .. }), Some(found), None) => {
                return Err(Cause::HostKeyUnknown(found).into());
            }
            (Err(fault), _, _) => return Err(fault),
        };
        within(patience, log_in(&mut handle, access)).await?;
        Ok(Self { handle, patience })
    }

    pub(crate) async fn session(&self) -> Result<Channel<Msg>, Fault> {
        within(self.patience, async { self.handle.channel_open_session().await.map_err(from_russh) }).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }
}

async fn log_in(handle: &mut Handle<Seal>, access: &SshAccess) -> Result<(), Fault> {
    let user = &access.user;
    if let Some(key) = &access.private_key {
        let passphrase = access.passphrase.as_ref().map(ExposeSecret::expose_secret);
        let key = decode_secret_key(key.expose_secret(), passphrase)
            .map_err(|error| Fault { detail: error.to_string(), ..Cause::KeyUnreadable.into() })?;
        let hash = match key.algorithm().is_rsa() {
            true => handle.best_supported_rsa_hash().await.map_err(from_russh)?.flatten(),
            false => None,
        };
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = handle.authenticate_publickey(user, key).await.map_err(from_russh)?;
        if matches!(answer, AuthResult::Success) {
            return Ok(());
        }
    }
    if let Some(password) = &access.password {
        let password = password.expose_secret();
        let answer = handle.authenticate_password(user, password).await.map_err(from_russh)?;
        if matches!(answer, AuthResult::Success) {
            return Ok(());
        }
        // Some servers take passwords only as answers to a question.
        let mut answer =
            handle.authenticate_keyboard_interactive_start(user, None).await.map_err(from_russh)?;
        for _ in 0..3 {
            let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = &answer else { break };
            let answers = prompts.iter().map(|_| password.to_owned()).collect();
            answer = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(from_russh)?;
        }
        if matches!(answer, KeyboardInteractiveAuthResponse::Success) {
            return Ok(());
        }
    }
    Err(Cause::WrongLogin { user: user.clone() }.into())
}

pub(crate) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Cause::TimedOut.into()))
}

pub(crate) fn from_russh(error: russh::Error) -> Fault {
    let cause = match &error {
        // Which key it was, the caller knows.
        russh::Error::UnknownKey => {
            Cause::HostKeyUnknown(HostKey { fingerprint: String::new(), algorithm: String::new() })
        }
        russh::Error::NoCommonAlgo { .. } => {
            Cause::Unexpected { what: "the server and this program have no common way to encrypt".to_owned() }
        }
        russh::Error::IO(error) => return tcp::from_io(error),
        _ => Cause::Broken,
    };
    Fault { detail: chain(&error), ..cause.into() }
}

/// A connection to a server. Many streams go through one, side by side; it ends when it and they are
/// dropped.
#[derive(Clone)]
pub struct Connection {
    ssh: Arc<Ssh>,
    /// For the words of problems.
    server: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.server).finish()
    }
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// Its exit status and the rest of its words.
    pub ending: Ending,
}

impl Connection {
    /// Connects and logs in. `options` say how patiently, and which addresses may be connected to.
    ///
    /// # Errors
    /// `host_key_unknown` and `host_key_changed` (see [`crate::host_key_in`]), `wrong_login`,
    /// `private_key_unreadable`, `name_not_resolved`, `connection_refused`, `server_unreachable`,
    /// `server_timed_out`, `connection_broken`, `server_host_refused`, `server_unexpected`.
    pub async fn open(access: &SshAccess, options: &Options) -> Result<Self> {
        let server = access.to_string();
        match Ssh::connect(access, options).await {
            Ok(ssh) => Ok(Self { ssh: Arc::new(ssh), server }),
            Err(fault) => Err(problem(fault, &server)),
        }
    }

    /// Whether it has ended or broke, as far as anybody has noticed.
    pub fn is_closed(&self) -> bool {
        self.ssh.is_closed()
    }

    /// Whether both are one and the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ssh, &other.ssh)
    }

    /// A stream to a socket of the server's file system, by its absolute path.
    ///
    /// # Errors
    /// [`CHANNEL_REFUSED`] where the server has no such socket, nobody listens there, the user may not open
    /// it, or the server forwards nothing: it does not say which. `connection_broken`, `server_timed_out`.
    pub async fn unix_stream(&self, path: &str) -> Result<Stream> {
        let (this, path) = (self.clone(), path.to_owned());
        self.opened(async move {
            let channel = match this.ssh.handle.channel_open_direct_streamlocal(path.as_str()).await {
                Err(russh::Error::ChannelOpenFailure(_)) => {
                    return Err(this.refused(&format!("a connection to its socket {path}")));
                }
                opened => opened.map_err(|error| problem(from_russh(error), &this.server))?,
            };
            Ok(Stream::new(channel, Arc::clone(&this.ssh), &this.server))
        })
        .await
    }

    /// Starts a command by the user's shell; the stream is its standard input and output.
    ///
    /// # Errors
    /// [`CHANNEL_REFUSED`] where the server runs no commands, or none more on this connection;
    /// `connection_broken`, `server_timed_out`.
    pub async fn command(&self, line: &str) -> Result<Stream> {
        let (this, line) = (self.clone(), line.to_owned());
        self.opened(async move {
            let refused = || this.refused("to run commands");
            let broken = |error| problem(from_russh(error), &this.server);
            let mut channel = match this.ssh.handle.channel_open_session().await {
                Err(russh::Error::ChannelOpenFailure(_)) => return Err(refused()),
                opened => opened.map_err(broken)?,
            };
            channel.exec(true, line).await.map_err(broken)?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => {
                        return Ok(Stream::new(channel, Arc::clone(&this.ssh), &this.server));
                    }
                    Some(ChannelMsg::Failure | ChannelMsg::Close) => return Err(refused()),
                    Some(_) => {}
                    None => return Err(problem(Cause::Broken.into(), &this.server)),
                }
            }
        })
        .await
    }

    /// Runs a command without input to its end; at most `limit` bytes of its output are kept.
    ///
    /// # Errors
    /// As [`Connection::command`]. A command that fails is none.
    pub async fn run(&self, line: &str, limit: u64) -> Result<Output> {
        let running = async {
            let mut stream = self.command(line).await?;
            let broken = |error: std::io::Error| {
                problem_of(error).unwrap_or_else(|error| problem(tcp::from_io(&error), &self.server))
            };
            stream.shutdown().await.map_err(broken)?;
            let mut stdout = Vec::new();
            (&mut stream).take(limit).read_to_end(&mut stdout).await.map_err(broken)?;
            let ending = stream.ending().await.map_err(broken)?;
            Ok(Output { stdout, ending })
        };
        let timed_out = |_| Err(problem(Cause::TimedOut.into(), &self.server));
        tokio::time::timeout(self.ssh.patience, running).await.unwrap_or_else(timed_out)
    }

    /// Opens a stream. When nobody waits for it any more it is closed as soon as it is open: a request to
    /// open one cannot be taken back.
    async fn opened(&self, opening: impl Future<Output = Result<Stream>> + Send + 'static) -> Result<Stream> {
        let opening = tokio::spawn(opening);
        match tokio::time::timeout(self.ssh.patience, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => Err(problem(Cause::Broken.into(), &self.server)),
            Err(_) => Err(problem(Cause::TimedOut.into(), &self.server)),
        }
    }

    fn refused(&self, what: &str) -> Problem {
        Problem::new(
            Kind::Denied,
            CHANNEL_REFUSED,
            format!("the server {} refuses {what}", self.server),
            "Check AllowStreamLocalForwarding, ForceCommand and MaxSessions in its sshd_config, and that the \
             user may open the socket.",
        )
    }
}

/// The server's address as it can be typed, without secrets.
impl fmt::Display for SshAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_server(f, "ssh", Some(&self.user), &self.host, self.port)
    }
}

/// A fault in the words for a server, which is not a place that backups are kept in.
fn problem(fault: Fault, server: &str) -> Problem {
    let shown = match &fault.cause {
        Cause::HostKeyUnknown(key) | Cause::HostKeyChanged { found: key, .. } => Some(key.clone()),
        _ => None,
    };
    let (kind, code, why, remedy) = words(fault.cause);
    let problem = Problem::new(kind, code, format!("cannot connect to the server {server}: {why}"), remedy);
    match shown {
        Some(key) => problem.caused_by(key),
        None if fault.detail.is_empty() => problem,
        None => problem.caused_by(fault.detail),
    }
}

fn words(cause: Cause) -> (Kind, &'static str, String, String) {
    match cause {
        Cause::NameNotResolved { host } => (
            Kind::Unavailable,
            "name_not_resolved",
            format!("the name {host} does not resolve to an address"),
            format!("Check the spelling of {host} and the DNS settings of this machine."),
        ),
        Cause::OutOfReach { host } => (
            Kind::Denied,
            "server_host_refused",
            format!("{host} leads to this machine itself, or to one that has no address of its own"),
            "Give the address of another machine.".to_owned(),
        ),
        Cause::ConnectionRefused => (
            Kind::Unavailable,
            "connection_refused",
            "it refuses connections".to_owned(),
            "Check that its SSH server runs, and the host and port of its address.".to_owned(),
        ),
        Cause::Unreachable => (
            Kind::Unavailable,
            "server_unreachable",
            "no connection came about".to_owned(),
            "Check that the machine is up, the host and port of its address, and the routes and firewalls \
             between."
                .to_owned(),
        ),
        Cause::TimedOut => (
            Kind::Unavailable,
            "server_timed_out",
            "it did not answer in time".to_owned(),
            "Check the network, firewalls and the load of the server, then try again.".to_owned(),
        ),
        Cause::WrongLogin { user } => (
            Kind::Denied,
            "wrong_login",
            format!("it does not let {user} in with these credentials"),
            "Check the user's name, and its password or key; the server's log has its reason.".to_owned(),
        ),
        Cause::KeyUnreadable => (
            Kind::Denied,
            "private_key_unreadable",
            "the private key cannot be read, or its passphrase is wrong".to_owned(),
            "Give a private key as ssh-keygen writes it, and its passphrase if it has one.".to_owned(),
        ),
        Cause::HostKeyUnknown(key) => (
            Kind::Denied,
            "host_key_unknown",
            format!("it shows the host key {}, which nobody confirmed", key.fingerprint),
            format!(
                "Compare it with what the server itself says (ssh-keygen -lf \
                 /etc/ssh/ssh_host_ed25519_key.pub) and pin it: --host-key {}",
                key.fingerprint
            ),
        ),
        Cause::HostKeyChanged { pinned, found } => (
            Kind::Denied,
            "host_key_changed",
            format!("it shows the host key {}, and {pinned} is pinned", found.fingerprint),
            "Somebody may be standing in between. Pin the new key only after comparing it on the server \
             itself."
                .to_owned(),
        ),
        Cause::Unexpected { what } => (
            Kind::Unavailable,
            "server_unexpected",
            what,
            "Check that the address is that of an SSH server, and its version.".to_owned(),
        ),
        // Nothing else comes of a connection.
        _ => (
            Kind::Unavailable,
            "connection_broken",
            "the connection broke off".to_owned(),
            "Check the network and the server, then try again.".to_owned(),
        ),
    }
}
