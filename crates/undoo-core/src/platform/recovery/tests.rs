//! Plans for servers that were lost: what goes first, what fits where, and which gaps are named.

use proptest::prelude::*;

use super::*;

const GB: Resources = Resources { cpu_cores: 1, ram_mb: 1024, disk_gb: 10 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn candidate(second: i64) -> Candidate {
    Candidate { backup: BackupId::generate(), taken_at: at(second), lost_too: false }
}

fn lost(environment_type: EnvironmentType, takes: Resources) -> Lost {
    let verified = Some(candidate(400));
    Lost {
        environment: EnvironmentId::generate(),
        environment_type,
        takes,
        verified,
        newest: verified,
        estimate: None,
    }
}

#[test]
fn production_comes_first_and_then_what_is_largest() {
    use EnvironmentType::{Development, Production, Staging};
    let large = Resources { ram_mb: 4096, ..GB };
    let all = [lost(Development, large), lost(Staging, GB), lost(Production, GB), lost(Production, large)];
    let order = plan(
        all.to_vec(),
        at(1000),
        &[(ServerId::generate(), Resources { cpu_cores: 9, ram_mb: 99999, disk_gb: 999 })],
    );
    let order: Vec<_> = order.iter().map(|recovery| recovery.environment).collect();
    assert_eq!(order, [3, 2, 1, 0].map(|index: usize| all[index].environment));
}

#[test]
fn room_that_one_takes_the_next_does_not_have() {
    let (small, big) = (ServerId::generate(), ServerId::generate());
    let servers = [(small, GB), (big, Resources { cpu_cores: 2, ram_mb: 2048, disk_gb: 20 })];
    let all = (0..4).map(|_| lost(EnvironmentType::Staging, GB)).collect();
    let outcomes: Vec<_> = plan(all, at(1000), &servers).into_iter().map(|one| one.outcome).collect();
    let taken: Vec<_> = outcomes.iter().flatten().map(|assigned| assigned.server).collect();
    assert_eq!(taken[0], big);
    assert_eq!(taken.iter().filter(|id| **id == big).count(), 2);
    assert_eq!(taken.iter().filter(|id| **id == small).count(), 1);
    assert_eq!(outcomes[3], Err(Gap::NoRoom));
}

#[test]
fn what_cannot_come_back_says_why() {
    let servers = [(ServerId::generate(), Resources { cpu_cores: 9, ram_mb: 9999, disk_gb: 999 })];
    let gap = |change: &dyn Fn(&mut Lost)| {
        let mut one = lost(EnvironmentType::Production, GB);
        change(&mut one);
        plan(vec![one], at(1000), &servers).remove(0).outcome
    };
    assert_eq!(gap(&|one| (one.verified, one.newest) = (None, None)), Err(Gap::NoBackup));
    let newest = candidate(900);
    let unverified = gap(&|one| (one.verified, one.newest) = (None, Some(newest)));
    assert_eq!(unverified, Err(Gap::NoVerifiedBackup { newest: newest.backup }));
    let gone = Some(Candidate { lost_too: true, ..newest });
    assert_eq!(gap(&|one| (one.verified, one.newest) = (gone, gone)), Err(Gap::BackupLost));
    assert_eq!(gap(&|one| one.takes.ram_mb = 10_000), Err(Gap::NoRoom));
}

#[test]
fn the_loss_of_work_is_counted_from_the_backups_moment() {
    let servers = [(ServerId::generate(), GB)];
    let planned = plan(vec![lost(EnvironmentType::Production, GB)], at(1000), &servers);
    assert_eq!(planned[0].outcome.as_ref().unwrap().data_loss, SignedDuration::from_secs(600));
    let planned = plan(vec![lost(EnvironmentType::Production, GB)], at(100), &servers);
    assert_eq!(planned[0].outcome.as_ref().unwrap().data_loss, SignedDuration::ZERO);
}

proptest! {
    #[test]
    fn no_server_is_given_more_than_it_has(
        takes in prop::collection::vec((0..8, 0..8192, 0..100), 0..30),
        has in prop::collection::vec((0..16, 0..16384, 0..200), 0..5),
    ) {
        let resources = |(cpu_cores, ram_mb, disk_gb)| Resources { cpu_cores, ram_mb, disk_gb };
        let all: Vec<_> =
            takes.into_iter().map(|one| lost(EnvironmentType::Staging, resources(one))).collect();
        let servers: Vec<_> = has.into_iter().map(|one| (ServerId::generate(), resources(one))).collect();
        let planned = plan(all.clone(), at(1000), &servers);
        prop_assert_eq!(planned.len(), all.len());
        for (server, has) in servers {
            let on_it = planned.iter().filter(|one| one.outcome.as_ref().is_ok_and(|to| to.server == server));
            let mut takes = on_it.map(|one| all.iter().find(|lost| lost.environment == one.environment).unwrap().takes);
            prop_assert!(takes.try_fold(has, Resources::without).is_some());
        }
    }
}
