//! The reader against archives of every PostgreSQL from 12 to 18, made by the real `pg_dump`. The same
//! archive as plain SQL, made by the real `pg_restore`, says what must come out.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use undoo_archive::dump::{
    DumpEvent, DumpStream, ROWS_CHUNK,
    custom::{Compression, CustomDump},
    plain::PlainDump,
};
use undoo_testing::{as_other_than_root, command, postgres_tools, run};

/// A throw-away cluster, on a socket in its own folder.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    client: PathBuf,
    server: Child,
}

impl Cluster {
    pub(crate) fn start(major: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = postgres_tools().join(format!("{major}/bin"));
        // The programs that come with 12 have no clients.
        let client = postgres_tools().join(format!("{}/bin", major.max(13)));
        let data = folder.path().join("data");
        run(command(&as_other_than_root(&bin.join("initdb"))).arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        let log = File::create(folder.path().join("log")).unwrap();
        let server = command(&as_other_than_root(&bin.join("postgres")))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut cluster = Self { folder, client, server };
        let begun = Instant::now();
        while !cluster.client("pg_isready").stdout(Stdio::null()).status().unwrap().success() {
            let log = || fs::read_to_string(cluster.folder.path().join("log")).unwrap();
            assert!(cluster.server.try_wait().unwrap().is_none(), "the server ended: {}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            sleep(Duration::from_millis(50));
        }
        cluster
    }

    /// A client program, told where the server is.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.client.join(program));
        command.env("PGHOST", self.folder.path()).env("PGUSER", "postgres").env("PGOPTIONS", "");
        command.env_remove("PGPORT").env_remove("PGDATABASE").env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// An archive, written to a file, where pg_dump goes back and notes the offsets, or to a pipe.
    fn dump(&self, name: &str, options: &[&str], to_pipe: bool) -> PathBuf {
        let file = self.folder.path().join(name);
        let mut command = self.client("pg_dump");
        command.args(["-Fc", "-d", "tricky"]).args(options);
        if to_pipe {
            fs::write(&file, run(&mut command)).unwrap();
        } else {
            run(command.arg("-f").arg(&file));
        }
        file
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Stopped by its own id, and waited for, so that the folder can go.
        let stopped = Command::new("kill").arg("-QUIT").arg(self.server.id().to_string()).status();
        if stopped.is_ok_and(|status| status.success()) {
            self.server.wait().ok();
        }
    }
}

/// What a dump says, independent of how it is cut into events.
#[derive(PartialEq, Eq)]
enum Said {
    Statement(String),
    CopyStart(String),
    Rows(Vec<u8>, u64),
    CopyEnd,
    LargeObjectStart(u32, bool),
    LargeObjectData(Vec<u8>),
    LargeObjectEnd,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Statement(sql) => write!(f, "statement {sql}"),
            Self::CopyStart(sql) => write!(f, "copy {sql}"),
            Self::Rows(bytes, rows) => write!(f, "{rows} rows, {} bytes", bytes.len()),
            Self::CopyEnd => write!(f, "end of copy"),
            Self::LargeObjectStart(oid, create) => write!(f, "large object {oid} ({create})"),
            Self::LargeObjectData(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::LargeObjectEnd => write!(f, "end of large object"),
        }
    }
}

fn all_said(mut dump: impl DumpStream) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some(event) = dump.next_event().unwrap() {
        let said = match event {
            DumpEvent::Statement(statement) => Said::Statement(statement.sql),
            DumpEvent::CopyStart(statement) => Said::CopyStart(statement.sql),
            DumpEvent::CopyRows { bytes, rows, ends_row } => {
                assert_eq!(bytes.ends_with(b"\n"), ends_row);
                assert!(bytes.len() <= 1024 * 1024 + 2 * ROWS_CHUNK, "{} bytes at once", bytes.len());
                if let Some(Said::Rows(before, count)) = all.last_mut() {
                    before.extend_from_slice(&bytes);
                    *count += rows;
                    continue;
                }
                Said::Rows(bytes, rows)
            }
            DumpEvent::CopyEnd => Said::CopyEnd,
            DumpEvent::LargeObjectStart { oid, create } => Said::LargeObjectStart(oid, create),
            DumpEvent::LargeObjectData(bytes) => {
                if let Some(Said::LargeObjectData(before)) = all.last_mut() {
                    before.extend_from_slice(&bytes);
                    continue;
                }
                Said::LargeObjectData(bytes)
            }
            DumpEvent::LargeObjectEnd => Said::LargeObjectEnd,
        };
        all.push(said);
    }
    all
}

