//! The one HTTP client under every remote storage: it counts, times out, and says why a request failed.
//!
//! It never repeats a request: [`crate::resume`] does that for all storages alike, so that the number of
//! requests and the wait before giving up do not multiply.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body::{Frame, SizeHint};
use reqwest::{
    Body, StatusCode,
    header::{CONTENT_RANGE, DATE, HeaderMap, HeaderName, RETRY_AFTER},
    redirect,
};
use tokio::time::{Instant, Sleep};
use undoo_core::{Kind, Problem, Result};

use crate::{
    fault::{Cause, Fault, chain, find},
    meter::{Bandwidth, Meter},
    options::Options,
    reach::Reach,
    resume::Seen,
    web::{self, NotResolved, OutOfReach},
};

/// What is read of an answer that says why a request was refused.
const REFUSAL_LIMIT: usize = 64 * 1024;

/// A reason that takes longer to come is done without.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read into memory: a page of a listing has 1000 keys of at most 1 KiB.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// How much of a body is handed to the connection at a time.
const SLICE: usize = 64 * 1024;

/// What a connection may have taken without having sent it: Linux lets such buffers grow to 4 MiB.
const BUFFERED: usize = 4 * 1024 * 1024;

/// How far S3 lets a clock be off.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    meter: Meter,
    bandwidth: Option<Bandwidth>,
    stall_timeout: Duration,
    reach: Reach,
    pub(crate) seen: Seen,
}

/// Whether redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// As a browser does: downloads often lead to a signed address elsewhere.
    Follow,
    /// S3 redirects to another region, for which the signature does not hold.
    Refuse,
}

