//! Who gets which task, and when.

use std::{collections::HashSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use undoo_core::platform::{Server, TaskKind, TaskStatus};
use undoo_store::{
    Page, environments, servers,
    tasks::{self, NewTask, TaskFilter},
};

use crate::world::{World, environment, finish, later, on_both, server, worker};

on_both!(
    higher_priority_goes_first_then_the_older,
    a_task_waits_until_it_is_due,
    a_worker_gets_only_what_it_can_do,
    one_task_at_a_time_is_active_on_an_environment,
    of_many_that_want_an_environment_one_gets_it,
    a_server_has_room_for_so_many_whoever_claims,
    a_full_server_does_not_hold_up_the_others,
    what_was_begun_and_abandoned_goes_before_what_waits,
    workers_share_tasks_and_each_is_done_once,
    the_depth_of_the_queue_is_counted,
    tasks_are_listed_by_what_they_are_on,
    a_task_that_was_not_committed_is_not_there,
);

async fn higher_priority_goes_first_then_the_older(world: World) {
    let mut expected = Vec::new();
    for priority in [0, 5, 0, -3, 5] {
        expected.push(world.enqueued(NewTask { priority, ..world.task() }).await);
    }
    expected.sort_by_key(|task| (-task.priority, task.created_at));
    for task in expected {
        let (claimed, lease) = world.claim("w").await.unwrap();
        assert_eq!(claimed.id, task.id);
        assert_eq!((claimed.status, claimed.attempts, claimed.epoch), (TaskStatus::Running, 1, 1));
        assert_eq!((lease.epoch, lease.exhausted), (1, false));
        assert_eq!(tasks::get(&world.store, task.id).await.unwrap().unwrap(), claimed);
    }
    assert_eq!(world.claim("w").await, None);
}

async fn a_task_waits_until_it_is_due(world: World) {
    let due = Timestamp::now() + SignedDuration::from_secs(30);
    let task = world.enqueued(NewTask { run_after: Some(due), priority: 9, ..world.task() }).await;
    let other = world.enqueued(world.task()).await;
    assert_eq!(world.claim("w").await.unwrap().0.id, other.id);
    assert_eq!(world.claim("w").await, None);
    assert_eq!(world.claim_at("w", due).await.unwrap().0.id, task.id);
}

async fn a_worker_gets_only_what_it_can_do(world: World) {
    world.enqueued(world.task()).await;
    let purge = world.enqueued(NewTask { kind: TaskKind::Purge, ..world.task() }).await;
    let mut able = worker("w");
    able.kinds = vec![TaskKind::Purge, TaskKind::Undo];
    let claimed = tasks::claim(&world.store, &able, Timestamp::now()).await.unwrap().unwrap();
    assert_eq!(claimed.0.id, purge.id);
    assert_eq!(tasks::claim(&world.store, &able, later()).await.unwrap().unwrap().0.id, purge.id);
    able.kinds = vec![];
    assert_eq!(tasks::claim(&world.store, &able, later()).await.unwrap(), None);
}

async fn one_task_at_a_time_is_active_on_an_environment(world: World) {
    let on_it = NewTask { environment_id: Some(world.environment.id), ..world.task() };
    let refused = async || {
        let tx = world.store.begin().await.unwrap();
        tasks::enqueue(&tx, &on_it).await.unwrap_err()
    };
    let first = world.enqueued(on_it.clone()).await;
    let problem = refused().await;
    assert_eq!(problem.code, "environment_busy");
    assert!(problem.message.contains(&first.id.to_string()), "{}", problem.message);
    let (_, lease) = world.claim("w").await.unwrap();
    assert_eq!(refused().await.code, "environment_busy");
    let tx = world.store.begin().await.unwrap();
    assert_eq!(tasks::cancel(&tx, first.id).await.unwrap(), TaskStatus::Cancelling);
    tx.commit().await.unwrap();
    assert_eq!(refused().await.code, "environment_busy");
    world.finish(&lease, TaskStatus::Cancelled).await.unwrap();
    world.enqueued(on_it.clone()).await;
    // Another environment, and no environment at all.
    let other = environment(&world.project, "staging");
    environments::insert(&world.store, &other).await.unwrap();
    world.enqueued(NewTask { environment_id: Some(other.id), ..world.task() }).await;
    world.enqueued(world.task()).await;
    world.enqueued(world.task()).await;
}

async fn of_many_that_want_an_environment_one_gets_it(world: World) {
    let on_it = NewTask { environment_id: Some(world.environment.id), ..world.task() };
    let mut wishes = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (store, on_it) = (world.store.clone(), on_it.clone());
        wishes.spawn(async move {
            let tx = store.begin().await.unwrap();
            let enqueued = tasks::enqueue(&tx, &on_it).await.map_err(|problem| problem.code);
            tx.commit().await.unwrap();
            enqueued
        });
    }
    let answers = wishes.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(
        answers.iter().all(|answer| answer.as_ref().err().is_none_or(|code| *code == "environment_busy"))
    );
}