fn open(file: &Path) -> CustomDump {
    CustomDump::open(Box::new(File::open(file).unwrap())).unwrap()
}

/// An archive says what pg_restore says of it, in the same order.
fn assert_as_pg_restore_says(cluster: &Cluster, file: &Path) -> Vec<Said> {
    let plain = run(cluster.client("pg_restore").args(["-f", "-"]).arg(file));
    let plain = PlainDump::open(Box::new(std::io::Cursor::new(plain))).unwrap();
    let custom = open(file);
    assert_eq!(custom.header().server_version, plain.header().server_version);
    assert_eq!(custom.header().dump_version, plain.header().dump_version);
    assert_eq!(custom.header().database.as_deref(), Some("tricky"));
    let (expected, said) = (all_said(plain), all_said(custom));
    for (at, (said, expected)) in said.iter().zip(&expected).enumerate() {
        assert_eq!(said, expected, "event {at} of {}", file.display());
    }
    assert_eq!(said.len(), expected.len(), "{}", file.display());
    said
}

fn archives_say_what_pg_restore_says(major: u32) {
    let cluster = Cluster::start(major);
    run(cluster.client("psql").args(["-Xq", "-d", "postgres", "-c", "CREATE DATABASE tricky"]));
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/custom_postgres.sql");
    run(cluster.client("psql").args(["-Xq", "-d", "tricky", "-f"]).arg(setup));

    let mut methods = vec![("none", "-Z0", Compression::None), ("gzip", "-Z6", Compression::Gzip)];
    if major >= 16 {
        methods.push(("lz4", "--compress=lz4", Compression::Lz4));
        methods.push(("zstd", "--compress=zstd:long", Compression::Zstd));
    }
    let mut said_before = None;
    for (name, option, compression) in methods {
        for to_pipe in [false, true] {
            let file = cluster.dump(&format!("{name}-{to_pipe}.dump"), &[option], to_pipe);
            assert_eq!(open(&file).compression(), compression);
            let said = assert_as_pg_restore_says(&cluster, &file);
            assert!(said_before.is_none_or(|before| before == said), "{name} differs from the others");
            said_before = Some(said);
        }
    }
    let said = said_before.unwrap();
    assert!(said.iter().any(|said| matches!(said, Said::Rows(bytes, _) if bytes.len() > 2_000_000)));
    let large_objects = said.iter().filter(|said| matches!(said, Said::LargeObjectStart(..))).count();
    assert_eq!(large_objects, 44);

    for option in
        ["--inserts", "--schema-only", "--data-only", "--no-blobs", "--load-via-partition-root", "--create"]
    {
        assert_as_pg_restore_says(&cluster, &cluster.dump("other.dump", &[option], false));
    }
    if major >= 18 {
        assert_as_pg_restore_says(&cluster, &cluster.dump("statistics.dump", &["--statistics"], false));
    }
}

#[test]
fn archives_of_12_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(12);
}

#[test]
fn archives_of_13_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(13);
}

#[test]
fn archives_of_14_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(14);
}

#[test]
fn archives_of_15_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(15);
}

#[test]
fn archives_of_16_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(16);
}

#[test]
fn archives_of_17_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(17);
}

#[test]
fn archives_of_18_say_what_pg_restore_says() {
    archives_say_what_pg_restore_says(18);
}
