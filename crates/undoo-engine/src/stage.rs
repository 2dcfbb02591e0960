//! The staged database: made beside the live one, owned by a role of its own, seen by no Odoo.
//!
//! An Odoo without `db_name` runs crons on every connectable database that its role owns. So the staged
//! database belongs to a loader role, which is a member of nothing, until the cutover gives it away in
//! the transaction that renames it.

use secrecy::SecretString;
use tokio_postgres::{Client, error::SqlState};
use undoo_core::{Kind, Problem, RestoreId, Result, Side, pair};

use crate::{
    cluster::Cluster,
    order::Target,
    pg::{self, DatabaseAccess, ident, literal},
};

/// Extensions that may be created for a dump by the admin connection. Each is known not to open a way
/// out of the database.
const EXTENSIONS: [&str; 17] = [
    "pg_trgm",
    "unaccent",
    "vector",
    "pgcrypto",
    "uuid-ossp",
    "hstore",
    "btree_gin",
    "btree_gist",
    "fuzzystrmatch",
    "citext",
    "intarray",
    "tablefunc",
    "cube",
    "earthdistance",
    "ltree",
    "postgis",
    "pg_stat_statements",
];

/// Key of the advisory lock on database `postgres` under which loader roles come and go.
const ROLES_LOCK: &str = "1970037872, 0";

/// A staged database and the role that loads it.
pub struct Staged {
    /// Its name.
    pub database: String,
    /// Its OID.
    pub oid: u32,
    /// The loader role's access.
    pub loader: DatabaseAccess,
    /// Whether the loader is a role of its own; otherwise it is the admin role, which cannot make one.
    pub own_role: bool,
    admin: Client,
    unaccent_immutable: bool,
}

impl Staged {
    /// Creates role and database.
    ///
    /// # Errors
    /// `Denied` when a right is missing; nothing is left then.
    pub async fn create(
        target: &Target,
        cluster: &Cluster,
        id: &RestoreId,
        loader_password: &SecretString,
    ) -> Result<Self> {
        let server = target.admin.connect("postgres").await?;
        let database = pair::parked_database(id, Side::Restored);
        // Until it owns the database, the new role owns nothing, and a purge elsewhere on the server would
        // take it for a left-over one.
        let settle = format!("SELECT pg_advisory_lock_shared({ROLES_LOCK})");
        server.batch_execute(&settle).await.map_err(pg::failed("creating the loader role"))?;
        let (loader, own_role) = loader(target, cluster, id, loader_password, &server).await?;
        let create = format!(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 {}",
            ident(&database),
            ident(&loader.user),
            properties(cluster)
        );
        server.batch_execute(&create).await.map_err(pg::failed("creating the staged database"))?;
        let settled = format!("SELECT pg_advisory_unlock_shared({ROLES_LOCK})");
        server.batch_execute(&settled).await.map_err(pg::failed("creating the staged database"))?;
        // Nobody but the loader and the administrator has any business there.
        let closed = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", ident(&database));
        server.batch_execute(&closed).await.map_err(pg::failed("closing the staged database"))?;
        let oid = server
            .query_one("SELECT oid FROM pg_database WHERE datname = $1", &[&database])
            .await
            .map_err(pg::failed("reading the staged database's OID"))?
            .get(0);
        let admin = target.admin.connect(&database).await?;
        if cluster.major < 15 && own_role {
            // Up to 14, `public` belongs to the bootstrap superuser, and pg_dump comments on it.
            let owner = format!("ALTER SCHEMA public OWNER TO {}", ident(&loader.user));
            // A plain CREATEDB role may not; creating in `public` is open to all there anyway.
            let _ = admin.batch_execute(&owner).await;
        }
        let unaccent_immutable =
            cluster.live.as_ref().and_then(|live| live.unaccent_immutable).unwrap_or(true);
        Ok(Self { database, oid, loader, own_role, admin, unaccent_immutable })
    }

