//! Real PostgreSQL servers, one for each major version and shared by all tests, and servers of a test's
//! own for those that kill one.
//!
//! A shared server outlives every test, so nothing in this process could stop it at the end: a shell that
//! waits on a pipe from us does, by the server's id, however this process ends.

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

use sha1::Digest;
use undoo_engine::pg::{DatabaseAccess, Tls};
pub use undoo_testing::run;
use undoo_testing::{as_other_than_root, command, postgres_tools};

/// Password of every role that tests make.
pub const PASSWORD: &str = "se'cr\\et";

/// A throw-away cluster, on a socket in its own folder. Only `postgres` needs no password.
pub struct Server {
    pub major: u32,
    folder: tempfile::TempDir,
    /// The server's programs.
    bin: PathBuf,
    /// The clients', which not every build has.
    clients: PathBuf,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// The server that tests share.
    pub fn of(major: u32) -> &'static Self {
        static SERVERS: [OnceLock<Server>; 20] = [const { OnceLock::new() }; 20];
        SERVERS[major as usize].get_or_init(|| {
            let mut server = Self::prepared(&major.to_string());
            // The shell removes the folder too: nobody drops a static.
            let folder = server.folder.path().display().to_string();
            server.folder.disable_cleanup(true);
            let script = format!(
                "\"$@\" >{folder}/log 2>&1 </dev/null & server=$!; read -r _; \
                 kill -QUIT $server; wait $server; rm -rf {folder}"
            );
            let mut shell = Command::new("setsid");
            shell.args(["sh", "-c", &script, "sh"]).args(server.words()).stdin(Stdio::piped());
            *server.process.lock().unwrap() =
                Some(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            server.await_ready();
            server
        })
    }

    /// A server that one test has for itself and may kill.
    pub fn own(major: u32) -> Self {
        Self::own_build(&major.to_string(), &[])
    }

    /// As [`Server::own`], of a certain build (`17-icu`), with settings of its own.
    pub fn own_build(build: &str, settings: &[&str]) -> Self {
        let mut server = Self::prepared(build);
        server.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        server.start();
        server
    }

    /// As [`Server::own`], with its data in this folder.
    pub fn own_in(major: u32, place: &Path) -> Self {
        let server = Self::prepared_in(&major.to_string(), place);
        server.start();
        server
    }

    /// A copy of a cluster that has everything that tests begin with. It is made once and kept with what
    /// the build makes, because a test may have a process of its own.
    fn prepared(build: &str) -> Self {
        // In memory: that these servers' disk is slow would say nothing about what is tested.
        Self::prepared_in(build, Path::new("/dev/shm"))
    }

