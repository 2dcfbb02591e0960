//! A ZIP written front to back into anything that takes bytes.
//!
//! Nothing is ever gone back to: what is not known before a member's data follows it in a data
//! descriptor, with sizes of eight bytes throughout, since it is not known either whether they will be
//! needed. Names, times and attributes depend on the arguments alone, so equal input gives equal bytes.
//!
//! Format: PKWARE's APPNOTE.TXT 6.3.10.

use std::io::{self, Write};

use crc32fast::Hasher;
use jiff::{Timestamp, tz::TimeZone};

use crate::zip::Method;

/// Sizes are in a data descriptor behind the data.
const DESCRIPTOR: u16 = 1 << 3;
/// The name is UTF-8.
const UTF8: u16 = 1 << 11;
/// Made on Unix, so that the mode below is understood.
const MADE_BY: u16 = (3 << 8) | 45;
/// A regular file, readable by all.
const MODE: u32 = 0o100_644 << 16;
const SATURATED: u64 = u32::MAX as u64;

/// A member whose data is being written.
pub(crate) struct Open {
    name: String,
    method: Method,
    offset: u64,
    data: u64,
}

/// A ZIP being written.
pub(crate) struct ZipWriter<W> {
    out: W,
    /// Bytes written so far.
    at: u64,
    directory: Vec<u8>,
    members: u64,
    /// Time and date in MS-DOS form.
    time: [u16; 2],
}

impl<W: Write> ZipWriter<W> {
    /// `time` becomes the modification time of every member, in UTC.
    pub(crate) fn new(out: W, time: Timestamp) -> Self {
        Self { out, at: 0, directory: Vec::new(), members: 0, time: dos_time(time) }
    }

    /// How many members there are.
    pub(crate) fn members(&self) -> u64 {
        self.members
    }

    /// Bytes that the directory takes so far.
    pub(crate) fn directory_len(&self) -> u64 {
        self.directory.len() as u64
    }

    /// A member that is at hand: its data as stored, checksum and size of its content.
    ///
    /// # Errors
    /// Those of the output; `InvalidInput` for data of 4 GiB and more.
    pub(crate) fn member(
        &mut self,
        name: &str,
        method: Method,
        data: &[u8],
        crc: u32,
        size: u64,
    ) -> io::Result<()> {
        let compressed = data.len() as u64;
        if compressed >= SATURATED || size >= SATURATED {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset = self.at;
        let mut header = b"PK\x03\x04".to_vec();
        self.front(&mut header, 20, flags(name), method, [crc.into(), compressed, size]);
        put_lengths(&mut header, name, 0)?;
        header.extend(name.as_bytes());
        self.put(&header)?;
        self.put(data)?;
        self.enter(name, method, flags(name), [crc.into(), compressed, size], offset)
    }

    /// Begins a member of unknown size; [`ZipWriter::data`] and [`ZipWriter::end`] follow.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn begin(&mut self, name: &str, method: Method) -> io::Result<Open> {
        let offset = self.at;
        let mut header = b"PK\x03\x04".to_vec();
        // The ZIP64 field says that the descriptor's sizes have eight bytes.
        self.front(&mut header, 45, flags(name) | DESCRIPTOR, method, [0, SATURATED, SATURATED]);
        put_lengths(&mut header, name, 20)?;
        header.extend(name.as_bytes());
        header.extend([1, 0, 16, 0]);
        header.extend([0; 16]);
        self.put(&header)?;
        Ok(Open { name: name.to_owned(), method, offset, data: self.at })
    }

