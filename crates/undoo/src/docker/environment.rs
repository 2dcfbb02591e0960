//! What a backup says about the containers that it was taken from.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use undoo_archive::manifest::{
    ours::{Environment, Resources},
    redacted,
};
use undoo_core::Result;
use undoo_hosts::target::image_digest;

use super::DockerPlace;

impl DockerPlace {
    /// The environment of a backup, and the folders of custom modules as a mover sees them.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn environment(&self) -> Result<(Environment, Vec<PathBuf>)> {
        let (odoo, database) = (&self.odoo, self.odoo.database_container.as_ref());
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let environment = Environment {
            odoo_version: odoo.odoo_version.clone(),
            odoo_image: Some(odoo.image.clone()),
            odoo_image_digest: Some(image_digest(&self.docker, &odoo.image_id).await?),
            postgres_image: database.map(|database| database.image.clone()),
            resources: Resources {
                odoo_memory: limit(odoo.memory_limit),
                odoo_nano_cpus: limit(odoo.nano_cpus),
                postgres_memory: database.and_then(|database| limit(database.memory_limit)),
                postgres_nano_cpus: database.and_then(|database| limit(database.nano_cpus)),
            },
            odoo_conf: Some(redacted(odoo.conf.all.to_text().expose_secret())),
            ..Environment::default()
        };
        let addons = odoo.custom_addons().into_iter().map(PathBuf::from).collect();
        Ok((environment, addons))
    }
}
