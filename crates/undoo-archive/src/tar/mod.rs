//! A strict, sequential reader of tar archives, for filestores that come as one.
//!
//! A tar has no directory and no checksum over its content: all that protects it is that nothing in it
//! can be understood in two ways. So only files and directories are read; links, devices, sparse files
//! and sizes that two readers would take differently are refused, and an archive without its end mark
//! is an error, however complete it looks. Nothing here makes a path on a disk.
//!
//! Formats: POSIX.1-2001 (ustar and pax) and GNU tar's long names and base-256 sizes.

mod header;
pub(crate) mod write;

use std::io::{self, Read};

use undoo_core::{Kind, Problem, Result};

use self::header::{Header, Pax};
use crate::{
    container::{GZIP, Gunzip, Marked, harmless, shown},
    error::{carry, problem_of},
};

/// Length of a header; everything in a tar is padded to it.
pub const BLOCK: usize = 512;
/// A pax header is at most this long; honest ones have a few hundred bytes.
const MAX_PAX: u64 = 64 * 1024;
/// Zeros behind the end mark: GNU tar pads to records, of at most 1 MiB in practice.
const MAX_PADDING: u64 = 4 << 20;
/// What an octal size field can say; larger files need pax or base-256.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// Whether a block is a tar header: its magic and its checksum are right.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    Header::parse(block).is_ok()
}

/// A file or directory of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path: relative, UTF-8, without a leading `./`; directories end in `/`.
    pub path: String,
    /// Bytes of its content.
    pub size: u64,
}

impl Entry {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// An archive being read from its start. Reading from it yields the content of the entry that
/// [`TarReader::next_entry`] told last; errors carry their problem ([`crate::error::problem_of`]).
pub struct TarReader {
    input: Box<dyn Read + Send>,
    what: String,
    /// Content of the current entry not read yet.
    left: u64,
    /// Zeros that follow it.
    padding: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// What the headers before an entry's own say about it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl TarReader {
    /// Starts reading an archive, compressed by gzip or not, which its first bytes tell. `what` names
    /// it for messages.
    ///
    /// # Errors
    /// `Unavailable` when its first bytes cannot be read.
    pub fn open(input: Box<dyn Read + Send>, what: impl Into<String>) -> Result<Self> {
        let what = what.into();
        let mut input: Box<dyn Read + Send> = Box::new(Marked(input));
        let mut head = Vec::new();
        input.by_ref().take(GZIP.len() as u64).read_to_end(&mut head).map_err(problem_of)?;
        let gzip = head == GZIP;
        let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(head).chain(input));
        let input = if gzip { Box::new(Gunzip::new(input, &*what)) } else { input };
        Ok(Self { input, what, left: 0, padding: 0, state: State::Reading })
    }

