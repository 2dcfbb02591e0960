//! Folders on an FTP server.
//!
//! A control connection does one thing at a time, so there are as many as things are done at once; idle
//! ones are kept. FTP says little: a length, a time with luck, and one number for many reasons.

mod link;
mod upload;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::{StreamExt, stream::try_unfold};
use tokio::io::AsyncReadExt;
use undoo_core::{Kind, Problem, Result};

use self::link::{Link, Tls, Transfer, within};
use crate::{
    access::FtpAccess,
    fault::{Cause, Doing, Fault},
    folder::{Entry, Folder, LIST_LIMIT, too_many_entries},
    object::{Object, Opened},
    options::Options,
    resume::{Content, Seen, Source, Version, retrying},
    storage::{
        Stat, Storage, Unfinished, check_kept, check_key, check_prefix, check_temporary, finished_of,
        temporary, unfinished_of,
    },
    tcp,
    upload::{Sent, Upload},
};

/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// Idle connections that are kept: servers allow few.
const IDLE: usize = 4;

#[derive(Clone)]
pub(crate) struct FtpStorage(Arc<Inner>);

struct Inner {
    access: FtpAccess,
    /// Ends in a slash.
    place: String,
    options: Options,
    seen: Seen,
    tls: Tls,
    idle: Mutex<Vec<Link>>,
}

