//! The database half of a cutover: two renames in one transaction.
//!
//! Databases are known by their OIDs: a name can lie after a crash, an OID cannot.

use std::time::Duration;

use tokio_postgres::{Client, error::SqlState};
use undoo_core::{Kind, Place, Problem, Result, Side, pair::parked_database};

use crate::{
    pg::{self, ident, literal},
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

/// Forbids connections to both databases and ends the sessions there are.
pub(super) async fn close(server: &Client, record: &Record) -> Result<()> {
    for side in [Side::Restored, Side::Replaced] {
        let Some(name) = name_of(server, oid(record, side)).await? else { continue };
        allow(server, &name, false).await?;
        end_sessions(server, &name).await?;
    }
    Ok(())
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
/// `kept` are the properties of a live database that was dropped before.
pub(super) async fn rename(
    server: &Client,
    record: &Record,
    to: Side,
    kept: Option<Properties>,
) -> Result<()> {
    let (wanted, other) = (oid(record, to), oid(record, to.other()));
    let mut sql = String::from("BEGIN; SET LOCAL synchronous_commit = on;");
    if let Some(name) = name_of(server, other).await?
        && name == record.database
    {
        if to == Side::Restored
            && let Some(current) = name_of(server, wanted).await?
        {
            sql += &properties(server, &name, &record.owner).await?.statements(&current);
        }
        let parked = parked_database(&record.id, to.other());
        sql += &format!("ALTER DATABASE {} RENAME TO {};", ident(&name), ident(&parked));
    }
    if let Some(name) = name_of(server, wanted).await?
        && name != record.database
    {
        sql += &kept.map(|properties| properties.statements(&name)).unwrap_or_default();
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

/// What belongs to a database's name and not to its OID: settings, grants, limit, comment, owner.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Properties {
    owner: String,
    settings: Vec<(Option<String>, String, String)>,
    connection_limit: i32,
    comment: Option<String>,
    grants: Vec<(String, String, bool)>,
}

/// The properties of a database; `owner` is who shall own the one that gets them.
pub(super) async fn properties(server: &Client, database: &str, owner: &str) -> Result<Properties> {
    let doing = pg::failed("reading the live database's properties");
    let settings = server
        .query(
            "SELECT r.rolname::text, unnest(s.setconfig) FROM pg_db_role_setting s \
             JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole \
             WHERE d.datname = $1",
            &[&database],
        )
        .await
        .map_err(&doing)?;
    let row = server
        .query_one(
            "SELECT datconnlimit, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
            &[&database],
        )
        .await
        .map_err(&doing)?;
    let grants = server
        .query(
            "SELECT coalesce(r.rolname::text, ''), a.privilege_type::text, a.is_grantable \
             FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
             LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE d.datname = $1",
            &[&database],
        )
        .await
        .map_err(&doing)?;
    Ok(Properties {
        owner: owner.to_owned(),
        settings: settings
            .iter()
            .filter_map(|row| {
                let setting: String = row.get(1);
                let (name, value) = setting.split_once('=')?;
                Some((row.get(0), name.to_owned(), value.to_owned()))
            })
            .collect(),
        connection_limit: row.get(0),
        comment: row.get(1),
        grants: grants.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
    })
}

impl Properties {
    /// Statements that give them to `database`.
    fn statements(&self, database: &str) -> String {
        let target = ident(database);
        let mut sql = String::new();
        for (role, name, value) in &self.settings {
            // Odoo's own role may set what it likes on its database, and these statements run with the
            // administrator's rights: neither name nor value may be more than a name and a value.
            let elements = if is_list(name) { elements(value) } else { None };
            let value = elements.map_or_else(|| literal(value), |elements| elements.join(", "));
            let setting = format!("SET {} TO {value}", ident(name));
            sql += &match role {
                Some(role) => format!("ALTER ROLE {} IN DATABASE {target} {setting};", ident(role)),
                None => format!("ALTER DATABASE {target} {setting};"),
            };
        }
        sql += &format!("ALTER DATABASE {target} CONNECTION LIMIT {};", self.connection_limit);
        if let Some(comment) = &self.comment {
            sql += &format!("COMMENT ON DATABASE {target} IS {};", literal(comment));
        }
        sql += &format!("ALTER DATABASE {target} OWNER TO {};", ident(&self.owner));
        sql += &format!("REVOKE ALL ON DATABASE {target} FROM PUBLIC;");
        if self.grants.iter().any(|(grantee, ..)| *grantee == self.owner) {
            sql += &format!("REVOKE ALL ON DATABASE {target} FROM {};", ident(&self.owner));
        }
        for (grantee, privilege, grantable) in &self.grants {
            let grantee = if grantee.is_empty() { "PUBLIC".to_owned() } else { ident(grantee) };
            let option = if *grantable { " WITH GRANT OPTION" } else { "" };
            sql += &format!("GRANT {privilege} ON DATABASE {target} TO {grantee}{option};");
        }
        sql
    }
}

/// Settings whose value is a list of names (`GUC_LIST_QUOTE` in PostgreSQL's guc tables).
fn is_list(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "search_path"
            | "temp_tablespaces"
            | "session_preload_libraries"
            | "shared_preload_libraries"
            | "local_preload_libraries"
            | "unix_socket_directories"
    )
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

/// The elements of a stored list, each as a literal: separated by commas, quoted where they are not plain
/// (`SplitGUCList` in PostgreSQL's varlena.c); `None` for what is no such list.
fn elements(list: &str) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let mut rest = list.trim();
    loop {
        let element;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut after = quoted;
            loop {
                let end = after.find('"')?;
                text.push_str(&after[..end]);
                after = &after[end + 1..];
                let Some(doubled) = after.strip_prefix('"') else { break };
                text.push('"');
                after = doubled;
            }
            (element, rest) = (text, after.trim_start());
        } else {
            let end = rest.find([',', ' ', '\t', '\n']).unwrap_or(rest.len());
            (element, rest) = (rest[..end].to_owned(), rest[end..].trim_start());
        }
        elements.push(literal(&element));
        if rest.is_empty() {
            return Some(elements);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_list_is_taken_apart_as_postgresql_does() {
        let taken = |list: &str| elements(list).map(|elements| elements.join("|"));
        assert_eq!(taken("\"$user\", public").as_deref(), Some("'$user'|'public'"));
        assert_eq!(taken("\"a \"\"b\"\", c\",d").as_deref(), Some("'a \"b\", c'|'d'"));
        assert_eq!(taken("x;DROP/**/ROLE/**/odoo;--").as_deref(), Some("'x;DROP/**/ROLE/**/odoo;--'"));
        assert_eq!(taken("\"\"").as_deref(), Some("''"));
        assert_eq!(taken("").as_deref(), Some("''"));
        assert_eq!(taken("\"open"), None);
        assert_eq!(taken("a b"), None);
    }
}
