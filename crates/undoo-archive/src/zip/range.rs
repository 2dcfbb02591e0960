//! A stretch of a member, read from a flush point on instead of from the member's start.
//!
//! Where the points are, somebody else has to know. What comes out is checked against the checksums of
//! the stretches between them, and the last byte is not handed out before the stretch that it lies in
//! was found right as a whole.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::Arc,
};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress};
use undoo_core::{Kind, Problem, Result};

use super::{Member, Method, ZipArchive, member::MemberReader};
use crate::{
    RangedRead,
    error::{carry, problem_of},
    manifest::ours::SeekIndex,
};

const BUFFER: usize = 64 * 1024;

/// A member and the points from which it can be read.
pub(crate) struct Seekable {
    source: Arc<dyn RangedRead>,
    /// Where its data begins in the archive.
    data: u64,
    stored: u64,
    size: u64,
    method: Method,
    index: SeekIndex,
}

impl ZipArchive {
    /// A member with an index, which has to fit it: [`fits`].
    ///
    /// # Errors
    /// As [`ZipArchive::read`].
    pub(crate) fn seekable(&self, member: &Member, index: SeekIndex) -> Result<Seekable> {
        Ok(Seekable {
            source: self.source.clone(),
            data: MemberReader::data_start(&*self.source, member)?,
            stored: member.compressed,
            size: member.size,
            method: member.method,
            index,
        })
    }
}

/// Whether an index can be one of this member.
pub(crate) fn fits(index: &SeekIndex, member: &Member) -> bool {
    let SeekIndex { every, offsets, crcs } = index;
    let stored = |(at, offset): (usize, &u64)| {
        member.method == Method::Deflate || (at as u64).checked_mul(*every) == Some(*offset)
    };
    *every > 0
        && offsets.len() == crcs.len()
        && offsets.len() as u64 == member.size.div_ceil(*every)
        && offsets.first().is_none_or(|first| *first == 0)
        && offsets.windows(2).all(|pair| pair[0] < pair[1])
        && offsets.last().is_none_or(|last| *last < member.compressed)
        && offsets.iter().enumerate().all(stored)
}

impl Seekable {
    /// Bytes of the content.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of content from one point to the next.
    pub(crate) fn every(&self) -> u64 {
        self.index.every
    }

    /// The content from `offset` to `end`, by one ranged request.
    ///
    /// # Errors
    /// `Invalid` for a stretch that is not within the content; `Unavailable` when the storage does not
    /// answer. Errors of the returned reader carry their problem.
    pub(crate) fn range(&self, offset: u64, end: u64) -> Result<RangeReader> {
        let SeekIndex { every, offsets, crcs } = &self.index;
        if offset > end || end > self.size {
            return Err(damaged("is asked for beyond its end"));
        }
        let first = (offset / every) as usize;
        let last = (end.div_ceil(*every) as usize).max(first);
        let place = |point: usize| offsets.get(point).copied().unwrap_or(self.stored);
        let (from, to) = if offset == end { (0, 0) } else { (place(first), place(last)) };
        let input = self.source.stream(self.data + from, to - from).map_err(problem_of)?;
        let start = first as u64 * every;
        Ok(RangeReader {
            input: BufReader::with_capacity(BUFFER.min((to - from) as usize).max(1), input),
            input_left: to - from,
            inflate: (self.method == Method::Deflate).then(|| Decompress::new(false)),
            at: start,
            skip: offset - start,
            left: end - offset,
            every: *every,
            size: self.size,
            crcs: crcs.get(first..last.min(crcs.len())).unwrap_or_default().to_vec().into_iter(),
            sum: Hasher::new(),
            failed: false,
        })
    }
}

/// Part of a member's content.
pub(crate) struct RangeReader {
    input: BufReader<Box<dyn Read + Send>>,
    input_left: u64,
    inflate: Option<Decompress>,
    /// Position in the content.
    at: u64,
    /// Bytes before those that were asked for.
    skip: u64,
    left: u64,
    every: u64,
    size: u64,
    /// Of the stretches from here on.
    crcs: std::vec::IntoIter<u32>,
    sum: Hasher,
    failed: bool,
}

impl RangeReader {
    /// At least one byte of content, of the stretch at hand only.
    fn produce(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let boundary = (self.at / self.every + 1).saturating_mul(self.every).min(self.size);
        let room = out.len().min(usize::try_from(boundary - self.at).unwrap_or(usize::MAX));
        let len = self.inflate(&mut out[..room])?;
        self.sum.update(&out[..len]);
        self.at += len as u64;
        if self.at == boundary {
            let found = std::mem::take(&mut self.sum).finalize();
            if self.crcs.next() != Some(found) {
                return Err(carry(damaged("has another checksum than its manifest says")));
            }
        }
        Ok(len)
    }

    fn inflate(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let available = if self.input_left > 0 { self.input.fill_buf()? } else { &[] };
            if available.is_empty() && self.input_left > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let offered = available.len().min(usize::try_from(self.input_left).unwrap_or(usize::MAX));
            let (consumed, produced) = match &mut self.inflate {
                None => {
                    let len = offered.min(out.len());
                    out[..len].copy_from_slice(&available[..len]);
                    (len, len)
                }
                Some(raw) => {
                    let before = (raw.total_in(), raw.total_out());
                    let status = raw.decompress(&available[..offered], out, FlushDecompress::None);
                    if status.is_err() {
                        return Err(carry(damaged("is damaged")));
                    }
                    ((raw.total_in() - before.0) as usize, (raw.total_out() - before.1) as usize)
                }
            };
            self.input.consume(consumed);
            self.input_left -= consumed as u64;
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 {
                return Err(carry(damaged("does not begin where its manifest says")));
            }
        }
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut scratch = [0; 8192];
        while self.skip > 0 {
            let len = self.skip.min(scratch.len() as u64) as usize;
            self.skip -= self.produce(&mut scratch[..len])? as u64;
        }
        let len = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let len = self.produce(&mut out[..len])?;
        self.left -= len as u64;
        if self.left == 0 {
            // What follows in the stretch is read for its checksum.
            while self.crcs.len() > 0 {
                self.produce(&mut scratch)?;
            }
        }
        Ok(len)
    }
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || out.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(carry(damaged("was found damaged before this")));
        }
        self.step(out).inspect_err(|_| self.failed = true)
    }
}

fn damaged(what: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "dump_stretch_damaged",
        format!("a stretch of the backup's dump {what}"),
        "Read the dump from its start instead, or use another backup.",
    )
}
