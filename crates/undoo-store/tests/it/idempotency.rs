//! A request that comes twice is carried out once; and settings, which are set once.

use jiff::{SignedDuration, Timestamp};
use undoo_core::UserId;
use undoo_store::{
    Store,
    idempotency::{self, Taken},
    people, settings,
};
use uuid::Uuid;

use crate::world::{World, on_both, user};

on_both!(
    a_key_gives_what_came_of_its_request,
    a_key_is_for_one_request_of_one_person,
    of_two_at_once_the_second_waits_and_gets_the_same,
    a_key_is_forgotten_after_a_day,
    settings_are_kept,
    a_setting_is_set_once_whoever_begins,
);

async fn carried_out(store: &Store, user: UserId, key: &str, at: Timestamp) -> Taken {
    let tx = store.begin().await.unwrap();
    let taken = idempotency::take(&tx, user, key, [1; 32], at).await.unwrap();
    if taken == Taken::Fresh {
        idempotency::done(&tx, user, key, Uuid::now_v7()).await.unwrap();
    }
    tx.commit().await.unwrap();
    taken
}

async fn a_key_gives_what_came_of_its_request(world: World) {
    let (now, id) = (Timestamp::now(), world.user.id);
    let tx = world.store.begin().await.unwrap();
    assert_eq!(idempotency::take(&tx, id, "k", [1; 32], now).await.unwrap(), Taken::Fresh);
    drop(tx);
    // Nothing came of the first.
    assert_eq!(carried_out(&world.store, id, "k", now).await, Taken::Fresh);
    let Taken::Same(object) = carried_out(&world.store, id, "k", now).await else { panic!() };
    assert_eq!(carried_out(&world.store, id, "k", now).await, Taken::Same(object));
    let tx = world.store.begin().await.unwrap();
    let not_taken = idempotency::done(&tx, id, "other", object).await.unwrap_err();
    assert_eq!(not_taken.code, "store_misuse");
}

async fn a_key_is_for_one_request_of_one_person(world: World) {
    let now = Timestamp::now();
    carried_out(&world.store, world.user.id, "k", now).await;
    let tx = world.store.begin().await.unwrap();
    let reused = idempotency::take(&tx, world.user.id, "k", [2; 32], now).await.unwrap_err();
    assert_eq!(reused.code, "idempotency_key_reused");
    drop(tx);
    let other = user("bob@example.com");
    people::user_insert(&world.store, &other, None).await.unwrap();
    assert_eq!(carried_out(&world.store, other.id, "k", now).await, Taken::Fresh);
}

async fn of_two_at_once_the_second_waits_and_gets_the_same(world: World) {
    let id = world.user.id;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = world.elsewhere().await;
        requests.spawn(async move { carried_out(&store, id, "k", Timestamp::now()).await });
    }
    let taken = requests.join_all().await;
    assert_eq!(taken.iter().filter(|taken| **taken == Taken::Fresh).count(), 1, "{taken:?}");
}

async fn a_key_is_forgotten_after_a_day(world: World) {
    let (now, id) = (Timestamp::now(), world.user.id);
    carried_out(&world.store, id, "k", now).await;
    carried_out(&world.store, id, "l", now).await;
    let hour = SignedDuration::from_hours(1);
    idempotency::prune(&world.store, now + 23 * hour).await.unwrap();
    assert!(matches!(carried_out(&world.store, id, "k", now + 23 * hour).await, Taken::Same(_)));
    assert_eq!(carried_out(&world.store, id, "k", now + 24 * hour).await, Taken::Fresh);
    idempotency::prune(&world.store, now + 24 * hour).await.unwrap();
    assert!(matches!(carried_out(&world.store, id, "k", now + 25 * hour).await, Taken::Same(_)));
    assert_eq!(carried_out(&world.store, id, "l", now + 25 * hour).await, Taken::Fresh);
}

async fn settings_are_kept(world: World) {
    assert_eq!(settings::get(&world.store, "seed").await.unwrap(), None);
    for value in [&b"\0\xff"[..], b"", b"other"] {
        settings::set(&world.store, "seed", value).await.unwrap();
        assert_eq!(settings::get(&world.store, "seed").await.unwrap().as_deref(), Some(value));
    }
}

async fn a_setting_is_set_once_whoever_begins(world: World) {
    let mut beginners = tokio::task::JoinSet::new();
    for number in 0..6_u8 {
        let store = world.elsewhere().await;
        beginners.spawn(async move { settings::set_once(&store, "seed", &[number]).await.unwrap() });
    }
    let answers = beginners.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
