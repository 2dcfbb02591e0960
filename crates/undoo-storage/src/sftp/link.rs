//! One connection to an SSH server with the SFTP subsystem on it; it never asks for anything else there.
//! <https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>

use std::{future::Future, time::Duration};

use russh_sftp::{
    client::{Config, RawSftpSession, error::Error as SftpError},
    protocol::{Packet, StatusCode},
};

use crate::{
    access::SshAccess,
    fault::{Cause, Fault, chain},
    options::Options,
    ssh::{Ssh, from_russh, within},
};

/// What every server takes in one message: 32 KiB with its head.
const WRITE_LEN: u64 = 32 * 1024;
/// What is asked for at once where a server says that it sends more.
const MOST_LEN: u64 = 128 * 1024;

pub(super) struct Link {
    /// Kept for the connection that it stands for.
    ssh: Ssh,
    pub(super) sftp: RawSftpSession,
    /// Whether a rename replaces what is there.
    pub(super) posix_rename: bool,
    pub(super) fsync: bool,
    pub(super) statvfs: bool,
    pub(super) read_len: u32,
    pub(super) write_len: usize,
    pub(super) patience: Duration,
}

impl Link {
    pub(super) async fn connect(access: &SshAccess, options: &Options) -> Result<Self, Fault> {
        let patience = options.stall_timeout;
        let ssh = Ssh::connect(access, options).await?;
        within(patience, Self::open(ssh, patience)).await
    }

    async fn open(ssh: Ssh, patience: Duration) -> Result<Self, Fault> {
        let channel = ssh.session().await?;
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
            ssh,
            sftp,
            patience,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ssh.is_closed()
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
