//! The allow-list: which statements `pg_dump` writes, and what each of them does.
//!
//! A dump is hostile code until each of its statements has been recognised. Recognition goes by tokens,
//! and whatever is not recognised is refused; nothing is let through because it looks harmless. This
//! module judges kinds of statements only: the code within functions and expressions is inspected by
//! [`super::code`], and what becomes of a recognised statement is decided by [`super::mend`].

use undoo_core::{Kind, Problem, Result};

use super::sql::{self, Token, TokenKind, Tokens};

mod parse;
#[cfg(test)]
mod tests;

/// The name of an object, with its schema unless the dump relies on `search_path` (before pg_dump 10.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The schema, without quotes.
    pub schema: Option<String>,
    /// The name, without quotes.
    pub name: String,
}

impl QualifiedName {
    /// A name in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), name: name.into() }
    }

    /// The name for use in SQL, each part in double quotes.
    pub fn quoted(&self) -> String {
        let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The part of a load that a statement belongs to, as `pg_dump --section` divides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Definitions that rows need.
    PreData,
    /// Rows, sequences' values, large objects.
    Data,
    /// Indexes, constraints, triggers and what else is made once the rows are there.
    PostData,
}

/// What a statement does. Names are without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the names that the statement gives")]
pub enum Classified {
    /// `SET name = value`, also `SET ROLE` and `SET SESSION AUTHORIZATION` under their settings' names.
    Setting {
        name: String,
        value: String,
    },
    /// `search_path`, set by either form.
    SearchPath {
        value: String,
    },
    CreateSchema {
        name: String,
    },
    CreateExtension {
        name: String,
        schema: Option<String>,
    },
    CommentOnExtension {
        name: String,
    },
    CommentOnSchema {
        name: String,
    },
    CreateTable {
        table: QualifiedName,
    },
    CreateSequence {
        sequence: QualifiedName,
    },
    AlterSequenceOwnedBy {
        sequence: QualifiedName,
        table: QualifiedName,
        column: String,
    },
    ColumnDefault {
        table: QualifiedName,
        column: String,
    },
    /// Any other single change to a table or index; `action` is its first words, upper case.
    AlterTableOther {
        table: QualifiedName,
        action: String,
    },
    CreateEnum {
        name: QualifiedName,
    },
    /// A composite, range or shell type.
    CreateType {
        name: QualifiedName,
    },
    CreateDomain {
        name: QualifiedName,
    },
    CreateView {
        view: QualifiedName,
    },
    CreateMaterializedView {
        view: QualifiedName,
    },
    RefreshMaterializedView {
        view: QualifiedName,
    },
    /// A function or procedure.
    CreateFunction {
        name: QualifiedName,
        language: String,
    },
    CreateAggregate {
        name: QualifiedName,
    },
    /// An operator, operator class, operator family, cast or conversion; `what` names which.
    CreateOperator {
        what: &'static str,
    },
    CreateCollation {
        name: QualifiedName,
    },
    /// A text search configuration or dictionary, or a mapping of one.
    TextSearch,
    CreateTrigger {
        name: String,
        table: QualifiedName,
        function: QualifiedName,
    },
    CreateRule {
        name: String,
        table: QualifiedName,
        on_select: bool,
    },
    CreateIndex {
        index: QualifiedName,
        table: QualifiedName,
        unique: bool,
    },
    AddPrimaryKey {
        table: QualifiedName,
        name: String,
    },
    AddUnique {
        table: QualifiedName,
        name: String,
    },
    AddCheck {
        table: QualifiedName,
        name: String,
    },
    AddExclusion {
        table: QualifiedName,
        name: String,
    },
    AddNotNull {
        table: QualifiedName,
        name: String,
    },
    AddForeignKey {
        table: QualifiedName,
        name: String,
        references: QualifiedName,
        not_valid: bool,
    },
    AddDomainConstraint {
        domain: QualifiedName,
        name: String,
    },
    CreatePolicy {
        name: String,
        table: QualifiedName,
    },
    CreateStatistics {
        name: QualifiedName,
    },
    /// `COMMENT ON kind`; the kind is its first word, upper case.
    Comment {
        kind: String,
    },
    OwnerTo,
    /// `GRANT` and `REVOKE`.
    Privileges,
    DefaultPrivileges,
    /// `CREATE LANGUAGE`.
    CreateLanguage {
        name: String,
    },
    SetVal {
        sequence: QualifiedName,
    },
    LargeObjectCreate {
        oid: u32,
    },
    LargeObjectComment {
        oid: u32,
    },
    Copy {
        table: QualifiedName,
        columns: Vec<String>,
    },
    /// An `INSERT` of literals with this many rows; with `ON CONFLICT DO NOTHING` the server may skip
    /// some.
    Insert {
        table: QualifiedName,
        rows: u64,
        may_skip: bool,
    },
    /// Statistics of the planner, which pg_dump writes from version 18 on.
    PlannerStatistics,
    /// What `pg_dump --clean` writes to remove old objects.
    Drop,
    /// A comment on or a setting of the database itself.
    DatabaseProperty,
    Publication {
        name: String,
    },
    Subscription {
        name: String,
    },
    EventTrigger {
        name: String,
    },
    /// A foreign data wrapper, server, user mapping or foreign table; `what` names which.
    Foreign {
        what: &'static str,
    },
}

