//! What a restore keeps on the target: its record, its journal, its parked directories. Where a backup has
//! its snapshot.
//!
//! Everything lives in `.undoo` inside the directory of filestores, so that it is on the same file
//! system as the live filestore (renames and hard links need that), goes where the volume goes, and is
//! there when the machine that ordered the restore is not. Every write is on disk before it counts.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use undoo_core::{BackupId, Kind, Problem, RestoreId, Result, Side};

/// How the name of a backup's directory begins; restores' have none.
const BACKUP: &str = "backup-";
/// What a dropped database leaves.
const DROPPED: &str = "dropped";
/// What was stopped before a database was dropped.
const STOPPED: &str = "stopped";
/// File of a restore's directory that says which database it is of.
const DATABASE: &str = "database.json";

/// The file in a filestore directory that says which side of which restore it is.
pub const MARKER: &str = ".undoo-pair";

/// The directory `.undoo` of a target.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home inside Odoo's directory of filestores. Nothing is created yet.
    pub fn of(filestore_root: &Path) -> Self {
        Self { root: filestore_root.join(".undoo") }
    }

    /// The restore's own directory.
    pub fn restore(&self, id: &RestoreId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// A backup's own directory, for as long as it is being made.
    pub fn backup(&self, id: &BackupId) -> PathBuf {
        self.root.join(format!("{BACKUP}{id}"))
    }

    /// Directories of all backups that are being made, or were when their process died.
    ///
    /// # Errors
    /// `Unavailable` when the directory cannot be read.
    pub fn backups(&self) -> Result<Vec<PathBuf>> {
        let id = |name: &str| name.strip_prefix(BACKUP)?.parse::<BackupId>().ok();
        Ok(self.names()?.iter().filter_map(|name| id(name)).map(|id| self.backup(&id)).collect())
    }

    /// Where a side's filestore waits while it is not live.
    pub fn parked(&self, id: &RestoreId, side: Side) -> PathBuf {
        self.restore(id).join(side.word())
    }

    /// The private data directory of the Odoo that proves the restored side.
    pub fn proof(&self, id: &RestoreId) -> PathBuf {
        self.restore(id).join("proof")
    }

    /// Creates the directory of a restore of this database, readable by nobody else: it will hold
    /// customers' files. Whoever sees it can read whose it is.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses.
    pub fn create(&self, id: &RestoreId, database: &str) -> Result<()> {
        let path = self.restore(id);
        if path.exists() {
            return write(&path, DATABASE, &database);
        }
        let draft = self.root.join(format!("{id}.new"));
        make_directory(&draft)?;
        let filled = write(&draft, DATABASE, &database)
            .and_then(|()| fs::rename(&draft, &path).map_err(at("create", &path)));
        if filled.is_err() {
            remove_tree(&draft)?;
        }
        filled?;
        sync_directory(&self.root).map_err(at("sync", &self.root))
    }

    /// The database that a restore is of.
    ///
    /// # Errors
    /// As [`Home::read`].
    pub fn database(&self, id: &RestoreId) -> Result<Option<String>> {
        self.read(id, DATABASE)
    }

    /// Writes a document of the restore, atomically and durably.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses; the previous document then still stands.
    pub fn write<T: Serialize>(&self, id: &RestoreId, name: &str, document: &T) -> Result<()> {
        write(&self.restore(id), name, document)
    }

    /// Reads a document of the restore; `None` when it was never written.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read, `Invalid` when it is not what was written.
    pub fn read<T: DeserializeOwned>(&self, id: &RestoreId, name: &str) -> Result<Option<T>> {
        read(&self.restore(id).join(name))
    }

    /// Keeps what belonged to a live database that is about to be dropped, until one of that name is live
    /// again: longer than the restore that drops it, which may fail.
    ///
    /// # Errors
    /// As [`Home::write`].
    pub fn write_dropped<T: Serialize>(&self, database: &str, properties: &T) -> Result<()> {
        write(&self.root, &about(DROPPED, database), properties)
    }

    /// What [`Home::write_dropped`] kept, if anything.
    ///
    /// # Errors
    /// As [`Home::read`].
    pub fn read_dropped<T: DeserializeOwned>(&self, database: &str) -> Result<Option<T>> {
        read(&self.root.join(about(DROPPED, database)))
    }

    /// Forgets it; that there is nothing is fine.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses.
    pub fn forget_dropped(&self, database: &str) -> Result<()> {
        self.forget(&about(DROPPED, database))
    }

    /// Notes containers that are about to be stopped to make room, besides those that were stopped before:
    /// whoever starts Odoo again has to start them, and that may be somebody else.
    ///
    /// # Errors
    /// As [`Home::write`].
    pub fn note_stopped(&self, database: &str, containers: Vec<String>) -> Result<()> {
        let mut stopped = self.read_stopped(database)?;
        stopped.extend(containers);
        stopped.sort();
        stopped.dedup();
        make_directory(&self.root)?;
        write(&self.root, &about(STOPPED, database), &stopped)
    }

    /// What [`Home::note_stopped`] noted.
    ///
    /// # Errors
    /// As [`Home::read`].
    pub fn read_stopped(&self, database: &str) -> Result<Vec<String>> {
        read(&self.root.join(about(STOPPED, database))).map(Option::unwrap_or_default)
    }

    /// Forgets it: all of them were started.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses.
    pub fn forget_stopped(&self, database: &str) -> Result<()> {
        self.forget(&about(STOPPED, database))
    }

    fn forget(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&self.root).map_err(at("sync", &self.root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at("remove", &path)(error)),
        }
    }

    /// Adds a line to the restore's journal; it is on disk when this returns.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses: the step must not be taken then.
    pub fn journal<T: Serialize>(&self, id: &RestoreId, entry: &T) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.restore(id).join("journal.jsonl");
        let write = || -> io::Result<()> {
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
            file.write_all(&line)?;
            file.sync_all()
        };
        write().map_err(at("write", &path))
    }

    /// Ids of all restores that have left something here, oldest first.
    ///
    /// # Errors
    /// `Unavailable` when the directory cannot be read.
    pub fn restores(&self) -> Result<Vec<RestoreId>> {
        let mut ids: Vec<RestoreId> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    fn names(&self) -> Result<Vec<String>> {
        match fs::read_dir(&self.root) {
            Ok(entries) => {
                Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at("read", &self.root)(error)),
        }
    }

    /// Removes the restore's directory with everything in it.
    ///
    /// # Errors
    /// `Unavailable` when the file system refuses.
    pub fn remove(&self, id: &RestoreId) -> Result<()> {
        remove_tree(&self.restore(id))
    }
}

