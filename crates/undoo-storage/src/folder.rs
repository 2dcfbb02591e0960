//! A backup kept as a folder: a dump, a manifest and a filestore side by side.

use std::sync::Arc;

use undoo_core::{Kind, Problem, Result};

use crate::{
    local::LocalFolder,
    object::Object,
    options::Options,
    resume::{Source, retrying},
    s3_source::Bucket,
};

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

/// A folder on this machine, or a prefix in S3.
pub struct Folder {
    place: String,
    inner: Inner,
    options: Options,
}

enum Inner {
    Local(LocalFolder),
    S3 { bucket: Bucket, prefix: String },
}

impl Folder {
    pub(crate) fn local(folder: LocalFolder, place: String, options: &Options) -> Self {
        Self { place, inner: Inner::Local(folder), options: options.clone() }
    }

    /// `prefix` is empty or ends in a slash.
    pub(crate) async fn s3(bucket: Bucket, prefix: String, place: String, options: &Options) -> Result<Self> {
        let request = || bucket.list(&prefix, 1);
        let found = retrying(&bucket.client, &place, options, request).await;
        if found.map_err(|fault| fault.into_problem(&place))?.is_empty() {
            return Err(Problem::new(
                Kind::Missing,
                "backup_missing",
                format!("{place} holds nothing"),
                "Check the address; that of a single object does not end in a slash.",
            ));
        }
        Ok(Self { place, inner: Inner::S3 { bucket, prefix }, options: options.clone() })
    }

    /// Its address, without secrets.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Every file below the folder, sorted by name.
    ///
    /// # Errors
    /// When it cannot be read, or holds more than two million files.
    pub async fn list(&self) -> Result<Vec<Entry>> {
        match &self.inner {
            Inner::Local(folder) => {
                let folder = folder.clone();
                blocking(move || folder.list()).await
            }
            Inner::S3 { bucket, prefix } => {
                let request = || bucket.list(prefix, LIST_LIMIT + 1);
                let entries = retrying(&bucket.client, &self.place, &self.options, request).await;
                let mut entries = entries.map_err(|fault| fault.into_problem(&self.place))?;
                if entries.len() > LIST_LIMIT {
                    return Err(too_many_entries(&self.place));
                }
                entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                Ok(entries)
            }
        }
    }

    /// Opens a file by its name in the list.
    ///
    /// # Errors
    /// When it is missing or unreadable, or the name is not one of a file below the folder.
    pub async fn open(&self, name: &str) -> Result<Arc<Object>> {
        check_name(name, &self.place)?;
        match &self.inner {
            Inner::Local(folder) => {
                let (folder, name) = (folder.clone(), name.to_owned());
                let file = blocking(move || folder.open_file(&name)).await?;
                Ok(Arc::new(Object::local(file)))
            }
            Inner::S3 { bucket, prefix } => {
                // The library trims keys, and would read another object than was named.
                if name != name.trim() {
                    return Err(Problem::new(
                        Kind::Invalid,
                        "name_unsupported",
                        format!("the name {name:?} in {} begins or ends with a space", self.place),
                        "Odoo writes no such names: remove the object from the backup's folder.",
                    ));
                }
                let source = bucket.object(&format!("{prefix}{name}"));
                let place = format!("{}{name}", self.place);
                let request = || source.version();
                let version = retrying(&bucket.client, &place, &self.options, request).await;
                let version = version.map_err(|fault| fault.into_problem(&place))?;
                Ok(Arc::new(Object::remote(place, version, Source::S3(source), &self.options)))
            }
        }
    }

    /// The folder on this machine, if that is where it is.
    pub(crate) fn as_local(&self) -> Option<&LocalFolder> {
        match &self.inner {
            Inner::Local(folder) => Some(folder),
            Inner::S3 { .. } => None,
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

pub(crate) fn too_many_entries(place: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "too_many_files",
        format!("{place} holds more than {LIST_LIMIT} files"),
        "Check that it is the folder of one backup; a backup that large is better kept as one file.",
    )
}
