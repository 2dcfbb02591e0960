//! The files of a tree, written below a folder and nowhere else.
//!
//! Every file and folder is made new, so nothing is written through a link that the tree has made before. No
//! filter and no attribute is looked at: files are the bytes that the repository has.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, symlink},
    },
    path::Path,
};

use gix::{
    ObjectId, Repository,
    bstr::{BStr, ByteSlice as _},
    objs::tree::EntryKind,
    validate::path::{self, component},
};
use undoo_core::{Problem, Result, platform::AddonsOrigin};

use crate::{Limits, failure, watch::Watch};

/// Files and folders that one repository may have. The largest of modules have a twentieth of it.
const MOST_ENTRIES: u32 = 500_000;
/// How deep folders may lie.
const DEEPEST: u32 = 100;

pub(crate) struct Checkout<'a> {
    repository: &'a Repository,
    origin: &'a AddonsOrigin,
    limits: Limits,
    watch: &'a Watch,
    bytes: u64,
    entries: u32,
    submodules: Vec<String>,
}

impl<'a> Checkout<'a> {
    pub(crate) fn new(
        repository: &'a Repository,
        origin: &'a AddonsOrigin,
        limits: Limits,
        watch: &'a Watch,
    ) -> Self {
        Self { repository, origin, limits, watch, bytes: 0, entries: 0, submodules: Vec::new() }
    }

    /// Writes a tree into a folder; answers the paths of submodules, which have empty folders.
    pub(crate) fn into(mut self, folder: &Path, tree: ObjectId) -> Result<Vec<String>> {
        self.tree(folder, "", tree, 0)?;
        self.submodules.sort();
        Ok(self.submodules)
    }

    fn tree(&mut self, folder: &Path, shown: &str, id: ObjectId, depth: u32) -> Result<()> {
        let tree = self.repository.find_tree(id).map_err(|error| self.broken(error))?;
        for entry in tree.iter() {
            let entry = entry.map_err(|error| self.broken(error))?;
            let name = entry.filename();
            let shown = format!("{shown}{}", name.to_str_lossy());
            if self.watch.has_ended() {
                // The watch has the reason.
                return Err(failure::not_understood(self.origin));
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES || depth > DEEPEST {
                let what = format!("it has more than {MOST_ENTRIES} files, or folders {DEEPEST} deep");
                return Err(failure::too_large(self.origin, &what));
            }
            let kind = entry.mode().kind();
            let path = folder.join(checked(name, kind).ok_or_else(|| failure::hostile(self.origin, &shown))?);
            let id = entry.object_id();
            match kind {
                EntryKind::Tree => {
                    self.written(fs::create_dir(&path), &shown)?;
                    self.tree(&path, &format!("{shown}/"), id, depth + 1)?;
                }
                EntryKind::Commit => {
                    self.written(fs::create_dir(&path), &shown)?;
                    self.submodules.push(shown);
                }
                EntryKind::Link => {
                    let target = self.blob(id)?;
                    self.written(symlink(OsStr::from_bytes(&target), &path), &shown)?;
                }
                EntryKind::Blob => self.file(&path, &shown, id, 0o644)?,
                EntryKind::BlobExecutable => self.file(&path, &shown, id, 0o755)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, shown: &str, id: ObjectId, mode: u32) -> Result<()> {
        let content = self.blob(id)?;
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        self.written(made.and_then(|mut file| file.write_all(&content)), shown)
    }

    fn blob(&mut self, id: ObjectId) -> Result<Vec<u8>> {
        let header = self.repository.find_header(id).map_err(|error| self.broken(error))?;
        // Before it is in memory: a few bytes can stand for many.
        if header.size() > self.limits.file {
            let what = format!("it has a file of more than {} bytes", self.limits.file);
            return Err(failure::too_large(self.origin, &what));
        }
        self.bytes = self.bytes.saturating_add(header.size());
        if self.bytes > self.limits.bytes {
            let what = format!("its files have more than {} bytes", self.limits.bytes);
            return Err(failure::too_large(self.origin, &what));
        }
        let mut blob = self.repository.find_blob(id).map_err(|error| self.broken(error))?;
        Ok(blob.take_data())
    }

    fn written(&self, done: io::Result<()>, shown: &str) -> Result<()> {
        done.map_err(|error| match error.kind() {
            // Twice in one tree, or a target of a link that is none.
            io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
                failure::hostile(self.origin, shown).caused_by(error)
            }
            _ => failure::not_written(self.origin, error),
        })
    }

    fn broken(&self, error: gix::Error) -> Problem {
        failure::not_understood(self.origin).caused_by(error)
    }
}

/// A name that stays in its folder and is none of git's own.
fn checked(name: &BStr, kind: EntryKind) -> Option<&OsStr> {
    let mode = (kind == EntryKind::Link).then_some(component::Mode::Symlink);
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    path::component(name, mode, options).ok().map(|name| OsStr::from_bytes(name))
}
