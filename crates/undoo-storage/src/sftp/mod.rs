//! Folders on an SSH server.
//!
//! One connection serves all that is read and written at the same time; when it breaks, the next request
//! makes another. A file that is being read is held open, so that one renamed over it is not mixed in.

mod link;
mod upload;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::sync::Mutex;
use undoo_core::Result;

use self::link::Link;
use crate::{
    access::SftpAccess,
    fault::{Cause, Doing, Fault},
    folder::{Entry, Folder, LIST_LIMIT, too_many_entries},
    object::{Object, Opened},
    options::Options,
    resume::{Content, Seen, Source, Version, retrying},
    ssh::within,
    storage::{
        Stat, Storage, Unfinished, check_kept, check_key, check_prefix, check_temporary, finished_of,
        temporary, unfinished_of,
    },
    upload::{Sent, Upload},
};

/// Reads on their way at the same time: enough for a long line, and little memory.
const AHEAD: usize = 8;

#[derive(Clone)]
pub(crate) struct SftpStorage(Arc<Inner>);

struct Inner {
    access: SftpAccess,
    /// Ends in a slash.
    place: String,
    options: Options,
    seen: Seen,
    link: Mutex<Option<Arc<Link>>>,
}

impl SftpStorage {
    /// What is below the path of `access`; `place` is its address.
    pub(crate) fn new(access: &SftpAccess, mut place: String, options: &Options) -> Result<Self> {
        if !place.ends_with('/') {
            place.push('/');
        }
        let (access, options) = (access.clone(), options.clone());
        Ok(Self(Arc::new(Inner { access, place, options, seen: Seen::default(), link: Mutex::default() })))
    }

    /// What lies at the path itself, to be read.
    pub(crate) async fn open_itself(self) -> Result<Opened> {
        let place = self.0.place.trim_end_matches('/').to_owned();
        let path = self.path("");
        let found = self.retrying(&place, || self.attributes(&path)).await;
        let found = found.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
        if found.file_type().is_dir() {
            return Ok(Opened::Folder(Arc::new(Folder::remote(Arc::new(self)))));
        }
        Ok(Opened::File(Arc::new(self.object(place, path, &found))))
    }

    /// The path of a key, from the user's home or from the root.
    fn path(&self, key: &str) -> String {
        let root = &self.0.access.path;
        match (root.trim_end_matches('/'), key) {
            ("", "") if root.is_empty() => ".".to_owned(),
            ("", "") => "/".to_owned(),
            ("", key) if root.is_empty() => key.to_owned(),
            (root, "") => root.to_owned(),
            (root, key) => format!("{root}/{key}"),
        }
    }

    async fn retrying<T, F>(&self, place: &str, request: impl FnMut() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        retrying(&self.0.seen, place, &self.0.options, request).await
    }

