//! Code in a dump: functions, triggers, rules, and expressions that call functions.
//!
//! Restoring a function does nothing; it runs later, with Odoo's rights, when no one looks. So its text
//! is judged before it is restored: what Odoo and its usual companions create is known, whatever reaches
//! out of the database is refused, and anything else is shown to a person, who accepts exactly that text
//! by its hash. This module must never call an unknown function harmless; it may well show a harmless
//! one to a person.

use sha2::{Digest, Sha256};
use undoo_core::Finding;

use super::{
    sql::{Token, TokenKind, Tokens},
    statement::{Classified, excerpt},
};

mod calls;
mod forbidden;
mod names;
#[cfg(test)]
mod tests;

/// How many hexadecimal digits of the SHA-256 name a piece of code.
const HASH_DIGITS: usize = 32;

/// SHA-256 of the normalised text (see [`inspect_code`]) of functions that come with widespread modules,
/// and what they are. The whole digest, since twelve digits can be met by trying.
const KNOWN: &[(&str, &str)] = &[(
    "f9c9f711d5eab129aa687fd2ada3bf093e82db170e2e75464b060e6b34527be8",
    "the notification of OCA's queue_job",
)];

/// What is to be done about a piece of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing: it is in the catalogue, or computes from its arguments alone.
    Known,
    /// A person has to accept it by its hash.
    NeedsAcceptance,
    /// It reaches out of the database: no one can accept it.
    Never,
}

/// A piece of code in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeFinding {
    /// What it belongs to, such as `function public.f`.
    pub object: String,
    /// The first 32 hexadecimal digits of the SHA-256 of its normalised text.
    pub hash: String,
    /// The start of its text, on one line.
    pub excerpt: String,
    /// See [`Verdict`].
    pub verdict: Verdict,
    /// Why, as the end of a sentence that begins with the object.
    pub reason: String,
}

impl CodeFinding {
    /// The finding for a report; none for known code.
    pub fn finding(&self) -> Option<Finding> {
        let code = format!("code:{}", self.hash);
        let message = format!("{} {}: {}", self.object, self.reason, self.excerpt);
        match self.verdict {
            Verdict::Known => None,
            Verdict::NeedsAcceptance => {
                let remedy = format!("Read its text; if you trust it, accept it with --accept {code}.");
                Some(Finding::needs_acceptance(code, message, remedy))
            }
            Verdict::Never => Some(Finding::refusal(
                code,
                message,
                "Find out how it came into the backup. It cannot be accepted: dump again without it.",
            )),
        }
    }
}

/// Judges the code in one statement, which `classify` has recognised. Usually empty or one finding.
///
/// The hash is taken of the tokens rather than the characters: comments, white space, the case of
/// unquoted words and the tags of dollar quotes do not matter, in the text and in function bodies.
pub fn inspect_code(statement: &Classified, sql: &str) -> Vec<CodeFinding> {
    let tokens: Vec<Token<'_>> = Tokens::new(sql).collect();
    let Some((object, judged)) = judge(statement, &tokens) else { return Vec::new() };
    let digest = digest(&tokens);
    let (verdict, reason) = match KNOWN.iter().find(|(known, _)| *known == digest) {
        Some((_, what)) if judged.0 == Verdict::NeedsAcceptance => (Verdict::Known, format!("is {what}")),
        _ => judged,
    };
    let hash = digest.chars().take(HASH_DIGITS).collect();
    vec![CodeFinding { object, hash, excerpt: excerpt(sql), verdict, reason }]
}

