//! The database of a backup: a moment that is held, and `pg_dump` of that moment.
//!
//! The password reaches `pg_dump` as a file in memory that has no name and is its standard input; it is in
//! no argument and no environment.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    io::{self, Read, Seek, Write},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::fs::MemfdFlags;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tokio_postgres::{Client, error::SqlState};
use undoo_archive::error::carry;
use undoo_core::{BackupId, Kind, Problem, Result};
use undoo_storage::CancellationToken;

use crate::{
    order::Target,
    pg::{self, DatabaseAccess, SslMode},
};

/// What of `pg_dump`'s errors is kept.
const LONGEST_COMPLAINT: usize = 4096;

/// A moment of the database: whoever has its id sees the database as it was then.
pub struct Moment {
    /// Open for as long as someone may ask for the moment.
    _session: Client,
    /// What `pg_dump` is told.
    pub id: String,
    /// What the database is.
    pub facts: Facts,
}

/// What a backup says about its database.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `server_version`.
    pub server_version: String,
    /// `server_version_num / 10000`.
    pub major: u32,
    /// About how many bytes a dump of it has at most.
    pub bytes: u64,
    /// Installed modules and their versions; empty where this is no database of Odoo's.
    pub modules: BTreeMap<String, Option<String>>,
}

/// What keeps Odoo's garbage collector away.
pub enum Collector {
    /// This session does.
    Away(Client),
    /// The role may not lock `ir_attachment`: it may be at work.
    MayWork,
    /// There is no `ir_attachment`, and nothing to collect.
    None,
}

impl Collector {
    /// Keeps it away until this is dropped. Before it looks for files that no attachment names, it locks
    /// `ir_attachment` in mode SHARE, and gives up after ten seconds (`_gc_file_store` of Odoo 11 and
    /// later); what is taken here is in the way of that and of nothing else that Odoo does. It is for
    /// moments: who comes after a waiting collector waits with it.
    ///
    /// Where the role may not, or there is no such table, it is not kept away.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn keep_away(target: &Target) -> Result<Self> {
        let client = target.admin.connect(&target.database).await?;
        let sql = "SET idle_in_transaction_session_timeout = 0; \
                   BEGIN; LOCK TABLE public.ir_attachment IN ROW EXCLUSIVE MODE";
        match client.batch_execute(sql).await {
            Ok(()) => Ok(Self::Away(client)),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Self::None),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(Self::MayWork),
            Err(error) => Err(pg::failed("keeping Odoo's garbage collector away")(error)),
        }
    }

    /// Lets it work again; answers whether it may have worked all the time.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn let_go(self) -> Result<bool> {
        if let Self::Away(client) = &self {
            let released = client.batch_execute("ROLLBACK").await;
            released.map_err(pg::failed("letting Odoo's garbage collector go"))?;
        }
        Ok(matches!(self, Self::MayWork))
    }
}

