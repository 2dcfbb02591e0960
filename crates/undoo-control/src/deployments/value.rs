//! A deployment, put together from what is kept of an environment: the same one at every attempt.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{
        Deployment, DeploymentRecord, DeploymentState, Environment, Limits, Names, Passwords, images,
    },
};
use undoo_store::deployments;
use zeroize::{Zeroize, Zeroizing};

use crate::{Control, backups::all, secrets::Opaque};

/// What of a deployment is secret, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Secrets {
    role: String,
    master: String,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.role.zeroize();
        self.master.zeroize();
    }
}

fn about(id: EnvironmentId) -> String {
    format!("deployment {id}")
}

/// What is asked for of a deployment besides what its environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentWish {
    /// PostgreSQL's image; `None` for the one that fits the backup.
    pub postgres_image: Option<String>,
    /// A port of the server at which it is to be found besides Traefik.
    pub http_port: Option<u16>,
    /// Options of `odoo.conf` of its own.
    pub odoo_conf: BTreeMap<String, String>,
}

impl Control {
    /// A deployment that is about to be begun, with passwords of its own, for a backup that says this of where it
    /// came from.
    ///
    /// # Errors
    /// `deployment_invalid` (`Invalid`) where it could not be made.
    pub(crate) fn deployment_new(
        &self,
        environment: &Environment,
        wish: &DeploymentWish,
        snapshot: Option<&serde_json::Value>,
    ) -> Result<DeploymentRecord> {
        let text = |secret: SecretString| secret.expose_secret().to_owned();
        let secrets =
            Secrets { role: text(Opaque::generate()?.token), master: text(Opaque::generate()?.token) };
        let plain = serde_json::to_vec(&secrets).map(Zeroizing::new).map_err(|error| {
            let message = "passwords could not be written";
            Problem::new(Kind::Internal, "passwords_unwritable", message, "please report this")
                .caused_by(error)
        })?;
        let found = images::postgres_image(&self.settings.postgres_image, snapshot);
        let record = DeploymentRecord {
            environment_id: environment.id,
            organisation_id: environment.organisation_id,
            state: DeploymentState::Making,
            prefix: self.settings.deploy_prefix.clone(),
            public_network: self.settings.deploy_network.clone(),
            postgres_image: wish.postgres_image.clone().unwrap_or(found),
            http_port: wish.http_port,
            odoo_conf: wish.odoo_conf.clone(),
            sealed: self.sealer.seal(&about(environment.id), &plain)?,
            created_at: self.now(),
        };
        self.deployment_of(environment, &record)?.check()?;
        Ok(record)
    }

    /// An environment as it is to be on its server.
    pub(crate) fn deployment_of(
        &self,
        environment: &Environment,
        record: &DeploymentRecord,
    ) -> Result<Deployment> {
        let plain = self.sealer.open(&about(environment.id), &record.sealed)?;
        let mut secrets: Secrets = serde_json::from_slice(&plain).map_err(|error| {
            let message = format!("the passwords of environment \"{}\" cannot be read", environment.name);
            Problem::new(Kind::Internal, "passwords_unreadable", message, "please report this")
                .caused_by(error)
        })?;
        let passwords = Passwords {
            role: std::mem::take(&mut secrets.role).into(),
            master: std::mem::take(&mut secrets.master).into(),
        };
        let names = Names::new(&record.prefix, environment.id);
        let odoo_image = environment.odoo_image.clone().unwrap_or_else(|| images::odoo_image(None));
        let mut deployment = Deployment::new(names, odoo_image, &record.postgres_image, passwords);
        if let Some(database) = &environment.database_name {
            deployment.database.clone_from(database);
        }
        deployment.odoo_version.clone_from(&environment.odoo_version);
        deployment.domain.clone_from(&environment.domain);
        deployment.public_network.clone_from(&record.public_network);
        deployment.http_port = record.http_port;
        deployment.odoo_conf.clone_from(&record.odoo_conf);
        let limit = |limit: Option<i32>| limit.and_then(|limit| u32::try_from(limit).ok());
        deployment.limits =
            Limits { cpu_cores: limit(environment.cpu_cores), ram_mb: limit(environment.ram_mb) };
        Ok(deployment)
    }

    /// Seals what an older key has sealed; answers how many that were.
    pub(crate) async fn deployments_rotate(&self) -> Result<u64> {
        let mut rotated = 0;
        for seen in all(|page| deployments::all(&self.store, page)).await? {
            rotated += u64::from(self.deployment_rotate(seen.environment_id).await?);
        }
        Ok(rotated)
    }

    async fn deployment_rotate(&self, id: EnvironmentId) -> Result<bool> {
        let tx = self.store.begin().await?;
        let Some(mut record) = deployments::get(&tx, id).await? else { return Ok(false) };
        let Some(renewed) = self.sealer.renewed(&about(id), &record.sealed)? else { return Ok(false) };
        record.sealed = renewed;
        deployments::update(&tx, &record, record.state).await?;
        tx.commit().await?;
        Ok(true)
    }
}
