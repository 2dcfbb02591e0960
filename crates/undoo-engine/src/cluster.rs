//! What the target's PostgreSQL is, has and allows: facts, asked once, that plans are made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use undoo_core::{Finding, Result};

use crate::{
    home::Home,
    order::Target,
    pg,
    properties::{Properties, SettingName},
};

/// Facts about the server and about the role that administers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// `server_version_num / 10000`.
    pub major: u32,
    /// `server_version`.
    pub version: String,
    /// Whether the admin role is a superuser.
    pub superuser: bool,
    /// Whether it may create databases.
    pub create_db: bool,
    /// Whether it may create roles.
    pub create_role: bool,
    /// Whether the role that shall own the database exists.
    pub owner_exists: bool,
    /// Whether the admin role may give things to that role and act on what it owns.
    pub owner_member: bool,
    /// Extensions that could be created.
    pub available_extensions: Vec<String>,
    /// The live database, if there is one.
    pub live: Option<LiveDatabase>,
}

/// Facts about a database that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDatabase {
    /// Its OID, which survives renames.
    pub oid: u32,
    /// Its owner.
    pub owner: String,
    /// Its size in bytes.
    pub bytes: i64,
    /// Encoding name.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Locale provider: `c`, `i` or `b`.
    pub provider: String,
    /// ICU or built-in locale, where the provider has one.
    pub locale: Option<String>,
    /// Rules that change an ICU locale (`ICU_RULES`, from 16 on).
    pub icu_rules: Option<String>,
    /// Default tablespace.
    pub tablespace: String,
    /// Whether the admin role may make databases in it.
    pub tablespace_usable: bool,
    /// Settings that the admin role may not give to the restored database.
    pub unsettable: Vec<SettingName>,
    /// Who labelled it (`SECURITY LABEL ON DATABASE`).
    pub label_providers: Vec<String>,
    /// Prepared transactions in it, which would hold up the rename.
    pub prepared_transactions: i64,
    /// Logical replication slots on it.
    pub slots: Vec<String>,
    /// Whether `unaccent(text)` is marked IMMUTABLE in it; `None` where it has none.
    pub unaccent_immutable: Option<bool>,
    /// Its `database.uuid`, which tells whether a backup is one of this very instance.
    pub uuid: Option<String>,
    /// Publications and subscriptions, by name.
    pub replication: Vec<String>,
    /// Who is connected to it.
    pub sessions: Vec<Session>,
}

/// Someone who is connected to the live database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Role.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// Address; `None` for the Unix socket.
    pub address: Option<std::net::IpAddr>,
}

/// Asks the server.
///
/// # Errors
/// When it cannot be reached or does not answer.
pub async fn examine(target: &Target) -> Result<Cluster> {
    let client = target.admin.connect("postgres").await?;
    let doing = pg::failed("asking the server what it is");
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'), \
             rolsuper, rolcreatedb OR rolsuper, rolcreaterole OR rolsuper \
             FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(&doing)?;
    let extensions = client
        .query("SELECT name::text FROM pg_available_extensions ORDER BY name", &[])
        .await
        .map_err(&doing)?;
    let major = row.get::<_, i32>(0).unsigned_abs();
    let owner = client
        .query_opt(
            "SELECT pg_has_role(current_user, oid, 'USAGE') AND pg_has_role(current_user, oid, $2) \
             FROM pg_roles WHERE rolname = $1",
            // Since 16, a membership may come without the right to give things away.
            &[&target.owner, &if major < 16 { "MEMBER" } else { "SET" }],
        )
        .await
        .map_err(&doing)?;
    Ok(Cluster {
        major,
        version: row.get(1),
        superuser: row.get(2),
        create_db: row.get(3),
        create_role: row.get(4),
        owner_exists: owner.is_some(),
        owner_member: owner.is_some_and(|row| row.get(0)),
        available_extensions: extensions.iter().map(|row| row.get(0)).collect(),
        live: live(target, &client, major).await?,
    })
}

/// The owner of the live database, or of one that a restore has dropped to make room; `None` where there
/// is none.
///
/// # Errors
/// When the server does not answer, or what was kept cannot be read.
pub async fn owner_of(target: &Target) -> Result<Option<String>> {
    let client = target.admin.connect("postgres").await?;
    let sql = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1";
    let row = client
        .query_opt(sql, &[&target.database])
        .await
        .map_err(pg::failed("asking who owns the live database"))?;
    if let Some(row) = row {
        return Ok(Some(row.get(0)));
    }
    let dropped = Home::of(&target.filestore_root).read_dropped::<Properties>(&target.database)?;
    Ok(dropped.map(|dropped| dropped.owner().to_owned()))
}

