//! A folder of this machine as a storage.
//!
//! An object grows in a temporary file beside its place, is brought to the disk, and only then renamed; so a
//! crash at any moment leaves either nothing under its name or all of it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::spawn_blocking;
use undoo_core::{Kind, Result};

use crate::{
    fault::{Cause, Doing, Fault},
    folder::{Entry, blocking},
    local::{LocalFile, LocalFolder, local_problem, write_fault},
    object::Object,
    options::Options,
    resume::Seen,
    storage::{
        Stat, Storage, Unfinished, check_kept, check_key, check_prefix, check_temporary, finished_of,
        temporary, unfinished_of,
    },
    upload::{Part, Plan, Sent, Sink, Upload},
};

/// Files need no large parts: nothing is waited for.
const PART: usize = 1024 * 1024;

pub(crate) struct LocalStorage {
    root: PathBuf,
    place: String,
    options: Options,
}

impl LocalStorage {
    pub(crate) fn new(root: PathBuf, place: String, options: &Options) -> Self {
        Self { root, place, options: options.clone() }
    }

    /// Files below a folder, with their times; none where there is no such folder.
    async fn walk(&self, prefix: &str) -> Result<Vec<(Entry, Option<SystemTime>)>> {
        check_prefix(prefix)?;
        let (root, prefix, options) = (self.root.clone(), prefix.to_owned(), self.options.clone());
        blocking(move || {
            let folder = match LocalFolder::open(root.join(&prefix), &options) {
                Ok(folder) => folder,
                Err(problem) if problem.kind == Kind::Missing => return Ok(Vec::new()),
                Err(problem) => return Err(problem),
            };
            let mut entries = folder.walk()?;
            for (entry, _) in &mut entries {
                entry.name.insert_str(0, &prefix);
            }
            Ok(entries)
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(())
            }
            Err(error) => Err(local_problem(Doing::Delete, &path.display().to_string(), error)),
        })
        .await
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn place(&self) -> &str {
        &self.place
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn write(&self, key: &str, _expected: Option<u64>) -> Result<Upload> {
        check_key(key)?;
        let sink = LocalUpload::new(self, key, temporary(key));
        Ok(Upload::new(Arc::new(sink), self.place_of(key), self.options.clone(), Seen::default()))
    }

    async fn resume(&self, key: &str, id: &str, _expected: Option<u64>) -> Result<Upload> {
        check_kept(key, id)?;
        let (sink, place) = (LocalUpload::new(self, key, id.to_owned()), self.place_of(key));
        let bytes = sink.go_on().await.map_err(|fault| fault.into_problem(Doing::Write, &place))?;
        let sent = Sent { parts: u32::from(bytes > 0), bytes };
        Ok(Upload::resumed(Arc::new(sink), place, self.options.clone(), Seen::default(), sent))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>> {
        match self.open(key).await {
            Ok(object) => Ok(Some(Stat {
                size: object.size(),
                version: object.version().map(str::to_owned),
                modified: object.as_local().and_then(LocalFile::modified),
            })),
            Err(problem) if problem.kind == Kind::Missing => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    async fn open(&self, key: &str) -> Result<Arc<Object>> {
        check_key(key)?;
        let (root, key, options) = (self.root.clone(), key.to_owned(), self.options.clone());
        let file = blocking(move || LocalFolder::open(root, &options)?.open_file(&key)).await?;
        Ok(Arc::new(Object::local(file)))
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

struct LocalUpload {
    target: PathBuf,
    temporary: PathBuf,
    /// The temporary's name in the storage.
    id: String,
    file: Mutex<Option<Arc<File>>>,
    /// Whether it was aborted. What waits for the disk goes on when nobody waits for it any more, and must not
    /// make a file after its removal.
    ended: Arc<Mutex<bool>>,
    options: Options,
}

impl LocalUpload {
    fn new(storage: &LocalStorage, key: &str, id: String) -> Self {
        Self {
            target: storage.root.join(key),
            temporary: storage.root.join(&id),
            id,
            file: Mutex::new(None),
            ended: Arc::default(),
            options: storage.options.clone(),
        }
    }

    /// Opens what was begun before; answers its length.
    async fn go_on(&self) -> Result<u64, Fault> {
        let opened = self.disk(|path| match File::options().write(true).open(path) {
            Ok(file) => Ok(Some((file.metadata()?.len(), file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let (len, file) = opened.await?.ok_or(Cause::UploadGone)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(file));
        Ok(len)
    }

    fn file(&self) -> Result<Arc<File>, Fault> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone().ok_or_else(|| Fault::unexpected("the file was not begun"))
    }

    /// Runs what makes or names the file, unless it was aborted.
    async fn unless_ended<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let ended = Arc::clone(&self.ended);
        self.disk(move |path| match *ended.lock().unwrap_or_else(PoisonError::into_inner) {
            true => Err(io::Error::other("it was aborted")),
            false => work(path),
        })
        .await
    }

    /// Runs what waits for the disk.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let path = self.temporary.clone();
        let done = spawn_blocking(move || work(&path).map_err(|error| write_fault(&path, &error))).await;
        done.unwrap_or_else(|error| Err(Fault::unexpected(format!("writing was broken off: {error}"))))
    }
}

#[async_trait]
impl Sink for LocalUpload {
    fn plan(&self) -> Plan {
        Plan { part: PART, grows: false, most: u32::MAX, in_order: false, by_length: true }
    }

    async fn begin(&self) -> Result<(), Fault> {
        let begun = self.unless_ended(|path| {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            File::create(path)
        });
        let begun = Arc::new(begun.await?);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        Ok(())
    }

    async fn put(&self, part: Part) -> Result<(), Fault> {
        if let Some(bandwidth) = &self.options.bandwidth {
            tokio::time::sleep(bandwidth.take(part.content.len())).await;
        }
        let (file, len) = (self.file()?, part.content.len());
        self.disk(move |_| file.write_all_at(&part.content, part.offset)).await?;
        self.options.meter.add_sent(len);
        Ok(())
    }

    async fn finish(&self, size: u64) -> Result<Stat, Fault> {
        let (file, target) = (self.file()?, self.target.clone());
        let options = self.options.clone();
        self.unless_ended(move |path| {
            file.sync_all()?;
            fs::rename(path, &target)?;
            if let Some(folder) = target.parent() {
                File::open(folder)?.sync_all()?;
            }
            let file = LocalFile::open(&target, &options).map_err(io::Error::other)?;
            Ok(Stat { size, version: Some(file.version()), modified: file.modified() })
        })
        .await
    }

    async fn put_whole(&self, _content: Bytes) -> Option<Result<Stat, Fault>> {
        None
    }

    async fn abort(&self) -> Result<(), Fault> {
        let ended = Arc::clone(&self.ended);
        self.disk(move |path| {
            // Held while it is removed: whoever makes it comes before, or not at all.
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            *ended = true;
            match fs::remove_file(path) {
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    Err(error)
                }
                _ => Ok(()),
            }
        })
        .await
    }

    fn id(&self) -> Option<String> {
        Some(self.id.clone())
    }
}

/// Makes a folder and those above it, so that they are still there after a crash.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(folder) {
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(above)?.sync_all(),
    }
}
