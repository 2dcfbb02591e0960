//! What the tests of this crate share.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use tempfile::TempDir;
use undoo_core::{
    Problem,
    platform::{AddonsOrigin, AddonsSource},
};
use undoo_git::{Fetched, Limits};
use undoo_storage::Reach;
use undoo_testing::git::Repository;

pub const MANIFEST: &str = "{'name': 'x'}";

pub const LIMITS: Limits =
    Limits { bytes: 10_000_000, file: 10_000_000, patience: Duration::from_secs(30), reach: Reach::Anywhere };

/// A folder, and what was fetched into it.
pub struct Got {
    pub folder: TempDir,
    pub origin: AddonsOrigin,
    pub fetched: Result<Fetched, Problem>,
}

pub fn origin(repository: &Repository, reference: Option<&str>) -> AddonsOrigin {
    AddonsOrigin { reference: reference.map(str::to_owned), ..AddonsOrigin::parse(&repository.url) }
}

pub fn fetch(origin: AddonsOrigin, token: Option<&str>, limits: Limits) -> Got {
    let folder = tempfile::tempdir().unwrap();
    let source = AddonsSource { origin: origin.clone(), token: token.map(Into::into), anywhere: true };
    let fetched = undoo_git::fetch(&source, folder.path(), &AtomicBool::new(false), limits);
    let got = Got { folder, origin, fetched };
    if let Err(problem) = &got.fetched {
        let all = format!("{problem:?}");
        assert!(token.is_none_or(|token| !all.contains(token)), "{all}");
        assert!(problem.remedy.ends_with('.') && problem.message.contains(&got.origin.url), "{all}");
        assert_eq!(got.names(""), Vec::<String>::new(), "what was begun is gone");
    }
    got
}

pub fn plain(repository: &Repository, reference: Option<&str>) -> Got {
    fetch(origin(repository, reference), None, LIMITS)
}

impl Got {
    #[track_caller]
    pub fn ok(&self) -> &Fetched {
        self.fetched.as_ref().unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    #[track_caller]
    pub fn code(&self) -> &'static str {
        self.fetched.as_ref().map_or_else(|problem| problem.code, |fetched| panic!("{fetched:?}"))
    }

    pub fn message(&self) -> &str {
        self.fetched.as_ref().map_or_else(|problem| problem.message.as_str(), |_| "")
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.ok().root.join(path)).unwrap()
    }

    /// What is in a folder of the folder that was given.
    pub fn names(&self, path: &str) -> Vec<String> {
        names(&self.folder.path().join(path))
    }

    /// Where the modules are, below the repository.
    pub fn folders(&self) -> Result<Vec<PathBuf>, Problem> {
        let fetched = self.ok();
        let below = |path: PathBuf| path.strip_prefix(&fetched.root).unwrap().to_owned();
        Ok(fetched.folders(&self.origin)?.into_iter().map(below).collect())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
