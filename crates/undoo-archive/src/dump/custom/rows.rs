//! Rows of a data block, cut into events.
//!
//! In COPY's text format a line feed always ends a row (within a value it is written `\n`), so rows are
//! never looked into. `pg_dump` ends every table's data with a line `\.`, which is not part of the rows;
//! a block without it, or with anything but line feeds behind it, is broken. This is the path that all
//! of a backup's bytes take: one allocation an event, none a row.

use memchr::{memchr_iter, memmem, memrchr};
use undoo_core::Result;

use super::{
    super::{DumpEvent, ROWS_CHUNK},
    block::Block,
    input::{Input, broken, truncated},
};

/// Rows longer than this are handed out in parts.
const LONG_ROW: usize = 1024 * 1024;

/// A data block of COPY rows being read.
pub(super) struct Rows {
    block: Block,
    /// Read, not yet handed out.
    buffer: Vec<u8>,
    /// Whether `buffer` begins a row.
    at_row_start: bool,
    terminator: memmem::Finder<'static>,
}

impl Rows {
    pub(super) fn new(block: Block) -> Self {
        Self { block, buffer: Vec::new(), at_row_start: true, terminator: memmem::Finder::new(b"\n\\.\n") }
    }

    /// The next rows, or `None` after the last, when [`Rows::into_input`] may be called.
    pub(super) fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        let mut target = ROWS_CHUNK;
        loop {
            let ended = self.block.read_to(&mut self.buffer, target)?;
            if self.at_row_start && self.buffer.starts_with(b"\\.\n") {
                self.expect_only_line_feeds(3)?;
                return Ok(None);
            }
            let rows_end = match self.terminator.find(&self.buffer) {
                Some(at) => Some(at + 1),
                None => memrchr(b'\n', &self.buffer).map(|at| at + 1),
            };
            match rows_end {
                Some(end) => return Ok(Some(self.hand_out(end, true))),
                None if ended => return Err(truncated("a table's rows, whose closing \\. is missing")),
                None if self.buffer.len() >= LONG_ROW || !self.at_row_start => {
                    return Ok(Some(self.hand_out(self.buffer.len(), false)));
                }
                None => target = self.buffer.len() + ROWS_CHUNK,
            }
        }
    }

    fn hand_out(&mut self, end: usize, ends_row: bool) -> DumpEvent {
        let rest = &self.buffer[end..];
        let mut next = Vec::with_capacity(ROWS_CHUNK.max(rest.len()));
        next.extend_from_slice(rest);
        let mut bytes = std::mem::replace(&mut self.buffer, next);
        bytes.truncate(end);
        self.at_row_start = ends_row;
        let rows = memchr_iter(b'\n', &bytes).count() as u64;
        DumpEvent::CopyRows { bytes, rows, ends_row }
    }

    fn expect_only_line_feeds(&mut self, mut from: usize) -> Result<()> {
        loop {
            if self.buffer[from..].iter().any(|byte| *byte != b'\n') {
                return Err(broken(
                    "dump_bad_block",
                    "the custom dump has bytes after the closing \\. of a table's rows",
                ));
            }
            self.buffer.clear();
            from = 0;
            if self.block.read_to(&mut self.buffer, 4096)? && self.buffer.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn into_input(self) -> Input {
        self.block.into_input()
    }
}
