//! What ends a fetch before its end, and why: whoever is first says it, and all others see it and stop.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use undoo_core::{Kind, Problem, platform::AddonsOrigin};

use crate::failure;

/// How soon a wish to stop is seen.
pub(crate) const TICK: Duration = Duration::from_millis(30);

#[derive(Default)]
pub(crate) struct Watch {
    ended: AtomicBool,
    reason: Mutex<Option<Problem>>,
}

impl Watch {
    /// Ends the fetch, unless something else has done so.
    pub(crate) fn end(&self, reason: Problem) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// As git's library wants to look at it.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.ended
    }

    pub(crate) fn reason(&self) -> Option<Problem> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Looks after the caller's wish and after the time, until the work is done.
    pub(crate) fn until(
        &self,
        done: &Receiver<()>,
        stop: &AtomicBool,
        patience: Duration,
        origin: &AddonsOrigin,
    ) {
        let began = Instant::now();
        while done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if stop.load(Ordering::Relaxed) {
                let message = format!("fetching {} was cancelled", failure::named(origin));
                self.end(Problem::new(Kind::Cancelled, "cancelled", message, ""));
            } else if began.elapsed() >= patience {
                self.end(failure::timeout(origin, patience));
            }
        }
    }
}
