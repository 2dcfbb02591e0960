//! One control connection to an FTP server, logged in, and what is asked over it.
//!
//! Where TLS is required nothing but the greeting is said without it. Data connections go to the server
//! that was connected to, whatever address it names. <https://www.rfc-editor.org/rfc/rfc959>,
//! <https://www.rfc-editor.org/rfc/rfc4217>

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use secrecy::ExposeSecret;
use suppaftp::{
    FtpError, Mode, Status,
    list::{File, ListParser},
    tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream, AsyncRustlsStream, TransferStream},
    tokio_rustls::TlsConnector,
    types::{FileType, Response},
};
use tokio::io::AsyncWriteExt;

use crate::{
    access::{FtpAccess, FtpTls},
    fault::{Cause, Fault},
    options::Options,
    resume::Version,
    tcp,
};

/// How much of a part is handed to the connection at a time.
const SLICE: usize = 64 * 1024;

pub(super) type Transfer = TransferStream<AsyncRustlsStream>;

/// How connections to one server are encrypted.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// Set once the server has said that it has none, and that is allowed.
    none: AtomicBool,
}

impl Tls {
    /// One for all connections: servers want a data connection to resume the session of its control
    /// connection.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        // As for https: public authorities are built in, the machine's own come on top.
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), none: AtomicBool::new(false) })
    }
}

pub(super) struct Link {
    ftp: AsyncRustlsFtpStream,
    /// The folder in which the login ended.
    home: String,
    /// Whether folders are listed in a form that is meant for programs.
    lists_well: bool,
    patience: Duration,
}

impl Link {
    pub(super) async fn connect(access: &FtpAccess, tls: &Tls, options: &Options) -> Result<Self, Fault> {
        let patience = options.stall_timeout;
        let mut ftp = greeted(access, options).await?;
        if access.tls != FtpTls::Off && !tls.none.load(Ordering::Relaxed) {
            let connector = AsyncRustlsConnector::from(TlsConnector::from(Arc::clone(&tls.config)));
            let securing = ftp.into_secure(connector, &access.host);
            ftp = match tokio::time::timeout(patience, securing).await {
                Err(_) => return Err(Cause::TimedOut.into()),
                Ok(Ok(secured)) => secured,
                Ok(Err(FtpError::UnexpectedResponse(answer))) => {
                    if access.tls == FtpTls::Require {
                        return Err(Fault { detail: answer.to_string(), ..Cause::TlsMissing.into() });
                    }
                    tls.none.store(true, Ordering::Relaxed);
                    greeted(access, options).await?
                }
                Ok(Err(error)) => return Err(from_ftp(error)),
            };
        }
        let user = access.user.as_deref().unwrap_or("anonymous");
        let password = access.password.as_ref().map_or("anonymous@", ExposeSecret::expose_secret);
        within(patience, async { ftp.login(user, password).await.map_err(from_ftp) }).await.map_err(
            |fault| match fault.cause {
                Cause::NotSignedIn => {
                    Fault { detail: fault.detail, ..Cause::WrongLogin { user: user.to_owned() }.into() }
                }
                _ => fault,
            },
        )?;
        within(patience, async { ftp.transfer_type(FileType::Binary).await.map_err(from_ftp) }).await?;
        // A server that does not know these has other ways, or needs none.
        let lists_well = match within(patience, async { ftp.feat().await.map_err(from_ftp) }).await {
            Ok(features) => {
                if features.contains_key("UTF8") {
                    let asked =
                        within(patience, async { ftp.opts("UTF8", Some("ON")).await.map_err(from_ftp) });
                    allowed(asked.await)?;
                }
                features.contains_key("MLST") || features.contains_key("MLSD")
            }
            Err(fault) => {
                allowed(Err(fault))?;
                false
            }
        };
        let home = within(patience, async { ftp.pwd().await.map_err(from_ftp) }).await?;
        Ok(Self { ftp, home, lists_well, patience })
    }

