//! Ctrl-C, and what asks for the same (SIGTERM, a terminal that is gone): a press is for all who wait for one,
//! and none is lost where nobody does at the moment.
//!
//! From the first wait on, a press does not end the process any more. So whatever takes long has to wait
//! for one beside its work, and put its things in order when it comes.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use undoo_core::{Kind, Problem};

/// How many presses there were; counted from the first wait on.
static PRESSED: LazyLock<watch::Receiver<u64>> = LazyLock::new(|| {
    let (count, counted) = watch::channel(0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // `nohup` has a lost terminal ignored, which is to stay so.
    let hangup = (!ignores(&status, SignalKind::hangup())).then(SignalKind::hangup);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup) {
        // Without it the signal ends the process, as any other does.
        let Ok(mut signals) = signal(kind) else { continue };
        let count = count.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                count.send_modify(|count| *count += 1);
            }
        });
    }
    counted
});
/// How many of them somebody has acted on.
static HEARD: AtomicU64 = AtomicU64::new(0);

/// Ends with the next press from this call on, or at once with one that nobody has heard yet.
pub fn interrupted() -> impl Future<Output = ()> + Send {
    let heard = HEARD.load(Ordering::SeqCst);
    let mut pressed = PRESSED.clone();
    async move {
        let count = pressed.wait_for(|count| *count > heard).await.map(|count| *count);
        match count {
            Ok(count) => {
                HEARD.fetch_max(count, Ordering::SeqCst);
            }
            // There is no way to hear of one here.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What an interrupted order ends with.
pub fn cancelled() -> Problem {
    Problem::new(Kind::Cancelled, "cancelled", "the work was cancelled", "")
}

/// Whether a process ignores a signal, by its `/proc/PID/status` (proc_pid_status(5)): `SigIgn` is a mask in
/// hexadecimal digits, whose lowest bit is signal 1.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[tokio::test]
    async fn being_terminated_is_heard_as_a_press_is() {
        for signal in ["INT", "TERM"] {
            let heard = interrupted();
            let process = std::process::id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &process]).status().expect("started").success());
            tokio::time::timeout(Duration::from_secs(10), heard).await.expect(signal);
        }
    }

    #[test]
    fn nohup_is_seen() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000000001"), SignalKind::hangup()));
        assert!(ignores(&status("0000000000005001"), SignalKind::hangup()));
        assert!(!ignores(&status("0000000000001000"), SignalKind::hangup()));
        assert!(!ignores("", SignalKind::hangup()));
    }
}
