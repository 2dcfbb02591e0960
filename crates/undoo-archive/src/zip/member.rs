//! One member's content as a stream that proves itself.
//!
//! It must never yield more bytes than the directory declares, and never its last byte before size and
//! checksum were found right: whoever has read everything has read the right thing.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};
use undoo_core::{Problem, Result};

use super::{Member, Method, broken, directory::LOCAL_LEN, refused, u16_at, u32_at};
use crate::{
    RangedRead,
    container::shown,
    error::{carry, problem_of},
};

const BUFFER: u64 = 64 * 1024;
const EXTRA_MAX: u64 = 65_535;
/// The bits of the flags in which local header and directory have to agree: encryption (0, 6, 13), a
/// data descriptor (3) and the name's encoding (11).
const FLAGS_THAT_MATTER: u16 = 1 | 1 << 3 | 1 << 6 | 1 << 11 | 1 << 13;

pub(super) struct MemberReader {
    input: BufReader<Box<dyn Read + Send>>,
    /// Bytes of the member's data not taken from `input` yet.
    input_left: u64,
    /// Bytes declared and not handed out yet.
    output_left: u64,
    inflate: Option<Inflate>,
    checksum: crc32fast::Hasher,
    crc: u32,
    name: Box<str>,
    /// Only the front was asked for: the end of the data is no error, and nothing is checked there.
    head_only: bool,
    state: State,
}

struct Inflate {
    raw: Decompress,
    ended: bool,
}

#[derive(PartialEq)]
enum State {
    Reading,
    Done,
    Failed,
}

impl MemberReader {
    /// Requests header and data at once (`budget` limits both), and checks the local header.
    pub(super) fn open(source: &dyn RangedRead, member: &Member, budget: Option<u64>) -> Result<Self> {
        let name_len = member.name.len() as u64;
        let longest = (LOCAL_LEN + name_len + EXTRA_MAX).saturating_add(member.compressed);
        let room = member.end - member.offset;
        let request = room.min(longest).min(budget.unwrap_or(u64::MAX).max(LOCAL_LEN + name_len));
        let stream = source.stream(member.offset, request).map_err(problem_of)?;
        let mut input = BufReader::with_capacity(request.min(BUFFER) as usize, stream);

        let extra = local_header(&mut input, member)?;
        let head_only = budget.is_some();
        let skipped = io::copy(&mut input.by_ref().take(extra), &mut io::sink()).map_err(problem_of)?;
        if skipped < extra && !head_only {
            return Err(problem_of(io::ErrorKind::UnexpectedEof.into()));
        }
        let input_left = member.compressed.min(request.saturating_sub(LOCAL_LEN + name_len + extra));
        let inflate = match member.method {
            Method::Stored => None,
            Method::Deflate => Some(Inflate { raw: Decompress::new(false), ended: false }),
        };
        Ok(Self {
            input,
            input_left,
            output_left: member.size,
            inflate,
            checksum: crc32fast::Hasher::new(),
            crc: member.crc,
            name: member.name.clone(),
            head_only,
            state: State::Reading,
        })
    }

    /// Where a member's data begins in the archive; its local header is checked.
    pub(super) fn data_start(source: &dyn RangedRead, member: &Member) -> Result<u64> {
        let len = LOCAL_LEN + member.name.len() as u64;
        let mut header = source.stream(member.offset, len).map_err(problem_of)?;
        Ok(member.offset + len + local_header(&mut header, member)?)
    }

