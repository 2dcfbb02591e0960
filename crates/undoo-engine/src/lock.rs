//! One at work on a target: the lock, and who has it.
//!
//! It is an advisory lock on database `postgres`, by the target's database name, so that it goes with the
//! session that took it, however that one ends. A restore holds it from its first order to its cutover.
//! Whoever is refused is told who is at work. Nothing here changes a database or a file.

use std::{fmt, time::Duration};

use tokio_postgres::{Client, error::SqlState};
use undoo_core::{BackupId, Kind, Problem, RestoreId, Result};

use crate::{home::Home, order::Target, pg, record::Record};

/// Class of the key. The second key space keeps clear of locks that Odoo and its modules take.
const CLASS: u32 = 1_970_037_871;
/// A session that has just been closed, or whose process died, holds its locks for a moment longer.
const MOMENT: Duration = Duration::from_secs(2);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the process that cuts over may take to start and ask for the lock, and how long it waits for
/// the lock then.
const HAND_OVER: Duration = Duration::from_secs(60);

/// What a lock is held for; its holder's session has it as `application_name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A restore, up to its cutover.
    Restore(RestoreId),
    /// A cutover of a restore, in either direction.
    Cutover(RestoreId),
    /// A backup, until its database is dumped.
    Backup(BackupId),
    /// Removing kept pairs.
    Purge,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore(id) => write!(f, "restore {id}"),
            Self::Cutover(id) => write!(f, "cutover {id}"),
            Self::Backup(id) => write!(f, "backup {id}"),
            Self::Purge => f.write_str("purge"),
        }
    }
}

impl Work {
    /// As `application_name`: 63 bytes at most, and visible to every role.
    fn session_name(&self) -> String {
        format!("undoo {self}")
    }

    fn of_session(name: &str) -> Option<Self> {
        let mut words = name.strip_prefix("undoo ")?.split(' ');
        match (words.next()?, words.next()) {
            ("restore", Some(id)) => id.parse().ok().map(Self::Restore),
            ("cutover", Some(id)) => id.parse().ok().map(Self::Cutover),
            ("backup", Some(id)) => id.parse().ok().map(Self::Backup),
            ("purge", None) => Some(Self::Purge),
            _ => None,
        }
    }
}

/// The target's lock, held for as long as the value lives.
pub struct Locked {
    server: Client,
    database: String,
}

