//! What a storage costs: bytes and requests counted, and the rate held down where a line is shared.
//!
//! Clones share their counters, so that everything opened from one [`crate::Options`] adds to one sum.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts what was read and written. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
}

impl Meter {
    /// Bytes of answers received so far: contents and listings, without HTTP headers.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of content sent so far, those that were sent again included.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Requests sent so far, failed ones included; on this machine, streams begun and folders
    /// listed.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn add_bytes(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// An upper limit on bytes per second. Clones share the budget, however many streams draw on it.
#[derive(Debug, Clone)]
pub struct Bandwidth(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_per_second: u64,
    /// When the line is free again, given what was already taken.
    free_at: Mutex<Instant>,
}

impl Bandwidth {
    /// A limit of `bytes_per_second`; zero counts as one.
    pub fn new(bytes_per_second: u64) -> Self {
        let free_at = Mutex::new(Instant::now());
        Self(Arc::new(Budget { bytes_per_second: bytes_per_second.max(1), free_at }))
    }

    /// Takes `bytes` from the budget and says how long to wait before going on.
    pub(crate) fn take(&self, bytes: usize) -> Duration {
        let cost = Duration::try_from_secs_f64(bytes as f64 / self.0.bytes_per_second as f64);
        let cost = cost.unwrap_or(Duration::MAX);
        let now = Instant::now();
        // A budget is two numbers, whole at every moment: a panic elsewhere does not spoil it.
        let mut free_at = self.0.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*free_at).max(now);
        *free_at = start.checked_add(cost).unwrap_or(start);
        free_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_streams_share_one_bandwidth() {
        let one = Bandwidth::new(1000);
        let other = one.clone();
        one.take(1000);
        let wait = other.take(1000);
        assert!(wait > Duration::from_millis(1900) && wait <= Duration::from_secs(2), "{wait:?}");
    }
}
