//! Why a request failed: which failures pass by waiting, and what a person is told about the others.
//!
//! A message never carries an address with its query or user part: those may be secrets.

use std::{error::Error as StdError, io, time::Duration};

use undoo_core::{Kind, Problem};

/// What was to be done with a place, for the words of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Read,
    Write,
    List,
    Delete,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// What S3 calls the right to it.
    fn right(self) -> &'static str {
        match self {
            Self::Read => "s3:GetObject and s3:ListBucket",
            Self::Write => "s3:PutObject and s3:AbortMultipartUpload",
            Self::List => "s3:ListBucket and s3:ListBucketMultipartUploads",
            Self::Delete => "s3:DeleteObject",
        }
    }
}

/// What went wrong between us and a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    NameNotResolved {
        host: String,
    },
    /// An address that [`crate::Reach`] leaves out.
    OutOfReach {
        host: String,
    },
    ConnectionRefused,
    Unreachable,
    Tls,
    TimedOut,
    Broken,
    /// `unknown`: there is no such access key; else the secret does not belong to it.
    WrongKey {
        unknown: bool,
    },
    WrongLogin {
        user: String,
    },
    /// The private key itself is not one, or its passphrase is wrong.
    KeyUnreadable,
    HostKeyUnknown(HostKey),
    HostKeyChanged {
        pinned: String,
        found: HostKey,
    },
    TlsMissing,
    ExpiredToken,
    NotSignedIn,
    NoPermission,
    ClockOff,
    BucketMissing,
    ObjectMissing,
    WrongRegion {
        region: Option<String>,
    },
    ColdStorage,
    Busy,
    ServerFailed {
        status: u16,
    },
    /// The provider refuses to remove it before a time.
    Locked,
    /// The bucket cannot lock objects.
    NoObjectLock,
    Changed,
    NoRanges,
    DiskFull,
    ReadOnly,
    /// The folder to write into cannot be made or written to.
    NotWritable {
        path: String,
    },
    TooLarge {
        parts: u32,
    },
    /// A multipart upload that somebody else ended.
    UploadGone,
    Cancelled,
    Unexpected {
        what: String,
    },
}

/// The key by which an SSH server proves itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's host key is {fingerprint} ({algorithm})")]
pub struct HostKey {
    /// As `ssh-keygen -l` shows it: `SHA256:` and 43 characters.
    pub fingerprint: String,
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
}

/// The host key that a server showed, in a problem `host_key_unknown` or `host_key_changed`: what a
/// person has to confirm before it is pinned.
pub fn host_key_in(problem: &Problem) -> Option<&HostKey> {
    find(problem)
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause:?}: {detail}")]
pub(crate) struct Fault {
    pub(crate) cause: Cause,
    /// The library's or the server's own words, for the log.
    pub(crate) detail: String,
    /// The pause that the server asked for.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { cause, detail: String::new(), retry_after: None }
    }
}

impl Fault {
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Cause::Unexpected { what: what.into() }.into()
    }

    /// Whether the same request may succeed later. `seen` tells that this server has answered before: a
    /// name that did resolve, or a port that was open, is worth waiting for; one that never was is a typo.
    pub(crate) fn may_pass(&self, seen: bool) -> bool {
        match self.cause {
            Cause::TimedOut | Cause::Broken | Cause::Busy | Cause::ServerFailed { .. } => true,
            Cause::NameNotResolved { .. } | Cause::ConnectionRefused | Cause::Unreachable => seen,
            _ => false,
        }
    }

    /// What a person is told, `place` being the redacted address.
    pub(crate) fn into_problem(self, doing: Doing, place: &str) -> Problem {
        let shown = match &self.cause {
            Cause::HostKeyUnknown(key) | Cause::HostKeyChanged { found: key, .. } => Some(key.clone()),
            _ => None,
        };
        let (kind, code, message, remedy) = self.cause.words(doing, place);
        let problem = Problem::new(kind, code, message, remedy);
        match shown {
            Some(key) => problem.caused_by(key),
            None if self.detail.is_empty() => problem,
            None => problem.caused_by(self.detail),
        }
    }

    /// The error of a stream that reads.
    pub(crate) fn into_io(self, place: &str) -> io::Error {
        problem_to_io(self.into_problem(Doing::Read, place))
    }
}

