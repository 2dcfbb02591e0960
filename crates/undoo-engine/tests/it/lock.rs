//! One at work on a target: from a restore's first order to its cutover, and who is refused meanwhile.

use std::time::{Duration, Instant};

use undoo_core::{Kind, RestoreId, Side, pair::parked_database};
use undoo_engine::{
    lock::{Locked, Work},
    order::Target,
    orders::{Order, Session},
    record::State,
    restore::Assignment,
    source::BackupOrder,
};
use undoo_storage::{Access, StorageConfig};

use crate::{
    server::Server,
    world::{
        Crash, Recorder, World, accept, carry_out, cut_over, discard, make_live, nobody, preparation,
        prepare, stage, stage_and_accept,
    },
};

fn stage_order(world: &World<'_>, work: &Assignment) -> Order {
    let backup = BackupOrder::from(StorageConfig::from(Access::Local { path: world.backup() }));
    Order::Stage { backup, name: "acme.zip".into(), work: work.clone() }
}

async fn staged(world: &World<'_>, session: &mut Session) -> Assignment {
    let work = world.work();
    session
        .carry_out(stage_order(world, &work), &nobody)
        .await
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    work
}

fn purge(target: &Target) -> Order {
    Order::Purge { target: target.clone(), id: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_a_restore_waits_between_its_orders_is_told_which_and_touches_nothing() {
    let world = World::live(Server::of(17));
    let kept = world.work();
    stage_and_accept(&kept, &world.backup()).await;
    cut_over(&world, &kept.id, Side::Restored).await;
    let mut first = Session::default();
    let work = staged(&world, &mut first).await;

    let (next, services, crash) = (world.work(), Recorder::default(), Crash::never());
    let backup = world.backup();
    let (restored, undone, purged, discarded) = tokio::join!(
        stage(&next, &backup),
        make_live(&world, &kept.id, Side::Replaced, &services, &crash),
        carry_out(purge(&world.target), &nobody),
        discard(&world.target, &work.id),
    );
    for problem in [
        restored.unwrap_err().problem,
        undone.unwrap_err(),
        purged.unwrap_err().problem,
        discarded.unwrap_err(),
    ] {
        assert_eq!((problem.kind, problem.code), (Kind::Conflict, "target_busy"), "{problem:?}");
        let message = &problem.message;
        assert!(message.contains(&format!("restore {} of acme.zip", work.id)), "{message}");
        assert!(message.contains(" since 20") && message.contains(&world.target.database), "{message}");
    }
    assert!(services.calls.lock().unwrap().is_empty(), "services were stopped");

    // The first one never noticed.
    let order = Order::Prepare { work: work.clone(), preparation: preparation() };
    first.carry_out(order, &nobody).await.unwrap();
    first.carry_out(Order::Accept { work: work.clone() }, &nobody).await.unwrap();
    let other = Server::of(17).unique("other");
    Locked::take(&Target { database: other, ..world.target.clone() }, Work::Purge).await.unwrap();
    drop(first);
    cut_over(&world, &work.id, Side::Restored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_at_work_is_named_also_before_it_has_a_record_and_as_what_it_is() {
    let world = World::live(Server::of(17));
    let id = RestoreId::generate();
    for (work, named) in [
        (Work::Restore(id), format!("restore {id} is at work")),
        (Work::Cutover(id), format!("the cutover of restore {id} is at work")),
        (Work::Purge, "a purge is at work".to_owned()),
    ] {
        let held = Locked::take(&world.target, work).await.unwrap();
        let problem = Locked::take(&world.target, Work::Purge).await.err().unwrap();
        assert!(problem.message.starts_with(&named), "{}", problem.message);
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_handed_over_goes_to_the_cutover_and_to_nobody_who_asks_meanwhile() {
    let world = World::live(Server::of(17));
    let mut session = Session::default();
    let work = staged(&world, &mut session).await;
    let (asking, target) = (std::sync::atomic::AtomicBool::new(true), &world.target);
    let ask = async {
        while asking.load(std::sync::atomic::Ordering::SeqCst) {
            assert_eq!(Locked::take(target, Work::Purge).await.err().unwrap().code, "target_busy");
        }
    };
    let hand_over = async {
        let order = Order::HandOver { target: target.clone(), id: work.id };
        // The container that cuts over takes a while to start.
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Locked::take_over(target, work.id).await.unwrap()
        };
        let (handed, taken) = tokio::join!(session.carry_out(order, &nobody), late);
        handed.unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        asking.store(false, std::sync::atomic::Ordering::SeqCst);
        taken
    };
    let (askers, taken) = tokio::join!(futures_util::future::join_all([ask]), hand_over);
    assert_eq!(askers.len(), 1);
    drop(taken);
    Locked::take(target, Work::Purge).await.unwrap();
    // What it has done for the restore does not need the lock any more.
    let report = serde_json::json!({});
    let order = Order::KeepReport { target: target.clone(), id: work.id, report };
    session.carry_out(order, &nobody).await.unwrap();
}

/// The command dies between starting the cutover and the hand-over: its mover ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_that_waits_gets_the_lock_of_a_restore_whose_session_dies() {
    let world = World::live(Server::of(17));
    let mut session = Session::default();
    let work = staged(&world, &mut session).await;
    let waiting = Locked::take_over(&world.target, work.id);
    let (taken, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(session);
    });
    let problem = Locked::take(&world.target, Work::Purge).await.err().unwrap();
    assert!(
        problem.message.starts_with(&format!("the cutover of restore {}", work.id)),
        "{}",
        problem.message
    );
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_leaves_the_lock_and_its_session_can_take_the_pair_back() {
    let world = World::live(Server::of(17));
    let mut session = Session::default();
    let work = world.work();
    let order = stage_order(&world, &work);
    let begun = Instant::now();
    tokio::select! {
        outcome = session.carry_out(order, &nobody) => panic!("it ended: {outcome:?}"),
        () = async { while !world.home().restore(&work.id).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(begun.elapsed() < Duration::from_secs(30));
        } } => {}
    }
    let problem = Locked::take(&world.target, Work::Purge).await.err().unwrap();
    assert_eq!(problem.code, "target_busy");
    let order = Order::Discard { target: world.target.clone(), id: work.id };
    session.carry_out(order, &nobody).await.unwrap();
    world.assert_nothing_left(&work.id);
}

/// The server was restarted between two orders: the lock is gone, and with it what it protected.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_has_lost_its_lock_goes_on_if_nobody_came_and_ends_if_its_pair_was_taken() {
    let world = World::live(Server::of(17));
    let mut session = Session::default();
    let work = staged(&world, &mut session).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'undoo restore {}'",
        work.id
    );
    assert_eq!(world.server.psql("postgres", &end), "1");
    let order = |work: &Assignment| Order::Prepare { work: work.clone(), preparation: preparation() };
    session.carry_out(order(&work), &nobody).await.unwrap();
    assert_eq!(Locked::take(&world.target, Work::Purge).await.err().unwrap().code, "target_busy");

    assert_eq!(world.server.psql("postgres", &end), "1");
    let next = world.work();
    stage(&next, &world.backup()).await.unwrap();
    let failure = session.carry_out(Order::Accept { work: work.clone() }, &nobody).await.unwrap_err();
    assert_eq!((failure.problem.kind, failure.problem.code), (Kind::Conflict, "staged_pair_gone"));
    drop(session);
    assert!(world.has_database(&parked_database(&next.id, Side::Restored)));
    prepare(&next, &preparation()).await.unwrap();
    accept(&next).await.unwrap();
    assert_eq!(world.record(&next.id).state, State::Staged);
}
