//! The `docker` command, and `psql` and `pg_dump` in a database container.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || {
        // A program that has heard enough closes its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    output
}

/// Runs a command that must succeed; gives what it wrote.
pub(crate) fn succeed(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let output = output(command, input);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A Docker Engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Engine {
    /// Its server's root directory as this machine sees it, where it is not this machine's usual engine.
    root: Option<PathBuf>,
}

impl Engine {
    /// The engine of a server whose root directory this machine sees here.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: Some(root.to_owned()) }
    }

    /// A path on its server as this machine sees it.
    pub(crate) fn path(&self, there: &str) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        root.join(there.trim_start_matches('/'))
    }

    /// A command that speaks to this engine.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if self.root.is_some() {
            command.env("DOCKER_HOST", format!("unix://{}", self.path("/run/docker.sock").display()));
        }
        command
    }

    /// `docker` with these words, which must succeed.
    pub(crate) fn docker(&self, words: &[&str]) -> String {
        let out = succeed(self.command("docker").args(words), b"");
        String::from_utf8(out).unwrap().trim().to_owned()
    }

    /// `docker` with these words, whatever comes of it; `None` when it failed.
    pub(crate) fn docker_maybe(&self, words: &[&str]) -> Option<String> {
        let output = output(self.command("docker").args(words), b"");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// SQL as the administrator in a database container; gives rows as text, columns parted by `|`.
    pub(crate) fn psql(&self, container: &str, database: &str, sql: &str) -> String {
        let mut command = self.command("docker");
        command.args(["exec", "-i", "-u", "postgres", container, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-U", "odoo", "-d", database]);
        String::from_utf8(succeed(&mut command, sql.as_bytes())).unwrap().trim().to_owned()
    }
}

/// `docker` with these words on this machine's engine, which must succeed.
pub(crate) fn docker(words: &[&str]) -> String {
    Engine::default().docker(words)
}

/// `docker` with these words on this machine's engine, whatever comes of it; `None` when it failed.
pub(crate) fn docker_maybe(words: &[&str]) -> Option<String> {
    Engine::default().docker_maybe(words)
}

/// SQL as the administrator in a database container of this machine's engine.
pub(crate) fn psql(container: &str, database: &str, sql: &str) -> String {
    Engine::default().psql(container, database, sql)
}

/// Both streams of a container's log.
pub(crate) fn logs(container: &str) -> String {
    let output = output(Command::new("docker").args(["logs", container]), b"");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `pg_dump` in a database container.
pub(crate) fn pg_dump(container: &str, database: &str, words: &[&str]) -> Vec<u8> {
    let mut command = Command::new("docker");
    command.args(["exec", "-u", "postgres", container, "pg_dump", "-U", "odoo", "--no-owner"]);
    succeed(command.args(words).arg(database), b"")
}