    /// A path from the root, for one that may begin at home.
    pub(super) fn path(&self, path: &str) -> String {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.home.trim_end_matches('/'))
        };
        match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }
    }

    /// Length and time of change; nothing where there is no file.
    pub(super) async fn version(
        &mut self,
        path: &str,
    ) -> Result<Option<(Version, Option<SystemTime>)>, Fault> {
        let patience = self.patience;
        let Some(size) =
            there(within(patience, async { self.ftp.size(path).await.map_err(from_ftp) }).await)?
        else {
            return Ok(None);
        };
        let changed = within(patience, async { self.ftp.mdtm(path).await.map_err(from_ftp) }).await;
        let changed = match changed {
            Ok(changed) => Some(changed),
            // Not every server tells it.
            Err(fault) => {
                allowed(Err(fault))?;
                None
            }
        };
        let etag = changed.map(|changed| format!("{size:x}-{:x}", changed.and_utc().timestamp_millis()));
        let modified = changed.map(|changed| SystemTime::from(changed.and_utc()));
        Ok(Some((Version { size: size as u64, etag, last_modified: None }, modified)))
    }

    pub(super) async fn is_folder(&mut self, path: &str) -> Result<bool, Fault> {
        let patience = self.patience;
        let entered = within(patience, async { self.ftp.cwd(path).await.map_err(from_ftp) }).await;
        match entered {
            Ok(()) => Ok(true),
            Err(fault) => allowed(Err(fault)).map(|()| false),
        }
    }

    /// Makes a folder and those above it; what cannot be made shows when it is written to.
    pub(super) async fn make_folder(&mut self, path: &str) -> Result<(), Fault> {
        let patience = self.patience;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|at| *at > 0);
        for end in ends {
            let made = within(patience, async { self.ftp.mkdir(&path[..end]).await.map_err(from_ftp) }).await;
            allowed(made)?;
        }
        Ok(())
    }

    /// What a folder holds; nothing where there is none.
    pub(super) async fn list(&mut self, path: &str) -> Result<Vec<File>, Fault> {
        let (patience, lists_well) = (self.patience, self.lists_well);
        let listing = async {
            let lines =
                if lists_well { self.ftp.mlsd(Some(path)).await } else { self.ftp.list(Some(path)).await };
            lines.map_err(from_ftp)
        };
        let lines = there(within(patience, listing).await)?.unwrap_or_default();
        let parsed = |line: String| {
            if lists_well {
                ListParser::parse_mlsd(&line).ok()
            } else {
                // What is neither form is a heading, such as the sum of the blocks.
                ListParser::parse_posix(&line).or_else(|_| ListParser::parse_dos(&line)).ok()
            }
        };
        Ok(lines.into_iter().filter_map(parsed).collect())
    }

    /// That there is none is no error.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        let patience = self.patience;
        there(within(patience, async { self.ftp.rm(path).await.map_err(from_ftp) }).await).map(drop)
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        let patience = self.patience;
        within(patience, async { self.ftp.rename(from, to).await.map_err(from_ftp) }).await
    }

    /// The bytes of a file from `offset` on.
    pub(super) async fn retrieve(&mut self, path: &str, offset: u64) -> Result<Transfer, Fault> {
        let offset = usize::try_from(offset).map_err(|_| Fault::unexpected("the offset is too large"))?;
        let patience = self.patience;
        let retrieving = async {
            if offset > 0 {
                self.ftp.resume_transfer(offset).await.map_err(from_ftp)?;
            }
            self.ftp.retr_as_stream(path).await.map_err(from_ftp)
        };
        within(patience, retrieving).await
    }

    /// Writes a file anew, or more to its end, and waits until the server has it.
    pub(super) async fn store(
        &mut self,
        path: &str,
        mut content: Bytes,
        append: bool,
        options: &Options,
    ) -> Result<(), Fault> {
        let patience = self.patience;
        let opening = async {
            let opened = match append {
                true => self.ftp.append_with_stream(path).await,
                false => self.ftp.put_with_stream(path).await,
            };
            opened.map_err(from_ftp)
        };
        let mut transfer = within(patience, opening).await?;
        while !content.is_empty() {
            let slice = content.split_to(content.len().min(SLICE));
            if let Some(bandwidth) = &options.bandwidth {
                tokio::time::sleep(bandwidth.take(slice.len())).await;
            }
            let writing = async { transfer.write_all(&slice).await.map_err(|error| tcp::from_io(&error)) };
            if let Err(fault) = within(patience, writing).await {
                // The server's word on it, if there is one, is the better reason.
                let why = within(Duration::from_secs(1), async { transfer.finish().await.map_err(from_ftp) });
                return Err(match why.await {
                    Err(why) if !why.may_pass(true) => why,
                    _ => fault,
                });
            }
            options.meter.add_sent(slice.len());
        }
        // What the system has taken into its buffers is still to go over the line.
        within(patience.saturating_mul(3), async { transfer.finish().await.map_err(from_ftp) }).await
    }
}

