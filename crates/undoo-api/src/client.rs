//! A client of the REST API: a method for each endpoint, lists page by page, events without a gap.
//!
//! What goes wrong is a [`Problem`] that names the server and the next step. Credentials go into requests, to
//! the server they were given for, and nowhere else: redirects are not followed, and neither errors nor debug
//! output hold them.

mod call;
mod download;
mod endpoints;
mod list;
mod sse;
mod stream;
mod upload;

use std::{fmt, time::Duration};

use secrecy::SecretString;
use undoo_core::{Kind, Problem, Result};
use url::Url;

pub use self::{
    call::findings,
    download::Download,
    list::{List, Page},
    stream::{Event, Events},
};

/// The name of the cookie that holds a session.
pub const SESSION_COOKIE: &str = "undoo_session";

/// Header that makes a request which is sent twice be carried out once.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A server, as whom to talk to it, and how patiently. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    shown: Shown,
    patience: Patience,
}

/// What a caller is recognised by.
#[derive(Clone)]
enum Shown {
    Nothing,
    Token(SecretString),
    Session(SecretString),
}

/// How long to wait, and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until an answer is there.
    pub answer: Duration,
    /// The same where the server has to ask others first: storages, databases, containers.
    pub long_answer: Duration,
    /// Without a sign of life in a stream of events; the server gives one every 15 seconds.
    pub silence: Duration,
    /// Until a stream of events that broke off has to stand again.
    pub comeback: Duration,
    /// How often a request is sent, where sending it twice does no harm.
    pub attempts: u32,
    /// After the first time that it failed; twice as long after each further time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            long_answer: Duration::from_secs(600),
            silence: Duration::from_secs(50),
            comeback: Duration::from_secs(600),
            attempts: 4,
            pause: Duration::from_millis(250),
        }
    }
}

/// What makes that a request which is sent twice is carried out once: the server knows it for a day. Whoever
/// repeats a call after an error of the network, and means the same, gives the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key that nobody has used.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The key as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Client {
    /// A client of the server at `base`, such as `https://undo.example.com`, that shows a bearer token.
    ///
    /// # Errors
    /// `server_address` (`Invalid`) for what is no address of a server.
    pub fn new(base: &str, token: SecretString) -> Result<Self> {
        Ok(Self { shown: Shown::Token(token), ..Self::anonymous(base)? })
    }

    /// One that shows nothing: for signing in.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn anonymous(base: &str) -> Result<Self> {
        Self::patient(base, Patience::default())
    }

    /// The same with a patience of its own.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn patient(base: &str, patience: Patience) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("undoo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| {
                let message = "connections by HTTP cannot be made on this machine";
                Problem::new(Kind::Unavailable, "http", message, "see that its certificates can be read")
                    .caused_by(error)
            })?;
        Ok(Self { http, base: address(base)?, shown: Shown::Nothing, patience })
    }

    /// The same as somebody else, who shows a token.
    #[must_use]
    pub fn with_token(&self, token: SecretString) -> Self {
        Self { shown: Shown::Token(token), ..self.clone() }
    }

    /// The same as somebody else, who shows a session.
    #[must_use]
    pub fn with_session(&self, session: SecretString) -> Self {
        Self { shown: Shown::Session(session), ..self.clone() }
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether everybody on the way can read along.
    pub fn is_readable_on_the_way(&self) -> bool {
        let here = match self.base.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        self.base.scheme() == "http" && !here
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base()).finish_non_exhaustive()
    }
}

/// A server's address, without anything secret in it.
fn address(base: &str) -> Result<Url> {
    let wrong = |why: &str| {
        let remedy = "give it as https://HOST, or as http://HOST:PORT";
        Err(Problem::new(
            Kind::Invalid,
            "server_address",
            format!("this is no address of a server: {why}"),
            remedy,
        ))
    };
    let Ok(url) = Url::parse(base.trim()) else { return wrong("it cannot be read as a URL") };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return wrong("it begins with neither https:// nor http://");
    }
    // It would end up in errors and in files.
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("a name or a password stands in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("it has a ? or a #");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_a_path_and_never_with_a_password() {
        for (given, shown) in [
            ("https://undo.example.com", "https://undo.example.com"),
            ("http://127.0.0.1:8470/", "http://127.0.0.1:8470"),
            ("https://example.com/undo/", "https://example.com/undo"),
        ] {
            assert_eq!(Client::anonymous(given).unwrap().base(), shown);
        }
        for wrong in ["undo.example.com", "ftp://h", "https://u:geheim@h", "https://h?a=b", ""] {
            let problem = Client::anonymous(wrong).unwrap_err();
            assert_eq!(problem.code, "server_address", "{wrong}");
            assert!(!problem.message.contains("geheim"));
        }
    }

    #[test]
    fn a_client_shows_its_server_and_not_its_token() {
        let client = Client::new("https://undo.example.com", "geheim".into()).unwrap();
        let shown = format!("{client:?}");
        assert!(shown.contains("undo.example.com") && !shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn only_what_leaves_the_machine_unencrypted_can_be_read_on_the_way() {
        let readable = |base| Client::anonymous(base).unwrap().is_readable_on_the_way();
        assert!(readable("http://undo.example.com") && readable("http://10.0.0.1"));
        assert!(!readable("https://undo.example.com") && !readable("http://localhost:8470"));
        assert!(!readable("http://127.0.0.1") && !readable("http://[::1]:8470"));
    }
}
