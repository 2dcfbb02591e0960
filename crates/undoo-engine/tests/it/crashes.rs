//! A cutover that is broken off, anywhere: what comes next always ends in one of the two whole pairs.

use undoo_core::{Move, RestoreId, Side};
use undoo_engine::{
    home::MARKER,
    lock::{Locked, Work},
    order::Parts,
    record::State,
    swap::Services,
};

use crate::{
    server::Server,
    world::{Crash, Recorder, World, cut_over, make_live, stage_and_accept, swap},
};

/// What a broken-off cutover was to do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Begun {
    /// The first cutover of a staged restore.
    Cutover,
    Undo,
    Redo,
    /// A cutover whose Odoo does not answer, which goes back by itself.
    Rollback,
}

/// Brings the pair to where `begun` begins.
async fn bring_to(world: &World<'_>, id: &RestoreId, begun: Begun) {
    let side = if begun == Begun::Undo { Side::Restored } else { Side::Replaced };
    if world.record(id).state != (State::Live { side }) && world.record(id).state != State::Staged {
        cut_over(world, id, side).await;
    }
    if matches!(begun, Begun::Cutover | Begun::Rollback) {
        // What staging left behind: no marker in the live directory, and a record that knows of no swap.
        std::fs::remove_file(world.live_directory().join(MARKER)).ok();
        let staged = undoo_core::pair::parked_database(id, Side::Restored);
        world.server.psql("postgres", &format!("ALTER DATABASE {staged} ALLOW_CONNECTIONS true"));
        let mut record = world.record(id);
        record.advance(&world.home(), State::Staged).unwrap();
    } else if world.record(id).state == State::Staged {
        cut_over(world, id, Side::Restored).await;
        cut_over(world, id, side).await;
    }
}

/// Breaks it off at every checkpoint, and goes on in either direction; answers where it broke off.
async fn walk(world: &World<'_>, id: &RestoreId, begun: Begun) -> Vec<(Move, bool)> {
    let to = if begun == Begun::Undo { Side::Replaced } else { Side::Restored };
    let mut reached = Vec::new();
    for then in [to, to.other()] {
        reached.clear();
        for nth in 1.. {
            bring_to(world, id, begun).await;
            let services = Recorder::default();
            services
                .unhealthy
                .store(u32::from(begun == Begun::Rollback), std::sync::atomic::Ordering::SeqCst);
            let crash = Crash::at(nth);
            let outcome = make_live(world, id, to, &services, &crash).await;
            let Some(at) = *crash.at.lock().unwrap() else {
                assert_eq!(outcome.is_ok(), begun != Begun::Rollback, "{outcome:?}");
                break;
            };
            assert!(outcome.is_err());
            reached.push(at);
            services.unhealthy.store(0, std::sync::atomic::Ordering::SeqCst);
            make_live(world, id, then, &services, &Crash::never()).await.unwrap_or_else(|problem| {
                panic!("{begun:?} broke off at {at:?}, then to {then:?}: {problem:?}")
            });
            assert_eq!(world.whole(id, &services).await, then, "{begun:?} broke off at {at:?}");
        }
    }
    reached
}

const ALL: [Begun; 4] = [Begun::Cutover, Begun::Undo, Begun::Redo, Begun::Rollback];

#[tokio::test(flavor = "multi_thread")]
async fn broken_off_at_any_step_a_pair_goes_on_or_back_to_a_whole_one() {
    let world = World::live(Server::of(17));
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    for begun in ALL {
        let reached = walk(&world, &work.id, begun).await;
        // All eight moves, before and after; an Odoo that does not answer never gets past the last.
        assert_eq!(reached.len(), if begun == Begun::Rollback { 31 } else { 16 }, "{begun:?}: {reached:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_off_at_any_step_a_new_database_is_there_or_gone_as_a_whole() {
    let world = World::empty(Server::of(15));
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    for begun in ALL {
        let reached = walk(&world, &work.id, begun).await;
        assert!(reached.len() >= 14, "{begun:?}: {reached:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_off_at_any_step_a_database_only_restore_has_all_files_on_both_sides() {
    let world = World::live(Server::of(13));
    let mut work = world.work();
    work.options.parts = Parts::Database;
    stage_and_accept(&work, &world.backup()).await;
    for begun in [Begun::Cutover, Begun::Undo] {
        let reached = walk(&world, &work.id, begun).await;
        assert_eq!(reached.len(), 16, "{begun:?}: {reached:?}");
        for side in [Side::Restored, Side::Replaced] {
            cut_over(&world, &work.id, side).await;
            let born = world.live_directory().join(crate::odoo::fname(crate::world::BORN_LATER));
            assert!(born.exists());
        }
    }
}

/// Files that the live Odoo wrote after the tree was linked are in both trees once it stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_born_between_staging_and_cutover_is_in_a_database_only_restore() {
    let world = World::live(Server::of(17));
    let mut work = world.work();
    work.options.parts = Parts::Database;
    stage_and_accept(&work, &world.backup()).await;
    let file = (crate::odoo::fname(b"just now"), b"just now".to_vec());
    crate::odoo::write_filestore(&world.live_directory(), std::slice::from_ref(&file));
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(std::fs::read(world.live_directory().join(file.0)).unwrap(), b"just now");
}

/// Kills the server when a step is about to be taken.
async fn server_dies_before(world: &World<'_>, id: &RestoreId, at: Move) -> undoo_core::Problem {
    struct Stopped;
    impl Services for Stopped {
        async fn stop(&self) -> undoo_core::Result<()> {
            Ok(())
        }
        async fn start(&self) -> undoo_core::Result<()> {
            Ok(())
        }
        async fn await_health(&self) -> undoo_core::Result<()> {
            Ok(())
        }
    }
    let home = world.home();
    let kill = |step: Move, done: bool| {
        if step == at && !done {
            world.server.kill();
        }
        Ok(())
    };
    let swap = swap(world, &home, &Stopped, &kill);
    let locked = Locked::take(&world.target, Work::Cutover(*id)).await.unwrap();
    let problem = swap.make_live(&locked, &mut world.record(id), Side::Restored).await.unwrap_err();
    world.server.start();
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_cutover_is_a_clear_error_and_the_next_run_ends_whole() {
    let server = Server::own(17);
    let world = World::live(&server);
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    let steps = [Move::CloseDatabases, Move::RenameDatabases, Move::OpenDatabase];
    for (at, then) in steps.into_iter().zip([Side::Replaced, Side::Restored, Side::Replaced]) {
        bring_to(&world, &work.id, Begun::Cutover).await;
        let problem = server_dies_before(&world, &work.id, at).await;
        assert_eq!(problem.code, "database_lost", "{problem:?}");
        cut_over(&world, &work.id, then).await;
    }
}
