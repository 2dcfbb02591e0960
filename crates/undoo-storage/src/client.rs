//! The one HTTP client under every remote storage: it counts, times out, and says why a request failed.
//!
//! It never repeats a request: [`crate::resume`] does that for all storages alike, so that the number of
//! requests and the wait before giving up do not multiply.

use std::{
    error::Error as StdError,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use opendal::{Buffer, HttpBody, HttpTransport};
use reqwest::{
    Method, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_RANGE, HeaderMap, HeaderName, RANGE, RETRY_AFTER},
    redirect,
};
use undoo_core::{Kind, Problem, Result};

use crate::{
    fault::{Cause, Fault, chain, find},
    meter::Meter,
    options::Options,
};

/// What is read of an answer that says why a request was refused.
const REFUSAL_LIMIT: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    meter: Meter,
    /// Whether this server has answered at all; see [`Fault::may_pass`].
    seen: Arc<AtomicBool>,
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
        // A mover runs in a PostgreSQL image, which has no certificate authorities of its own: the
        // public ones are built in, and the system's come on top where there are any.
        let public_roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|root| reqwest::Certificate::from_der(root.as_ref()).ok());
        let policy = match redirects {
            Redirects::Follow => redirect::Policy::limited(10),
            Redirects::Refuse => redirect::Policy::none(),
        };
        // Bytes must arrive as they are stored, whatever features other crates switch on in reqwest.
        let http = reqwest::Client::builder()
            .user_agent(concat!("undoo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.stall_timeout)
            .tls_certs_merge(public_roots)
            .dns_resolver(Arc::new(SystemResolver))
            .redirect(policy)
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .build()
            .map_err(|error| {
                Problem::new(Kind::Internal, "http_client", "the HTTP client could not be set up", "")
                    .caused_by(error)
            })?;
        Ok(Self { http, meter: options.meter.clone(), seen: Arc::default() })
    }

    pub(crate) fn seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Sends a request; any answer, also a refusal, is a success here.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, Fault> {
        self.meter.add_request();
        let response = self.http.execute(request).await.map_err(from_reqwest)?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// The content of an answer, counted.
    pub(crate) fn content(
        &self,
        response: reqwest::Response,
    ) -> impl Stream<Item = Result<Bytes, Fault>> + Send + Sync + use<> {
        let meter = self.meter.clone();
        response.bytes_stream().map_err(from_reqwest).inspect_ok(move |bytes| meter.add_bytes(bytes.len()))
    }
}

/// Why a server answered with anything but success.
pub(crate) async fn refusal(mut response: reqwest::Response) -> Fault {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() >= REFUSAL_LIMIT {
            body.truncate(REFUSAL_LIMIT);
            break;
        }
    }
    classify(response.status(), response.headers(), &String::from_utf8_lossy(&body))
}

/// The error codes are those of S3, which its many servers share:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn classify(status: StatusCode, headers: &HeaderMap, body: &str) -> Fault {
    let code = element(body, "Code").unwrap_or_default();
    let region = || {
        let header = text(headers, HeaderName::from_static("x-amz-bucket-region"));
        header.or_else(|| element(body, "Region").map(str::to_owned))
    };
    let cause = match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "Unauthorized" | "InvalidSecurity" => {
            Cause::WrongKey
        }
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

/// The system's resolver, with an error that can be told from other failures to connect.
struct SystemResolver;

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}")]
struct NotResolved {
    host: String,
    source: io::Error,
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(Vec::from_iter);
            match found {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(source) => Err(Box::new(NotResolved { host, source }) as Box<dyn StdError + Send + Sync>),
            }
        })
    }
}

/// Lets OpenDAL sign and list through this client. Refused reads come back as errors that carry the
/// [`Fault`], since OpenDAL's own errors keep the server's code only as text.
impl HttpTransport for Client {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| into_opendal(Fault::unexpected(format!("its address is invalid: {error}"))))?;
        let range = text(&parts.headers, RANGE);
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if !body.is_empty() {
            *request.body_mut() = Some(body.to_bytes().into());
        }
        let response = self.send(request).await.map_err(into_opendal)?;
        if reads && !response.status().is_success() {
            return Err(into_opendal(refusal(response).await));
        }
        if let Some(range) = range {
            check_part(&range, &response).map_err(into_opendal)?;
        }
        let mut answer = http::Response::new(());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        // Without a length: a short body is for the resuming reader to notice, and to mend.
        let content = self.content(response).map_ok(Buffer::from).map_err(into_opendal);
        Ok(answer.map(|()| HttpBody::new(content, None)))
    }
}

/// OpenDAL takes whatever comes for the part that it asked for.
fn check_part(range: &str, response: &reqwest::Response) -> Result<(), Fault> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Cause::NoRanges.into());
    }
    let (first, last, _) = content_range(response.headers())?;
    if range == format!("bytes={first}-{last}") {
        Ok(())
    } else {
        Err(Fault::unexpected("the server sent another part than was asked for"))
    }
}

fn into_opendal(fault: Fault) -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::Unexpected, "the request failed").set_source(fault)
}

/// The fault that an error of OpenDAL carries.
pub(crate) fn from_opendal(error: &(dyn StdError + 'static)) -> Fault {
    find::<Fault>(error).cloned().unwrap_or_else(|| Fault {
        detail: chain(error),
        ..Fault::unexpected("the storage library gave up; the log has its words")
    })
}