/// The object and the judgement, for statements that hold code.
fn judge(statement: &Classified, tokens: &[Token<'_>]) -> Option<(String, (Verdict, String))> {
    use Classified as C;
    Some(match statement {
        C::CreateFunction { name, language } => (format!("function {name}"), function(language, tokens)),
        C::CreateTrigger { name, table, function } => {
            let known = (function.name == "queue_job_notify" && table.name == "queue_job")
                || names::is_trigger_function(function);
            let execute = tokens.iter().rposition(|token| token.is_word("execute")).unwrap_or_default();
            let condition = &tokens[..execute];
            let plain = forbidden::in_expression(condition).is_none() && calls::unknown(condition).is_empty();
            let judged = match known && plain {
                true => known_code("runs a known function"),
                false => unknown(tokens, format!("runs {function} whenever the table changes")),
            };
            (format!("trigger {name} on {table}"), judged)
        }
        C::CreateRule { name, table, on_select: false } => {
            (format!("rule {name} on {table}"), unknown(tokens, "rewrites statements".into()))
        }
        C::CreateAggregate { name } => {
            (format!("aggregate {name}"), unknown(tokens, "calls functions of its own".into()))
        }
        C::CreateOperator { what } => ((*what).to_owned(), operator(what, tokens)),
        C::CreateType { name }
            if tokens.iter().any(|t| t.is_word("subtype_diff") || t.is_word("canonical")) =>
        {
            (format!("type {name}"), unknown(tokens, "calls functions of its own".into()))
        }
        C::CreateRule { table, .. } => return expression(format!("view {table}"), tokens, 0),
        C::CreateView { view } | C::CreateMaterializedView { view } => {
            return expression(format!("view {view}"), tokens, after_name(tokens, "view"));
        }
        C::CreateTable { table } => {
            return expression(format!("table {table}"), tokens, after_name(tokens, "table"));
        }
        C::CreateDomain { name } => return expression(format!("domain {name}"), tokens, 0),
        C::ColumnDefault { table, column } => {
            return expression(format!("default of {table}.{column}"), tokens, 0);
        }
        C::AlterTableOther { table, action } => {
            return expression(format!("{action} of {table}"), tokens, 0);
        }
        C::CreateIndex { index, .. } => {
            let using = tokens.iter().position(|token| token.is_word("using")).unwrap_or_default();
            return expression(format!("index {index}"), tokens, using);
        }
        C::AddCheck { table, name } | C::AddExclusion { table, name } => {
            return expression(format!("constraint {name} of {table}"), tokens, 0);
        }
        C::AddDomainConstraint { domain, name } => {
            return expression(format!("constraint {name} of {domain}"), tokens, 0);
        }
        C::CreatePolicy { name, table } => return expression(format!("policy {name} on {table}"), tokens, 0),
        C::CreateStatistics { name } => {
            return expression(format!("statistics {name}"), tokens, after_name(tokens, "statistics"));
        }
        _ => return None,
    })
}

fn function(language: &str, tokens: &[Token<'_>]) -> (Verdict, String) {
    if !["sql", "plpgsql"].contains(&language) {
        let reason = format!("is written in {language}, which can do anything on the database server");
        return (Verdict::Never, reason);
    }
    let mut reason = format!("is {language} code that is not known");
    let words: Vec<Token<'_>> = tokens.iter().copied().filter(|t| t.kind == TokenKind::Word).collect();
    if words.windows(2).any(|pair| pair[0].is_word("security") && pair[1].is_word("definer")) {
        reason.push_str(", running with its owner's rights (SECURITY DEFINER)");
    }
    if language == "plpgsql" && bodies(tokens).any(|body| Tokens::new(&body).any(|t| t.is_word("execute"))) {
        reason.push_str(", building statements at run time (EXECUTE), which cannot be judged");
    }
    match unknown(tokens, reason) {
        (Verdict::NeedsAcceptance, _) if language == "sql" && calls::is_pure(tokens) => {
            known_code("computes from its arguments alone")
        }
        judged => judged,
    }
}

/// What a dump defines is defined by a role without rights, so that accepting some of these would only
/// end in the server's refusal.
fn operator(what: &str, tokens: &[Token<'_>]) -> (Verdict, String) {
    let without_function =
        tokens.windows(2).any(|pair| pair[0].is_word("without") && pair[1].is_word("function"));
    if ["operator class", "operator family"].contains(&what) || (what == "cast" && without_function) {
        return (Verdict::Never, "takes a superuser to define, which nothing in a backup gets".into());
    }
    unknown(tokens, "calls functions of its own".into())
}

fn known_code(reason: &str) -> (Verdict, String) {
    (Verdict::Known, reason.to_owned())
}

/// Code that a person must read, unless it is forbidden.
fn unknown(tokens: &[Token<'_>], reason: String) -> (Verdict, String) {
    match forbidden::in_code(tokens) {
        Some(what) => (Verdict::Never, format!("reaches out of the database ({what})")),
        None => (Verdict::NeedsAcceptance, reason),
    }
}

/// Expressions are fine as long as they call functions that are known to be.
fn expression(object: String, tokens: &[Token<'_>], from: usize) -> Option<(String, (Verdict, String))> {
    let tokens = tokens.get(from..)?;
    if let Some(what) = forbidden::in_expression(tokens) {
        return Some((object, (Verdict::Never, format!("reaches out of the database ({what})"))));
    }
    let calls = calls::unknown(tokens);
    let reason = match calls.as_slice() {
        [] => return None,
        [call] => format!("calls {call}, which is not known"),
        calls => format!("calls functions that are not known ({})", calls.join(", ")),
    };
    Some((object, (Verdict::NeedsAcceptance, reason)))
}

/// The index after the qualified name that follows a keyword.
fn after_name(tokens: &[Token<'_>], keyword: &str) -> usize {
    let name = tokens.iter().position(|token| token.is_word(keyword)).map_or(0, |at| at + 1);
    match tokens.get(name + 1).is_some_and(|token| token.is(".")) {
        true => name + 3,
        false => name + 1,
    }
}

/// The strings of a function's definition, of which one is its body.
fn bodies<'t>(tokens: &'t [Token<'_>]) -> impl Iterator<Item = String> + 't {
    tokens.iter().filter_map(Token::string)
}

fn digest(tokens: &[Token<'_>]) -> String {
    let mut hash = Sha256::new();
    for token in tokens {
        match (token.kind, token.string()) {
            (TokenKind::Word, _) => hash.update(token.text.to_ascii_lowercase()),
            // Dollar quotes hold code; its tokens end where the closing quote is.
            (TokenKind::DollarText, Some(body)) => {
                hash.update("$");
                for inner in Tokens::new(&body) {
                    hash.update(match inner.kind {
                        TokenKind::Word => inner.text.to_ascii_lowercase(),
                        _ => inner.text.to_owned(),
                    });
                    hash.update("\n");
                }
                hash.update("$");
            }
            _ => hash.update(token.text),
        }
        hash.update("\n");
    }
    hex::encode(hash.finalize())
}
