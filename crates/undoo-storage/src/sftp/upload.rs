//! A file on its way to an SSH server: written under a temporary name, synced, renamed.
//!
//! Every write says where it belongs, so that one whose answer was lost is made again without harm, also
//! over another connection.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::sync::Mutex;

use super::{
    Open, SftpStorage,
    link::{Link, from_sftp},
    version_of,
};
use crate::{
    fault::{Cause, Fault},
    ssh::within,
    storage::Stat,
    upload::{Part, Plan, Sink},
};

/// Writes on their way at the same time.
const AHEAD: usize = 16;

pub(super) struct SftpUpload {
    storage: SftpStorage,
    target: String,
    temporary: String,
    /// The temporary's name in the storage.
    id: String,
    file: Mutex<Option<Arc<Open>>>,
}

impl SftpUpload {
    pub(super) fn new(storage: SftpStorage, key: &str, id: String) -> Self {
        let (target, temporary) = (storage.path(key), storage.path(&id));
        Self { storage, target, temporary, id, file: Mutex::new(None) }
    }

    /// How much of what was begun before has arrived.
    pub(super) async fn arrived(&self) -> Result<u64, Fault> {
        let link = self.storage.link().await?;
        let found = link.ask_for(link.sftp.stat(self.temporary.as_str())).await;
        let found = self.storage.checked(&link, found).await?.ok_or(Cause::UploadGone)?;
        found.attrs.size.ok_or_else(|| Fault::unexpected("the server does not say how long a file is"))
    }

    fn folder(&self) -> &str {
        match self.temporary.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        }
    }

    /// The file, held open over the connection that there is now.
    async fn file(&self) -> Result<Arc<Open>, Fault> {
        let link = self.storage.link().await?;
        let mut file = self.file.lock().await;
        if let Some(file) = file.as_ref().filter(|file| Arc::ptr_eq(&file.link, &link)) {
            return Ok(Arc::clone(file));
        }
        let opened = open(&link, &self.temporary, OpenFlags::WRITE).await;
        let opened = Arc::new(self.storage.checked(&link, opened).await?);
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Makes the folder and those above it.
    async fn make_folder(&self, link: &Link) -> Result<(), Fault> {
        let folder = self.folder();
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]).filter(|at| *at > 0);
        let mut made = Ok(());
        for end in ends {
            let path = &folder[..end];
            // Most are there, and what cannot be made or is no folder shows in the next step.
            made = link.ask(link.sftp.mkdir(path, FileAttributes::empty())).await.map(drop);
        }
        match made {
            Err(fault) if fault.may_pass(true) => Err(fault),
            Err(fault @ Fault { cause: Cause::NoPermission | Cause::ObjectMissing, .. }) => {
                Err(link.why_not_written(folder, fault).await)
            }
            _ => Ok(()),
        }
    }

    async fn create(&self, link: &Arc<Link>) -> Result<Open, Fault> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let created = match open(link, &self.temporary, flags).await {
            Err(Fault { cause: Cause::ObjectMissing, .. }) => {
                self.make_folder(link).await?;
                open(link, &self.temporary, flags).await
            }
            created => created,
        };
        match created {
            Ok(file) => Ok(file),
            Err(fault) => Err(link.why_not_written(self.folder(), fault).await),
        }
    }

    async fn write(&self, file: &Arc<Open>, part: &Part) -> Result<(), Fault> {
        let link = &file.link;
        let options = &self.storage.0.options;
        let pieces = (0..part.content.len()).step_by(link.write_len).map(|begin| {
            let piece = part.content.slice(begin..part.content.len().min(begin + link.write_len));
            (part.offset + begin as u64, piece)
        });
        let writes = stream::iter(pieces).map(|(offset, piece): (u64, Bytes)| {
            let file = Arc::clone(file);
            async move {
                if let Some(bandwidth) = &options.bandwidth {
                    tokio::time::sleep(bandwidth.take(piece.len())).await;
                }
                let written = link.sftp.write(file.name.as_str(), offset, piece.to_vec()).await;
                options.meter.add_sent(piece.len());
                written.map(drop).map_err(|error| from_sftp(&error))
            }
        });
        let mut writes = std::pin::pin!(writes.buffer_unordered(AHEAD));
        while within(link.patience, async { writes.next().await.transpose() }).await?.is_some() {}
        Ok(())
    }
}

async fn open(link: &Arc<Link>, path: &str, flags: OpenFlags) -> Result<Open, Fault> {
    let opened = link.ask(link.sftp.open(path, flags, FileAttributes::empty())).await?;
    Ok(Open::new(link, opened.handle))
}

#[async_trait]
impl Sink for SftpUpload {
    fn plan(&self) -> Plan {
        // Within a part many writes are on their way already.
        let part = self.storage.0.options.part_size;
        Plan { part, grows: false, most: u32::MAX, in_order: true, by_length: true }
    }

    async fn begin(&self) -> Result<(), Fault> {
        let link = self.storage.link().await?;
        self.storage.0.options.meter.add_request();
        let created = self.create(&link).await;
        let created = self.storage.checked(&link, created).await?;
        *self.file.lock().await = Some(Arc::new(created));
        Ok(())
    }

    async fn put(&self, part: Part) -> Result<(), Fault> {
        let file = self.file().await?;
        self.storage.0.options.meter.add_request();
        let written = match self.write(&file, &part).await {
            Err(fault) => Err(file.link.why_not_written(self.folder(), fault).await),
            written => written,
        };
        self.storage.checked(&file.link, written).await
    }

    async fn finish(&self, size: u64) -> Result<Stat, Fault> {
        let link = self.storage.link().await?;
        self.storage.0.options.meter.add_request();
        let finishing = async {
            // One whose answer was lost has left nothing to rename.
            if link.ask_for(link.sftp.stat(self.temporary.as_str())).await?.is_some() {
                let file = self.file().await?;
                if link.fsync {
                    link.ask(link.sftp.fsync(file.name.as_str())).await?;
                }
                let found = link.ask(link.sftp.fstat(file.name.as_str())).await?.attrs;
                if found.size != Some(size) {
                    return Err(Fault::unexpected("the server has another number of bytes than were sent"));
                }
                link.replace(&self.temporary, &self.target).await?;
            }
            let found = link.ask(link.sftp.stat(self.target.as_str())).await?.attrs;
            if found.size != Some(size) {
                return Err(Cause::UploadGone.into());
            }
            let version = version_of(&found);
            Ok(Stat { size, version: version.etag, modified: found.modified().ok() })
        };
        let finished = finishing.await;
        let finished = self.storage.checked(&link, finished).await?;
        *self.file.lock().await = None;
        Ok(finished)
    }

    async fn put_whole(&self, _content: Bytes) -> Option<Result<Stat, Fault>> {
        None
    }

    async fn abort(&self) -> Result<(), Fault> {
        let link = self.storage.link().await?;
        *self.file.lock().await = None;
        let removed = link.ask_for(link.sftp.remove(self.temporary.as_str())).await;
        self.storage.checked(&link, removed).await.map(drop)
    }

    fn id(&self) -> Option<String> {
        Some(self.id.clone())
    }
}
