//! Policies by example, and what no policy may ever do by property.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn id(n: u128) -> BackupId {
    Uuid::from_u128(n).to_string().parse().unwrap()
}

fn backup(n: u128, time: &str) -> Backup {
    Backup {
        id: id(n),
        time: time.parse().unwrap(),
        verified: false,
        in_use: false,
        pinned: false,
        locked_until: None,
    }
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// The days of the backups that are kept, newest first.
fn kept(policy: &Policy, backups: &[Backup]) -> Vec<String> {
    let decisions = decide(policy, backups, now());
    decisions.iter().filter(|d| d.is_kept()).map(|d| d.time.to_string()).collect()
}

#[test]
fn the_newest_of_each_day_is_kept_and_days_without_a_backup_do_not_count() {
    let times = [
        "2026-11-22T01:00:00Z",
        "2026-11-21T23:00:00Z",
        "2026-11-21T01:00:00Z",
        "2026-11-10T05:00:00Z",
        "2026-11-01T05:00:00Z",
    ];
    let backups: Vec<Backup> = times.iter().zip(1..).map(|(time, n)| backup(n, time)).collect();
    let policy = Policy { daily: 3, ..Policy::default() };
    assert_eq!(kept(&policy, &backups), [times[0], times[1], times[3]]);
}

#[test]
fn weeks_are_iso_weeks_and_may_belong_to_another_year() {
    // A Monday, the Sunday before, and the first days of a year that belong to the last week of the old.
    let times =
        ["2027-01-04T00:00:00Z", "2027-01-03T23:59:59Z", "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z"];
    let backups: Vec<Backup> = times.iter().zip(1..).map(|(time, n)| backup(n, time)).collect();
    let policy = Policy { weekly: 2, ..Policy::default() };
    let decisions = decide(&policy, &backups, now());
    assert_eq!(decisions[0].reasons, [Reason::Weekly { period: "2027-W01".into() }]);
    assert_eq!(decisions[1].reasons, [Reason::Weekly { period: "2026-W53".into() }]);
    assert!(decisions[2..].iter().all(|decision| !decision.is_kept()));
}

#[test]
fn months_and_years_are_those_of_utc() {
    // In New York the first of these is still of the old year.
    let times = ["2026-01-01T01:00:00Z", "2025-12-31T23:00:00Z", "2025-01-31T00:00:00Z"];
    let backups: Vec<Backup> = times.iter().zip(1..).map(|(time, n)| backup(n, time)).collect();
    let policy = Policy { yearly: 5, ..Policy::default() };
    assert_eq!(kept(&policy, &backups), times[..2]);
    let policy = Policy { monthly: 5, ..Policy::default() };
    assert_eq!(kept(&policy, &backups), times);
}

#[test]
fn a_backup_tells_every_rule_that_keeps_it() {
    let mut only = backup(1, "2026-11-22T01:00:00Z");
    only.verified = true;
    only.in_use = true;
    only.pinned = true;
    only.locked_until = Some("2027-01-01T00:00:00Z".parse().unwrap());
    let policy = Policy { keep_last: 1, daily: 1, weekly: 1, monthly: 1, yearly: 1, min_age_hours: 24 };
    let reasons = decide(&policy, &[only], now()).remove(0).reasons;
    assert_eq!(reasons.len(), 10);
    let text = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(text.contains("newest of the week 2026-W47") && text.contains("in use"), "{text}");
}

#[test]
fn guards_stand_above_a_policy_that_keeps_nothing() {
    let mut backups: Vec<Backup> =
        (1..=6_u8).map(|n| backup(n.into(), &format!("2026-10-{n:02}T00:00:00Z"))).collect();
    backups[0].verified = true;
    backups[1].verified = true;
    backups[2].in_use = true;
    backups[3].pinned = true;
    backups[4].locked_until = Some("2026-11-23T00:00:00Z".parse().unwrap());
    backups[5].locked_until = Some("2026-11-22T12:00:00Z".parse().unwrap());
    let days: Vec<String> = (2..=5).rev().map(|n| format!("2026-10-{n:02}T00:00:00Z")).collect();
    assert_eq!(kept(&Policy::default(), &backups), days);
}

#[test]
fn a_backup_that_is_given_twice_is_decided_once_with_all_its_guards() {
    let plain = backup(1, "2026-10-01T00:00:00Z");
    let guarded = Backup { in_use: true, verified: true, ..plain.clone() };
    for backups in [[plain.clone(), guarded.clone()], [guarded, plain]] {
        let decisions = decide(&Policy::default(), &backups, now());
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0].reasons, [Reason::LastVerified, Reason::InUse]);
    }
}