impl FtpStorage {
    /// What is below the path of `access`; `place` is its address.
    pub(crate) fn new(access: &FtpAccess, mut place: String, options: &Options) -> Result<Self> {
        if !place.ends_with('/') {
            place.push('/');
        }
        let tls = Tls::new().map_err(|error| {
            Problem::new(Kind::Internal, "tls_client", "TLS could not be set up", "").caused_by(error)
        })?;
        let (access, options) = (access.clone(), options.clone());
        let (seen, idle) = (Seen::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { access, place, options, seen, tls, idle })))
    }

    /// What lies at the path itself, to be read.
    pub(crate) async fn open_itself(self) -> Result<Opened> {
        let place = self.0.place.trim_end_matches('/').to_owned();
        let found = self.retrying(&place, || async {
            let mut link = self.link().await?;
            let found = async {
                let path = link.path(&self.path(""));
                if let Some((version, _)) = link.version(&path).await? {
                    return Ok(Some(version));
                }
                if link.is_folder(&path).await? { Ok(None) } else { Err(Cause::ObjectMissing.into()) }
            };
            let found = found.await;
            self.kept(link, found)
        });
        let found = found.await.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
        Ok(match found {
            Some(version) => Opened::File(Arc::new(self.object(place, self.path(""), version))),
            None => Opened::Folder(Arc::new(Folder::remote(Arc::new(self)))),
        })
    }

    /// The path of a key, from the folder of the login or from the root.
    fn path(&self, key: &str) -> String {
        let root = &self.0.access.path;
        match root.trim_end_matches('/') {
            "" if root.is_empty() => key.to_owned(),
            root if key.is_empty() => format!("{root}/"),
            root => format!("{root}/{key}"),
        }
    }

    async fn retrying<T, F>(&self, place: &str, request: impl FnMut() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        retrying(&self.0.seen, place, &self.0.options, request).await
    }

    /// A connection for one thing to be done: an idle one, or another.
    async fn link(&self) -> Result<Link, Fault> {
        self.0.options.meter.add_request();
        let idle = self.idle().pop();
        if let Some(link) = idle {
            return Ok(link);
        }
        let link = Link::connect(&self.0.access, &self.0.tls, &self.0.options).await?;
        self.0.seen.set();
        Ok(link)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        // A list of connections is whole at every moment: a panic elsewhere does not spoil it.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the connection for what comes next, unless it broke: then the idle ones have, too.
    fn kept<T>(&self, link: Link, result: Result<T, Fault>) -> Result<T, Fault> {
        let mut idle = self.idle();
        if result.as_ref().is_err_and(|fault| fault.may_pass(true)) {
            idle.clear();
        } else if idle.len() < IDLE {
            idle.push(link);
        }
        result
    }

    fn object(&self, place: String, path: String, version: Version) -> Object {
        let source = FtpSource { storage: self.clone(), path };
        Object::remote(place, version, Box::new(source), &self.0.options)
    }

    async fn version(&self, path: &str) -> Result<Option<(Version, Option<SystemTime>)>, Fault> {
        let mut link = self.link().await?;
        let path = link.path(path);
        let found = link.version(&path).await;
        self.kept(link, found)
    }

    async fn found(&self, key: &str) -> Result<Option<(Version, Option<SystemTime>)>> {
        check_key(key)?;
        let (place, path) = (self.place_of(key), self.path(key));
        let found = self.retrying(&place, || self.version(&path)).await;
        found.map_err(|fault| fault.into_problem(Doing::Read, &place))
    }

    /// Files below a folder, with their times; none where there is no such folder.
    async fn walk(&self, prefix: &str) -> Result<Vec<(Entry, Option<SystemTime>)>> {
        check_prefix(prefix)?;
        let place = self.place_of(prefix);
        let mut entries = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while let Some(folder) = folders.pop() {
            let found = self.retrying(&place, || async {
                let mut link = self.link().await?;
                let path = link.path(&self.path(&folder));
                let found = link.list(&path).await;
                self.kept(link, found)
            });
            let found = found.await.map_err(|fault| fault.into_problem(Doing::List, &place))?;
            for file in found {
                // A server is not believed when it names what is elsewhere.
                if matches!(file.name(), "" | "." | "..") || file.name().contains('/') {
                    continue;
                }
                let name = format!("{folder}{}", file.name());
                if file.is_directory() {
                    folders.push(format!("{name}/"));
                } else if file.is_file() {
                    entries.push((Entry { name, size: file.size() as u64 }, Some(file.modified())));
                }
            }
            if entries.len().saturating_add(folders.len()) > LIST_LIMIT {
                return Err(too_many_entries(&place));
            }
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(entries)
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let place = self.place_of(name);
        let removed = self.retrying(&place, || async {
            let mut link = self.link().await?;
            let path = link.path(&self.path(name));
            let removed = link.remove(&path).await;
            self.kept(link, removed)
        });
        removed.await.map_err(|fault| fault.into_problem(Doing::Delete, &place))
    }
}

struct FtpSource {
    storage: FtpStorage,
    path: String,
}

#[async_trait]
impl Source for FtpSource {
    async fn version(&self) -> Result<Version, Fault> {
        let found = self.storage.version(&self.path).await?;
        found.map(|(version, _)| version).ok_or_else(|| Cause::ObjectMissing.into())
    }

    async fn get(&self, version: &Version, offset: u64, len: u64) -> Result<Content, Fault> {
        let mut link = self.storage.link().await?;
        let opening = async {
            let path = link.path(&self.path);
            match link.version(&path).await? {
                Some((found, _)) if found == *version => {}
                _ => return Err(Cause::Changed.into()),
            }
            match link.retrieve(&path, offset).await {
                // It is there: its length was just told.
                Err(Fault { cause: Cause::ObjectMissing, detail, .. }) => {
                    Err(Fault { detail, ..Cause::NoPermission.into() })
                }
                opened => opened,
            }
        };
        let opened = opening.await;
        let transfer = match opened {
            Ok(transfer) => transfer,
            Err(fault) => return self.storage.kept(link, Err(fault)),
        };
        let patience = self.storage.0.options.stall_timeout;
        let storage = self.storage.clone();
        let reading = (transfer, link, len);
        let content = try_unfold(reading, move |(mut transfer, link, left)| {
            let storage = storage.clone();
            async move {
                if left == 0 {
                    end(transfer, link, &storage).await;
                    return Ok(None);
                }
                let mut bytes = BytesMut::with_capacity(CHUNK);
                let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                bytes.resize(wanted, 0);
                let read = async { transfer.read(&mut bytes).await.map_err(|error| tcp::from_io(&error)) };
                let read = within(patience, read).await?;
                if read == 0 {
                    return Ok(None);
                }
                bytes.truncate(read);
                storage.0.options.meter.add_bytes(read);
                Ok(Some((bytes.freeze(), (transfer, link, left - read as u64))))
            }
        });
        Ok(content.boxed())
    }
}

/// Ends a transfer of which enough was read. The server may call that broken off; the next command on the
/// connection takes its word for it.
async fn end(transfer: Transfer, link: Link, storage: &FtpStorage) {
    drop(transfer);
    // What was read is right whatever becomes of the connection.
    let _ = storage.kept(link, Ok(()));
}

#[async_trait]
impl Storage for FtpStorage {
    fn place(&self) -> &str {
        &self.0.place
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    fn write(&self, key: &str, _expected: Option<u64>) -> Result<Upload> {
        check_key(key)?;
        let sink = upload::FtpUpload::new(self.clone(), key, temporary(key));
        Ok(Upload::new(Arc::new(sink), self.place_of(key), self.0.options.clone(), self.0.seen.clone()))
    }

    async fn resume(&self, key: &str, id: &str, _expected: Option<u64>) -> Result<Upload> {
        check_kept(key, id)?;
        let (sink, place) = (upload::FtpUpload::new(self.clone(), key, id.to_owned()), self.place_of(key));
        let arrived = self.retrying(&place, || sink.arrived()).await;
        let bytes = arrived.map_err(|fault| fault.into_problem(Doing::Write, &place))?;
        let sent = Sent { parts: u32::from(bytes > 0), bytes };
        let (options, seen) = (self.0.options.clone(), self.0.seen.clone());
        Ok(Upload::resumed(Arc::new(sink), place, options, seen, sent))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>> {
        let found = self.found(key).await?;
        Ok(found.map(|(Version { size, etag, .. }, modified)| Stat { size, version: etag, modified }))
    }

    async fn open(&self, key: &str) -> Result<Arc<Object>> {
        let place = self.place_of(key);
        match self.found(key).await? {
            Some((version, _)) => Ok(Arc::new(self.object(place, self.path(key), version))),
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
