//! Servers, and the Odoo containers on them, as somebody sees them who is about to use or adopt one.
//!
//! Nothing is changed. Only what the Docker Engine cannot know is asked of the database server.

use undoo_control::plane::{FoundOdoo, Location, ServerAccess, ServerFacts};
use undoo_core::Result;
use undoo_hosts::{
    Docker, DockerEndpoint, host,
    target::{OdooContainer, odoo_containers},
};

use super::nobody;
use crate::{
    caller::Stop,
    docker::{DockerPlace, odoo_named},
};

/// The engine of a server.
pub(super) fn endpoint(server: &ServerAccess) -> DockerEndpoint {
    match server {
        ServerAccess::Here => DockerEndpoint::Local,
        ServerAccess::Ssh(ssh) => DockerEndpoint::Ssh(ssh.clone()),
    }
}

/// A server as a whole.
pub(super) async fn server(access: &ServerAccess) -> Result<ServerFacts> {
    let docker = Docker::connect(endpoint(access)).await?;
    let host = host::look(&docker, matches!(access, ServerAccess::Here)).await?;
    let number = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    // The kernel keeps some of the memory for itself: 15.6 of 16 GiB are 16.
    let rounded = |bytes: u64| number(bytes.saturating_add(1 << 29) >> 30);
    Ok(ServerFacts {
        docker_version: host.docker_version.unwrap_or_default(),
        cpu_cores: host.cores.map_or(0, number),
        memory_gb: host.memory.map_or(0, rounded),
        disk_gb: host.disk.map(|disk| number(disk.size >> 30)),
        free_disk_gb: host.disk.map(|disk| number(disk.free >> 30)),
        ports_taken: host.ports_taken.into_iter().collect(),
    })
}

/// All that there are. One whose configuration cannot be read is left out, and the log says why.
pub(super) async fn all(server: &ServerAccess) -> Result<Vec<FoundOdoo>> {
    let docker = Docker::connect(endpoint(server)).await?;
    let mut all = Vec::new();
    for name in odoo_containers(&docker).await? {
        let target = format!("docker:{name}");
        match odoo_named(&docker, &target).await {
            Ok(odoo) => {
                let databases = databases(server, &odoo, &target).await;
                if let Err(problem) = &databases {
                    tracing::info!(container = name, %problem, "the databases of an Odoo are not known");
                }
                all.push(described(odoo, databases.unwrap_or_default()));
            }
            Err(problem) => tracing::info!(container = name, %problem, "an Odoo cannot be adopted"),
        }
    }
    Ok(all)
}

/// One of them. A database that was named is taken at its word: it may still have to be made.
pub(super) async fn look(at: &Location) -> Result<FoundOdoo> {
    let docker = Docker::connect(endpoint(&at.server)).await?;
    let odoo = odoo_named(&docker, &at.target).await?;
    let databases = match &at.database {
        Some(named) => vec![named.clone()],
        None => databases(&at.server, &odoo, &at.target).await?,
    };
    Ok(described(odoo, databases))
}

/// The one that it is pinned to, or all that its role owns.
async fn databases(server: &ServerAccess, odoo: &OdooContainer, target: &str) -> Result<Vec<String>> {
    if let [pinned] = odoo.conf.db_name.as_slice() {
        return Ok(vec![pinned.clone()]);
    }
    DockerPlace::adopt(endpoint(server), target).await?.databases(nobody(&Stop::never())).await
}

fn described(odoo: OdooContainer, databases: Vec<String>) -> FoundOdoo {
    let database = odoo.database_container;
    FoundOdoo {
        container: odoo.name,
        image: odoo.image,
        databases,
        odoo_version: odoo.odoo_version,
        postgres_version: database
            .as_ref()
            .and_then(|database| database.pg_major)
            .map(|major| major.to_string()),
        database_container: database.map(|database| database.name),
        filestore: odoo.filestore_root,
        running: odoo.running,
    }
}