impl Classified {
    /// The part of a load that the statement belongs to.
    pub fn section(&self) -> Section {
        use Classified as C;
        match self {
            C::SetVal { .. } | C::Copy { .. } | C::Insert { .. } => Section::Data,
            C::CreateIndex { .. }
            | C::AddPrimaryKey { .. }
            | C::AddUnique { .. }
            | C::AddCheck { .. }
            | C::AddExclusion { .. }
            | C::AddNotNull { .. }
            | C::AddForeignKey { .. }
            | C::AddDomainConstraint { .. }
            | C::CreateTrigger { .. }
            | C::CreateRule { .. }
            | C::CreatePolicy { .. }
            | C::CreateStatistics { .. }
            | C::RefreshMaterializedView { .. }
            | C::PlannerStatistics
            | C::Publication { .. }
            | C::Subscription { .. }
            | C::EventTrigger { .. } => Section::PostData,
            C::Comment { kind } => match kind.as_str() {
                "CONSTRAINT" | "INDEX" | "TRIGGER" | "RULE" | "POLICY" | "STATISTICS" | "EVENT"
                | "PUBLICATION" | "SUBSCRIPTION" => Section::PostData,
                _ => Section::PreData,
            },
            C::AlterTableOther { action, .. } => match action.split(' ').next().unwrap_or_default() {
                "CLUSTER" | "REPLICA" | "ENABLE" | "DISABLE" | "FORCE" | "NO" | "VALIDATE" | "INDEX" => {
                    Section::PostData
                }
                _ => Section::PreData,
            },
            _ => Section::PreData,
        }
    }

    /// The table that the statement is about, for statements that must keep their order per table.
    pub fn table(&self) -> Option<&QualifiedName> {
        use Classified as C;
        match self {
            C::CreateTable { table }
            | C::AlterSequenceOwnedBy { table, .. }
            | C::ColumnDefault { table, .. }
            | C::AlterTableOther { table, .. }
            | C::CreateTrigger { table, .. }
            | C::CreateRule { table, .. }
            | C::CreateIndex { table, .. }
            | C::AddPrimaryKey { table, .. }
            | C::AddUnique { table, .. }
            | C::AddCheck { table, .. }
            | C::AddExclusion { table, .. }
            | C::AddNotNull { table, .. }
            | C::AddForeignKey { table, .. }
            | C::CreatePolicy { table, .. }
            | C::Copy { table, .. }
            | C::Insert { table, .. } => Some(table),
            _ => None,
        }
    }
}

/// Says what one statement, with its semicolon, does.
///
/// # Errors
/// Kind `Refused`: `copy_program` or `copy_file` for a `COPY` that runs a program or touches a server's
/// file, `statement_not_allowed` for anything else that pg_dump does not write for one database.
pub fn classify(sql: &str) -> Result<Classified> {
    if !sql::is_single_statement(sql) {
        return Err(not_allowed(sql));
    }
    let tokens: Vec<Token<'_>> = Tokens::new(sql).collect();
    // Their meaning hangs on an escape character named elsewhere; pg_dump has no use for them.
    if tokens.iter().any(|token| token.kind == TokenKind::Unicode) {
        return Err(not_allowed(sql));
    }
    if tokens[0].is_word("copy") {
        refuse_copy(&tokens, sql)?;
    }
    parse::Parser::new(&tokens).statement().ok_or_else(|| not_allowed(sql))
}

/// Names the two dangerous forms of COPY; whatever else is wrong is left to the parser.
fn refuse_copy(tokens: &[Token<'_>], sql: &str) -> Result<()> {
    let after_direction = tokens.windows(2).filter(|pair| pair[0].is_word("from") || pair[0].is_word("to"));
    for pair in after_direction {
        let (code, does) = match pair[1].kind {
            TokenKind::Word if pair[1].is_word("program") => ("copy_program", "runs a program"),
            TokenKind::Text | TokenKind::EscapeText | TokenKind::DollarText => {
                ("copy_file", "reads or writes a file")
            }
            _ => continue,
        };
        return Err(Problem::new(
            Kind::Refused,
            code,
            format!("the dump has a COPY that {does} on the database server: {}", excerpt(sql)),
            "pg_dump never writes this: find out who changed the file, and use another backup.",
        ));
    }
    Ok(())
}

fn not_allowed(sql: &str) -> Problem {
    Problem::new(
        Kind::Refused,
        "statement_not_allowed",
        format!("the dump has a statement that is not restored: {}", excerpt(sql)),
        "Use a dump of one database as pg_dump writes it, without --create and hand-made additions.",
    )
}

/// The start of a text, on one line, for messages.
pub(super) fn excerpt(sql: &str) -> String {
    const LEN: usize = 100;
    let mut text: String = sql.split_whitespace().flat_map(|word| [word, " "]).collect();
    text.truncate(text.trim_end().len());
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match text.char_indices().nth(LEN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