/// Where the server keeps its data; `None` where the role may not know that.
///
/// # Errors
/// When the server does not answer.
pub async fn data_directory(target: &Target) -> Result<Option<PathBuf>> {
    let client = target.admin.connect("postgres").await?;
    let row = client
        .query_opt("SELECT setting FROM pg_settings WHERE name = 'data_directory'", &[])
        .await
        .map_err(pg::failed("asking where the server keeps its data"))?;
    Ok(row.map(|row| row.get::<_, String>(0).into()))
}

async fn live(target: &Target, client: &Client, major: u32) -> Result<Option<LiveDatabase>> {
    let doing = pg::failed("asking about the live database");
    let (provider, locale, rules) = match major {
        ..=14 => ("'c'", "NULL::text", "NULL::text"),
        15 => ("datlocprovider::text", "daticulocale::text", "NULL::text"),
        16 => ("datlocprovider::text", "daticulocale::text", "daticurules::text"),
        _ => ("datlocprovider::text", "datlocale::text", "daticurules::text"),
    };
    let sql = format!(
        "SELECT d.oid, pg_get_userbyid(datdba)::text, pg_database_size(d.oid), \
         pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, {provider}, {locale}, \
         t.spcname::text, (SELECT count(*) FROM pg_prepared_xacts WHERE database = datname), \
         ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE database = datname), {rules}, \
         has_tablespace_privilege(t.oid, 'CREATE'), \
         ARRAY(SELECT provider FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = d.oid) \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = $1"
    );
    let Some(row) = client.query_opt(&sql, &[&target.database]).await.map_err(&doing)? else {
        return Ok(None);
    };
    let unsettable =
        Properties::of(client, &target.database, &target.owner).await?.unsettable(client).await?;
    let inside = target.admin.connect(&target.database).await?;
    let unaccent = inside
        .query_opt(
            "SELECT bool_or(provolatile = 'i') FROM pg_proc WHERE proname = 'unaccent' \
             AND pronargs = 1 HAVING count(*) > 0",
            &[],
        )
        .await
        .map_err(&doing)?;
    let has_parameters: bool = inside
        .query_one("SELECT coalesce(has_table_privilege(to_regclass('public.ir_config_parameter'), 'SELECT'), false)", &[])
        .await
        .map_err(&doing)?
        .get(0);
    let uuid = if has_parameters {
        inside
            .query_opt("SELECT value FROM public.ir_config_parameter WHERE key = 'database.uuid'", &[])
            .await
            .map_err(&doing)?
            .and_then(|row| row.get(0))
    } else {
        None
    };
    let replication = inside
        .query_one(
            "SELECT ARRAY(SELECT pubname::text FROM pg_publication UNION ALL \
             SELECT subname::text FROM pg_stat_subscription WHERE subname IS NOT NULL)",
            &[],
        )
        .await
        .map_err(&doing)?;
    Ok(Some(LiveDatabase {
        oid: row.get(0),
        owner: row.get(1),
        bytes: row.get(2),
        encoding: row.get(3),
        collate: row.get(4),
        ctype: row.get(5),
        provider: row.get(6),
        locale: row.get(7),
        icu_rules: row.get(11),
        tablespace: row.get(8),
        tablespace_usable: row.get(12),
        unsettable,
        label_providers: row.get(13),
        prepared_transactions: row.get(9),
        slots: row.get(10),
        unaccent_immutable: unaccent.and_then(|row| row.get(0)),
        uuid,
        replication: replication.get(0),
        sessions: sessions(&target.database, client).await?,
    }))
}

/// Who is connected to a database, besides us.
///
/// # Errors
/// When the server does not answer.
pub async fn sessions(database: &str, client: &Client) -> Result<Vec<Session>> {
    let rows = client
        .query(
            "SELECT coalesce(usename::text, ''), coalesce(application_name, ''), host(client_addr) \
             FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' \
             AND pid <> pg_backend_pid() AND application_name <> 'undoo'",
            &[&database],
        )
        .await
        .map_err(pg::failed("asking who is connected"))?;
    Ok(rows
        .iter()
        .map(|row| Session {
            user: row.get(0),
            application: row.get(1),
            address: row.get::<_, Option<String>>(2).and_then(|address| address.parse().ok()),
        })
        .collect())
}