    /// Creates an extension that the dump asks for.
    ///
    /// # Errors
    /// `Refused` for one that is not on the list, `Missing` for one that the server does not have.
    pub async fn extension(&self, name: &str, cluster: &Cluster) -> Result<()> {
        if name == "plpgsql" {
            return Ok(());
        }
        if !EXTENSIONS.contains(&name) {
            return Err(Problem::new(
                Kind::Refused,
                "extension_not_allowed",
                format!("the dump asks for extension \"{name}\", which a restore does not create"),
                "if the instance needs it, restore with a dump made without it and create it by hand",
            ));
        }
        if !cluster.available_extensions.iter().any(|available| available == name) {
            return Err(Problem::new(
                Kind::Missing,
                "extension_missing",
                format!("the dump needs extension \"{name}\", which this PostgreSQL does not have"),
                format!(
                    "install it on the server (Debian: postgresql-{}-…), then run it again",
                    cluster.major
                ),
            ));
        }
        let create = format!("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public", ident(name));
        self.admin.batch_execute(&create).await.map_err(pg::failed(&format!("creating extension {name}")))?;
        if name == "unaccent" && self.unaccent_immutable {
            // Dumps omit that Odoo marks it so, and indexes that use it fail otherwise.
            let immutable = "ALTER FUNCTION public.unaccent(text) IMMUTABLE";
            if let Err(error) = self.admin.batch_execute(immutable).await {
                tracing::warn!(%error, "unaccent stays STABLE: the admin role does not own the extension");
            }
        }
        Ok(())
    }
}

/// Hands everything in the staged database to Odoo's role, but not yet the database itself: an Odoo
/// that sees it would run its crons.
///
/// Functions of unknown code, which someone accepted, are not handed to a role that can do more than work
/// in databases: they stay the loader's, who is nobody, and run with its rights whoever calls them.
///
/// # Errors
/// When the server refuses; nothing has changed then.
pub async fn hand_over(target: &Target, id: &RestoreId, confined: &[String]) -> Result<()> {
    let database = pair::parked_database(id, Side::Restored);
    let mut admin = target.admin.connect(&database).await?;
    let doing = pg::failed("handing the tables to Odoo's role");
    let role = pair::loader_role(id);
    let exists =
        admin.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role]).await.map_err(&doing)?;
    if exists.is_none() {
        return Ok(());
    }
    let (loader, owner) = (ident(&role), ident(&target.owner));
    let transaction = admin.transaction().await.map_err(&doing)?;
    let reassign = format!(
        "REASSIGN OWNED BY {loader} TO {owner}; ALTER DATABASE {} OWNER TO {loader}",
        ident(&database)
    );
    transaction.batch_execute(&reassign).await.map_err(&doing)?;
    let confine = confinement(&transaction, &target.owner, &role, confined).await?;
    transaction.batch_execute(&confine).await.map_err(&doing)?;
    transaction.commit().await.map_err(&doing)
}

