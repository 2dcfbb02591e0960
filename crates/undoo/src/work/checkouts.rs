//! Custom modules out of git repositories: fetched to this machine, and looked through, before anything is put
//! anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use undoo_archive::manifest::ours::Addons;
use undoo_control::plane::FetchedAddons;
use undoo_core::{Kind, Problem, Result, platform::AddonsSource};
use undoo_engine::backup::{AddonsFolder, collect};
use undoo_git::Limits;
use undoo_storage::Reach;

use crate::{caller::Caller, interrupt::cancelled};

/// What a folder is a module by.
const MANIFESTS: [&str; 2] = ["__manifest__.py", "__openerp__.py"];
/// What one repository may need of this machine's disk, and how long it may take.
const LIMITS: Limits =
    Limits { bytes: 4 << 30, file: 256 << 20, patience: Duration::from_secs(1800), allows: elsewhere };

/// Modules of several repositories; of two with one name, that of the first.
#[derive(Debug, Default)]
pub struct Checkouts {
    /// Where each file is, by its path below Odoo's folder.
    files: BTreeMap<String, PathBuf>,
    modules: BTreeSet<String>,
    requirements: Vec<String>,
    fetched: Vec<FetchedAddons>,
    /// Where all of it is, as long as it is needed.
    _folder: Option<TempDir>,
}

impl Checkouts {
    /// Where each file is, by its path below Odoo's folder.
    pub fn files(&self) -> &BTreeMap<String, PathBuf> {
        &self.files
    }

    /// Names of the modules.
    pub fn modules(&self) -> &BTreeSet<String> {
        &self.modules
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
            self.modules.extend(here.iter().cloned());
            modules.extend(here);
        }
        let url = source.origin.url.clone();
        self.fetched.push(FetchedAddons { url, commit, modules: modules.into_iter().collect() });
        addons.left_out
    }

    /// Takes in a folder's modules, but those that are there already; answers which.
    fn take_folder(&mut self, folder: &Addons, files: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
        let prefix = format!("{}/", folder.folder);
        let is_module = MANIFESTS.iter().any(|name| files.contains_key(&format!("{prefix}{name}")));
        let itself = folder.modules.keys().next().filter(|_| is_module);
        let mut here = BTreeSet::new();
        let below = files.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        for (name, path) in below {
            let rest = &name[prefix.len()..];
            let goes = itself.map_or_else(|| rest.to_owned(), |module| format!("{module}/{rest}"));
            let Some((top, _)) = goes.split_once('/') else { continue };
            // Packages lie in folders of one name, and are not hidden by each other.
            let is_package = goes.ends_with(".whl");
            if !is_package && self.modules.contains(top) {
                continue;
            }
            here.extend((!is_package).then(|| top.to_owned()));
            self.files.entry(goes).or_insert_with(|| path.clone());
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
    let folder = tempfile::tempdir().map_err(no_folder)?;
    for (number, source) in sources.iter().enumerate() {
        // Two repositories may have one name.
        let into = folder.path().join(number.to_string());
        let origin = &source.origin;
        caller.say(format!("fetching modules from {}", origin.url));
        let (fetched, folders) = one(source.clone(), into, caller).await?;
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

fn elsewhere(address: IpAddr) -> bool {
    Reach::Elsewhere.allows(address)
}

fn anywhere(_: IpAddr) -> bool {
    true
}

async fn one(
    source: AddonsSource,
    into: PathBuf,
    caller: Caller<'_>,
) -> Result<(undoo_git::Fetched, Vec<PathBuf>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let fetching = tokio::task::spawn_blocking(move || {
        std::fs::create_dir(&into).map_err(no_folder)?;
        let limits = Limits { allows: if source.anywhere { anywhere } else { elsewhere }, ..LIMITS };
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