impl Cause {
    fn words(self, doing: Doing, place: &str) -> (Kind, &'static str, String, String) {
        let cannot = format!("cannot {} {place}", doing.verb());
        match self {
            Cause::NameNotResolved { host } => (
                Kind::Unavailable,
                "name_not_resolved",
                format!("{cannot}: the name {host} does not resolve to an address"),
                format!("Check the spelling of {host} and the DNS settings of this machine."),
            ),
            Cause::OutOfReach { host } => (
                Kind::Denied,
                "storage_host_refused",
                format!("{cannot}: {host} leads to this machine itself, or to one that has no address of its own"),
                "Give the address of another machine.".into(),
            ),
            Cause::ConnectionRefused => (
                Kind::Unavailable,
                "connection_refused",
                format!("{cannot}: the server refuses connections"),
                "Check that the storage server runs, and the host and port of its address.".into(),
            ),
            Cause::Unreachable => (
                Kind::Unavailable,
                "storage_unreachable",
                format!("{cannot}: no connection to the server came about"),
                "Check the host and port of its address, and the routes and firewalls between.".into(),
            ),
            Cause::Tls => (
                Kind::Denied,
                "tls_failed",
                format!("{cannot}: no trusted TLS connection came about"),
                "Check that the address should start with https, that the server's certificate is valid \
                 for this name and not expired, and that its authority is trusted (SSL_CERT_FILE names \
                 a file of further authorities)."
                    .into(),
            ),
            Cause::TimedOut => (
                Kind::Unavailable,
                "storage_timed_out",
                format!("{cannot}: the server did not answer in time"),
                "Check the network, firewalls and the server, then run the command again.".into(),
            ),
            Cause::Broken => (
                Kind::Unavailable,
                "connection_broken",
                format!("{cannot}: the connection broke off again and again"),
                "Check the network and the server, then run the command again.".into(),
            ),
            Cause::WrongKey { unknown } => (
                Kind::Denied,
                "wrong_key",
                if unknown {
                    format!("{cannot}: the storage does not know the access key")
                } else {
                    format!("{cannot}: the secret does not belong to the access key")
                },
                "Check the access key and its secret (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the \
                 stored credentials), and that they belong to this endpoint."
                    .into(),
            ),
            Cause::WrongLogin { user } => (
                Kind::Denied,
                "wrong_login",
                format!("{cannot}: the server does not let {user} in with these credentials"),
                "Check the user's name, and its password or key; the server's log has its reason.".into(),
            ),
            Cause::KeyUnreadable => (
                Kind::Denied,
                "private_key_unreadable",
                format!("{cannot}: the private key cannot be read, or its passphrase is wrong"),
                "Give a private key as ssh-keygen writes it, and its passphrase if it has one.".into(),
            ),
            Cause::HostKeyUnknown(key) => (
                Kind::Denied,
                "host_key_unknown",
                format!("{cannot}: the server shows the host key {}, which nobody confirmed", key.fingerprint),
                format!(
                    "Compare it with what the server itself says (ssh-keygen -lf \
                     /etc/ssh/ssh_host_ed25519_key.pub) and pin it: SFTP_HOST_KEY={}",
                    key.fingerprint
                ),
            ),
            Cause::HostKeyChanged { pinned, found } => (
                Kind::Denied,
                "host_key_changed",
                format!(
                    "{cannot}: the server shows the host key {}, and {pinned} is pinned",
                    found.fingerprint
                ),
                "Somebody may be standing in between. Pin the new key only after comparing it on the \
                 server itself."
                    .into(),
            ),
            Cause::TlsMissing => (
                Kind::Denied,
                "tls_not_offered",
                format!("{cannot}: TLS is required and the server does not offer it"),
                "Switch TLS on in the FTP server, or allow to go without (tls=prefer): then the password \
                 and every byte are readable on the way."
                    .into(),
            ),
            Cause::ExpiredToken => (
                Kind::Denied,
                "token_expired",
                format!("{cannot}: the session token is expired or invalid"),
                "Fetch new temporary credentials, and unset AWS_SESSION_TOKEN if the key has none.".into(),
            ),
            Cause::NotSignedIn => (
                Kind::Denied,
                "sign_in_required",
                format!("{cannot}: the server asks for a user name and password"),
                "Give them in the address (https://user:password@host/…), or use a signed address.".into(),
            ),
            Cause::NoPermission => (
                Kind::Denied,
                "no_permission",
                format!("{cannot}: the storage denies access"),
                format!(
                    "Give the key or user the right to {} there (in S3: {}); a signed address may be \
                     expired, so make a new one.",
                    doing.verb(),
                    doing.right()
                ),
            ),
            Cause::ClockOff => (
                Kind::Denied,
                "clock_off",
                format!("{cannot}: the clock of this machine is too far from the storage's"),
                "Set the clock (timedatectl set-ntp true), then run the command again.".into(),
            ),
            Cause::BucketMissing => (
                Kind::Missing,
                "bucket_missing",
                format!("{cannot}: the bucket does not exist at this endpoint"),
                "Check the bucket's name, the endpoint (AWS_ENDPOINT_URL) and the region.".into(),
            ),
            Cause::ObjectMissing => (
                Kind::Missing,
                "backup_missing",
                format!("{place} does not exist"),
                "Check the address; that of a folder in S3 ends in a slash.".into(),
            ),
            Cause::WrongRegion { region } => (
                Kind::Invalid,
                "wrong_region",
                match &region {
                    Some(region) => format!("{cannot}: its bucket lies in region {region}"),
                    None => format!("{cannot}: its bucket lies in another region or endpoint"),
                },
                match region {
                    Some(region) => format!("Set AWS_REGION={region}."),
                    None => "Set AWS_REGION to the bucket's region.".into(),
                },
            ),
            Cause::ColdStorage => (
                Kind::Conflict,
                "backup_in_cold_storage",
                format!("{cannot}: it lies in an archive storage class"),
                "Have the storage bring it back first (S3: restore-object), then run the command again."
                    .into(),
            ),
            Cause::Locked => (
                Kind::Conflict,
                "object_locked",
                format!("{cannot}: Object Lock holds it"),
                "It can be removed when its time is over; see its retention at the provider.".into(),
            ),
            Cause::NoObjectLock => (
                Kind::Invalid,
                "object_lock_missing",
                format!("{cannot} with a lock: the bucket has no Object Lock"),
                "Use a bucket that was made with Object Lock, or leave the lock out of the storage's settings."
                    .into(),
            ),
            Cause::Busy => (
                Kind::Unavailable,
                "storage_busy",
                format!("{cannot}: the storage is busy and asks to slow down"),
                "Wait a while and run the command again, or limit the bandwidth.".into(),
            ),
            Cause::ServerFailed { status } => (
                Kind::Unavailable,
                "storage_failed",
                format!("{cannot}: the storage fails with status {status}"),
                "Look into the storage server's log or its provider's status page; then try again.".into(),
            ),
            Cause::Changed => (
                Kind::Conflict,
                "backup_changed_while_read",
                format!("{place} was changed or replaced while it was being read"),
                "Wait until whatever writes it is done, then start again.".into(),
            ),
            Cause::NoRanges => (
                Kind::Invalid,
                "no_ranges",
                format!("{cannot}: its server cannot send parts of a file (no byte ranges)"),
                "Download the file and give its path, or put it on a server that supports ranges.".into(),
            ),
            Cause::DiskFull => (
                Kind::Unavailable,
                "disk_full",
                format!("{cannot}: the storage has no room left, or its quota is used up"),
                "Free space there or raise the quota, then run the command again.".into(),
            ),
            Cause::ReadOnly => (
                Kind::Denied,
                "read_only",
                format!("{cannot}: the file system there is mounted read-only"),
                "Look into that machine's kernel log for disk errors, and mount it writable.".into(),
            ),
            Cause::NotWritable { path } => (
                Kind::Denied,
                "path_not_writable",
                format!("{cannot}: the folder {path} cannot be written to"),
                format!("Make {path} and give the user that connects the right to write in it."),
            ),
            Cause::TooLarge { parts } => (
                Kind::Invalid,
                "object_too_large",
                format!("{cannot}: it is larger than {parts} parts of this size can hold"),
                "Set a larger part size for this storage.".into(),
            ),
            Cause::UploadGone => (
                Kind::Conflict,
                "upload_gone",
                format!("{cannot}: the unfinished upload is no longer there"),
                "A lifecycle rule or another run removed it: let unfinished uploads live for days, and start \
                 again."
                    .into(),
            ),
            Cause::Cancelled => (
                Kind::Cancelled,
                "cancelled",
                format!("{cannot}: it was cancelled"),
                String::new(),
            ),
            Cause::Unexpected { what } => (
                Kind::Unavailable,
                "storage_unexpected",
                format!("{cannot}: {what}"),
                "Check that the address is that of a storage and not, say, of a login page.".into(),
            ),
        }
    }
}

/// An error of a stream that carries a problem; see [`problem_of`].
pub(crate) fn problem_to_io(problem: Problem) -> io::Error {
    let kind = match problem.kind {
        Kind::Missing => io::ErrorKind::NotFound,
        Kind::Denied => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, problem)
}

/// The problem that an error of a stream of this crate carries.
pub fn problem_in(error: &io::Error) -> Option<&Problem> {
    let inner: &(dyn StdError + 'static) = error.get_ref()?;
    find(inner)
}

/// Takes the problem out of an error of a stream of this crate; the error itself if it has none.
///
/// # Errors
/// The error, when it carries no problem.
pub fn problem_of(error: io::Error) -> Result<Problem, io::Error> {
    error.downcast()
}

/// The problem among the causes of an error of somebody who reads from a stream of this crate.
pub fn problem_among<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Problem> {
    find(error)
}

/// The first `T` in a chain of causes. An [`io::Error`] skips its inner error in `source`, so that one is
/// looked into.
pub fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The words of an error and its causes, for the log.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words.push_str(": ");
        words.push_str(&error.to_string());
        next = error.source();
    }
    words
}
