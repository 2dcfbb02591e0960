//! What every storage can do, whatever its protocol: the words that the engine and the control plane use.
//!
//! Keys are relative to the storage's root and have `/` between their parts. Nothing is ever seen under a
//! key before all of it is there, and what is broken off leaves nothing under it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use secrecy::SecretString;
use undoo_core::{Kind, Problem, Result};

use crate::{folder::Entry, object::Object, options::Options, upload::Upload};

/// A place for objects: a folder, a bucket or a part of one, a directory on a server.
///
/// Every call can be dropped at any time, and ends by itself when [`Options::cancel`] is. Errors that pass
/// by waiting were waited for, as [`Options::retry`] says; [`Problem::is_permanent`] tells the others.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Its address, without secrets.
    fn place(&self) -> &str;

    /// The address of an object in it, without secrets.
    fn place_of(&self, key: &str) -> String {
        format!("{}{key}", self.place())
    }

    /// The options that it was opened with.
    fn options(&self) -> &Options;

    /// Begins to write an object, over one that may be there. Nothing is sent before there is something to
    /// send. `expected` is about how many bytes will come, if that is known: an object far larger than the
    /// default parts allow for begins with larger ones.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that cannot be one.
    fn write(&self, key: &str, expected: Option<u64>) -> Result<Upload>;

    /// Goes on with an upload that was [kept](Upload::keep), at the byte after the last that the storage has of
    /// it ([`Upload::written`]). `expected` is as it was for [`Storage::write`]. Whoever else still writes to it
    /// writes the same bytes, or spoils it.
    ///
    /// # Errors
    /// `upload_gone` when the storage does not know it any more: it was finished, or removed.
    async fn resume(&self, key: &str, id: &str, expected: Option<u64>) -> Result<Upload>;

    /// What lies under a key, if anything does.
    ///
    /// # Errors
    /// When that cannot be found out.
    async fn stat(&self, key: &str) -> Result<Option<Stat>>;

    /// Opens an object for ranged reads, pinned to the version found.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    async fn open(&self, key: &str) -> Result<Arc<Object>>;

    /// Every object whose key begins with `prefix` (empty, or whole parts and a slash), sorted by key.
    /// What is still being written is not among them.
    ///
    /// # Errors
    /// When it cannot be listed, or there are more than two million.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Removes an object; that it is not there is no error.
    ///
    /// # Errors
    /// When it is or may be still there.
    async fn delete(&self, key: &str) -> Result<()>;

    /// An address by which anybody may fetch the object with a plain GET until it expires; `None` where
    /// the storage has no such thing. It is as secret as what it leads to. Whether the object is there
    /// is not looked at. S3 allows at most seven days.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that cannot be one.
    async fn presign(&self, key: &str, _expires: Duration) -> Result<Option<SecretString>> {
        check_key(key)?;
        Ok(None)
    }

    /// Until when the provider refuses to remove an object; `None` where it would. S3 tells it to those with
    /// the right `s3:GetObjectRetention` only. A legal hold, which has no end, counts as one of a thousand
    /// years.
    ///
    /// # Errors
    /// When that cannot be found out.
    async fn locked_until(&self, key: &str) -> Result<Option<SystemTime>> {
        check_key(key)?;
        Ok(None)
    }

    /// Whether backups can be locked as the storage's settings want it; `false` where they want nothing.
    ///
    /// # Errors
    /// `object_lock_missing` where it cannot; when that cannot be found out.
    async fn check_lock(&self) -> Result<bool> {
        Ok(false)
    }

    /// What unfinished writing has left under `prefix`, also that of processes which are dead: multipart
    /// uploads, temporary files. A write that is going on is among them. MinIO answers only for a prefix
    /// that is the whole key.
    ///
    /// # Errors
    /// When it cannot be listed.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>>;

    /// Removes what unfinished writing has left; that it is not there is no error.
    ///
    /// # Errors
    /// When it is or may be still there.
    async fn discard(&self, unfinished: &Unfinished) -> Result<()>;
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Length in bytes.
    pub size: u64,
    /// As [`Object::version`].
    pub version: Option<String>,
    /// When it was written, by the storage's clock.
    pub modified: Option<SystemTime>,
}

/// Something that began to be written and was not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that it would have got.
    pub key: String,
    /// The id of the upload, or the name of the temporary file.
    pub id: String,
    /// When it began or was last written to, by the storage's clock.
    pub started: Option<SystemTime>,
}

/// The key of a file of a backup: `backups/{org}/{env}/{name}`. The one place that makes such keys.
///
/// # Errors
/// [`Kind::Invalid`] when one of the three is empty, `.` or `..`, or has a slash or a control character.
pub fn backup_key(org: &str, env: &str, name: &str) -> Result<String> {
    for part in [org, env, name] {
        if part.contains('/') || !is_plain(part) {
            return Err(invalid_key(part));
        }
    }
    Ok(format!("{}{name}", backup_prefix(org, env)))
}

