//! Sources of bytes for tests: ZIPs made by hand, huge ones that exist only by rule, and counted ones.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::{Compression, write::DeflateEncoder};
use undoo_archive::RangedRead;

/// A ZIP and where its parts start, so that a test can spoil any of them.
pub(crate) struct Crafted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) locals: Vec<usize>,
    pub(crate) entries: Vec<usize>,
    pub(crate) end: usize,
}

impl Crafted {
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

pub(crate) fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The bytes of a local header (`central` is false) or of a directory entry.
pub(crate) fn header(
    central: bool,
    name: &[u8],
    method: u16,
    crc: u32,
    [compressed, size, offset]: [u32; 3],
    extra: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(if central { b"PK\x01\x02\x14\x03".as_slice() } else { b"PK\x03\x04" });
    for value in [20, 0, method, 0, 0x21] {
        bytes.extend(u16::to_le_bytes(value));
    }
    for value in [crc, compressed, size] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend((extra.len() as u16).to_le_bytes());
    if central {
        bytes.extend([0; 6]);
        bytes.extend((0o100_644_u32 << 16).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.extend(name);
    bytes.extend(extra);
    bytes
}

pub(crate) fn end_record(entries: u16, size: u32, offset: u32, comment: &[u8]) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend(entries.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend((comment.len() as u16).to_le_bytes());
    bytes.extend(comment);
    bytes
}

/// An honest ZIP of deflated members.
pub(crate) fn craft(members: &[(&[u8], &[u8])]) -> Crafted {
    craft_from(members.iter().map(|(name, content)| (name.to_vec(), 8, content.to_vec(), deflated(content))))
}

/// As [`craft`]; each member is name, method, content and the data that is stored for it.
pub(crate) fn craft_from(members: impl IntoIterator<Item = (Vec<u8>, u16, Vec<u8>, Vec<u8>)>) -> Crafted {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    let (mut locals, mut entries) = (Vec::new(), Vec::new());
    for (name, method, content, data) in members {
        let sizes = [data.len() as u32, content.len() as u32, bytes.len() as u32];
        let crc = crc32fast::hash(&content);
        locals.push(bytes.len());
        entries.push(directory.len());
        bytes.extend(header(false, &name, method, crc, sizes, b""));
        bytes.extend(data);
        directory.extend(header(true, &name, method, crc, sizes, b""));
    }
    let offset = bytes.len();
    for entry in &mut entries {
        *entry += offset;
    }
    bytes.extend(&directory);
    let end = bytes.len();
    bytes.extend(end_record(entries.len() as u16, directory.len() as u32, offset as u32, b""));
    Crafted { bytes, locals, entries, end }
}

/// An object that is a sequence of parts, each a few bytes repeated to any length.
#[derive(Default)]
pub(crate) struct Synthetic {
    parts: Vec<(u64, Arc<[u8]>, u64)>,
    size: u64,
}

impl Synthetic {
    pub(crate) fn push(&mut self, unit: &[u8], times: u64) -> u64 {
        let start = self.size;
        self.size += unit.len() as u64 * times;
        self.parts.push((start, unit.into(), self.size));
        start
    }
}

impl RangedRead for Synthetic {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset + len > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Box::new(SyntheticStream { parts: self.parts.clone(), at: offset, end: offset + len }))
    }
}

struct SyntheticStream {
    parts: Vec<(u64, Arc<[u8]>, u64)>,
    at: u64,
    end: u64,
}

impl Read for SyntheticStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some((start, unit, end)) =
            self.parts.iter().find(|(start, _, end)| (*start..*end).contains(&self.at))
        else {
            return Ok(0);
        };
        let within = ((self.at - start) % unit.len() as u64) as usize;
        let len = (unit.len() - within).min(out.len()).min((self.end.min(*end) - self.at) as usize);
        out[..len].copy_from_slice(&unit[within..within + len]);
        self.at += len as u64;
        Ok(len)
    }
}

/// Counts what is asked of another source: requests, and bytes that were really read.
pub(crate) struct Counting {
    inner: Arc<dyn RangedRead>,
    pub(crate) requests: Arc<AtomicU64>,
    pub(crate) bytes: Arc<AtomicU64>,
}

impl Counting {
    pub(crate) fn new(inner: Arc<dyn RangedRead>) -> Self {
        Self { inner, requests: Arc::default(), bytes: Arc::default() }
    }
}

impl RangedRead for Counting {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(CountingStream { inner: self.inner.stream(offset, len)?, bytes: self.bytes.clone() }))
    }
}

struct CountingStream {
    inner: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for CountingStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}