    /// The connection, made if there is none.
    async fn link(&self) -> Result<Arc<Link>, Fault> {
        let mut link = self.0.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(Arc::clone(link));
        }
        let made = Arc::new(Link::connect(&self.0.access.ssh, &self.0.options).await?);
        self.0.seen.set();
        *link = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Lets go of a connection that broke or fell silent, so that the next request makes another.
    async fn checked<T>(&self, link: &Arc<Link>, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.as_ref().is_err_and(|fault| fault.may_pass(true)) {
            let mut current = self.0.link.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
                *current = None;
            }
        }
        result
    }

    async fn attributes(&self, path: &str) -> Result<FileAttributes, Fault> {
        let link = self.link().await?;
        self.0.options.meter.add_request();
        let found = link.ask(link.sftp.stat(path)).await;
        Ok(self.checked(&link, found).await?.attrs)
    }

    fn object(&self, place: String, path: String, found: &FileAttributes) -> Object {
        let source = SftpSource { storage: self.clone(), path };
        Object::remote(place, version_of(found), Box::new(source), &self.0.options)
    }

    async fn found(&self, key: &str) -> Result<Option<FileAttributes>> {
        check_key(key)?;
        let (place, path) = (self.place_of(key), self.path(key));
        match self.retrying(&place, || self.attributes(&path)).await {
            Ok(found) if found.file_type().is_dir() => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(Fault { cause: Cause::ObjectMissing, .. }) => Ok(None),
            Err(fault) => Err(fault.into_problem(Doing::Read, &place)),
        }
    }

    /// Files below a folder, with their times; none where there is no such folder.
    async fn walk(&self, prefix: &str) -> Result<Vec<(Entry, Option<SystemTime>)>> {
        check_prefix(prefix)?;
        let place = self.place_of(prefix);
        let mut entries = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.path(folder.trim_end_matches('/'));
            let found = self.retrying(&place, || self.read_folder(&path)).await;
            let found = found.map_err(|fault| fault.into_problem(Doing::List, &place))?;
            for (name, attributes) in found {
                let name = format!("{folder}{name}");
                if attributes.file_type().is_dir() {
                    folders.push(format!("{name}/"));
                } else if attributes.file_type().is_file() {
                    let size = attributes.size.unwrap_or_default();
                    entries.push((Entry { name, size }, attributes.modified().ok()));
                }
            }
            if entries.len().saturating_add(folders.len()) > LIST_LIMIT {
                return Err(too_many_entries(&place));
            }
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(entries)
    }

    async fn read_folder(&self, path: &str) -> Result<Vec<(String, FileAttributes)>, Fault> {
        let link = self.link().await?;
        self.0.options.meter.add_request();
        let read = async {
            let Some(handle) = link.ask_for(link.sftp.opendir(path)).await? else {
                return Ok(Vec::new());
            };
            let handle = Open::new(&link, handle.handle);
            let mut found = Vec::new();
            loop {
                match link.ask(link.sftp.readdir(handle.name.as_str())).await {
                    Ok(names) => {
                        found.extend(names.files.into_iter().map(|file| (file.filename, file.attrs)).filter(
                            |(name, _)| {
                                // A server is not believed when it names what is elsewhere.
                                name != "." && name != ".." && !name.is_empty() && !name.contains('/')
                            },
                        ))
                    }
                    // The end of a folder is the end of a file.
                    Err(Fault { cause: Cause::Changed, .. }) => return Ok(found),
                    Err(fault) => return Err(fault),
                }
                if found.len() > LIST_LIMIT {
                    return Ok(found);
                }
            }
        };
        let read = read.await;
        self.checked(&link, read).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let (place, path) = (self.place_of(name), self.path(name));
        let request = || async {
            let link = self.link().await?;
            self.0.options.meter.add_request();
            let removed = link.ask_for(link.sftp.remove(path.as_str())).await;
            self.checked(&link, removed).await.map(drop)
        };
        let removed = self.retrying(&place, request).await;
        removed.map_err(|fault| fault.into_problem(Doing::Delete, &place))
    }
}

/// Times have whole seconds in this protocol, so that two writes within one that keep the length look the
/// same.
fn version_of(found: &FileAttributes) -> Version {
    let size = found.size.unwrap_or_default();
    let etag = found.mtime.map(|modified| format!("{size:x}-{modified:x}"));
    Version { size, etag, last_modified: None }
}

/// A file or folder that a server holds open for us, and closes when this is dropped.
struct Open {
    link: Arc<Link>,
    name: String,
}

impl Open {
    fn new(link: &Arc<Link>, name: String) -> Self {
        Self { link: Arc::clone(link), name }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (link, name) = (Arc::clone(&self.link), std::mem::take(&mut self.name));
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !link.is_closed()
        {
            runtime.spawn(async move {
                // Its answer changes nothing.
                let _ = link.ask(link.sftp.close(name)).await;
            });
        }
    }
}

struct SftpSource {
    storage: SftpStorage,
    path: String,
}

#[async_trait]
impl Source for SftpSource {
    async fn version(&self) -> Result<Version, Fault> {
        Ok(version_of(&self.storage.attributes(&self.path).await?))
    }

