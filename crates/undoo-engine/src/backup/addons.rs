//! Custom modules in a backup: their files, what they ask for, and where they came from.
//!
//! A link to a module or to a file is followed where it stays within the folders that were given. Nothing of
//! a module is run.

mod git;
mod python;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use undoo_archive::manifest::ours;
use undoo_core::platform::addons::MANIFESTS;

/// What a folder's modules ask for.
const REQUIREMENTS: &str = "requirements.txt";
/// Where packages that are kept with the modules usually are.
const WHEELS: &str = "wheels";
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

impl AddonsFolder {
    /// These folders, each with a name in the backup that no other one has: its own, with a number where that
    /// is taken.
    pub fn named(paths: Vec<PathBuf>) -> Vec<Self> {
        let mut taken = BTreeSet::new();
        let named = paths.into_iter().map(|path| {
            let name = path.file_name().map(ToOwned::to_owned);
            // Of `.` and the like.
            let name = name.or_else(|| Some(fs::canonicalize(&path).ok()?.file_name()?.to_owned()));
            let name = name.map_or_else(|| "addons".into(), |name| name.to_string_lossy().into_owned());
            let mut folder = name.clone();
            let mut number = 1;
            while !taken.insert(folder.clone()) {
                number += 1;
                folder = format!("{name}-{number}");
            }
            Self { path, folder }
        });
        named.collect()
    }
}

/// The modules that were found.
#[derive(Debug, Default)]
pub struct Addons {
    /// Where each file is, by its name below `addons/` in a backup.
    pub files: BTreeMap<String, PathBuf>,
    /// What a backup's manifest says about each folder.
    pub folders: Vec<ours::Addons>,
    /// Files that were left out: links that lead elsewhere, and names that are no text.
    pub left_out: Vec<String>,
}

/// Finds the modules in these folders. What else is there is nobody's business but its owner's.
pub fn collect(folders: &[AddonsFolder]) -> Addons {
    let roots: Vec<PathBuf> =
        folders.iter().filter_map(|folder| fs::canonicalize(&folder.path).ok()).collect();
    let mut found = Addons::default();
    for folder in folders {
        let modules = modules(&folder.path);
        if modules.is_empty() {
            continue;
        }
        let mut walk = Walk { roots: &roots, found: &mut found };
        for path in &modules {
            let below = path.strip_prefix(&folder.path).unwrap_or(path);
            let name = Path::new(&folder.folder).join(below);
            walk.module(path, name.to_string_lossy().trim_end_matches('/'));
        }
        for path in std::iter::once(folder.path.join(REQUIREMENTS)).chain(wheels(&folder.path)) {
            if path.is_file() && walk.stays(&path) {
                let below = path.strip_prefix(&folder.path).unwrap_or(&path);
                walk.found.files.insert(format!("{}/{}", folder.folder, below.display()), path.clone());
            }
        }
        found.folders.push(describe(folder, &modules));
    }
    found
}

/// The folder itself, if it is a module, else those in it.
fn modules(folder: &Path) -> Vec<PathBuf> {
    if manifest(folder).is_some() {
        return vec![folder.to_owned()];
    }
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| manifest(path).is_some()).collect()
}

/// Python packages beside the list of requirements, ready to be installed where no index is.
fn wheels(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let below =
        [folder.to_owned(), folder.join(WHEELS)].into_iter().filter_map(|path| fs::read_dir(path).ok());
    let paths = below.flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with(".whl")))
}

/// The manifest of a module.
fn manifest(module: &Path) -> Option<PathBuf> {
    MANIFESTS.iter().map(|name| module.join(name)).find(|path| path.is_file())
}

struct Walk<'a> {
    roots: &'a [PathBuf],
    found: &'a mut Addons,
}

impl Walk<'_> {
    fn module(&mut self, path: &Path, name: &str) {
        if self.stays(path) {
            self.folder(path, name);
        } else {
            self.found.left_out.push(name.to_owned());
        }
    }

    fn folder(&mut self, path: &Path, name: &str) {
        let Ok(entries) = fs::read_dir(path) else {
            self.found.left_out.push(name.to_owned());
            return;
        };
        for entry in entries.flatten() {
            let Ok(file_name) = entry.file_name().into_string() else {
                self.found.left_out.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
                continue;
            };
            // What belongs to git or to an editor, may be a secret, or is made from the rest.
            if file_name.starts_with('.') || file_name == "__pycache__" || file_name.ends_with(".pyc") {
                continue;
            }
            let (path, name) = (entry.path(), format!("{name}/{file_name}"));
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let kind = if !is_link || self.stays(&path) { fs::metadata(&path).ok() } else { None };
            match kind {
                // Links to folders may lead in circles.
                Some(kind) if kind.is_dir() && !is_link => self.folder(&path, &name),
                Some(kind) if kind.is_file() => _ = self.found.files.insert(name, path),
                _ => self.found.left_out.push(name),
            }
        }
    }

    /// Whether it is within the folders that were given, wherever links lead.
    fn stays(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|target| self.roots.iter().any(|root| target.starts_with(root)))
    }
}

fn describe(folder: &AddonsFolder, paths: &[PathBuf]) -> ours::Addons {
    let mut modules = BTreeMap::new();
    let mut requirements = BTreeSet::new();
    for path in paths {
        let text = manifest(path).and_then(|path| text(&path)).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = python::Manifest::read(&text);
        requirements.extend(manifest.python);
        modules.insert(name, manifest.version);
    }
    let origin = git::Repository::around(&folder.path);
    let places = [Some(folder.path.clone()), origin.as_ref().map(|origin| origin.root.clone())];
    for place in places.into_iter().flatten() {
        let lines = text(&place.join(REQUIREMENTS)).unwrap_or_default();
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
