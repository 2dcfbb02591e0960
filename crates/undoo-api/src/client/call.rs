//! One request and its answer: sent again where that does no harm, read within bounds, and every way to fail
//! told as a problem with a next step.

use std::{error::Error as StdError, fmt, time::Duration};

use reqwest::{
    Body, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, RETRY_AFTER},
};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use undoo_core::{Finding, Kind, Problem, Result};
use url::Url;

use super::{Client, IDEMPOTENCY_KEY, IdempotencyKey, SESSION_COOKIE, Shown};
use crate::problem::{self, ProblemDetails};

/// Bytes that an answer has at most: a report of a large restore is some megabytes.
const MOST_OF_AN_ANSWER: usize = 64 * 1024 * 1024;
/// A server that asks for more time than this is not waited for.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(10);

/// A request that is being put together.
pub(super) struct Call<'c> {
    client: &'c Client,
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    once: Option<IdempotencyKey>,
    within: Duration,
    headers: HeaderMap,
}

/// Why a request was not answered as it should be.
struct Failed {
    problem: Problem,
    /// Whether the server may have begun to carry it out.
    arrived: bool,
    /// When the server wants to see it again.
    after: Option<Duration>,
}

impl Client {
    pub(super) fn get(&self, path: &[&str]) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(super) fn post(&self, path: &[&str]) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(super) fn put(&self, path: &[&str]) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(super) fn patch(&self, path: &[&str]) -> Call<'_> {
        self.call(Method::PATCH, path)
    }

    pub(super) fn delete(&self, path: &[&str]) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    fn call(&self, method: Method, path: &[&str]) -> Call<'_> {
        Call { method, ..self.at(self.url(path)) }
    }

    /// A request for what is at an address.
    pub(super) fn at(&self, url: Url) -> Call<'_> {
        Call {
            client: self,
            method: Method::GET,
            url,
            body: None,
            once: None,
            within: self.patience.answer,
            headers: HeaderMap::new(),
        }
    }

    /// An endpoint's address. What is in a part of the path cannot become another part.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }
}

