//! The statements of an entry, as `pg_restore -f -` writes them.
//!
//! An archive holds the pieces of a script, not the script: owners, settings and the commands for groups
//! of large objects are made from an entry's fields when it is restored. They are made here so that both
//! kinds of dump reach the loader alike. Nothing here judges a statement, and nothing may multiply a
//! small archive into a large memory: commands for each of many large objects are made one by one.

use std::collections::VecDeque;

use undoo_core::{Kind, Problem, Result};

use super::{
    super::sql::{TokenKind, Tokens, split_statements},
    input::{REMEDY_BROKEN, broken},
    keywords::is_quoted_keyword,
    toc::{Front, Section, TocEntry},
};

/// More statements than this in one definition are not from `pg_dump`.
const MAX_STATEMENTS: usize = 1_000_000;

/// When an entry's turn comes: the whole table of contents is gone through once for each pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Main,
    /// Privileges, so that they do not stand in the way of loading.
    Acl,
    /// What must see everything else in place.
    PostAcl,
}

/// The pass of an entry; `None` for what is never restored into an existing database.
pub(super) fn restore_pass(entry: &TocEntry) -> Option<Pass> {
    let of_database = || entry.tag.starts_with("DATABASE ");
    match entry.desc.as_str() {
        // These shape the preamble.
        "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => None,
        "DATABASE" | "DATABASE PROPERTIES" => None,
        "ACL" | "COMMENT" | "SECURITY LABEL" if of_database() => None,
        // Leftovers of very old versions.
        "<Init>" if entry.tag == "Max OID" => None,
        "ACL" | "ACL LANGUAGE" | "DEFAULT ACL" => Some(Pass::Acl),
        "EVENT TRIGGER" | "MATERIALIZED VIEW DATA" => Some(Pass::PostAcl),
        "COMMENT" if entry.tag.starts_with("EVENT TRIGGER ") => Some(Pass::PostAcl),
        // They may depend on materialised views' rows, and come in one piece.
        "STATISTICS DATA" if entry.section == Section::PostData => Some(Pass::PostAcl),
        _ => Some(Pass::Main),
    }
}

/// A statement, or one for each large object of a group.
#[derive(Debug)]
enum Batch {
    One(i32, String),
    PerLargeObject { entry: i32, before: String, after: String, group: usize, at: usize },
}

/// Makes the script, one statement at a time.
#[derive(Debug)]
pub(super) struct Script {
    queue: VecDeque<Batch>,
    /// Whether the archive sets the search path once and for all (since 2018).
    fixed_search_path: bool,
    schema: Option<String>,
    tablespace: Option<String>,
    tableam: Option<String>,
    with_oids: bool,
    dump_major: u32,
}

impl Script {
    /// A script at its beginning, with the settings that stand first in it.
    pub(super) fn new(front: &Front) -> Result<Self> {
        let mut script = Self {
            queue: VecDeque::new(),
            fixed_search_path: false,
            schema: None,
            tablespace: None,
            tableam: None,
            with_oids: false,
            dump_major: front.dump_major(),
        };
        script.push_preamble(front)?;
        Ok(script)
    }

    fn push_preamble(&mut self, front: &Front) -> Result<()> {
        let special = |desc: &str| front.entries.iter().rev().find(|entry| entry.desc == desc);
        let encoding = match special("ENCODING") {
            Some(entry) => (entry.dump_id, encoding_name(entry)?),
            None => (0, "SQL_ASCII"),
        };
        let std_strings = match special("STDSTRINGS") {
            Some(entry) => (entry.dump_id, standard_strings(entry)?),
            None => (0, false),
        };
        self.push(0, "SET statement_timeout = 0;");
        self.push(0, "SET lock_timeout = 0;");
        self.push(0, "SET idle_in_transaction_session_timeout = 0;");
        if self.dump_major >= 17 {
            self.push(0, "SET transaction_timeout = 0;");
        }
        self.push(encoding.0, format!("SET client_encoding = '{}';", encoding.1));
        let on_off = if std_strings.1 { "on" } else { "off" };
        self.push(std_strings.0, format!("SET standard_conforming_strings = {on_off};"));
        if let Some(entry) = special("SEARCHPATH") {
            self.fixed_search_path = true;
            self.push_text(entry.dump_id, &entry.defn)?;
        }
        self.push(0, "SET check_function_bodies = false;");
        self.push(0, "SET xmloption = content;");
        self.push(0, "SET client_min_messages = warning;");
        if !std_strings.1 {
            self.push(0, "SET escape_string_warning = off;");
        }
        self.push(0, "SET row_security = off;");
        Ok(())
    }

