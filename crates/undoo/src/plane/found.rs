//! The Odoo containers of this machine, as somebody sees them who is about to adopt one.
//!
//! Nothing is changed. Only what the Docker Engine cannot know is asked of the database server.

use undoo_control::plane::{FoundOdoo, Location};
use undoo_core::Result;
use undoo_hosts::{
    Docker, DockerEndpoint,
    target::{OdooContainer, odoo_containers},
};

use super::nobody;
use crate::{
    caller::Stop,
    docker::{DockerPlace, odoo_named},
};

/// All that there are. One whose configuration cannot be read is left out, and the log says why.
pub(super) async fn all() -> Result<Vec<FoundOdoo>> {
    let docker = Docker::connect(DockerEndpoint::Local).await?;
    let mut all = Vec::new();
    for name in odoo_containers(&docker).await? {
        let target = format!("docker:{name}");
        match odoo_named(&docker, &target).await {
            Ok(odoo) => {
                let databases = databases(&odoo, &target).await;
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
    let docker = Docker::connect(DockerEndpoint::Local).await?;
    let odoo = odoo_named(&docker, &at.target).await?;
    let databases = match &at.database {
        Some(named) => vec![named.clone()],
        None => databases(&odoo, &at.target).await?,
    };
    Ok(described(odoo, databases))
}

/// The one that it is pinned to, or all that its role owns.
async fn databases(odoo: &OdooContainer, target: &str) -> Result<Vec<String>> {
    if let [pinned] = odoo.conf.db_name.as_slice() {
        return Ok(vec![pinned.clone()]);
    }
    DockerPlace::adopt(target).await?.databases(nobody(&Stop::never())).await
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
