//! Why a task is to stop, as its worker hears it: once, from several sides.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Why a task is to stop. What is further down outweighs what is above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// The worker shuts down: another one is to begin again.
    ShuttingDown,
    /// Somebody called it off: what was done is taken back.
    Cancelled,
}

/// Tells a task to stop.
#[derive(Default)]
pub(crate) struct Signal {
    stop: CancellationToken,
    why: Mutex<Option<Why>>,
}

impl Signal {
    /// Says that the task is to stop.
    pub(crate) fn raise(&self, why: Why) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some(why));
        self.stop.cancel();
    }

    /// Why the task is to stop, if it is.
    pub(crate) fn why(&self) -> Option<Why> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the task is to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