impl Client {
    pub(crate) fn new(options: &Options, redirects: Redirects) -> Result<Self> {
        let policy = match redirects {
            Redirects::Follow => redirect::Policy::limited(10),
            Redirects::Refuse => redirect::Policy::none(),
        };
        let http = web::client(options.reach)
            .user_agent(concat!("undoo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .redirect(policy)
            .build()
            .map_err(|error| {
                Problem::new(Kind::Internal, "http_client", "the HTTP client could not be set up", "")
                    .caused_by(error)
            })?;
        Ok(Self {
            http,
            meter: options.meter.clone(),
            bandwidth: options.bandwidth.clone(),
            stall_timeout: options.stall_timeout,
            reach: options.reach,
            seen: Seen::default(),
        })
    }

    /// Sends a request without content; any answer, also a refusal, is a success here.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, Fault> {
        self.within_reach(&request)?;
        self.meter.add_request();
        let sent = tokio::time::timeout(self.stall_timeout, self.http.execute(request)).await;
        let response = sent.map_err(|_| Fault::from(Cause::TimedOut))?.map_err(from_reqwest)?;
        self.seen.set();
        Ok(response)
    }

    /// Whether an address that is written out may be connected to; names are the resolver's to judge.
    fn within_reach(&self, request: &reqwest::Request) -> Result<(), Fault> {
        if web::is_within(self.reach, request.url()) {
            return Ok(());
        }
        Err(Cause::OutOfReach { host: request.url().host_str().unwrap_or_default().to_owned() }.into())
    }

    /// Sends a request with content, at the rate that the bandwidth allows. It counts as stalled only when
    /// the connection has taken nothing for the time-out (and three times that at the end, while buffers
    /// drain): how long the whole takes is up to the line.
    pub(crate) async fn upload(
        &self,
        mut request: reqwest::Request,
        content: Bytes,
    ) -> Result<reqwest::Response, Fault> {
        self.within_reach(&request)?;
        self.meter.add_request();
        let moved = Arc::new(Mutex::new(Instant::now()));
        let body = Upload {
            // What the system has taken into its buffers is still to go over the line.
            grace: self.stall_timeout.mul_f64(content.len().min(BUFFERED) as f64 / BUFFERED as f64 * 2.0),
            content,
            meter: self.meter.clone(),
            bandwidth: self.bandwidth.clone(),
            pause: None,
            moved: Arc::clone(&moved),
        };
        *request.body_mut() = Some(Body::wrap(body));
        let stalled = async {
            loop {
                let until = *moved.lock().unwrap_or_else(PoisonError::into_inner) + self.stall_timeout;
                if until <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(until).await;
            }
        };
        let response = tokio::select! {
            response = self.http.execute(request) => response.map_err(from_reqwest)?,
            () = stalled => return Err(Cause::TimedOut.into()),
        };
        self.seen.set();
        Ok(response)
    }

    /// The content of an answer, counted.
    pub(crate) fn content(
        &self,
        response: reqwest::Response,
    ) -> impl Stream<Item = Result<Bytes, Fault>> + Send + use<> {
        let (meter, patience) = (self.meter.clone(), self.stall_timeout);
        stream::try_unfold(response, move |mut response| {
            let meter = meter.clone();
            async move {
                let chunk = tokio::time::timeout(patience, response.chunk()).await;
                let chunk = chunk.map_err(|_| Fault::from(Cause::TimedOut))?.map_err(from_reqwest)?;
                Ok(chunk.map(|bytes| {
                    meter.add_bytes(bytes.len());
                    (bytes, response)
                }))
            }
        })
    }

    /// A short answer as text.
    pub(crate) async fn text(&self, response: reqwest::Response) -> Result<String, Fault> {
        let mut content = std::pin::pin!(self.content(response));
        let mut body = Vec::new();
        while let Some(bytes) = content.next().await.transpose()? {
            if body.len() + bytes.len() > ANSWER_LIMIT {
                return Err(Fault::unexpected("the server's answer is far too long"));
            }
            body.extend_from_slice(&bytes);
        }
        String::from_utf8(body).map_err(|_| Fault::unexpected("the server's answer is not UTF-8"))
    }
}

/// A body that counts what the connection takes, and keeps to the bandwidth.
struct Upload {
    content: Bytes,
    /// How much longer the end may take than anything before it.
    grace: Duration,
    meter: Meter,
    bandwidth: Option<Bandwidth>,
    pause: Option<Pin<Box<Sleep>>>,
    /// When the connection last took something, or the bandwidth last let it.
    moved: Arc<Mutex<Instant>>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let mut moved = this.moved.lock().unwrap_or_else(PoisonError::into_inner);
        *moved = Instant::now();
        if this.content.is_empty() {
            return Poll::Ready(None);
        }
        let slice = this.content.split_to(this.content.len().min(SLICE));
        if this.content.is_empty() {
            *moved += this.grace;
        }
        this.meter.add_sent(slice.len());
        if let Some(bandwidth) = &this.bandwidth {
            let wait = bandwidth.take(slice.len());
            if !wait.is_zero() {
                // Not the server is slow while we hold ourselves back.
                *moved += wait;
                this.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}

/// Why a server answered with anything but success.
pub(crate) async fn refusal(mut response: reqwest::Response) -> Fault {
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = tokio::time::timeout(REFUSAL_PATIENCE, response.chunk()).await {
        body.extend_from_slice(&bytes);
        if body.len() >= REFUSAL_LIMIT {
            body.truncate(REFUSAL_LIMIT);
            break;
        }
    }
    classify(response.status(), response.headers(), &String::from_utf8_lossy(&body))
}

/// Whether the server's clock, by its answer, is further from ours than S3 allows.
fn clock_is_off(headers: &HeaderMap) -> bool {
    let server = text(headers, DATE).and_then(|date| httpdate::parse_http_date(&date).ok());
    let ours = std::time::SystemTime::now();
    server.is_some_and(|server| {
        let apart = server.duration_since(ours).or_else(|_| ours.duration_since(server));
        apart.is_ok_and(|apart| apart > CLOCK_TOLERANCE)
    })
}

/// The error codes are those of S3, which its many servers share:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub(crate) fn classify(status: StatusCode, headers: &HeaderMap, body: &str) -> Fault {
    let code = element(body, "Code").unwrap_or_default();
    let region = || {
        let header = text(headers, HeaderName::from_static("x-amz-bucket-region"));
        header.or_else(|| element(body, "Region").map(str::to_owned))
    };
    let cause = match code {
        // Not every server says that it is the clock.
        "SignatureDoesNotMatch" | "AccessDenied" | "RequestExpired" if clock_is_off(headers) => {
            Cause::ClockOff
        }
        "ObjectLocked" => Cause::Locked,
        // The words of AWS and of MinIO for it.
        "AccessDenied" | "InvalidRequest"
            if ["object protected by object lock", "WORM protected"]
                .iter()
                .any(|words| body.contains(words)) =>
        {
            Cause::Locked
        }
        "InvalidAccessKeyId" => Cause::WrongKey { unknown: true },
        "SignatureDoesNotMatch" | "Unauthorized" | "InvalidSecurity" => Cause::WrongKey { unknown: false },
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => Cause::ExpiredToken,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "NotSignedUp" => Cause::NoPermission,
        "RequestTimeTooSkewed" => Cause::ClockOff,
        "NoSuchBucket" | "InvalidBucketName" => Cause::BucketMissing,
        "NoSuchKey" | "NoSuchVersion" => Cause::ObjectMissing,
        "AuthorizationHeaderMalformed" if region().is_some() => Cause::WrongRegion { region: region() },
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "IllegalLocationConstraintException" => {
            Cause::WrongRegion { region: region() }
        }
        "InvalidObjectState" => Cause::ColdStorage,
        "ObjectLockConfigurationNotFoundError" => Cause::NoObjectLock,
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => Cause::DiskFull,
        "NoSuchUpload" => Cause::UploadGone,
        "InternalError" => Cause::ServerFailed { status: 500 },
        // What arrived was not what was sent.
        "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" => Cause::Broken,
        "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests" | "ServiceUnavailable" => {
            Cause::Busy
        }
        "RequestTimeout" => Cause::Broken,
        "PreconditionFailed" => Cause::Changed,
        _ => match status.as_u16() {
            401 => Cause::NotSignedIn,
            403 => Cause::NoPermission,
            404 | 410 => Cause::ObjectMissing,
            412 | 416 => Cause::Changed,
            408 | 429 | 503 => Cause::Busy,
            507 => Cause::DiskFull,
            500 | 502 | 504 | 499 | 520..=599 => Cause::ServerFailed { status: status.as_u16() },
            300..=399 => Cause::WrongRegion { region: region() },
            _ => Cause::Unexpected { what: format!("the server answered with status {}", status.as_u16()) },
        },
    };
    let detail = match element(body, "Message") {
        Some(message) => format!("status {}, {code}: {message}", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    };
    let retry_after =
        text(headers, RETRY_AFTER).and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    Fault { cause, detail, retry_after }
}

pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What a partial answer holds: first byte, last byte, and the length of the whole.
pub(crate) fn content_range(headers: &HeaderMap) -> Result<(u64, u64, u64), Fault> {
    let parse = || {
        let value = text(headers, CONTENT_RANGE)?;
        let (part, size) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?, size.parse().ok()?))
    };
    parse().ok_or_else(|| Fault::unexpected("the server does not say which part it sent of how many bytes"))
}

/// The text of the first `<name>` in an S3 error document, which is flat.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

fn from_reqwest(error: reqwest::Error) -> Fault {
    // The address may hold a signature or a password.
    let error = error.without_url();
    let socket = find::<io::Error>(&error).map(io::Error::kind);
    let cause = if let Some(NotResolved { host, .. }) = find(&error) {
        Cause::NameNotResolved { host: host.clone() }
    } else if let Some(OutOfReach { host }) = find(&error) {
        Cause::OutOfReach { host: host.clone() }
    } else if error.is_connect() {
        match socket {
            _ if find::<rustls::Error>(&error).is_some() => Cause::Tls,
            Some(io::ErrorKind::ConnectionRefused) => Cause::ConnectionRefused,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => Cause::Unreachable,
            _ if error.is_timeout() => Cause::Unreachable,
            _ => Cause::Broken,
        }
    } else if error.is_timeout() {
        Cause::TimedOut
    } else if error.is_builder() || error.is_redirect() {
        Cause::Unexpected { what: error.to_string() }
    } else {
        Cause::Broken
    };
    Fault { cause, detail: chain(&error), retry_after: None }
}