    /// Appends an entry's statements, with the settings that it needs in front.
    pub(super) fn push_entry(&mut self, front: &Front, position: usize) -> Result<()> {
        let Some(entry) = front.entries.get(position) else { return Ok(()) };
        let id = entry.dump_id;
        self.select_settings(entry);
        match entry.desc.as_str() {
            "BLOB METADATA" => self.per_large_object(id, "SELECT pg_catalog.lo_create('", "');", position),
            "ACL" if entry.tag.starts_with("LARGE OBJECTS") => self.push_group_acl(front, entry)?,
            _ => self.push_text(id, &entry.defn)?,
        }
        let owner = entry.owner.as_deref().unwrap_or_default();
        // What has no DROP is not owned on its own.
        if !owner.is_empty() && !entry.drop_stmt.is_empty() {
            let to = format!(" OWNER TO {};", quote_name(owner));
            if entry.desc == "BLOB METADATA" {
                self.per_large_object(id, "ALTER LARGE OBJECT ", &to, position);
            } else if let Some(object) = owned_object(entry, self.dump_major) {
                self.push(id, format!("ALTER {object}{to}"));
            }
        }
        if let (Some('p'), Some(method)) = (entry.relkind, &entry.tableam) {
            let table = qualified(entry);
            self.push(id, format!("ALTER TABLE {table} SET ACCESS METHOD {};", quote_name(method)));
        }
        Ok(())
    }

    fn select_settings(&mut self, entry: &TocEntry) {
        let id = entry.dump_id;
        // The rows of large objects belong to a catalogue.
        let schema = if entry.desc == "BLOBS" { Some("pg_catalog") } else { entry.namespace.as_deref() };
        if let Some(schema) = schema.filter(|schema| !self.fixed_search_path && !schema.is_empty())
            && self.schema.as_deref() != Some(schema)
        {
            let also = if schema == "pg_catalog" { "" } else { ", pg_catalog" };
            self.push(id, format!("SET search_path = {}{also};", quote_name(schema)));
            self.schema = Some(schema.to_owned());
        }
        if entry.tablespace.is_some() && self.tablespace != entry.tablespace {
            let name = entry.tablespace.as_deref().unwrap_or_default();
            let value = if name.is_empty() { "''".to_owned() } else { quote_name(name) };
            self.push(id, format!("SET default_tablespace = {value};"));
            self.tablespace.clone_from(&entry.tablespace);
        }
        // Up to version 11. Servers since then refuse to turn it on, which is right: they cannot hold
        // such a table.
        if entry.desc == "TABLE" && self.with_oids != entry.with_oids {
            self.push(id, format!("SET default_with_oids = {};", entry.with_oids));
            self.with_oids = entry.with_oids;
        }
        // Partitioned tables have no storage: theirs is set once they exist.
        if let Some(method) = &entry.tableam
            && entry.relkind != Some('p')
            && self.tableam.as_ref() != Some(method)
        {
            self.push(id, format!("SET default_table_access_method = {};", quote_name(method)));
            self.tableam = Some(method.clone());
        }
    }

    /// The privileges of a group of large objects stand in the archive once, for the first of them.
    fn push_group_acl(&mut self, front: &Front, entry: &TocEntry) -> Result<()> {
        let group = entry.dependencies.first().and_then(|id| front.by_id(*id));
        let Some((group, _)) = group.filter(|(_, parent)| parent.desc == "BLOB METADATA") else {
            return Err(broken(
                "dump_bad_entry",
                format!("{} of the custom dump belongs to no large objects", entry.describe()),
            ));
        };
        for statement in statements(entry.dump_id, &entry.defn)? {
            match large_object_number(&statement) {
                Some((from, to)) => {
                    self.per_large_object(entry.dump_id, &statement[..from], &statement[to..], group);
                }
                None => self.push(entry.dump_id, statement),
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: i32, statement: impl Into<String>) {
        self.queue.push_back(Batch::One(entry, statement.into()));
    }

    fn push_text(&mut self, entry: i32, text: &str) -> Result<()> {
        self.queue.extend(statements(entry, text)?.into_iter().map(|sql| Batch::One(entry, sql)));
        Ok(())
    }

    fn per_large_object(&mut self, entry: i32, before: &str, after: &str, group: usize) {
        let (before, after) = (before.to_owned(), after.to_owned());
        self.queue.push_back(Batch::PerLargeObject { entry, before, after, group, at: 0 });
    }

    /// The next statement and the dump id of its entry, 0 for settings that belong to none.
    pub(super) fn pop(&mut self, front: &Front) -> Result<Option<(i32, String)>> {
        while let Some(batch) = self.queue.front_mut() {
            if let Batch::PerLargeObject { entry, before, after, group, at } = batch
                && let Some(object) = next_line(&front.entries[*group].defn, at)
            {
                let object: u32 = object.parse().map_err(|_| {
                    broken(
                        "dump_bad_entry",
                        format!("the custom dump has {object:.40?} where an OID belongs"),
                    )
                })?;
                return Ok(Some((*entry, format!("{before}{object}{after}"))));
            }
            match self.queue.pop_front() {
                Some(Batch::One(entry, sql)) => return Ok(Some((entry, sql))),
                Some(Batch::PerLargeObject { .. }) | None => {}
            }
        }
        Ok(None)
    }
}

/// The statements of a definition. Counted before they are made, for they take far more room than their
/// text when they are tiny.
fn statements(entry: i32, text: &str) -> Result<Vec<String>> {
    if memchr::memchr_iter(b';', text.as_bytes()).count() > MAX_STATEMENTS {
        return Err(Problem::new(
            Kind::Refused,
            "dump_too_many_statements",
            format!("entry {entry} of the custom dump has more than {MAX_STATEMENTS} statements"),
            REMEDY_BROKEN,
        ));
    }
    Ok(split_statements(text))
}

fn next_line<'a>(text: &'a str, at: &mut usize) -> Option<&'a str> {
    let rest = text.get(*at..).filter(|rest| !rest.is_empty())?;
    let line = rest.lines().next()?;
    *at += line.len() + 1;
    Some(line)
}

