//! The functions that an expression calls.
//!
//! A name before an opening parenthesis is a call unless the grammar leaves no doubt that it is not: a
//! keyword, a type, an alias with columns. In doubt it is a call.

use super::names::{is_harmless, is_keyword};
use crate::dump::sql::{Token, TokenKind, Tokens};

/// The calls that are not known to be harmless, each once, as written.
pub(super) fn unknown(tokens: &[Token<'_>]) -> Vec<String> {
    let opens = opening_parentheses(tokens);
    let mut found: Vec<String> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = token.name() else { continue };
        if !tokens.get(at + 1).is_some_and(|next| next.is("(")) {
            if is_attribute(tokens, at) && !is_harmless(None, &name) && !found.contains(&name) {
                found.push(name);
            }
            continue;
        }
        let qualifier = match at.checked_sub(2).map(|before| &tokens[before..at]) {
            Some([schema, dot]) if dot.is(".") => Some(schema.name().unwrap_or_default()),
            _ => None,
        };
        let harmless = match &qualifier {
            Some(schema) => is_harmless(Some(schema), &name),
            None => is_bare_keyword(token) || is_alias(tokens, &opens, at) || is_harmless(None, &name),
        };
        if !harmless {
            let call = qualifier.map_or(name.clone(), |schema| format!("{schema}.{name}"));
            if !found.contains(&call) {
                found.push(call);
            }
        }
    }
    found
}

/// Whether a function in SQL is one `SELECT` of an expression, over its arguments and harmless calls.
pub(super) fn is_pure(tokens: &[Token<'_>]) -> bool {
    let Some(name) = tokens.iter().position(|token| token.is("(")) else { return false };
    let header = &tokens[name..];
    let words = ["definer", "set", "support", "transform", "atomic", "return"];
    let strange = |token: &Token<'_>| {
        words.iter().any(|word| token.is_word(word))
            || matches!(token.kind, TokenKind::EscapeText | TokenKind::Unicode)
    };
    if header.iter().any(strange) || !unknown(header).is_empty() {
        return false;
    }
    let Some(body) = header.windows(2).find(|pair| pair[0].is_word("as")).and_then(|pair| pair[1].string())
    else {
        return false;
    };
    let mut body: Vec<Token<'_>> = Tokens::new(&body).collect();
    if body.last().is_some_and(|token| token.is(";")) {
        body.pop();
    }
    let [select, rest @ ..] = body.as_slice() else { return false };
    let mut depth = 0_usize;
    for (at, token) in rest.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let table = depth == 0 && (token.is_word("from") || token.is_word("into") || token.is_word("for"));
        let odd = matches!(
            token.kind,
            TokenKind::EscapeText
                | TokenKind::Unicode
                | TokenKind::Backslash
                | TokenKind::Other
                | TokenKind::Unterminated
        );
        // An argument's name takes attributes too, so only calls and types may be qualified.
        let attribute = at > 0
            && rest[at - 1].is(".")
            && !rest.get(at + 1).is_some_and(|next| next.is("("))
            && !token.name().is_some_and(|name| is_harmless(None, &name));
        if table || odd || attribute || token.is(";") || token.is_word("select") || token.is_word("table") {
            return false;
        }
    }
    select.is_word("select") && unknown(rest).is_empty()
}

/// Whether the name at `at` is taken of a value, as in `(value).name`: where the value has no such field,
/// the server calls the function of that name with it.
fn is_attribute(tokens: &[Token<'_>], at: usize) -> bool {
    match at.checked_sub(2).map(|before| &tokens[before..at]) {
        Some([value, dot]) if dot.is(".") => {
            value.is(")") || value.is("]") || value.kind == TokenKind::Parameter
        }
        _ => false,
    }
}

/// For each closing parenthesis, the index of its opening one.
fn opening_parentheses(tokens: &[Token<'_>]) -> Vec<Option<usize>> {
    let mut open = Vec::new();
    let partner = |(at, token): (usize, &Token<'_>)| {
        if token.is("(") {
            open.push(at);
        }
        if token.is(")") { open.pop() } else { None }
    };
    tokens.iter().enumerate().map(partner).collect()
}

fn is_bare_keyword(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Word && is_keyword(&token.text.to_ascii_lowercase())
}

/// Whether the name at `at`, before a parenthesis, is an alias with columns, a common table expression,
/// a type after `AS`, or an access method.
fn is_alias(tokens: &[Token<'_>], opens: &[Option<usize>], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    let previous = &tokens[before];
    let introduces = |token: &Token<'_>| ["from", "join", "lateral"].iter().any(|word| token.is_word(word));
    if ["as", "using", "with", "recursive", "ordinality"].iter().any(|word| previous.is_word(word)) {
        return true;
    }
    if previous.is(",") {
        return is_common_table(tokens, opens, at);
    }
    if previous.is(")") {
        // After a call or a sub-select; not after `DISTINCT ON (…)` or `OPERATOR(…)`.
        let head = opens[before].and_then(|open| open.checked_sub(1)).map(|head| &tokens[head]);
        return head
            .is_some_and(|head| introduces(head) || (head.name().is_some() && !is_bare_keyword(head)));
    }
    if previous.name().is_none() || is_bare_keyword(previous) {
        return false;
    }
    let table = match before.checked_sub(2).map(|schema| &tokens[schema..before]) {
        Some([schema, dot]) if dot.is(".") && schema.name().is_some() => before - 2,
        _ => before,
    };
    table.checked_sub(1).is_some_and(|head| introduces(&tokens[head]))
}

/// `name (columns) AS [NOT] [MATERIALIZED] (SELECT …`.
fn is_common_table(tokens: &[Token<'_>], opens: &[Option<usize>], at: usize) -> bool {
    let Some(close) = opens.iter().position(|open| *open == Some(at + 1)) else { return false };
    let mut rest = tokens[close + 1..].iter();
    if !rest.next().is_some_and(|token| token.is_word("as")) {
        return false;
    }
    let mut rest = rest.skip_while(|token| token.is_word("not") || token.is_word("materialized"));
    rest.next().is_some_and(|token| token.is("("))
        && rest.next().is_some_and(|token| token.is_word("select") || token.is_word("values"))
}
