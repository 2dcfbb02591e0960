//! Sessions on the target's PostgreSQL, and the quoting of everything that is put into SQL.
//!
//! Names that come from a backup or from a person reach SQL only through [`ident`] and [`literal`].

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Config, config::SslMode as Handshake, error::SqlState};
use undoo_core::{Kind, Problem, Result};

mod tls;

pub use tls::{SslMode, Tls};

/// Where a PostgreSQL server is and who we are there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseAccess {
    /// Host name, address, or the directory of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password; exposed only on the way to a mover's standard input.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// How the way there is encrypted.
    #[serde(default)]
    pub tls: Tls,
}

/// Writes a secret into an order: the only way out of it.
pub(crate) fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

impl DatabaseAccess {
    /// Reads `postgres://user:password@host:port/…`; the database in it is not part of the access.
    ///
    /// `sslmode` and `sslrootcert` mean what they mean to libpq; the file is read here and now.
    ///
    /// # Errors
    /// `Invalid` when it is not such a URL, `Missing` when the file of authorities cannot be read.
    pub fn from_url(url: &str) -> Result<(Self, Option<String>)> {
        let (url, parameters) = without_tls_parameters(url);
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            Problem::new(
                Kind::Invalid,
                "database_url",
                "the database URL cannot be read",
                "write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            )
            .caused_by(error)
        })?;
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            Some(tokio_postgres::config::Host::Unix(path)) => path.to_string_lossy().into_owned(),
            None => "localhost".into(),
        };
        let given = |name: &str| {
            parameters.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
        };
        let access = Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or("odoo").to_owned(),
            password: String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned().into(),
            tls: Tls::from_parameters(given("sslmode"), given("sslrootcert"))?,
        };
        Ok((access, config.get_dbname().map(str::to_owned)))
    }

    /// The same server as another role.
    #[must_use]
    pub fn as_role(&self, user: &str, password: &SecretString) -> Self {
        Self { user: user.to_owned(), password: password.clone(), ..self.clone() }
    }

    /// Opens a session on `database`, encrypted as [`Tls`] says. The session ends when the client is
    /// dropped.
    ///
    /// # Errors
    /// `Denied` for a wrong password or when no encrypted session comes about that the mode asks for,
    /// `Missing` for a database that does not exist, `Unavailable` when the server does not answer within
    /// ten seconds.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut refused = None;
        for handshake in self.tls.handshakes(self.host.starts_with('/')) {
            match self.session(database, *handshake).await? {
                Ok(client) => return Ok(client),
                // Only what the other way of talking may answer is worth a second try.
                Err(error) if is_refusal(&error) => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(self.connect_problem(database, error)),
            }
        }
        match refused {
            Some(error) => Err(self.connect_problem(database, error)),
            None => Err(Problem::new(Kind::Internal, "database_handshake", "no handshake was tried", "")),
        }
    }

    async fn session(
        &self,
        database: &str,
        handshake: Handshake,
    ) -> Result<Result<Client, tokio_postgres::Error>> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(self.password.expose_secret())
            .dbname(database)
            .application_name("undoo")
            .ssl_mode(handshake)
            .connect_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(60));
        Ok(match config.connect(self.tls.connector()?).await {
            Ok((client, connection)) => {
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a database session ended");
                    }
                });
                Ok(client)
            }
            Err(error) => Err(error),
        })
    }

    fn connect_problem(&self, database: &str, error: tokio_postgres::Error) -> Problem {
        let place = format!("PostgreSQL at {}:{}", self.host, self.port);
        if tls::is_about_tls(&error) {
            return tls::problem(&place, error);
        }
        let state = error.code().cloned();
        let said = describe(&error);
        let problem = match state {
            Some(code) if code == SqlState::INVALID_PASSWORD => Problem::new(
                Kind::Denied,
                "database_login",
                format!("{place} does not let role \"{}\" in", self.user),
                "check the role and the password that were given or found in odoo.conf",
            ),
            // 13 and older say "SSL off".
            Some(code)
                if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                    && self.tls.mode == SslMode::Disable
                    && (said.contains("no encryption") || said.contains("SSL off")) =>
            {
                Problem::new(
                    Kind::Denied,
                    "database_tls_required",
                    format!("{place} takes no plain session of role \"{}\": {said}", self.user),
                    "sslmode is disable, and pg_hba.conf seems to ask for encryption (hostssl): use \
                     sslmode=require, or prefer",
                )
            }
            Some(code) if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Problem::new(
                Kind::Denied,
                "database_login",
                format!("{place} does not let role \"{}\" in: {said}", self.user),
                "check the role that was given or found in odoo.conf, and the server's pg_hba.conf",
            ),
            Some(code) if code == SqlState::UNDEFINED_DATABASE => Problem::new(
                Kind::Missing,
                "database_missing",
                format!("{place} has no database \"{database}\""),
                "name a database that exists, or leave the name to restore as a new one",
            ),
            Some(_) => Problem::new(
                Kind::Unavailable,
                "database_refused",
                format!("{place} refused a session on \"{database}\": {said}"),
                "see the server's log",
            ),
            None => Problem::new(
                Kind::Unavailable,
                "database_unreachable",
                format!("{place} does not answer"),
                "check that the server runs and that the address can be reached from here",
            ),
        };
        problem.caused_by(error)
    }
}