    /// Data of the member that was begun, as stored.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.put(data)
    }

    /// How many bytes of data the member has so far.
    pub(crate) fn data_len(&self, open: &Open) -> u64 {
        self.at - open.data
    }

    /// Ends the member that was begun; answers the bytes that its data takes.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn end(&mut self, open: Open, crc: Hasher, size: u64) -> io::Result<u64> {
        let compressed = self.at - open.data;
        let crc = crc.finalize();
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend(crc.to_le_bytes());
        descriptor.extend(compressed.to_le_bytes());
        descriptor.extend(size.to_le_bytes());
        self.put(&descriptor)?;
        let flags = flags(&open.name) | DESCRIPTOR;
        self.enter(&open.name, open.method, flags, [crc.into(), compressed, size], open.offset)?;
        Ok(compressed)
    }

    /// Writes the directory, flushes, and gives the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let (offset, size) = (self.at, self.directory.len() as u64);
        let mut end = std::mem::take(&mut self.directory);
        if self.members >= 0xffff || size >= SATURATED || offset >= SATURATED {
            end.extend(b"PK\x06\x06");
            end.extend(44_u64.to_le_bytes());
            end.extend([MADE_BY.to_le_bytes(), 45_u16.to_le_bytes()].concat());
            end.extend([0; 8]);
            for value in [self.members, self.members, size, offset] {
                end.extend(value.to_le_bytes());
            }
            end.extend(b"PK\x06\x07\0\0\0\0");
            end.extend((offset + size).to_le_bytes());
            end.extend(1_u32.to_le_bytes());
        }
        end.extend(b"PK\x05\x06\0\0\0\0");
        let members = (self.members.min(0xffff) as u16).to_le_bytes();
        end.extend([members, members].concat());
        end.extend(narrow(size).to_le_bytes());
        end.extend(narrow(offset).to_le_bytes());
        end.extend([0; 2]);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// What local headers and entries of the directory have in common, from the version needed on.
    fn front(&self, out: &mut Vec<u8>, version: u16, flags: u16, method: Method, sums: [u64; 3]) {
        let method = match method {
            Method::Stored => 0,
            Method::Deflate => 8,
        };
        for value in [version, flags, method, self.time[0], self.time[1]] {
            out.extend(value.to_le_bytes());
        }
        for value in sums {
            out.extend(narrow(value).to_le_bytes());
        }
    }

    /// Enters a member in the directory.
    fn enter(
        &mut self,
        name: &str,
        method: Method,
        flags: u16,
        [crc, compressed, size]: [u64; 3],
        offset: u64,
    ) -> io::Result<()> {
        // Only what does not fit, in this order.
        let wide: Vec<u64> = [size, compressed, offset].into_iter().filter(|v| *v >= SATURATED).collect();
        let zip64 = flags & DESCRIPTOR != 0 || !wide.is_empty();
        let mut entry = b"PK\x01\x02".to_vec();
        entry.extend(MADE_BY.to_le_bytes());
        // The checksum fills its field and is never wide.
        self.front(&mut entry, if zip64 { 45 } else { 20 }, flags, method, [crc, compressed, size]);
        let extra = if wide.is_empty() { 0 } else { 4 + wide.len() as u16 * 8 };
        put_lengths(&mut entry, name, extra)?;
        // Comment, disk, internal attributes.
        entry.extend([0; 6]);
        entry.extend(MODE.to_le_bytes());
        entry.extend(narrow(offset).to_le_bytes());
        entry.extend(name.as_bytes());
        if !wide.is_empty() {
            entry.extend([1, 0]);
            entry.extend((wide.len() as u16 * 8).to_le_bytes());
            entry.extend(wide.iter().flat_map(|value| value.to_le_bytes()));
        }
        self.directory.extend(entry);
        self.members += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn flags(name: &str) -> u16 {
    if name.is_ascii() { 0 } else { UTF8 }
}

fn put_lengths(out: &mut Vec<u8>, name: &str, extra: u16) -> io::Result<()> {
    let name = u16::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    out.extend([name.to_le_bytes(), extra.to_le_bytes()].concat());
    Ok(())
}

/// A value for a field of four bytes, all ones where it does not fit.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Time and date as MS-DOS kept them: two seconds exact, from 1980 to 2107.
fn dos_time(time: Timestamp) -> [u16; 2] {
    let time = time.to_zoned(TimeZone::UTC).datetime();
    let year = time.year().clamp(1980, 2107);
    let part = |value: i8| u16::try_from(value).unwrap_or_default();
    let date = ((year as u16 - 1980) << 9) | (part(time.month()) << 5) | part(time.day());
    [(part(time.hour()) << 11) | (part(time.minute()) << 5) | (part(time.second()) / 2), date]
}

#[cfg(test)]
mod tests;
