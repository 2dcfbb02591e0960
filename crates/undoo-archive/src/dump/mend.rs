//! What becomes of a recognised statement: run, passed over with a mend, left out with a finding, or
//! refused.
//!
//! Dumps meet servers of other versions and roles of other names. Each known incompatibility has a known
//! mend with a stable code, and each use of it is counted, so that a report can say what was done
//! differently. This module must never pass over a statement that holds data or definitions of Odoo.

use std::collections::{BTreeMap, BTreeSet};

use undoo_core::{Finding, Kind, Problem};

use super::statement::Classified;

#[cfg(test)]
mod tests;

/// What the statements will run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server's major version, such as 15.
    pub server_major: u32,
    /// Schemas that exist before the load, such as `public`.
    pub schemas: BTreeSet<String>,
}

/// A known repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mend {
    /// Stable name, `snake_case`.
    pub code: &'static str,
    /// What is done, and why.
    pub sentence: &'static str,
}

/// What to do with a statement.
#[derive(Debug)]
pub enum Decision {
    /// Run it as it stands.
    Run,
    /// Leave it out: the result is the same or better without it.
    Skip(Mend),
    /// Leave it out, and tell the reader what is missing afterwards. Several statements about one object
    /// give equal findings.
    Drop(Finding),
    /// Do not restore this dump.
    Refuse(Problem),
}

const SETTINGS: Mend = Mend {
    code: "settings",
    sentence: "Settings that this server does not know, or that the loader makes itself, were left out.",
};
const OWNERS: Mend = Mend {
    code: "owners",
    sentence: "Owners and grants were left out: one role owns the restored database.",
};
const EXTENSIONS: Mend = Mend {
    code: "extensions",
    sentence: "Extensions were created beforehand by the administrator's connection.",
};
const SCHEMAS: Mend =
    Mend { code: "schemas", sentence: "Schemas that every database has were not created again." };
const LANGUAGES: Mend =
    Mend { code: "languages", sentence: "Procedural languages were left out: servers bring them." };
const STATISTICS: Mend = Mend {
    code: "planner_statistics",
    sentence: "The planner's statistics were left out: ANALYZE collects new ones after the load.",
};
const CLEAN: Mend = Mend {
    code: "clean",
    sentence: "Statements that remove old objects were left out: the database is new.",
};
const DATABASE: Mend = Mend {
    code: "database_properties",
    sentence: "Properties of the dumped database itself were left out: the target's are kept.",
};
const TABLESPACES: Mend = Mend {
    code: "tablespaces",
    sentence: "Tablespaces were left out: everything is in the database's default one.",
};
const ACCESS_METHODS: Mend = Mend {
    code: "access_methods",
    sentence: "Table access methods other than heap were left out: the tables are ordinary ones.",
};
const COMPRESSION: Mend = Mend {
    code: "column_compression",
    sentence: "Compression methods of columns were left out: servers before 14 have only one.",
};
const LEFT_OUT: Mend =
    Mend { code: "comments", sentence: "Comments on objects that are not restored were left out." };

/// Settings that pg_dump writes and that do no harm, with the major version that introduced them
/// where a supported server may be older.
const KNOWN_SETTINGS: &[(&str, u32)] = &[
    ("check_function_bodies", 0),
    ("client_encoding", 0),
    ("client_min_messages", 0),
    ("default_table_access_method", 12),
    ("default_tablespace", 0),
    ("default_toast_compression", 14),
    ("default_with_oids", 0),
    ("escape_string_warning", 0),
    ("idle_in_transaction_session_timeout", 0),
    ("idle_session_timeout", 14),
    ("lock_timeout", 0),
    ("row_security", 0),
    ("standard_conforming_strings", 0),
    ("statement_timeout", 0),
    ("transaction_timeout", 17),
    ("xmloption", 0),
];