async fn a_server_has_room_for_so_many_whoever_claims(world: World) {
    let small = server(world.organisation.id, "small", 3);
    servers::insert(&world.store, &small).await.unwrap();
    for _ in 0..20 {
        world.enqueued(NewTask { server_id: Some(small.id), ..world.task() }).await;
    }
    // Everything that is claimed stays; then one ends, and one more is claimed.
    let leases = claim_all_at_once(&world).await;
    assert_eq!(leases.len(), 3);
    world.finish(&leases[0], TaskStatus::Completed).await.unwrap();
    assert_eq!(claim_all_at_once(&world).await.len(), 1);
    servers::update(&world.store, &Server { task_limit: 5, ..small }).await.unwrap();
    assert_eq!(claim_all_at_once(&world).await.len(), 2);
}

async fn claim_all_at_once(world: &World) -> Vec<tasks::Lease> {
    let mut claimers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = world.elsewhere().await;
        claimers.spawn(async move {
            let mut mine = Vec::new();
            let me = worker(&format!("w{number}"));
            while let Some((_, lease)) = tasks::claim(&store, &me, Timestamp::now()).await.unwrap() {
                mine.push(lease);
            }
            mine
        });
    }
    claimers.join_all().await.into_iter().flatten().collect()
}

async fn a_full_server_does_not_hold_up_the_others(world: World) {
    let full = server(world.organisation.id, "full", 0);
    servers::insert(&world.store, &full).await.unwrap();
    let one = server(world.organisation.id, "one", 1);
    servers::insert(&world.store, &one).await.unwrap();
    for server in [&one, &one] {
        world.enqueued(NewTask { server_id: Some(server.id), priority: 9, ..world.task() }).await;
    }
    let free = world.enqueued(NewTask { server_id: Some(world.server.id), ..world.task() }).await;
    let (first, _) = world.claim("w").await.unwrap();
    assert_eq!(first.server_id, Some(one.id));
    assert_eq!(world.claim("w").await.unwrap().0.id, free.id);
    assert_eq!(world.claim("w").await, None);
    world.enqueued(NewTask { server_id: Some(full.id), ..world.task() }).await;
    assert_eq!(world.claim("w").await, None);
}

async fn what_was_begun_and_abandoned_goes_before_what_waits(world: World) {
    let begun = world.enqueued(world.task()).await;
    world.claim("w").await.unwrap();
    world.enqueued(NewTask { priority: 9, ..world.task() }).await;
    assert_eq!(world.claim_at("v", later()).await.unwrap().0.id, begun.id);
}

