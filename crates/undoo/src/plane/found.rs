//! The Odoo containers of this machine, as somebody sees them who is about to adopt one.
//!
//! Nothing is changed: what the Docker Engine does not know is asked of the database server.

use undoo_control::plane::FoundOdoo;
use undoo_core::Result;
use undoo_hosts::{Docker, DockerEndpoint, target::odoo_containers};

use super::nobody;
use crate::{
    caller::{Caller, Stop},
    docker::DockerPlace,
};

/// All that there are. One that cannot be adopted is left out, and the log says why.
pub(super) async fn all() -> Result<Vec<FoundOdoo>> {
    let stop = Stop::never();
    let docker = Docker::connect(DockerEndpoint::Local).await?;
    let mut all = Vec::new();
    for name in odoo_containers(&docker).await? {
        match DockerPlace::adopt(&format!("docker:{name}")).await {
            Ok(place) => {
                let databases = place.databases(nobody(&stop)).await;
                if let Err(problem) = &databases {
                    tracing::info!(container = name, %problem, "the databases of an Odoo are not known");
                }
                all.push(described(&place, databases.unwrap_or_default()));
            }
            Err(problem) => tracing::info!(container = name, %problem, "an Odoo cannot be adopted"),
        }
    }
    Ok(all)
}

/// One of them.
pub(super) async fn look(target: &str, caller: Caller<'_>) -> Result<FoundOdoo> {
    let place = DockerPlace::adopt(target).await?;
    let databases = place.databases(caller).await?;
    Ok(described(&place, databases))
}

fn described(place: &DockerPlace, databases: Vec<String>) -> FoundOdoo {
    let odoo = place.odoo();
    let database = odoo.database_container.as_ref();
    FoundOdoo {
        container: odoo.name.clone(),
        image: odoo.image.clone(),
        databases,
        odoo_version: odoo.odoo_version.clone(),
        postgres_version: database.and_then(|database| database.pg_major).map(|major| major.to_string()),
        database_container: database.map(|database| database.name.clone()),
        filestore: odoo.filestore_root.clone(),
        running: odoo.running,
    }
}
