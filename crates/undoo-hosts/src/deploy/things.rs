//! Labels of environments, and finding and removing what carries them.

use std::collections::{BTreeMap, HashMap};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use serde::Serialize;
use undoo_core::{EnvironmentId, Kind, Problem, Result, platform::Names};

use super::{Did, Done, files};
use crate::{
    cleanup::{self, LeftoverKind},
    docker::{Docker, is_being_removed, is_missing, problem},
    labels::{Role, label_filter},
    odoo::remove_network,
    scratch,
};

/// The environment that a thing belongs to.
pub const LABEL_ENVIRONMENT: &str = "sh.undoo.environment";
/// What the names of its network, volumes and folder begin with.
pub const LABEL_PREFIX: &str = "sh.undoo.prefix";
/// What they go on with, where that is not the environment's id.
pub const LABEL_NAME: &str = "sh.undoo.name";
/// What it is of the environment; see [`Part`].
pub const LABEL_PART: &str = "sh.undoo.part";
/// On the network: the image with which the folder can be removed.
pub(super) const LABEL_IMAGE: &str = "sh.undoo.image";

/// What a thing is of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The Odoo that can be reached.
    Odoo,
    /// The Odoo that carries the restore, and cannot be reached.
    Carrier,
    /// PostgreSQL.
    Database,
    /// The volume of PostgreSQL's data.
    DatabaseVolume,
    /// The volume of Odoo's data.
    OdooVolume,
    /// The environment's own network.
    Network,
    /// The network that all environments and Traefik are in; not the environment's.
    PublicNetwork,
    /// The folder with configuration and addons.
    Folder,
    /// The folder with Python packages, in it.
    Packages,
    /// Odoo's image; not the environment's.
    OdooImage,
    /// PostgreSQL's image; not the environment's.
    DatabaseImage,
}

impl Part {
    /// Those that carry labels, in the order in which they are removed.
    const LABELLED: [Self; 6] =
        [Self::Odoo, Self::Carrier, Self::Database, Self::DatabaseVolume, Self::OdooVolume, Self::Network];

    /// The word for it, as in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Odoo => "odoo",
            Self::Carrier => "carrier",
            Self::Database => "database",
            Self::DatabaseVolume => "database-volume",
            Self::OdooVolume => "odoo-volume",
            Self::Network => "network",
            Self::PublicNetwork => "public-network",
            Self::Folder => "folder",
            Self::Packages => "packages",
            Self::OdooImage => "odoo-image",
            Self::DatabaseImage => "database-image",
        }
    }

    fn labelled(word: &str) -> Option<Self> {
        Self::LABELLED.into_iter().find(|part| part.as_str() == word)
    }
}

/// Kinds of things that an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ThingKind {
    /// A container.
    Container,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

/// A thing of an environment on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thing {
    /// What it is to the engine.
    pub kind: ThingKind,
    /// What it is to the environment.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// Whether it is a container that runs.
    pub running: bool,
}

/// An environment, whole or in parts, as it is found on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Its names, by which it is destroyed.
    pub names: Names,
    /// What there is of it, in the order in which it would be removed.
    pub things: Vec<Thing>,
}

pub(super) fn labels(names: &Names, part: Part) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (LABEL_ENVIRONMENT.to_owned(), names.environment().to_string()),
        (LABEL_PREFIX.to_owned(), names.prefix().to_owned()),
        (LABEL_PART.to_owned(), part.as_str().to_owned()),
    ]);
    labels.extend(names.given().map(|name| (LABEL_NAME.to_owned(), name.to_owned())));
    labels
}

/// What labels say that a thing is of this environment; `None`: it is not.
pub(super) fn part_of(labels: &HashMap<String, String>, names: &Names) -> Option<Part> {
    (names_of(labels)? == *names).then(|| Part::labelled(labels.get(LABEL_PART)?)).flatten()
}

