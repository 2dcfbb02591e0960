//! What dead tasks left behind.

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use undoo_hosts::{
    LABEL_EPOCH, LABEL_ROLE, LABEL_TARGET, LABEL_TASK, Labels, cleanup,
    cleanup::LeftoverKind,
    odoo::{DATABASE_ALIAS, proof_network},
};

use crate::support::{self, Sandbox};

support::trials![
    leftovers_of_dead_attempts_go_and_nothing_else_does,
    of_movers_only_those_go_that_ended_long_enough_ago,
    the_network_of_a_proof_is_internal_and_goes_with_what_is_in_it,
];

async fn leftovers_of_dead_attempts_go_and_nothing_else_does(sandbox: Sandbox) {
    let task = sandbox.task();
    let of_epoch = |epoch: &str| ContainerCreateBody {
        labels: support::labels(&[(LABEL_TASK, &task), (LABEL_EPOCH, epoch), (LABEL_ROLE, "mover")]),
        ..Default::default()
    };
    let old = sandbox.idle("old", of_epoch("1")).await;
    let current = sandbox.idle("current", of_epoch("2")).await;
    let no_role = sandbox
        .idle(
            "no-role",
            ContainerCreateBody { labels: support::labels(&[(LABEL_TASK, &task)]), ..Default::default() },
        )
        .await;
    let database = sandbox
        .idle(
            "db",
            ContainerCreateBody {
                host_config: support::host_with(&sandbox.network("net").await, vec![]),
                ..Default::default()
            },
        )
        .await;
    let network = proof_network(&sandbox.docker, &Labels::new(&task, 1), &database).await.unwrap();
    let network_name = network.name().to_owned();
    // As if the process had died here.
    std::mem::forget(network);

    let removed = cleanup::remove(&sandbox.docker, &task, 1).await.unwrap();
    let removed: Vec<_> = removed.into_iter().map(|left| (left.kind, left.name, left.running)).collect();
    assert_eq!(removed, [(LeftoverKind::Container, old, true), (LeftoverKind::Network, network_name, false)]);
    let left = cleanup::list(&sandbox.docker, Some(&task)).await.unwrap();
    assert_eq!(left.into_iter().map(|left| left.name).collect::<Vec<_>>(), [current]);
    for name in [no_role, database] {
        assert!(sandbox.inspect_text(&name).await.contains("\"Running\":true"));
    }
}

async fn of_movers_only_those_go_that_ended_long_enough_ago(sandbox: Sandbox) {
    let (task, target) = (sandbox.task(), sandbox.name("odoo"));
    let of_role = |role: &str| ContainerCreateBody {
        image: Some(support::POSTGRES.into()),
        labels: support::labels(&[
            (LABEL_TASK, &task),
            (LABEL_EPOCH, "1"),
            (LABEL_ROLE, role),
            (LABEL_TARGET, &target),
        ]),
        ..Default::default()
    };
    let created = sandbox.create("created", of_role("mover")).await;
    let running = sandbox.idle("running", of_role("mover")).await;
    let ended = sandbox.idle("ended", of_role("mover")).await;
    let agent = sandbox.idle("agent", of_role("cutover-agent")).await;
    for name in [&ended, &agent] {
        sandbox.docker.engine().stop_container(name, None).await.unwrap();
    }
    let left = async || {
        let left = cleanup::list(&sandbox.docker, Some(&task)).await.unwrap();
        left.into_iter().map(|left| left.name).collect::<std::collections::BTreeSet<_>>()
    };

    cleanup::remove_ended_movers(&sandbox.docker, &target, Duration::from_secs(600)).await.unwrap();
    assert!(left().await.contains(&ended), "its command may still read how it ended");
    cleanup::remove_ended_movers(&sandbox.docker, &target, Duration::ZERO).await.unwrap();
    assert_eq!(left().await, [created, running, agent].into());
}

async fn the_network_of_a_proof_is_internal_and_goes_with_what_is_in_it(sandbox: Sandbox) {
    let own = sandbox.network("net").await;
    let database = sandbox
        .idle(
            "db",
            ContainerCreateBody { host_config: support::host_with(&own, vec![]), ..Default::default() },
        )
        .await;
    let network = proof_network(&sandbox.docker, &Labels::new(sandbox.task(), 1), &database).await.unwrap();
    let name = network.name().to_owned();
    let other = sandbox
        .idle(
            "other",
            ContainerCreateBody { host_config: support::host_with(&name, vec![]), ..Default::default() },
        )
        .await;
    let (code, text) = sandbox.exec(&other, &["getent", "hosts", DATABASE_ALIAS]).await;
    assert_eq!(code, 0, "{text}");
    let found = sandbox.docker.engine().inspect_network(&name, None).await.unwrap();
    assert_eq!(found.internal, Some(true));
    network.remove().await.unwrap();
    assert!(sandbox.docker.engine().inspect_network(&name, None).await.is_err());
    assert!(sandbox.inspect_text(&database).await.contains(&own), "it stays in its own network");
}
