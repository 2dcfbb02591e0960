//! The staged filestore: hard links for what is there already, fetched files for the rest, every one
//! hashed on its way.
//!
//! A file of Odoo's filestore is named by the SHA-1 of its content and never changes, so a file verifies
//! itself and two trees may share it. Nothing in the live directory is ever written or removed here.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use undoo_core::{Kind, Problem, Result};

use crate::home::{MARKER, at};

/// The SHA-1 by which a file goes.
pub type Hash = [u8; 20];

/// `xx/xxxxxxxx…`, as `ir_attachment.store_fname` has it.
pub fn store_fname(hash: &Hash) -> String {
    let text = hex::encode(hash);
    format!("{}/{text}", &text[..2])
}

/// The hash in a `store_fname`; `None` for what is no path of Odoo's own filestore.
pub fn parse_store_fname(name: &str) -> Option<Hash> {
    let (folder, file) = name.split_once('/')?;
    let lower = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if folder.len() != 2 || file.len() != 40 || !file.starts_with(folder) || !lower(file) {
        return None;
    }
    hex::decode(file).ok()?.try_into().ok()
}

/// A file that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptFile {
    /// Its path in the filestore.
    pub store_fname: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What staging a filestore came to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Files linked from the live filestore.
    pub linked: u64,
    /// Files that came from the backup.
    pub fetched: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
    /// Files of the backup, or of the live filestore where the backup has none, that are not what their
    /// names say; they were left out.
    pub corrupt: Vec<CorruptFile>,
    /// Live files that were not what their names say and were replaced by the backup's.
    pub live_corrupt: Vec<String>,
    /// Whether live files were linked by size alone.
    pub trusted_size: bool,
}

