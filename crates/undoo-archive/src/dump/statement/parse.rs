//! The grammar of the allow-list: `None` wherever a statement departs from what pg_dump writes.
//!
//! Expressions and column definitions are skipped by their parentheses, never understood; but no form
//! may pass that does more than its name says, such as a table filled by a query.

use super::{Classified, QualifiedName};
use crate::dump::sql::{Token, TokenKind, Tokens};

pub(super) struct Parser<'t, 'a> {
    rest: &'t [Token<'a>],
}

impl<'t, 'a> Parser<'t, 'a> {
    /// `tokens` are one statement with its semicolon.
    pub(super) fn new(tokens: &'t [Token<'a>]) -> Self {
        Self { rest: tokens }
    }

    pub(super) fn statement(mut self) -> Option<Classified> {
        let [first, ..] = self.rest else { return None };
        self.rest = &self.rest[1..];
        match first.name()?.as_str() {
            _ if first.kind != TokenKind::Word => None,
            "set" => self.set(),
            "select" => self.select(),
            "create" => self.create(),
            "alter" => self.alter(),
            "comment" => self.comment(),
            "copy" => self.copy(),
            "insert" => self.insert(),
            "refresh" => {
                self.words("materialized view")?;
                let view = self.qualified()?;
                self.end()?;
                Some(Classified::RefreshMaterializedView { view })
            }
            "grant" | "revoke" => Some(Classified::Privileges),
            "drop" => Some(Classified::Drop),
            _ => None,
        }
    }

    fn set(mut self) -> Option<Classified> {
        if self.words("session authorization").is_some() {
            return Some(Classified::Setting { name: "session_authorization".into(), value: self.text() });
        }
        if self.word("role") {
            return Some(Classified::Setting { name: "role".into(), value: self.text() });
        }
        let name = self.name()?;
        (self.punctuation("=") || self.word("to")).then_some(())?;
        let value = match self.rest {
            [value, _semicolon] => value.string().or_else(|| value.name()).unwrap_or(value.text.to_owned()),
            _ => self.text(),
        };
        Some(match name.as_str() {
            "search_path" => Classified::SearchPath { value },
            _ => Classified::Setting { name, value },
        })
    }

    fn select(mut self) -> Option<Classified> {
        let from = self.punctuation("*") && self.word("from");
        self.words("pg_catalog").filter(|()| self.punctuation("."))?;
        let function = self.name()?;
        self.open()?;
        match (function.as_str(), from) {
            (
                "pg_restore_relation_stats" | "pg_restore_attribute_stats" | "pg_restore_extended_stats",
                true,
            ) => Some(Classified::PlannerStatistics),
            ("set_config", false) => {
                let [name, comma, value, tail @ ..] = self.rest else { return None };
                self.rest = tail;
                (name.string()? == "search_path" && comma.is(",")).then_some(())?;
                self.call_tail(&[",", "false"])?;
                Some(Classified::SearchPath { value: value.string()? })
            }
            ("setval", false) => {
                let [name, comma, tail @ ..] = self.rest else { return None };
                comma.is(",").then_some(())?;
                self.rest = tail;
                let _negative = self.punctuation("-");
                let ([value, .., flag, _, _], true) = (self.rest, self.rest.len() == 5) else { return None };
                (value.kind == TokenKind::Number && (flag.is_word("true") || flag.is_word("false")))
                    .then_some(())?;
                self.rest = &self.rest[1..];
                self.call_tail(&[",", flag.text])?;
                let text = name.string()?;
                let tokens: Vec<Token<'_>> = Tokens::new(&text).collect();
                let mut name = Parser::new(&tokens);
                let sequence = name.qualified()?;
                name.rest.is_empty().then_some(Classified::SetVal { sequence })
            }
            // Of `pg_dump --clean`; never run.
            ("lo_unlink", false) => Some(Classified::Drop),
            ("lo_create", false) => {
                let oid = self.oid()?;
                self.call_tail(&[])?;
                Some(Classified::LargeObjectCreate { oid })
            }
            _ => None,
        }
    }

    fn create(mut self) -> Option<Classified> {
        use Classified as C;
        let replace = self.words("or replace").is_some();
        let kind = self.name()?;
        match kind.as_str() {
            "schema" => {
                let _ = self.words("if not exists");
                let name = self.name()?;
                self.end()?;
                Some(C::CreateSchema { name })
            }
            "extension" => self.create_extension(),
            "table" => self.create_table(),
            "unlogged" if self.word("table") => self.create_table(),
            "unlogged" if self.word("sequence") => Some(C::CreateSequence { sequence: self.qualified()? }),
            "sequence" => Some(C::CreateSequence { sequence: self.qualified()? }),
            "type" => self.create_type(),
            "domain" => Some(C::CreateDomain { name: self.qualified()? }),
            "view" => self.view().map(|view| C::CreateView { view }),
            "materialized" if self.word("view") => {
                // Filled, it would run its query at once.
                let [.., with, no, data, _semicolon] = self.rest else { return None };
                (with.is_word("with") && no.is_word("no") && data.is_word("data")).then_some(())?;
                self.view().map(|view| C::CreateMaterializedView { view })
            }
            "function" | "procedure" => self.create_function(),
            "aggregate" => Some(C::CreateAggregate { name: self.qualified()? }),
            "operator" if self.word("class") => Some(C::CreateOperator { what: "operator class" }),
            "operator" if self.word("family") => Some(C::CreateOperator { what: "operator family" }),
            "operator" => Some(C::CreateOperator { what: "operator" }),
            "cast" => Some(C::CreateOperator { what: "cast" }),
            "conversion" => Some(C::CreateOperator { what: "conversion" }),
            "default" if self.word("conversion") => Some(C::CreateOperator { what: "conversion" }),
            "collation" => Some(C::CreateCollation { name: self.qualified()? }),
            "text" if self.words("search configuration").is_some() => Some(C::TextSearch),
            "text" if self.words("search dictionary").is_some() => Some(C::TextSearch),
            "constraint" if self.word("trigger") => self.create_trigger(),
            "trigger" => self.create_trigger(),
            "rule" => self.create_rule(),
            "unique" if self.word("index") => self.create_index(true),
            "index" if !replace => self.create_index(false),
            "policy" => {
                let name = self.name()?;
                self.word("on").then_some(())?;
                Some(C::CreatePolicy { name, table: self.qualified()? })
            }
            "statistics" => Some(C::CreateStatistics { name: self.qualified()? }),
            "publication" => Some(C::Publication { name: self.name()? }),
            "subscription" => Some(C::Subscription { name: self.name()? }),
            "event" if self.word("trigger") => Some(C::EventTrigger { name: self.name()? }),
            "foreign" if self.word("table") => Some(C::Foreign { what: "foreign table" }),
            "foreign" if self.words("data wrapper").is_some() => {
                Some(C::Foreign { what: "foreign data wrapper" })
            }
            "server" => Some(C::Foreign { what: "foreign server" }),
            "user" if self.word("mapping") => Some(C::Foreign { what: "user mapping" }),
            "trusted" | "procedural" | "language" => {
                let _ = kind == "trusted" && self.word("procedural");
                (kind == "language" || self.word("language")).then_some(())?;
                Some(C::CreateLanguage { name: self.name()? })
            }
            _ => None,
        }
    }

    fn create_extension(mut self) -> Option<Classified> {
        let _ = self.words("if not exists");
        let name = self.name()?;
        let _ = self.word("with");
        let schema = if self.word("schema") { Some(self.name()?) } else { None };
        self.end()?;
        Some(Classified::CreateExtension { name, schema })
    }

    /// Columns, a partition or a typed table; not `CREATE TABLE … AS`.
    fn create_table(mut self) -> Option<Classified> {
        let table = self.qualified()?;
        let opens = self.rest.first().is_some_and(|token| token.is("("));
        (opens || self.words("partition of").is_some() || self.word("of")).then_some(())?;
        let queries = self.top_level().any(|token| token.is_word("as"));
        (!queries).then_some(Classified::CreateTable { table })
    }

    fn create_type(mut self) -> Option<Classified> {
        let name = self.qualified()?;
        if self.end().is_some() {
            return Some(Classified::CreateType { name });
        }
        // Base types, which take functions in C, have no AS.
        self.word("as").then_some(())?;
        Some(match self.word("enum") {
            true => Classified::CreateEnum { name },
            false => Classified::CreateType { name },
        })
    }

    fn view(&mut self) -> Option<QualifiedName> {
        let view = self.qualified()?;
        self.top_level().any(|token| token.is_word("as")).then_some(view)
    }

    fn create_function(mut self) -> Option<Classified> {
        let name = self.qualified()?;
        self.rest.first()?.is("(").then_some(())?;
        let top: Vec<&Token<'_>> = self.top_level().collect();
        let mut languages = top.windows(2).filter(|pair| pair[0].is_word("language")).map(|pair| pair[1]);
        let language = match languages.next() {
            Some(language) => language.name().or_else(|| language.string())?.to_ascii_lowercase(),
            // A body that is not a string is SQL.
            None => "sql".to_owned(),
        };
        languages.next().is_none().then_some(Classified::CreateFunction { name, language })
    }

    fn create_trigger(mut self) -> Option<Classified> {
        let name = self.name()?;
        self.skip_to("on")?;
        let table = self.qualified()?;
        self.skip_to("execute")?;
        (self.word("function") || self.word("procedure")).then_some(())?;
        Some(Classified::CreateTrigger { name, table, function: self.qualified()? })
    }

    fn create_rule(mut self) -> Option<Classified> {
        let name = self.name()?;
        self.words("as on")?;
        let event = self.name()?;
        self.word("to").then_some(())?;
        Some(Classified::CreateRule { name, table: self.qualified()?, on_select: event == "select" })
    }

    fn create_index(mut self, unique: bool) -> Option<Classified> {
        let name = self.name()?;
        self.word("on").then_some(())?;
        let _ = self.word("only");
        let table = self.qualified()?;
        self.word("using").then_some(())?;
        let index = QualifiedName { schema: table.schema.clone(), name };
        Some(Classified::CreateIndex { index, table, unique })
    }

    fn alter(mut self) -> Option<Classified> {
        use Classified as C;
        let kind = self.name()?;
        let owner = matches!(self.rest, [.., owner, to, name, _semicolon]
            if owner.is_word("owner") && to.is_word("to") && name.name().is_some())
            && !self.top_level().any(|token| token.is(","));
        match kind.as_str() {
            "default" if self.word("privileges") => Some(C::DefaultPrivileges),
            "database" => Some(C::DatabaseProperty),
            "system" | "role" | "user" | "group" | "tablespace" | "extension" => None,
            // Never run, so that it does not matter what the rest says.
            _ if owner => Some(C::OwnerTo),
            "foreign" => Some(C::Foreign { what: "foreign object" }),
            "server" => Some(C::Foreign { what: "foreign server" }),
            "publication" => Some(C::Publication { name: self.name()? }),
            "subscription" => Some(C::Subscription { name: self.name()? }),
            "event" if self.word("trigger") => Some(C::EventTrigger { name: self.name()? }),
            "table" => self.alter_table(),
            "sequence" => self.alter_sequence(),
            "index" => {
                let _ = self.words("if exists");
                let table = self.qualified()?;
                let words = self.action();
                let known = words.starts_with("ATTACH PARTITION") || words.starts_with("ALTER COLUMN");
                known.then(|| C::AlterTableOther { table, action: format!("INDEX {words}") })
            }
            "view" => self.alter_view(),
            "materialized" if self.word("view") => self.alter_view(),
            "domain" => {
                let domain = self.qualified()?;
                self.words("add constraint")?;
                Some(C::AddDomainConstraint { domain, name: self.name()? })
            }
            "text" if self.words("search configuration").is_some() => Some(C::TextSearch),
            "operator" if self.word("family") => Some(C::CreateOperator { what: "operator family" }),
            "statistics" => {
                let table = self.qualified()?;
                self.words("set statistics")?;
                Some(C::AlterTableOther { table, action: "INDEX SET STATISTICS".into() })
            }
            _ => None,
        }
    }

    /// One change to a table. Several in one statement are none of pg_dump's.
    fn alter_table(mut self) -> Option<Classified> {
        use Classified as C;
        let _ = self.words("if exists");
        let _ = self.word("only");
        let table = self.qualified()?;
        (!self.top_level().any(|token| token.is(","))).then_some(())?;
        let action = self.action();
        if self.words("add constraint").is_some() {
            return self.constraint(table);
        }
        if self.words("drop constraint").is_some() {
            return Some(C::Drop);
        }
        if self.word("alter") {
            let _ = self.word("column");
            return self.column(table);
        }
        let first_two = [
            "ATTACH PARTITION",
            "CLUSTER ON",
            "REPLICA IDENTITY",
            "ENABLE TRIGGER",
            "ENABLE ALWAYS",
            "ENABLE REPLICA",
            "ENABLE RULE",
            "ENABLE ROW",
            "DISABLE TRIGGER",
            "DISABLE RULE",
            "DISABLE ROW",
            "FORCE ROW",
            "NO FORCE",
            "VALIDATE CONSTRAINT",
            "SET WITHOUT",
            "SET LOGGED",
            "SET UNLOGGED",
        ];
        let known = first_two.iter().any(|words| action.starts_with(words))
            || action.starts_with("INHERIT ")
            || (self.word("set") && self.punctuation("("));
        known.then_some(C::AlterTableOther { table, action })
    }

    fn constraint(mut self, table: QualifiedName) -> Option<Classified> {
        use Classified as C;
        let name = self.name()?;
        Some(match self.name()?.as_str() {
            "primary" if self.word("key") => C::AddPrimaryKey { table, name },
            "unique" => C::AddUnique { table, name },
            "check" => C::AddCheck { table, name },
            "exclude" => C::AddExclusion { table, name },
            "not" if self.word("null") => C::AddNotNull { table, name },
            "foreign" if self.word("key") => {
                self.skip_to("references")?;
                let references = self.qualified()?;
                let top: Vec<&Token<'_>> = self.top_level().collect();
                let not_valid = top.windows(2).any(|pair| pair[0].is_word("not") && pair[1].is_word("valid"));
                C::AddForeignKey { table, name, references, not_valid }
            }
            _ => return None,
        })
    }

    fn column(mut self, table: QualifiedName) -> Option<Classified> {
        let column = self.name()?;
        if self.words("set default").is_some() {
            return Some(Classified::ColumnDefault { table, column });
        }
        if self.words("drop default").is_some() {
            return Some(Classified::Drop);
        }
        let action = format!("ALTER COLUMN {}", self.action());
        let known = self.words("add generated").is_some()
            || (self.word("set")
                && (self.punctuation("(")
                    || self.words("not null").is_some()
                    || ["statistics", "storage", "compression"].iter().any(|word| self.word(word))));
        known.then_some(Classified::AlterTableOther { table, action })
    }

    fn alter_view(mut self) -> Option<Classified> {
        let table = self.qualified()?;
        self.word("alter").then_some(())?;
        let _ = self.word("column");
        self.column(table)
    }

    fn alter_sequence(mut self) -> Option<Classified> {
        let sequence = self.qualified()?;
        if self.words("set logged").is_some() || self.words("set unlogged").is_some() {
            return Some(Classified::AlterTableOther { table: sequence, action: "SET LOGGED".into() });
        }
        self.words("owned by")?;
        let first = self.name()?;
        self.punctuation(".").then_some(())?;
        let second = self.name()?;
        let (table, column) = match self.punctuation(".") {
            true => (QualifiedName::new(first, second), self.name()?),
            false => (QualifiedName { schema: None, name: first }, second),
        };
        self.end()?;
        Some(Classified::AlterSequenceOwnedBy { sequence, table, column })
    }

    fn comment(mut self) -> Option<Classified> {
        use Classified as C;
        self.word("on").then_some(())?;
        let [.., is, text, _semicolon] = self.rest else { return None };
        let texts = [TokenKind::Text, TokenKind::EscapeText];
        (is.is_word("is") && (texts.contains(&text.kind) || text.is_word("null"))).then_some(())?;
        let kind = self.name()?;
        Some(match kind.as_str() {
            "extension" => C::CommentOnExtension { name: self.name()? },
            "schema" => C::CommentOnSchema { name: self.name()? },
            "database" => C::DatabaseProperty,
            "large" if self.word("object") => C::LargeObjectComment { oid: self.oid()? },
            "aggregate" | "cast" | "collation" | "column" | "constraint" | "conversion" | "domain"
            | "event" | "foreign" | "function" | "index" | "materialized" | "operator" | "policy"
            | "procedural" | "language" | "procedure" | "publication" | "rule" | "sequence" | "server"
            | "statistics" | "subscription" | "table" | "text" | "trigger" | "type" | "view" => {
                C::Comment { kind: kind.to_ascii_uppercase() }
            }
            _ => return None,
        })
    }

    /// `COPY table (columns) FROM stdin`, and no other form.
    fn copy(mut self) -> Option<Classified> {
        let table = self.qualified()?;
        let mut columns = Vec::new();
        if self.punctuation("(") {
            loop {
                columns.push(self.name()?);
                if self.punctuation(")") {
                    break;
                }
                self.punctuation(",").then_some(())?;
            }
        }
        self.words("from stdin")?;
        self.end()?;
        Some(Classified::Copy { table, columns })
    }

    /// An `INSERT` of literals.
    fn insert(mut self) -> Option<Classified> {
        self.word("into").then_some(())?;
        let table = self.qualified()?;
        if self.punctuation("(") {
            while !self.punctuation(")") {
                self.name()?;
                let _ = self.punctuation(",");
            }
        }
        let _ = self.words("overriding system value");
        let mut rows = 1;
        if self.words("default values").is_none() {
            self.word("values").then_some(())?;
            let literals = self.rest.iter().take_while(|token| is_literal(token)).count();
            // A literal has no parentheses of its own: each opens a row.
            rows = self.rest[..literals].iter().filter(|token| token.is("(")).count() as u64;
            self.rest = &self.rest[literals..];
        }
        let may_skip = self.words("on conflict do nothing").is_some();
        self.end()?;
        Some(Classified::Insert { table, rows, may_skip })
    }

    /// Takes a keyword if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let found = self.rest.first().is_some_and(|token| token.is_word(word));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// Takes several keywords, separated by spaces, if all of them come next.
    fn words(&mut self, words: &str) -> Option<()> {
        let mut ahead = Parser { rest: self.rest };
        words.split(' ').all(|word| ahead.word(word)).then(|| self.rest = ahead.rest)
    }

    fn punctuation(&mut self, text: &str) -> bool {
        let found = self.rest.first().is_some_and(|token| token.is(text));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn open(&mut self) -> Option<()> {
        self.punctuation("(").then_some(())
    }

    fn name(&mut self) -> Option<String> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        first.name()
    }

    fn qualified(&mut self) -> Option<QualifiedName> {
        let first = self.name()?;
        if !self.punctuation(".") {
            return Some(QualifiedName { schema: None, name: first });
        }
        let name = QualifiedName::new(first, self.name()?);
        (!self.rest.first().is_some_and(|token| token.is("."))).then_some(name)
    }

    /// A large object's number, bare or in quotes.
    fn oid(&mut self) -> Option<u32> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        first.string().as_deref().unwrap_or(first.text).parse().ok()
    }

    /// The statement's semicolon and nothing else.
    fn end(&mut self) -> Option<()> {
        matches!(self.rest, [semicolon] if semicolon.is(";")).then_some(())
    }

    /// The remaining arguments of a call, its parenthesis, and the statement's end.
    fn call_tail(&mut self, arguments: &[&str]) -> Option<()> {
        let texts: Vec<&str> = self.rest.iter().map(|token| token.text).collect();
        texts.strip_prefix(arguments).filter(|tail| *tail == [")", ";"]).map(|_| ())
    }

    /// Skips to after the next keyword outside of parentheses.
    fn skip_to(&mut self, word: &str) -> Option<()> {
        let found = self.top_level().find(|token| token.is_word(word))?.at;
        let index = self.rest.iter().position(|token| token.at == found)?;
        self.rest = &self.rest[index + 1..];
        Some(())
    }

    /// The remaining tokens outside of parentheses and brackets.
    fn top_level(&self) -> impl Iterator<Item = &'t Token<'a>> + use<'t, 'a> {
        let mut depth = 0_usize;
        self.rest.iter().filter(move |token| {
            if token.is(")") || token.is("]") {
                depth = depth.saturating_sub(1);
                return false;
            }
            let outside = depth == 0;
            let opens = token.is("(") || token.is("[");
            depth += usize::from(opens);
            outside && !opens
        })
    }

    /// The next two words, upper case.
    fn action(&self) -> String {
        let words = self.rest.iter().take(2).filter(|token| !token.is(";"));
        words.map(|token| token.text.to_ascii_uppercase()).collect::<Vec<_>>().join(" ")
    }

    /// The remaining tokens but the semicolon, as written, for messages.
    fn text(&self) -> String {
        let values = &self.rest[..self.rest.len().saturating_sub(1)];
        values.iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }
}

/// What stands between `VALUES` and the end of an `INSERT` that pg_dump writes.
fn is_literal(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::Text | TokenKind::EscapeText | TokenKind::Number => true,
        TokenKind::Punctuation => matches!(token.text, "(" | ")" | ","),
        TokenKind::Operator => token.text == "-",
        TokenKind::Word => ["null", "true", "false", "default"].iter().any(|word| token.is_word(word)),
        _ => false,
    }
}
