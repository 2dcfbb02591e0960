//! What a task that died left on a server, found by its labels.
//!
//! Only things that carry our labels are ever listed, and a cutover that is under way is never removed:
//! it is what brings Odoo back.

use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use jiff::Timestamp;
use serde::Serialize;
use undoo_core::{Kind, Result};

use crate::{
    docker::{Docker, problem},
    labels::{LABEL_EPOCH, LABEL_ROLE, LABEL_TARGET, LABEL_TASK, Labels, Role, label_filter},
    odoo::remove_network,
    scratch,
    target::inspect,
};

/// A thing of ours on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its role, as in the label.
    pub role: String,
    /// Whose it is.
    pub labels: Labels,
    /// Whether it is a container that runs.
    pub running: bool,
}

/// What can be left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LeftoverKind {
    /// A container.
    Container,
    /// A network.
    Network,
}

/// Everything of ours that belongs to this task, or to any. Containers come before networks.
///
/// # Errors
/// Those of the engine.
pub async fn list(docker: &Docker, task: Option<&str>) -> Result<Vec<Leftover>> {
    let filters = label_filter(&[(LABEL_TASK, task), (LABEL_ROLE, None)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = docker
        .engine()
        .list_networks(Some(options))
        .await
        .map_err(|error| problem(error, || "listing networks".into()))?;
    let containers = containers.into_iter().map(|found| {
        let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let running = found.state.is_some_and(|state| state.to_string() == "running");
        let name = name.trim_start_matches('/').to_owned();
        leftover(LeftoverKind::Container, found.id, name, found.labels, running)
    });
    let networks = networks.into_iter().map(|found| {
        leftover(LeftoverKind::Network, found.id, found.name.unwrap_or_default(), found.labels, false)
    });
    Ok(containers.chain(networks).flatten().collect())
}

/// Removes what attempts of this task up to `epoch` left, except a cutover that is under way; gives what
/// was removed.
///
/// # Errors
/// Those of the engine; what came before has been removed.
pub async fn remove(docker: &Docker, task: &str, epoch: u64) -> Result<Vec<Leftover>> {
    let mut removed = Vec::new();
    for leftover in list(docker, Some(task)).await? {
        let cutover_under_way = leftover.role == Role::Agent.as_str() && leftover.running;
        if leftover.labels.epoch > epoch || cutover_under_way {
            continue;
        }
        match leftover.kind {
            LeftoverKind::Container => scratch::remove(docker, &leftover.id).await?,
            LeftoverKind::Network => remove_network(docker, &leftover.id).await?,
        }
        removed.push(leftover);
    }
    Ok(removed)
}

/// Removes movers on the Odoo container `target` that ended `age` ago or earlier: their commands died before
/// they could. Any other may still have one, that is about to start it or to read how it ended.
///
/// # Errors
/// Those of the engine; what came before has been removed.
pub async fn remove_ended_movers(docker: &Docker, target: &str, age: Duration) -> Result<()> {
    let mut filters = label_filter(&[(LABEL_ROLE, Some(Role::Mover.as_str())), (LABEL_TARGET, Some(target))]);
    filters.insert("status".into(), vec!["exited".into(), "dead".into()]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let ended = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    for id in ended.into_iter().filter_map(|found| found.id) {
        let found = match inspect(docker, &id).await {
            // Its command has removed it meanwhile.
            Err(gone) if gone.kind == Kind::Missing => continue,
            found => found?,
        };
        let finished = found.state.and_then(|state| state.finished_at?.parse::<Timestamp>().ok());
        let since = finished.map(|finished| Timestamp::now().duration_since(finished));
        if since.and_then(|since| Duration::try_from(since).ok()).is_some_and(|since| since >= age) {
            scratch::remove(docker, &id).await?;
        }
    }
    Ok(())
}

/// `None` for what lacks a label that ours all have, whatever the filter let through.
fn leftover(
    kind: LeftoverKind,
    id: Option<String>,
    name: String,
    labels: Option<std::collections::HashMap<String, String>>,
    running: bool,
) -> Option<Leftover> {
    let labels = labels?;
    Some(Leftover {
        kind,
        id: id?,
        name,
        role: labels.get(LABEL_ROLE)?.clone(),
        labels: Labels {
            task: labels.get(LABEL_TASK)?.clone(),
            epoch: labels.get(LABEL_EPOCH)?.parse().ok()?,
            target: labels.get(LABEL_TARGET).cloned(),
        },
        running,
    })
}