impl Call<'_> {
    /// With what a list is narrowed by.
    pub(super) fn query(mut self, query: &impl Serialize) -> Result<Self> {
        extend(&mut self.url, query)?;
        Ok(self)
    }

    /// With a body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = Some(serde_json::to_vec(body).map_err(unwritten)?);
        Ok(self)
    }

    /// Carried out once, however often it is sent.
    pub(super) fn once(mut self, key: &IdempotencyKey) -> Self {
        self.once = Some(key.clone());
        self
    }

    /// Something that takes a server a while to find out.
    pub(super) fn patiently(mut self) -> Self {
        self.within = self.client.patience.long_answer;
        self
    }

    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// The answer.
    pub(super) async fn answer<T: DeserializeOwned>(self) -> Result<T> {
        Ok(self.answer_with_headers().await?.0)
    }

    /// The answer, and the headers that came with it.
    pub(super) async fn answer_with_headers<T: DeserializeOwned>(self) -> Result<(T, HeaderMap)> {
        self.tried(async |call: &Self| {
            let response = call.sent_within().await?;
            let headers = response.headers().clone();
            let body = body(call.client, response).await?;
            let value = serde_json::from_slice(&body).map_err(|error| Failed {
                problem: call.client.not_understood().caused_by(error),
                arrived: true,
                after: None,
            })?;
            Ok((value, headers))
        })
        .await
    }

    /// For a request whose answer has nothing in it.
    pub(super) async fn done(self) -> Result<()> {
        self.tried(async |call: &Self| call.sent_within().await.map(drop)).await
    }

    /// The response as it begins, sent once. What comes after its beginning may take as long as it likes.
    pub(super) async fn begun(self) -> Result<Response> {
        let sent = tokio::time::timeout(self.within, self.sent(None)).await;
        match sent {
            Ok(sent) => sent.map_err(|failed| failed.problem),
            Err(_) => Err(self.client.silent()),
        }
    }

    async fn tried<T>(&self, attempt: impl AsyncFn(&Self) -> Result<T, Failed>) -> Result<T> {
        let patience = self.client.patience;
        let (mut pause, mut tried) = (patience.pause, 1);
        loop {
            let failed = match attempt(self).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let harmless = !failed.arrived || self.once.is_some() || self.method.is_idempotent();
            if !harmless || failed.problem.is_permanent() || tried >= patience.attempts {
                return Err(failed.problem);
            }
            tokio::time::sleep(failed.after.unwrap_or(pause).min(MOST_RETRY_AFTER)).await;
            (pause, tried) = (pause * 2, tried + 1);
        }
    }

    async fn sent_within(&self) -> Result<Response, Failed> {
        self.sent(Some(self.within)).await
    }

    /// The response to a request with this body, sent once. Its sender may take as long as they like.
    pub(super) async fn streamed(self, body: Body) -> Result<Response> {
        let answered = async {
            let response = self.request().body(body).send().await;
            self.accepted(response.map_err(|error| self.client.unanswered(error))?).await
        };
        answered.await.map_err(|failed: Failed| failed.problem)
    }

    async fn sent(&self, within: Option<Duration>) -> Result<Response, Failed> {
        let client = self.client;
        let mut request = self.request();
        if let Some(within) = within {
            request = request.timeout(within);
        }
        if let Some(key) = &self.once {
            request = request.header(IDEMPOTENCY_KEY, key.as_str());
        }
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = request.send().await.map_err(|error| client.unanswered(error))?;
        self.accepted(response).await
    }

    fn request(&self) -> RequestBuilder {
        let client = self.client;
        let mut request = client.http.request(self.method.clone(), self.url.clone());
        if !self.headers.contains_key(ACCEPT) {
            request = request.header(ACCEPT, "application/json");
        }
        request = request.headers(self.headers.clone());
        match &client.shown {
            Shown::Nothing => request,
            Shown::Token(token) => request.bearer_auth(token.expose_secret()),
            // The second header says that no other site's form sent it.
            Shown::Session(session) => request
                .header(COOKIE, format!("{SESSION_COOKIE}={}", session.expose_secret()))
                .header("X-Requested-With", "undoo"),
        }
    }

    async fn accepted(&self, response: Response) -> Result<Response, Failed> {
        let client = self.client;
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_redirection() => Err(client.elsewhere(&response).into()),
            status => Err(client.refused(status, response).await),
        }
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self { problem, arrived: true, after: None }
    }
}

impl Client {
    /// No answer, or only the beginning of one.
    fn unanswered(&self, error: reqwest::Error) -> Failed {
        let causes = causes(&error);
        let says = |words: &[&str]| words.iter().any(|word| causes.contains(word));
        let base = self.base();
        let arrived = !error.is_connect();
        let (code, message, remedy) = if error.is_timeout() && arrived {
            return Failed { problem: self.silent().caused_by(error.without_url()), arrived, after: None };
        } else if error.is_timeout() {
            (
                "server_unreachable",
                format!("the server {base} did not take the connection in time"),
                "see that the address is right and that no firewall is in between",
            )
        } else if let Some(cause) = insecure(&error) {
            let message = format!("a secure connection to {base} cannot be made: {cause}");
            let remedy = "see that the address is right; if its certificate is one of your own, name the \
                          file of your authority in SSL_CERT_FILE";
            // Waiting does not make it trusted.
            let problem = Problem::new(Kind::Refused, "server_tls", message, remedy);
            let problem = problem.caused_by(error.without_url());
            return Failed { problem, arrived: false, after: None };
        } else if says(&["dns error", "lookup"]) {
            let message = format!("the name of the server {base} is not known");
            (
                "server_unknown",
                message,
                "see that the address is right and that this machine can resolve names",
            )
        } else if says(&["connection refused"]) {
            let message = format!("nobody listens at {base}");
            ("server_refused", message, "see that `undoo serve` runs there and that the port is right")
        } else if error.is_connect() {
            let message = format!("the server {base} cannot be reached");
            ("server_unreachable", message, "see that the address is right and that the network is up")
        } else {
            let message = format!("the connection to {base} broke off before the answer was there");
            ("connection_lost", message, "see whether what was asked for was done before asking again")
        };
        let problem = Problem::new(Kind::Unavailable, code, message, remedy);
        Failed { problem: problem.caused_by(error.without_url()), arrived, after: None }
    }

