//! Plain dumps: the script that `pg_dump` and `pg_restore -f -` write for psql.
//!
//! A plain dump mixes SQL with rows and with commands to psql, which can run programs. This reader finds
//! where each part begins and ends, in one pass and bounded memory. It must never obey a psql command,
//! never decode or alter a row, and never call a dump complete that lacks `pg_dump`'s closing comment.

use std::io::Read;

use memchr::{memchr, memmem, memrchr};
use undoo_core::{Kind, Problem, Result};

use self::input::Input;
use super::{
    DumpEvent, DumpFormat, DumpHeader, DumpStream, Origin, ROWS_CHUNK, Statement,
    sql::{Bounds, Lexer, Step, Token, TokenKind, Tokens},
};

mod input;
mod look;
#[cfg(test)]
mod tests;

/// No statement of an honest dump is longer: rows of `--inserts` hold one value of at most 1 GB, but
/// Odoo keeps files out of the database.
const STATEMENT_MAX: usize = 64 * 1024 * 1024;
/// How much is read before the first attempt at a statement.
const STATEMENT_READ: usize = 64 * 1024;
/// A row that is longer is handed out in several events.
const ROW_MAX: usize = 1024 * 1024;

const OPENING: &str = "-- PostgreSQL database dump";
const CLOSING: &str = "-- PostgreSQL database dump complete";

/// A plain dump, read from its start. The only kind of psql command passed over is the pair
/// `\restrict KEY`, `\unrestrict KEY`; [`PlainDump::restrict_lines`] counts them.
pub struct PlainDump {
    input: Input,
    header: DumpHeader,
    state: State,
    /// Whether a statement has been handed out or begun.
    begun: bool,
    /// Whether pg_dump's closing comment has been read.
    closed: bool,
    restrict_key: Option<String>,
    restrict_lines: u64,
    /// Where the statement handed out last begins.
    statement_at: u64,
    /// Whether this is a part of a dump, which may end between any two statements.
    part_only: bool,
    end_of_rows: memmem::Finder<'static>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Statements,
    Rows { within_row: bool },
    LargeObject,
    Done,
}

/// What stands next between two statements.
enum Part {
    Comment,
    Command,
    Statement { start: usize, end: usize },
    End,
}

impl PlainDump {
    /// Reads the header of a plain dump.
    ///
    /// # Errors
    /// `not_a_dump` (kind `Invalid`), naming what the bytes look like, when this is no script of
    /// `pg_dump`; `dump_crlf` when its line ends were converted; otherwise as
    /// [`DumpStream::next_event`].
    pub fn open(input: Box<dyn Read + Send>) -> Result<Self> {
        let mut dump = Self::new(input, false);
        dump.read_header()?;
        Ok(dump)
    }

    /// Reads a part of a dump, from the start of a statement on. It may end between any two statements;
    /// whether it ends where it should is for the caller to know.
    pub(crate) fn part_of(input: Box<dyn Read + Send>) -> Self {
        Self::new(input, true)
    }

    fn new(input: Box<dyn Read + Send>, part_only: bool) -> Self {
        Self {
            input: Input::new(input),
            header: DumpHeader {
                format: DumpFormat::Plain,
                server_version: None,
                dump_version: None,
                database: None,
            },
            state: State::Statements,
            begun: false,
            closed: false,
            restrict_key: None,
            restrict_lines: 0,
            statement_at: 0,
            part_only,
            end_of_rows: memmem::Finder::new(b"\n\\."),
        }
    }

