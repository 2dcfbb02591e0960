//! A backup where it lies, as the archive readers want it.

use std::{io::Read, sync::Arc};

use tokio::runtime::Handle;
use undoo_archive::{
    RangedRead,
    backup::Backup,
    container::{BackupInput, MemberInfo, MemberSource},
};
use undoo_core::Result;
use undoo_storage::{Access, BlockingFolder, BlockingObject, Object, Opened, Options};

struct Bytes(BlockingObject);

impl RangedRead for Bytes {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn stream(&self, offset: u64, len: u64) -> std::io::Result<Box<dyn Read + Send>> {
        self.0.stream(offset, len)
    }
}

/// Opens a backup that is one object. To be called on a thread that may block.
///
/// # Errors
/// Those of the archive readers.
pub fn of_object(runtime: Handle, object: Arc<Object>, place: &str) -> Result<Backup> {
    let bytes = Bytes(BlockingObject::new(runtime, object));
    Backup::open(BackupInput::Single(Arc::new(bytes), place.to_owned()))
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

/// Opens a backup and reads what it is made of: a ZIP's directory, a folder's listing, a dump's head.
///
/// # Errors
/// Those of the storage and of the archive readers.
pub async fn open(access: &Access, options: &Options) -> Result<Arc<Backup>> {
    let place = access.location().to_string();
    let opened = access.open(options).await?;
    let runtime = Handle::current();
    let work = move || {
        let input = match opened {
            Opened::File(object) => return of_object(runtime, object, &place).map(Arc::new),
            Opened::Folder(folder) => {
                BackupInput::Folder(Arc::new(Members(BlockingFolder::new(runtime, folder))))
            }
        };
        Backup::open(input).map(Arc::new)
    };
    crate::blocking(work).await
}
