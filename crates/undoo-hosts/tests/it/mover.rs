//! The mover and the volume that its binary is in.

use std::{
    io::{BufRead as _, BufReader},
    ops::ControlFlow,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bollard::{models::ContainerCreateBody, query_parameters::ListContainersOptionsBuilder};
use undoo_hosts::{
    LABEL_TASK, Labels,
    binary::{ensure_binary, remove_unused},
    mover::{Mover, MoverSpec},
};

use crate::support::{self, POSTGRES, Sandbox};

support::trials![
    a_mover_takes_one_order_after_another_without_rights_it_does_not_need,
    a_mover_whose_caller_is_killed_sees_its_input_closed_and_ends,
    a_secret_in_an_order_is_nowhere_in_docker_inspect,
    a_cancelled_mover_may_put_things_in_order_and_is_gone,
    a_mover_that_outgrows_its_limit_is_a_problem_that_says_so,
    a_mover_that_is_dropped_is_removed,
    a_half_filled_binary_volume_is_filled_again,
    a_mover_leaves_no_volume_behind,
];

fn spec(sandbox: &Sandbox, role: &str) -> MoverSpec {
    MoverSpec::new(POSTGRES, &["play", role], Labels::new(sandbox.task(), 3))
}

async fn movers_of(sandbox: &Sandbox) -> Vec<String> {
    let filters = [("label".to_owned(), vec![format!("{LABEL_TASK}={}", sandbox.task())])].into();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = sandbox.docker.engine().list_containers(Some(options)).await.unwrap();
    found.into_iter().filter_map(|summary| summary.id).collect()
}

async fn binary(sandbox: &Sandbox) -> String {
    ensure_binary(&sandbox.docker, &support::program(), POSTGRES).await.unwrap()
}

async fn a_mover_takes_one_order_after_another_without_rights_it_does_not_need(sandbox: Sandbox) {
    let volume = sandbox.volume("shared").await;
    let network = sandbox.network("net").await;
    let other = sandbox
        .create(
            "other",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                host_config: support::host_with(
                    &network,
                    vec![support::volume_mount(&volume, "/shared"), support::docker_socket()],
                ),
                ..Default::default()
            },
        )
        .await;
    let mut spec = spec(&sandbox, "tell");
    spec.networks = vec![network, sandbox.network("second").await];
    spec.volumes_from = Some(other);
    let binary = binary(&sandbox).await;
    let mut mover = Mover::start(&sandbox.docker, &spec, &binary).await.unwrap();
    let mut lines = Vec::new();
    // Larger than any pipe, so that writing has to go on beside reading.
    for order in ["x".repeat(3_000_000), "two".to_owned()] {
        let until_answered = |line: &str| heard(&mut lines, line, "answered");
        mover.order(order.as_bytes(), until_answered).await.unwrap();
    }
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}");
    has("order of 3000000 bytes");
    has("order of 3 bytes");
    has("NoNewPrivs:\t1");
    // CHOWN (0), DAC_OVERRIDE (1) and FOWNER (3).
    has("CapEff:\t000000000000000b");
    has("write /file false");
    has("write /undoo/file false");
    has("write /var/lib/postgresql/data/file true");
    has("write /shared/file true");
    has("socket false");
    let problem = mover.order(b"end", |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(problem.code, "mover_died");
    assert!(
        problem.message.contains("ended with 7") && problem.message.ends_with("the last words"),
        "{problem}"
    );
    mover.close().await.unwrap();
    assert!(movers_of(&sandbox).await.is_empty());
}

