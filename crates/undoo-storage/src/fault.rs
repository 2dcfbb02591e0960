//! Why a request failed: which failures pass by waiting, and what a person is told about the others.
//!
//! A message never carries an address with its query or user part: those may be secrets.

use std::{error::Error as StdError, io, time::Duration};

use undoo_core::{Kind, Problem};

/// What went wrong between us and a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    NameNotResolved { host: String },
    ConnectionRefused,
    Unreachable,
    Tls,
    TimedOut,
    Broken,
    WrongKey,
    ExpiredToken,
    NotSignedIn,
    NoPermission,
    ClockOff,
    BucketMissing,
    ObjectMissing,
    WrongRegion { region: Option<String> },
    ColdStorage,
    Busy,
    ServerFailed { status: u16 },
    Changed,
    NoRanges,
    Unexpected { what: String },
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
    pub(crate) fn into_problem(self, place: &str) -> Problem {
        let (kind, code, message, remedy) = self.cause.words(place);
        let problem = Problem::new(kind, code, message, remedy);
        if self.detail.is_empty() { problem } else { problem.caused_by(self.detail) }
    }

    pub(crate) fn into_io(self, place: &str) -> io::Error {
        problem_to_io(self.into_problem(place))
    }
}

impl Cause {
    fn words(self, place: &str) -> (Kind, &'static str, String, String) {
        match self {
            Cause::NameNotResolved { host } => (
                Kind::Unavailable,
                "name_not_resolved",
                format!("cannot read {place}: the name {host} does not resolve to an address"),
                format!("Check the spelling of {host} and the DNS settings of the machine that reads it."),
            ),
            Cause::ConnectionRefused => (
                Kind::Unavailable,
                "connection_refused",
                format!("cannot read {place}: the server refuses connections"),
                "Check that the storage server runs, and the host and port of its address.".into(),
            ),
            Cause::Unreachable => (
                Kind::Unavailable,
                "storage_unreachable",
                format!("cannot read {place}: no connection to the server came about"),
                "Check the host and port of its address, and the routes and firewalls between.".into(),
            ),
            Cause::Tls => (
                Kind::Denied,
                "tls_failed",
                format!("cannot read {place}: no trusted TLS connection came about"),
                "Check that the address should start with https, that the server's certificate is valid \
                 for this name and not expired, and that its authority is trusted (SSL_CERT_FILE names \
                 a file of further authorities)."
                    .into(),
            ),
            Cause::TimedOut => (
                Kind::Unavailable,
                "storage_timed_out",
                format!("cannot read {place}: the server did not answer in time"),
                "Check the network, firewalls and the server, then run the command again.".into(),
            ),
            Cause::Broken => (
                Kind::Unavailable,
                "connection_broken",
                format!("cannot read {place}: the connection broke off again and again"),
                "Check the network and the server, then run the command again.".into(),
            ),
            Cause::WrongKey => (
                Kind::Denied,
                "wrong_key",
                format!("cannot read {place}: the storage does not accept the access key or its secret"),
                "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the stored credentials), and that \
                 they belong to this endpoint."
                    .into(),
            ),
            Cause::ExpiredToken => (
                Kind::Denied,
                "token_expired",
                format!("cannot read {place}: the session token is expired or invalid"),
                "Fetch new temporary credentials, and unset AWS_SESSION_TOKEN if the key has none.".into(),
            ),
            Cause::NotSignedIn => (
                Kind::Denied,
                "sign_in_required",
                format!("cannot read {place}: the server asks for a user name and password"),
                "Give them in the address (https://user:password@host/…), or use a signed address.".into(),
            ),
            Cause::NoPermission => (
                Kind::Denied,
                "no_permission",
                format!("cannot read {place}: the storage denies access"),
                "Give the key the right to read and list there (S3: s3:GetObject, s3:ListBucket); a \
                 signed address may be expired, so make a new one."
                    .into(),
            ),
            Cause::ClockOff => (
                Kind::Denied,
                "clock_off",
                format!("cannot read {place}: the clock of this machine is too far from the storage's"),
                "Set the clock (timedatectl set-ntp true), then run the command again.".into(),
            ),
            Cause::BucketMissing => (
                Kind::Missing,
                "bucket_missing",
                format!("cannot read {place}: the bucket does not exist at this endpoint"),
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
                    Some(region) => format!("cannot read {place}: its bucket lies in region {region}"),
                    None => format!("cannot read {place}: its bucket lies in another region or endpoint"),
                },
                match region {
                    Some(region) => format!("Set AWS_REGION={region}."),
                    None => "Set AWS_REGION to the bucket's region.".into(),
                },
            ),
            Cause::ColdStorage => (
                Kind::Conflict,
                "backup_in_cold_storage",
                format!("cannot read {place}: it lies in an archive storage class"),
                "Have the storage bring it back first (S3: restore-object), then run the command again."
                    .into(),
            ),
            Cause::Busy => (
                Kind::Unavailable,
                "storage_busy",
                format!("cannot read {place}: the storage is busy and asks to slow down"),
                "Wait a while and run the command again, or limit the bandwidth.".into(),
            ),
            Cause::ServerFailed { status } => (
                Kind::Unavailable,
                "storage_failed",
                format!("cannot read {place}: the storage fails with status {status}"),
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
                format!("cannot read {place}: its server cannot send parts of a file (no byte ranges)"),
                "Download the file and give its path, or put it on a server that supports ranges.".into(),
            ),
            Cause::Unexpected { what } => (
                Kind::Unavailable,
                "storage_unexpected",
                format!("cannot read {place}: {what}"),
                "Check that the address names a backup and not, say, a login page.".into(),
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

/// The first `T` in a chain of causes. An [`io::Error`] skips its inner error in `source`, so that one is
/// looked into.
pub(crate) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
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