async fn workers_share_tasks_and_each_is_done_once(world: World) {
    let mut all = HashSet::new();
    for _ in 0..200 {
        all.insert(world.enqueued(world.task()).await.id);
    }
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..5 {
        let store = world.elsewhere().await;
        workers.spawn(async move {
            let me = worker(&format!("w{number}"));
            let mut done = Vec::new();
            while let Some((task, lease)) = tasks::claim(&store, &me, Timestamp::now()).await.unwrap() {
                finish(&store, &lease, TaskStatus::Completed).await.unwrap();
                done.push(task.id);
            }
            done
        });
    }
    let done = workers.join_all().await.concat();
    assert_eq!(done.len(), 200);
    assert_eq!(done.into_iter().collect::<HashSet<_>>(), all);
    for id in all {
        let task = tasks::get(&world.store, id).await.unwrap().unwrap();
        assert_eq!((task.status, task.attempts, task.epoch), (TaskStatus::Completed, 1, 1));
    }
}

async fn the_depth_of_the_queue_is_counted(world: World) {
    assert_eq!(tasks::queue_depth(&world.store).await.unwrap(), tasks::QueueDepth::default());
    let cancelled = world.enqueued(world.task()).await;
    for _ in 0..4 {
        world.enqueued(world.task()).await;
    }
    world.claim("w").await.unwrap();
    let tx = world.store.begin().await.unwrap();
    tasks::cancel(&tx, cancelled.id).await.unwrap();
    tx.commit().await.unwrap();
    let (_, stuck) = world.claim("w").await.unwrap();
    world.finish(&stuck, TaskStatus::Stuck).await.unwrap();
    world.claim("w").await.unwrap();
    let depth = tasks::queue_depth(&world.store).await.unwrap();
    assert_eq!((depth.queued, depth.running, depth.cancelling, depth.stuck), (2, 1, 1, 1));
    let page = Page::default();
    let waiting = TaskFilter { status: Some(TaskStatus::Queued), ..TaskFilter::default() };
    let waiting = tasks::list(&world.store, waiting, page).await.unwrap();
    assert_eq!(depth.oldest_queued, waiting.items.last().map(|task| task.created_at));
}

async fn tasks_are_listed_by_what_they_are_on(world: World) {
    let on_it = world.enqueued(NewTask { environment_id: Some(world.environment.id), ..world.task() }).await;
    let newer = world.enqueued(world.task()).await;
    let ids = async |filter| -> Vec<_> {
        let listed = tasks::list(&world.store, filter, Page::default()).await.unwrap();
        assert_eq!(listed.total, listed.items.len() as u64);
        listed.items.into_iter().map(|task| task.id).collect()
    };
    let (all, ours) = (TaskFilter::default(), [world.project.id]);
    assert_eq!(ids(all).await, [newer.id, on_it.id]);
    assert_eq!(ids(TaskFilter { environment_id: Some(world.environment.id), ..all }).await, [on_it.id]);
    assert_eq!(ids(TaskFilter { projects: Some(&ours), ..all }).await, [on_it.id]);
    assert_eq!(ids(TaskFilter { projects: Some(&[]), ..all }).await, []);
    let strange = Some(undoo_core::OrganisationId::generate());
    assert_eq!(ids(TaskFilter { organisation_id: strange, ..all }).await, []);
    let running = TaskFilter { status: Some(TaskStatus::Running), ..all };
    assert_eq!(ids(running).await, []);
}

async fn a_task_that_was_not_committed_is_not_there(world: World) {
    let mut hints = world.store.hints();
    // The listener may just have begun, and says so.
    while tokio::time::timeout(Duration::from_millis(300), hints.recv()).await.is_ok() {}
    let tx = world.store.begin().await.unwrap();
    let task = tasks::enqueue(&tx, &world.task()).await.unwrap();
    assert!(tasks::get(&tx, task.id).await.unwrap().is_some());
    drop(tx);
    assert_eq!(tasks::get(&world.store, task.id).await.unwrap(), None);
    assert_eq!(world.claim("w").await, None);
    assert!(hints.try_recv().is_err());
}
