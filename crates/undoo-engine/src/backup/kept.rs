//! The pair that a restore keeps, opened for as long as it takes to dump it.
//!
//! A kept database is closed because an Odoo that sees it would run its crons. So before it is opened it
//! is given to a role that Odoo is not, in one transaction, and after it was closed it is given back. What
//! dies in between leaves it open and unseen; the next backup or restore on the target closes it.

use std::path::PathBuf;

use tokio_postgres::{Client, error::SqlState};
use undoo_core::{
    Kind, Problem, RestoreId, Result,
    pair::{loader_role, parked_database},
};

use crate::{
    home::Home,
    order::Target,
    pg::{self, ident},
    record::{self, Record, State},
    stage, swap,
};

/// A kept pair that is open.
pub struct Kept {
    server: Client,
    record: Record,
    /// The target, with the kept database in the place of the live one.
    pub target: Target,
    /// The kept files.
    pub files: PathBuf,
}

impl Kept {
    /// Opens the pair that restore `id` keeps. The caller holds the target's lock.
    ///
    /// # Errors
    /// `Missing` when nothing is kept, `Conflict` in the middle of a cutover, `Denied` where Odoo would see
    /// the database.
    pub async fn open(target: &Target, id: &RestoreId) -> Result<Self> {
        let home = Home::of(&target.filestore_root);
        let record = Record::read(&home, id)?.filter(|record| record.database == target.database);
        let (record, side) = match record.map(|record| (record.state, record)) {
            Some((State::Live { side }, record)) => (record, side.other()),
            Some((State::Swapping { .. }, _)) => return Err(in_cutover(id)),
            _ => return Err(nothing_kept(target, id)),
        };
        let server = target.admin.connect("postgres").await?;
        let database = parked_database(id, side);
        let known = server
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database])
            .await
            .map_err(pg::failed("looking for the kept database"))?;
        if known.is_none() {
            return Err(nothing_kept(target, id));
        }
        let keeper = keeper(&server, target, &record).await?;
        let open = format!(
            "BEGIN; ALTER DATABASE {name} OWNER TO {keeper}; ALTER DATABASE {name} ALLOW_CONNECTIONS true; COMMIT",
            name = ident(&database),
            keeper = ident(&keeper),
        );
        if let Err(error) = server.batch_execute(&open).await {
            // The session is to be of use for nothing else; its transaction ends with it.
            return Err(match error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                true => would_be_seen(&record.id, error),
                false => pg::failed("opening the kept database")(error),
            });
        }
        let files = home.parked(id, side);
        Ok(Self { server, record, target: Target { database, ..target.clone() }, files })
    }

    /// Closes it again.
    ///
    /// # Errors
    /// When the server does not answer: the next backup or restore on the target closes it.
    pub async fn close(self) -> Result<()> {
        close(&self.server, &self.target.database, &self.record.owner).await
    }
}

/// Closes what a backup that died has left open. The caller holds the target's lock.
///
/// # Errors
/// When the server does not answer, or a record cannot be read.
pub async fn close_left(target: &Target) -> Result<()> {
    let mut server = None;
    for record in record::all(&Home::of(&target.filestore_root))? {
        let State::Live { side } = record.state else { continue };
        if record.database != target.database {
            continue;
        }
        let server = match &mut server {
            Some(server) => server,
            none => none.insert(target.admin.connect("postgres").await?),
        };
        let name = parked_database(&record.id, side.other());
        let open = server
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1 AND datallowconn", &[&name])
            .await
            .map_err(pg::failed("looking for kept databases that are open"))?;
        if open.is_some() {
            close(server, &name, &record.owner).await?;
        }
    }
    Ok(())
}

async fn close(server: &Client, database: &str, owner: &str) -> Result<()> {
    swap::close_database(server, database).await?;
    let give_back = format!("ALTER DATABASE {} OWNER TO {}", ident(database), ident(owner));
    server.batch_execute(&give_back).await.map_err(pg::failed("closing the kept database"))?;
    stage::drop_idle_roles(server).await
}

/// The role that has the database while it is open.
async fn keeper(server: &Client, target: &Target, record: &Record) -> Result<String> {
    if target.database_pinned {
        return Ok(record.owner.clone());
    }
    if target.admin.user != record.owner {
        return Ok(target.admin.user.clone());
    }
    let role = loader_role(&record.id);
    let doing = pg::failed("making a role for the kept database");
    let known =
        server.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role]).await.map_err(&doing)?;
    if known.is_some() {
        return Ok(role);
    }
    let create = format!("CREATE ROLE {role} NOLOGIN; GRANT {role} TO CURRENT_USER", role = ident(&role));
    server.batch_execute(&create).await.map_err(|error| would_be_seen(&record.id, error))?;
    Ok(role)
}

fn would_be_seen(id: &RestoreId, error: tokio_postgres::Error) -> Problem {
    Problem::new(
        Kind::Denied,
        "kept_pair_would_be_seen",
        format!("to be dumped, the kept database of restore {id} has to be opened, and Odoo would see it"),
        "give the administrator's role CREATEROLE, or set Odoo's db_name, then run it again",
    )
    .caused_by(error)
}

fn in_cutover(id: &RestoreId) -> Problem {
    Problem::new(
        Kind::Conflict,
        "cutover_unfinished",
        format!("restore {id} broke off in its cutover: which pair is kept is not decided"),
        "run `undoo undo` or `undoo resume` first",
    )
}

fn nothing_kept(target: &Target, id: &RestoreId) -> Problem {
    Problem::new(
        Kind::Missing,
        "nothing_kept",
        format!("restore {id} keeps no pair on {}", target.name),
        "`undoo list` shows what is kept; a pair that was purged is gone",
    )
}
