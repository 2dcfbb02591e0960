//! The environment's services: stopped and started around a cutover, watched until they are well, and
//! found by what they share with Odoo.
//!
//! Nothing here is ever removed or changed otherwise.

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    models::{ContainerInspectResponse, HealthStatusEnum},
    query_parameters::ListContainersOptionsBuilder,
};
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

use crate::{
    docker::{Docker, is_unchanged, problem},
    labels::LABEL_ROLE,
    scratch,
    target::{
        ComposeService, Mount, OdooContainer, all_containers, compose_service, inspect, is_running, mounts,
        name,
    },
};

/// Without a health check or a probe, a container that stays up for this many looks counts as well.
const STEADY_LOOKS: u32 = 3;

/// Stops containers together: SIGTERM (or what the image asks for), after `grace` a kill. Those that are
/// stopped already stay so. A restart policy does not bring them back.
///
/// # Errors
/// The first of the engine's; the others have been asked all the same.
pub async fn stop(docker: &Docker, containers: &[String], grace: Duration) -> Result<()> {
    let stops = containers.iter().map(|container| async move {
        inspect(docker, container).await?;
        scratch::stop(docker, container, grace).await
    });
    futures_util::future::join_all(stops).await.into_iter().collect()
}

/// Those of these containers that were not removed meanwhile.
///
/// # Errors
/// Those of the engine.
pub async fn still_there(docker: &Docker, containers: Vec<String>) -> Result<Vec<String>> {
    let mut there = Vec::new();
    for container in containers {
        match inspect(docker, &container).await {
            Ok(_) => there.push(container),
            Err(problem) if problem.kind == Kind::Missing => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(there)
}

/// Starts containers in this order. Those that run already stay so.
///
/// # Errors
/// The first of the engine's; the rest has been tried all the same, since a service more that runs is
/// better than one less.
pub async fn start(docker: &Docker, containers: &[String]) -> Result<()> {
    let mut outcome = Ok(());
    for container in containers {
        match docker.engine().start_container(container, None).await {
            Ok(()) => {}
            Err(error) if is_unchanged(&error) => {}
            Err(error) => {
                outcome = outcome.and(Err(problem(error, || format!("starting the container {container}"))));
            }
        }
    }
    outcome
}

/// Waits until a container is well: its health check says so; without one, it runs, has not restarted
/// meanwhile, and `probe` (for example a request to `/web/login`) answers true. Without a probe it has
/// to be seen running three times in a row.
///
/// # Errors
/// `service_unhealthy` after `attempts` looks, `interval` apart, or at once when the container has ended
/// and no restart policy brings it back.
pub async fn wait_healthy<P, F>(
    docker: &Docker,
    container: &str,
    attempts: u32,
    interval: Duration,
    probe: Option<P>,
) -> Result<()>
where
    P: Fn() -> F,
    F: Future<Output = bool>,
{
    let mut last = Look { started: String::new(), restarts: 0, state: "was not looked at".into() };
    let mut steady = 0;
    for attempt in 0..attempts.max(1) {
        if attempt > 0 {
            tokio::time::sleep(interval).await;
        }
        let found = inspect(docker, container).await?;
        let (look, verdict) = look(&found);
        let same_start = look.started == last.started && look.restarts == last.restarts;
        last = look;
        match verdict {
            Verdict::Healthy => return Ok(()),
            Verdict::Ended => break,
            Verdict::NotYet => steady = 0,
            Verdict::Runs => {
                steady = if same_start { steady + 1 } else { 1 };
                let well = match &probe {
                    // A new start since the last look is a crash loop, however well it answers now.
                    Some(probe) => (steady > 1 || attempt == 0) && probe().await,
                    None => steady >= STEADY_LOOKS,
                };
                if well {
                    return Ok(());
                }
            }
        }
    }
    Err(Problem::new(
        Kind::NotProven,
        "service_unhealthy",
        format!("The container {container} did not become healthy: it {}.", last.state),
        format!("Read its log: docker logs --tail 100 {container}"),
    ))
}

struct Look {
    started: String,
    restarts: i64,
    state: String,
}

enum Verdict {
    Healthy,
    Runs,
    NotYet,
    Ended,
}

fn look(found: &ContainerInspectResponse) -> (Look, Verdict) {
    let state = found.state.clone().unwrap_or_default();
    let restarts = found.restart_count.unwrap_or(0);
    let started = state.started_at.unwrap_or_default();
    let running = state.running.unwrap_or(false) && !state.restarting.unwrap_or(false);
    let comes_back = found
        .host_config
        .as_ref()
        .and_then(|host| host.restart_policy.as_ref()?.name)
        .is_some_and(|name| !["", "no"].contains(&name.to_string().as_str()));
    let health = state.health.as_ref().and_then(|health| health.status);
    let (state, verdict) = match health {
        _ if !running => (
            format!("ended with exit code {}", state.exit_code.unwrap_or(-1)),
            if comes_back || state.restarting.unwrap_or(false) { Verdict::NotYet } else { Verdict::Ended },
        ),
        Some(HealthStatusEnum::HEALTHY) => ("is healthy".into(), Verdict::Healthy),
        Some(HealthStatusEnum::STARTING) => ("is starting, says its health check".into(), Verdict::NotYet),
        Some(HealthStatusEnum::UNHEALTHY) => {
            let said = state.health.and_then(|health| health.log?.pop()?.output).unwrap_or_default();
            let said: String = said.trim().chars().take(500).collect();
            (format!("is unhealthy, says its health check: {said}"), Verdict::NotYet)
        }
        _ => (format!("runs (restarted {restarts} times) but does not answer"), Verdict::Runs),
    };
    (Look { started, restarts, state }, verdict)
}

/// A container that has to do with an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The engine's id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Whether it runs now.
    pub running: bool,
    /// Where it belongs in Docker Compose.
    pub compose: Option<ComposeService>,
}

impl Holder {
    fn of(found: &ContainerInspectResponse) -> Self {
        let config = found.config.clone().unwrap_or_default();
        Self {
            id: found.id.clone().unwrap_or_default(),
            name: name(found),
            image: config.image.unwrap_or_default(),
            running: is_running(found),
            compose: config.labels.as_ref().and_then(compose_service),
        }
    }
}

/// The other containers that can write to the filestore of this Odoo, stopped ones included: a second
/// Odoo, a gevent process, a backup job. Our own are not among them.
///
/// # Errors
/// Those of the engine.
pub async fn containers_holding_filestore(docker: &Docker, odoo: &OdooContainer) -> Result<Vec<Holder>> {
    let Some(own) = odoo.mount_of(&odoo.filestore_root) else { return Ok(Vec::new()) };
    let own_path = odoo.host_path(&odoo.filestore_root);
    let mut holders = Vec::new();
    for id in all_containers(docker).await? {
        if id == odoo.id {
            continue;
        }
        // It may have gone away since it was listed.
        let Ok(found) = docker.engine().inspect_container(&id, None).await else { continue };
        if is_ours(&found) {
            continue;
        }
        let others = mounts(docker, &found).await?;
        if others.iter().any(|other| other.rw && overlaps(own, own_path.as_ref(), other)) {
            holders.push(Holder::of(&found));
        }
    }
    holders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(holders)
}

/// Movers have the filestore too. They are no service: nobody stops them for a cutover.
fn is_ours(found: &ContainerInspectResponse) -> bool {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(LABEL_ROLE))
}

