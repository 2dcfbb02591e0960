//! Custom modules from git repositories, fetched into a folder.
//!
//! Git is spoken over HTTP by a library, so that no program and no configuration of the machine has a say: no
//! helper that knows passwords, no prompt, no filter, no hook. What a server sends is from a stranger: it is
//! bounded in bytes and in time, and becomes nothing but files below the folder that was named.

mod checkout;
mod failure;
mod http;
mod modules;
mod repository;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
    time::Duration,
};

use undoo_core::{Result, platform::AddonsSource};
use undoo_storage::Reach;

use watch::Watch;

/// A repository as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit, in hex digits.
    pub commit: String,
    /// The folder that has its files, and a `.git`.
    pub root: PathBuf,
    submodules: Vec<String>,
}

/// How far a fetch may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that come from the server, and bytes of all files: each may be as many.
    pub bytes: u64,
    /// Bytes of one file, which is in memory while it is written.
    pub file: u64,
    /// How long it may take in all.
    pub patience: Duration,
    /// How far the way to its server may lead.
    pub reach: Reach,
}

/// Fetches one commit of a repository, without those before it, and puts its files into a new folder of `into`
/// that has the repository's name. The folder is gone again when it fails. It blocks, and must not be called
/// on a thread that drives a runtime. `stop` ends it within a moment.
///
/// # Errors
/// `addons_origin` for what cannot be fetched at all; `addons_origin_denied`, `addons_origin_missing`,
/// `addons_reference_missing`, `addons_origin_unreachable`, `addons_origin_out_of_reach`,
/// `addons_origin_too_large`, `addons_origin_timeout`, `addons_origin_unsafe`, `addons_not_written`,
/// `cancelled`.
pub fn fetch(source: &AddonsSource, into: &Path, stop: &AtomicBool, limits: Limits) -> Result<Fetched> {
    AddonsSource::check(std::slice::from_ref(source))?;
    let root = into.join(source.origin.name());
    std::fs::create_dir(&root).map_err(|error| failure::not_written(&source.origin, error))?;
    let watch = Arc::new(Watch::default());
    let fetched = thread::scope(|scope| {
        // Its end, also by a panic, ends the guard.
        let (_at_work, done) = mpsc::channel::<()>();
        let guard = Arc::clone(&watch);
        scope.spawn(move || guard.until(&done, stop, limits.patience, &source.origin));
        repository::fetch(source, &root, limits, &watch)
    });
    match fetched {
        Ok((commit, submodules)) => Ok(Fetched { commit, root, submodules }),
        Err(problem) => {
            // What it leaves is in a folder of the caller's, who removes that.
            let _ = std::fs::remove_dir_all(&root);
            Err(match watch.reason() {
                Some(reason) if reason.source.is_none() => reason.caused_by(problem),
                Some(reason) => reason,
                None => problem,
            })
        }
    }
}
