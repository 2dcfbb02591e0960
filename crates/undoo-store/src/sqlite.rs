//! A database in one file, for one process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use undoo_core::{Kind, Problem, Result};

use crate::failure::driver_failure;

/// Connections that read beside the one that writes.
const READERS: u32 = 4;

/// Pages that each connection keeps, in KiB with a minus before it, as SQLite has it.
const CACHE_KIB: &str = "-8192";

/// How long a writer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// The opened file.
pub(crate) struct Opened {
    pub(crate) reads: SqlitePool,
    /// Of one connection: SQLite has one writer at a time, and waiting for it in a queue is fair.
    pub(crate) writes: SqlitePool,
    /// Held as long as the file is open.
    pub(crate) lock: File,
}

/// Opens the file, which is made if it is not there.
pub(crate) async fn open(path: &Path) -> Result<Opened> {
    let path = made(path)?;
    let lock = alone(&path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit that was answered survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
        .pragma("temp_store", "memory")
        .pragma("cache_size", CACHE_KIB)
        .disable_statement_logging();
    // A connection to a file does not break: to ask each time whether it did would double what a query takes.
    let pool = || {
        let pool = SqlitePoolOptions::new().acquire_timeout(PATIENCE).test_before_acquire(false);
        pool.idle_timeout(None).max_lifetime(None)
    };
    // The writer first: it is what makes the log that readers need.
    let writes = pool()
        .max_connections(1)
        .min_connections(1)
        .connect_with(options.clone().optimize_on_close(true, 400))
        .await
        .map_err(driver_failure)?;
    let reads = pool()
        .max_connections(READERS)
        .connect_with(options.pragma("query_only", "on"))
        .await
        .map_err(driver_failure)?;
    Ok(Opened { reads, writes, lock })
}

/// Makes the file readable by nobody else; answers its real path, so that one file has one lock.
fn made(path: &Path) -> Result<PathBuf> {
    let open = || {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        path.canonicalize()
    };
    open().map_err(|error| {
        Problem::new(
            Kind::Denied,
            "database_denied",
            format!("the database {} cannot be opened for writing: {error}", path.display()),
            "make its folder, or give the user that runs Undoo the right to write there",
        )
        .caused_by(error)
    })
}

/// The lock that tells a second process. SQLite's own locks would let it in, and then both would work on the
/// same tasks.
fn alone(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let refused = |reason: String| {
        Problem::new(
            Kind::Denied,
            "database_denied",
            format!("the lock file beside the database {} cannot be used: {reason}", path.display()),
            "give the user that runs Undoo the right to write there; the folder has to be on a local disk",
        )
    };
    let lock = lock.map_err(|error| refused(error.to_string()).caused_by(error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Problem::new(
            Kind::Conflict,
            "database_in_use",
            format!("the database {} is open in another process of Undoo", path.display()),
            "stop that one first (its `undoo serve` has a worker in it). Several processes need PostgreSQL: \
             `--database-url postgres://…`.",
        )),
        Err(TryLockError::Error(error)) => Err(refused(error.to_string()).caused_by(error)),
    }
}
