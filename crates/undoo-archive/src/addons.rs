//! Custom modules of a backup, as one folder that Odoo finds them in.
//!
//! A backup of ours has them below `addons/FOLDER/`, with a folder for each that `addons_path` named. Put
//! together, the first of two modules with one name counts, as it does for Odoo.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use sha2::{Digest as _, Sha256};
use undoo_core::{Kind, Problem, Result};

use crate::{
    Backup,
    error::problem_of,
    manifest::ours::{self, SignatureState},
    write::TreeDigest,
};

/// What a backup's folder of modules is, if it is one module itself.
const MANIFESTS: [&str; 2] = ["__manifest__.py", "__openerp__.py"];
/// What a folder asks for; the backup's manifest has it, too.
const REQUIREMENTS: &str = "requirements.txt";

/// The modules, and what they ask for.
#[derive(Debug)]
pub struct Modules {
    /// The files by their members' names, and where each goes; `None` for one that another one hides.
    files: BTreeMap<String, (usize, Option<String>)>,
    record: Option<ours::TreeRecord>,
    /// Python packages, and the folder whose modules ask for them.
    requirements: Vec<(String, Vec<String>)>,
    /// Names of the modules, each with the folder that it is in.
    names: BTreeMap<String, String>,
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
            names: BTreeMap::new(),
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
            found.take(folder, &members);
        }
        Some(found)
    }

    /// Files of a folder, unless the module that they belong to is there already.
    fn take(&mut self, folder: &str, members: &BTreeMap<String, usize>) {
        let prefix = format!("addons/{folder}/");
        let is_module = MANIFESTS.iter().any(|manifest| members.contains_key(&format!("{prefix}{manifest}")));
        let mut here = BTreeSet::new();
        for (name, member) in
            members.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix))
        {
            let below = &name[prefix.len()..];
            let path = if is_module { format!("{folder}/{below}") } else { below.to_owned() };
            let top = path.split_once('/').map(|(top, _)| top.to_owned());
            let is_hidden = top.as_ref().is_some_and(|top| self.names.contains_key(top));
            // Packages lie in folders of one name, and are not hidden by each other.
            let is_package = path.ends_with(".whl");
            let goes = (!is_hidden || is_package) && path != REQUIREMENTS;
            self.files.insert(name.clone(), (*member, goes.then_some(path)));
            here.extend(top.filter(|_| !is_package));
        }
        self.names.extend(here.into_iter().map(|name| (name, folder.to_owned())));
    }

    /// The same without modules that are to come from elsewhere, and without what only their folders ask for;
    /// `None` if no module is left.
    #[must_use]
    pub fn without(mut self, names: &BTreeSet<String>) -> Option<Self> {
        if names.is_empty() {
            return Some(self);
        }
        self.names.retain(|name, _| !names.contains(name));
        for (_, path) in self.files.values_mut() {
            let is_other = |path: &String| match path.split_once('/') {
                Some((top, _)) => names.contains(top),
                None => false,
            };
            *path = path.take().filter(|path| !is_other(path));
        }
        let is_left = |folder: &String| self.names.values().any(|of| of == folder);
        self.requirements.retain(|(folder, _)| is_left(folder));
        (!self.names.is_empty()).then_some(self)
    }

    /// Names of the modules, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
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