#[test]
fn a_backup_from_the_future_is_young() {
    let policy = Policy { min_age_hours: 1, ..Policy::default() };
    assert_eq!(
        kept(&policy, &[backup(1, "2027-11-22T00:00:00Z"), backup(2, "2026-11-22T11:00:00Z")]).len(),
        1
    );
}

fn any_backup() -> impl Strategy<Value = Backup> {
    // Two years around now; few distinct moments, so that some are the same.
    (0..40_u128, -17_520..200_i64, any::<[bool; 3]>(), proptest::option::of(-100..100_i64)).prop_map(
        |(n, hours, [verified, in_use, pinned], locked)| Backup {
            id: id(n),
            time: Timestamp::from_second(now().as_second() + hours * 3600).unwrap(),
            verified,
            in_use: in_use && n % 5 == 0,
            pinned: pinned && n % 7 == 0,
            locked_until: locked
                .filter(|_| n % 3 == 0)
                .map(|hours| Timestamp::from_second(now().as_second() + hours * 3600).unwrap()),
        },
    )
}

fn any_backups() -> impl Strategy<Value = Vec<Backup>> {
    proptest::collection::vec(any_backup(), 0..60).prop_map(|mut backups| {
        backups.sort_by_key(|backup| backup.id);
        backups.dedup_by_key(|backup| backup.id);
        backups
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0..5_u32, 0..10_u32, 0..6_u32, 0..6_u32, 0..4_u32, 0..50_u32).prop_map(
        |(keep_last, daily, weekly, monthly, yearly, min_age_hours)| Policy {
            keep_last,
            daily,
            weekly,
            monthly,
            yearly,
            min_age_hours,
        },
    )
}

fn kept_ids(policy: &Policy, backups: &[Backup]) -> BTreeSet<BackupId> {
    decide(policy, backups, now()).into_iter().filter(Decision::is_kept).map(|d| d.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_guarded_is_never_deleted(policy in any_policy(), backups in any_backups()) {
        let kept = kept_ids(&policy, &backups);
        let newest_verified =
            backups.iter().filter(|b| b.verified).max_by_key(|b| (b.time, b.id)).map(|b| b.id);
        prop_assert!(newest_verified.is_none_or(|id| kept.contains(&id)));
        for backup in &backups {
            let guarded = backup.in_use || backup.pinned || backup.locked_until.is_some_and(|t| t > now());
            prop_assert!(!guarded || kept.contains(&backup.id));
        }
    }

    #[test]
    fn a_second_time_deletes_nothing_more(policy in any_policy(), backups in any_backups()) {
        let kept = kept_ids(&policy, &backups);
        let left: Vec<Backup> = backups.into_iter().filter(|b| kept.contains(&b.id)).collect();
        prop_assert_eq!(kept_ids(&policy, &left), kept);
    }

    #[test]
    fn a_policy_that_asks_for_more_keeps_no_less(
        policy in any_policy(), more in any_policy(), backups in any_backups(),
    ) {
        let larger = Policy {
            keep_last: policy.keep_last + more.keep_last,
            daily: policy.daily + more.daily,
            weekly: policy.weekly + more.weekly,
            monthly: policy.monthly + more.monthly,
            yearly: policy.yearly + more.yearly,
            min_age_hours: policy.min_age_hours + more.min_age_hours,
        };
        prop_assert!(kept_ids(&policy, &backups).is_subset(&kept_ids(&larger, &backups)));
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        policy in any_policy(), backups in any_backups(), by in any::<u64>(),
    ) {
        let mut shuffled = backups.clone();
        shuffled.sort_by_key(|b| (b.time.as_second() as u64 ^ by).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        prop_assert_eq!(decide(&policy, &backups, now()), decide(&policy, &shuffled, now()));
    }

    #[test]
    fn each_backup_gets_one_decision_and_the_newest_stays_if_any_rule_counts(
        policy in any_policy(), backups in any_backups(),
    ) {
        let decisions = decide(&policy, &backups, now());
        prop_assert_eq!(decisions.len(), backups.len());
        prop_assert!(decisions.windows(2).all(|pair| (pair[0].time, pair[0].id) > (pair[1].time, pair[1].id)));
        let counts = policy.keep_last + policy.daily + policy.weekly + policy.monthly + policy.yearly > 0;
        prop_assert!(!counts || decisions.first().is_none_or(Decision::is_kept));
    }
}
