//! A backup's named parts, whether they are members of a ZIP, files of a folder, or one file.
//!
//! Layouts are told apart over this one view. It must stay a view: it reads by range or as a stream,
//! copies nothing, and believes no name.

mod gzip;
mod name;

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use undoo_core::{Kind, Problem, Result};

pub(crate) use self::{
    gzip::{GZIP, Gunzip, Marked},
    name::{MAX_NAME, harmless, shown},
};
use crate::{
    RangedRead,
    error::problem_of,
    zip::{MAX_MEMBERS, ZipArchive},
};

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Path relative to the folder, with `/` between its parts.
    pub name: String,
    /// Bytes of its content.
    pub size: u64,
}

/// A folder of files, wherever it is: a directory, a prefix in object storage.
pub trait MemberSource: Send + Sync {
    /// All files in the folder and below, in any order; no directories. Links are not followed, and
    /// left out.
    ///
    /// # Errors
    /// When the storage does not answer.
    fn list(&self) -> Result<Vec<MemberInfo>>;

    /// One of the listed files.
    ///
    /// # Errors
    /// When the storage does not answer, or the file is gone.
    fn open(&self, name: &str) -> Result<Arc<dyn RangedRead>>;
}

/// A backup as it is brought.
pub enum BackupInput {
    /// One file, and what to call it in messages.
    Single(Arc<dyn RangedRead>, String),
    /// A folder.
    Folder(Arc<dyn MemberSource>),
}

/// Named members, each read as a stream. Members are told by their index, below [`Container::len`].
pub enum Container {
    /// A ZIP.
    Zip(ZipArchive),
    /// A folder and its files, by name.
    Folder(Arc<dyn MemberSource>, Vec<MemberInfo>),
    /// A file that is no container, and its name: the only member.
    Single(Arc<dyn RangedRead>, String),
}

impl Container {
    /// Opens what is brought; that a file is a ZIP is told by its content.
    ///
    /// # Errors
    /// As [`ZipArchive::open`]; for folders, when listing fails or a name is not harmless.
    pub fn open(input: BackupInput) -> Result<Self> {
        match input {
            BackupInput::Single(file, name) => {
                let head = file.read_at(0, file.size().min(4) as usize).map_err(problem_of)?;
                if head == b"PK\x03\x04" || head == b"PK\x05\x06" {
                    return ZipArchive::open(file).map(Self::Zip);
                }
                Ok(Self::Single(file, name))
            }
            BackupInput::Folder(folder) => {
                let mut files = folder.list()?;
                if files.len() as u64 > MAX_MEMBERS {
                    return Err(Problem::new(
                        Kind::Refused,
                        "folder_too_large",
                        format!("the folder has {} files; at most {MAX_MEMBERS} are read", files.len()),
                        "Name the folder of one backup.",
                    ));
                }
                for file in &files {
                    harmless(file.name.as_bytes(), "the folder")?;
                }
                files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                Ok(Self::Folder(folder, files))
            }
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Zip(archive) => archive.members().len(),
            Self::Folder(_, files) => files.len(),
            Self::Single(..) => 1,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A member's path; a ZIP's directories end in `/`. For a single file, its display name.
    pub fn name(&self, member: usize) -> &str {
        match self {
            Self::Zip(archive) => &archive.members()[member].name,
            Self::Folder(_, files) => &files[member].name,
            Self::Single(_, name) => name,
        }
    }

    /// Bytes of a member's content, and how many it takes where it is stored.
    pub fn sizes(&self, member: usize) -> (u64, u64) {
        match self {
            Self::Zip(archive) => {
                let member = &archive.members()[member];
                (member.size, member.compressed)
            }
            Self::Folder(_, files) => (files[member].size, files[member].size),
            Self::Single(file, _) => (file.size(), file.size()),
        }
    }

    /// A member's content, from its start to its end, checked where the container has checksums.
    ///
    /// # Errors
    /// When the storage does not answer or the container proves broken; so too while reading
    /// ([`problem_of`]).
    pub fn read(&self, member: usize) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Zip(archive) => archive.read(&archive.members()[member]),
            Self::Folder(..) | Self::Single(..) => {
                let file = self.file(member)?;
                file.stream(0, file.size()).map_err(problem_of)
            }
        }
    }

    /// The front of a member's content out of at most `budget` stored bytes.
    ///
    /// # Errors
    /// As [`Container::read`].
    pub(crate) fn head(&self, member: usize, budget: u64) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Zip(archive) => archive.read_head(&archive.members()[member], budget),
            Self::Folder(..) | Self::Single(..) => {
                let file = self.file(member)?;
                file.stream(0, file.size().min(budget)).map_err(problem_of)
            }
        }
    }

    /// Whether this is a folder of files.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(..))
    }

    /// The member's place for messages: `"dump.sql" in the ZIP`.
    pub(crate) fn describe(&self, member: usize) -> String {
        let name = shown(self.name(member));
        match self {
            Self::Zip(_) => format!("\"{name}\" in the ZIP"),
            Self::Folder(..) => format!("\"{name}\" in the folder"),
            Self::Single(..) => format!("\"{name}\""),
        }
    }

    fn file(&self, member: usize) -> Result<Arc<dyn RangedRead>> {
        let (folder, listed) = match self {
            Self::Folder(folder, files) => (folder, &files[member]),
            Self::Single(file, _) => return Ok(file.clone()),
            // Members of a ZIP are no files.
            Self::Zip(_) => {
                return Err(Problem::new(
                    Kind::Internal,
                    "zip_member_as_file",
                    "a ZIP member has no file",
                    "",
                ));
            }
        };
        let file = folder.open(&listed.name)?;
        if file.size() != listed.size {
            return Err(Problem::new(
                Kind::Conflict,
                "member_changed",
                format!(
                    "{} has {} bytes now and had {} when the folder was listed",
                    self.describe(member),
                    file.size(),
                    listed.size
                ),
                "Wait until the backup is written completely, then start again.",
            ));
        }
        Ok(file)
    }
}

/// The front of a file: it ends where the budget ends, even in the middle of compressed data, and tells
/// that it has come to its end.
pub(crate) struct Head {
    input: Box<dyn Read + Send>,
    ended: Arc<AtomicBool>,
}

impl Head {
    pub(crate) fn new(input: Box<dyn Read + Send>) -> (Self, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(false));
        (Self { input, ended: ended.clone() }, ended)
    }
}

impl Read for Head {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let cut = |error: &io::Error| {
            let problem = error.get_ref().and_then(|inner| inner.downcast_ref::<Problem>());
            problem.is_some_and(|problem| problem.code == "gzip_truncated")
        };
        let len = match self.input.read(out) {
            Err(error) if cut(&error) => 0,
            other => other?,
        };
        if len == 0 && !out.is_empty() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Ok(len)
    }
}