/// Whether a session failed in a way that the other of plain and encrypted may succeed: no common TLS, or
/// a pg_hba.conf that has no line for this one.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    tls::is_about_tls(error) || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Takes libpq's parameters for TLS out of a URL: the library knows only some of their values.
fn without_tls_parameters(url: &str) -> (String, Vec<(String, String)>) {
    // A password may have a question mark, and stands before the first @.
    let host = url.find('@').unwrap_or(0);
    let Some(at) = url.get(host..).and_then(|rest| rest.find('?')).map(|at| at + host) else {
        return (url.to_owned(), Vec::new());
    };
    let (before, query) = (&url[..at], &url[at + 1..]);
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((name @ ("sslmode" | "sslrootcert"), value)) => {
                // Unlike in a form, a plus sign is one.
                let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                taken.push((name.to_owned(), decoded.into_owned()));
            }
            _ => kept.push(pair),
        }
    }
    let question_mark = if kept.is_empty() { "" } else { "?" };
    (format!("{before}{question_mark}{}", kept.join("&")), taken)
}

/// What the server said, in one line.
pub fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| match db.detail() {
            Some(detail) => format!("{} ({detail})", db.message()),
            None => db.message().to_owned(),
        },
    )
}

/// Whether what failed is the server, and not what it was given: it is gone or shut down, or lacks memory,
/// disk or connections (classes 53, 57 and 58 of PostgreSQL's error codes).
pub fn is_the_servers(error: &tokio_postgres::Error) -> bool {
    let classes = ["53", "57", "58"];
    error.as_db_error().is_none_or(|db| classes.iter().any(|class| db.code().code().starts_with(class)))
}

/// A failed statement of ours as a problem; `doing` completes "PostgreSQL failed while …".
pub fn failed(doing: &str) -> impl Fn(tokio_postgres::Error) -> Problem + '_ {
    move |error| {
        let lost = error.is_closed() || is_the_servers(&error);
        let full = error.code() == Some(&SqlState::DISK_FULL);
        let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        let (kind, code, remedy) = if full {
            (Kind::Unavailable, "disk_full", "make room on the database server's disk, then run it again")
        } else if denied {
            (Kind::Denied, "database_rights", "use a role that may do this, or grant it")
        } else if lost {
            (Kind::Unavailable, "database_lost", "see the server's log, then run it again")
        } else {
            (Kind::Internal, "database_statement", "see the log; please report this")
        };
        Problem::new(kind, code, format!("PostgreSQL failed while {doing}: {}", describe(&error)), remedy)
            .caused_by(error)
    }
}

/// Quotes an identifier, always.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal. Backslashes are doubled under `E''`, so it holds whatever
/// `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A password for a role that lives as long as a restore: 256 bits, hexadecimal.
///
/// # Errors
/// `Internal` when the system has no randomness to give.
pub fn random_password() -> Result<SecretString> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(Kind::Internal, "no_randomness", "the system gave no random bytes", "").caused_by(error)
    })?;
    Ok(hex::encode(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_to_break_out_of_quotes_stay_inside() {
        assert_eq!(ident("a\"; DROP DATABASE b; --"), "\"a\"\"; DROP DATABASE b; --\"");
        assert_eq!(literal("a'; --"), "'a''; --'");
        assert_eq!(literal("a\\'; --"), "E'a\\\\''; --'");
    }

    #[test]
    fn a_url_gives_the_access_and_the_database() {
        let (access, database) =
            DatabaseAccess::from_url("postgres://odoo:s%40crt@db:5433/acme").expect("a good URL");
        assert_eq!((access.host.as_str(), access.port, access.user.as_str()), ("db", 5433, "odoo"));
        assert_eq!(access.password.expose_secret(), "s@crt");
        assert_eq!(database.as_deref(), Some("acme"));
    }

    #[test]
    fn a_url_says_how_the_way_is_encrypted() {
        let mode = |url: &str| DatabaseAccess::from_url(url).map(|(access, _)| access.tls.mode);
        assert_eq!(mode("postgres://db/acme").ok(), Some(SslMode::Prefer));
        assert_eq!(mode("postgres://db/acme?sslmode=verify-full").ok(), Some(SslMode::VerifyFull));
        assert_eq!(
            mode("postgres://o:a?sslmode=b@db/acme?connect_timeout=3&sslmode=require").ok(),
            Some(SslMode::Require)
        );
        assert_eq!(mode("postgres://db/acme?sslrootcert=system").ok(), Some(SslMode::VerifyFull));
        let wrong = mode("postgres://db/acme?sslmode=verify").expect_err("no mode of libpq");
        assert_eq!(wrong.code, "database_sslmode");
        let missing = mode("postgres://db/acme?sslmode=require&sslrootcert=/no/ca.pem").expect_err("no file");
        assert_eq!(missing.code, "database_authorities");
    }
}
