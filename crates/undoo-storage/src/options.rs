//! How to read and write: time-outs, retries, parts, and the meter and limit that all of it counts against.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    meter::{Bandwidth, Meter},
    reach::Reach,
};

/// How a location is opened, read and written.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a connection may take, name resolution and TLS included. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a server may stay silent before a connection counts as broken. Default 30 s.
    pub stall_timeout: Duration,
    /// What is done about errors that may pass.
    pub retry: Retry,
    /// Where bytes and requests are counted; keep a clone to read it.
    pub meter: Meter,
    /// An upper limit on the rate, if any.
    pub bandwidth: Option<Bandwidth>,
    /// Bytes in the first parts of an object that is written in parts; at least 5 MiB in S3. Later parts
    /// grow where the provider allows it, so that any object fits into the 10,000 parts of S3. Default
    /// 8 MiB.
    pub part_size: usize,
    /// Parts on their way at the same time, where the protocol can. Writing holds so many parts in memory
    /// and the one that is being filled. Default 4.
    pub concurrency: usize,
    /// Which addresses may be connected to. Default all.
    pub reach: Reach,
    /// Cancelled, it ends whatever waits for a storage with the problem `cancelled`. Futures and streams of
    /// this crate may also just be dropped; this is for threads that wait in the blocking ones.
    pub cancel: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retry: Retry::default(),
            meter: Meter::default(),
            bandwidth: None,
            part_size: 8 * 1024 * 1024,
            concurrency: 4,
            reach: Reach::default(),
            cancel: CancellationToken::new(),
        }
    }
}

/// Exponential backoff with jitter.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Failures in a row before giving up. A read that moved on by at least 1 MiB starts counting anew.
    pub attempts: u32,
    /// The first pause; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, also for what a server asks for with `Retry-After`.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Eight attempts over about half a minute.
    fn default() -> Self {
        Self { attempts: 8, first_pause: Duration::from_millis(250), longest_pause: Duration::from_secs(15) }
    }
}

impl Retry {
    /// The pause after the `failures`th failure (from 1): at least half of the exponential step, so that
    /// a busy server gets its rest, the other half random, so that movers do not come back in step.
    pub(crate) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let step = self.first_pause.saturating_mul(doubled).min(self.longest_pause);
        let jittered = step.mul_f64(0.5 + fastrand::f64() / 2.0);
        jittered.max(asked.unwrap_or_default().min(self.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        let retry = Retry::default();
        for failures in 1..40 {
            let step = Duration::from_millis(250).mul_f64(2f64.powi(failures as i32 - 1));
            let step = step.min(retry.longest_pause);
            let pause = retry.pause(failures, None);
            assert!(pause >= step / 2 && pause <= step, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn a_server_that_asks_for_a_pause_gets_it_up_to_the_longest() {
        let retry = Retry::default();
        assert!(retry.pause(1, Some(Duration::from_secs(3))) >= Duration::from_secs(3));
        assert_eq!(retry.pause(1, Some(Duration::from_secs(3600))), retry.longest_pause);
    }
}
