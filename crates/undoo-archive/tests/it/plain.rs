//! Plain dumps made by the real pg_dump: whatever it writes must be recognised, and honest data must
//! come through byte for byte.

use std::{
    io::Cursor,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use undoo_archive::dump::{
    DumpEvent, DumpStream,
    code::{Verdict, inspect_code},
    mend::{Decision, Target, decide},
    plain::PlainDump,
    statement::{Classified, classify},
};

/// One of everything that pg_dump has a form for and that needs no other software.
const TRICKY: &str = include_str!("plain_objects.sql");

/// A throw-away cluster on a socket in a directory of its own, stopped when dropped.
struct Cluster {
    dir: TempDir,
    bin: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL's programs are installed");
        let mut bins: Vec<PathBuf> =
            versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        bins.sort();
        let bin = bins.pop().expect("a version of PostgreSQL");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
        let cluster = Self { dir, bin };
        cluster.server(&["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        cluster.server(&[
            "pg_ctl",
            "-D",
            "data",
            "-w",
            "-l",
            "log",
            "-o",
            "-k .. -c listen_addresses= -F",
            "start",
        ]);
        cluster
    }

    /// Runs a program of the server, which refuses to run as root.
    fn server(&self, arguments: &[&str]) {
        let [program, rest @ ..] = arguments else { unreachable!("a program is named") };
        let program = self.bin.join(program);
        let root =
            std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut command = match root {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        let status = command
            .args(rest)
            .current_dir(self.dir.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.expect("the program starts").success(), "{arguments:?}");
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let Output { status, stdout, stderr } = Command::new(self.bin.join(program))
            .args(["-h", &self.dir.path().to_string_lossy(), "-U", "postgres"])
            .args(arguments)
            .output()
            .expect("the program starts");
        assert!(status.success(), "{program}: {}", String::from_utf8_lossy(&stderr));
        stdout
    }

    fn run_script(&self, script: &str) {
        let file: &Path = &self.dir.path().join("script.sql");
        std::fs::write(file, script).expect("the script is written");
        self.client("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", &file.to_string_lossy(), "postgres"]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server(&["pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop"]);
    }
}

fn events(dump: Vec<u8>) -> Vec<DumpEvent> {
    let mut dump = PlainDump::open(Box::new(Cursor::new(dump))).expect("pg_dump's header is known");
    let mut events = Vec::new();
    while let Some(event) = dump.next_event().expect("pg_dump's output is read") {
        events.push(event);
    }
    events
}

fn statements(events: &[DumpEvent]) -> Vec<(Classified, &str)> {
    let statements = events.iter().filter_map(|event| match event {
        DumpEvent::Statement(statement) | DumpEvent::CopyStart(statement) => Some(&statement.sql),
        _ => None,
    });
    statements
        .map(|sql| {
            (classify(sql).unwrap_or_else(|problem| panic!("{}: {sql}", problem.message)), sql.as_str())
        })
        .collect()
}

#[test]
fn whatever_pg_dump_writes_is_recognised_and_nothing_is_refused() {
    let cluster = Cluster::start();
    cluster.run_script(TRICKY);
    let target = Target { server_major: 15, schemas: ["public".to_owned()].into() };
    for options in [&["postgres"][..], &["--clean", "--if-exists", "postgres"], &["--inserts", "postgres"]] {
        let events = events(cluster.client("pg_dump", options));
        for (statement, sql) in statements(&events) {
            let decision = decide(&statement, &target);
            assert!(!matches!(decision, Decision::Refuse(_)), "{sql}: {decision:?}");
        }
    }

    let events = events(cluster.client("pg_dump", &["postgres"]));
    let statements = statements(&events);
    let count = |kind: fn(&Classified) -> bool| statements.iter().filter(|(one, _)| kind(one)).count();
    assert_eq!(count(|one| matches!(one, Classified::CreateTable { .. })), 7);
    assert_eq!(count(|one| matches!(one, Classified::Copy { .. })), 6);
    assert_eq!(count(|one| matches!(one, Classified::AddForeignKey { not_valid: true, .. })), 1);
    assert_eq!(count(|one| matches!(one, Classified::CreateFunction { .. })), 4);

    let mut needs: Vec<String> = Vec::new();
    for (statement, sql) in &statements {
        for finding in inspect_code(statement, sql) {
            assert_ne!(finding.verdict, Verdict::Never, "{sql}");
            if finding.verdict == Verdict::NeedsAcceptance {
                needs.push(finding.object);
            }
        }
    }
    needs.sort();
    assert_eq!(
        needs,
        [
            "aggregate public.total",
            "function public.atomic",
            "function public.positive",
            "function public.touch",
            "rule no_delete on public.plain",
            "table public.Odd \"name\"",
            "trigger touch on public.plain",
        ]
    );
}

#[test]
fn rows_and_large_objects_of_a_real_dump_are_those_of_the_database() {
    let cluster = Cluster::start();
    cluster.run_script(TRICKY);
    let expected = cluster.client("psql", &["-q", "-c", "COPY public.plain TO stdout", "postgres"]);
    let object = cluster.client("psql", &["-qAt", "-c", "SELECT encode(lo_get(4711), 'hex')", "postgres"]);
    let events = events(cluster.client("pg_dump", &["postgres"]));

    let mut rows = Vec::new();
    let mut large = Vec::new();
    let mut current = None;
    for event in &events {
        match event {
            DumpEvent::CopyStart(statement) => current = classify(&statement.sql).ok(),
            DumpEvent::CopyRows { bytes, .. }
                if current
                    .as_ref()
                    .and_then(Classified::table)
                    .is_some_and(|table| table.name == "plain") =>
            {
                rows.extend_from_slice(bytes);
            }
            DumpEvent::LargeObjectData(bytes) => large.extend_from_slice(bytes),
            _ => {}
        }
    }
    assert_eq!(String::from_utf8_lossy(&rows), String::from_utf8_lossy(&expected));
    assert_eq!(hex::encode(large), String::from_utf8_lossy(&object).trim());
}
