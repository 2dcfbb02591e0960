//! Slows down who guesses passwords: after a few failures in a row, an address has to wait.
//!
//! It is kept in memory, by address, and bounded; each process counts for itself. It never tells whether
//! there is such a user, since it counts for those that do not exist as well.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use undoo_core::{Kind, Problem, Result};

/// Failures that cost nothing.
const FREE: u32 = 5;
/// The longest that anybody waits, in seconds.
const LONGEST_WAIT: i64 = 900;
/// Addresses that are remembered at the same time.
const MOST: usize = 10_000;

#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<String, Failures>>);

struct Failures {
    count: u32,
    wait_until: Timestamp,
}

impl Throttle {
    /// Counts an attempt as failed, before it is made: many at the same time are not free either.
    ///
    /// # Errors
    /// `too_many_attempts` (`Denied`) where it has to wait.
    pub(crate) fn attempt(&self, email: &str, now: Timestamp) -> Result<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(email) {
            // Not one that is being guessed at: whoever fills this up is to gain nothing by it.
            let least = known.iter().min_by_key(|(_, failures)| (failures.count, failures.wait_until));
            if let Some(least) = least.map(|(address, _)| address.clone()) {
                known.remove(&least);
            }
        }
        let failures = known.entry(email.to_owned()).or_insert(Failures { count: 0, wait_until: now });
        if failures.wait_until > now {
            let seconds = failures.wait_until.as_second() - now.as_second() + 1;
            return Err(Problem::new(
                Kind::Denied,
                "too_many_attempts",
                "too many attempts to sign in with this address failed",
                format!("Wait {seconds} s, then try again."),
            ));
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count > FREE {
            let wait = 1i64.checked_shl(failures.count - FREE).unwrap_or(LONGEST_WAIT).clamp(1, LONGEST_WAIT);
            failures.wait_until = now.checked_add(SignedDuration::from_secs(wait)).unwrap_or(now);
        }
        Ok(())
    }

    /// It was the right password.
    pub(crate) fn succeeded(&self, email: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(email);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_often_waits_longer_each_time_and_the_right_password_forgives() {
        let (throttle, mut now) = (Throttle::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..=FREE {
            throttle.attempt("a@b", now).unwrap();
        }
        assert_eq!(throttle.attempt("a@b", now).unwrap_err().code, "too_many_attempts");
        throttle.attempt("c@d", now).unwrap();
        now += SignedDuration::from_secs(2);
        throttle.attempt("a@b", now).unwrap();
        assert!(throttle.attempt("a@b", now + SignedDuration::from_secs(3)).is_err());
        throttle.succeeded("a@b");
        throttle.attempt("a@b", now).unwrap();
    }
}
