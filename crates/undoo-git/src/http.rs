//! The HTTP under git: requests to one repository, and to nothing else.
//!
//! It is this project's and not the library's own, since that follows redirects, and tells a password only
//! after a refusal. Here no answer leads elsewhere, a token goes to the repository that it was given for alone,
//! all bytes are counted, and a wish to stop is seen while a server keeps silent.

use std::{
    any::Any,
    error::Error as StdError,
    io::{self, BufRead, Cursor, Read, Write},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use gix_transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use reqwest::{
    Method, Request, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
    redirect,
};
use secrecy::ExposeSecret as _;
use tokio::runtime::Runtime;
use undoo_core::{Kind, Problem, Result, platform::AddonsSource};
use undoo_storage::web;

use crate::{
    Limits, failure,
    watch::{TICK, Watch},
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// What git's servers call the first answer.
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";

/// The way to one repository.
pub(crate) struct Link {
    client: reqwest::Client,
    runtime: Runtime,
    source: AddonsSource,
    watch: Arc<Watch>,
    /// Bytes that may still come.
    left: AtomicU64,
    limits: Limits,
}

/// One connection of git's library over the link.
pub(crate) struct Connection(pub(crate) Arc<Link>);

/// One request with its answer: sent when the answer is first looked at, which is when its body is complete.
struct Exchange {
    link: Arc<Link>,
    request: Option<Request>,
    body: Vec<u8>,
    answer: Option<Response>,
}

type Shared = Arc<Mutex<Exchange>>;

/// The lines of an answer's headers.
pub(crate) struct Headers {
    exchange: Shared,
    lines: Option<Cursor<Vec<u8>>>,
}

/// An answer's body.
pub(crate) struct Body {
    exchange: Shared,
    chunk: Bytes,
}

/// A request's body.
pub(crate) struct Posted(Shared);

impl Link {
    pub(crate) fn new(source: &AddonsSource, limits: Limits, watch: &Arc<Watch>) -> Result<Self> {
        let internal = |error: Box<dyn StdError + Send + Sync>| {
            Problem::new(Kind::Internal, "http_client", "the HTTP client could not be set up", "")
                .caused_by(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| internal(error.into()))?;
        let client = web::client(limits.reach)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| internal(error.into()))?;
        let left = AtomicU64::new(limits.bytes);
        Ok(Self { client, runtime, source: source.clone(), watch: Arc::clone(watch), left, limits })
    }

    /// Ends the fetch; what the library makes of the error is not looked at any more.
    fn fail(&self, problem: Problem) -> io::Error {
        let error = io::Error::other(problem.message.clone());
        self.watch.end(problem);
        error
    }

    fn request(
        self: &Arc<Self>,
        method: Method,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<Shared> {
        let origin = &self.source.origin;
        let url = Url::parse(url).map_err(|_| error(self.fail(failure::no_repository(origin))))?;
        if !web::is_within(self.limits.reach, &url) {
            return Err(error(self.fail(failure::out_of_reach(origin))));
        }
        let mut request = self.client.request(method, url);
        for line in headers {
            let Some((name, value)) = line.as_ref().split_once(':') else { continue };
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim()))
            {
                request = request.header(name, value);
            }
        }
        if let Some(token) = &self.source.token {
            request = request.basic_auth(origin.user(), Some(token.expose_secret()));
        }
        let request = request.build().map_err(|_| error(self.fail(failure::no_repository(origin))))?;
        let link = Arc::clone(self);
        Ok(Arc::new(Mutex::new(Exchange { link, request: Some(request), body: Vec::new(), answer: None })))
    }

    /// Waits for something that a server does, unless the fetch is ended meanwhile.
    fn wait<T>(&self, work: impl Future<Output = reqwest::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(async {
            let mut work = pin!(work);
            loop {
                if self.watch.has_ended() {
                    return Err(io::Error::other("the fetch was ended"));
                }
                if let Ok(done) = tokio::time::timeout(TICK, work.as_mut()).await {
                    return done.map_err(|error| self.fail(self.broken(error)));
                }
            }
        })
    }

    fn broken(&self, error: reqwest::Error) -> Problem {
        let origin = &self.source.origin;
        if web::find::<web::OutOfReach>(&error).is_some() {
            return failure::out_of_reach(origin);
        }
        let host = origin.host().unwrap_or_default();
        let (why, remedy) = if web::find::<web::NotResolved>(&error).is_some() {
            (
                format!("the name {host} does not resolve to an address"),
                "Check its spelling, and the DNS settings of this machine.",
            )
        } else if web::find::<rustls::Error>(&error).is_some() {
            (
                format!("{host} has no certificate that this machine trusts, or encrypts in another way"),
                "Renew the server's certificate, or have this machine trust who has signed it.",
            )
        } else if error.is_connect() {
            (
                format!("no connection to {host} came about"),
                "Check that the server runs, the address with its port, and the firewalls between.",
            )
        } else {
            ("its server broke off".to_owned(), "Try again.")
        };
        failure::unreachable(origin, &why, remedy).caused_by(error)
    }

    /// Takes an answer that git's library can go on with.
    fn judge(&self, answer: &Response, is_first: bool) -> io::Result<()> {
        let (status, source) = (answer.status(), &self.source);
        let problem = if status.is_redirection() {
            let target = answer.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            failure::redirected(&source.origin, target.and_then(|target| answer.url().join(target).ok()))
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            failure::denied(source)
        } else if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            failure::missing(source)
        } else if !status.is_success() {
            let why = format!("its server answers with status {}", status.as_u16());
            failure::unreachable(&source.origin, &why, "Try again later; see the log of that server.")
        } else if is_first && answer.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != ADVERTISEMENT) {
            failure::no_repository(&source.origin)
        } else {
            return Ok(());
        };
        Err(self.fail(problem))
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let taken = |left: u64| left.checked_sub(bytes);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(_) => Ok(()),
            Err(_) => {
                let what = format!("more than {} bytes come from its server", self.limits.bytes);
                Err(self.fail(failure::too_large(&self.source.origin, &what)))
            }
        }
    }
}