impl Cluster {
    /// What stands in the way of a restore, or will be done differently, on this server.
    pub fn findings(&self, target: &Target) -> Vec<Finding> {
        let mut findings = Vec::new();
        let role = &target.admin.user;
        if !self.create_db {
            findings.push(Finding::refusal(
                "needs_createdb",
                format!("role \"{role}\" may not create databases"),
                format!("ALTER ROLE {} CREATEDB, or give the URL of a role that may", pg::ident(role)),
            ));
        }
        findings.extend(self.owner_finding(target));
        if target.owner_assumed && self.superuser {
            findings.push(Finding::warning(
                "owner_superuser",
                format!("the new database will belong to \"{}\", a superuser", target.owner),
                "if Odoo connects as another role it will not see its tables: name that one (--owner ROLE)",
            ));
        }
        if !self.create_role && !target.database_pinned {
            findings.push(Finding::needs_acceptance(
                "staged_visible",
                format!(
                    "role \"{role}\" may not create roles, so the staged database would belong to Odoo's own \
                     role: an Odoo without db_name would run its crons and send its mail while it loads"
                ),
                "give the URL of a role with CREATEROLE, set db_name in odoo.conf, or stop Odoo and accept",
            ));
        }
        if let Some(live) = &self.live {
            findings.extend(live.findings(target));
            findings.extend(live.unsettable.iter().map(|setting| setting.finding(role)));
        }
        findings
    }
}

impl Cluster {
    /// What keeps the restored database from being handed to the role that Odoo connects as.
    fn owner_finding(&self, target: &Target) -> Option<Finding> {
        let (role, owner) = (&target.admin.user, &target.owner);
        if !self.owner_exists {
            return Some(Finding::refusal(
                "owner_missing",
                format!("role \"{owner}\", which shall own the database, does not exist"),
                "create it, or name the role that Odoo connects as",
            ));
        }
        if role != owner && !self.create_role {
            return Some(Finding::refusal(
                "needs_createrole",
                format!("role \"{role}\" may not create roles, so its tables could not become \"{owner}\"'s"),
                "give the URL of Odoo's own role, or of one with CREATEROLE",
            ));
        }
        (!self.owner_member).then(|| {
            Finding::refusal(
                "needs_membership",
                format!("role \"{role}\" is no member of \"{owner}\", which owns what Odoo uses"),
                format!("GRANT {} TO {}", pg::ident(owner), pg::ident(role)),
            )
        })
    }
}

impl LiveDatabase {
    fn findings(&self, target: &Target) -> Vec<Finding> {
        let mut findings = Vec::new();
        let name = &target.database;
        if self.prepared_transactions > 0 {
            findings.push(Finding::refusal(
                "prepared_transactions",
                format!("database \"{name}\" has {} prepared transactions", self.prepared_transactions),
                "commit or roll them back (pg_prepared_xacts lists them): a rename waits for them",
            ));
        }
        if self.tablespace != "pg_default" && !self.tablespace_usable {
            findings.push(Finding::needs_acceptance(
                "tablespace_rights",
                format!(
                    "role \"{}\" may not make databases in tablespace \"{}\"",
                    target.admin.user, self.tablespace
                ),
                format!(
                    "GRANT CREATE ON TABLESPACE {} TO {}; accepted, the restored database goes into the \
                     server's default one",
                    pg::ident(&self.tablespace),
                    pg::ident(&target.admin.user)
                ),
            ));
        }
        if !self.label_providers.is_empty() {
            findings.push(Finding::warning(
                "security_labels",
                format!(
                    "database \"{name}\" has security labels, which are not copied: {}",
                    self.label_providers.join(", ")
                ),
                "give them to the restored database after the cutover (SECURITY LABEL ON DATABASE)",
            ));
        }
        if !self.slots.is_empty() {
            findings.push(Finding::needs_acceptance(
                "replication_slots",
                format!(
                    "logical replication slots stay with the replaced database: {}",
                    self.slots.join(", ")
                ),
                "drop them and make them anew on the restored database after the cutover",
            ));
        }
        if !self.replication.is_empty() {
            findings.push(Finding::needs_acceptance(
                "replication",
                format!(
                    "publications or subscriptions do not follow the name: {}",
                    self.replication.join(", ")
                ),
                "make them anew on the restored database after the cutover",
            ));
        }
        findings
    }
}
