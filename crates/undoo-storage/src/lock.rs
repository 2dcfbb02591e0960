//! Object Lock of S3: backups that nobody, with whatever key, removes or replaces before a time.
//!
//! Only what is written as a backup is locked, never the object of a test. The time counts from the moment
//! of writing; it must never be made shorter here.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use reqsign_core::time::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
pub(crate) const RETAIN_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
/// A hundred years, as S3 has it.
const MOST_DAYS: u32 = 36_500;

/// What a backup is locked with when it is written: `governance:30d` or `compliance:30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// For how many days from the moment of writing.
    pub days: u32,
}

/// Who may lift a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Those with the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, the owner of the account included.
    Compliance,
}

impl ObjectLock {
    /// Adds it to the headers of the request that makes the object.
    pub(crate) fn apply(self, headers: &mut HeaderMap, now: SystemTime) -> Result<(), Fault> {
        let mode = match self.mode {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        };
        let until = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| since.checked_add(Duration::from_secs(u64::from(self.days) * 24 * 3600)))
            .and_then(|until| Timestamp::from_second(i64::try_from(until.as_secs()).ok()?).ok());
        let until = until.and_then(|until| HeaderValue::from_str(&until.format_rfc3339_zulu()).ok());
        let until = until.ok_or_else(|| Fault::unexpected("the end of the lock is no date"))?;
        headers.insert(MODE, HeaderValue::from_static(mode));
        headers.insert(RETAIN_UNTIL, until);
        Ok(())
    }
}

impl fmt::Display for ObjectLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        };
        write!(f, "{mode}:{}d", self.days)
    }
}

impl FromStr for ObjectLock {
    /// What is wrong with it.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (mode, days) = text.split_once(':')?;
            let mode = match mode {
                "governance" => LockMode::Governance,
                "compliance" => LockMode::Compliance,
                _ => return None,
            };
            let days = days.strip_suffix('d')?.parse().ok()?;
            (1..=MOST_DAYS).contains(&days).then_some(Self { mode, days })
        };
        read().ok_or_else(|| {
            format!("a lock is governance:DAYSd or compliance:DAYSd, of at most {MOST_DAYS} days")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_is_shown_and_others_are_refused() {
        for text in ["governance:1d", "compliance:36500d"] {
            assert_eq!(text.parse::<ObjectLock>().expect(text).to_string(), text);
        }
        for text in ["", "compliance", "compliance:0d", "compliance:36501d", "compliance:30", "legal:3d"] {
            assert!(text.parse::<ObjectLock>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_headers_name_the_mode_and_the_end() {
        let mut headers = HeaderMap::new();
        let lock: ObjectLock = "compliance:2d".parse().expect("a lock");
        lock.apply(&mut headers, SystemTime::UNIX_EPOCH + Duration::from_secs(3600)).expect("a date");
        assert_eq!(headers[MODE], "COMPLIANCE");
        assert_eq!(headers[RETAIN_UNTIL], "1970-01-03T01:00:00Z");
    }
}
