//! Commands that an administrator gave, to stop and to start what has no Docker.
//!
//! None may act after the process that ran it is gone: a stop command that comes to its end late would
//! stop the Odoo that an `undoo undo` has started meanwhile. So each runs in a process group of its own,
//! with a watcher in it that ends the group as soon as our end of a pipe closes, however that comes. What a
//! command hands to a daemon, as `systemctl` and `docker` do, that daemon finishes.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

/// Runs the command that is its first argument, and a watcher of standard input beside it.
const WATCHED: &str = "exec 3<&0 </dev/null
    { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & watcher=$!
    sh -c \"$1\" 3<&-; status=$?
    kill -KILL $watcher
    exit $status";

/// Runs a shell command to its end. When this is dropped or takes longer than `patience`, the command and
/// all that it started are killed. A Ctrl-C on the terminal does not reach it.
///
/// # Errors
/// How it ended, with the last line that it wrote to standard error.
pub async fn run(command: &str, patience: Duration) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCHED, "sh", command]).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    // Open until the command has ended, or we have.
    let _pipe = child.stdin.take();
    let output = tokio::time::timeout(patience, child.wait_with_output())
        .await
        .map_err(|_| format!("it did not end within {} seconds", patience.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, said.trim().lines().next_back().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_command_tells_how_it_ended() {
        assert_eq!(run("exit 0", LONG).await, Ok(()));
        assert_eq!(run("echo one >&2; echo two >&2; exit 3", LONG).await.unwrap_err(), "exit status: 3: two");
        assert!(run("kill -9 $$", LONG).await.is_err());
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_at_its_end_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let command = format!("(sleep 0.3; touch {}) >/dev/null 2>&1 &", late.display());
        run(&command, LONG).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(late.exists());
    }

    #[tokio::test]
    async fn nothing_of_a_command_goes_on_once_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let command = format!("(sleep 0.5; touch {}); true", late.display());
        let told = run(&command, Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(told, "it did not end within 0 seconds");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!late.exists(), "it went on");
    }
}
