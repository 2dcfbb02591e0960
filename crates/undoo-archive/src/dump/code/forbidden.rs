//! What no code of a dump may name: files and programs of the server, other servers, its settings, other
//! roles, and functions that run a text as SQL. Finding a name here is certain; not finding one proves
//! nothing, because code can build names at run time. That is why unknown code needs a person anyway.

use crate::dump::sql::{Token, TokenKind, Tokens};

/// Functions by their whole name.
const NAMES: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "lo_export",
    "lo_import",
    "pg_cancel_backend",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_restore_point",
    "pg_drop_replication_slot",
    "pg_execute_server_program",
    "pg_import_system_collations",
    "pg_logdir_ls",
    "pg_logfile_rotate",
    "pg_promote",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_stat_file",
    "pg_switch_wal",
    "pg_terminate_backend",
    "plpy",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "xpath_table",
];

/// Families of functions by the start of their names.
const PREFIXES: &[&str] = &["dblink", "pg_backup_", "pg_file_", "pg_ls_", "pg_read_", "pg_write_"];

/// How deep strings within strings are read.
const DEPTH: usize = 4;

/// The first forbidden thing in code, whose strings may be code as well.
pub(super) fn in_code(tokens: &[Token<'_>]) -> Option<String> {
    search(tokens, DEPTH)
}

/// The first forbidden function named in an expression, called or not.
pub(super) fn in_expression(tokens: &[Token<'_>]) -> Option<String> {
    tokens.iter().find_map(name)
}

fn search(tokens: &[Token<'_>], depth: usize) -> Option<String> {
    if let Some(found) = in_expression(tokens).or_else(|| command(tokens)) {
        return Some(found);
    }
    let depth = depth.checked_sub(1)?;
    tokens.iter().find_map(|token| {
        let text = match token.kind {
            TokenKind::Text | TokenKind::DollarText => token.string()?,
            TokenKind::EscapeText => unescape(token.text.get(2..token.text.len() - 1)?),
            _ => return None,
        };
        search(&Tokens::new(&text).collect::<Vec<_>>(), depth)
    })
}

/// The content of `E'…'`. Line feeds and the like become spaces, which lexing does not tell apart.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            let _doubled = chars.next_if_eq(&'\'');
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let (radix, most) = match chars.peek() {
            Some('x') => (16, 2),
            Some('u') => (16, 4),
            Some('U') => (16, 8),
            Some('0'..='7') => (8, 3),
            Some('b' | 'f' | 'n' | 'r' | 't') => {
                chars.next();
                out.push(' ');
                continue;
            }
            _ => {
                out.extend(chars.next());
                continue;
            }
        };
        if radix == 16 {
            chars.next();
        }
        let mut code = 0_u32;
        for _ in 0..most {
            let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            code = code.wrapping_mul(radix).wrapping_add(digit);
            chars.next();
        }
        out.extend(char::from_u32(code));
    }
    out
}

fn name(token: &Token<'_>) -> Option<String> {
    let name = token.name()?.to_ascii_lowercase();
    let found = NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    found.then_some(name)
}

fn command(tokens: &[Token<'_>]) -> Option<String> {
    let follows = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(i, word)| tokens.get(at + i).is_some_and(|token| token.is_word(word)))
    };
    (0..tokens.len()).find_map(|at| {
        for words in [&["alter", "system"][..], &["create", "extension"]] {
            if follows(at, words) {
                return Some(words.join(" ").to_ascii_uppercase());
            }
        }
        if tokens[at].is_word("copy") {
            return copy(&tokens[at..]);
        }
        let sets_role = [
            &["set", "role"][..],
            &["set", "local", "role"],
            &["set", "session", "role"],
            &["set", "session", "authorization"],
            &["set", "local", "session", "authorization"],
            &["set", "session_authorization"],
        ];
        let found = sets_role.iter().find(|words| follows(at, words))?;
        // `UPDATE t SET role = …` names a column.
        let before = tokens[..at].iter().rev().take(8).take_while(|token| !token.is(";"));
        let assigns = before.into_iter().any(|token| token.is_word("update"));
        (!assigns).then(|| found.join(" ").to_ascii_uppercase())
    })
}

/// A `COPY` that runs a program or names a file.
fn copy(tokens: &[Token<'_>]) -> Option<String> {
    let statement = tokens.iter().take_while(|token| !token.is(";")).collect::<Vec<_>>();
    statement.windows(2).find_map(|pair| {
        let directed = pair[0].is_word("from") || pair[0].is_word("to");
        match pair[1].kind {
            TokenKind::Word if directed && pair[1].is_word("program") => Some("COPY … PROGRAM".to_owned()),
            TokenKind::Text | TokenKind::EscapeText | TokenKind::DollarText if directed => {
                Some("COPY with a file".to_owned())
            }
            _ => None,
        }
    })
}