/// Whether a container with these labels carries the restore of an environment that is being deployed.
pub(crate) fn is_carrier(labels: &HashMap<String, String>) -> bool {
    names_of(labels).is_some() && labels.get(LABEL_PART).is_some_and(|part| part == Part::Carrier.as_str())
}

fn names_of(labels: &HashMap<String, String>) -> Option<Names> {
    let environment: EnvironmentId = labels.get(LABEL_ENVIRONMENT)?.parse().ok()?;
    let names = Names::new(labels.get(LABEL_PREFIX)?, environment);
    let names = match labels.get(LABEL_NAME) {
        Some(name) => names.called(name),
        None => names,
    };
    // They become part of a path: somebody else's labels may say anything.
    names.check().ok().map(|()| names)
}

/// Every environment that has anything on this server, by its labels. A folder alone is not found: its
/// network is there for as long as it is.
///
/// # Errors
/// Those of the engine.
pub async fn list(docker: &Docker) -> Result<Vec<Deployed>> {
    let mut found: BTreeMap<Names, Vec<Thing>> = BTreeMap::new();
    for (names, thing) in labelled(docker, None).await? {
        found.entry(names).or_default().push(thing);
    }
    let deployed = found.into_iter().map(|(names, mut things)| {
        things.sort_by_key(|thing| thing.part);
        Deployed { names, things }
    });
    Ok(deployed.collect())
}

/// What there is of an environment, in the order in which it would be removed.
pub(super) async fn of(docker: &Docker, names: &Names) -> Result<Vec<Thing>> {
    let all = labelled(docker, Some(&names.environment().to_string())).await?;
    let mut things: Vec<Thing> =
        all.into_iter().filter(|(whose, _)| whose == names).map(|(_, thing)| thing).collect();
    things.sort_by_key(|thing| thing.part);
    Ok(things)
}

