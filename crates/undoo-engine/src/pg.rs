//! Sessions on the target's PostgreSQL, and the quoting of everything that is put into SQL.
//!
//! Names that come from a backup or from a person reach SQL only through [`ident`] and [`literal`].

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Config, NoTls, error::SqlState};
use undoo_core::{Kind, Problem, Result};

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
}

/// Writes a secret into an order: the only way out of it.
pub(crate) fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

impl DatabaseAccess {
    /// Reads `postgres://user:password@host:port/…`; the database in it is not part of the access.
    ///
    /// # Errors
    /// `Invalid` when it is not such a URL.
    pub fn from_url(url: &str) -> Result<(Self, Option<String>)> {
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
        let access = Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or("odoo").to_owned(),
            password: String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned().into(),
        };
        Ok((access, config.get_dbname().map(str::to_owned)))
    }

    /// The same server as another role.
    #[must_use]
    pub fn as_role(&self, user: &str, password: &SecretString) -> Self {
        Self { user: user.to_owned(), password: password.clone(), ..self.clone() }
    }

    /// Opens a session on `database`. The session ends when the client is dropped.
    ///
    /// # Errors
    /// `Denied` for a wrong password, `Missing` for a database that does not exist, `Unavailable` when
    /// the server does not answer within ten seconds.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(self.password.expose_secret())
            .dbname(database)
            .application_name("undoo")
            .connect_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(60));
        let (client, connection) =
            config.connect(NoTls).await.map_err(|error| self.connect_problem(database, error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database session ended");
            }
        });
        Ok(client)
    }

    fn connect_problem(&self, database: &str, error: tokio_postgres::Error) -> Problem {
        let place = format!("PostgreSQL at {}:{}", self.host, self.port);
        let state = error.code().cloned();
        let problem = match state {
            Some(code)
                if code == SqlState::INVALID_PASSWORD
                    || code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
            {
                Problem::new(
                    Kind::Denied,
                    "database_login",
                    format!("{place} does not let role \"{}\" in", self.user),
                    "check the role and the password that were given or found in odoo.conf",
                )
            }
            Some(code) if code == SqlState::UNDEFINED_DATABASE => Problem::new(
                Kind::Missing,
                "database_missing",
                format!("{place} has no database \"{database}\""),
                "name a database that exists, or leave the name to restore as a new one",
            ),
            Some(_) => Problem::new(
                Kind::Unavailable,
                "database_refused",
                format!("{place} refused a session on \"{database}\": {}", describe(&error)),
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

/// A failed statement of ours as a problem; `doing` completes "PostgreSQL failed while …".
pub fn failed(doing: &str) -> impl Fn(tokio_postgres::Error) -> Problem + '_ {
    move |error| {
        let lost = error.is_closed() || error.code().is_none();
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
}
