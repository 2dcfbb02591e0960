//! Commands that an administrator gave, to stop and to start what has no Docker.
//!
//! None may act after the process that ran it is gone: a stop command that comes to its end late would
//! stop the Odoo that an `undoo undo` has started meanwhile. So each runs in a process group of its own,
//! with a watcher in it that ends the group as soon as our end of a pipe closes, however that comes. What a
//! command hands to a daemon, as `systemctl` and `docker` do, that daemon finishes.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::Command};

/// How much of the end of what a command says is kept, in bytes.
const SAID: usize = 8 << 10;
/// How long what a command said is awaited after its end. What it has left running may never close it.
const LAST_WORDS: Duration = Duration::from_millis(200);

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
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut listening = tokio::spawn(listen(child.stderr.take(), Arc::clone(&said)));
    let status = tokio::time::timeout(patience, child.wait())
        .await
        .map_err(|_| format!("it did not end within {} seconds", patience.as_secs()))?
        .map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let _ = tokio::time::timeout(LAST_WORDS, &mut listening).await;
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&said);
    Err(format!("{status}: {}", said.trim().lines().next_back().unwrap_or_default()))
}

/// Reads what a command and all that it leaves running say, and keeps the end of it.
async fn listen(from: Option<tokio::process::ChildStderr>, said: Arc<Mutex<Vec<u8>>>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..read]);
        let excess = said.len().saturating_sub(SAID);
        said.drain(..excess);
    }
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
    async fn what_goes_on_is_not_waited_for_though_it_may_still_speak() {
        assert_eq!(
            run("sleep 30 & echo started >&2; sleep_id=$!; (sleep 1; kill $sleep_id) &", LONG).await,
            Ok(())
        );
        let told = run("(sleep 2; echo late >&2) & echo early >&2; exit 3", LONG).await.unwrap_err();
        assert_eq!(told, "exit status: 3: early");
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
