//! Files and folders on this machine, read without a runtime.
//!
//! A folder never leads out of itself: names with `..` and symbolic links within it are refused, since
//! what lies in a backup's folder may have been unpacked from anywhere.

use std::{
    fs::{self, File, Metadata},
    io::{self, BufReader, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use undoo_core::{Kind, Problem, Result};

use crate::{
    fault::{Cause, Doing, Fault, problem_to_io},
    folder::{Entry, LIST_LIMIT, check_name, too_many_entries},
    options::Options,
};

/// How much is read at a time.
pub(crate) const CHUNK: usize = 256 * 1024;

/// A regular file, pinned to the state in which it was opened. Clones share the open file.
#[derive(Debug, Clone)]
pub struct LocalFile {
    inner: Arc<Inner>,
    options: Options,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    state: State,
}

/// What tells one version of a file from another, as far as the kernel keeps count: two writes within
/// one tick of its clock (a few milliseconds) that keep the length look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for State {
    fn from(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl LocalFile {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// When it is missing, not readable, or not a regular file.
    pub fn open(path: impl Into<PathBuf>, options: &Options) -> Result<Self> {
        let path = path.into();
        let place = path.display().to_string();
        // Asked before opening: opening a pipe would wait for a writer.
        let kind = fs::metadata(&path).map_err(|error| local_problem(Doing::Read, &place, error))?;
        if !kind.is_file() {
            return Err(not_a_file(&place));
        }
        let file = File::open(&path).map_err(|error| local_problem(Doing::Read, &place, error))?;
        let found = file.metadata().map_err(|error| local_problem(Doing::Read, &place, error))?;
        let inner = Inner { file, path, state: State::from(&found) };
        Ok(Self { inner: Arc::new(inner), options: options.clone() })
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.inner.state.size
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What names this version: device, inode, length and time of change.
    pub(crate) fn version(&self) -> String {
        let State { device, inode, size, modified: (seconds, nanoseconds) } = self.inner.state;
        format!("{device:x}-{inode:x}-{size:x}-{seconds:x}.{nanoseconds:x}")
    }

    /// When it was last written to.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.inner.file.metadata().and_then(|found| found.modified()).ok()
    }

    /// A stream over `[offset, offset + len)`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the range does not lie within the file. While reading, an
    /// error that carries the problem `backup_changed_while_read` when the file was written to.
    pub fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        let end = check_range(offset, len, self.size())?;
        self.options.meter.add_request();
        let capacity = usize::try_from(len).unwrap_or(CHUNK).clamp(1, CHUNK);
        let part = Part { file: self.clone(), position: offset, end };
        Ok(Box::new(BufReader::with_capacity(capacity, part)))
    }

    /// Reads at most one chunk at `offset`, and makes sure that it still is what was opened.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let place = || self.inner.path.display().to_string();
        let failed = |error| problem_to_io(local_problem(Doing::Read, &place(), error));
        let wanted = buffer.len().min(CHUNK);
        let read = self.inner.file.read_at(&mut buffer[..wanted], offset).map_err(failed)?;
        let found = self.inner.file.metadata().map_err(failed)?;
        if State::from(&found) != self.inner.state || read == 0 {
            return Err(Fault::from(Cause::Changed).into_io(&place()));
        }
        self.options.meter.add_bytes(read);
        Ok(read)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }
}

struct Part {
    file: LocalFile,
    position: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        if let Some(bandwidth) = &self.file.options.bandwidth {
            std::thread::sleep(bandwidth.take(read));
        }
        Ok(read)
    }
}

/// A folder and what lies below it.
#[derive(Debug, Clone)]
pub struct LocalFolder {
    /// Without symbolic links, so that a name that leads through one is seen.
    root: PathBuf,
    options: Options,
}

