//! A window over a stream, with the number of the line it begins at.

use std::io::{ErrorKind, Read};

use undoo_core::{Kind, Problem, Result};

/// A buffer that grew beyond this for one statement is given back.
const KEPT: usize = 2 * 1024 * 1024;

/// The bytes at hand of a stream, and how far they have been consumed.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    line: u64,
    consumed: u64,
}

impl Input {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, end: 0, at_end: false, line: 1, consumed: 0 }
    }

    /// The bytes at hand.
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether the stream ends with the window.
    pub(super) fn at_end(&self) -> bool {
        self.at_end
    }

    /// The line that the window begins in, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Bytes of the stream before the window.
    pub(super) fn position(&self) -> u64 {
        self.consumed
    }

    /// Drops the window's first bytes, and tells how many lines end in them.
    pub(super) fn consume(&mut self, len: usize) -> u64 {
        let len = len.min(self.end - self.start);
        let lines = memchr::memchr_iter(b'\n', &self.buffer[self.start..self.start + len]).count() as u64;
        self.start += len;
        self.consumed += len as u64;
        self.line += lines;
        lines
    }

    /// Reads until the window has at least `len` bytes or the stream ends.
    pub(super) fn fill(&mut self, len: usize) -> Result<()> {
        if self.end - self.start >= len || self.at_end {
            return Ok(());
        }
        if self.buffer.len() - self.start < len {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            // Room for two requests, so that most need no moving, unless they are large.
            let size = len.saturating_mul(2).min(len.max(KEPT));
            if self.buffer.len() < len || self.buffer.len() > size.max(KEPT) {
                self.buffer.resize(size.max(self.end), 0);
                self.buffer.shrink_to(size);
            }
        }
        while self.end - self.start < len {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    return Ok(());
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Ok(())
    }
}

/// The problem that a reader underneath reported, or one made of its error.
fn unreadable(error: std::io::Error) -> Problem {
    let broken = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput);
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) if broken => Problem::new(
            Kind::Invalid,
            "dump_corrupt",
            "the compressed data of the dump is corrupt",
            "Fetch the backup again and compare its checksum, or use another backup.",
        )
        .caused_by(error),
        Err(error) => Problem::new(
            Kind::Unavailable,
            "dump_unreadable",
            "reading the dump broke off before its end",
            "Try again; if it breaks off at the same place, the file is cut short.",
        )
        .caused_by(error),
    }
}