    /// The next file or directory, skipping what is left of the one before; `None` after the end mark,
    /// when everything behind it has been checked too.
    ///
    /// # Errors
    /// `Invalid` for what is broken or cut off, `Refused` for what a backup of a filestore never has.
    /// After an error there are no more entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        match self.state {
            State::Ended => Ok(None),
            State::Failed => Err(self.broken("tar_damaged", "was found damaged before this")),
            State::Reading => self.advance().inspect_err(|_| self.state = State::Failed),
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let block = self.block()?;
            if block == [0; BLOCK] {
                if extensions.long_name.is_some() || extensions.pax.is_some() {
                    return Err(
                        self.broken("tar_damaged", "ends after a header that should precede an entry")
                    );
                }
                self.finish()?;
                self.state = State::Ended;
                return Ok(None);
            }
            let header = Header::parse(&block).map_err(|what| self.broken("tar_damaged", what))?;
            match header.kind {
                b'x' => {
                    let pax = self.pax(header.size)?;
                    if extensions.pax.replace(pax).is_some() {
                        return Err(self.ambiguous("two pax headers", &header.name));
                    }
                }
                b'g' => {
                    if self.pax(header.size)?.says_something() {
                        return Err(self.ambiguous("a path or size for all entries", &header.name));
                    }
                }
                b'L' => {
                    let name = self.long_name(header.size)?;
                    if extensions.long_name.replace(name).is_some() {
                        return Err(self.ambiguous("two long names", &header.name));
                    }
                }
                _ => match self.entry(header, extensions)? {
                    Some(entry) => return Ok(Some(entry)),
                    None => extensions = Extensions::default(),
                },
            }
        }
    }

    /// The entry that the headers describe; none for the root directory `./`.
    fn entry(&mut self, header: Header, extensions: Extensions) -> Result<Option<Entry>> {
        let mut name = header.name;
        let pax = extensions.pax.unwrap_or_default();
        if extensions.long_name.is_some() && pax.path.is_some() {
            return Err(self.ambiguous("two names", &name));
        }
        if let Some(long) = extensions.long_name.or(pax.path) {
            name = long;
        }
        let mut size = header.size;
        if let Some(pax_size) = pax.size {
            if pax_size != size && pax_size <= MAX_OCTAL {
                return Err(self.ambiguous("two sizes", &name));
            }
            size = pax_size;
        }
        // Old tars mark a directory by a slash only.
        let mut directory = header.kind == b'5' || (header.kind == 0 && name.ends_with(b"/"));
        if pax.sparse || header.kind == b'S' {
            return Err(self.refused("tar_sparse", &name, "is a sparse file"));
        }
        if !directory && !matches!(header.kind, 0 | b'0') {
            let what = match header.kind {
                b'1' | b'2' | b'K' => "is a link".to_owned(),
                b'3' | b'4' | b'6' => "is a device or a pipe".to_owned(),
                kind => {
                    format!("is neither a file nor a directory (type {})", char::from(kind).escape_default())
                }
            };
            return Err(self.refused("tar_member_special", &name, &what));
        }
        if directory && size != 0 {
            return Err(self.refused("tar_damaged", &name, "is a directory with content"));
        }
        let mut path = name.as_slice();
        while let Some(rest) = path.strip_prefix(b"./") {
            path = rest;
        }
        if directory && (path.is_empty() || path == b".") {
            return Ok(None);
        }
        let mut path = harmless(path, &self.what)?.to_owned();
        directory |= path.ends_with('/');
        if directory && header.kind == b'0' {
            return Err(self.refused("tar_damaged", &name, "is a file with the name of a directory"));
        }
        if directory && !path.ends_with('/') {
            path.push('/');
        }
        self.expect(size);
        Ok(Some(Entry { path, size }))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| self.cut(error))?;
        Ok(block)
    }

    /// Reads past what is left of the current entry.
    fn skip(&mut self) -> Result<()> {
        let len = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.input.by_ref().take(len), &mut io::sink()).map_err(problem_of)?;
        if skipped < len {
            return Err(self.truncated());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// A header's own content.
    fn body(&mut self, size: u64) -> Result<Vec<u8>> {
        self.expect(size);
        let mut body = Vec::new();
        self.read_to_end(&mut body).map_err(problem_of)?;
        self.skip()?;
        Ok(body)
    }

    fn pax(&mut self, size: u64) -> Result<Pax> {
        if size > MAX_PAX {
            return Err(self.broken("tar_header_too_large", "has a pax header of more than 64 KiB"));
        }
        let body = self.body(size)?;
        Pax::parse(&body).map_err(|what| self.broken("tar_damaged", what))
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > crate::container::MAX_NAME as u64 + 1 {
            return Err(self.broken("tar_header_too_large", "has a name of more than 4096 bytes"));
        }
        let mut name = self.body(size)?;
        if name.pop() != Some(0) {
            return Err(self.broken("tar_damaged", "has a long name without its end"));
        }
        Ok(name)
    }

    /// After the first block of zeros: one more, then nothing but zeros to the end of the input, whose
    /// own checksum (gzip, ZIP) is found right on the way.
    fn finish(&mut self) -> Result<()> {
        if self.block()? != [0; BLOCK] {
            return Err(self.broken("tar_damaged", "has a lone block of zeros between its entries"));
        }
        let mut buffer = [0; 8192];
        let mut total = 0;
        loop {
            let len = match self.input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(problem_of(error)),
            };
            total += len as u64;
            if total > MAX_PADDING || buffer[..len].iter().any(|byte| *byte != 0) {
                return Err(self.broken("tar_trailing_data", "is followed by bytes that do not belong to it"));
            }
        }
    }

    fn cut(&self, error: io::Error) -> Problem {
        let carries = error.get_ref().is_some_and(|inner| inner.is::<Problem>());
        if error.kind() == io::ErrorKind::UnexpectedEof && !carries {
            self.truncated()
        } else {
            problem_of(error)
        }
    }

    fn truncated(&self) -> Problem {
        self.broken("tar_truncated", "ends before its end mark: it was cut off")
    }

    fn broken(&self, code: &'static str, what: &str) -> Problem {
        Problem::new(
            Kind::Invalid,
            code,
            format!("{} {what}", self.what),
            "Download or copy the backup again and compare its size with the original; if it stays so, use another backup.",
        )
    }

    fn ambiguous(&self, what: &str, name: &[u8]) -> Problem {
        self.refused("tar_ambiguous", name, &format!("has {what}, so that two readers would read two things"))
    }

    fn refused(&self, code: &'static str, name: &[u8], what: &str) -> Problem {
        Problem::new(
            Kind::Refused,
            code,
            format!("\"{}\" in {} {what}", shown(name), self.what),
            "A filestore has files and directories only. Find out where this backup comes from before you use it.",
        )
    }
}

impl Read for TarReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let want = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let len = self.input.read(&mut out[..want])?;
        if len == 0 {
            self.state = State::Failed;
            return Err(carry(self.truncated()));
        }
        self.left -= len as u64;
        Ok(len)
    }
}
