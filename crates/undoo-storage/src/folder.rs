//! A backup kept as a folder: a dump, a manifest and a filestore side by side.

use std::sync::Arc;

use undoo_core::{Kind, Problem, Result};

use crate::{local::LocalFolder, object::Object, storage::Storage};

/// The most files that a folder may hold; a list of so many takes some 200 MB.
pub(crate) const LIST_LIMIT: usize = 2_000_000;

/// A file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the folder, with `/` between the parts. Made by whoever made the backup: it says
    /// where to read, never where to write.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
}

/// A folder on this machine, on a server, or a prefix in a bucket.
pub struct Folder(Inner);

enum Inner {
    Local { folder: LocalFolder, place: String },
    Remote(Arc<dyn Storage>),
}

impl Folder {
    pub(crate) fn local(folder: LocalFolder, place: String) -> Self {
        Self(Inner::Local { folder, place })
    }

    /// All that is in a storage, whose place ends in a slash.
    pub(crate) fn remote(storage: Arc<dyn Storage>) -> Self {
        Self(Inner::Remote(storage))
    }

    /// Its address, without secrets.
    pub fn place(&self) -> &str {
        match &self.0 {
            Inner::Local { place, .. } => place,
            Inner::Remote(storage) => storage.place(),
        }
    }

    /// Every file below the folder, sorted by name.
    ///
    /// # Errors
    /// When it cannot be read, or holds more than two million files.
    pub async fn list(&self) -> Result<Vec<Entry>> {
        match &self.0 {
            Inner::Local { folder, .. } => {
                let folder = folder.clone();
                blocking(move || folder.list()).await
            }
            Inner::Remote(storage) => storage.list("").await,
        }
    }

    /// Opens a file by its name in the list.
    ///
    /// # Errors
    /// When it is missing or unreadable, or the name is not one of a file below the folder.
    pub async fn open(&self, name: &str) -> Result<Arc<Object>> {
        check_name(name, self.place())?;
        match &self.0 {
            Inner::Local { folder, .. } => {
                let (folder, name) = (folder.clone(), name.to_owned());
                let file = blocking(move || folder.open_file(&name)).await?;
                Ok(Arc::new(Object::local(file)))
            }
            Inner::Remote(storage) => storage.open(name).await,
        }
    }

    /// The folder on this machine, if that is where it is.
    pub(crate) fn as_local(&self) -> Option<&LocalFolder> {
        match &self.0 {
            Inner::Local { folder, .. } => Some(folder),
            Inner::Remote(_) => None,
        }
    }
}

/// Runs what waits for a disk where it does not hold up others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::new(
            Kind::Internal,
            "read_aborted",
            "reading a local file was broken off",
            "This is a defect of Undoo: report it with the log.",
        )
        .caused_by(error)),
    }
}

/// Refuses names that are not those of a file below a folder.
pub(crate) fn check_name(name: &str, place: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if name.split('/').all(plain) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Refused,
        "name_leads_out",
        format!("{name:?} is not the name of a file below {place}"),
        "Use another backup: names in an honest one have no empty, `.` or `..` parts.",
    ))
}

/// Neither file nor folder is there.
pub(crate) fn backup_missing(place: &str) -> Problem {
    Problem::new(
        Kind::Missing,
        "backup_missing",
        format!("{place} holds nothing"),
        "Check the address; that of a single object in S3 does not end in a slash.",
    )
}

pub(crate) fn too_many_entries(place: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "too_many_files",
        format!("{place} holds more than {LIST_LIMIT} files"),
        "Check that it is the folder of one backup; a backup that large is better kept as one file.",
    )
}
