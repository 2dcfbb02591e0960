//! A file on its way to an FTP server: written under a temporary name part after part, counted, renamed.
//!
//! Each part is a transfer of its own, since only the end of a transfer tells that the server has its
//! bytes. Where one breaks off, the length of the file tells how far it came; at the end the length must
//! be that of all parts, or the file is not renamed.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{FtpStorage, link::Link};
use crate::{
    fault::{Cause, Fault},
    resume::Version,
    storage::Stat,
    upload::{Part, Plan, Sink},
};

pub(super) struct FtpUpload {
    storage: FtpStorage,
    target: String,
    temporary: String,
    /// The temporary's name in the storage.
    id: String,
    /// The part that was last begun.
    tried: Mutex<Option<u32>>,
}

impl FtpUpload {
    pub(super) fn new(storage: FtpStorage, key: &str, id: String) -> Self {
        let (target, temporary) = (storage.path(key), storage.path(&id));
        Self { storage, target, temporary, id, tried: Mutex::new(None) }
    }

    /// How much of what was begun before has arrived. The file itself begins with its first part.
    pub(super) async fn arrived(&self) -> Result<u64, Fault> {
        let mut link = self.storage.link().await?;
        let looking = async {
            let (temporary, target) = (link.path(&self.temporary), link.path(&self.target));
            match link.version(&temporary).await? {
                Some((version, _)) => Ok(version.size),
                None if link.version(&target).await?.is_some() => Err(Cause::UploadGone.into()),
                None => Ok(0),
            }
        };
        let looked = looking.await;
        self.storage.kept(link, looked)
    }

    async fn send(&self, link: &mut Link, part: &Part, again: bool) -> Result<(), Fault> {
        let (path, options) = (link.path(&self.temporary), &self.storage.0.options);
        if part.offset == 0 {
            return link.store(&path, part.content.clone(), false, options).await;
        }
        let mut rest = part.content.clone();
        if again {
            let size = link.version(&path).await?.map_or(0, |(version, _)| version.size);
            let arrived = size.checked_sub(part.offset).and_then(|arrived| usize::try_from(arrived).ok());
            match arrived {
                Some(arrived) if arrived <= rest.len() => rest = rest.split_off(arrived),
                _ => return Err(Fault::unexpected("the server lost, or doubled, bytes that it had taken")),
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
        link.store(&path, rest, true, options).await
    }

    async fn rename(&self, link: &mut Link, size: u64) -> Result<Stat, Fault> {
        let (temporary, target) = (link.path(&self.temporary), link.path(&self.target));
        // One whose answer was lost has left nothing to rename.
        if let Some((found, _)) = link.version(&temporary).await? {
            if found.size != size {
                return Err(Fault::unexpected("the server has another number of bytes than were sent"));
            }
            link.rename(&temporary, &target).await?;
        }
        match link.version(&target).await? {
            Some((Version { size: found, etag, .. }, modified)) if found == size => {
                Ok(Stat { size, version: etag, modified })
            }
            _ => Err(Cause::UploadGone.into()),
        }
    }
}

#[async_trait]
impl Sink for FtpUpload {
    fn plan(&self) -> Plan {
        let part = self.storage.0.options.part_size;
        Plan { part, grows: false, most: u32::MAX, in_order: true, by_length: true }
    }

    async fn begin(&self) -> Result<(), Fault> {
        let mut link = self.storage.link().await?;
        let making = async {
            let path = link.path(&self.temporary);
            let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
            let folder = if folder.is_empty() { "/" } else { folder };
            if !link.is_folder(folder).await? {
                link.make_folder(folder).await?;
            }
            Ok(())
        };
        let made = making.await;
        self.storage.kept(link, made)
    }

    async fn put(&self, part: Part) -> Result<(), Fault> {
        let mut link = self.storage.link().await?;
        let again = {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            tried.replace(part.number) == Some(part.number)
        };
        let sent = match self.send(&mut link, &part, again).await {
            Err(Fault { cause: Cause::NoPermission | Cause::ObjectMissing, detail, .. }) => {
                let path = link.path(&self.temporary);
                let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
                Err(Fault { detail, ..Cause::NotWritable { path: folder }.into() })
            }
            sent => sent,
        };
        self.storage.kept(link, sent)
    }

    async fn finish(&self, size: u64) -> Result<Stat, Fault> {
        let mut link = self.storage.link().await?;
        let renamed = self.rename(&mut link, size).await;
        self.storage.kept(link, renamed)
    }

    async fn put_whole(&self, _content: Bytes) -> Option<Result<Stat, Fault>> {
        None
    }

    async fn abort(&self) -> Result<(), Fault> {
        let mut link = self.storage.link().await?;
        let path = link.path(&self.temporary);
        let removed = link.remove(&path).await;
        self.storage.kept(link, removed)
    }

    fn id(&self) -> Option<String> {
        Some(self.id.clone())
    }
}
