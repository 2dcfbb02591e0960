//! A tar of a filestore, as a stream that is made while it is read.
//!
//! Equal files give equal bytes: owner and group are root, times are the one that is given, and nothing
//! of the machine gets in. Format: POSIX.1-2001 ustar, with GNU's base-256 form for sizes of 8 GiB and
//! more.

use std::io::{self, Read};

use undoo_core::{Kind, Problem, Result};

use super::{BLOCK, MAX_OCTAL};
use crate::{attachments::store_fname, container::shown, error::carry};

/// Files for a tar, one after the other.
pub(crate) trait Source {
    /// Hash and size of the next file.
    ///
    /// # Errors
    /// When it cannot be told.
    fn next_file(&mut self) -> Result<Option<([u8; 20], u64)>>;

    /// Content of the file told last.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize>;
}

/// The tar of a filestore under a top folder.
pub(crate) struct FilestoreTarWriter<'a> {
    source: &'a mut dyn Source,
    top: String,
    time: u64,
    /// Headers and padding to be handed out before more content.
    ahead: Vec<u8>,
    at: usize,
    /// Content of the current file not handed out yet, and the zeros that follow it.
    left: u64,
    padding: usize,
    /// The folder whose header was written last.
    folder: Option<String>,
    files: u64,
    bytes: u64,
    ended: bool,
}

impl<'a> FilestoreTarWriter<'a> {
    /// `top` is the name of the only folder at the top, `time` every entry's, in seconds since 1970.
    ///
    /// # Errors
    /// `tar_name` (`Invalid`) for a name that is no folder's or too long.
    pub(crate) fn new(source: &'a mut dyn Source, top: &str, time: u64) -> Result<Self> {
        let fine = !top.is_empty()
            && !matches!(top, "." | "..")
            && !top.contains(['/', '\\'])
            && !top.chars().any(char::is_control);
        let ahead = header(&format!("{top}/"), 0, time, true).filter(|_| fine && top.len() <= 100);
        let ahead = ahead.ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "tar_name",
                format!("\"{}\" cannot be the name of the filestore's folder", shown(top)),
                "Name the database that the filestore is to be for.",
            )
        })?;
        Ok(Self {
            source,
            top: top.to_owned(),
            time,
            ahead: ahead.to_vec(),
            at: 0,
            left: 0,
            padding: 0,
            folder: None,
            files: 0,
            bytes: 0,
            ended: false,
        })
    }

    /// Files so far, and bytes of their contents.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.files, self.bytes)
    }

    fn advance(&mut self) -> Result<()> {
        self.ahead.clear();
        self.at = 0;
        self.ahead.resize(std::mem::take(&mut self.padding), 0);
        let Some((hash, size)) = self.source.next_file()? else {
            self.ahead.resize(self.ahead.len() + 2 * BLOCK, 0);
            self.ended = true;
            return Ok(());
        };
        let path = store_fname(&hash);
        let folder = path.get(..2).unwrap_or_default().to_owned();
        let mut put = |path: &str, size, directory| {
            let header = header(&format!("{}/{path}", self.top), size, self.time, directory);
            self.ahead.extend(header.ok_or_else(|| {
                Problem::new(Kind::Internal, "tar_name", "a file's path is too long for a tar", "")
            })?);
            Ok::<_, Problem>(())
        };
        if self.folder.as_ref() != Some(&folder) {
            put(&format!("{folder}/"), 0, true)?;
        }
        put(&path, size, false)?;
        self.folder = Some(folder);
        self.left = size;
        self.padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.files += 1;
        self.bytes += size;
        Ok(())
    }
}

impl Read for FilestoreTarWriter<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let ahead = self.ahead.get(self.at..).unwrap_or_default();
            if !ahead.is_empty() || out.is_empty() {
                let len = ahead.len().min(out.len());
                out[..len].copy_from_slice(&ahead[..len]);
                self.at += len;
                return Ok(len);
            }
            if self.left > 0 {
                let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let len = self.source.read(&mut out[..room])?;
                self.left -= len as u64;
                return if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) };
            }
            if self.ended {
                return Ok(0);
            }
            self.advance().map_err(carry)?;
        }
    }
}

/// A ustar header; none for a path that does not fit.
fn header(path: &str, size: u64, time: u64, directory: bool) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let (prefix, name) = split(path)?;
    put(0, name.as_bytes());
    put(100, if directory { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= MAX_OCTAL {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, b"\x80\0\0\0");
        put(128, &size.to_be_bytes());
    }
    put(136, format!("{:011o}\0", time.min(MAX_OCTAL)).as_bytes());
    put(148, b"        ");
    put(156, if directory { b"5" } else { b"0" });
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// Prefix and name of a path, cut at a slash where it is too long for the name alone.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let cut = |(at, _): (usize, &str)| {
        let (prefix, name) = (path.get(..at)?, path.get(at + 1..)?);
        (prefix.len() <= 155 && name.len() <= 100 && !name.is_empty()).then_some((prefix, name))
    };
    path.match_indices('/').find_map(cut)
}
