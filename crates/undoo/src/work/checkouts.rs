//! Custom modules out of git repositories: fetched to this machine, and looked through, before anything is put
//! anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use undoo_archive::{addons::Together, manifest::ours::Addons};
use undoo_control::plane::FetchedAddons;
use undoo_core::{Kind, Problem, Result, platform::AddonsSource};
use undoo_engine::backup::{AddonsFolder, collect};
use undoo_git::Limits;
use undoo_storage::Reach;

use crate::{caller::Caller, interrupt::cancelled};

/// What one repository may need of this machine's disk, and how long it may take.
const LIMITS: Limits =
    Limits { bytes: 4 << 30, file: 256 << 20, patience: Duration::from_secs(1800), reach: Reach::Elsewhere };

/// Modules of several repositories; of two with one name, that of the first.
#[derive(Debug, Default)]
pub struct Checkouts {
    /// Where each file is, by its path below Odoo's folder.
    files: BTreeMap<String, PathBuf>,
    modules: Together,
    requirements: Vec<String>,
    fetched: Vec<FetchedAddons>,
    /// Where all of it is, as long as it is needed.
    _folder: Option<Arc<TempDir>>,
}

impl Checkouts {
    /// Where each file is, by its path below Odoo's folder.
    pub fn files(&self) -> &BTreeMap<String, PathBuf> {
        &self.files
    }

    /// Names of the modules.
    pub fn modules(&self) -> BTreeSet<String> {
        self.modules.names().map(str::to_owned).collect()
    }

    /// Python packages that they ask for, a line each.
    pub fn requirements(&self) -> &[String] {
        &self.requirements
    }

    /// What was fetched, in the order in which it was named.
    pub fn fetched(&self) -> &[FetchedAddons] {
        &self.fetched
    }

    /// Takes in what a repository has; answers what was left out of it.
    fn take(&mut self, source: &AddonsSource, commit: String, folders: Vec<PathBuf>) -> Vec<String> {
        let addons = collect(&AddonsFolder::named(folders));
        let mut modules = BTreeSet::new();
        for folder in &addons.folders {
            let here = self.take_folder(folder, &addons.files);
            if !here.is_empty() {
                self.requirements.extend(folder.requirements.iter().cloned());
            }
            modules.extend(here);
        }
        let url = source.origin.url.clone();
        self.fetched.push(FetchedAddons { url, commit, modules: modules.into_iter().collect() });
        addons.left_out
    }

    /// Takes in a folder's modules, but those that are there already; answers which.
    fn take_folder(&mut self, folder: &Addons, files: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
        let itself = folder.modules.keys().next().unwrap_or(&folder.folder);
        let mut here = BTreeSet::new();
        for (_, file, path) in self.modules.add("", &folder.folder, itself, files) {
            let Some(path) = path else { continue };
            let top = path.split_once('/').filter(|_| !path.ends_with(".whl"));
            here.extend(top.map(|(top, _)| top.to_owned()));
            self.files.entry(path).or_insert_with(|| file.clone());
        }
        here
    }
}

/// Fetches repositories, one after another.
///
/// # Errors
/// Those of `undoo_git`; `cancelled`.
pub async fn fetch(sources: &[AddonsSource], caller: Caller<'_>) -> Result<Checkouts> {
    let mut checkouts = Checkouts::default();
    if sources.is_empty() {
        return Ok(checkouts);
    }
    let folder = Arc::new(tempfile::tempdir().map_err(no_folder)?);
    for (number, source) in sources.iter().enumerate() {
        let origin = &source.origin;
        caller.say(format!("fetching modules from {}", origin.url));
        let (fetched, folders) = one(source.clone(), (&folder, number), caller).await?;
        for submodule in fetched.submodules() {
            caller.say(format!("the submodule {submodule} of {} is not fetched: name it, too", origin.url));
        }
        let commit = fetched.commit.clone();
        for left_out in checkouts.take(source, fetched.commit, folders) {
            caller.say(format!("{left_out} of {} was left out: it leads elsewhere", origin.url));
        }
        let names = checkouts.fetched.last().map(|fetched| fetched.modules.join(", ")).unwrap_or_default();
        caller.say(format!("fetched {} at {commit}: {names}", origin.url));
    }
    checkouts._folder = Some(folder);
    Ok(checkouts)
}

