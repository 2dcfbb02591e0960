//! Where a folder came from, out of git's own files; git itself is not needed and not run.

use std::path::{Path, PathBuf};

use undoo_archive::manifest::ours::GitOrigin;

use super::text;

/// How far above a folder its repository may begin.
const HIGHEST: usize = 3;

/// A working copy.
pub(super) struct Repository {
    /// Its topmost folder.
    pub(super) root: PathBuf,
    /// Its own git directory, with `HEAD`.
    directory: PathBuf,
    /// The one that it shares with other working copies, with `config` and branches.
    common: PathBuf,
}

impl Repository {
    /// The working copy that a folder is in, if it is in one.
    pub(super) fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().take(HIGHEST + 1).find_map(|root| {
            let dot_git = root.join(".git");
            // In a submodule or a second working copy it is a file that names the directory.
            let directory = match text(&dot_git) {
                Some(text) => root.join(text.strip_prefix("gitdir:")?.trim()),
                None => dot_git,
            };
            directory.join("HEAD").is_file().then(|| {
                let shared = text(&directory.join("commondir"));
                let common = shared.map_or_else(|| directory.clone(), |shared| directory.join(shared.trim()));
                Self { root: root.to_owned(), directory, common }
            })
        })
    }

    /// The remote `origin`, else the first, with what is checked out.
    pub(super) fn origin(&self) -> Option<GitOrigin> {
        let head = text(&self.directory.join("HEAD"))?;
        let (branch, commit) = match head.trim().strip_prefix("ref: ") {
            Some(name) => (name.strip_prefix("refs/heads/").map(str::to_owned), self.commit_of(name)?),
            None => (None, head.trim().to_owned()),
        };
        let url = url(&text(&self.common.join("config"))?)?;
        let known = |c: char| c.is_ascii_hexdigit();
        commit.chars().all(known).then(|| GitOrigin { url: without_user(&url), branch, commit })
    }

    fn commit_of(&self, name: &str) -> Option<String> {
        // The name is from a file of git's, and has no business elsewhere.
        if name.split('/').any(|part| part.is_empty() || part == "..") {
            return None;
        }
        if let Some(commit) = text(&self.common.join(name)) {
            return Some(commit.trim().to_owned());
        }
        let packed = text(&self.common.join("packed-refs"))?;
        packed.lines().find_map(|line| {
            let (commit, found) = line.split_once(' ')?;
            (found == name).then(|| commit.to_owned())
        })
    }
}

/// The address of the remote `origin` in git's configuration, else of the first remote.
fn url(config: &str) -> Option<String> {
    let mut remote = None;
    let mut first = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            remote = line.strip_prefix("[remote \"").and_then(|rest| rest.strip_suffix("\"]"));
        } else if let (Some(name), Some((key, value))) = (remote, line.split_once('='))
            && key.trim() == "url"
        {
            let value = value.trim().trim_matches('"').to_owned();
            if name == "origin" {
                return Some(value);
            }
            first.get_or_insert(value);
        }
    }
    first
}

/// An address without user and password; the user of an SSH address stays, being the same for all.
pub(super) fn without_user(address: &str) -> String {
    let Some((before, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some(("git", host)) => format!("{before}://git@{host}{path}"),
        Some((_, host)) => format!("{before}://{host}{path}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_named_without_its_credentials() {
        let config = "[core]\n\tbare = false\n[remote \"fork\"]\n\turl = https://a/b\n\
            [remote \"origin\"]\n\turl = https://user:geheim@git.example/acme/web.git\n\tfetch = +refs\n";
        assert_eq!(without_user(&url(config).unwrap_or_default()), "https://git.example/acme/web.git");
        assert_eq!(without_user("git@git.example:acme/web.git"), "git@git.example:acme/web.git");
        assert_eq!(without_user("ssh://git@h/x"), "ssh://git@h/x");
        assert_eq!(without_user("web @ git+https://t0ken@h/x"), "web @ git+https://h/x");
        assert_eq!(url("[remote \"up\"]\nurl=/srv/x\n").as_deref(), Some("/srv/x"));
        assert_eq!(url("[branch \"x\"]\nurl = y\n"), None);
    }
}