    /// A connection that ended before what came over it.
    pub(super) fn broken_off(&self, error: reqwest::Error) -> Problem {
        self.unanswered(error).problem
    }

    pub(super) fn silent(&self) -> Problem {
        Problem::new(
            Kind::Unavailable,
            "server_silent",
            format!("the server {} did not answer in time", self.base()),
            "see whether what was asked for was done before asking again",
        )
    }

    pub(super) fn not_understood(&self) -> Problem {
        Problem::new(
            Kind::Invalid,
            "not_undoo",
            format!("what {} answered is not an answer of Undoo", self.base()),
            "see that this is the address of an Undoo server, and that it is not older than this program",
        )
    }

    fn elsewhere(&self, response: &Response) -> Problem {
        let to = response.headers().get(LOCATION).and_then(|to| self.base.join(to.to_str().ok()?).ok());
        let to = to.map_or_else(|| "another place".to_owned(), |to| to.origin().ascii_serialization());
        Problem::new(
            Kind::Invalid,
            "server_elsewhere",
            format!("{} sends requests on to {to}", self.base()),
            "use the address that it sends to; credentials are not taken along",
        )
    }

    /// An answer that says no.
    async fn refused(&self, status: StatusCode, response: Response) -> Failed {
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let after = after.map(Duration::from_secs);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let told = kind.is_some_and(|kind| kind.starts_with(problem::CONTENT_TYPE));
        let details = match body(self, response).await {
            Ok(body) if told => serde_json::from_slice::<ProblemDetails>(&body).ok(),
            _ => None,
        };
        let problem = match details {
            Some(mut details) => {
                let findings = std::mem::take(&mut details.findings);
                let request = std::mem::take(&mut details.request_id);
                let mut problem = details.into_problem();
                if problem.kind == Kind::Internal && problem.remedy.is_empty() && !request.is_empty() {
                    problem.remedy = format!("look for the request {request} in the server's log");
                }
                problem.caused_by(Told { request, findings })
            }
            None => Problem::new(
                problem::kind(status.as_u16()),
                "http_status",
                format!("{} answered {status} and did not say why", self.base()),
                "see that this is the address of an Undoo server, and what the proxy before it has in its log",
            ),
        };
        Failed { problem, arrived: true, after }
    }
}

/// What a server told besides the problem itself.
#[derive(Debug)]
struct Told {
    request: String,
    findings: Vec<Finding>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's request {}", self.request)
    }
}

impl StdError for Told {}

/// The findings that a server named as standing in the way.
pub fn findings(problem: &Problem) -> &[Finding] {
    let told = problem.source.as_deref().and_then(|source| source.downcast_ref::<Told>());
    told.map_or(&[], |told| &told.findings)
}

async fn body(client: &Client, mut response: Response) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| client.unanswered(error))? {
        if body.len() + chunk.len() > MOST_OF_AN_ANSWER {
            return Err(client.not_understood().into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Adds the fields of a query to an address; those that are `null` are left out.
pub(super) fn extend(url: &mut Url, query: &impl Serialize) -> Result<()> {
    let Value::Object(fields) = serde_json::to_value(query).map_err(unwritten)? else { return Ok(()) };
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::String(text) => drop(url.query_pairs_mut().append_pair(&name, &text)),
            value => drop(url.query_pairs_mut().append_pair(&name, &value.to_string())),
        }
    }
    Ok(())
}

fn unwritten(error: serde_json::Error) -> Problem {
    Problem::new(Kind::Internal, "request", "a request could not be written", "please report this")
        .caused_by(error)
}

/// What an error and those underneath it say, in lower case.
fn causes(error: &reqwest::Error) -> String {
    chain(error).map(|error| error.to_string().to_lowercase()).collect::<Vec<_>>().join(": ")
}

/// Why a connection cannot be made secure, where it is that.
fn insecure(error: &reqwest::Error) -> Option<&rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The errors underneath: reqwest's own names the address only. One of I/O passes over what is in it when it
/// is asked for its source.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&error| {
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        within.map(|within| within as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}