impl LocalFolder {
    /// Opens a folder; its own path may contain symbolic links.
    ///
    /// # Errors
    /// When it is missing, not readable, or not a folder.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let place = path.as_ref().display().to_string();
        let root = path.as_ref().canonicalize().map_err(|error| local_problem(Doing::Read, &place, error))?;
        if !root.is_dir() {
            return Err(Problem::new(
                Kind::Invalid,
                "not_a_folder",
                format!("{place} is not a folder"),
                "Give the path of a backup file or of a folder that holds one.",
            ));
        }
        Ok(Self { root, options: options.clone() })
    }

    /// Every file below the folder, sorted by name.
    ///
    /// # Errors
    /// When a part of it cannot be read, is neither file nor folder, or there are more than two million.
    pub fn list(&self) -> Result<Vec<Entry>> {
        Ok(self.walk()?.into_iter().map(|(entry, _)| entry).collect())
    }

    /// The same, with when each was last written to.
    pub(crate) fn walk(&self) -> Result<Vec<(Entry, Option<SystemTime>)>> {
        let mut entries = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let place = folder.display().to_string();
            self.options.meter.add_request();
            for item in fs::read_dir(&folder).map_err(|error| local_problem(Doing::Read, &place, error))? {
                let item = item.map_err(|error| local_problem(Doing::Read, &place, error))?;
                let path = item.path();
                let found = item.metadata().map_err(|error| local_problem(Doing::Read, &place, error))?;
                if found.is_dir() {
                    folders.push(path);
                } else if found.is_file() {
                    let entry = Entry { name: self.name_of(&path)?, size: found.len() };
                    entries.push((entry, found.modified().ok()));
                } else {
                    return Err(not_plain(&path));
                }
                if entries.len().saturating_add(folders.len()) > LIST_LIMIT {
                    return Err(too_many_entries(&self.root.display().to_string()));
                }
            }
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Opens a file by its name within the folder.
    ///
    /// # Errors
    /// When it is missing, not a regular file, or the name leads out of the folder.
    pub fn open_file(&self, name: &str) -> Result<LocalFile> {
        check_name(name, &self.root.display().to_string())?;
        let path = self.root.join(name);
        let real = path
            .canonicalize()
            .map_err(|error| local_problem(Doing::Read, &path.display().to_string(), error))?;
        if real != path {
            return Err(not_plain(&path));
        }
        LocalFile::open(path, &self.options)
    }

    fn name_of(&self, path: &Path) -> Result<String> {
        let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
        name.map(str::to_owned).ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "name_not_utf8",
                format!("the name of {} is not UTF-8", path.display()),
                "Odoo writes no such names: move the file out of the backup's folder.",
            )
        })
    }
}

/// The end of `[offset, offset + len)` if it lies within `size` bytes.
pub(crate) fn check_range(offset: u64, len: u64, size: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| *end <= size);
    end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the range ends behind the last byte"))
}

/// What a person is told about an error of the file system.
pub(crate) fn local_problem(doing: Doing, place: &str, error: io::Error) -> Problem {
    if doing == Doing::Read || error.kind() == io::ErrorKind::NotFound {
        return read_problem(place, error);
    }
    write_fault(Path::new(place), &error).into_problem(doing, place)
}

/// Why something could not be written, made or removed at `path`.
pub(crate) fn write_fault(path: &Path, error: &io::Error) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem => Cause::ReadOnly,
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            Cause::NotWritable { path: folder.display().to_string() }
        }
        _ => Cause::Unexpected { what: error.to_string() },
    };
    Fault { detail: error.to_string(), ..cause.into() }
}

fn read_problem(place: &str, error: io::Error) -> Problem {
    let (kind, code, message, remedy) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (
            Kind::Missing,
            "backup_missing",
            format!("{place} does not exist"),
            "Check the path; a relative one starts at the current folder.",
        ),
        io::ErrorKind::PermissionDenied => (
            Kind::Denied,
            "no_permission",
            format!("cannot read {place}: the user that runs this may not"),
            "Give that user the right to read the file and to enter the folders above it.",
        ),
        _ => (
            Kind::Unavailable,
            "file_unreadable",
            format!("cannot read {place}: {error}"),
            "Check the disk or the network share that it lies on.",
        ),
    };
    Problem::new(kind, code, message, remedy).caused_by(error)
}

fn not_a_file(place: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "not_a_file",
        format!("{place} is not a regular file"),
        "Give the path of a backup file or of a folder that holds one.",
    )
}

fn not_plain(path: &Path) -> Problem {
    Problem::new(
        Kind::Refused,
        "link_in_backup",
        format!("{} is, or lies behind, something else than a file or a folder", path.display()),
        "Symbolic links could lead out of the backup: put the file itself in their place.",
    )
}
