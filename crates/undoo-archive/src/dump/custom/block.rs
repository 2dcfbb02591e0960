//! The bytes of one data block: chunks joined, decompressed, and proven complete.
//!
//! A block is a sequence of chunks, each behind its length; a chunk of length zero ends it. What the
//! chunks hold, joined, is one compressed stream. A block is only ever reported as ended when both the
//! stream and the chunks ended at the same place: zlib and LZ4 decoders take a missing end for an end if
//! they are let, and here they are not. Chunk lengths are counted down, never allocated.

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::FrameDecoder;
use undoo_core::{Problem, Result};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::{
    input::{Input, broken, truncated},
    toc::Compression,
};

/// The chunks of a block, joined.
struct Chunks {
    input: Input,
    /// Bytes left of the chunk at hand.
    left: usize,
    /// Whether the chunk of length zero has been read.
    ended: bool,
    /// Whether any byte was there at all.
    any: bool,
    /// Whether someone asked for bytes after the end.
    asked_past_end: bool,
}

impl Chunks {
    fn new(input: Input) -> Self {
        Self { input, left: 0, ended: false, any: false, asked_past_end: false }
    }

    /// The bytes at hand, empty only after the last chunk.
    fn fill(&mut self) -> Result<&[u8]> {
        let within = "a data block";
        while self.left == 0 && !self.ended {
            let length = self.input.int32(within)?;
            self.left = usize::try_from(length).map_err(|_| {
                broken(
                    "dump_bad_block",
                    format!("the custom dump has a chunk of {length} bytes in a data block"),
                )
            })?;
            self.ended = length == 0;
            self.any |= length != 0;
        }
        if self.ended {
            self.asked_past_end = true;
            return Ok(&[]);
        }
        let at_hand = self.input.fill()?;
        if at_hand.is_empty() {
            return Err(truncated(within));
        }
        Ok(&at_hand[..at_hand.len().min(self.left)])
    }

    fn consume(&mut self, len: usize) {
        self.left -= len;
        self.input.consume(len);
    }

    /// The compressed stream has ended: so must the chunks.
    fn expect_end(&mut self) -> Result<()> {
        if self.fill()?.is_empty() {
            return Ok(());
        }
        Err(broken("dump_bad_block", "the custom dump has bytes after the end of a compressed data block"))
    }

    /// The chunks have ended within the compressed stream. Since version 16 `pg_dump` starts the stream
    /// with the first byte, so that nothing at all stands for no data.
    fn end_without_stream(&self) -> Result<()> {
        if self.any {
            return Err(truncated("the compressed stream of a data block"));
        }
        Ok(())
    }
}

/// For the LZ4 decoder, which reads by itself. Problems travel inside of the `io::Error`.
impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at_hand = self.fill().map_err(io::Error::other)?;
        let len = at_hand.len().min(buffer.len());
        buffer[..len].copy_from_slice(&at_hand[..len]);
        self.consume(len);
        Ok(len)
    }
}

enum Stream {
    Stored(Chunks),
    Zlib(Chunks, Decompress),
    Lz4(Box<FrameDecoder<Chunks>>),
    Zstd(Chunks, Decoder<'static>),
}

/// A data block being read.
pub(super) struct Block {
    stream: Stream,
    ended: bool,
}

impl Block {
    /// Takes the input while the block is read; [`Block::into_input`] gives it back.
    pub(super) fn new(input: Input, compression: Compression) -> Result<Self> {
        let chunks = Chunks::new(input);
        let stream = match compression {
            Compression::None => Stream::Stored(chunks),
            Compression::Gzip => Stream::Zlib(chunks, Decompress::new(true)),
            Compression::Lz4 => Stream::Lz4(Box::new(FrameDecoder::new(chunks))),
            Compression::Zstd => Stream::Zstd(chunks, Decoder::new().map_err(corrupt)?),
        };
        Ok(Self { stream, ended: false })
    }

