//! Rows written as statements (`pg_dump --inserts`): a data block of SQL text, cut at its semicolons.
//!
//! Rare, and slow for everyone, but a valid dump. It must never hold more than one statement and a
//! buffer, and never take the end of the block for the end of a statement.

use undoo_core::{Kind, Problem, Result};

use super::{
    super::sql::{Bounds, Lexer, Step, TokenKind},
    block::Block,
    input::{Input, broken, truncated},
};

/// How much is read before the first attempt at a statement.
const READ: usize = 64 * 1024;
/// The longest statement.
const LONGEST: usize = 64 * 1024 * 1024;

/// A data block of statements being read.
pub(super) struct Inserts {
    block: Block,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed out.
    done: usize,
    /// Whether `buffer` holds the block's end.
    ended: bool,
}

impl Inserts {
    pub(super) fn new(block: Block) -> Self {
        Self { block, buffer: Vec::new(), done: 0, ended: false }
    }

    /// The next statement, or `None` after the last, when [`Inserts::into_input`] may be called.
    pub(super) fn next_statement(&mut self) -> Result<Option<String>> {
        let (mut bounds, mut begin) = (Bounds::default(), None);
        let mut at = self.done;
        loop {
            let mut lexer = Lexer::new(&self.buffer, at, self.ended);
            at = loop {
                match lexer.step() {
                    Step::Token { kind: TokenKind::LineComment | TokenKind::BlockComment, .. } => {}
                    Step::Token { kind: TokenKind::Unterminated, .. } => return Err(truncated("a string")),
                    Step::Token { kind, start, end } => {
                        let begin = *begin.get_or_insert(start);
                        if bounds.push(kind, &self.buffer[start..end]) {
                            self.done = end;
                            return Ok(Some(text(&self.buffer[begin..end])?));
                        }
                    }
                    Step::More(start) => break start,
                    Step::End if !self.ended => break self.buffer.len(),
                    Step::End if begin.is_some() => return Err(truncated("a statement")),
                    Step::End => return Ok(None),
                }
            };
            let keep = begin.unwrap_or(at);
            self.buffer.drain(..keep);
            (self.done, at, begin) = (0, at - keep, begin.map(|_| 0));
            if self.buffer.len() >= LONGEST {
                return Err(Problem::new(
                    Kind::Invalid,
                    "dump_statement_too_long",
                    "the custom dump has a statement of more than 64 MiB among its rows",
                    "dump the database again in pg_dump's default form, without --inserts",
                ));
            }
            // Doubling keeps the work linear: a token that goes on is lexed anew from its start.
            let target = (self.buffer.len() * 2).max(READ);
            self.ended = self.block.read_to(&mut self.buffer, target)?;
        }
    }

    pub(super) fn into_input(self) -> Input {
        self.block.into_input()
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    if memchr::memchr(0, bytes).is_some() {
        return Err(broken("dump_nul", "the custom dump has a NUL byte in a statement among its rows"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        broken("dump_not_utf8", "the custom dump has a statement among its rows that is not UTF-8")
            .caused_by(error.utf8_error())
    })
}
