//! One connection to an SSH server with the SFTP subsystem on it.
//!
//! Nothing is said to a server whose host key nobody confirmed: neither a user's name nor a password.
//! <https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key,
        parse_public_key_base64,
    },
};
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error as SftpError},
    protocol::{Packet, StatusCode},
};
use secrecy::ExposeSecret;

use crate::{
    access::SshAccess,
    fault::{Cause, Fault, HostKey, chain},
    options::Options,
    tcp,
};

/// What every server takes in one message: 32 KiB with its head.
const WRITE_LEN: u64 = 32 * 1024;
/// What is asked for at once where a server says that it sends more.
const MOST_LEN: u64 = 128 * 1024;

pub(super) struct Link {
    /// Kept for the connection that it stands for.
    handle: Handle<Seal>,
    pub(super) sftp: RawSftpSession,
    /// Whether a rename replaces what is there.
    pub(super) posix_rename: bool,
    pub(super) fsync: bool,
    pub(super) statvfs: bool,
    pub(super) read_len: u32,
    pub(super) write_len: usize,
    pub(super) patience: Duration,
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

impl Link {
    pub(super) async fn connect(access: &SshAccess, options: &Options) -> Result<Self, Fault> {
        let patience = options.stall_timeout;
        let stream = tcp::connect(&access.host, access.port.unwrap_or(22), options).await?;
        let found = Arc::new(Mutex::new(None));
        let seal = Seal { pinned: access.host_key.clone(), found: Arc::clone(&found) };
        let config =
            client::Config { keepalive_interval: Some(Duration::from_secs(15)), ..client::Config::default() };
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
        within(patience, Self::open(handle, patience)).await
    }

    async fn open(handle: Handle<Seal>, patience: Duration) -> Result<Self, Fault> {
        let channel = handle.channel_open_session().await.map_err(from_russh)?;
        channel.request_subsystem(true, "sftp").await.map_err(from_russh)?;
        // Time-outs are kept here, by progress.
        let config = Config { request_timeout_secs: 24 * 3600, ..Config::default() };
        let sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = sftp.init().await.map_err(|error| from_sftp(&error))?;
        let offers = |name: &str| version.extensions.contains_key(name);
        let limits = if offers("limits@openssh.com") { sftp.limits().await.ok() } else { None };
        let limit = |limit: Option<u64>| match limit {
            Some(limit @ 1..) => limit.min(MOST_LEN),
            _ => WRITE_LEN,
        };
        Ok(Self {
            posix_rename: offers("posix-rename@openssh.com"),
            fsync: offers("fsync@openssh.com"),
            statvfs: offers("statvfs@openssh.com"),
            read_len: limit(limits.as_ref().map(|limits| limits.max_read_len)) as u32,
            write_len: limit(limits.as_ref().map(|limits| limits.max_write_len)) as usize,
            handle,
            sftp,
            patience,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// A request, and its answer in time.
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<T, Fault> {
        within(self.patience, async { request.await.map_err(|error| from_sftp(&error)) }).await
    }

    /// As [`Link::ask`]; nothing where the server says that there is no such file.
    pub(super) async fn ask_for<T>(
        &self,
        request: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<Option<T>, Fault> {
        match self.ask(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Fault { cause: Cause::ObjectMissing, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Renames over what may be there.
    pub(super) async fn replace(&self, from: &str, to: &str) -> Result<(), Fault> {
        if !self.posix_rename {
            self.ask(self.sftp.rename(from, to)).await?;
            return Ok(());
        }
        let mut names = Vec::with_capacity(from.len() + to.len() + 8);
        for name in [from, to] {
            let len = u32::try_from(name.len()).map_err(|_| Fault::unexpected("a name is too long"))?;
            names.extend_from_slice(&len.to_be_bytes());
            names.extend_from_slice(name.as_bytes());
        }
        let renaming = async {
            match self.sftp.extended("posix-rename@openssh.com", names).await? {
                Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
                Packet::Status(status) => Err(SftpError::Status(status)),
                _ => Err(SftpError::UnexpectedPacket),
            }
        };
        self.ask(renaming).await
    }

    /// OpenSSH says no more than "Failure" when a disk is full, and a read-only one looks like a missing
    /// right: the file system knows.
    pub(super) async fn why_not_written(&self, folder: &str, fault: Fault) -> Fault {
        const READ_ONLY: u64 = 1;
        let refused = matches!(fault.cause, Cause::NoPermission | Cause::ObjectMissing);
        if !refused && !matches!(fault.cause, Cause::Unexpected { .. }) {
            return fault;
        }
        let mut found = None;
        // The folder itself may be what could not be made.
        let mut asked = Some(folder).filter(|_| self.statvfs);
        while let Some(folder) = asked {
            found = self.ask(self.sftp.statvfs(folder)).await.ok();
            asked = match folder.rsplit_once('/') {
                _ if found.is_some() || matches!(folder, "." | "/") => None,
                Some(("", _)) => Some("/"),
                Some((above, _)) => Some(above),
                None => Some("."),
            };
        }
        match found {
            Some(found) if found.flags & READ_ONLY != 0 => Cause::ReadOnly.into(),
            Some(found) if found.blocks_avail == 0 || found.inodes_avail == 0 && found.inodes > 0 => {
                Cause::DiskFull.into()
            }
            _ if refused => {
                Fault { detail: fault.detail, ..Cause::NotWritable { path: folder.to_owned() }.into() }
            }
            _ => fault,
        }
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

pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Cause::TimedOut.into()))
}

fn from_russh(error: russh::Error) -> Fault {
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

pub(super) fn from_sftp(error: &SftpError) -> Fault {
    let cause = match error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => Cause::ObjectMissing,
            StatusCode::PermissionDenied => Cause::NoPermission,
            StatusCode::Eof => Cause::Changed,
            StatusCode::NoConnection | StatusCode::ConnectionLost => Cause::Broken,
            _ => Cause::Unexpected { what: format!("the server says: {}", status.error_message) },
        },
        SftpError::Timeout => Cause::TimedOut,
        SftpError::Limited(what) => Cause::Unexpected { what: what.clone() },
        SftpError::UnexpectedPacket => {
            Cause::Unexpected { what: "the server does not speak SFTP as it should".to_owned() }
        }
        // The library has no other words for a connection that ended.
        SftpError::IO(_) | SftpError::UnexpectedBehavior(_) => Cause::Broken,
    };
    Fault { detail: chain(error), ..cause.into() }
}
