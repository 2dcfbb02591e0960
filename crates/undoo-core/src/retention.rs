//! Which backups are kept, and why: grandfather, father, son.
//!
//! A rule keeps the newest backup of each of the latest periods that have one. A backup is deleted only
//! if no rule and no guard keeps it, and guards stand above every policy: the newest backup that was
//! verified, what a restore is using, what is pinned or locked. This only decides; the caller deletes,
//! and asks anew before each time it does. Nothing here looks at a clock.
//!
//! Days, ISO weeks (Monday to Sunday), months and years are those of UTC, so that the decision is the
//! same wherever it is made and no day is 23 hours long.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{
    Timestamp,
    civil::{Date, ISOWeekDate},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use crate::id::BackupId;

/// How many backups each rule keeps. A policy of zeros asks for nothing to be kept; see
/// [`Policy::keeps_nothing`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The newest backups.
    pub keep_last: u32,
    /// The newest of each of so many days that have one, counted from the newest backup back.
    pub daily: u32,
    /// As `daily`, of ISO weeks.
    pub weekly: u32,
    /// As `daily`, of months.
    pub monthly: u32,
    /// As `daily`, of years.
    pub yearly: u32,
    /// Backups younger than so many hours.
    pub min_age_hours: u32,
}

impl Policy {
    /// Whether no rule would ever keep a backup. Such a policy is an omission, not a wish: callers treat
    /// it as "keep all", or ask.
    pub fn keeps_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What the decision needs to know of a backup. Backups that failed or are not finished are none: leave
/// them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Which one.
    pub id: BackupId,
    /// When it was begun.
    pub time: Timestamp,
    /// Whether it was read back and found whole.
    pub verified: bool,
    /// Whether a restore, a download or another backup needs it at this moment.
    pub in_use: bool,
    /// Whether a person has pinned it.
    pub pinned: bool,
    /// Until when the provider refuses to delete it.
    pub locked_until: Option<Timestamp>,
}

/// Why a backup is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Reason {
    /// One of the newest.
    Last,
    /// The newest of its day.
    Daily {
        /// The day, such as `2026-11-22`.
        period: String,
    },
    /// The newest of its ISO week.
    Weekly {
        /// The week, such as `2026-W47`.
        period: String,
    },
    /// The newest of its month.
    Monthly {
        /// The month, such as `2026-11`.
        period: String,
    },
    /// The newest of its year.
    Yearly {
        /// The year.
        period: String,
    },
    /// Younger than the minimum age.
    Young,
    /// The newest one that was verified.
    LastVerified,
    /// In use at this moment.
    InUse,
    /// Pinned by a person.
    Pinned,
    /// Locked by the provider.
    Locked {
        /// Until when.
        until: Timestamp,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("among the newest"),
            Self::Daily { period } => write!(f, "newest of the day {period}"),
            Self::Weekly { period } => write!(f, "newest of the week {period}"),
            Self::Monthly { period } => write!(f, "newest of the month {period}"),
            Self::Yearly { period } => write!(f, "newest of the year {period}"),
            Self::Young => f.write_str("younger than the minimum age"),
            Self::LastVerified => f.write_str("the newest verified one"),
            Self::InUse => f.write_str("in use"),
            Self::Pinned => f.write_str("pinned"),
            Self::Locked { until } => write!(f, "locked until {until}"),
        }
    }
}

/// How many periods count, which period a day is in, and the reason that it makes.
type Rule = (u32, fn(Date) -> String, fn(String) -> Reason);

/// What is to become of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which one.
    pub id: BackupId,
    /// When it was begun.
    pub time: Timestamp,
    /// Why it is kept, in a fixed order; nothing means that it is deleted.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides for all backups of one environment, newest first. Of two that were begun at the same moment
/// the one with the higher id counts as newer. The order in which they are given does not matter.
///
/// Deleting what is not kept and deciding again, at the same time or later with the same guards, deletes
/// nothing that an age or a lock did not hold before.
pub fn decide(policy: &Policy, backups: &[Backup], now: Timestamp) -> Vec<Decision> {
    let backups = distinct(backups);
    let mut sorted: Vec<&Backup> = backups.values().collect();
    sorted.sort_by_key(|backup| std::cmp::Reverse((backup.time, backup.id)));
    let mut kept: BTreeMap<usize, BTreeSet<Reason>> = BTreeMap::new();
    let mut keep = |at: usize, reason| kept.entry(at).or_default().insert(reason);

    for at in 0..sorted.len().min(policy.keep_last as usize) {
        keep(at, Reason::Last);
    }
    let dates: Vec<Date> = sorted.iter().map(|backup| backup.time.to_zoned(TimeZone::UTC).date()).collect();
    let rules: [Rule; 4] = [
        (policy.daily, |date| date.to_string(), |period| Reason::Daily { period }),
        (policy.weekly, week, |period| Reason::Weekly { period }),
        (policy.monthly, month, |period| Reason::Monthly { period }),
        (policy.yearly, |date| format!("{:04}", date.year()), |period| Reason::Yearly { period }),
    ];
    for (count, period_of, reason) in rules {
        let mut last = None;
        let mut periods = 0;
        for (at, date) in dates.iter().enumerate() {
            let period = period_of(*date);
            // Sorted by time, so that equal periods are neighbours and the newest comes first.
            if last.as_ref() == Some(&period) {
                continue;
            }
            if periods == count {
                break;
            }
            periods += 1;
            keep(at, reason(period.clone()));
            last = Some(period);
        }
    }

    if let Some(at) = sorted.iter().position(|backup| backup.verified) {
        keep(at, Reason::LastVerified);
    }
    let min_age = i64::from(policy.min_age_hours) * 3600;
    for (at, backup) in sorted.iter().enumerate() {
        // One from the future, by a clock that is off, is young.
        if min_age > 0 && now.as_second().saturating_sub(backup.time.as_second()) < min_age {
            keep(at, Reason::Young);
        }
        if backup.in_use {
            keep(at, Reason::InUse);
        }
        if backup.pinned {
            keep(at, Reason::Pinned);
        }
        if let Some(until) = backup.locked_until.filter(|until| *until > now) {
            keep(at, Reason::Locked { until });
        }
    }
    let decision = |(at, backup): (usize, &&Backup)| Decision {
        id: backup.id,
        time: backup.time,
        reasons: kept.remove(&at).unwrap_or_default().into_iter().collect(),
    };
    sorted.iter().enumerate().map(decision).collect()
}

/// Each backup once. Of one that was given twice, everything that guards it counts.
fn distinct(backups: &[Backup]) -> BTreeMap<BackupId, Backup> {
    let mut distinct: BTreeMap<BackupId, Backup> = BTreeMap::new();
    for backup in backups {
        let known = distinct.entry(backup.id).or_insert_with(|| backup.clone());
        known.time = known.time.max(backup.time);
        known.verified |= backup.verified;
        known.in_use |= backup.in_use;
        known.pinned |= backup.pinned;
        known.locked_until = known.locked_until.max(backup.locked_until);
    }
    distinct
}

fn week(date: Date) -> String {
    let week: ISOWeekDate = date.iso_week_date();
    format!("{:04}-W{:02}", week.year(), week.week())
}

fn month(date: Date) -> String {
    format!("{:04}-{:02}", date.year(), date.month())
}

#[cfg(test)]
mod tests;