/// The bytes of the number in `… LARGE OBJECT 123 …`.
fn large_object_number(statement: &str) -> Option<(usize, usize)> {
    let mut seen = 0;
    for token in Tokens::new(statement) {
        seen = match seen {
            _ if token.is_word("large") => 1,
            1 if token.is_word("object") => 2,
            2 if token.kind == TokenKind::Number => return Some((token.at, token.at + token.text.len())),
            _ => 0,
        };
    }
    None
}

/// The encoding in `SET client_encoding = '…';`.
fn encoding_name(entry: &TocEntry) -> Result<&str> {
    let name = entry.defn.split('\'').nth(1).filter(|_| entry.defn.split('\'').count() == 3);
    name.filter(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    })
    .ok_or_else(|| broken("dump_bad_entry", format!("the custom dump has the encoding {:.60?}", entry.defn)))
}

fn standard_strings(entry: &TocEntry) -> Result<bool> {
    match entry.defn.split('\'').nth(1) {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err(broken(
            "dump_bad_entry",
            format!("the custom dump has the string syntax {:.60?}", entry.defn),
        )),
    }
}

/// What `ALTER … OWNER TO` names, for the kinds of objects that have owners.
fn owned_object(entry: &TocEntry, dump_major: u32) -> Option<String> {
    match entry.desc.as_str() {
        "VIEW" | "SEQUENCE" | "MATERIALIZED VIEW" if dump_major < 16 => {
            Some(format!("TABLE {}", qualified(entry)))
        }
        "COLLATION"
        | "CONVERSION"
        | "DOMAIN"
        | "FOREIGN TABLE"
        | "MATERIALIZED VIEW"
        | "SEQUENCE"
        | "STATISTICS"
        | "TABLE"
        | "TEXT SEARCH DICTIONARY"
        | "TEXT SEARCH CONFIGURATION"
        | "TYPE"
        | "VIEW"
        | "PROCEDURAL LANGUAGE"
        | "SCHEMA"
        | "EVENT TRIGGER"
        | "FOREIGN DATA WRAPPER"
        | "SERVER"
        | "PUBLICATION"
        | "SUBSCRIPTION" => Some(format!("{} {}", entry.desc, qualified(entry))),
        "BLOB" => Some(format!("LARGE OBJECT {}", entry.tag)),
        // Their names carry argument types, which only the DROP spells out.
        "AGGREGATE" | "FUNCTION" | "OPERATOR" | "OPERATOR CLASS" | "OPERATOR FAMILY" | "PROCEDURE" => {
            let object = entry.drop_stmt.strip_prefix("DROP ")?;
            Some(object.trim_end_matches(['\n', ';']).to_owned())
        }
        _ => None,
    }
}

fn qualified(entry: &TocEntry) -> String {
    let name = quote_name(&entry.tag);
    match entry.namespace.as_deref() {
        Some(schema) if !schema.is_empty() => format!("{}.{name}", quote_name(schema)),
        _ => name,
    }
}

/// A name as SQL, quoted where it must be.
fn quote_name(name: &str) -> String {
    let plain = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain && !is_quoted_keyword(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}