    /// Bytes of the dump up to the end of the last event.
    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }

    /// Where the statement handed out last begins, in bytes from the start of the dump.
    pub(crate) fn statement_at(&self) -> u64 {
        self.statement_at
    }

    /// How many `\restrict` and `\unrestrict` lines have been passed over so far.
    pub fn restrict_lines(&self) -> u64 {
        self.restrict_lines
    }

    fn read_header(&mut self) -> Result<()> {
        self.input.fill(STATEMENT_READ)?;
        if self.input.window().starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
        }
        look::check(self.input.window())?;
        let mut opened = false;
        loop {
            // A comment is only looked at here; whatever else comes next is left for `next_event`.
            let mut lexer = Lexer::new(self.input.window(), 0, self.input.at_end());
            match lexer.step() {
                Step::Token { kind: TokenKind::LineComment, start, end } => {
                    let text = String::from_utf8_lossy(&self.input.window()[start..end]).into_owned();
                    opened |= text == OPENING;
                    self.closed |= text == CLOSING;
                    if let Some(version) = text.strip_prefix("-- Dumped from database version ") {
                        self.header.server_version = Some(version.trim().to_owned());
                    } else if let Some(version) = text.strip_prefix("-- Dumped by pg_dump version ") {
                        self.header.dump_version = Some(version.trim().to_owned());
                    }
                    self.input.consume(end);
                }
                Step::Token { kind: TokenKind::Backslash, start, .. } if opened => {
                    self.input.consume(start);
                    self.command()?;
                }
                Step::More(_) if self.input.window().len() < STATEMENT_MAX => {
                    self.input.fill(self.input.window().len() * 2)?;
                }
                Step::End if !self.input.at_end() => {
                    self.input.consume(self.input.window().len());
                    self.input.fill(STATEMENT_READ)?;
                }
                _ if opened => return Ok(()),
                _ => return Err(look::unknown(self.input.line())),
            }
        }
    }

    /// The next part, with comments consumed up to it and the window covering it.
    fn part(&mut self) -> Result<Part> {
        let (mut bounds, mut scan, mut begin) = (Bounds::default(), 0, None);
        self.input.fill(STATEMENT_READ)?;
        loop {
            let mut lexer = Lexer::new(self.input.window(), scan, self.input.at_end());
            let more = loop {
                match lexer.step() {
                    Step::Token { kind: TokenKind::LineComment, start, end } if begin.is_none() => {
                        self.closed |= &self.input.window()[start..end] == CLOSING.as_bytes();
                        self.input.consume(end);
                        return Ok(Part::Comment);
                    }
                    Step::Token { kind: TokenKind::BlockComment, end, .. } if begin.is_none() => {
                        self.input.consume(end);
                        return Ok(Part::Comment);
                    }
                    Step::Token { kind: TokenKind::LineComment | TokenKind::BlockComment, .. } => {}
                    Step::Token { kind: TokenKind::Backslash, start, .. } => {
                        self.input.consume(start);
                        if begin.is_some() {
                            return Err(self.foreign_command());
                        }
                        return Ok(Part::Command);
                    }
                    Step::Token { kind: TokenKind::Unterminated, .. } => {
                        return Err(self.truncated("inside a string or comment"));
                    }
                    Step::Token { kind, start, end } => {
                        let begin = *begin.get_or_insert(start);
                        if bounds.push(kind, &self.input.window()[start..end]) {
                            return Ok(Part::Statement { start: begin, end });
                        }
                    }
                    Step::More(at) => break at,
                    Step::End if !self.input.at_end() => break self.input.window().len(),
                    Step::End if begin.is_some() => return Err(self.truncated("inside a statement")),
                    Step::End => return Ok(Part::End),
                }
            };
            scan = more;
            if begin.is_none() {
                self.input.consume(scan);
                scan = 0;
            }
            if self.input.window().len() >= STATEMENT_MAX {
                return Err(Problem::new(
                    Kind::Invalid,
                    "statement_too_long",
                    format!("the statement at line {} of the dump is longer than 64 MiB", self.input.line()),
                    "Dump the database again in pg_dump's default form, without --inserts.",
                ));
            }
            // Doubling keeps the work linear: a long token is lexed anew from its start each time.
            self.input.fill((self.input.window().len() * 2).clamp(STATEMENT_READ, STATEMENT_MAX))?;
        }
    }

    /// Consumes the statement that the window holds.
    fn take_statement(&mut self, start: usize, end: usize) -> Result<Statement> {
        self.input.consume(start);
        self.statement_at = self.input.position();
        let origin = Origin::Line(self.input.line());
        let bytes = self.input.window()[..end - start].to_vec();
        if memchr(0, &bytes).is_some() {
            return Err(self.damaged("contains a zero byte"));
        }
        let sql = String::from_utf8(bytes).map_err(|error| {
            Problem::new(
                Kind::Invalid,
                "dump_encoding",
                format!("the statement at line {} of the dump is not UTF-8 text", self.input.line()),
                "Dump the database again with --encoding=UTF8.",
            )
            .caused_by(error)
        })?;
        self.input.consume(end - start);
        Ok(Statement { sql, origin })
    }

    /// A statement as an event; none for `BEGIN` and `COMMIT`.
    fn statement_event(&mut self, statement: Statement) -> Result<Option<DumpEvent>> {
        let head: Vec<Token<'_>> = Tokens::new(&statement.sql).take(16).collect();
        let word = |at: usize, word: &str| head.get(at).is_some_and(|token| token.is_word(word));
        if (word(0, "begin") || word(0, "commit")) && head.get(1).is_some_and(|token| token.is(";")) {
            return Ok(None);
        }
        if word(0, "set") && word(1, "client_encoding") {
            check_encoding(&head, &statement)?;
        }
        if let Some(call) = LargeObjectCall::parse(&head) {
            return self.large_object_event(call).map(Some);
        }
        if self.state == State::LargeObject {
            return Err(self.damaged("interrupts the content of a large object"));
        }
        if word(0, "copy") && copies_from_stdin(&statement)? {
            match self.input.window().first() {
                Some(b'\n') => {}
                Some(_) => return Err(self.damaged("has text between COPY and its rows")),
                None => return Err(self.truncated("at the start of a COPY block")),
            }
            self.input.consume(1);
            self.state = State::Rows { within_row: false };
            return Ok(Some(DumpEvent::CopyStart(statement)));
        }
        Ok(Some(DumpEvent::Statement(statement)))
    }

    fn large_object_event(&mut self, call: LargeObjectCall) -> Result<DumpEvent> {
        match (call, self.state) {
            (LargeObjectCall::Open { oid, create }, State::Statements) => {
                self.state = State::LargeObject;
                Ok(DumpEvent::LargeObjectStart { oid, create })
            }
            (LargeObjectCall::Write(bytes), State::LargeObject) => Ok(DumpEvent::LargeObjectData(bytes)),
            (LargeObjectCall::Close, State::LargeObject) => {
                self.state = State::Statements;
                Ok(DumpEvent::LargeObjectEnd)
            }
            _ => Err(self.damaged("opens, writes or closes a large object out of order")),
        }
    }

    fn rows_event(&mut self, within_row: bool) -> Result<DumpEvent> {
        let mut most = ROWS_CHUNK;
        loop {
            self.input.fill(most)?;
            let window = self.input.window();
            if !within_row && window.starts_with(b"\\.") {
                return self.rows_end();
            }
            let window = &window[..window.len().min(most)];
            let end = match self.end_of_rows.find(window) {
                Some(newline) => Some(newline + 1),
                None => memrchr(b'\n', window).map(|newline| newline + 1),
            };
            let (end, ends_row) = match end {
                Some(end) => (end, true),
                None if self.input.at_end() && window.len() == self.input.window().len() => {
                    return Err(self.truncated("inside a COPY block"));
                }
                None if most >= ROW_MAX => (window.len(), false),
                None => {
                    most *= 2;
                    continue;
                }
            };
            let bytes = window[..end].to_vec();
            let rows = self.input.consume(end);
            self.state = State::Rows { within_row: !ends_row };
            return Ok(DumpEvent::CopyRows { bytes, rows, ends_row });
        }
    }

    /// The window begins with `\.` at the start of a line; pg_dump writes every backslash of a value
    /// as two, so this is the end of the rows or damage.
    fn rows_end(&mut self) -> Result<DumpEvent> {
        match self.input.window().get(2) {
            Some(b'\n') => {
                self.input.consume(3);
                self.state = State::Statements;
                Ok(DumpEvent::CopyEnd)
            }
            Some(b'\r') => Err(look::crlf(self.input.line())),
            Some(_) => Err(self.damaged(r"begins with \. but does not end the rows")),
            None => Err(self.truncated("inside a COPY block")),
        }
    }

    /// Passes over `\restrict` or `\unrestrict`; the window begins with the backslash.
    fn command(&mut self) -> Result<()> {
        let end = loop {
            if let Some(end) = memchr(b'\n', self.input.window()) {
                break end;
            }
            if self.input.at_end() && self.closed {
                return Err(self.truncated("in its last line"));
            }
            if self.input.at_end() || self.input.window().len() > STATEMENT_READ {
                return Err(self.foreign_command());
            }
            self.input.fill(self.input.window().len() * 2)?;
        };
        let line = std::str::from_utf8(&self.input.window()[..end]).unwrap_or_default();
        let well_formed = |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric());
        match (line.strip_prefix(r"\restrict ").filter(well_formed), &self.restrict_key) {
            (Some(key), None) if !self.begun => self.restrict_key = Some(key.to_owned()),
            (None, Some(key)) if self.closed && line.strip_prefix(r"\unrestrict ") == Some(key) => {
                self.restrict_key = None;
            }
            _ => return Err(self.foreign_command()),
        }
        self.restrict_lines += 1;
        self.input.consume(end);
        Ok(())
    }

    /// The window begins with the backslash of a psql command.
    fn foreign_command(&self) -> Problem {
        let window = self.input.window();
        let len = window.iter().skip(1).take(40).take_while(|b| b.is_ascii_graphic()).count();
        let command = String::from_utf8_lossy(&window[..=len]).into_owned();
        Problem::new(
            Kind::Refused,
            "meta_command",
            format!(
                "line {} of the dump has the psql command {command}, which no dump of one database contains",
                self.input.line()
            ),
            "Find out who changed this file. A dump made with --create has \\connect: dump again without it.",
        )
    }

    fn truncated(&self, place: &str) -> Problem {
        Problem::new(
            Kind::Invalid,
            "dump_truncated",
            format!("the dump ends {place}, near line {}: it is cut short", self.input.line()),
            "Fetch the backup again and compare its size with the original, or use another backup.",
        )
    }

    fn damaged(&self, what: &str) -> Problem {
        Problem::new(
            Kind::Invalid,
            "dump_damaged",
            format!("line {} of the dump {what}", self.input.line()),
            "The file was edited or damaged after pg_dump wrote it: use another copy of the backup.",
        )
    }
}

