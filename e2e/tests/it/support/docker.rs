//! The `docker` command, and `psql` and `pg_dump` in a database container.

use std::{
    io::Write as _,
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

/// `docker` with these words, which must succeed.
pub(crate) fn docker(words: &[&str]) -> String {
    let out = succeed(Command::new("docker").args(words), b"");
    String::from_utf8(out).unwrap().trim().to_owned()
}

/// `docker` with these words, whatever comes of it; `None` when it failed.
pub(crate) fn docker_maybe(words: &[&str]) -> Option<String> {
    let output = output(Command::new("docker").args(words), b"");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Both streams of a container's log.
pub(crate) fn logs(container: &str) -> String {
    let output = output(Command::new("docker").args(["logs", container]), b"");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// SQL as the administrator in a database container; gives rows as text, columns parted by `|`.
pub(crate) fn psql(container: &str, database: &str, sql: &str) -> String {
    let mut command = Command::new("docker");
    command.args(["exec", "-i", "-u", "postgres", container, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]);
    command.args(["-U", "odoo", "-d", database]);
    String::from_utf8(succeed(&mut command, sql.as_bytes())).unwrap().trim().to_owned()
}

/// `pg_dump` in a database container.
pub(crate) fn pg_dump(container: &str, database: &str, words: &[&str]) -> Vec<u8> {
    let mut command = Command::new("docker");
    command.args(["exec", "-u", "postgres", container, "pg_dump", "-U", "odoo", "--no-owner"]);
    succeed(command.args(words).arg(database), b"")
}
