//! Odoo's container, in its two forms: the carrier of a restore, which nobody can reach, and the one that
//! Traefik finds.
//!
//! The carrier has no label of Traefik's but the one that keeps it away, no published port, no restart policy,
//! and is not in the public network. It is created and never started here: whoever restores into it starts it.

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use undoo_core::{
    Result,
    platform::{
        Deployment,
        deployment::{DATA_DIR, HTTP_PORT},
    },
};

use super::{
    Did, Done, Image, Part,
    database::{nano_cpus, pairs},
    files::{Entry, archive_of},
    look,
    things::labels,
};
use crate::{
    archive,
    docker::Docker,
    mover::{self, Bind},
    scratch::{self, Scratch},
    target::user_ids,
};

/// How long Odoo may take to end before it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(30);

/// Makes the carrier, unless there is one, or the environment has its Odoo already.
pub(super) async fn ensure_carrier(docker: &Docker, deployment: &Deployment, image: &Image) -> Result<Done> {
    let name = deployment.names.odoo();
    let (part, did, id) = match look::container(docker, &deployment.names, &name).await? {
        Some(found) => (found.part, Did::Found, found.id),
        None => {
            let body = body(deployment, image, Part::Carrier);
            let (id, _) = Scratch::create_named(docker, name.clone(), body).await?.keep();
            (Part::Carrier, Did::Made, id)
        }
    };
    if part == Part::Carrier {
        own_data(docker, &id, image).await?;
    }
    Ok(Done { part, name, did })
}

/// Makes Odoo's own user the owner of its data. A mover runs as root, and whatever directory it had to make
/// itself would be root's.
async fn own_data(docker: &Docker, container: &str, image: &Image) -> Result<()> {
    let owner = user_ids(docker, container, image.odoo_user()).await?;
    let (parent, data) = DATA_DIR.rsplit_once('/').unwrap_or(("/", DATA_DIR));
    let filestore = format!("{data}/filestore");
    if archive::owner(docker, container, DATA_DIR).await? == Some(owner)
        && archive::owner(docker, container, &format!("{DATA_DIR}/filestore")).await? == Some(owner)
    {
        return Ok(());
    }
    let archive = archive_of(&[
        Entry::Directory { path: data, mode: 0o755, owner },
        Entry::Directory { path: &filestore, mode: 0o755, owner },
    ])?;
    archive::put(docker, container, parent, archive).await
}

/// Creates the container that can be reached, and puts it into the environment's own network, too.
pub(super) async fn create_reachable(docker: &Docker, deployment: &Deployment, image: &Image) -> Result<()> {
    let names = &deployment.names;
    let created = Scratch::create_named(docker, names.odoo(), body(deployment, image, Part::Odoo)).await?;
    mover::connect(docker, &names.network(), &created.id, &[]).await?;
    created.keep();
    Ok(())
}

fn body(deployment: &Deployment, image: &Image, part: Part) -> ContainerCreateBody {
    let names = &deployment.names;
    let reachable = part == Part::Odoo;
    let mut labels = labels(names, part);
    if reachable {
        labels.extend(deployment.traefik_labels());
    } else {
        // Traefik takes up every container that does not say this, unless it is told otherwise.
        labels.insert("traefik.enable".into(), "false".into());
    }
    let binds = deployment.odoo_binds();
    let mut mounts: Vec<Mount> = binds
        .into_iter()
        .map(|(source, target)| scratch::bind(&Bind { source, target: target.to_owned(), read_only: true }))
        .collect();
    mounts.push(Mount {
        target: Some(DATA_DIR.into()),
        source: Some(names.data()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    });
    let policy = if reachable { RestartPolicyNameEnum::UNLESS_STOPPED } else { RestartPolicyNameEnum::NO };
    let published = deployment.http_port.filter(|_| reachable);
    let inside = format!("{HTTP_PORT}/tcp");
    let memory = deployment.odoo_memory().and_then(|bytes| i64::try_from(bytes).ok());
    ContainerCreateBody {
        image: Some(image.name.clone()),
        env: Some(pairs(&deployment.odoo_variables(image.variable("PYTHONPATH")))),
        labels: Some(labels),
        exposed_ports: published.map(|_| vec![inside.clone()]),
        host_config: Some(HostConfig {
            network_mode: Some(if reachable { deployment.public_network.clone() } else { names.network() }),
            mounts: Some(mounts),
            restart_policy: Some(RestartPolicy { name: Some(policy), maximum_retry_count: None }),
            port_bindings: published.map(|port| {
                let binding = PortBinding { host_ip: None, host_port: Some(port.to_string()) };
                [(inside, Some(vec![binding]))].into()
            }),
            memory,
            memory_swap: memory,
            nano_cpus: nano_cpus(deployment),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
