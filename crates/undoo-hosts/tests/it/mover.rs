//! The mover and the volume that its binary is in.

use std::time::{Duration, Instant};

use bollard::{models::ContainerCreateBody, query_parameters::ListContainersOptionsBuilder};
use tokio_util::sync::CancellationToken;
use undoo_core::Kind;
use undoo_hosts::{
    LABEL_TASK, Labels,
    binary::ensure_binary,
    mover::{self, MoverSpec},
};

use crate::support::{self, POSTGRES, Sandbox};

support::trials![
    a_mover_reads_its_order_and_answers_by_lines_without_rights_it_does_not_need,
    a_secret_in_an_order_is_nowhere_in_docker_inspect,
    a_cancelled_mover_may_put_things_in_order_and_is_gone,
    a_mover_that_outgrows_its_limit_is_a_problem_that_says_so,
    a_mover_whose_future_is_dropped_is_removed,
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

async fn a_mover_reads_its_order_and_answers_by_lines_without_rights_it_does_not_need(sandbox: Sandbox) {
    let volume = sandbox.volume("shared").await;
    let network = sandbox.network("net").await;
    let other = sandbox
        .create(
            "other",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                host_config: support::host_with(&network, vec![support::volume_mount(&volume, "/shared")]),
                ..Default::default()
            },
        )
        .await;
    let mut spec = spec(&sandbox, "tell");
    spec.networks = vec![network, sandbox.network("second").await];
    spec.volumes_from = Some(other);
    // Larger than any pipe, so that writing has to go on beside reading.
    let order = format!("one\ntwo\n{}", "x".repeat(3_000_000));
    let mut lines = Vec::new();
    let binary = binary(&sandbox).await;
    let end = mover::run(
        &sandbox.docker,
        &spec,
        &binary,
        order.as_bytes(),
        |line| lines.push(line.to_owned()),
        &CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(end.exit_code, 7);
    assert!(end.output.ends_with("the last words\n"));
    assert_eq!(end.output.len(), 64 * 1024);
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}");
    has("order of 3000008 bytes");
    has("got one");
    has("NoNewPrivs:\t1");
    // CHOWN (0), DAC_OVERRIDE (1) and FOWNER (3).
    has("CapEff:\t000000000000000b");
    has("write /file false");
    has("write /undoo/file false");
    has("write /var/lib/postgresql/data/file true");
    has("write /shared/file true");
    has("socket false");
    assert!(movers_of(&sandbox).await.is_empty());
}

async fn a_secret_in_an_order_is_nowhere_in_docker_inspect(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let cancel = CancellationToken::new();
    let (ready, mut is_ready) = tokio::sync::mpsc::unbounded_channel();
    let spec = spec(&sandbox, "linger");
    let run = mover::run(
        &sandbox.docker,
        &spec,
        &binary,
        b"password: s3cret-word",
        |line| ready.send(line.to_owned()).unwrap(),
        &cancel,
    );
    let look = async {
        assert_eq!(is_ready.recv().await.as_deref(), Some("ready"));
        let found = movers_of(&sandbox).await;
        let text = sandbox.inspect_text(&found[0]).await;
        cancel.cancel();
        text
    };
    let (end, text) = tokio::join!(run, look);
    assert_eq!(end.unwrap_err().kind, Kind::Cancelled);
    assert!(text.contains("\"sh.undoo.epoch\":\"3\""), "{text}");
    assert!(text.contains("\"sh.undoo.role\":\"mover\""));
    assert!(!text.contains("s3cret-word"));
}

async fn a_cancelled_mover_may_put_things_in_order_and_is_gone(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let cancel = CancellationToken::new();
    let mut lines = Vec::new();
    let began = Instant::now();
    let problem = mover::run(
        &sandbox.docker,
        &spec(&sandbox, "linger"),
        &binary,
        b"",
        |line| {
            lines.push(line.to_owned());
            cancel.cancel();
        },
        &cancel,
    )
    .await
    .unwrap_err();
    assert_eq!(problem.kind, Kind::Cancelled);
    assert_eq!(lines, ["ready", "put in order"]);
    assert!(began.elapsed() < Duration::from_secs(15), "it was asked, not killed");
    assert!(movers_of(&sandbox).await.is_empty());
}

async fn a_mover_that_outgrows_its_limit_is_a_problem_that_says_so(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let mut spec = spec(&sandbox, "grow");
    spec.memory_limit = Some(32 * 1024 * 1024);
    spec.cpu_limit = Some(1.0);
    let problem = mover::run(&sandbox.docker, &spec, &binary, b"", |_| (), &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(problem.code, "mover_out_of_memory");
    assert!(problem.message.contains("33554432"), "{}", problem.message);
}

async fn a_mover_whose_future_is_dropped_is_removed(sandbox: Sandbox) {
    let binary = binary(&sandbox).await;
    let (ready, mut is_ready) = tokio::sync::mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let spec = spec(&sandbox, "linger");
    tokio::select! {
        end = mover::run(&sandbox.docker, &spec, &binary, b"", |_| ready.send(()).unwrap(), &cancel) => {
            panic!("it ended by itself: {end:?}")
        }
        _ = is_ready.recv() => {}
    }
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
    let end =
        mover::run(&sandbox.docker, &spec(&sandbox, "tell"), &again, b"x", |_| (), &CancellationToken::new())
            .await
            .unwrap();
    assert_eq!(end.exit_code, 7, "{}", end.output);
    let remove = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
    sandbox.docker.engine().remove_container(&writer, Some(remove)).await.unwrap();
    // Not in use any more: the next look at the current binary removes it.
    binary(&sandbox).await;
    assert!(sandbox.docker.engine().inspect_volume(&other).await.is_err());
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
        let cancel = CancellationToken::new();
        let (ready, mut is_ready) = tokio::sync::mpsc::unbounded_channel();
        let run =
            mover::run(&sandbox.docker, &spec, &binary, b"", |_| ready.send(()).unwrap_or_default(), &cancel);
        let look = async {
            is_ready.recv().await;
            let found = movers_of(&sandbox).await;
            let found = sandbox.docker.engine().inspect_container(&found[0], None).await.unwrap();
            cancel.cancel();
            found.mounts.unwrap_or_default()
        };
        let (_, mounts) = tokio::join!(run, look);
        let volumes: Vec<_> =
            mounts.into_iter().filter_map(|mount| mount.name).filter(|n| !n.is_empty()).collect();
        let own: Vec<_> = volumes.into_iter().filter(|name| *name != binary && *name != anonymous).collect();
        assert!(own.is_empty(), "{own:?}");
        sandbox.docker.engine().inspect_volume(&anonymous).await.unwrap();
    }
}
