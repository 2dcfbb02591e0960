//! A member of unknown size: read in blocks, compressed on several threads, written in order.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use crc32fast::Hasher;
use undoo_core::{Kind, Problem, Result};

use super::{
    deflate::{BLOCK, Block, Blocks, Pool, STREAM_END},
    zip::ZipWriter,
};
use crate::zip::Method;

/// What a member's content came to.
pub(crate) struct Streamed {
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
}

/// Writes a member of unknown size. `tap` is shown every block before it is compressed, `place` every
/// block with its place in the stored data.
pub(crate) fn stream<W: Write>(
    zip: &mut ZipWriter<W>,
    pool: &Pool,
    name: &str,
    deflate: bool,
    content: &mut Content<'_>,
    tap: &mut dyn FnMut(&Arc<Vec<u8>>),
    place: &mut dyn FnMut(&Block, u64),
) -> Result<Streamed> {
    let method = if deflate { Method::Deflate } else { Method::Stored };
    let open = zip.begin(name, method).map_err(unwritable)?;
    let (mut crc, mut bytes) = (Hasher::new(), 0);
    let mut sink = |block: Block| {
        place(&block, zip.data_len(&open));
        crc.combine(&block.crc);
        bytes += block.len();
        zip.data(block.data()).map_err(unwritable)
    };
    let mut blocks = Blocks::new(pool, deflate);
    loop {
        let block = content.block()?;
        if block.is_empty() {
            break;
        }
        let block = Arc::new(block);
        tap(&block);
        blocks.push(block, &mut sink)?;
    }
    blocks.finish(&mut sink)?;
    if deflate {
        zip.data(STREAM_END).map_err(unwritable)?;
    }
    let stored = zip.end(open, crc, bytes).map_err(unwritable)?;
    Ok(Streamed { bytes, stored })
}

/// Something that is read in blocks, and what to call it in messages.
pub(crate) struct Content<'a> {
    reader: &'a mut dyn Read,
    what: String,
    /// A block that was read before.
    pub(super) ahead: Option<Vec<u8>>,
}

impl<'a> Content<'a> {
    pub(crate) fn new(reader: &'a mut dyn Read, what: &str) -> Self {
        Self { reader, what: what.to_owned(), ahead: None }
    }

    /// The next block, full unless it is the last; empty at the end.
    pub(crate) fn block(&mut self) -> Result<Vec<u8>> {
        if let Some(block) = self.ahead.take() {
            return Ok(block);
        }
        let mut block = Vec::new();
        let read = (&mut *self.reader).take(BLOCK as u64).read_to_end(&mut block);
        read.map_err(|error| match error.downcast::<Problem>() {
            Ok(problem) => problem,
            Err(error) => Problem::new(
                Kind::Unavailable,
                "backup_source_unreadable",
                format!("{} could not be read to its end", self.what),
                "Try again; if it stays so, check the disk that it lies on and the log of what writes it.",
            )
            .caused_by(error),
        })?;
        Ok(block)
    }
}

/// The problem that the output told, or one made of its error.
pub(crate) fn unwritable(error: io::Error) -> Problem {
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) => Problem::new(
            Kind::Unavailable,
            "backup_write_failed",
            "the backup could not be written to its end",
            "Try again; if it stays so, check that the storage answers and has room.",
        )
        .caused_by(error),
    }
}