    /// Appends to `out` until it holds `target` bytes or more, or the block has ended; tells whether it
    /// has. Zlib and Zstandard use what capacity `out` has beyond the target.
    pub(super) fn read_to(&mut self, out: &mut Vec<u8>, target: usize) -> Result<bool> {
        while !self.ended && out.len() < target {
            out.reserve_exact(target - out.len());
            self.ended = match &mut self.stream {
                Stream::Stored(chunks) => read_stored(chunks, out, target)?,
                Stream::Zlib(chunks, decoder) => read_zlib(chunks, decoder, out)?,
                Stream::Lz4(decoder) => read_lz4(decoder, out, target)?,
                Stream::Zstd(chunks, decoder) => read_zstd(chunks, decoder, out)?,
            };
        }
        Ok(self.ended)
    }

    /// The input behind the block, which must have ended.
    pub(super) fn into_input(self) -> Input {
        match self.stream {
            Stream::Stored(chunks) | Stream::Zlib(chunks, _) | Stream::Zstd(chunks, _) => chunks.input,
            Stream::Lz4(decoder) => decoder.into_inner().input,
        }
    }
}

// Each of the following makes one step and tells whether the block ended with it.

fn read_stored(chunks: &mut Chunks, out: &mut Vec<u8>, target: usize) -> Result<bool> {
    let at_hand = chunks.fill()?;
    let len = at_hand.len().min(target - out.len());
    out.extend_from_slice(&at_hand[..len]);
    chunks.consume(len);
    Ok(len == 0)
}

fn read_zlib(chunks: &mut Chunks, decoder: &mut Decompress, out: &mut Vec<u8>) -> Result<bool> {
    let at_hand = chunks.fill()?;
    let (read_before, had) = (decoder.total_in(), out.len());
    let status = decoder.decompress_vec(at_hand, out, FlushDecompress::None).map_err(corrupt)?;
    let read = (decoder.total_in() - read_before) as usize;
    chunks.consume(read);
    if status == Status::StreamEnd {
        chunks.expect_end()?;
        return Ok(true);
    }
    // There was room in `out`: no progress means that nothing is left to decode.
    if read == 0 && out.len() == had {
        chunks.end_without_stream()?;
        return Ok(true);
    }
    Ok(false)
}

fn read_zstd(chunks: &mut Chunks, decoder: &mut Decoder<'static>, out: &mut Vec<u8>) -> Result<bool> {
    let at_hand = chunks.fill()?;
    let had = out.len();
    let mut source = InBuffer::around(at_hand);
    let hint = decoder.run(&mut source, &mut OutBuffer::around_pos(out, had)).map_err(corrupt)?;
    let read = source.pos();
    chunks.consume(read);
    if hint == 0 && read > 0 {
        chunks.expect_end()?;
        return Ok(true);
    }
    if read == 0 && out.len() == had {
        chunks.end_without_stream()?;
        return Ok(true);
    }
    Ok(false)
}

fn read_lz4(decoder: &mut FrameDecoder<Chunks>, out: &mut Vec<u8>, target: usize) -> Result<bool> {
    let at_hand = decoder.fill_buf().map_err(corrupt)?;
    let len = at_hand.len().min(target - out.len());
    out.extend_from_slice(&at_hand[..len]);
    decoder.consume(len);
    if len > 0 {
        return Ok(false);
    }
    // The decoder answers the same for a frame's end and for an input's; it needed no more bytes to see
    // the former.
    let chunks = decoder.get_mut();
    if chunks.asked_past_end {
        chunks.end_without_stream()?;
    }
    chunks.expect_end()?;
    Ok(true)
}

/// A decoder's error, or the problem that it carries.
fn corrupt(error: impl Into<io::Error>) -> Problem {
    let error = error.into();
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) => broken("dump_corrupt_block", "a compressed data block of the custom dump is corrupt")
            .caused_by(error),
    }
}