/// A directory that Odoo's own user can pass through, and only that: a parked directory becomes its live one.
fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(at("create", path))
}

/// A file about a database. Its name may have anything in it, so it is in hexadecimal.
fn about(what: &str, database: &str) -> String {
    format!("{what}-{}.json", hex::encode(database))
}

/// Writes a document into a directory, atomically and durably.
pub(crate) fn write<T: Serialize>(directory: &Path, name: &str, document: &T) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(name);
    let draft = directory.join(format!("{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
        serde_json::to_writer_pretty(&mut file, document)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_directory(directory)
    };
    write().map_err(at("write", &path))
}

/// Reads a document; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Problem::new(
            Kind::Invalid,
            "record_unreadable",
            format!("{} is not a record of this version", path.display()),
            "use the version of undoo that wrote it",
        )
        .caused_by(error)
    })
}

/// What stands in a marker file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The restore.
    pub restore: RestoreId,
    /// Which side of it this directory is.
    pub side: Side,
}

/// Marks a filestore directory as one side of a restore, durably.
///
/// # Errors
/// `Unavailable` when the file system refuses.
pub fn mark(directory: &Path, marker: Marker) -> Result<()> {
    let path = directory.join(MARKER);
    let draft = directory.join(format!("{MARKER}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        serde_json::to_writer(&mut file, &marker)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_directory(directory)
    };
    write().map_err(at("write", &path))
}

/// Reads the marker of a directory; `None` for one without, or without a readable one.
pub fn marker(directory: &Path) -> Option<Marker> {
    serde_json::from_slice(&fs::read(directory.join(MARKER)).ok()?).ok()
}

/// Removes a tree; one that does not exist is removed already.
///
/// # Errors
/// `Unavailable` when the file system refuses.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// Makes renames and new names in a directory durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// An I/O error as a problem that names what was done to which path.
pub fn at(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Problem {
    let path = path.display().to_string();
    move |error| {
        let (code, remedy) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ("disk_full", "make room on that disk, then run it again")
            }
            io::ErrorKind::PermissionDenied => ("file_rights", "run as a user that may do this"),
            _ => ("file_system", "see the machine's log for that disk"),
        };
        Problem::new(Kind::Unavailable, code, format!("cannot {doing} {path}: {error}"), remedy)
            .caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_was_never_written_is_none_and_a_written_one_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let (home, id) = (Home::of(directory.path()), RestoreId::generate());
        home.create(&id, "acme").expect("created");
        assert_eq!(home.database(&id).expect("readable").as_deref(), Some("acme"));
        assert_eq!(home.read::<String>(&id, "plan.json").expect("readable"), None);
        home.write(&id, "plan.json", &"a plan").expect("written");
        assert_eq!(home.read::<String>(&id, "plan.json").expect("readable").as_deref(), Some("a plan"));
        assert_eq!(home.restores().expect("listed"), vec![id]);
    }

    #[test]
    fn what_was_stopped_is_known_until_it_is_started_by_whomever() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::of(directory.path());
        assert_eq!(home.read_stopped("acme").expect("readable"), Vec::<String>::new());
        home.note_stopped("acme", vec!["odoo".into(), "worker".into()]).expect("noted");
        // A second attempt finds fewer of them running.
        home.note_stopped("acme", vec!["odoo".into()]).expect("noted");
        assert_eq!(home.read_stopped("acme").expect("readable"), ["odoo", "worker"]);
        assert_eq!(home.read_stopped("other").expect("readable"), Vec::<String>::new());
        home.forget_stopped("acme").expect("forgotten");
        home.forget_stopped("acme").expect("nothing is fine");
        assert_eq!(home.read_stopped("acme").expect("readable"), Vec::<String>::new());
    }

    #[test]
    fn a_directory_knows_which_side_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(marker(directory.path()), None);
        let wanted = Marker { restore: RestoreId::generate(), side: Side::Replaced };
        mark(directory.path(), wanted).expect("marked");
        assert_eq!(marker(directory.path()), Some(wanted));
    }
}
