//! The real servers that tests of several crates need: programs of every PostgreSQL, a way to run them as
//! anybody, a SeaweedFS, an sshd, a vsftpd and a git server; and a module for Odoo.
//!
//! Only `dev-dependencies` may name this crate; nothing of it is in the program. It panics where a test
//! would.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

pub mod git;
pub mod greeter;
pub mod postgres;
pub mod servers;
pub mod weed;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The folder that `dev/postgres-tools` fills, with the programs of all majors in `MAJOR/bin`.
///
/// # Panics
/// When the script fails; it says why on standard error.
pub fn postgres_tools() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = script("postgres-tools");
        let answer = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
        assert!(answer.status.success(), "{} failed", script.display());
        PathBuf::from(String::from_utf8(answer.stdout).unwrap().trim())
    })
}

/// The path of a script in `dev`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev").join(name)
}

/// Runs a command that must succeed; answers its standard output.
///
/// # Panics
/// When it cannot be started or fails, with what it said.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    output.stdout
}

/// The words that start a program of the server, which refuses to run as root. In a user namespace it is
/// someone else, who can still read the tools in root's cache.
pub fn as_other_than_root(program: &Path) -> Vec<String> {
    let program = program.display().to_string();
    if run(Command::new("id").arg("-u")) != b"0\n" {
        return vec![program];
    }
    ["unshare", "--user", "--map-user=1", "--map-group=1", &program].map(str::to_owned).to_vec()
}

/// A command of these words.
///
/// # Panics
/// When there is none.
pub fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
