//! Ctrl-C: each press is for whoever waits for one next, and none is lost in between.
//!
//! From the first wait on, a press does not end the process any more. So whatever takes long has to wait
//! for one beside its work, and put its things in order when it comes.

use std::sync::Once;

use tokio::sync::Semaphore;
use undoo_core::{Kind, Problem};

/// Presses that nobody has taken.
static PRESSES: Semaphore = Semaphore::const_new(0);
static LISTENING: Once = Once::new();

/// Ends with the next press, or at once with one that nobody has taken yet.
pub async fn interrupted() {
    LISTENING.call_once(|| {
        tokio::spawn(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                PRESSES.add_permits(1);
            }
        });
    });
    match PRESSES.acquire().await {
        Ok(press) => press.forget(),
        Err(_) => std::future::pending().await,
    }
}

/// What an interrupted order ends with.
pub fn cancelled() -> Problem {
    Problem::new(Kind::Cancelled, "cancelled", "the work was cancelled", "")
}