async fn one(
    source: AddonsSource,
    (folder, number): (&Arc<TempDir>, usize),
    caller: Caller<'_>,
) -> Result<(undoo_git::Fetched, Vec<PathBuf>)> {
    let stop = Arc::new(AtomicBool::new(false));
    // Whoever is the last one at the folder removes it: this fetch, where nobody waits for it any more.
    let (stopped, folder) = (Arc::clone(&stop), Arc::clone(folder));
    let fetching = tokio::task::spawn_blocking(move || {
        // Two repositories may have one name.
        let into = folder.path().join(number.to_string());
        std::fs::create_dir(&into).map_err(no_folder)?;
        let reach = if source.anywhere { Reach::Anywhere } else { LIMITS.reach };
        let limits = Limits { reach, ..LIMITS };
        let fetched = undoo_git::fetch(&source, &into, &stopped, limits)?;
        let folders = fetched.folders(&source.origin)?;
        Ok((fetched, folders))
    });
    let ended = Ended(stop);
    let fetched = tokio::select! {
        fetched = fetching => fetched,
        () = caller.stop.asked() => return Err(cancelled()),
    };
    drop(ended);
    fetched.map_err(|error| {
        Problem::new(Kind::Internal, "worker", "fetching modules broke off", "please report this")
            .caused_by(error)
    })?
}

/// Stops what nobody waits for any more.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn no_folder(error: std::io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "no_scratch_folder",
        format!("no folder could be made in {} for what is fetched", std::env::temp_dir().display()),
        "Make it writable, or name another one with TMPDIR.",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::fs;

    use undoo_core::platform::AddonsOrigin;

    use super::*;

    /// Takes what a repository has: its folders with modules, by the files in them.
    fn take(checkouts: &mut Checkouts, url: &str, folders: &[&str], files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, if file.ends_with("requirements.txt") { url } else { "{}" }).unwrap();
        }
        let source = AddonsSource { origin: AddonsOrigin::parse(url), token: None, anywhere: false };
        let folders = folders.iter().map(|folder| root.path().join(folder)).collect();
        assert!(checkouts.take(&source, "c".into(), folders).is_empty());
        root
    }

    #[test]
    fn modules_of_repositories_and_folders_become_one_and_the_first_of_a_name_counts() {
        let mut checkouts = Checkouts::default();
        let first = [
            "a/shop/__manifest__.py",
            "a/requirements.txt",
            "a/lib-1-py3-none-any.whl",
            "b/shop/__manifest__.py",
            "b/shop/hidden.py",
            "b/requirements.txt",
            "b/wheels/lib-2-py3-none-any.whl",
        ];
        let _one = take(&mut checkouts, "https://h/one", &["a", "b"], &first);
        let second =
            ["shop/__manifest__.py", "x/club/__openerp__.py", "club/__manifest__.py", "club/models/m.py"];
        let _two = take(&mut checkouts, "https://h/two", &["", "x"], &second);
        let _three = take(&mut checkouts, "https://h/three", &["deep/lone"], &["deep/lone/__manifest__.py"]);
        let files: Vec<&str> = checkouts.files().keys().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "club/__manifest__.py",
                "club/models/m.py",
                "lib-1-py3-none-any.whl",
                "lone/__manifest__.py",
                "shop/__manifest__.py",
                "wheels/lib-2-py3-none-any.whl",
            ]
        );
        assert_eq!(
            checkouts.requirements(),
            ["https://h/one"],
            "of a folder that is hidden nothing is asked for"
        );
        let modules = |at: usize| checkouts.fetched()[at].modules.join(" ");
        assert_eq!([modules(0), modules(1), modules(2)], ["shop", "club", "lone"]);
        assert_eq!(checkouts.modules().into_iter().collect::<Vec<_>>(), ["club", "lone", "shop"]);
    }

    #[test]
    fn a_module_in_a_folder_of_a_taken_name_keeps_its_own() {
        let mut checkouts = Checkouts::default();
        let files = ["x/shop/__manifest__.py", "y/shop/__manifest__.py", "y/shop/sub.py"];
        let _root = take(&mut checkouts, "https://h/one", &["y/shop", "x/shop"], &files);
        let found: Vec<&str> = checkouts.files().keys().map(String::as_str).collect();
        assert_eq!(found, ["shop/__manifest__.py", "shop/sub.py"]);
    }
}