/// A directory being filled.
pub struct Stage {
    staged: PathBuf,
    live: PathBuf,
    owner: (u32, u32),
    modes: (u32, u32),
    trust_size: bool,
    have: Mutex<HashMap<Hash, u64>>,
    folders: Mutex<std::collections::HashSet<u8>>,
    outcome: Mutex<Staged>,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Stage {
    /// Creates the staged directory, with the owner and modes of the live one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(staged: &Path, live: &Path, owner: Option<(u32, u32)>, trust_size: bool) -> Result<Self> {
        fs::create_dir_all(staged).map_err(at("create", staged))?;
        let model =
            [live, live.parent().unwrap_or(live)].into_iter().find_map(|path| fs::metadata(path).ok());
        let owner = owner.or_else(|| model.as_ref().map(|m| (m.uid(), m.gid()))).unwrap_or((0, 0));
        let directory_mode = model.map_or(0o755, |m| m.mode() & 0o777);
        let stage = Self {
            staged: staged.to_owned(),
            live: live.to_owned(),
            owner,
            modes: (directory_mode, directory_mode & 0o666),
            trust_size,
            have: Mutex::default(),
            folders: Mutex::default(),
            outcome: Mutex::new(Staged { trusted_size: trust_size, ..Staged::default() }),
            bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        stage.dress(staged, stage.modes.0)?;
        Ok(stage)
    }

    /// Files and bytes placed so far.
    pub fn progress(&self) -> (u64, u64) {
        (lock(&self.have).len() as u64, self.bytes.load(Ordering::Relaxed))
    }

    /// Makes whoever is filling it give up at the next file or piece of one.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn go_on(&self) -> Result<()> {
        if !self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Cancelled,
            "files_stopped",
            "the restore ended before its files were there",
            "",
        ))
    }

    /// Places one file: linked if the live filestore has it, else from `open`.
    ///
    /// # Errors
    /// When reading the backup or writing the file system fails. A file with the wrong content is not
    /// an error: it is left out and listed.
    pub fn place(
        &self,
        hash: &Hash,
        size: u64,
        open: impl FnOnce() -> Result<Box<dyn Read + Send>>,
    ) -> Result<()> {
        self.go_on()?;
        if lock(&self.have).contains_key(hash) || self.link_live(hash, Some(size))? {
            return Ok(());
        }
        self.receive(hash, size, &mut open()?)
    }

    /// Writes one file from a stream, hashing it.
    ///
    /// # Errors
    /// As [`Stage::place`].
    pub fn receive(&self, hash: &Hash, size: u64, from: &mut dyn Read) -> Result<()> {
        if lock(&self.have).contains_key(hash) {
            return Ok(());
        }
        let path = self.path(hash)?;
        // Never written in place: what has this name already may be a link to the live file.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &path)(error)),
            _ => {}
        }
        let mut file = File::create_new(&path).map_err(at("create", &path))?;
        let mut sha = Sha1::new();
        let mut buffer = vec![0; 128 * 1024];
        let mut received = 0_u64;
        loop {
            self.go_on()?;
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(undoo_archive::error::problem_of(error)),
            };
            if read == 0 {
                break;
            }
            sha.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(at("write", &path))?;
            received += read as u64;
            self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
        let actual: Hash = sha.finalize().into();
        if actual != *hash || received != size {
            drop(file);
            fs::remove_file(&path).map_err(at("remove", &path))?;
            lock(&self.outcome).corrupt.push(CorruptFile {
                store_fname: store_fname(hash),
                reason: format!("its {received} bytes have SHA-1 {}", hex::encode(actual)),
            });
            return Ok(());
        }
        self.dress(&path, self.modes.1)?;
        lock(&self.have).insert(*hash, size);
        let mut outcome = lock(&self.outcome);
        outcome.fetched += 1;
        outcome.fetched_bytes += received;
        Ok(())
    }

    /// Links a live file, if there is one with this hash whose content holds.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn link_live(&self, hash: &Hash, size: Option<u64>) -> Result<bool> {
        let name = store_fname(hash);
        let live = self.live.join(&name);
        let Ok(metadata) = fs::symlink_metadata(&live) else { return Ok(false) };
        // The name says what the content is; a size that differs may as well be the backup's mistake.
        let trusted = self.trust_size && size == Some(metadata.len());
        let holds = metadata.is_file() && (trusted || hash_file(&live).map_err(at("read", &live))? == *hash);
        if !holds {
            lock(&self.outcome).live_corrupt.push(name);
            return Ok(false);
        }
        self.link(&live, hash, metadata.len())?;
        Ok(true)
    }

    fn link(&self, live: &Path, hash: &Hash, size: u64) -> Result<()> {
        let path = self.path(hash)?;
        match fs::hard_link(live, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Another mount, or a file system without links: a copy is as good, only dearer.
            Err(_) => {
                fs::copy(live, &path).map_err(at("copy into", &path))?;
                self.dress(&path, self.modes.1)?;
            }
        }
        lock(&self.have).insert(*hash, size);
        lock(&self.outcome).linked += 1;
        Ok(())
    }

    /// Links the whole live filestore: what a database-only restore needs for the database it replaces.
    ///
    /// Every file that is not staged yet is hashed before, unless sizes are trusted. One that is not what its name says is left
    /// out and listed: the backup has none to put in its place, and while it had the name, Odoo would
    /// refuse to write the right content there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn link_all(&self, threads: usize) -> Result<()> {
        if !self.live.exists() {
            // A new database, or one whose Odoo has not yet written a file.
            return Ok(());
        }
        let mut files = Vec::new();
        for_each_file(&self.live, &mut |hash, path, size| {
            files.push((hash, path.to_owned(), size));
            Ok(())
        })?;
        parallel(files.len(), threads, |index| {
            let (hash, path, size) = &files[index];
            self.go_on()?;
            let staged = fs::symlink_metadata(self.staged.join(store_fname(hash)));
            if staged.is_ok_and(|staged| staged.len() == *size) {
                lock(&self.have).insert(*hash, *size);
                return Ok(());
            }
            if !self.trust_size {
                let actual = hash_file(path).map_err(at("read", path))?;
                if actual != *hash {
                    lock(&self.outcome).corrupt.push(CorruptFile {
                        store_fname: store_fname(hash),
                        reason: format!(
                            "in the live filestore its {size} bytes have SHA-1 {}",
                            hex::encode(actual)
                        ),
                    });
                    return Ok(());
                }
            }
            self.link(path, hash, *size)
        })
    }

    /// Makes everything durable and answers what was staged, and what is there by hash and size.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn finish(self) -> Result<(Staged, HashMap<Hash, u64>)> {
        self.sync()?;
        let mut outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.corrupt.sort_by(|a, b| a.store_fname.cmp(&b.store_fname));
        Ok((outcome, self.have.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    fn sync(&self) -> Result<()> {
        let directory = File::open(&self.staged).map_err(at("open", &self.staged))?;
        rustix::fs::syncfs(&directory).map_err(|error| at("sync", &self.staged)(error.into()))
    }

    fn path(&self, hash: &Hash) -> Result<PathBuf> {
        let folder = self.staged.join(hex::encode(&hash[..1]));
        let mut folders = lock(&self.folders);
        if folders.insert(hash[0]) {
            fs::create_dir_all(&folder).map_err(at("create", &folder))?;
            self.dress(&folder, self.modes.0)?;
        }
        Ok(folder.join(hex::encode(hash)))
    }

    fn dress(&self, path: &Path, mode: u32) -> Result<()> {
        let set = || -> io::Result<()> {
            let metadata = fs::metadata(path)?;
            if (metadata.uid(), metadata.gid()) != self.owner {
                std::os::unix::fs::chown(path, Some(self.owner.0), Some(self.owner.1))?;
            }
            if metadata.mode() & 0o777 != mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            Ok(())
        };
        set().map_err(at("set the owner of", path))
    }
}

/// Gives a directory of ours to the user that Odoo runs as.
///
/// # Errors
/// When the file system refuses.
pub fn own(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(at("set the owner of", path))
}

/// Gives `path` the owner and mode of `model`.
///
/// # Errors
/// When the file system refuses.
pub fn dress_like(path: &Path, model: &Path) -> Result<()> {
    let metadata = fs::metadata(model).map_err(at("examine", model))?;
    std::os::unix::fs::chown(path, Some(metadata.uid()), Some(metadata.gid()))
        .and_then(|()| fs::set_permissions(path, metadata.permissions()))
        .map_err(at("set the owner of", path))
}

/// Runs `work` over `0..count` on `threads` threads, until one fails.
///
/// # Errors
/// The first failure.
pub fn parallel(count: usize, threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Problem>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                while lock(&failure).is_none() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    if let Err(problem) = work(index) {
                        lock(&failure).get_or_insert(problem);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A live filestore as found: what holds, and what does not.
///
/// # Errors
/// When it cannot be read.
pub fn examine(directory: &Path, threads: usize) -> Result<(HashMap<Hash, u64>, Vec<CorruptFile>)> {
    let mut files = Vec::new();
    if directory.exists() {
        for_each_file(directory, &mut |hash, path, size| {
            files.push((hash, path.to_owned(), size));
            Ok(())
        })?;
    }
    let (have, corrupt) = (Mutex::new(HashMap::new()), Mutex::new(Vec::new()));
    parallel(files.len(), threads, |index| {
        let (hash, path, size) = &files[index];
        let actual = hash_file(path).map_err(at("read", path))?;
        if actual == *hash {
            lock(&have).insert(*hash, *size);
        } else {
            lock(&corrupt).push(CorruptFile {
                store_fname: store_fname(hash),
                reason: format!("its {size} bytes have SHA-1 {}", hex::encode(actual)),
            });
        }
        Ok(())
    })?;
    let mut corrupt = corrupt.into_inner().unwrap_or_else(PoisonError::into_inner);
    corrupt.sort_by(|a, b| a.store_fname.cmp(&b.store_fname));
    Ok((have.into_inner().unwrap_or_else(PoisonError::into_inner), corrupt))
}

/// Visits the files that Odoo's filestore layout knows; `checklist/` and our marker are not files of it.
fn for_each_file(directory: &Path, visit: &mut dyn FnMut(Hash, &Path, u64) -> Result<()>) -> Result<()> {
    for folder in fs::read_dir(directory).map_err(at("read", directory))? {
        let folder = folder.map_err(at("read", directory))?;
        let name = folder.file_name();
        let Some(name) = name.to_str().filter(|name| *name != MARKER && name.len() == 2) else { continue };
        let path = folder.path();
        if !folder.file_type().map_err(at("read", &path))?.is_dir() {
            continue;
        }
        for file in fs::read_dir(&path).map_err(at("read", &path))? {
            let file = file.map_err(at("read", &path))?;
            let metadata = file.metadata().map_err(at("read", &path))?;
            let hash =
                file.file_name().to_str().and_then(|file| parse_store_fname(&format!("{name}/{file}")));
            if let (Some(hash), true) = (hash, metadata.is_file()) {
                visit(hash, &file.path(), metadata.len())?;
            }
        }
    }
    Ok(())
}

/// SHA-1 of a file.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let mut sha = Sha1::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sha.finalize().into()),
            read => sha.update(&buffer[..read]),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(bytes: &[u8]) -> Hash {
        Sha1::digest(bytes).into()
    }

    fn live_file(root: &Path, hash: &Hash, content: &[u8]) {
        let path = root.join(store_fname(hash));
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, content).expect("written");
    }

    fn offer(bytes: &'static [u8]) -> impl FnOnce() -> Result<Box<dyn Read + Send>> {
        move || Ok(Box::new(bytes))
    }

    #[test]
    fn only_names_of_odoos_filestore_are_paths() {
        let hash = sha(b"x");
        assert_eq!(parse_store_fname(&store_fname(&hash)), Some(hash));
        for bad in ["", "ab", "../etc/passwd", "ab/cd", "s3://bucket/key", "AB/ABCDEF"] {
            assert_eq!(parse_store_fname(bad), None, "{bad}");
        }
        assert_eq!(parse_store_fname(&format!("00/{}", hex::encode(hash))), None);
    }

    #[test]
    fn a_live_file_is_linked_and_one_of_the_right_size_with_wrong_content_is_replaced() {
        let root = tempfile::tempdir().expect("a directory");
        let (live, staged) = (root.path().join("live"), root.path().join("staged"));
        let (good, spoilt) = (sha(b"good"), sha(b"spoilt"));
        live_file(&live, &good, b"good");
        live_file(&live, &spoilt, b"SPOILT");
        let stage = Stage::create(&staged, &live, None, false).expect("a stage");
        stage.place(&good, 4, || panic!("the live file was not used")).expect("placed");
        stage.place(&spoilt, 6, offer(b"spoilt")).expect("placed");
        let (outcome, have) = stage.finish().expect("finished");
        assert_eq!((outcome.linked, outcome.fetched, outcome.fetched_bytes), (1, 1, 6));
        assert_eq!(outcome.live_corrupt, vec![store_fname(&spoilt)]);
        assert_eq!(have.len(), 2);
        assert_eq!(fs::read(staged.join(store_fname(&spoilt))).expect("there"), b"spoilt");
        assert_eq!(fs::read(live.join(store_fname(&spoilt))).expect("there"), b"SPOILT");
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_left_out_and_listed() {
        let root = tempfile::tempdir().expect("a directory");
        let (live, staged) = (root.path().join("live"), root.path().join("staged"));
        let hash = sha(b"right");
        let stage = Stage::create(&staged, &live, None, false).expect("a stage");
        stage.place(&hash, 5, offer(b"wrong")).expect("no error");
        let (outcome, have) = stage.finish().expect("finished");
        assert_eq!(outcome.corrupt.len(), 1);
        assert_eq!(outcome.corrupt[0].store_fname, store_fname(&hash));
        assert!(have.is_empty() && !staged.join(store_fname(&hash)).exists());
    }

    #[test]
    fn examining_a_live_filestore_names_what_does_not_hold() {
        let root = tempfile::tempdir().expect("a directory");
        let (good, spoilt) = (sha(b"good"), sha(b"spoilt"));
        live_file(root.path(), &good, b"good");
        live_file(root.path(), &spoilt, b"");
        fs::create_dir_all(root.path().join("checklist/ab")).expect("created");
        let (have, corrupt) = examine(root.path(), 2).expect("examined");
        assert_eq!(have.keys().collect::<Vec<_>>(), vec![&good]);
        assert_eq!(corrupt[0].store_fname, store_fname(&spoilt));
    }
}
