//! A strict ZIP reader that reads by range.
//!
//! It exists because a backup of many gigabytes lies in object storage: its directory is at the end,
//! and any member can be fetched by itself. The directory at the end is the only authority; a ZIP is
//! never read from its front as a stream, where data descriptors and stored members cannot be told
//! apart. What two readers could understand differently (overlapping or doubled members, a directory
//! that is not where the end record says, local headers that disagree) is refused rather than guessed.
//!
//! Format: PKWARE's APPNOTE.TXT 6.3.10. Methods: stored and deflate, which is all that backup tools
//! write; no encryption, no parts on several disks.

mod directory;
mod member;
pub(crate) mod range;

use std::{io::Read, sync::Arc};

use undoo_core::{Kind, Problem, Result};

use crate::RangedRead;

/// More members than this are refused: they would not fit the memory that a reader may take. The
/// largest filestores known have some hundred thousand files.
pub const MAX_MEMBERS: u64 = 2_000_000;
/// A larger directory than this is refused.
pub const MAX_DIRECTORY: u64 = 512 << 20;
/// From this size on, members and archives may not claim to expand by more than [`BOMB_RATIO`].
/// Deflate cannot exceed 1032:1; dumps reach 10:1 to 100:1.
pub const BOMB_SIZE: u64 = 1 << 30;
/// See [`BOMB_SIZE`].
pub const BOMB_RATIO: u64 = 500;

/// How a member's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As they are (method 0).
    Stored,
    /// Deflated (method 8).
    Deflate,
}

/// One member as the directory describes it. About 120 bytes with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path: relative, UTF-8, without `.`, `..`, backslashes and control characters; directories
    /// end in `/`.
    pub name: Box<str>,
    /// Where its local header starts.
    pub offset: u64,
    /// Bytes that its data takes in the archive.
    pub compressed: u64,
    /// Bytes of its content.
    pub size: u64,
    /// CRC-32 of its content.
    pub crc: u32,
    /// See [`Method`].
    pub method: Method,
    flags: u16,
    /// Where the next member, or the directory, starts: nothing of this member lies beyond.
    end: u64,
}

impl Member {
    /// Whether this is a directory's entry, which has no content.
    pub fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }
}

/// An opened archive: its whole directory, checked.
pub struct ZipArchive {
    source: Arc<dyn RangedRead>,
    /// By offset.
    members: Vec<Member>,
    /// Indices into `members`, by name.
    by_name: Vec<u32>,
}

impl ZipArchive {
    /// Reads the end of the archive (64 KiB) and its directory, and checks all that can be checked
    /// without the members.
    ///
    /// # Errors
    /// `Invalid` for what is broken or cut off, `Refused` for what no backup tool writes, with the
    /// member's name; `Unavailable` when the storage does not answer.
    pub fn open(source: Arc<dyn RangedRead>) -> Result<Self> {
        let members = directory::read(&*source)?;
        let mut by_name: Vec<u32> = (0..members.len() as u32).collect();
        let name = |index: &u32| &*members[*index as usize].name;
        by_name.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        if let Some(pair) = by_name.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            return Err(refused(
                "zip_member_duplicate",
                format!("the ZIP has two members named \"{}\"", crate::container::shown(name(&pair[0]))),
            ));
        }
        Ok(Self { source, members, by_name })
    }

    /// The members in the order of their place in the archive.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of exactly this name.
    pub fn find(&self, name: &str) -> Option<&Member> {
        let found = self.by_name.binary_search_by(|index| (*self.members[*index as usize].name).cmp(name));
        found.ok().map(|at| &self.members[self.by_name[at] as usize])
    }

    /// A member's content, by one ranged request. Size and CRC-32 are checked before the last bytes are
    /// handed out, and never more than the declared size is: a consumer that has read all of it holds
    /// what the directory promised.
    ///
    /// # Errors
    /// When the local header cannot be read or disagrees with the directory. Errors of the returned
    /// reader carry their problem: [`crate::error::problem_of`].
    pub fn read(&self, member: &Member) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(member::MemberReader::open(&*self.source, member, None)?))
    }

    /// The front of a member's content, as far as the first `budget` bytes of the archive from its
    /// local header on yield it. Ends early without an error; checks only what it can.
    ///
    /// # Errors
    /// As [`ZipArchive::read`].
    pub fn read_head(&self, member: &Member, budget: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(member::MemberReader::open(&*self.source, member, Some(budget))?))
    }
}

fn refused(code: &'static str, message: String) -> Problem {
    Problem::new(
        Kind::Refused,
        code,
        message,
        "No backup tool writes such a ZIP. Find out where this backup comes from before you use it.",
    )
}

fn broken(code: &'static str, message: String) -> Problem {
    Problem::new(
        Kind::Invalid,
        code,
        message,
        "Download or copy the backup again and compare its size with the original; if it stays so, use another backup.",
    )
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
