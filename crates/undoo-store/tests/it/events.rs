//! Events: in order, without gaps, none missed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use undoo_core::{
    OrganisationId,
    platform::{EventKind, NewEvent},
};
use undoo_store::{Hint, Store, events, people};

use crate::world::{World, on_both, organisation, postgres};

on_both!(
    an_event_is_read_back_as_it_was_told,
    a_follower_misses_none_of_many_writers,
    what_was_rolled_back_leaves_no_gap,
    organisations_have_sequences_of_their_own,
    old_events_are_forgotten_and_places_not_given_again,
    a_commit_gives_a_hint,
);

fn event(organisation_id: OrganisationId, data: serde_json::Value) -> NewEvent {
    NewEvent {
        organisation_id,
        project_id: None,
        environment_id: None,
        kind: EventKind::RestoreProgress,
        data,
    }
}

async fn told(store: &Store, event: &NewEvent) -> i64 {
    let tx = store.begin().await.unwrap();
    let place = events::append(&tx, event).await.unwrap();
    tx.commit().await.unwrap();
    place
}

async fn an_event_is_read_back_as_it_was_told(world: World) {
    let new = NewEvent {
        project_id: Some(world.project.id),
        environment_id: Some(world.environment.id),
        ..event(world.organisation.id, json!({ "progress": 25, "nul": "\0" }))
    };
    assert_eq!(events::last(&world.store, world.organisation.id).await.unwrap(), 0);
    assert_eq!(told(&world.store, &new).await, 1);
    let read = events::after(&world.store, &[(world.organisation.id, 0)], 10).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].sequence, &read[0].event), (1, &new));
    assert!(events::after(&world.store, &[(world.organisation.id, 1)], 10).await.unwrap().is_empty());
    assert!(events::after(&world.store, &[], 10).await.unwrap().is_empty());
}

async fn a_follower_misses_none_of_many_writers(world: World) {
    const EACH: usize = 40;
    let id = world.organisation.id;
    let follower = tokio::spawn({
        let store = world.elsewhere().await;
        async move {
            let mut seen = Vec::new();
            while seen.len() < 4 * EACH {
                let last = seen.last().copied().unwrap_or(0);
                let new = events::after(&store, &[(id, last)], 7).await.unwrap();
                seen.extend(new.iter().map(|event| event.sequence));
            }
            seen
        }
    });
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = world.elsewhere().await;
        writers.spawn(async move {
            for number in 0..EACH {
                let tx = store.begin().await.unwrap();
                events::append(&tx, &event(id, json!([writer, number]))).await.unwrap();
                tokio::time::sleep(Duration::from_millis((number % 3) as u64)).await;
                tx.commit().await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let seen = tokio::time::timeout(Duration::from_secs(30), follower).await.unwrap().unwrap();
    assert_eq!(seen, (1..=4 * EACH as i64).collect::<Vec<_>>());
}

async fn what_was_rolled_back_leaves_no_gap(world: World) {
    let new = event(world.organisation.id, json!(1));
    told(&world.store, &new).await;
    let tx = world.store.begin().await.unwrap();
    assert_eq!(events::append(&tx, &new).await.unwrap(), 2);
    drop(tx);
    assert_eq!(told(&world.store, &new).await, 2);
    assert_eq!(events::last(&world.store, world.organisation.id).await.unwrap(), 2);
}

async fn organisations_have_sequences_of_their_own(world: World) {
    let other = organisation("Other");
    people::organisation_insert(&world.store, &other).await.unwrap();
    for id in [world.organisation.id, other.id, world.organisation.id] {
        told(&world.store, &event(id, json!(null))).await;
    }
    let both = [(world.organisation.id, 1), (other.id, 0)];
    let mut read: Vec<_> = events::after(&world.store, &both, 10).await.unwrap();
    read.sort_by_key(|event| event.sequence);
    let read: Vec<_> = read.iter().map(|event| (event.event.organisation_id, event.sequence)).collect();
    assert_eq!(read, [(other.id, 1), (world.organisation.id, 2)]);
    // More organisations than one question is about, and only so many events.
    let many: Vec<_> =
        std::iter::repeat_with(|| (OrganisationId::generate(), 0)).take(1200).chain(both).collect();
    assert_eq!(events::after(&world.store, &many, 10).await.unwrap().len(), 2);
    assert_eq!(events::after(&world.store, &many, 1).await.unwrap().len(), 1);
    let nobodys = event(OrganisationId::generate(), json!(null));
    let tx = world.store.begin().await.unwrap();
    assert_eq!(events::append(&tx, &nobodys).await.unwrap_err().code, "gone_meanwhile");
}

async fn old_events_are_forgotten_and_places_not_given_again(world: World) {
    let new = event(world.organisation.id, json!(1));
    told(&world.store, &new).await;
    let hour = SignedDuration::from_hours(1);
    assert_eq!(events::prune(&world.store, Timestamp::now() - hour).await.unwrap(), 0);
    assert_eq!(events::prune(&world.store, Timestamp::now() + hour).await.unwrap(), 1);
    assert_eq!(told(&world.store, &new).await, 2);
}

async fn a_commit_gives_a_hint(world: World) {
    let elsewhere = world.elsewhere().await;
    let mut hints = elsewhere.hints();
    let new = event(world.organisation.id, json!(1));
    // The other store may not be listening yet; whoever waits also looks from time to time.
    for _ in 0..20 {
        told(&world.store, &new).await;
        if let Ok(hint) = tokio::time::timeout(Duration::from_millis(500), hints.recv()).await {
            let hint = hint.unwrap();
            if hint == Hint::Events {
                return;
            }
        }
    }
    panic!("no hint came");
}

/// Whoever listens may lose the connection: when it is there again, all may be new.
#[tokio::test(flavor = "multi_thread")]
async fn hints_come_again_after_the_connection_was_lost() {
    let world = World::on_postgres().await;
    let mut hints = world.store.hints();
    while tokio::time::timeout(Duration::from_millis(500), hints.recv()).await.is_ok() {}
    let database = world.url.split(['/', '?']).nth(3).unwrap();
    let listening = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'LISTEN%'"
    );
    assert_eq!(postgres().psql("postgres", &listening), "t");
    let wait = Duration::from_secs(20);
    tokio::time::timeout(wait, hints.recv()).await.unwrap().unwrap();
    while tokio::time::timeout(Duration::from_millis(500), hints.recv()).await.is_ok() {}
    told(&world.store, &event(world.organisation.id, json!(1))).await;
    assert_eq!(tokio::time::timeout(wait, hints.recv()).await.unwrap().unwrap(), Hint::Events);
}
