//! A backup where it lies, as the archive readers want it.

use std::{io::Read, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use undoo_archive::{
    RangedRead,
    backup::Backup,
    container::{BackupInput, MemberInfo, MemberSource},
    error::problem_of,
};
use undoo_core::Result;
use undoo_storage::{
    Access, BlockingFolder, BlockingObject, Object, Opened, Options, Storage, StorageConfig,
};

use crate::encryption::{self, Identities};

struct Bytes(BlockingObject);

impl RangedRead for Bytes {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn stream(&self, offset: u64, len: u64) -> std::io::Result<Box<dyn Read + Send>> {
        self.0.stream(offset, len)
    }
}

struct Members(BlockingFolder);

impl MemberSource for Members {
    fn list(&self) -> Result<Vec<MemberInfo>> {
        let entries = self.0.list()?;
        Ok(entries.into_iter().map(|entry| MemberInfo { name: entry.name, size: entry.size }).collect())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn RangedRead>> {
        Ok(Arc::new(Bytes(self.0.open(name)?)))
    }
}

/// A backup with what it takes to read it, as it travels to a mover: serialising it writes secrets out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupOrder {
    /// Where it lies, the credentials for that, and how it is read.
    #[serde(flatten)]
    pub storage: StorageConfig,
    /// Keys to read it with, if it is encrypted.
    #[serde(default)]
    pub identities: Identities,
}

impl BackupOrder {
    /// Opens it; see [`open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self, options: &Options) -> Result<Arc<Backup>> {
        self.open_sized(options).await.map(|(backup, _)| backup)
    }

    /// The same, and the bytes of the very object that was opened; none where it is a folder.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open_sized(&self, options: &Options) -> Result<(Arc<Backup>, Option<u64>)> {
        open_with(self.storage.access(), &self.storage.options(options), &self.identities).await
    }
}

/// Opens a backup that is not encrypted and reads what it is made of: a ZIP's directory, a folder's
/// listing, a dump's head.
///
/// # Errors
/// Those of the storage and of the archive readers; `encrypted` where a key is needed.
pub async fn open(access: &Access, options: &Options) -> Result<Arc<Backup>> {
    open_with(access, options, &Identities::default()).await.map(|(backup, _)| backup)
}

async fn open_with(
    access: &Access,
    options: &Options,
    identities: &Identities,
) -> Result<(Arc<Backup>, Option<u64>)> {
    let place = access.location().to_string();
    let opened = access.open(options).await?;
    let size = match &opened {
        Opened::File(object) => Some(object.size()),
        Opened::Folder(_) => None,
    };
    let (runtime, identities) = (Handle::current(), identities.clone());
    let work = move || match opened {
        Opened::File(object) => of_object(runtime, object, &place, &identities),
        Opened::Folder(folder) => {
            Backup::open(BackupInput::Folder(Arc::new(Members(BlockingFolder::new(runtime, folder)))))
        }
    };
    let backup = crate::blocking(move || work().map(Arc::new)).await?;
    Ok((backup, size))
}

impl From<StorageConfig> for BackupOrder {
    fn from(storage: StorageConfig) -> Self {
        Self { storage, identities: Identities::default() }
    }
}

/// The most that is read of an object which should be small.
const SMALL: u64 = 64 * 1024;

/// The bytes of a small object; of a larger one its beginning.
///
/// # Errors
/// Those of the storage.
pub(crate) async fn read_small(storage: &dyn Storage, key: &str) -> Result<Vec<u8>> {
    let object = storage.open(key).await?;
    let (runtime, size) = (Handle::current(), object.size().min(SMALL));
    crate::blocking(move || {
        let mut bytes = Vec::new();
        let stream = BlockingObject::new(runtime, object).stream(0, size);
        let read = stream.and_then(|mut stream| stream.read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(problem_of)
    })
    .await
}

/// Opens a backup that is one object. To be called on a thread that may block.
///
/// # Errors
/// Those of [`encryption::open`] and of the archive readers.
pub fn of_object(
    runtime: Handle,
    object: Arc<Object>,
    place: &str,
    identities: &Identities,
) -> Result<Backup> {
    let bytes = Arc::new(Bytes(BlockingObject::new(runtime, object)));
    let (bytes, encrypted) = encryption::open(bytes, place, identities)?;
    let mut backup = Backup::open(BackupInput::Single(bytes, place.to_owned()))?;
    if encrypted {
        backup.findings.push(encryption::finding());
    }
    Ok(backup)
}
