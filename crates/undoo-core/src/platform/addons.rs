//! Where an environment's custom modules come from besides its backup: git repositories that somebody has named.

use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    id::EnvironmentId,
    problem::{Kind, Problem, Result},
};

/// What a folder is a module by, in the order in which Odoo looks for it.
pub const MANIFESTS: [&str; 2] = ["__manifest__.py", "__openerp__.py"];

/// More repositories than an environment is made of.
const MOST: usize = 32;
/// Longer than any address, reference or folder.
const LONGEST: usize = 1024;
/// The user where a server wants none but its token: what GitLab asks for, and the others do not mind.
const USER: &str = "oauth2";

/// A git repository with custom modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonsOrigin {
    /// Its address: `https://HOST/PATH`, without user and password.
    pub url: String,
    /// A branch, a tag, or the whole name of a commit; the repository's default branch if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The folder of the repository in which modules are looked for; all of it if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The user that the token belongs to, for servers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// A git repository, and what opens it.
#[derive(Debug, Clone)]
pub struct AddonsSource {
    /// The repository.
    pub origin: AddonsOrigin,
    /// A token or password, for one that is not public.
    pub token: Option<SecretString>,
    /// Whether its server may be this very machine, or one without an address of its own: for whoever administers it.
    pub anywhere: bool,
}

impl PartialEq for AddonsSource {
    fn eq(&self, other: &Self) -> bool {
        let token = |of: &Self| of.token.as_ref().map(|token| token.expose_secret().to_owned());
        self.origin == other.origin && token(self) == token(other) && self.anywhere == other.anywhere
    }
}

impl Eq for AddonsSource {}

/// The repositories of an environment, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddonsRecord {
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The repositories.
    pub origins: Vec<AddonsOrigin>,
    /// The token of each that has one, sealed.
    pub sealed: Vec<u8>,
    /// When they were named.
    pub changed_at: Timestamp,
}

impl AddonsOrigin {
    /// A repository as people write it on one line: `URL`, or `URL#REFERENCE`.
    pub fn parse(text: &str) -> Self {
        let (url, reference) = match text.split_once('#') {
            Some((url, reference)) => (url, Some(reference.to_owned())),
            None => (text, None),
        };
        Self { url: url.to_owned(), reference, folder: None, username: None }
    }

    /// The server's name or address.
    pub fn host(&self) -> Option<&str> {
        let rest = self.url.strip_prefix("https://").or_else(|| self.url.strip_prefix("http://"))?;
        let authority = rest.split(['/', '?']).next()?;
        let host = match authority.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?.0,
            None => authority.split(':').next()?,
        };
        (!host.is_empty()).then_some(host)
    }

    /// The repository's name: the last part of its address, without `.git`.
    pub fn name(&self) -> &str {
        let path = self.url.trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last)
    }

    /// The user that is told to the server with a token.
    pub fn user(&self) -> &str {
        self.username.as_deref().unwrap_or(USER)
    }

    /// The folder in which modules are looked for, as the parts of its path.
    pub fn folder_parts(&self) -> impl Iterator<Item = &str> {
        let folder = self.folder.as_deref().unwrap_or_default();
        folder.split('/').filter(|part| !part.is_empty() && *part != ".")
    }

    /// # Errors
    /// `addons_origin` (`Invalid`) for what names no repository that could be fetched.
    fn check(&self, has_token: bool) -> Result<()> {
        let bad = |why: &str, remedy: &str| {
            let message = format!("the git repository \"{}\" {why}", self.shown());
            Err(Problem::new(Kind::Invalid, "addons_origin", message, remedy))
        };
        let longest =
            [Some(&self.url), self.reference.as_ref(), self.folder.as_ref(), self.username.as_ref()]
                .into_iter()
                .flatten()
                .map(String::len)
                .max();
        if longest > Some(LONGEST) {
            return bad("has an address, reference or folder that is too long", "Give a shorter one.");
        }
        let Some(host) = self.host() else {
            return bad(
                "is not one that is fetched by HTTPS",
                "Give its address as https://HOST/PATH, and a token where it is not public: SSH is not spoken.",
            );
        };
        let authority = self.url.split('/').nth(2).unwrap_or_default();
        if authority.contains('@') {
            return bad("has a user or password in its address", "Give them apart, as user and token.");
        }
        let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '\\');
        let name = self.name();
        if self.url.contains(is_odd) || name.is_empty() || name == authority || name.starts_with('.') {
            return bad("has an address that names no repository", "Give its address as https://HOST/PATH.");
        }
        if has_token && self.url.starts_with("http://") && !is_loopback(host) {
            return bad(
                "would be told its token without encryption",
                "Give its address as https://HOST/PATH.",
            );
        }
        if self.reference.as_deref().is_some_and(|reference| !names_a_reference(reference)) {
            return bad("cannot have such a reference", "Name a branch, a tag, or a whole commit.");
        }
        if self.folder_parts().any(|part| part == ".." || part.contains(char::is_control)) {
            return bad("has no such folder", "Name a folder of the repository, without `..`.");
        }
        if self.user().contains(|c: char| c.is_control() || c == ':') {
            return bad("cannot have such a user", "Give the user that the token belongs to.");
        }
        Ok(())
    }

    /// The address without what may be a password.
    fn shown(&self) -> String {
        match self.url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, rest)) => format!("{scheme}://{rest}"),
            None => self.url.clone(),
        }
    }
}