    fn prepared_in(build: &str, place: &Path) -> Self {
        let server = Self::unprepared(build, place);
        let script = include_str!("odoo.sql");
        let name = format!(
            "postgres-{build}-{:x}",
            sha1::Sha1::digest(script).iter().take(4).fold(0_u64, |all, b| all << 8 | u64::from(*b))
        );
        let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let lock = File::create(template.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !template.exists() {
            let making = Self::unprepared(build, Path::new("/dev/shm"));
            making.init(build.ends_with("-icu"));
            making.start();
            making
                .psql("postgres", &format!("CREATE ROLE odoo LOGIN CREATEDB PASSWORD {}", quoted(PASSWORD)));
            making.make_source();
            making.stop("-INT");
            let draft = template.with_extension("new");
            fs::remove_dir_all(&draft).ok();
            run(Command::new("cp").arg("-a").arg(making.folder.path().join("data")).arg(&draft));
            fs::rename(&draft, &template).unwrap();
        }
        drop(lock);
        run(Command::new("cp").arg("-a").arg(&template).arg(server.folder.path().join("data")));
        server
    }

    fn unprepared(build: &str, place: &Path) -> Self {
        let folder = tempfile::tempdir_in(place).or_else(|_| tempfile::tempdir()).unwrap();
        let major = build.split('-').next().unwrap();
        Self {
            major: major.parse().unwrap(),
            folder,
            bin: postgres_tools().join(build).join("bin"),
            clients: postgres_tools().join(major).join("bin"),
            settings: vec!["listen_addresses=".to_owned()],
            process: Mutex::default(),
        }
    }

    fn init(&self, icu: bool) {
        let data = self.folder.path().join("data");
        let options =
            ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--lc-ctype=C.UTF-8", "--no-sync"];
        let mut initdb = command(&as_other_than_root(&self.bin.join("initdb")));
        initdb.arg("-D").arg(&data).args(options);
        if icu {
            // A cluster whose own databases have it, as a distribution may make them.
            initdb.args(["--locale-provider=icu", "--icu-locale=en"]);
        }
        run(&mut initdb);
        fs::write(data.join("pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n")
            .unwrap();
    }

    /// Stops the server by its own id, and waits for it.
    fn stop(&self, signal: &str) {
        let Some(mut server) = self.process.lock().unwrap().take() else { return };
        if let Some(pipe) = server.stdin.take() {
            // A shared one, whose shell waits for the pipe's end.
            drop(pipe);
            server.wait().ok();
            return;
        }
        let stopped = Command::new("kill").arg(signal).arg(server.id().to_string()).status();
        if stopped.is_ok_and(|status| status.success()) {
            server.wait().ok();
        }
    }

    /// The port, which names the socket too.
    pub fn port(&self) -> u16 {
        let given = self.settings.iter().find_map(|setting| setting.strip_prefix("port="));
        given.map_or(5432, |port| port.parse().unwrap())
    }

    fn words(&self) -> Vec<String> {
        let mut words = as_other_than_root(&self.bin.join("postgres"));
        let folder = self.folder.path().display().to_string();
        words.extend(["-D".to_owned(), format!("{folder}/data"), "-k".to_owned(), folder]);
        let settings = [
            "fsync=off",
            "shared_buffers=32MB",
            "max_prepared_transactions=2",
            "wal_level=logical",
            "password_encryption=scram-sha-256",
            "autovacuum=off",
        ];
        let settings = settings.iter().map(|setting| (*setting).to_owned()).chain(self.settings.clone());
        words.extend(settings.flat_map(|setting| ["-c".to_owned(), setting]));
        words
    }

    /// Starts it, also after [`Server::kill`].
    pub fn start(&self) {
        self.launch();
        self.await_ready();
    }

    fn launch(&self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut server = command(&self.words());
        *self.process.lock().unwrap() =
            Some(server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        self.client("pg_isready").stdout(Stdio::null()).status().unwrap().success()
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start: {}", self.log());
            sleep(Duration::from_millis(30));
        }
    }

    /// Waits until it has recovered, and starts it when it ends by itself: a server whose disk is full may
    /// fall over more than once.
    pub fn revive(&self) {
        let begun = Instant::now();
        loop {
            let ended = {
                let mut process = self.process.lock().unwrap();
                process.as_mut().is_none_or(|server| server.try_wait().unwrap().is_some())
            };
            if ended {
                fs::remove_file(self.folder.path().join("data/postmaster.pid")).ok();
                self.launch();
            } else if self.is_ready() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not recover: {}", self.log());
            sleep(Duration::from_millis(30));
        }
    }

    /// The postmaster's id.
    pub fn pid(&self) -> u32 {
        let file = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// What `kill -9` does to a server, and the wait until its children have noticed.
    pub fn kill(&self) {
        let mut server = self.process.lock().unwrap().take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        let pid = self.folder.path().join("data/postmaster.pid");
        // The backends hold the shared memory for a moment longer.
        sleep(Duration::from_millis(300));
        fs::remove_file(pid).ok();
    }

    /// A client program, told where the server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.clients.join(program));
        command.env("PGHOST", self.folder.path()).env("PGUSER", "postgres").env("PGOPTIONS", "");
        command
            .env("PGPORT", self.port().to_string())
            .env_remove("PGDATABASE")
            .env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// Runs statements in `psql` as `postgres`; answers what they print, without its last line's end.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &connection(database), "-c", sql]);
        String::from_utf8(run(&mut psql)).unwrap().trim_end().to_owned()
    }

    /// As [`Server::psql`], as a role with [`PASSWORD`].
    pub fn psql_as(&self, role: &str, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.env("PGUSER", role).env("PGPASSWORD", PASSWORD);
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &connection(database), "-c", sql]);
        String::from_utf8(run(&mut psql)).unwrap().trim_end().to_owned()
    }

    /// Access as a role with [`PASSWORD`].
    pub fn access(&self, user: &str) -> DatabaseAccess {
        DatabaseAccess {
            host: self.folder.path().display().to_string(),
            port: self.port(),
            user: user.to_owned(),
            password: PASSWORD.into(),
            tls: Tls::default(),
        }
    }

    /// A file of the server's own folder of data, such as `pg_hba.conf`.
    pub fn data_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// A name that no other test has.
    pub fn unique(&self, what: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("{what}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// `pg_dump` of a database with these options.
    pub fn dump(&self, database: &str, options: &[&str]) -> Vec<u8> {
        run(self.client("pg_dump").args(options).args(["-d", &connection(database)]))
    }
}

/// A database's name where a client program takes a connection string.
pub fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A string literal, also of names that were made to break out of one.
pub fn quoted(text: &str) -> String {
    undoo_engine::pg::literal(text)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("-QUIT");
    }
}