/// Statements that keep accepted functions from running with the rights of a powerful owner.
async fn confinement(
    transaction: &tokio_postgres::Transaction<'_>,
    owner: &str,
    loader: &str,
    confined: &[String],
) -> Result<String> {
    let doing = pg::failed("confining accepted functions");
    let powerful: bool = transaction
        .query_one(
            "SELECT rolsuper OR pg_has_role(oid, 'pg_execute_server_program', 'MEMBER') \
             OR pg_has_role(oid, 'pg_read_server_files', 'MEMBER') \
             OR pg_has_role(oid, 'pg_write_server_files', 'MEMBER') FROM pg_roles WHERE rolname = $1",
            &[&owner],
        )
        .await
        .map_err(&doing)?
        .get(0);
    if !powerful || confined.is_empty() {
        return Ok(String::new());
    }
    let functions = transaction
        .query(
            "SELECT p.oid::regprocedure::text, n.nspname::text FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = p.pronamespace \
             WHERE format('\"%s\".\"%s\"', replace(n.nspname, '\"', '\"\"'), \
             replace(p.proname, '\"', '\"\"')) = ANY($1) AND p.prokind IN ('f', 'p', 'w') \
             AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid \
             AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')",
            &[&confined],
        )
        .await
        .map_err(&doing)?;
    let loader = ident(loader);
    let mut sql = format!("ALTER ROLE {loader} NOLOGIN PASSWORD NULL;");
    let mut schemas: Vec<String> = functions.iter().map(|row| row.get(1)).collect();
    schemas.push("public".to_owned());
    schemas.sort();
    schemas.dedup();
    for schema in schemas.iter().map(|schema| ident(schema)) {
        sql += &format!(
            "GRANT USAGE, CREATE ON SCHEMA {schema} TO {loader}; \
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {loader}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {loader};"
        );
    }
    for function in &functions {
        let name: String = function.get(0);
        sql += &format!("ALTER ROUTINE {name} SECURITY DEFINER; ALTER ROUTINE {name} OWNER TO {loader};");
    }
    Ok(sql)
}

/// Clones a database that nobody is connected to.
///
/// # Errors
/// When the server refuses.
pub async fn clone_database(server: &Client, from: &str, to: &str, owner: &str) -> Result<()> {
    // Sessions that have just been closed take a moment to be gone.
    let create = format!("CREATE DATABASE {} TEMPLATE {} OWNER {}", ident(to), ident(from), ident(owner));
    retry_in_use(server, &create, "cloning the staged database").await?;
    let close = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", ident(to));
    server.batch_execute(&close).await.map_err(pg::failed("closing the clone"))
}

async fn loader(
    target: &Target,
    cluster: &Cluster,
    id: &RestoreId,
    password: &SecretString,
    server: &Client,
) -> Result<(DatabaseAccess, bool)> {
    if !cluster.create_role {
        return Ok((target.admin.clone(), false));
    }
    let name = pair::loader_role(id);
    create_loader(server, &name, password).await?;
    if !cluster.superuser {
        // Giving a database to a role takes membership in it.
        let member = format!("GRANT {} TO {}", ident(&name), ident(&target.admin.user));
        server.batch_execute(&member).await.map_err(pg::failed("granting the loader role"))?;
    }
    Ok((target.admin.as_role(&name, password), true))
}

async fn create_loader(server: &Client, name: &str, password: &SecretString) -> Result<()> {
    use secrecy::ExposeSecret;
    let create = format!(
        "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}",
        ident(name),
        literal(password.expose_secret())
    );
    // The statement carries a secret that a server which logs statements would write down; only a
    // superuser may keep it from doing so.
    let _ = server.batch_execute("SET log_statement = 'none'").await;
    server.batch_execute(&create).await.map_err(pg::failed("creating the loader role"))
}

/// How the loader role of a restore logs in; the admin role where it could make no loader.
///
/// # Errors
/// When the server does not answer.
pub async fn loader_access(
    target: &Target,
    id: &RestoreId,
    password: &SecretString,
) -> Result<DatabaseAccess> {
    let server = target.admin.connect("postgres").await?;
    let name = pair::loader_role(id);
    let exists = server
        .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&name])
        .await
        .map_err(pg::failed("looking for the loader role"))?;
    Ok(if exists.is_some() { target.admin.as_role(&name, password) } else { target.admin.clone() })
}

/// `CREATE DATABASE` options: those of the live database, or Odoo's own for a new one.
fn properties(cluster: &Cluster) -> String {
    // Left out, the provider is the template's, and a cluster may have been made with ICU.
    let libc = if cluster.major < 15 { "" } else { " LOCALE_PROVIDER libc" };
    let Some(live) = &cluster.live else {
        return format!("ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'{libc}");
    };
    let mut sql = format!(
        "ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        literal(&live.encoding),
        literal(&live.collate),
        literal(&live.ctype)
    );
    // Naming the default one takes a right that only superusers have; not naming it is enough. One that
    // may not be used was accepted to be left out.
    if live.tablespace != "pg_default" && live.tablespace_usable {
        sql += &format!(" TABLESPACE {}", ident(&live.tablespace));
    }
    match (live.provider.as_str(), &live.locale) {
        ("i", Some(locale)) => {
            sql += &format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale));
            if let Some(rules) = &live.icu_rules {
                sql += &format!(" ICU_RULES {}", literal(rules));
            }
        }
        ("b", Some(locale)) => {
            sql += &format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale));
        }
        _ => sql += libc,
    }
    sql
}

