//! The database half of a cutover: two renames in one transaction.
//!
//! Databases are known by their OIDs: a name can lie after a crash, an OID cannot.

use std::time::Duration;

use tokio_postgres::{Client, error::SqlState};
use undoo_core::{Kind, Place, Problem, Result, Side, pair::parked_database};

use crate::{
    pg::{self, ident},
    properties::Properties,
    record::Record,
};

pub(super) fn oid(record: &Record, side: Side) -> Option<u32> {
    match side {
        Side::Restored => record.restored_oid,
        Side::Replaced => record.replaced_oid,
    }
}

async fn name_of(server: &Client, oid: Option<u32>) -> Result<Option<String>> {
    let Some(oid) = oid else { return Ok(None) };
    let row = server
        .query_opt("SELECT datname::text FROM pg_database WHERE oid = $1", &[&oid])
        .await
        .map_err(pg::failed("looking for a database by its OID"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Where both databases are.
pub(super) async fn places(server: &Client, record: &Record) -> Result<(Place, Place)> {
    let mut places = [Place::Absent; 2];
    for (place, side) in places.iter_mut().zip([Side::Restored, Side::Replaced]) {
        *place = match name_of(server, oid(record, side)).await? {
            None => Place::Absent,
            Some(name) if name == record.database => Place::Live,
            Some(name) if name == parked_database(&record.id, side) => Place::Parked,
            Some(name) => {
                return Err(Problem::new(
                    Kind::Stuck,
                    "database_renamed",
                    format!("the {} database was renamed to \"{name}\" by someone else", side.word()),
                    format!("rename it to \"{}\" and run it again", parked_database(&record.id, side)),
                ));
            }
        };
    }
    Ok((places[0], places[1]))
}

/// Makes sure that a settled restore is as its record says: someone may have renamed, or restored since.
pub(super) async fn expect_live(server: &Client, record: &Record, side: Side) -> Result<()> {
    let row = server
        .query_opt("SELECT oid FROM pg_database WHERE datname = $1", &[&record.database])
        .await
        .map_err(pg::failed("looking at the live database"))?;
    let live: Option<u32> = row.map(|row| row.get(0));
    if live == oid(record, side) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Conflict,
        "live_changed",
        format!("the live database \"{}\" is not the one that restore {} knows", record.database, record.id),
        "something else has taken its place since; `undoo list` shows the newest restore",
    ))
}

/// Makes sure, while nothing has been stopped yet, that the settings can be given to the restored
/// database: some may be newer than the plan.
pub(super) async fn expect_settable(
    server: &Client,
    record: &Record,
    kept: Option<Properties>,
    left_out: &[String],
) -> Result<()> {
    let live = name_of(server, record.replaced_oid).await?.filter(|name| *name == record.database);
    let properties = match (kept, live) {
        (Some(kept), _) => kept,
        (None, Some(live)) => Properties::of(server, &live, &record.owner).await?,
        (None, None) => return Ok(()),
    };
    let unsettable = properties.without(left_out).unsettable(server).await?;
    if unsettable.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unsettable.iter().map(ToString::to_string).collect();
    Err(Problem::new(
        Kind::Denied,
        "setting_rights",
        format!(
            "database \"{}\" has settings that the administrator's role may not copy: {}",
            record.database,
            names.join(", ")
        ),
        "nothing was stopped; they were made after the plan: take them back (RESET), or give that role the \
         right, then run it again",
    ))
}

/// Forbids connections to both databases and ends the sessions there are.
pub(super) async fn close(server: &Client, record: &Record) -> Result<()> {
    for side in [Side::Restored, Side::Replaced] {
        let Some(name) = name_of(server, oid(record, side)).await? else { continue };
        close_database(server, &name).await?;
    }
    Ok(())
}

/// Forbids connections to a database and ends the sessions there are.
///
/// # Errors
/// `Conflict` when they do not end.
pub async fn close_database(server: &Client, name: &str) -> Result<()> {
    allow(server, name, false).await?;
    end_sessions(server, name).await
}

async fn allow(server: &Client, name: &str, allowed: bool) -> Result<()> {
    let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", ident(name));
    server.batch_execute(&sql).await.map_err(pg::failed("opening or closing a database"))
}

async fn end_sessions(server: &Client, name: &str) -> Result<()> {
    for _ in 0..120 {
        // Autovacuum gives way to a rename by itself, and only a superuser may end it.
        let left = server
            .query(
                "SELECT pid, usename::text, application_name::text, coalesce(client_addr::text, 'local'), \
                 pg_terminate_backend(pid) \
                 FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'",
                &[&name],
            )
            .await
            .map_err(pg::failed("ending the sessions of a database"))?;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Problem::new(
        Kind::Conflict,
        "sessions_stay",
        format!("sessions on database \"{name}\" do not end"),
        "see pg_stat_activity for who they are; stop those clients, then run it again",
    ))
}

/// Both renames, with what belongs to the name and not to the OID, in one transaction.
///
/// `kept` are the properties of a live database that was dropped before, `left_out` the codes of settings
/// that someone accepted to lose.
pub(super) async fn rename(
    server: &Client,
    record: &Record,
    to: Side,
    kept: Option<Properties>,
    left_out: &[String],
) -> Result<()> {
    let (wanted, other) = (oid(record, to), oid(record, to.other()));
    let mut sql = String::from("BEGIN; SET LOCAL synchronous_commit = on;");
    if let Some(name) = name_of(server, other).await?
        && name == record.database
    {
        if to == Side::Restored
            && let Some(current) = name_of(server, wanted).await?
        {
            let properties = Properties::of(server, &name, &record.owner).await?;
            sql += &properties.without(left_out).statements(&current);
        }
        let parked = parked_database(&record.id, to.other());
        sql += &format!("ALTER DATABASE {} RENAME TO {};", ident(&name), ident(&parked));
    }
    if let Some(name) = name_of(server, wanted).await?
        && name != record.database
    {
        sql += &kept.map(|kept| kept.without(left_out).statements(&name)).unwrap_or_default();
        sql += &format!("ALTER DATABASE {} OWNER TO {};", ident(&name), ident(&record.owner));
        sql += &format!("ALTER DATABASE {} RENAME TO {};", ident(&name), ident(&record.database));
    }
    sql += "COMMIT";
    let mut attempts = 0;
    loop {
        match server.batch_execute(&sql).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && attempts < 20 => {
                attempts += 1;
                // A failed transaction stays open until it is rolled back.
                server.batch_execute("ROLLBACK").await.map_err(pg::failed("renaming databases"))?;
                close(server, record).await?;
            }
            Err(error) => {
                // The session may be gone with the server; the error that matters is the first one.
                let _ = server.batch_execute("ROLLBACK").await;
                return Err(pg::failed("renaming databases")(error));
            }
        }
    }
}

/// Allows connections to the live database and to no other of the two.
pub(super) async fn open(server: &Client, record: &Record, live: Side) -> Result<()> {
    if let Some(name) = name_of(server, oid(record, live.other())).await? {
        allow(server, &name, false).await?;
    }
    if let Some(name) = name_of(server, oid(record, live)).await? {
        allow(server, &name, true).await?;
    }
    Ok(())
}