    /// At least one byte of content, unless only the front was asked for and it is at its end.
    fn produce(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(inflate) = &mut self.inflate else {
            let available = self.input.fill_buf()?;
            let len =
                available.len().min(out.len()).min(usize::try_from(self.input_left).unwrap_or(usize::MAX));
            if len == 0 {
                // A stored member's sizes agree, so what is missing is missing from the storage.
                return if self.head_only { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            out[..len].copy_from_slice(&available[..len]);
            self.input.consume(len);
            self.input_left -= len as u64;
            return Ok(len);
        };
        loop {
            if inflate.ended {
                return Err(carry(self.short()));
            }
            let available = if self.input_left > 0 { self.input.fill_buf()? } else { &[] };
            if available.is_empty() && self.input_left > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let offered = available.len().min(usize::try_from(self.input_left).unwrap_or(usize::MAX));
            let (before_in, before_out) = (inflate.raw.total_in(), inflate.raw.total_out());
            let status = inflate.raw.decompress(&available[..offered], out, FlushDecompress::None);
            let Ok(status) = status else { return Err(carry(self.corrupt())) };
            let consumed = (inflate.raw.total_in() - before_in) as usize;
            let produced = (inflate.raw.total_out() - before_out) as usize;
            self.input.consume(consumed);
            self.input_left -= consumed as u64;
            inflate.ended = status == Status::StreamEnd;
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 && !inflate.ended {
                if offered > 0 {
                    return Err(carry(self.corrupt()));
                }
                return if self.head_only { Ok(0) } else { Err(carry(self.short())) };
            }
        }
    }

    /// Called when the declared size was produced: what must hold then.
    fn finish(&mut self) -> io::Result<()> {
        if !self.inflate.as_ref().is_none_or(|inflate| inflate.ended) {
            let mut beyond = [0];
            match self.produce_end(&mut beyond) {
                Ok(0) => {}
                Ok(_) => return Err(carry(self.longer())),
                Err(error) => return Err(error),
            }
        }
        if self.head_only {
            return Ok(());
        }
        if self.input_left > 0 {
            return Err(carry(self.corrupt()));
        }
        let found = std::mem::take(&mut self.checksum).finalize();
        if found != self.crc {
            return Err(carry(broken(
                "zip_member_crc",
                format!(
                    "\"{}\" in the ZIP is damaged: its checksum is {found:08x} instead of {:08x}",
                    shown(&*self.name),
                    self.crc
                ),
            )));
        }
        Ok(())
    }

    /// Runs the decompressor to its end mark; a byte in `beyond` means that there is more content.
    fn produce_end(&mut self, beyond: &mut [u8; 1]) -> io::Result<usize> {
        let produced = self.produce(beyond);
        match &self.inflate {
            // The end mark was found and nothing came out: that is the good end, not a short one.
            Some(inflate) if inflate.ended && !matches!(produced, Ok(1)) => Ok(0),
            _ => produced,
        }
    }

    fn short(&self) -> Problem {
        broken(
            "zip_member_short",
            format!(
                "\"{}\" in the ZIP ends {} bytes before its declared size, or without its end mark",
                shown(&*self.name),
                self.output_left
            ),
        )
    }

    fn longer(&self) -> Problem {
        refused(
            "zip_member_longer",
            format!("\"{}\" in the ZIP holds more bytes than it declares", shown(&*self.name)),
        )
    }

    fn corrupt(&self) -> Problem {
        broken(
            "zip_member_corrupt",
            format!("the compressed data of \"{}\" in the ZIP is damaged", shown(&*self.name)),
        )
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        if self.output_left > 0 {
            let want = out.len().min(usize::try_from(self.output_left).unwrap_or(usize::MAX));
            len = self.produce(&mut out[..want])?;
            self.checksum.update(&out[..len]);
            self.output_left -= len as u64;
            if len == 0 {
                self.state = State::Done;
            }
        }
        if self.output_left == 0 {
            self.finish()?;
            self.state = State::Done;
        }
        Ok(len)
    }
}

impl Read for MemberReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Done => Ok(0),
            State::Failed => Err(carry(self.corrupt())),
            State::Reading if out.is_empty() => Ok(0),
            State::Reading => self.step(out).inspect_err(|_| self.state = State::Failed),
        }
    }
}

/// Reads a local header with its name and checks both; answers the bytes of extra fields that follow.
fn local_header(input: &mut impl Read, member: &Member) -> Result<u64> {
    let mut header = [0; LOCAL_LEN as usize];
    input.read_exact(&mut header).map_err(problem_of)?;
    let mut name = vec![0; usize::from(u16_at(&header, 26)).min(member.name.len())];
    input.read_exact(&mut name).map_err(problem_of)?;
    if let Some(what) = disagreement(&header, &name, member) {
        return Err(refused(
            "zip_local_mismatch",
            format!(
                "{what} of \"{}\" differs between the ZIP's directory and the member itself",
                shown(&*member.name)
            ),
        ));
    }
    let extra = u64::from(u16_at(&header, 28));
    if LOCAL_LEN + member.name.len() as u64 + extra + member.compressed > member.end - member.offset {
        return Err(refused(
            "zip_member_overlap",
            format!("\"{}\" in the ZIP reaches into the next member or the directory", shown(&*member.name)),
        ));
    }
    Ok(extra)
}

fn disagreement(header: &[u8], name: &[u8], member: &Member) -> Option<&'static str> {
    let method = match member.method {
        Method::Stored => 0,
        Method::Deflate => 8,
    };
    let flags = u16_at(header, 6);
    // Sizes and checksum are zero where a data descriptor follows, and saturated for ZIP64.
    let differs = |at: usize, value: u64| {
        let local = u32_at(header, at);
        let open = local == 0xffff_ffff || (local == 0 && flags & 1 << 3 != 0);
        !open && u64::from(local) != value
    };
    if !header.starts_with(b"PK\x03\x04") {
        return Some("the place");
    }
    if name != member.name.as_bytes() || usize::from(u16_at(header, 26)) != member.name.len() {
        return Some("the name");
    }
    if u16_at(header, 8) != method {
        return Some("the method");
    }
    if (flags ^ member.flags) & FLAGS_THAT_MATTER != 0 {
        return Some("a flag");
    }
    if differs(18, member.compressed) || differs(22, member.size) || differs(14, member.crc.into()) {
        return Some("the size or checksum");
    }
    None
}