async fn labelled(docker: &Docker, environment: Option<&str>) -> Result<Vec<(Names, Thing)>> {
    let filters = label_filter(&[(LABEL_ENVIRONMENT, environment), (LABEL_PREFIX, None), (LABEL_PART, None)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = docker
        .engine()
        .list_volumes(Some(options))
        .await
        .map_err(|error| problem(error, || "listing volumes".into()))?;
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = docker
        .engine()
        .list_networks(Some(options))
        .await
        .map_err(|error| problem(error, || "listing networks".into()))?;
    let containers = containers.into_iter().map(|found| {
        let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let running = found.state.is_some_and(|state| state.to_string() == "running");
        (ThingKind::Container, name.trim_start_matches('/').to_owned(), found.labels, running)
    });
    let volumes = volumes
        .volumes
        .into_iter()
        .flatten()
        .map(|found| (ThingKind::Volume, found.name, Some(found.labels), false));
    let networks = networks
        .into_iter()
        .map(|found| (ThingKind::Network, found.name.unwrap_or_default(), found.labels, false));
    let things = containers.chain(volumes).chain(networks).filter_map(|(kind, name, labels, running)| {
        let labels = labels?;
        let names = names_of(&labels)?;
        let part = part_of(&labels, &names)?;
        Some((names, Thing { kind, part, name, running }))
    });
    Ok(things.collect())
}

/// Removes an environment with all its data: what works on it, containers, folder, volumes, network. Answers
/// what it removed; what is not there is removed already.
///
/// # Errors
/// `agent_running` while a cutover is under way on it, which cannot be broken off; `image_missing` where
/// nothing can remove the folder; those of the engine. What came before is gone; call it again.
pub async fn destroy(docker: &Docker, names: &Names) -> Result<Vec<Done>> {
    names.check()?;
    let things = of(docker, names).await?;
    remove_workers(docker, names, &things).await?;
    let mut removed = Vec::new();
    let mut remove = |part, name: &str| removed.push(Done { part, name: name.to_owned(), did: Did::Removed });
    for thing in things.iter().filter(|thing| thing.kind == ThingKind::Container) {
        remove_container(docker, &thing.name).await?;
        remove(thing.part, &thing.name);
    }
    // As long as there is the network there may be the folder, and without it there is none.
    if things.iter().any(|thing| thing.part == Part::Network) && files::remove(docker, names).await? {
        remove(Part::Folder, &names.folder());
    }
    for thing in things.iter().filter(|thing| thing.kind == ThingKind::Volume) {
        remove_volume(docker, &thing.name).await?;
        remove(thing.part, &thing.name);
    }
    for thing in things.iter().filter(|thing| thing.kind == ThingKind::Network) {
        remove_network(docker, &thing.name).await?;
        remove(thing.part, &thing.name);
    }
    Ok(removed)
}

/// Movers, proofs and their networks, which hold the environment's volumes and its PostgreSQL. Those on somebody
/// else's Odoo of the same name are at work for them.
async fn remove_workers(docker: &Docker, names: &Names, things: &[Thing]) -> Result<()> {
    let (target, task) = (names.odoo(), names.environment().to_string());
    let is_its_own = things.iter().any(|thing| thing.kind == ThingKind::Container && thing.name == target);
    let mut workers = cleanup::list(docker, None).await?;
    workers.retain(|worker| {
        worker.labels.target.as_ref() == Some(&target) && (is_its_own || worker.labels.task == task)
    });
    if let Some(agent) = workers.iter().find(|worker| worker.running && worker.role == Role::Agent.as_str()) {
        return Err(Problem::new(
            Kind::Conflict,
            "agent_running",
            format!("The cutover in the container {} is still under way on {target}.", agent.name),
            format!("Wait for it to end; its log: docker logs --follow {}", agent.name),
        ));
    }
    for worker in workers {
        match worker.kind {
            LeftoverKind::Container => scratch::remove(docker, &worker.id).await?,
            LeftoverKind::Network => remove_network(docker, &worker.id).await?,
        }
    }
    Ok(())
}

/// Removes a container of an environment, killing it if it runs, with volumes that have no name: its image may
/// declare some, and nobody else has those.
pub(super) async fn remove_container(docker: &Docker, container: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.engine().remove_container(container, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_missing(&error) || is_being_removed(&error) => Ok(()),
        Err(error) => Err(problem(error, || format!("removing the container {container}"))),
    }
}

pub(super) async fn remove_volume(docker: &Docker, volume: &str) -> Result<()> {
    let options = RemoveVolumeOptionsBuilder::new().force(false).build();
    match docker.engine().remove_volume(volume, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(problem(error, || format!("removing the volume {volume}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_whose_a_thing_is_and_no_others_do() {
        let names = Names::new("acme", EnvironmentId::generate());
        let own = labels(&names, Part::Database);
        assert_eq!(part_of(&own, &names), Some(Part::Database));
        assert!(is_carrier(&labels(&names, Part::Carrier)) && !is_carrier(&own));
        assert_eq!(part_of(&own, &Names::new("acme", EnvironmentId::generate())), None);
        assert_eq!(part_of(&own, &Names::new("other", names.environment())), None);
        for label in [LABEL_PREFIX, LABEL_NAME] {
            let mut path = own.clone();
            path.insert(label.into(), "../../etc".into());
            assert_eq!(names_of(&path), None, "{label} becomes part of a path");
        }
        let named = names.clone().called("erp");
        let labels = labels(&named, Part::Database);
        assert_eq!(names_of(&labels).as_ref(), Some(&named));
        assert_eq!(part_of(&labels, &names), None);
        let mut unknown = own;
        unknown.insert(LABEL_PART.into(), "folder".into());
        assert_eq!(part_of(&unknown, &names), None);
    }

    #[test]
    fn what_uses_a_thing_is_removed_before_it() {
        let order = Part::LABELLED;
        assert!(order.is_sorted(), "parts are sorted by the order of their removal");
        assert!(Part::Odoo < Part::Database && Part::Database < Part::DatabaseVolume);
        assert!(Part::OdooVolume < Part::Network);
    }
}
