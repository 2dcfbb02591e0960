//! The files of a backup, held by hard links while it is made.
//!
//! A snapshot is a directory beside the restores' own. It lives as long as the process that made it: a
//! lock on a file in it says so, on whatever machine or in whatever container that process is. What it
//! leaves when it is killed is swept by the next backup. Nothing in the live directory is ever changed.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use undoo_core::{BackupId, Result};

use crate::{
    filestore::{Hash, parse_store_fname, store_fname},
    home::{self, Home, MARKER, at, remove_tree},
};

/// The file that whoever makes the backup holds a lock on.
const LIFE: &str = "life";
/// The file that says what is being written.
const OBJECT: &str = "object.json";
/// The directory with the links.
const FILES: &str = "filestore";
/// Odoo's own list of what its garbage collector has to look at.
const CHECKLIST: &str = "checklist";

/// The object that a backup becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The storage's address, without secrets.
    pub place: String,
    /// The key in it.
    pub key: String,
}

/// A snapshot that is ours.
pub struct Snapshot {
    directory: PathBuf,
    /// Locked for as long as this is open.
    _life: File,
    linked: BTreeMap<Hash, u64>,
    copied: u64,
    strangers: u64,
}

impl Snapshot {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(home: &Home, id: &BackupId, object: &Destination) -> Result<Self> {
        let directory = home.backup(id);
        let path = directory.join(LIFE);
        let life = loop {
            let made = DirBuilder::new().recursive(true).mode(0o711).create(&directory);
            made.map_err(at("create", &directory))?;
            let life = match File::create(&path) {
                Ok(life) => life,
                // Someone who sweeps took it for dead, which it was for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("create", &path)(error)),
            };
            life.lock().map_err(at("lock", &path))?;
            if path.exists() {
                break life;
            }
        };
        home::write(&directory, OBJECT, object)?;
        Ok(Self { directory, _life: life, linked: BTreeMap::new(), copied: 0, strangers: 0 })
    }

    /// Links every file of a filestore that is not linked yet. `go_on` is asked again and again, `room`
    /// before a file that cannot be linked is copied.
    ///
    /// # Errors
    /// When the file system refuses, and whatever those two answer.
    pub fn link(
        &mut self,
        live: &Path,
        go_on: &dyn Fn() -> Result<()>,
        room: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        self.strangers = 0;
        for folder in entries(live)? {
            let name = folder.file_name();
            let name = name.to_string_lossy();
            let is_hash = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hash || !is_directory(&folder) {
                self.strangers += u64::from(name != CHECKLIST && name != MARKER);
                continue;
            }
            for file in entries(&folder.path())? {
                go_on()?;
                let fname = format!("{name}/{}", file.file_name().to_string_lossy());
                match parse_store_fname(&fname).filter(|_| file.file_type().is_ok_and(|kind| kind.is_file()))
                {
                    Some(hash) if self.linked.contains_key(&hash) => {}
                    Some(hash) => self.hold(hash, &file.path(), room)?,
                    None => self.strangers += 1,
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, hash: Hash, live: &Path, room: &dyn Fn() -> Result<()>) -> Result<()> {
        let path = self.path(&hash);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at("create", folder))?;
        }
        let held = match fs::hard_link(live, &path) {
            // Another file system below this directory, one without links, or one that does not let
            // everybody link what is not theirs.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                room()?;
                fs::copy(live, &path).map(|_| self.copied += 1)
            }
            linked => linked,
        };
        match held.and_then(|()| fs::metadata(&path)) {
            Ok(found) => {
                self.linked.insert(hash, found.len());
                Ok(())
            }
            // Odoo has collected it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at("link", live)(error)),
        }
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.directory.join(FILES).join(store_fname(hash))
    }

    /// Files and their bytes.
    pub fn size(&self) -> (u64, u64) {
        (self.linked.len() as u64, self.linked.values().sum())
    }

    /// Files that had to be copied, and entries of the filestore that are no files of Odoo's.
    pub fn oddities(&self) -> (u64, u64) {
        (self.copied, self.strangers)
    }

    /// All files, by their names.
    pub fn files(&self) -> impl Iterator<Item = (Hash, PathBuf)> {
        self.linked.keys().map(|hash| (*hash, self.path(hash)))
    }

    /// Lets the files go. What is being written stays known, so that the next backup can look for it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn let_go(&self) -> Result<()> {
        remove_tree(&self.directory.join(FILES))
    }

    /// Ends it, when all that was written is as it is to stay.
    ///
    /// # Errors
    /// When the file system refuses to forget the object. Of the rest, what stays says nothing any more.
    pub fn end(self) -> Result<()> {
        // First, since without the lock's file this looks dead, and what a dead one wrote is removed.
        let object = self.directory.join(OBJECT);
        fs::remove_file(&object).map_err(at("remove", &object))?;
        if let Err(left) = remove_tree(&self.directory) {
            tracing::warn!(%left, "an empty snapshot stays until the next backup");
        }
        Ok(())
    }
}

/// What a backup has left whose process died.
pub struct Dead {
    directory: PathBuf,
    /// Locked while this one is looked after.
    _life: File,
    /// What was being written, where that became known.
    pub object: Option<Destination>,
}

impl Dead {
    /// All of them; their files are let go.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn all(home: &Home) -> Result<Vec<Self>> {
        let mut dead = Vec::new();
        for directory in home.backups()? {
            // A directory that has just been made has none yet, and whoever made it waits for ours.
            let path = directory.join(LIFE);
            let life = match File::options().write(true).create(true).truncate(false).open(&path) {
                Ok(life) => life,
                // It has just been removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("open", &path)(error)),
            };
            match life.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(at("lock", &directory)(error)),
            }
            remove_tree(&directory.join(FILES))?;
            // One that cannot be read was not written to its end, and so nothing else was.
            let object = home::read(&directory.join(OBJECT)).unwrap_or_default();
            dead.push(Self { directory, _life: life, object });
        }
        Ok(dead)
    }

    /// Removes the rest.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn bury(self) -> Result<()> {
        remove_tree(&self.directory)
    }
}

/// What is in a directory; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    let read = || fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>();
    match read() {
        Ok(entries) => Ok(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("read", directory)(error)),
    }
}

/// Also by a link to one.
fn is_directory(entry: &fs::DirEntry) -> bool {
    fs::metadata(entry.path()).is_ok_and(|found| found.is_dir())
}
