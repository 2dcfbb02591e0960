//! Where the modules lie in what was fetched. No link is followed: a repository may have one to anywhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use undoo_core::{
    Result,
    platform::{AddonsOrigin, addons::MANIFESTS},
};

use crate::{Fetched, failure};

/// How far below the first folder modules are looked for.
const DEEPEST: u32 = 5;

impl Fetched {
    /// The folders of `addons_path`: each has modules, or is a module itself where the folder that was named is
    /// one. Sorted. Hidden folders and what lies in a module are not looked into.
    ///
    /// # Errors
    /// `addons_folder_missing`, `addons_origin_empty`, `addons_not_written`.
    pub fn folders(&self, origin: &AddonsOrigin) -> Result<Vec<PathBuf>> {
        let mut top = self.root.clone();
        for part in origin.folder_parts() {
            top.push(part);
            let is_folder = top.symlink_metadata().is_ok_and(|found| found.is_dir());
            if !is_folder || part == ".git" {
                return Err(failure::folder_missing(origin));
            }
        }
        if is_module(&top) {
            return Ok(vec![top]);
        }
        let mut found = Vec::new();
        search(&top, 0, &mut found).map_err(|error| failure::not_written(origin, error))?;
        found.sort();
        match found.is_empty() {
            true => Err(failure::empty(origin)),
            false => Ok(found),
        }
    }

    /// The paths of its submodules, in order. They are other repositories, and are not fetched.
    pub fn submodules(&self) -> &[String] {
        &self.submodules
    }
}

fn search(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut has_modules = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_hidden || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        if is_module(&path) {
            has_modules = true;
        } else if depth < DEEPEST {
            search(&path, depth + 1, found)?;
        }
    }
    if has_modules {
        found.push(folder.to_owned());
    }
    Ok(())
}

fn is_module(folder: &Path) -> bool {
    MANIFESTS.iter().any(|name| folder.join(name).symlink_metadata().is_ok_and(|found| found.is_file()))
}
