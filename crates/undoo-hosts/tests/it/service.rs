//! Services around a cutover.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use undoo_hosts::{service, target::inspect_odoo};

use crate::support::{self, ODOO, Sandbox};

support::trials![
    stopping_and_starting_twice_is_fine_and_a_restart_policy_does_not_interfere,
    a_health_check_decides_where_there_is_one,
    a_crash_loop_is_never_healthy,
    a_container_that_ended_for_good_fails_at_once,
    a_probe_is_asked_until_it_answers,
    whoever_writes_to_the_filestore_and_whoever_talks_to_the_database_is_found,
];

const LOOK: Duration = Duration::from_millis(100);
type NoProbe = fn() -> Ready<bool>;
const NO_PROBE: Option<NoProbe> = None;

fn restarting() -> Option<HostConfig> {
    Some(HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            ..Default::default()
        }),
        ..Default::default()
    })
}

async fn stopping_and_starting_twice_is_fine_and_a_restart_policy_does_not_interfere(sandbox: Sandbox) {
    let docker = &sandbox.docker;
    let one =
        sandbox.idle("one", ContainerCreateBody { host_config: restarting(), ..Default::default() }).await;
    let two = sandbox.idle("two", ContainerCreateBody::default()).await;
    let both = [one.clone(), two.clone()];
    for _ in 0..2 {
        service::stop(docker, &both, Duration::from_secs(5)).await.unwrap();
        for name in &both {
            assert!(sandbox.inspect_text(name).await.contains("\"Running\":false"));
        }
    }
    for _ in 0..2 {
        service::start(docker, &both).await.unwrap();
        for name in &both {
            assert!(sandbox.inspect_text(name).await.contains("\"Running\":true"));
        }
    }
    let names = [sandbox.name("nobody"), two.clone()];
    let problem = service::stop(docker, &names, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(problem.code, "container_missing");
    assert!(
        sandbox.inspect_text(&two).await.contains("\"Running\":false"),
        "the other was stopped all the same"
    );
}

async fn a_health_check_decides_where_there_is_one(sandbox: Sandbox) {
    let body = ContainerCreateBody {
        healthcheck: Some(HealthConfig {
            test: support::words(&["CMD-SHELL", "test -e /ready || { echo not ready; exit 1; }"]),
            interval: Some(200_000_000),
            timeout: Some(5_000_000_000),
            retries: Some(1),
            ..Default::default()
        }),
        ..Default::default()
    };
    let name = sandbox.idle("checked", body).await;
    let problem = service::wait_healthy(&sandbox.docker, &name, 15, LOOK, NO_PROBE).await.unwrap_err();
    assert_eq!(problem.code, "service_unhealthy");
    assert!(problem.message.contains("not ready"), "{}", problem.message);
    sandbox.exec(&name, &["touch", "/ready"]).await;
    service::wait_healthy(&sandbox.docker, &name, 50, LOOK, NO_PROBE).await.unwrap();
}

async fn a_crash_loop_is_never_healthy(sandbox: Sandbox) {
    let body = ContainerCreateBody {
        entrypoint: support::words(&["sh", "-c", "exit 5"]),
        host_config: restarting(),
        ..Default::default()
    };
    let name = sandbox.idle("crashing", body).await;
    let problem = service::wait_healthy(&sandbox.docker, &name, 10, LOOK * 3, NO_PROBE).await.unwrap_err();
    assert_eq!(problem.code, "service_unhealthy");
    assert!(problem.remedy.contains(&name));
}

async fn a_container_that_ended_for_good_fails_at_once(sandbox: Sandbox) {
    let body =
        ContainerCreateBody { entrypoint: support::words(&["sh", "-c", "exit 5"]), ..Default::default() };
    let name = sandbox.idle("ended", body).await;
    let began = Instant::now();
    let problem = service::wait_healthy(&sandbox.docker, &name, 100, LOOK, NO_PROBE).await.unwrap_err();
    assert!(problem.message.contains("exit code 5"), "{}", problem.message);
    assert!(began.elapsed() < Duration::from_secs(5));
}

async fn a_probe_is_asked_until_it_answers(sandbox: Sandbox) {
    let name = sandbox.idle("probed", ContainerCreateBody::default()).await;
    let asked = AtomicU32::new(0);
    let probe = || ready(asked.fetch_add(1, Ordering::Relaxed) >= 4);
    service::wait_healthy(&sandbox.docker, &name, 10, LOOK, Some(probe)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    let never = || ready(false);
    let problem = service::wait_healthy(&sandbox.docker, &name, 3, LOOK, Some(never)).await.unwrap_err();
    assert_eq!(problem.code, "service_unhealthy");
}

async fn whoever_writes_to_the_filestore_and_whoever_talks_to_the_database_is_found(sandbox: Sandbox) {
    let network = sandbox.network("net").await;
    let volume = sandbox.volume("data").await;
    let with_data = |target: &str, read_only: bool| {
        let mut mount = support::volume_mount(&volume, target);
        mount.read_only = Some(read_only);
        support::host_with(&network, vec![mount])
    };
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                host_config: with_data("/var/lib/odoo", false),
                ..Default::default()
            },
        )
        .await;
    let gevent = sandbox
        .idle("gevent", ContainerCreateBody { host_config: with_data("/data", false), ..Default::default() })
        .await;
    sandbox
        .idle("reader", ContainerCreateBody { host_config: with_data("/data", true), ..Default::default() })
        .await;
    let odoo = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    let holders = service::containers_holding_filestore(&sandbox.docker, &odoo).await.unwrap();
    assert_eq!(holders.iter().map(|holder| &holder.name).collect::<Vec<_>>(), [&gevent]);
    assert!(holders[0].running);

    let found = sandbox.docker.engine().inspect_container(&gevent, None).await.unwrap();
    let networks = found.network_settings.unwrap().networks.unwrap();
    let ip: IpAddr = networks[&network].ip_address.as_deref().unwrap().parse().unwrap();
    let nobody: IpAddr = "203.0.113.9".parse().unwrap();
    let clients = service::containers_by_ip(&sandbox.docker, &[ip, nobody]).await.unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[&ip].name, gevent);
}