/// Keeps a line; breaks at the one that ends an answer.
fn heard(lines: &mut Vec<String>, line: &str, last: &str) -> ControlFlow<()> {
    lines.push(line.to_owned());
    if line == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// A mover that waits for SIGTERM, once it has said that it is ready.
async fn lingering(sandbox: &Sandbox, spec: &MoverSpec, order: &[u8]) -> Mover {
    let mut mover = Mover::start(&sandbox.docker, spec, &binary(sandbox).await).await.unwrap();
    mover.order(order, |line| heard(&mut Vec::new(), line, "ready")).await.unwrap();
    mover
}

async fn a_mover_whose_caller_is_killed_sees_its_input_closed_and_ends(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let mut caller = Command::new(support::program())
        .args(["play", "keep-mover", &binary, &sandbox.task()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(caller.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let mover = movers_of(&sandbox).await.pop().unwrap();
    let inspect = || sandbox.docker.engine().inspect_container(&mover, None);
    let state = |found: bollard::models::ContainerInspectResponse| found.state.unwrap();
    assert_eq!(state(inspect().await.unwrap()).running, Some(true));
    let began = Instant::now();
    caller.kill().unwrap();
    caller.wait().unwrap();
    while state(inspect().await.unwrap()).running == Some(true) {
        assert!(began.elapsed() < Duration::from_secs(10), "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(state(inspect().await.unwrap()).exit_code, Some(0), "it was not killed");
    undoo_hosts::cleanup::remove(&sandbox.docker, &sandbox.task(), 1).await.unwrap();
}

async fn a_secret_in_an_order_is_nowhere_in_docker_inspect(sandbox: Sandbox) {
    let mover = lingering(&sandbox, &spec(&sandbox, "linger"), b"password: s3cret-word").await;
    let found = movers_of(&sandbox).await;
    let text = sandbox.inspect_text(&found[0]).await;
    mover.close().await.unwrap();
    assert!(text.contains("\"sh.undoo.epoch\":\"3\""), "{text}");
    assert!(text.contains("\"sh.undoo.role\":\"mover\""));
    assert!(!text.contains("s3cret-word"));
}

async fn a_cancelled_mover_may_put_things_in_order_and_is_gone(sandbox: Sandbox) {
    let mut mover = lingering(&sandbox, &spec(&sandbox, "linger"), b"").await;
    let mut lines = Vec::new();
    let began = Instant::now();
    // While it does not answer an order, too.
    let unanswered = mover.order(b"more", |_| ControlFlow::Continue(()));
    assert!(tokio::time::timeout(Duration::from_millis(300), unanswered).await.is_err());
    mover.cancel(|line| lines.push(line.to_owned())).await.unwrap();
    assert_eq!(lines, ["put in order"]);
    assert!(began.elapsed() < Duration::from_secs(15), "it was asked, not killed");
    assert!(movers_of(&sandbox).await.is_empty());
}

async fn a_mover_that_outgrows_its_limit_is_a_problem_that_says_so(sandbox: Sandbox) {
    let mut spec = spec(&sandbox, "grow");
    spec.memory_limit = Some(32 * 1024 * 1024);
    spec.cpu_limit = Some(1.0);
    let mut mover = Mover::start(&sandbox.docker, &spec, &binary(&sandbox).await).await.unwrap();
    let problem = mover.order(b"", |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(problem.code, "mover_out_of_memory");
    assert!(problem.message.contains("33554432"), "{}", problem.message);
    mover.close().await.unwrap();
}

async fn a_mover_that_is_dropped_is_removed(sandbox: Sandbox) {
    drop(lingering(&sandbox, &spec(&sandbox, "linger"), b"").await);
    for _ in 0..100 {
        if movers_of(&sandbox).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the container is still there");
}

async fn a_half_filled_binary_volume_is_filled_again(sandbox: Sandbox) {
    let volume = binary(&sandbox).await;
    // The real volume is in use by other tests, so the crash is staged with another binary.
    let directory = std::env::temp_dir().join(&sandbox.prefix);
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("undoo");
    let mut content = std::fs::read(support::program()).unwrap();
    content.extend_from_slice(sandbox.prefix.as_bytes());
    std::fs::write(&program, &content).unwrap();
    let other = ensure_binary(&sandbox.docker, &program, POSTGRES).await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap_or_default();
    assert_ne!(volume, other);
    let writer = sandbox
        .create(
            "writer",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                host_config: support::host_with("none", vec![support::volume_mount(&other, "/undoo")]),
                ..Default::default()
            },
        )
        .await;
    sandbox.put(&writer, "/undoo/undoo", "half").await;
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(&program, &content).unwrap();
    let again = ensure_binary(&sandbox.docker, &program, POSTGRES).await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(again, other);
    let mut mover = Mover::start(&sandbox.docker, &spec(&sandbox, "tell"), &again).await.unwrap();
    mover.order(b"x", |line| heard(&mut Vec::new(), line, "answered")).await.unwrap();
    mover.close().await.unwrap();
    let remove = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    sandbox.docker.engine().remove_container(&writer, Some(remove)).await.unwrap();
    // Not in use any more, but young: only whoever asks for young ones too removes it.
    binary(&sandbox).await;
    sandbox.docker.engine().inspect_volume(&other).await.unwrap();
    let removed = remove_unused(&sandbox.docker, &volume, Duration::ZERO).await.unwrap();
    assert!(removed.contains(&other), "{removed:?}");
}

async fn a_mover_leaves_no_volume_behind(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let other = sandbox
        .create("other", ContainerCreateBody { image: Some(POSTGRES.into()), ..Default::default() })
        .await;
    let found = sandbox.docker.engine().inspect_container(&other, None).await.unwrap();
    let anonymous = found.mounts.unwrap()[0].name.clone().unwrap();
    let mut with_volumes = spec(&sandbox, "linger");
    with_volumes.volumes_from = Some(other);
    for spec in [spec(&sandbox, "linger"), with_volumes] {
        let mover = lingering(&sandbox, &spec, b"").await;
        let found = movers_of(&sandbox).await;
        let found = sandbox.docker.engine().inspect_container(&found[0], None).await.unwrap();
        mover.close().await.unwrap();
        let mounts = found.mounts.unwrap_or_default();
        let volumes: Vec<_> =
            mounts.into_iter().filter_map(|mount| mount.name).filter(|n| !n.is_empty()).collect();
        let own: Vec<_> = volumes.into_iter().filter(|name| *name != binary && *name != anonymous).collect();
        assert!(own.is_empty(), "{own:?}");
        sandbox.docker.engine().inspect_volume(&anonymous).await.unwrap();
    }
}
