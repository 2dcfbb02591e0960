//! Custom modules of a backup, as one folder that Odoo finds them in.
//!
//! A backup of ours has them below `addons/FOLDER/`, with a folder for each that `addons_path` named. Put
//! together, the first of two modules with one name counts, as it does for Odoo.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use sha2::{Digest as _, Sha256};
use undoo_core::{Kind, Problem, Result, platform::addons::MANIFESTS};

use crate::{
    Backup,
    error::problem_of,
    manifest::ours::{self, SignatureState},
    write::TreeDigest,
};

/// What a folder asks for; the backup's manifest has it, too.
const REQUIREMENTS: &str = "requirements.txt";

/// Modules of several folders put together as Odoo finds them: of two with one name, the first counts. Each name with
/// the folder that it is of.
#[derive(Debug, Default)]
pub struct Together(BTreeMap<String, String>);

impl Together {
    /// Adds a folder, whose files are those of `files` below `before` and its name. Answers of each file its name, and
    /// where it goes: nowhere if another one's module hides it, or if nobody needs it there. A folder that is a module
    /// itself goes by the name of `itself`.
    pub fn add<'a, T>(
        &mut self,
        before: &str,
        folder: &str,
        itself: &str,
        files: &'a BTreeMap<String, T>,
    ) -> Vec<(&'a str, &'a T, Option<String>)> {
        let prefix = format!("{before}{folder}/");
        let is_module = MANIFESTS.iter().any(|manifest| files.contains_key(&format!("{prefix}{manifest}")));
        let (mut here, mut put) = (BTreeSet::new(), Vec::new());
        let within = files.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        for (name, file) in within {
            let below = &name[prefix.len()..];
            let path = if is_module { format!("{itself}/{below}") } else { below.to_owned() };
            let top = path.split_once('/').map(|(top, _)| top.to_owned());
            let is_hidden = top.as_ref().is_some_and(|top| self.0.contains_key(top));
            // Packages lie in folders of one name, and are not hidden by each other.
            let is_package = path.ends_with(".whl");
            let goes = (!is_hidden || is_package) && path != REQUIREMENTS;
            put.push((name.as_str(), file, goes.then_some(path)));
            here.extend(top.filter(|_| !is_package));
        }
        for name in here {
            self.0.entry(name).or_insert_with(|| folder.to_owned());
        }
        put
    }

    /// Names of the modules, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The modules, and what they ask for.
#[derive(Debug)]
pub struct Modules {
    /// The files by their members' names, and where each goes; `None` for one that another one hides.
    files: BTreeMap<String, (usize, Option<String>)>,
    record: Option<ours::TreeRecord>,
    /// Python packages, and the folder whose modules ask for them.
    requirements: Vec<(String, Vec<String>)>,
    names: Together,
    signed_by: Option<String>,
}

impl Modules {
    /// Those of a backup; `None` if it has none. Only our own layout has a place for them.
    pub fn of(backup: &Backup) -> Option<Self> {
        let manifest = backup.manifest.as_ref()?;
        let ours = manifest.undoo.as_deref()?;
        let container = backup.container();
        let members: BTreeMap<String, usize> = (0..container.len())
            .map(|member| (container.name(member).to_owned(), member))
            .filter(|(name, _)| name.starts_with("addons/") && !name.ends_with('/'))
            .collect();
        if members.is_empty() && ours.parts.addons.is_none() {
            return None;
        }
        let mut found = Self {
            files: BTreeMap::new(),
            record: ours.parts.addons.clone(),
            requirements: Vec::new(),
            names: Together::default(),
            signed_by: ours.public_key.clone().filter(|_| manifest.signature == SignatureState::Valid),
        };
        // Folders in the order of `addons_path`, then what the manifest does not tell of.
        let mut folders: Vec<&str> = Vec::new();
        for folder in &ours.environment.addons {
            folders.push(&folder.folder);
            found.requirements.push((folder.folder.clone(), folder.requirements.clone()));
        }
        for name in members.keys().filter_map(|name| name.split('/').nth(1)) {
            if !folders.contains(&name) {
                folders.push(name);
            }
        }
        for folder in folders {
            let put = found.names.add("addons/", folder, folder, &members);
            found
                .files
                .extend(put.into_iter().map(|(name, member, path)| (name.to_owned(), (*member, path))));
        }
        Some(found)
    }

    /// The same without modules that are to come from elsewhere, and without what only their folders ask for;
    /// `None` if no module is left.
    #[must_use]
    pub fn without(mut self, names: &BTreeSet<String>) -> Option<Self> {
        if names.is_empty() {
            return Some(self);
        }
        self.names.0.retain(|name, _| !names.contains(name));
        for (_, path) in self.files.values_mut() {
            let is_other = |path: &String| match path.split_once('/') {
                Some((top, _)) => names.contains(top),
                None => false,
            };
            *path = path.take().filter(|path| !is_other(path));
        }
        let names = &self.names.0;
        self.requirements.retain(|(folder, _)| names.values().any(|of| of == folder));
        (!names.is_empty()).then_some(self)
    }

    /// Names of the modules, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.names()
    }

    /// Python packages that they ask for, a line each, as the backup's manifest has them.
    pub fn requirements(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().flat_map(|(_, lines)| lines).map(String::as_str)
    }

    /// The key whose signature stands for them, hexadecimal; `None` where no signature holds.
    pub fn signed_by(&self) -> Option<&str> {
        self.signed_by.as_deref()
    }

    /// Reads all files and gives those that are to be put: path below Odoo's folder, bytes, content. Only when
    /// this ends well is what was given what the backup's manifest stands for.
    ///
    /// # Errors
    /// `addons_changed` (`Refused`) for files that the manifest does not stand for; otherwise what the container
    /// finds wrong, and what `put` answers.
    pub fn read(
        &self,
        backup: &Backup,
        put: &mut dyn FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        let container = backup.container();
        let mut digest = TreeDigest::default();
        for (name, (member, path)) in &self.files {
            let (size, _) = container.sizes(*member);
            let mut content = Hashing { of: container.read(*member)?, sha256: Sha256::new(), bytes: 0 };
            if let Some(path) = path {
                put(path, size, &mut content).map_err(problem_of)?;
            }
            io::copy(&mut content, &mut io::sink()).map_err(problem_of)?;
            digest.add(name, &content.sha256.finalize().into(), content.bytes);
        }
        if self.record.as_ref() == Some(&digest.end()) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Refused,
            "addons_changed",
            "the custom modules in the backup are not those that its manifest stands for",
            "Find out who changed the backup; another one of the same environment may be whole.",
        ))
    }
}

/// What is read, hashed on its way.
struct Hashing {
    of: Box<dyn Read + Send>,
    sha256: Sha256,
    bytes: u64,
}

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.of.read(out)?;
        self.sha256.update(&out[..len]);
        self.bytes += len as u64;
        Ok(len)
    }
}
