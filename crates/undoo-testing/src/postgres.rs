//! Throw-away PostgreSQL servers for whoever keeps their own state in one, with a fresh database for each
//! test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{as_other_than_root, command, postgres_tools, run};

/// The version of the server and of its clients.
const MAJOR: &str = "17";

/// What ends the server and removes its folder when our end of its pipe is closed, however that happens.
const KEEPER: &str = r#"folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null & server=$!
read -r _
kill -QUIT $server; wait $server; rm -rf "$folder""#;

/// A server on a socket in its own folder, in memory.
pub struct Postgres {
    folder: PathBuf,
    settings: Vec<String>,
    keeper: Mutex<Option<Child>>,
}

impl Postgres {
    /// The server that the tests of this process share. What is made once for all is kept in `folder`: a
    /// test gives its `CARGO_TARGET_TMPDIR`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn shared(folder: &str) -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::own(folder, Path::new("/dev/shm"), &["fsync=off"]))
    }

    /// A server of a test's own, with its data in a folder of `place` and with these settings.
    ///
    /// # Panics
    /// When it does not start.
    pub fn own(folder: &str, place: &Path, settings: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("undoo-pg-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = Self {
            folder: place.join(name),
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            keeper: Mutex::default(),
        };
        fs::create_dir(&server.folder).unwrap();
        run(Command::new("cp").arg("-a").arg(template(folder)).arg(server.folder.join("data")));
        server.start();
        server
    }

    /// The URL of a new, empty database.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn fresh(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = format!("fresh_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {database}"));
        self.url("postgres", &database)
    }

    /// The URL of a database, as a role. It may have a password: `ROLE:PASSWORD`. The role `postgres` needs
    /// none.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@localhost/{database}?host={}", self.folder.display())
    }

    /// Runs statements as `postgres`; answers what they print, without the last line's end.
    ///
    /// # Panics
    /// When they fail.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        String::from_utf8(run(&mut psql)).unwrap().trim_end().to_owned()
    }

    /// Starts it, also after [`Postgres::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&self) {
        let mut words = as_other_than_root(&postgres_tools().join(MAJOR).join("bin/postgres"));
        let folder = self.folder.display().to_string();
        words.extend(["-D".to_owned(), format!("{folder}/data"), "-k".to_owned(), folder.clone()]);
        let settings = ["listen_addresses=", "shared_buffers=64MB"].map(str::to_owned);
        for setting in settings.iter().chain(&self.settings) {
            words.extend(["-c".to_owned(), setting.clone()]);
        }
        let mut keeper = Command::new("setsid");
        keeper.args(["sh", "-c", KEEPER, "sh", &folder]).args(words).stdin(Stdio::piped());
        *self.keeper.lock().unwrap() =
            Some(keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while !self.client("pg_isready").stdout(Stdio::null()).status().unwrap().success() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            sleep(Duration::from_millis(30));
        }
    }

    /// Ends it at once, as a crash does; its data stays.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&self) {
        let pid = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        run(Command::new("kill").args(["-QUIT", pid.lines().next().unwrap()]));
        while self.folder.join("data/postmaster.pid").exists() {
            sleep(Duration::from_millis(10));
        }
        // The keeper would remove the data: it is ended by its id before its pipe is closed.
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            keeper.kill().ok();
            keeper.wait().ok();
        }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(postgres_tools().join(MAJOR).join("bin").join(program));
        command.env("PGHOST", &self.folder).env("PGUSER", "postgres").env("PGPORT", "5432");
        command.env_remove("PGDATABASE").env_remove("PGOPTIONS").env("PGCONNECT_TIMEOUT", "30");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            drop(keeper.stdin.take());
            keeper.wait().ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A cluster that was just made, copied for each server: every test may have a process of its own.
fn template(folder: &str) -> PathBuf {
    let template = Path::new(folder).join(format!("postgres-{MAJOR}-fresh"));
    let lock = File::create(template.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let draft = template.with_extension("new");
        fs::remove_dir_all(&draft).ok();
        let options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        let mut initdb = command(&as_other_than_root(&postgres_tools().join(MAJOR).join("bin/initdb")));
        run(initdb.arg("-D").arg(&draft).args(options));
        let access = "local all postgres trust\nlocal all all scram-sha-256\n";
        fs::write(draft.join("pg_hba.conf"), access).unwrap();
        fs::rename(&draft, &template).unwrap();
    }
    template
}