impl DumpStream for PlainDump {
    fn header(&self) -> &DumpHeader {
        &self.header
    }

    fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Rows { within_row } => return self.rows_event(within_row).map(Some),
                State::Statements | State::LargeObject => {}
            }
            match self.part()? {
                Part::Comment => {}
                Part::Command => self.command()?,
                Part::Statement { .. } if self.closed => {
                    return Err(self.damaged("has SQL after pg_dump's closing comment"));
                }
                Part::Statement { start, end } => {
                    self.begun = true;
                    let statement = self.take_statement(start, end)?;
                    if let Some(event) = self.statement_event(statement)? {
                        return Ok(Some(event));
                    }
                }
                Part::End if self.state == State::LargeObject => {
                    return Err(self.truncated("inside a large object"));
                }
                Part::End if !self.closed && !self.part_only => {
                    return Err(self.truncated("without pg_dump's closing comment"));
                }
                Part::End => self.state = State::Done,
            }
        }
    }
}

/// Whether rows follow the statement.
fn copies_from_stdin(statement: &Statement) -> Result<bool> {
    let tokens: Vec<Token<'_>> = Tokens::new(&statement.sql).collect();
    let is_from_stdin = |pair: &[Token<'_>]| pair[0].is_word("from") && pair[1].is_word("stdin");
    match tokens.as_slice() {
        [.., from, stdin, _semicolon] if is_from_stdin(&[*from, *stdin]) => Ok(true),
        tokens if tokens.windows(2).any(is_from_stdin) => Err(Problem::new(
            Kind::Refused,
            "statement_not_allowed",
            format!("{} of the dump is a COPY with options, which pg_dump does not write", place(statement)),
            "Use a dump as pg_dump wrote it.",
        )),
        _ => Ok(false),
    }
}

/// Refuses a dump whose rows are not in UTF-8. `head` is the statement's tokens.
fn check_encoding(head: &[Token<'_>], statement: &Statement) -> Result<()> {
    let encoding = head.get(3).and_then(|token| token.string().or_else(|| token.name())).unwrap_or_default();
    if encoding.eq_ignore_ascii_case("utf8") || encoding.eq_ignore_ascii_case("utf-8") {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Invalid,
        "dump_encoding",
        format!("{} says that the dump is in encoding {encoding}; Odoo uses UTF8", place(statement)),
        "Dump the database again with --encoding=UTF8.",
    ))
}

fn place(statement: &Statement) -> String {
    match statement.origin {
        Origin::Line(line) => format!("line {line}"),
        Origin::Entry(entry) => format!("entry {entry}"),
    }
}

/// How plain dumps write a large object's content.
enum LargeObjectCall {
    Open { oid: u32, create: bool },
    Write(Vec<u8>),
    Close,
}

impl LargeObjectCall {
    /// Recognises the calls exactly as pg_dump writes them.
    fn parse(tokens: &[Token<'_>]) -> Option<Self> {
        let [select, catalog, dot, function, open, arguments @ ..] = tokens else { return None };
        if !(select.is_word("select") && catalog.is_word("pg_catalog") && dot.is(".") && open.is("(")) {
            return None;
        }
        let texts: Vec<&str> = arguments.iter().map(|token| token.text).collect();
        match (function.text, texts.as_slice()) {
            ("lo_open", [_, ",", "131072", ")", ";"]) => {
                Some(Self::Open { oid: arguments[0].string()?.parse().ok()?, create: false })
            }
            ("lo_open", ["pg_catalog", ".", "lo_create", "(", _, ")", ",", "131072", ")", ";"]) => {
                Some(Self::Open { oid: arguments[4].string()?.parse().ok()?, create: true })
            }
            ("lowrite", ["0", ",", _, ")", ";"]) => {
                let text = arguments[2].text.strip_prefix(r"'\x")?.strip_suffix('\'')?;
                Some(Self::Write(hex::decode(text).ok()?))
            }
            ("lo_close", ["0", ")", ";"]) => Some(Self::Close),
            _ => None,
        }
    }
}
