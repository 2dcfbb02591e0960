//! The git repositories of an environment's custom modules: named by whoever has it made, fetched when it is made.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{AddonsOrigin, AddonsRecord, AddonsSource, Environment, Permission},
};
use undoo_storage::Reach;
use undoo_store::{Connection, Tx, addons, deployments, migrations};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Caller, Control, backups::all, control::invalid, storages::host_refused};

/// A repository as it may be shown: and whether there is a token for it.
pub type AddonsSeen = (AddonsOrigin, bool);

/// What opens a repository, as it is sealed: and how far the way to it may lead.
#[derive(Serialize, Deserialize)]
struct Key {
    token: Option<String>,
    anywhere: bool,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

fn seen(sources: Vec<AddonsSource>) -> Vec<AddonsSeen> {
    sources.into_iter().map(|source| (source.origin, source.token.is_some())).collect()
}

fn about(id: EnvironmentId) -> String {
    format!("addons {id}")
}

impl Control {
    /// Whether somebody may have modules fetched from these repositories; and how far that may lead.
    ///
    /// # Errors
    /// `addons_origin` (`Invalid`); `addons_host_refused` (`Denied`) for one that is on the platform's own server.
    pub(crate) async fn addons_allowed(&self, caller: &Caller, sources: &mut [AddonsSource]) -> Result<()> {
        AddonsSource::check(sources)?;
        for source in sources {
            let host = source.origin.host().unwrap_or_default();
            let reach = self.reach_to(caller, host).await;
            let reach = reach.ok_or_else(|| host_refused("addons_host_refused", host))?;
            source.anywhere = reach == Reach::Anywhere;
        }
        Ok(())
    }

    /// Keeps the repositories of an environment.
    pub(crate) async fn addons_keep(
        &self,
        tx: &Tx,
        id: EnvironmentId,
        sources: &[AddonsSource],
    ) -> Result<()> {
        let token =
            |source: &AddonsSource| source.token.as_ref().map(|token| token.expose_secret().to_owned());
        let keys: Vec<Key> =
            sources.iter().map(|source| Key { token: token(source), anywhere: source.anywhere }).collect();
        let plain = serde_json::to_vec(&keys).map(Zeroizing::new).map_err(|error| {
            let message = "tokens of git repositories could not be written";
            Problem::new(Kind::Internal, "tokens_unwritable", message, "please report this").caused_by(error)
        })?;
        let record = AddonsRecord {
            environment_id: id,
            origins: sources.iter().map(|source| source.origin.clone()).collect(),
            sealed: self.sealer.seal(&about(id), &plain)?,
            changed_at: self.now(),
        };
        addons::put(tx, &record).await
    }

    /// The repositories of an environment, with what opens them.
    pub(crate) async fn addons_of(
        &self,
        on: &impl Connection,
        id: EnvironmentId,
    ) -> Result<Vec<AddonsSource>> {
        let Some(record) = addons::get(on, id).await? else { return Ok(Vec::new()) };
        let plain = self.sealer.open(&about(id), &record.sealed)?;
        let keys: Vec<Key> = serde_json::from_slice(&plain).map_err(|error| {
            let message = format!("the tokens of the git repositories of environment {id} cannot be read");
            Problem::new(Kind::Internal, "tokens_unreadable", message, "please report this").caused_by(error)
        })?;
        let sources = record.origins.into_iter().zip(keys).map(|(origin, mut key)| AddonsSource {
            origin,
            token: key.token.take().map(SecretString::from),
            anywhere: key.anywhere,
        });
        Ok(sources.collect())
    }

    /// The git repositories that an environment's modules are fetched from, besides its backup.
    ///
    /// # Errors
    /// As [`Control::environment_get`].
    pub async fn environment_addons(&self, caller: &Caller, id: EnvironmentId) -> Result<Vec<AddonsSeen>> {
        let environment = self.environment_get(caller, id).await?;
        let sources = self.addons_of(&self.store, environment.id).await?;
        Ok(seen(sources))
    }

    /// Names other repositories for an environment that waits to be deployed. One that is named without a token
    /// keeps that which it had.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.update`; `addons_settled` (`Invalid`) where it is there
    /// already, or being made; `addons_origin` (`Invalid`); `addons_host_refused` (`Denied`).
    pub async fn environment_addons_set(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        mut sources: Vec<AddonsSource>,
    ) -> Result<Vec<AddonsSeen>> {
        let permission = Permission::EnvironmentsUpdate;
        self.environment_to_change(&self.store, caller, id, permission).await?;
        self.addons_allowed(caller, &mut sources).await?;
        let tx = self.store.begin().await?;
        let environment = self.environment_locked(&tx, caller, id, permission).await?;
        self.waits_for_addons(&tx, &environment).await?;
        let kept = self.addons_of(&tx, id).await?;
        for source in sources.iter_mut().filter(|source| source.token.is_none()) {
            let is_same = |kept: &&AddonsSource| {
                kept.origin.url == source.origin.url && kept.origin.username == source.origin.username
            };
            source.token = kept.iter().find(is_same).and_then(|kept| kept.token.clone());
        }
        AddonsSource::check(&sources)?;
        self.addons_keep(&tx, id, &sources).await?;
        let urls: Vec<&str> = sources.iter().map(|source| source.origin.url.as_str()).collect();
        let data = json!({ "name": environment.name, "urls": urls });
        self.note(&tx, Some(caller), environment.organisation_id, "environment.addons_set", id, data).await?;
        tx.commit().await?;
        Ok(seen(sources))
    }

    async fn waits_for_addons(&self, tx: &Tx, environment: &Environment) -> Result<()> {
        let migration = migrations::of_environment(tx, environment.id).await?;
        let is_there = deployments::get(tx, environment.id).await?.is_some();
        if migration.is_some_and(|migration| !migration.is_over()) && !is_there {
            return Ok(());
        }
        Err(invalid(
            "addons_settled",
            format!("environment \"{}\" is there, with its modules", environment.name),
            "Repositories are fetched when an environment is made: name them for a restore that makes one.",
        ))
    }

    /// Seals what an older key has sealed; answers how many that were.
    pub(crate) async fn addons_rotate(&self) -> Result<u64> {
        let mut rotated = 0;
        for seen in all(|page| addons::all(&self.store, page)).await? {
            let tx = self.store.begin().await?;
            let Some(mut record) = addons::get(&tx, seen.environment_id).await? else { continue };
            let about = about(record.environment_id);
            let Some(renewed) = self.sealer.renewed(&about, &record.sealed)? else { continue };
            record.sealed = renewed;
            addons::put(&tx, &record).await?;
            tx.commit().await?;
            rotated += 1;
        }
        Ok(rotated)
    }
}