async fn greeted(access: &FtpAccess, options: &Options) -> Result<AsyncRustlsFtpStream, Fault> {
    let stream = tcp::connect(&access.host, access.port.unwrap_or(21), options).await?;
    let is_v6 = stream.peer_addr().is_ok_and(|address| address.is_ipv6());
    let greeting = AsyncRustlsFtpStream::connect_with_stream(stream);
    let mut ftp = within(options.stall_timeout, async { greeting.await.map_err(from_ftp) }).await?;
    ftp.set_passive_nat_workaround(true);
    if is_v6 {
        ftp.set_mode(Mode::ExtendedPassive);
    }
    Ok(ftp)
}

pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Cause::TimedOut.into()))
}

/// Nothing where the server says that there is no such file.
fn there<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault { cause: Cause::ObjectMissing, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// A refusal is an answer too; a connection that broke is none.
fn allowed(answer: Result<(), Fault>) -> Result<(), Fault> {
    match answer {
        Err(fault) if fault.may_pass(true) => Err(fault),
        _ => Ok(()),
    }
}

fn from_ftp(error: FtpError) -> Fault {
    match error {
        FtpError::ConnectionError(error) => tcp::from_io(&error),
        FtpError::SecureError(detail) => Fault { detail, ..Cause::Tls.into() },
        FtpError::UnexpectedResponse(answer) => from_answer(&answer),
        FtpError::BadResponse => Fault::unexpected("the server does not speak FTP as it should"),
        error => Fault { detail: error.to_string(), ..Cause::Broken.into() },
    }
}

/// FTP has one number for many reasons: the words beside it tell more, where they are among the usual ones.
fn from_answer(answer: &Response) -> Fault {
    let detail = answer.to_string();
    let words = detail.to_lowercase();
    let says = |some: &[&str]| some.iter().any(|some| words.contains(some));
    let cause = match answer.status {
        Status::RequestedActionNotTaken | Status::ExceededStorage => Cause::DiskFull,
        _ if says(&["no space", "quota", "disk full", "disk is full"]) => Cause::DiskFull,
        _ if says(&["read-only file system"]) => Cause::ReadOnly,
        _ if says(&["session reuse", "ssl connection failed", "tls handshake"]) => Cause::Tls,
        Status::NotLoggedIn | Status::InvalidCredentials => Cause::NotSignedIn,
        Status::NotAvailable | Status::RequestFileActionIgnored => Cause::Busy,
        Status::CannotOpenDataConnection | Status::TransferAborted => Cause::Broken,
        // What vsftpd says when the disk is full.
        Status::ActionAborted if says(&["failure writing to local file"]) => Cause::DiskFull,
        Status::ActionAborted => Cause::ServerFailed { status: 451 },
        Status::BadFilename | Status::StoringNeedAccount => Cause::NoPermission,
        _ if says(&["permission", "denied", "not allowed", "prohibited"]) => Cause::NoPermission,
        Status::FileUnavailable => Cause::ObjectMissing,
        _ => Cause::Unexpected { what: format!("the server says: {}", detail.trim()) },
    };
    Fault { detail, ..cause.into() }
}
