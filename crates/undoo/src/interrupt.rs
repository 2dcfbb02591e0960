//! Ctrl-C: a press is for all who wait for one, and none is lost where nobody does at the moment.
//!
//! From the first wait on, a press does not end the process any more. So whatever takes long has to wait
//! for one beside its work, and put its things in order when it comes.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;
use undoo_core::{Kind, Problem};

/// How many presses there were; counted from the first wait on.
static PRESSED: LazyLock<watch::Receiver<u64>> = LazyLock::new(|| {
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            count.send_modify(|count| *count += 1);
        }
    });
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