/// Drops the live database to make room, as `stop_first` asks for.
///
/// # Errors
/// When the server refuses. The caller has compared `confirmed` with the target's name.
pub async fn drop_live(target: &Target, confirmed: &str) -> Result<()> {
    let server = target.admin.connect("postgres").await?;
    force_drop(&server, confirmed).await
}

/// Drops a database of a restore, ending the sessions on it; one that is not there is dropped already.
///
/// # Errors
/// `Conflict` when it is the one that Odoo uses, whatever a record says.
pub async fn drop_database(server: &Client, target: &Target, name: &str) -> Result<()> {
    if name == target.database {
        return Err(Problem::new(
            Kind::Conflict,
            "would_drop_live",
            format!("database \"{name}\" is the one that Odoo uses; it is not dropped"),
            "please report this",
        ));
    }
    force_drop(server, name).await
}

async fn force_drop(server: &Client, name: &str) -> Result<()> {
    let there = server
        .query_opt("SELECT datconnlimit FROM pg_database WHERE datname = $1", &[&name])
        .await
        .map_err(pg::failed("looking for a staged database"))?;
    let Some(there) = there else { return Ok(()) };
    // One that a dying server was dropping is marked so: nobody gets in, and it may only be dropped.
    let invalid = there.get::<_, i32>(0) == -2;
    if !invalid {
        let close = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(name));
        server.batch_execute(&close).await.map_err(pg::failed("closing a database to be dropped"))?;
    }
    server
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = $1 AND backend_type = 'client backend'",
            &[&name],
        )
        .await
        .map_err(pg::failed("ending sessions of a database to be dropped"))?;
    let drop = format!("DROP DATABASE IF EXISTS {}", ident(name));
    retry_in_use(server, &drop, "dropping a staged database").await
}

/// Drops the roles of restores that own nothing any more and hold no right anywhere.
///
/// # Errors
/// When the server refuses.
pub async fn drop_idle_roles(server: &Client) -> Result<()> {
    let doing = pg::failed("dropping the roles of earlier restores");
    let lock = |call: &str| format!("SELECT {call}({ROLES_LOCK})");
    server.batch_execute(&lock("pg_advisory_lock")).await.map_err(&doing)?;
    let dropped = drop_idle(server).await;
    server.batch_execute(&lock("pg_advisory_unlock")).await.map_err(&doing)?;
    dropped.map_err(&doing)
}

async fn drop_idle(server: &Client) -> Result<(), tokio_postgres::Error> {
    let idle = server
        .query(
            "SELECT rolname::text FROM pg_roles r WHERE rolname ~ '^undoo_[0-9a-f]{12}_loader$' \
             AND NOT EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refobjid = r.oid \
             AND d.refclassid = 'pg_authid'::regclass)",
            &[],
        )
        .await?;
    for row in idle {
        let drop = format!("DROP ROLE IF EXISTS {}", ident(&row.get::<_, String>(0)));
        match server.batch_execute(&drop).await {
            // Another administrator's, or in use again: not ours to drop.
            Err(error)
                if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                    || error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

async fn retry_in_use(server: &Client, sql: &str, doing: &'static str) -> Result<()> {
    let mut attempts = 0;
    loop {
        match server.batch_execute(sql).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && attempts < 40 => {
                attempts += 1;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(error) => return Err(pg::failed(doing)(error)),
        }
    }
}