/// What the keys of all backups begin with.
pub const BACKUPS: &str = "backups/";

/// What the keys of an environment's backups begin with; see [`backup_key`].
pub fn backup_prefix(org: &str, env: &str) -> String {
    format!("{BACKUPS}{org}/{env}/")
}

/// The three parts of a key that [`backup_key`] made, if it is one: organisation, environment, name.
pub fn backup_parts(key: &str) -> Option<(&str, &str, &str)> {
    let (org, rest) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    let (env, name) = rest.split_once('/')?;
    [org, env, name].iter().all(|part| !part.contains('/') && is_plain(part)).then_some((org, env, name))
}

/// Refuses keys that would mean something else, or nothing, on one of the storages.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.len() <= 1024 && key.split('/').all(is_plain) && temporary_of(key).is_none() {
        Ok(())
    } else {
        Err(invalid_key(key))
    }
}

/// As [`check_key`], for what keys begin with.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(folder) => check_key(folder),
        None if prefix.is_empty() => Ok(()),
        None => Err(invalid_key(prefix)),
    }
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control)
}

fn invalid_key(key: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "invalid_key",
        format!("{key:?} is not the key of an object"),
        "Keys have parts with slashes between them, none of them empty, `.`, `..` or with control characters.",
    )
}

/// The name under which an object grows where there are only files: beside its place, so that a rename
/// is all that is left to do.
pub(crate) fn temporary(key: &str) -> String {
    format!("{key}.{:016x}.part", fastrand::u64(..))
}

/// The key that a temporary file was to get, if it is one of ours.
pub(crate) fn temporary_of(name: &str) -> Option<&str> {
    let (key, random) = name.strip_suffix(".part")?.rsplit_once('.')?;
    let ours = random.len() == 16 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (ours && !key.is_empty()).then_some(key)
}

/// Only what is named as ours are is written to again.
pub(crate) fn check_kept(key: &str, id: &str) -> Result<()> {
    check_temporary(&Unfinished { key: key.to_owned(), id: id.to_owned(), started: None })
}

/// Only what is named as ours are is removed.
pub(crate) fn check_temporary(unfinished: &Unfinished) -> Result<()> {
    let ours = temporary_of(&unfinished.id) == Some(&unfinished.key) && check_key(&unfinished.key).is_ok();
    if ours {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Invalid,
        "invalid_key",
        format!("{:?} is not the name of an unfinished object", unfinished.id),
        "Give what the list of unfinished objects has.",
    ))
}

/// What [`Storage::list`] answers where unfinished objects are files among the others.
pub(crate) fn finished_of(found: Vec<(Entry, Option<SystemTime>)>) -> Vec<Entry> {
    let entries = found.into_iter().map(|(entry, _)| entry);
    entries.filter(|entry| temporary_of(&entry.name).is_none()).collect()
}

/// What [`Storage::unfinished`] answers there.
pub(crate) fn unfinished_of(found: Vec<(Entry, Option<SystemTime>)>) -> Vec<Unfinished> {
    let unfinished = |(entry, started): (Entry, _)| {
        let key = temporary_of(&entry.name)?.to_owned();
        Some(Unfinished { key, id: entry.name, started })
    };
    found.into_iter().filter_map(unfinished).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_three_parts_that_cannot_lead_elsewhere() {
        assert_eq!(backup_key("acme", "env-1", "b.zip").expect("a key"), "backups/acme/env-1/b.zip");
        assert_eq!(backup_parts("backups/acme/env-1/b.zip"), Some(("acme", "env-1", "b.zip")));
        for key in ["b.zip", "backups/acme/b.zip", "backups//e/n", "backups/o/e/n/x", "x/backups/o/e/n"] {
            assert_eq!(backup_parts(key), None, "{key}");
        }
        for (org, env, name) in [("", "e", "n"), ("o", "..", "n"), ("o", "e", "a/b"), ("o", "e", "a\n")] {
            assert_eq!(backup_key(org, env, name).expect_err(name).code, "invalid_key");
        }
    }

    #[test]
    fn a_temporary_name_is_known_by_its_form_and_others_are_not() {
        assert_eq!(temporary_of(&temporary("a/b.zip")), Some("a/b.zip"));
        for name in ["b.zip", "b.part", "b.0123.part", "b.0123456789abcdeg.part", ".0123456789abcdef.part"] {
            assert_eq!(temporary_of(name), None, "{name}");
        }
    }

    #[test]
    fn keys_that_lead_out_or_look_unfinished_are_refused() {
        for key in ["", "/a", "a/", "a//b", "a/../b", "a\r\nDELE b", "a.0123456789abcdef.part"] {
            assert_eq!(check_key(key).expect_err(key).code, "invalid_key");
        }
        for prefix in ["", "a/", "a/b/"] {
            check_prefix(prefix).expect(prefix);
        }
        assert!(check_prefix("a").is_err());
    }
}