    async fn get(&self, version: &Version, offset: u64, len: u64) -> Result<Content, Fault> {
        let link = self.storage.link().await?;
        self.storage.0.options.meter.add_request();
        let opening = async {
            let opened = link.sftp.open(self.path.as_str(), OpenFlags::READ, FileAttributes::empty());
            let file = Open::new(&link, link.ask(opened).await?.handle);
            let found = link.ask(link.sftp.fstat(file.name.as_str())).await?.attrs;
            if version_of(&found) != *version {
                return Err(Cause::Changed.into());
            }
            Ok(file)
        };
        let opened = opening.await;
        let file = Arc::new(self.storage.checked(&link, opened).await?);
        let step = u64::from(link.read_len);
        let pieces = (0..len.div_ceil(step)).map(move |index| {
            let begin = index * step;
            (offset + begin, (len - begin).min(step))
        });
        let (storage, patience) = (self.storage.clone(), link.patience);
        let read = stream::iter(pieces)
            .map(move |(offset, len)| read_piece(Arc::clone(&file), offset, len))
            .buffered(AHEAD);
        let checked = stream::unfold(Box::pin(read), move |mut read| {
            let (storage, link) = (storage.clone(), Arc::clone(&link));
            async move {
                // By progress: a slow line is not a silent server.
                let piece = within(patience, async { read.next().await.transpose() }).await;
                if let Ok(Some(piece)) = &piece {
                    storage.0.options.meter.add_bytes(piece.len());
                }
                let piece = storage.checked(&link, piece).await.transpose()?;
                Some((piece, read))
            }
        });
        Ok(checked.boxed())
    }
}

async fn read_piece(file: Arc<Open>, mut offset: u64, mut len: u64) -> Result<Bytes, Fault> {
    let mut piece = Vec::new();
    while len > 0 {
        let read = file.link.sftp.read(file.name.as_str(), offset, len as u32).await;
        let read = read.map_err(|error| link::from_sftp(&error))?.data;
        let got = read.len() as u64;
        if got == 0 || got > len {
            return Err(Cause::Changed.into());
        }
        (offset, len) = (offset + got, len - got);
        // A server may send less than was asked for.
        if piece.is_empty() { piece = read } else { piece.extend_from_slice(&read) }
    }
    Ok(piece.into())
}

#[async_trait]
impl Storage for SftpStorage {
    fn place(&self) -> &str {
        &self.0.place
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    fn write(&self, key: &str, _expected: Option<u64>) -> Result<Upload> {
        check_key(key)?;
        let sink = upload::SftpUpload::new(self.clone(), key, temporary(key));
        Ok(Upload::new(Arc::new(sink), self.place_of(key), self.0.options.clone(), self.0.seen.clone()))
    }

    async fn resume(&self, key: &str, id: &str, _expected: Option<u64>) -> Result<Upload> {
        check_kept(key, id)?;
        let (sink, place) = (upload::SftpUpload::new(self.clone(), key, id.to_owned()), self.place_of(key));
        let arrived = self.retrying(&place, || sink.arrived()).await;
        let bytes = arrived.map_err(|fault| fault.into_problem(Doing::Write, &place))?;
        let sent = Sent { parts: u32::from(bytes > 0), bytes };
        let (options, seen) = (self.0.options.clone(), self.0.seen.clone());
        Ok(Upload::resumed(Arc::new(sink), place, options, seen, sent))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>> {
        let found = self.found(key).await?;
        Ok(found.map(|found| {
            let Version { size, etag, .. } = version_of(&found);
            Stat { size, version: etag, modified: found.modified().ok() }
        }))
    }

    async fn open(&self, key: &str) -> Result<Arc<Object>> {
        let place = self.place_of(key);
        match self.found(key).await? {
            Some(found) => Ok(Arc::new(self.object(place, self.path(key), &found))),
            None => Err(Fault::from(Cause::ObjectMissing).into_problem(Doing::Read, &place)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        Ok(finished_of(self.walk(prefix).await?))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.remove(key).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        Ok(unfinished_of(self.walk(prefix).await?))
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        check_temporary(unfinished)?;
        self.remove(&unfinished.id).await
    }
}