impl Moment {
    /// Holds this moment.
    ///
    /// # Errors
    /// When the server does not answer, or has no such database.
    pub async fn hold(target: &Target) -> Result<Self> {
        let session = target.admin.connect(&target.database).await?;
        let doing = pg::failed("holding a moment of the database");
        // It idles while the dump is made.
        session
            .batch_execute(
                "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; \
                 BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            )
            .await
            .map_err(&doing)?;
        let row = session
            .query_one(
                "SELECT pg_export_snapshot(), current_setting('server_version'), \
                 current_setting('server_version_num')::int / 10000, \
                 pg_database_size(current_database()), to_regclass('public.ir_module_module') IS NOT NULL",
                &[],
            )
            .await
            .map_err(&doing)?;
        let mut facts = Facts {
            server_version: row.get(1),
            major: row.get::<_, i32>(2).unsigned_abs(),
            bytes: row.get::<_, i64>(3).unsigned_abs(),
            modules: BTreeMap::new(),
        };
        if row.get(4) {
            // Odoo's own manifest has these (`dump_db_manifest`).
            let sql = "SELECT name::text, latest_version::text FROM public.ir_module_module \
                       WHERE state = 'installed'";
            let modules = session.query(sql, &[]).await.map_err(&doing)?;
            facts.modules = modules.iter().map(|row| (row.get(0), row.get(1))).collect();
        }
        Ok(Self { id: row.get(0), facts, _session: session })
    }

    /// Lets it pass; what was seen of it stays.
    pub fn end(self) -> Facts {
        self.facts
    }
}

/// The `pg_dump` for a server: of those that are here, the oldest that is not older than the server, so
/// that what it writes can be loaded into that server again.
///
/// # Errors
/// `pg_dump_missing` (`Missing`) where there is none.
pub fn program(major: u32, given: Option<&Path>) -> Result<PathBuf> {
    let candidates = match given {
        Some(given) => vec![given.to_owned()],
        None => candidates(),
    };
    let versions: Vec<(PathBuf, u32)> =
        candidates.into_iter().filter_map(|path| Some((path.clone(), version(&path)?))).collect();
    let fitting =
        versions.iter().filter(|(_, version)| *version >= major).min_by_key(|(_, version)| *version);
    if let Some((path, _)) = fitting {
        return Ok(path.clone());
    }
    let newest = versions.iter().map(|(_, version)| *version).max();
    let message = match newest {
        Some(newest) => {
            format!("the pg_dump here is of PostgreSQL {newest}, and dumps no server of version {major}")
        }
        None => "there is no pg_dump here".to_owned(),
    };
    Err(Problem::new(
        Kind::Missing,
        "pg_dump_missing",
        message,
        format!(
            "install PostgreSQL's client programs of version {major} or later, or name one: --pg-dump PATH"
        ),
    ))
}

/// Where it may be, the real programs before what stands in for them on the path.
fn candidates() -> Vec<PathBuf> {
    let configured = bare(Path::new("pg_config")).arg("--bindir").stdin(Stdio::null()).output().ok();
    let configured = configured
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    // Debian's and Red Hat's places.
    let installed = [("/usr/lib/postgresql", "bin"), ("/usr", "bin")].into_iter().flat_map(|(base, bin)| {
        let entries = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
        entries
            .filter(move |path| {
                base != "/usr"
                    || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"))
            })
            .map(move |path| path.join(bin))
    });
    let path = env::var_os("PATH").unwrap_or_default();
    let all = installed.chain(configured).chain(env::split_paths(&path));
    all.map(|folder| folder.join("pg_dump")).filter(|path| path.is_file()).collect()
}

/// The first number of `pg_dump (PostgreSQL) 15.4`.
fn version(program: &Path) -> Option<u32> {
    let output = bare(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split(") ").nth(1)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A command with nothing of our environment but where programs and libraries are: there may be
/// credentials in it, and settings of libpq.
fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running `pg_dump`, as what it writes. Its end is one only if it ended well.
pub struct Dump {
    child: Arc<Mutex<Child>>,
    out: ChildStdout,
    complaints: Option<JoinHandle<String>>,
    cancel: CancellationToken,
    watch: tokio::task::JoinHandle<()>,
    /// Open while `pg_dump` may read it.
    _authorities: Option<File>,
    done: bool,
}

impl Dump {
    /// Starts it, as Odoo's own backup does (`pg_dump --no-owner`, plain). `cancel` kills it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        runtime: &Handle,
        program: &Path,
        target: &Target,
        moment: &Moment,
        id: &BackupId,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let unstartable = |error: io::Error| {
            Problem::new(
                Kind::Unavailable,
                "pg_dump_not_started",
                format!("{} could not be started: {error}", program.display()),
                "run it by hand with --version to see why",
            )
            .caused_by(error)
        };
        let access = &target.admin;
        let mut command = bare(program);
        command
            .args(["--no-owner", "--format=plain", "--no-password"])
            .arg(format!("--snapshot={}", moment.id))
            .env("PGHOST", &access.host)
            .env("PGPORT", access.port.to_string())
            .env("PGUSER", &access.user)
            // In an argument, a name might be taken for a connection string.
            .env("PGDATABASE", &target.database)
            .env("PGAPPNAME", format!("undoo backup {id}"))
            .env("PGSSLMODE", access.tls.mode.as_str())
            .env("PGPASSFILE", "/proc/self/fd/0")
            .stdin(Stdio::from(password_file(access).map_err(unstartable)?))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let authorities = match (&access.tls.authorities, access.tls.mode) {
            (Some(pem), _) => {
                let file = in_memory("undoo-authorities", pem).map_err(unstartable)?;
                command.env("PGSSLROOTCERT", format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
                Some(file)
            }
            // What is trusted without any; libpq knows that word since 16.
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                command.env("PGSSLROOTCERT", "system").env("PGSSLMODE", SslMode::VerifyFull.as_str());
                None
            }
            (None, _) => None,
        };
        let mut child = command.spawn().map_err(unstartable)?;
        let (Some(out), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(unstartable(io::ErrorKind::BrokenPipe.into()));
        };
        let complaints = thread::spawn(move || last_words(errors));
        let child = Arc::new(Mutex::new(child));
        let (killed, token) = (Arc::clone(&child), cancel.clone());
        let watch = runtime.spawn(async move {
            token.cancelled().await;
            // It may have ended by itself.
            let _ = lock(&killed).kill();
        });
        Ok(Self {
            child,
            out,
            complaints: Some(complaints),
            cancel: cancel.clone(),
            watch,
            _authorities: authorities,
            done: false,
        })
    }

    /// How it ended, once it has closed its output.
    fn ended(&mut self) -> Result<()> {
        let status = loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(failed("it cannot be waited for").caused_by(error)),
            }
        };
        if self.cancel.is_cancelled() {
            return Err(super::cancelled());
        }
        if status.success() {
            return Ok(());
        }
        let complaints = self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let complaints = complaints.trim();
        Err(failed(if complaints.is_empty() { status.to_string() } else { complaints.to_owned() }))
    }
}

fn failed(why: impl Into<String>) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "pg_dump_failed",
        format!("pg_dump did not come to its end: {}", why.into()),
        "see what it says and the database server's log, then run it again",
    )
}

impl Read for Dump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.out.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !std::mem::replace(&mut self.done, true) {
            self.ended().map_err(carry)?;
        }
        Ok(read)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.watch.abort();
        let mut child = lock(&self.child);
        // It has ended already, where all went well.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn lock(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The password as libpq's `.pgpass`. Whoever may read it there may read this process's memory.
fn password_file(access: &DatabaseAccess) -> io::Result<File> {
    let password = access.password.expose_secret().replace('\\', "\\\\").replace(':', "\\:");
    in_memory("undoo-pgpass", &format!("*:*:*:*:{password}\n"))
}

/// A file that nobody else finds, gone when it is closed.
fn in_memory(name: &str, content: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    // libpq takes no password from a file that others may read.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The end of what is written there.
fn last_words(mut from: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => kept.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        let over = kept.len().saturating_sub(LONGEST_COMPLAINT);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