impl Locked {
    /// Takes the target's lock.
    ///
    /// # Errors
    /// `Conflict` with code `target_busy`, which names who has it.
    pub async fn take(target: &Target, work: Work) -> Result<Self> {
        let server = session(target, work).await?;
        let began = std::time::Instant::now();
        // Asked for again and again, not waited for: whoever waits comes before all who ask, and that is
        // kept for the cutover to which a lock is handed over.
        loop {
            let row = server
                .query_one(
                    &format!("SELECT pg_try_advisory_lock({CLASS}, hashtext($1))"),
                    &[&target.database],
                )
                .await
                .map_err(pg::failed("taking the target's lock"))?;
            if row.get::<_, bool>(0) {
                return Ok(Self { server, database: target.database.clone() });
            }
            if began.elapsed() >= MOMENT {
                return Err(busy(&server, target).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for the lock that a restore [hands over](Self::hand_over) to its cutover.
    ///
    /// # Errors
    /// `Conflict` as [`Locked::take`], if it is not let go within a minute.
    pub async fn take_over(target: &Target, id: RestoreId) -> Result<Self> {
        let server = session(target, Work::Cutover(id)).await?;
        let doing = pg::failed("waiting for the target's lock");
        let patience = |milliseconds: u128| format!("SET lock_timeout = {milliseconds}");
        server.batch_execute(&patience(HAND_OVER.as_millis())).await.map_err(&doing)?;
        let waited = server
            .execute(&format!("SELECT pg_advisory_lock({CLASS}, hashtext($1))"), &[&target.database])
            .await;
        match waited {
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(busy(&server, target).await?);
            }
            Err(error) => return Err(doing(error)),
        }
        server.batch_execute(&patience(0)).await.map_err(&doing)?;
        Ok(Self { server, database: target.database.clone() })
    }

    /// Lets the lock go to the cutover of this restore, as soon as that one waits for it. PostgreSQL gives
    /// it to who waits before anyone who only asks, so that nobody else can come in between.
    ///
    /// # Errors
    /// `Unavailable` when the cutover does not ask for it within a minute; the lock is let go then too.
    pub async fn hand_over(self, id: RestoreId) -> Result<()> {
        let began = std::time::Instant::now();
        let heir = Work::Cutover(id).session_name();
        let sql = format!("SELECT 1 FROM {} AND NOT l.granted AND a.application_name = $2", self::sessions());
        while began.elapsed() < HAND_OVER {
            let waits = self
                .server
                .query_opt(&sql, &[&self.database, &heir])
                .await
                .map_err(pg::failed("handing the target's lock over"))?;
            if waits.is_some() {
                return self.release().await;
            }
            tokio::time::sleep(PAUSE / 4).await;
        }
        self.release().await?;
        Err(Problem::new(
            Kind::Unavailable,
            "cutover_not_begun",
            format!("the cutover of restore {id} did not begin within {} s", HAND_OVER.as_secs()),
            "see the log of its container, then run the restore again",
        ))
    }

    async fn release(self) -> Result<()> {
        self.server
            .execute(&format!("SELECT pg_advisory_unlock({CLASS}, hashtext($1))"), &[&self.database])
            .await
            .map(|_| ())
            .map_err(pg::failed("letting the target's lock go"))
    }

    /// The session that holds it, on database `postgres`.
    pub fn server(&self) -> &Client {
        &self.server
    }

    /// Whether it is a lock on this target, and the server has not lost it with the session.
    pub async fn holds(&self, target: &Target) -> bool {
        self.database == target.database && self.server.batch_execute("SELECT").await.is_ok()
    }
}

async fn session(target: &Target, work: Work) -> Result<Client> {
    let server = target.admin.connect("postgres").await?;
    let name = format!("SET application_name = {}", pg::literal(&work.session_name()));
    server.batch_execute(&name).await.map_err(pg::failed("naming the session that holds the lock"))?;
    // It idles while Odoo boots or a person thinks. Servers before 14 do not know the setting, and do not
    // end idle sessions.
    let _ = server.batch_execute("SET idle_session_timeout = 0").await;
    Ok(server)
}

/// Sessions that hold the lock on database `$1` or wait for it, up to a condition.
fn sessions() -> String {
    format!(
        "pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND l.classid = {CLASS}::oid AND l.objid = hashtext($1)::oid AND l.objsubid = 2"
    )
}

/// Who has the lock, as an error.
async fn busy(server: &Client, target: &Target) -> Result<Problem> {
    let sql = format!(
        "SELECT a.application_name::text, \
         to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"') \
         FROM {} AND l.granted",
        sessions()
    );
    let row = server
        .query_opt(&sql, &[&target.database])
        .await
        .map_err(pg::failed("looking for who holds the target's lock"))?;
    let (name, since): (String, Option<String>) = row.map(|row| (row.get(0), row.get(1))).unwrap_or_default();
    let of_backup = |id: RestoreId| {
        let record = Record::read(&Home::of(&target.filestore_root), &id).ok().flatten();
        // One that has just begun has no record yet.
        record.map(|record| format!(" of {}", record.backup)).unwrap_or_default()
    };
    let who = match Work::of_session(&name) {
        Some(Work::Restore(id)) => format!("restore {id}{}", of_backup(id)),
        Some(Work::Cutover(id)) => format!("the cutover of restore {id}{}", of_backup(id)),
        Some(Work::Backup(id)) => format!("backup {id}"),
        Some(Work::Purge) => "a purge".to_owned(),
        None => "another run of undoo".to_owned(),
    };
    // A role that may not see other roles' sessions is not told since when.
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    Ok(Problem::new(
        Kind::Conflict,
        "target_busy",
        format!("{who} is at work on database \"{}\"{since}", target.database),
        "let it finish, or end it with Ctrl-C where it runs; `undoo list` shows where it stands",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_session_says_what_it_is_for_and_is_not_cut_off() {
        let id = RestoreId::generate();
        for work in [Work::Restore(id), Work::Cutover(id), Work::Backup(BackupId::generate()), Work::Purge] {
            let name = work.session_name();
            assert!(name.len() < 64, "{name}");
            assert_eq!(Work::of_session(&name), Some(work));
        }
        assert_eq!(Work::of_session("undoo"), None);
        assert_eq!(Work::of_session("undoo restore x"), None);
    }
}