impl Exchange {
    fn answer(&mut self) -> io::Result<&mut Response> {
        if let Some(mut request) = self.request.take() {
            let is_first = request.method() == Method::GET;
            if !is_first {
                *request.body_mut() = Some(std::mem::take(&mut self.body).into());
            }
            let answer = self.link.wait(self.link.client.execute(request))?;
            self.link.judge(&answer, is_first)?;
            self.answer = Some(answer);
        }
        self.answer.as_mut().ok_or_else(|| io::Error::other("the request has failed before"))
    }

    fn chunk(&mut self) -> io::Result<Bytes> {
        self.answer()?;
        let link = Arc::clone(&self.link);
        let answer = self.answer()?;
        let chunk = link.wait(answer.chunk())?.unwrap_or_default();
        link.count(chunk.len())?;
        Ok(chunk)
    }
}

impl Http for Connection {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Posted;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Headers, Body>> {
        self.0.request(Method::GET, url, headers).map(|exchange| both(&exchange).into())
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Headers, Body, Posted>> {
        self.0.request(Method::POST, url, headers).map(|exchange| both(&exchange))
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(())
    }
}

fn both(exchange: &Shared) -> PostResponse<Headers, Body, Posted> {
    PostResponse {
        post_body: Posted(Arc::clone(exchange)),
        headers: Headers { exchange: Arc::clone(exchange), lines: None },
        body: Body { exchange: Arc::clone(exchange), chunk: Bytes::new() },
    }
}

fn error(error: io::Error) -> gix::Error {
    gix::Error::from_error(error)
}

impl Headers {
    fn lines(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.lines.is_none() {
            let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            let mut lines = Vec::new();
            for (name, value) in exchange.answer()?.headers() {
                lines.extend_from_slice(name.as_str().as_bytes());
                lines.push(b':');
                lines.extend_from_slice(value.as_bytes());
                lines.push(b'\n');
            }
            self.lines = Some(Cursor::new(lines));
        }
        self.lines.as_mut().ok_or_else(|| io::Error::other("there are no headers"))
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lines()?.read(buffer)
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(lines) = &mut self.lines {
            lines.consume(amount);
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(buffer)?;
        self.consume(amount);
        Ok(amount)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() {
            self.chunk = self.exchange.lock().unwrap_or_else(PoisonError::into_inner).chunk()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl Write for Posted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
