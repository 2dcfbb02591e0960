//! Kept pairs: who may undo what, what is removed, and that the live database never is.

use jiff::{Timestamp, ToSpan};
use undoo_core::{Move, Side, pair::parked_database};
use undoo_engine::{
    lock::{Locked, Work},
    orders::{self, Order, UndoPlan},
    pairs,
    record::State,
    restore,
    swap::Swap,
};

use crate::{
    server::Server,
    world::{
        Crash, Recorder, World, carry_out, cut_over, make_live, nobody, open, stage, stage_and_accept, swap,
    },
};

async fn restored(world: &World<'_>) -> undoo_core::RestoreId {
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(world, &work.id, Side::Restored).await;
    work.id
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_of_an_undo_counts_what_was_written_since() {
    let world = World::live(Server::of(17));
    let id = restored(&world).await;
    // Odoo's dates have seconds; those of the cutover itself are not "since".
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let sql = "INSERT INTO res_partner (name, create_date, write_date) SELECT 'new', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC' \
               FROM generate_series(1, 3); UPDATE sale_order SET write_date = now() AT TIME ZONE 'UTC' WHERE id = 5";
    world.server.psql(&world.target.database, sql);
    let plan = carry_out(Order::PlanUndo { target: world.target.clone() }, &nobody).await.unwrap();
    let plan: UndoPlan = serde_json::from_value(plan).unwrap();
    assert_eq!((plan.record.id, plan.to), (id, Side::Replaced));
    let written: Vec<_> =
        plan.written.iter().map(|row| (row.table.as_str(), row.created, row.changed)).collect();
    assert_eq!(written, [("res_partner", 3, 0), ("sale_order", 0, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_cannot_be_undone_and_what_is_live_stays_untouched_by_trying() {
    let world = World::live(Server::of(17));
    let id = restored(&world).await;
    let live = world.oid(&world.target.database);
    let purged =
        carry_out(Order::Purge { target: world.target.clone(), id: Some(id) }, &nobody).await.unwrap();
    assert_eq!(purged, serde_json::json!([id]));
    assert!(!world.has_database(&parked_database(&id, Side::Replaced)));
    assert!(!world.home().parked(&id, Side::Replaced).exists());
    world.assert_no_role(&id);
    assert_eq!(orders::newest(&world.target).unwrap_err().code, "nothing_to_undo");
    let services = Recorder::default();
    for side in [Side::Replaced, Side::Restored] {
        let problem = make_live(&world, &id, side, &services, &Crash::never()).await.unwrap_err();
        assert_eq!(problem.code, "no_pair");
    }
    assert!(services.calls.lock().unwrap().is_empty(), "services were stopped for nothing");
    assert_eq!(world.record(&id).state, State::Purged);
    assert_eq!(world.oid(&world.target.database), live);
}

/// The kept pair of the newer restore is what the older one had made.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_restore_is_no_way_back_once_the_newest_is_purged() {
    let world = World::live(Server::of(17));
    let older = restored(&world).await;
    let newer = restored(&world).await;
    assert_eq!(orders::newest(&world.target).unwrap().id, newer);
    let services = Recorder::default();
    let problem = make_live(&world, &older, Side::Replaced, &services, &Crash::never()).await.unwrap_err();
    assert!(services.calls.lock().unwrap().is_empty(), "{problem:?}");
    cut_over(&world, &newer, Side::Replaced).await;
    cut_over(&world, &newer, Side::Restored).await;
    pairs::purge(&world.target, &world.home(), &mut world.record(&newer)).await.unwrap();
    assert_eq!(orders::newest(&world.target).unwrap_err().code, "nothing_to_undo");
}

/// After the newer one was undone, the older one's pair is live again, under the newer one's marker.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_can_be_undone_after_a_later_one_was() {
    let world = World::live(Server::of(17));
    let older = restored(&world).await;
    let newer = restored(&world).await;
    cut_over(&world, &newer, Side::Replaced).await;
    cut_over(&world, &older, Side::Replaced).await;
    assert!(world.live_directory().join(crate::odoo::fname(crate::world::BORN_LATER)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_whose_database_someone_dropped_is_not_swapped_in() {
    let world = World::live(Server::of(17));
    let id = restored(&world).await;
    world.server.psql("postgres", &format!("DROP DATABASE {}", parked_database(&id, Side::Replaced)));
    let services = Recorder::default();
    let problem = make_live(&world, &id, Side::Replaced, &services, &Crash::never()).await.unwrap_err();
    assert_eq!(problem.code, "pair_missing");
    assert!(services.calls.lock().unwrap().is_empty());
    assert_eq!(world.server.psql(&world.target.database, "SELECT count(*) FROM res_users"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_never_drops_the_live_database_whatever_a_record_says() {
    let world = World::live(Server::of(17));
    let id = restored(&world).await;
    let live = world.oid(&world.target.database);
    let there = world.record(&id);
    for (state, database) in [
        (State::Live { side: Side::Replaced }, world.target.database.clone()),
        (State::Staged, world.target.database.clone()),
        (State::Staging, world.target.database.clone()),
        (State::Live { side: Side::Restored }, "another".to_owned()),
    ] {
        let mut lying = there.clone();
        (lying.state, lying.database) = (state, database);
        lying.restored_oid = there.replaced_oid;
        world.home().create(&id, &world.target.database).unwrap();
        // Whether it refuses or finds nothing to remove does not matter.
        let _ = pairs::purge(&world.target, &world.home(), &mut lying).await;
        assert_eq!(world.oid(&world.target.database), live, "{state:?}");
        assert!(world.live_directory().join(crate::odoo::fname(&crate::odoo::content(1))).exists());
    }
    // Even where the live database is named as a kept one would be.
    let mut world = World::named(world.server, &parked_database(&id, Side::Replaced));
    world.make_live();
    let oid = world.oid(&world.target.database);
    world.home().create(&id, &world.target.database).unwrap();
    let mut lying = there;
    lying.state = State::Live { side: Side::Restored };
    lying.epoch = 99;
    let problem = pairs::purge(&world.target, &world.home(), &mut lying).await.unwrap_err();
    assert_eq!(problem.code, "would_drop_live");
    assert_eq!(world.oid(&world.target.database), oid);
    world.target.name.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_expired_pairs_are_purged_and_an_undo_starts_a_full_window_for_the_other() {
    let world = World::live(Server::of(17));
    let id = restored(&world).await;
    let (target, home) = (&world.target, world.home());
    let now = Timestamp::now();
    let hours = |hours: i64| now + (hours * 60 + 1).minutes();
    assert!(pairs::purge_expired(target, &home, hours(23)).await.unwrap().is_empty());
    cut_over(&world, &id, Side::Replaced).await;
    assert!(pairs::purge_expired(target, &home, hours(23)).await.unwrap().is_empty());
    let purged = pairs::purge_expired(target, &home, hours(24)).await.unwrap();
    assert_eq!(purged.iter().map(|record| record.id).collect::<Vec<_>>(), [id]);
    assert!(!world.has_database(&parked_database(&id, Side::Restored)));
    assert_eq!(
        world.server.psql(&target.database, "SELECT value FROM ir_config_parameter WHERE key = 'side'"),
        "replaced"
    );
    world.assert_no_role(&id);
}

/// A run that was thought dead wakes up after another one took over.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_taken_over_takes_no_further_step() {
    let world = World::live(Server::of(17));
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    let (home, services) = (world.home(), Recorder::default());
    let (id, oid) = (work.id, world.oid(&world.target.database));
    let taken_over = |step: Move, done: bool| {
        if step == Move::CloseDatabases && done {
            let mut record = world.record(&id);
            record.epoch += 1;
            record.write(&world.home())?;
        }
        Ok(())
    };
    let mut stale = world.record(&id);
    let swap = swap(&world, &home, &services, &taken_over);
    let locked = Locked::take(&world.target, Work::Cutover(id)).await.unwrap();
    let problem = swap.make_live(&locked, &mut stale, Side::Restored).await.unwrap_err();
    assert_eq!(problem.code, "fenced");
    assert_eq!(world.oid(&world.target.database), oid, "it went on renaming");
    // Nor may it begin again with what it remembers.
    assert_eq!(stale.write(&home).unwrap_err().code, "fenced");
    let go_on = |_: Move, _: bool| Ok(());
    let swap = Swap { checkpoint: &go_on, ..swap };
    let mut stale = world.record(&id);
    stale.epoch -= 1;
    assert_eq!(swap.make_live(&locked, &mut stale, Side::Restored).await.unwrap_err().code, "fenced");
    drop(locked);
    make_live(&world, &id, Side::Restored, &services, &Crash::never()).await.unwrap();
    assert_eq!(world.whole(&id, &services).await, Side::Restored);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_cutover_is_named_by_whatever_is_begun_next() {
    let world = World::live(Server::of(17));
    let work = world.work();
    let backup = world.backup();
    stage_and_accept(&work, &backup).await;
    let services = Recorder::default();
    // Right after the databases were closed: nobody can connect to the live one.
    make_live(&world, &work.id, Side::Restored, &services, &Crash::at(4)).await.unwrap_err();
    let next = world.work();
    let failure = stage(&next, &backup).await.unwrap_err();
    assert_eq!(failure.problem.code, "cutover_unfinished", "{failure:?}");
    let problem = restore::plan(&next, &open(&backup).await.0, &nobody).await.unwrap_err();
    assert_eq!(problem.code, "cutover_unfinished", "{problem:?}");
    let problem = pairs::purge(&world.target, &world.home(), &mut world.record(&work.id)).await.unwrap_err();
    assert_eq!(problem.code, "cutover_unfinished");
    world.assert_nothing_left(&next.id);
    make_live(&world, &work.id, Side::Replaced, &services, &Crash::never()).await.unwrap();
    assert_eq!(world.whole(&work.id, &services).await, Side::Replaced);
}

/// Two restores into two databases of one server know nothing of each other.
#[tokio::test(flavor = "multi_thread")]
async fn the_purge_of_one_target_leaves_the_roles_of_another_alone() {
    let server = Server::of(17);
    let (one, two) = (World::live(server), World::empty(server));
    let id = restored(&one).await;
    let work = two.work();
    let backup = two.backup();
    // Left by another administrator, who alone may drop it.
    let foreign = "undoo_0123456789ab_loader";
    server.psql("postgres", &format!("CREATE ROLE {foreign}"));
    let other = server.unique("admin");
    server.psql(
        "postgres",
        &format!(
            "CREATE ROLE {other} LOGIN CREATEROLE PASSWORD {}",
            crate::server::quoted(crate::server::PASSWORD)
        ),
    );
    let purger = server.access(&other).connect("postgres").await.unwrap();
    undoo_engine::stage::drop_idle_roles(&purger).await.unwrap();
    pairs::purge(&one.target, &one.home(), &mut one.record(&id)).await.unwrap();
    // A role that owns nothing yet looks idle: none is made while another run drops idle ones.
    let dropping = async {
        let others = "SELECT pg_advisory_lock(1970037872, 0)";
        purger.batch_execute(others).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        two.assert_no_role(&work.id);
        assert!(two.home().restore(&work.id).exists(), "it had not come so far");
        purger.batch_execute("SELECT pg_advisory_unlock(1970037872, 0)").await.unwrap();
    };
    let (report, ()) = tokio::join!(stage(&work, &backup), dropping);
    report.unwrap_or_else(|failure| panic!("{failure:?}"));
}
