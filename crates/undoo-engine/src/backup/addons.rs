//! Custom modules in a backup: their files, what they ask for, and where they came from.
//!
//! A link is followed only where it stays within the folders that were given. Nothing of a module is run.

mod git;
mod python;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use undoo_archive::manifest::ours;

/// Names that are made from the others, or belong to git.
const LEFT_OUT: [&str; 3] = [".git", "__pycache__", "node_modules"];
/// No sensible tree is deeper, and links may lead in a circle.
const DEEPEST: usize = 24;
/// Longest manifest or list of requirements that is read.
const LONGEST_TEXT: u64 = 1 << 20;

/// A folder of modules, or one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonsFolder {
    /// Where it is for whoever makes the backup.
    pub path: PathBuf,
    /// What it is called in the backup.
    pub folder: String,
}

/// What there is to write.
#[derive(Debug, Default)]
pub(super) struct Addons {
    /// Files by their names below `addons/`.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// What the manifest says about each folder.
    pub(super) folders: Vec<ours::Addons>,
    /// Files that are not in the backup.
    pub(super) left_out: Vec<String>,
}

/// Finds everything in these folders.
pub(super) fn collect(folders: &[AddonsFolder]) -> Addons {
    let roots: Vec<PathBuf> =
        folders.iter().filter_map(|folder| fs::canonicalize(&folder.path).ok()).collect();
    let mut found = Addons::default();
    for folder in folders {
        let before = found.files.len();
        let mut walk = Walk { roots: &roots, found: &mut found };
        walk.folder(&folder.path, &folder.folder, 0);
        if found.files.len() > before {
            found.folders.push(describe(folder));
        }
    }
    found
}

struct Walk<'a> {
    roots: &'a [PathBuf],
    found: &'a mut Addons,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, name: &str, depth: usize) {
        let Ok(entries) = fs::read_dir(path) else {
            self.found.left_out.push(name.to_owned());
            return;
        };
        for entry in entries.flatten() {
            let Ok(file_name) = entry.file_name().into_string() else {
                self.found.left_out.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
                continue;
            };
            if LEFT_OUT.contains(&file_name.as_str()) || file_name.ends_with(".pyc") {
                continue;
            }
            let (path, name) = (entry.path(), format!("{name}/{file_name}"));
            let kind = if self.stays(&entry) { fs::metadata(&path).ok() } else { None };
            match kind {
                Some(kind) if kind.is_dir() && depth < DEEPEST => self.folder(&path, &name, depth + 1),
                Some(kind) if kind.is_file() => _ = self.found.files.insert(name, path),
                _ => self.found.left_out.push(name),
            }
        }
    }

    /// Whether it is where it seems to be, or a link to something that is.
    fn stays(&self, entry: &fs::DirEntry) -> bool {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => fs::canonicalize(entry.path())
                .is_ok_and(|target| self.roots.iter().any(|root| target.starts_with(root))),
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

fn describe(folder: &AddonsFolder) -> ours::Addons {
    let mut modules = BTreeMap::new();
    let mut requirements = BTreeSet::new();
    let own = folder.path.file_name().map(|name| (name.to_string_lossy().into_owned(), folder.path.clone()));
    let below = fs::read_dir(&folder.path).into_iter().flatten().flatten();
    let below = below.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    for (name, path) in own.into_iter().chain(below) {
        let manifest = ["__manifest__.py", "__openerp__.py"].iter().find_map(|file| text(&path.join(file)));
        if let Some(manifest) = manifest {
            let manifest = python::Manifest::read(&manifest);
            requirements.extend(manifest.python);
            modules.insert(name, manifest.version);
        }
    }
    let origin = git::Repository::around(&folder.path);
    let places = [Some(folder.path.clone()), origin.as_ref().map(|origin| origin.root.clone())];
    for place in places.into_iter().flatten() {
        let lines = text(&place.join("requirements.txt")).unwrap_or_default();
        let lines = lines.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        requirements.extend(
            // An option may name an index with a password.
            lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '-'])).map(git::without_user),
        );
    }
    ours::Addons {
        folder: folder.folder.clone(),
        modules,
        requirements: requirements.into_iter().collect(),
        git: origin.and_then(|origin| origin.origin()),
    }
}

/// A file as text, if it is there and no longer than such files are.
fn text(path: &Path) -> Option<String> {
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    if length > LONGEST_TEXT {
        return None;
    }
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
