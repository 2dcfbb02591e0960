//! The bytes of an archive and the archiver's primitive types: bytes, integers, strings, offsets.
//!
//! Every number here is an attacker's. Nothing is allocated because a length says so, only as the bytes
//! arrive, and nothing is read past a limit. An end of the input is always an error of kind `Invalid`
//! unless the caller asked whether it is there; it must never look like a value.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use undoo_core::{Kind, Problem, Result};

/// How much is asked of the source at once.
const BUFFER: usize = 256 * 1024;

/// What to do about an archive that is not what it should be.
pub(super) const REMEDY_BROKEN: &str = "the file is damaged or was not copied completely: compare its size and checksum with the original, \
     fetch it again, or use another backup";

/// A problem of kind `Invalid` about the archive's content.
pub(super) fn broken(code: &'static str, message: impl Into<String>) -> Problem {
    Problem::new(Kind::Invalid, code, message, REMEDY_BROKEN)
}

/// The archive ends where it should go on.
pub(super) fn truncated(within: &str) -> Problem {
    broken("dump_truncated", format!("the custom dump ends within {within}"))
}

/// A source's error: bytes that a layer beneath could not decode are the backup's fault, all else is
/// the storage's.
fn source_failed(error: io::Error) -> Problem {
    let problem = match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput => broken(
            "dump_undecodable",
            "the bytes of the custom dump cannot be decoded: the file that holds them is damaged",
        ),
        _ => Problem::new(
            Kind::Unavailable,
            "dump_unreadable",
            "the custom dump could not be read to its end: its storage broke off",
            "check that the storage answers, then try again",
        ),
    };
    problem.caused_by(error)
}

/// The archive, read once from front to back.
pub(super) struct Input {
    source: BufReader<Box<dyn Read + Send>>,
    /// Bytes of an integer, from the header.
    int_size: u8,
    /// Bytes that strings may still take.
    budget: u64,
}

impl Input {
    /// `budget` is how many bytes of strings will be read at most.
    pub(super) fn new(source: Box<dyn Read + Send>, budget: u64) -> Self {
        Self { source: BufReader::with_capacity(BUFFER, source), int_size: 4, budget }
    }

    pub(super) fn set_int_size(&mut self, size: u8) {
        self.int_size = size;
    }

    /// The bytes at hand, empty only at the end of the archive.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        // Borrowed again below: returning from within the loop would keep the borrow for all of it.
        loop {
            match self.source.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(source_failed(error)),
            }
        }
        Ok(self.source.buffer())
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.source.consume(len);
    }

    /// The next byte, or `None` at the end of the archive.
    pub(super) fn byte_or_end(&mut self) -> Result<Option<u8>> {
        let byte = self.fill()?.first().copied();
        self.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    pub(super) fn byte(&mut self, within: &str) -> Result<u8> {
        self.byte_or_end()?.ok_or_else(|| truncated(within))
    }

    /// Passes over bytes whose value does not matter.
    pub(super) fn skip(&mut self, count: u8, within: &str) -> Result<()> {
        (0..count).try_for_each(|_| self.byte(within).map(|_| ()))
    }

    /// A sign byte, then the magnitude with its lowest byte first. `pg_dump` writes C `int`s; OIDs above
    /// 2³¹ come out negative.
    pub(super) fn int(&mut self, within: &str) -> Result<i64> {
        let negative = match self.byte(within)? {
            0 => false,
            1 => true,
            sign => {
                return Err(broken(
                    "dump_bad_integer",
                    format!("the custom dump has {sign} as the sign of a number within {within}"),
                ));
            }
        };
        let mut magnitude = 0_i64;
        for place in 0..self.int_size {
            let byte = i64::from(self.byte(within)?);
            if place < 4 {
                magnitude |= byte << (8 * place);
            } else if byte != 0 {
                return Err(broken(
                    "dump_bad_integer",
                    format!("the custom dump has a number beyond 32 bits within {within}"),
                ));
            }
        }
        Ok(if negative { -magnitude } else { magnitude })
    }

    /// An integer that fits a C `int`.
    pub(super) fn int32(&mut self, within: &str) -> Result<i32> {
        let value = self.int(within)?;
        i32::try_from(value).map_err(|_| {
            broken("dump_bad_integer", format!("the custom dump has the number {value} within {within}"))
        })
    }

    /// An OID, written as if it were a C `int`.
    pub(super) fn oid(&mut self, within: &str) -> Result<u32> {
        let value = self.int(within)?;
        let value = if value < 0 { value + (1 << 32) } else { value };
        u32::try_from(value)
            .map_err(|_| broken("dump_bad_integer", format!("{value} is not an OID, within {within}")))
    }

    /// A length and as many bytes of UTF-8; length -1 stands for no string.
    ///
    /// A NUL is refused: PostgreSQL's tools would see the string end there, so that what is judged here
    /// and what they run would differ.
    pub(super) fn string(&mut self, limit: u64, within: &str) -> Result<Option<String>> {
        let length = self.int(within)?;
        if length == -1 {
            return Ok(None);
        }
        let length = u64::try_from(length)
            .map_err(|_| broken("dump_bad_integer", format!("a string of {length} bytes within {within}")))?;
        if length > limit || length > self.budget {
            return Err(Problem::new(
                Kind::Invalid,
                "dump_toc_too_large",
                format!(
                    "the custom dump has a string of {length} bytes within {within}, more than any database has"
                ),
                "use another backup, or dump again with pg_dump's plain format",
            ));
        }
        self.budget -= length;
        let mut bytes = Vec::new();
        let mut left = length;
        while left > 0 {
            let at_hand = self.fill()?;
            if at_hand.is_empty() {
                return Err(truncated(within));
            }
            let take = at_hand.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            bytes.extend_from_slice(&at_hand[..take]);
            self.consume(take);
            left -= take as u64;
        }
        if memchr::memchr(0, &bytes).is_some() {
            return Err(broken(
                "dump_nul",
                format!("the custom dump has a NUL byte in a string within {within}"),
            ));
        }
        String::from_utf8(bytes).map(Some).map_err(|error| {
            Problem::new(
                Kind::Invalid,
                "dump_not_utf8",
                format!("the custom dump has text that is not UTF-8 within {within}"),
                "dump the database again with pg_dump --encoding=UTF8",
            )
            .caused_by(error.utf8_error())
        })
    }
}