fn overlaps(own: &Mount, own_path: Option<&PathBuf>, other: &Mount) -> bool {
    if own.volume.is_some() && own.volume == other.volume {
        return true;
    }
    let (Some(own), Some(other)) = (own_path, &other.host_source) else { return false };
    Path::new(own).starts_with(other) || other.starts_with(own)
}

/// Which containers have these addresses, for example the clients that the database server sees. An
/// address that no container has (a client on the host or elsewhere) is not in the answer.
///
/// # Errors
/// Those of the engine.
pub async fn containers_by_ip(docker: &Docker, addresses: &[IpAddr]) -> Result<HashMap<IpAddr, Holder>> {
    let options = ListContainersOptionsBuilder::new().build();
    let listed = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    let mut found = HashMap::new();
    for summary in listed {
        let endpoints = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let own = endpoints
            .into_values()
            .flat_map(|endpoint| [endpoint.ip_address, endpoint.global_ipv6_address].into_iter().flatten());
        let own: Vec<IpAddr> = own
            .filter_map(|address| address.parse().ok())
            .filter(|address| addresses.contains(address))
            .collect();
        let (Some(id), false) = (summary.id, own.is_empty()) else { continue };
        let holder = Holder::of(&inspect(docker, &id).await?);
        found.extend(own.into_iter().map(|address| (address, holder.clone())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::MountKind;

    fn mount(volume: Option<&str>, source: &str) -> Mount {
        Mount {
            kind: MountKind::Bind,
            volume: volume.map(str::to_owned),
            host_source: Some(source.into()),
            destination: "/x".into(),
            rw: true,
        }
    }

    #[test]
    fn mounts_overlap_by_volume_or_by_path_whichever_is_the_deeper() {
        let own = mount(None, "/srv/odoo");
        let files = PathBuf::from("/srv/odoo/filestore");
        let overlaps = |other: &Mount| overlaps(&own, Some(&files), other);
        assert!(overlaps(&mount(None, "/srv")));
        assert!(overlaps(&mount(None, "/srv/odoo/filestore/acme")));
        assert!(!overlaps(&mount(None, "/srv/odoo/sessions")));
        assert!(!overlaps(&mount(None, "/srv/odoo/filestore2")));
        let volume = mount(Some("data"), "/var/lib/docker/volumes/data/_data");
        assert!(super::overlaps(&volume, None, &mount(Some("data"), "/elsewhere")));
    }
}
