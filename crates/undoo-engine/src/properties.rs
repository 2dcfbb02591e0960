//! What belongs to a database's name and does not follow it through a rename, because PostgreSQL keeps it
//! with the OID: settings, grants, limit, comment, owner.
//!
//! The cutover copies them from the live database to the restored one in the transaction that renames
//! both, when the services have been stopped already. So whether the administrator's role may do that is
//! asked beforehand, of the catalogues; nothing is tried on the live database. Who may what:
//!
//! - settings of the database (`ALTER DATABASE SET`): its owner, and for a parameter that is not
//!   everybody's a superuser, or since 15 who was granted it (`pg_parameter_acl`, which belongs to the
//!   server and is not copied). A name that the server does not know counts as not everybody's.
//! - settings of a role in the database (`ALTER ROLE IN DATABASE SET`): that, and the role itself, or
//!   CREATEROLE; since 16 CREATEROLE with ADMIN OPTION on the role. For a superuser's a superuser.
//! - connection limit, comment, grants, owner: the owner, which the administrator is a member of. Grants
//!   that others made become the owner's.
//! - tablespace, encoding, locale: given when the staged database is made ([`crate::stage`]); a tablespace
//!   needs CREATE on it.
//! - security labels are their provider's business and are not copied; a finding says so.

use tokio_postgres::Client;
use undoo_core::{Finding, Result};

use crate::pg::{self, ident, literal};

/// Which setting of a database it is. Its value may be a secret, and is in no plan and no report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SettingName {
    /// The role that it is for; `None` for all.
    pub role: Option<String>,
    /// Name of the parameter.
    pub name: String,
}

/// A setting of a database, for all roles or for one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Setting {
    which: SettingName,
    /// As the catalogue has it.
    value: String,
}

impl std::fmt::Display for SettingName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{} of role \"{role}\"", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl SettingName {
    /// The code by which losing it is accepted.
    pub fn code(&self) -> String {
        match &self.role {
            Some(role) => format!("setting_rights:{role}:{}", self.name),
            None => format!("setting_rights:{}", self.name),
        }
    }

    /// That the administrator's role `admin` may not copy it.
    pub fn finding(&self, admin: &str) -> Finding {
        let remedy = match &self.role {
            Some(role) => format!(
                "use a superuser, or grant \"{admin}\" ADMIN OPTION on {} and the parameter; accepted, it is \
                 left out",
                ident(role)
            ),
            None => format!(
                "use a superuser, or (PostgreSQL 15 and newer) GRANT SET ON PARAMETER {} TO {}; accepted, it \
                 is left out",
                self.name,
                ident(admin)
            ),
        };
        Finding::needs_acceptance(
            self.code(),
            format!(
                "the live database has the setting {self}, which role \"{admin}\" may not give to the restored one"
            ),
            remedy,
        )
    }
}

/// What belongs to a database's name and not to its OID.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Properties {
    owner: String,
    settings: Vec<Setting>,
    connection_limit: i32,
    comment: Option<String>,
    grants: Vec<(String, String, bool)>,
}

impl Properties {
    /// The properties of a database; `owner` is who shall own the one that gets them.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn of(server: &Client, database: &str, owner: &str) -> Result<Self> {
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
        Ok(Self {
            owner: owner.to_owned(),
            settings: settings
                .iter()
                .filter_map(|row| {
                    let setting: String = row.get(1);
                    let (name, value) = setting.split_once('=')?;
                    Some(Setting {
                        which: SettingName { role: row.get(0), name: name.to_owned() },
                        value: value.to_owned(),
                    })
                })
                .collect(),
            connection_limit: row.get(0),
            comment: row.get(1),
            grants: grants.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
        })
    }

    /// Who shall own the database that gets them.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// All but what someone accepted to lose, by [`SettingName::code`].
    #[must_use]
    pub fn without(mut self, left_out: &[String]) -> Self {
        self.settings.retain(|setting| !left_out.contains(&setting.which.code()));
        self
    }

    /// The settings that the role behind `server` may not give to a database of its own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn unsettable(&self, server: &Client) -> Result<Vec<SettingName>> {
        let doing = pg::failed("asking which settings may be copied");
        let version = "SELECT current_setting('server_version_num')::int / 10000";
        let major: i32 = server.query_one(version, &[]).await.map_err(&doing)?.get(0);
        let admin = if major < 16 { "" } else { "AND pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')" };
        let granted = if major < 15 { "false" } else { "has_parameter_privilege(s.name, 'SET')" };
        // PostgreSQL's AlterSetting, AlterRoleSet (user.c) and validate_option_array_item (guc.c).
        let sql = format!(
            "SELECT s.number FROM unnest($1::text[], $2::text[]) WITH ORDINALITY s(role, name, number) \
             CROSS JOIN (SELECT oid, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user) me \
             LEFT JOIN pg_roles r ON r.rolname = s.role \
             LEFT JOIN pg_settings p ON lower(p.name) = lower(s.name) \
             WHERE NOT me.rolsuper AND NOT (\
             (s.role IS NULL OR r.oid = me.oid OR (NOT r.rolsuper AND me.rolcreaterole {admin})) \
             AND (coalesce(p.context = 'user', false) OR {granted})) ORDER BY s.number"
        );
        let roles: Vec<Option<&str>> =
            self.settings.iter().map(|setting| setting.which.role.as_deref()).collect();
        let names: Vec<&str> = self.settings.iter().map(|setting| setting.which.name.as_str()).collect();
        let rows = server.query(&sql, &[&roles, &names]).await.map_err(&doing)?;
        Ok(rows
            .iter()
            .filter_map(|row| usize::try_from(row.get::<_, i64>(0)).ok()?.checked_sub(1))
            .filter_map(|index| Some(self.settings.get(index)?.which.clone()))
            .collect())
    }
    /// Statements that give them to `database`.
    pub fn statements(&self, database: &str) -> String {
        let target = ident(database);
        let mut sql = String::new();
        for Setting { which: SettingName { role, name }, value } in &self.settings {
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