impl AddonsSource {
    /// Whether all of these could be fetched.
    ///
    /// # Errors
    /// `addons_origin` (`Invalid`) for what names no repository, is named twice, or is too many.
    pub fn check(sources: &[Self]) -> Result<()> {
        for source in sources {
            source.origin.check(source.token.is_some())?;
        }
        let invalid = |message: String, remedy| Problem::new(Kind::Invalid, "addons_origin", message, remedy);
        if sources.len() > MOST {
            let message = format!("{} git repositories are named, and {MOST} are taken", sources.len());
            return Err(invalid(message, "Name those that the environment needs."));
        }
        let twice = sources.iter().enumerate().find(|(at, source)| {
            let same = |other: &&Self| {
                other.origin.url == source.origin.url && other.origin.folder == source.origin.folder
            };
            sources[..*at].iter().any(|other| same(&other))
        });
        match twice {
            Some((_, source)) => {
                let message = format!("the git repository \"{}\" is named twice", source.origin.url);
                Err(invalid(message, "Name it once."))
            }
            None => Ok(()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What git takes for the name of a branch, a tag or a commit (`git check-ref-format`).
fn names_a_reference(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains(is_odd)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.split('/').any(bad_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, token: Option<&str>) -> Result<(), String> {
        let source =
            AddonsSource { origin: AddonsOrigin::parse(text), token: token.map(Into::into), anywhere: true };
        AddonsSource::check(&[source]).map_err(|problem| problem.message)
    }

    #[test]
    fn what_is_fetched_by_https_is_taken_and_nothing_else_is() {
        for good in [
            "https://github.com/OCA/web.git#19.0",
            "https://git.example:8443/a/b#refs/tags/v1",
            "http://[::1]:3000/a/b",
            "https://h/a#0123456789012345678901234567890123456789",
        ] {
            assert_eq!(checked(good, None), Ok(()), "{good}");
        }
        for bad in [
            "git@github.com:OCA/web.git",
            "ssh://git@h/x",
            "file:///srv/x",
            "/srv/x",
            "https://",
            "https://h",
            "https://h/",
            "https://h/..",
            "https://h/a b",
            "https://h/a#",
            "https://h/a#--upload-pack=x",
            "https://h/a#a..b",
            "https://h/a#x y",
            "https://h/a#a.lock",
        ] {
            assert!(checked(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_part_of_an_address_nor_told_in_the_clear() {
        let told = checked("https://me:geheim@h/a", None).unwrap_err();
        assert!(told.contains("user or password") && !told.contains("geheim"), "{told}");
        assert!(checked("http://git.example/a", Some("t")).is_err());
        assert_eq!(checked("http://127.0.0.1:8080/a", Some("t")), Ok(()));
        assert_eq!(checked("https://git.example/a", Some("t")), Ok(()));
    }

    #[test]
    fn a_repository_is_named_once_unless_for_another_folder_of_it() {
        let source = |folder: &str| AddonsSource {
            origin: AddonsOrigin { folder: Some(folder.to_owned()), ..AddonsOrigin::parse("https://h/a") },
            token: None,
            anywhere: true,
        };
        assert!(AddonsSource::check(&[source("x"), source("y")]).is_ok());
        assert!(AddonsSource::check(&[source("x"), source("x")]).is_err());
        assert!(AddonsSource::check(&[source("x/../../y")]).is_err());
    }

    #[test]
    fn names_and_hosts_are_read_off_the_address() {
        let origin = AddonsOrigin::parse("https://git.example:8443/acme/web.git/#v1");
        assert_eq!((origin.name(), origin.host()), ("web", Some("git.example")));
        assert_eq!(AddonsOrigin::parse("http://[::1]:80/x").host(), Some("::1"));
    }
}