/// Decides about a statement that `classify` has recognised.
pub fn decide(statement: &Classified, target: &Target) -> Decision {
    use Classified as C;
    match statement {
        C::Setting { name, value } => setting(name, value, target),
        C::OwnerTo | C::Privileges | C::DefaultPrivileges => Decision::Skip(OWNERS),
        C::CreateExtension { .. } | C::CommentOnExtension { .. } => Decision::Skip(EXTENSIONS),
        C::CreateSchema { name } if target.schemas.contains(name) => Decision::Skip(SCHEMAS),
        C::CommentOnSchema { name } if target.schemas.contains(name) => Decision::Skip(SCHEMAS),
        C::CreateLanguage { .. } => Decision::Skip(LANGUAGES),
        C::PlannerStatistics => Decision::Skip(STATISTICS),
        C::Drop => Decision::Skip(CLEAN),
        C::DatabaseProperty => Decision::Skip(DATABASE),
        C::AlterTableOther { action, .. }
            if action == "ALTER COLUMN SET COMPRESSION" && target.server_major < 14 =>
        {
            Decision::Skip(COMPRESSION)
        }
        C::Comment { kind } => match kind.as_str() {
            "EVENT" | "FOREIGN" | "LANGUAGE" | "PROCEDURAL" | "PUBLICATION" | "SERVER" | "SUBSCRIPTION" => {
                Decision::Skip(LEFT_OUT)
            }
            _ => Decision::Run,
        },
        C::Publication { name } => left_out(
            "publication_dropped",
            format!("publication {name} is not restored: a copy must not feed another server"),
            "Create it again after the restore if another server replicates from this database.",
        ),
        C::Subscription { name } => left_out(
            "subscription_dropped",
            format!("subscription {name} is not restored: it would fetch rows from another server"),
            "Create it again after the restore if this database replicates from another server.",
        ),
        C::EventTrigger { name } => left_out(
            "event_trigger_dropped",
            format!("event trigger {name} is not restored: only a superuser can create one"),
            "Create it again after the restore if it is needed.",
        ),
        C::Foreign { what } => left_out(
            "foreign_dropped",
            format!("a {what} is not restored: it reaches another server, with that server's password"),
            "Create it again after the restore; views that use a foreign table fail to restore without it.",
        ),
        _ => Decision::Run,
    }
}

fn left_out(code: &str, message: String, remedy: &str) -> Decision {
    Decision::Drop(Finding::warning(code, message, remedy))
}

fn setting(name: &str, value: &str, target: &Target) -> Decision {
    let Some((_, since)) = KNOWN_SETTINGS.iter().find(|(known, _)| *known == name) else {
        return refuse(
            "setting_not_allowed",
            format!("the dump sets {name}, which pg_dump does not"),
            "Find out who changed this file, or dump again without options that change roles.",
        );
    };
    let on = ["on", "true", "1", "yes"].iter().any(|on| value.eq_ignore_ascii_case(on));
    match name {
        // Quotes would mean something else to the server than to whoever judged the statement.
        "standard_conforming_strings" if !on => refuse(
            "setting_not_allowed",
            "the dump turns standard_conforming_strings off".to_owned(),
            "Turn it on in the dumped database (ALTER DATABASE … SET), and dump again.",
        ),
        "client_encoding" if !["utf8", "utf-8"].contains(&value.to_ascii_lowercase().as_str()) => {
            Decision::Refuse(Problem::new(
                Kind::Invalid,
                "dump_encoding",
                format!("the dump is in encoding {value}; Odoo uses UTF8"),
                "Dump the database again with --encoding=UTF8.",
            ))
        }
        "default_tablespace" if !value.is_empty() => Decision::Skip(TABLESPACES),
        "default_table_access_method" if value != "heap" => Decision::Skip(ACCESS_METHODS),
        "default_with_oids" => Decision::Skip(SETTINGS),
        _ if *since > target.server_major => Decision::Skip(SETTINGS),
        _ => Decision::Run,
    }
}

fn refuse(code: &'static str, message: String, remedy: &str) -> Decision {
    Decision::Refuse(Problem::new(Kind::Refused, code, message, remedy))
}

/// How often each mend was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mends {
    counts: BTreeMap<Mend, u64>,
}

impl Mends {
    /// The lines `\restrict` and `\unrestrict`, which a plain dump's reader passes over.
    pub const RESTRICT: Mend = Mend {
        code: "restrict",
        sentence: "The psql commands \\restrict and \\unrestrict were passed over: no psql is involved.",
    };

    /// Counts `times` uses of a mend.
    pub fn count(&mut self, mend: Mend, times: u64) {
        if times > 0 {
            *self.counts.entry(mend).or_default() += times;
        }
    }

    /// Each mend that was used, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Mend, u64)> {
        self.counts.iter().map(|(mend, times)| (*mend, *times))
    }
}
