//! Storages that backups go to. Their secrets are sealed before they are kept, and never shown.

use serde_json::{Value, json};
use undoo_core::{
    Kind, OrganisationId, Problem, Result, StorageId,
    platform::{Decision, Permission, Scope, StorageRecord},
};
use undoo_storage::{Options, Reach, Redacted, StorageConfig};
use undoo_store::{Connection, Listed, Page, backups, people, settings, storages};

use crate::{
    Caller, Control,
    control::{Named, name_of},
    signing,
};

/// A storage that is to be added.
#[derive(Debug, Clone)]
pub struct NewStorage {
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Its name.
    pub name: String,
    /// Where and as whom.
    pub config: StorageConfig,
    /// Whether backups go there when nobody says where.
    pub is_default: bool,
}

/// What is to be changed of a storage; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct StorageChange {
    /// Its name.
    pub name: Option<String>,
    /// Where and as whom, whole.
    pub config: Option<StorageConfig>,
    /// Whether backups go there when nobody says where.
    pub is_default: Option<bool>,
}

/// Secrets that were sealed with the key of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotated {
    /// Storages.
    pub storages: u64,
    /// Servers.
    pub servers: u64,
    /// Deployments.
    pub deployments: u64,
    /// Git repositories of environments.
    pub addons: u64,
    /// Signing keys.
    pub signing_keys: u64,
}

fn about(id: StorageId) -> String {
    format!("storage {id}")
}

impl Control {
    /// Adds a storage. Whether it works is for [`Control::storage_test`] to say.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.storage.manage`; `storage_host_refused` (`Denied`);
    /// `storage_limit_invalid` (`Invalid`); `name_taken` (`Conflict`).
    pub async fn storage_create(&self, caller: &Caller, new: NewStorage) -> Result<StorageRecord> {
        let organisation = new.organisation_id;
        self.storages_of(caller, organisation, Permission::OrgStorageManage)?;
        self.may_use(caller, &new.config).await?;
        let record = self.storage_record(&new)?;
        let tx = self.store.begin().await?;
        storages::insert(&tx, &record).await?;
        let data = json!({ "name": record.name, "shown": record.shown });
        self.note(&tx, Some(caller), organisation, "storage.created", record.id, data).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// A storage as it is kept.
    pub(crate) fn storage_record(&self, new: &NewStorage) -> Result<StorageRecord> {
        let id = StorageId::generate();
        let (provider, shown, sealed) = self.sealed(id, &new.config)?;
        Ok(StorageRecord {
            id,
            organisation_id: new.organisation_id,
            name: name_of(&new.name)?,
            provider,
            shown,
            sealed,
            is_default: new.is_default,
            created_at: self.now(),
        })
    }

    fn sealed(&self, id: StorageId, config: &StorageConfig) -> Result<(String, Value, Vec<u8>)> {
        // That it can be opened as a storage is found out now, not by the first backup.
        config.storage(&Options::default())?;
        let mut shown = json_of(&Redacted(config.access()))?;
        let limits = json_of(&config.limits)?;
        if let (Value::Object(shown), Value::Object(limits)) = (&mut shown, limits) {
            shown.extend(limits);
        }
        let provider = shown["provider"].as_str().unwrap_or_default().to_owned();
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(config).map_err(unwritable)?);
        Ok((provider, shown, self.sealer.seal(&about(id), &plain)?))
    }

    /// How a storage is configured, with its secrets.
    pub(crate) fn storage_config(&self, record: &StorageRecord) -> Result<StorageConfig> {
        let plain = self.sealer.open(&about(record.id), &record.sealed)?;
        serde_json::from_slice(&plain).map_err(|error| {
            Problem::new(
                Kind::Internal,
                "storage_unreadable",
                format!("the configuration of storage {} cannot be read", record.id),
                "configure it again",
            )
            .caused_by(error)
        })
    }

    /// A storage.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.storage.view`.
    pub async fn storage_get(&self, caller: &Caller, id: StorageId) -> Result<StorageRecord> {
        self.storage_for(&self.store, caller, id, Permission::OrgStorageView).await
    }

    async fn storage_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: StorageId,
        permission: Permission,
    ) -> Result<StorageRecord> {
        let named = Named("storage", id);
        let record = storages::get(on, id).await?.ok_or_else(|| named.missing())?;
        self.allow(caller, permission, Scope::Organisation(record.organisation_id), &named)?;
        Ok(record)
    }

    /// An organisation's storages.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.storage.view`.
    pub async fn storage_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<StorageRecord>> {
        self.storages_of(caller, organisation, Permission::OrgStorageView)?;
        storages::list(&self.store, organisation, page).await
    }

    /// Changes a storage.
    ///
    /// # Errors
    /// As [`Control::storage_create`]; `storage_in_use` (`Conflict`) for another place while backups are listed in
    /// it.
    pub async fn storage_update(
        &self,
        caller: &Caller,
        id: StorageId,
        change: StorageChange,
    ) -> Result<StorageRecord> {
        self.storage_for(&self.store, caller, id, Permission::OrgStorageManage).await?;
        if let Some(config) = &change.config {
            // Names are resolved before anybody waits for the transaction.
            self.may_use(caller, config).await?;
        }
        let tx = self.store.begin().await?;
        let mut record = self.storage_for(&tx, caller, id, Permission::OrgStorageManage).await?;
        if let Some(name) = &change.name {
            record.name = name_of(name)?;
        }
        if let Some(config) = &change.config {
            if place_of(&self.storage_config(&record)?)? != place_of(config)? {
                self.not_in_use(&tx, &record).await?;
            }
            (record.provider, record.shown, record.sealed) = self.sealed(id, config)?;
        }
        record.is_default = change.is_default.unwrap_or(record.is_default);
        storages::update(&tx, &record).await?;
        let data = json!({ "name": record.name, "shown": record.shown });
        self.note(&tx, Some(caller), record.organisation_id, "storage.changed", id, data).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Forgets a storage.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.storage.manage`; `storage_in_use` (`Conflict`) while backups are listed
    /// in it.
    pub async fn storage_delete(&self, caller: &Caller, id: StorageId) -> Result<()> {
        let tx = self.store.begin().await?;
        let record = self.storage_for(&tx, caller, id, Permission::OrgStorageManage).await?;
        self.not_in_use(&tx, &record).await?;
        storages::delete(&tx, id).await?;
        let data = json!({ "name": record.name, "shown": record.shown });
        self.note(&tx, Some(caller), record.organisation_id, "storage.deleted", id, data).await?;
        tx.commit().await
    }

    /// Tries everything that backups will ask of a storage, without keeping its configuration.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.storage.manage`. What does not work is in the report.
    pub async fn storage_test(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        config: &StorageConfig,
    ) -> Result<undoo_storage::Report> {
        self.storages_of(caller, organisation, Permission::OrgStorageManage)?;
        let reach = self.may_use(caller, config).await?;
        let storage = config.storage(&Options { reach, ..Options::default() })?;
        Ok(undoo_storage::test(&*storage).await)
    }

    /// Whether somebody may have backups go there, and how far a connection on their behalf may reach. Folders
    /// of the server, and what leads back to it, are for who administers the platform; besides, there are the
    /// hosts that the platform's settings name.
    async fn may_use(&self, caller: &Caller, config: &StorageConfig) -> Result<Reach> {
        config.limits.check()?;
        if matches!(config.access(), undoo_storage::Access::Local { .. }) {
            let named = Named("platform", "itself (a folder of the server)");
            self.allow(caller, Permission::PlatformManage, Scope::Platform, &named)?;
        }
        let Some(host) = config.access().connects_to() else { return Ok(Reach::Elsewhere) };
        let reach = self.reach_to(caller, &host).await;
        reach.ok_or_else(|| host_refused("storage_host_refused", &host))
    }

    /// How far a connection on somebody's behalf may reach to get to a host; `None` where they may not have it
    /// made at all.
    pub(crate) async fn reach_to(&self, caller: &Caller, host: &str) -> Option<Reach> {
        let host = host.trim_matches(['[', ']']);
        let is_named = self.settings.storage_hosts.iter().any(|named| named.eq_ignore_ascii_case(host));
        let administers = caller.grants.decide(Permission::PlatformManage, Scope::Platform);
        if is_named || administers == Decision::Granted {
            return Some(Reach::Anywhere);
        }
        Reach::Elsewhere.allows_host(host).await.then_some(Reach::Elsewhere)
    }

    fn storages_of(&self, caller: &Caller, id: OrganisationId, permission: Permission) -> Result<()> {
        self.allow(caller, permission, Scope::Organisation(id), &Named("organisation", id))
    }

    async fn not_in_use(&self, tx: &undoo_store::Tx, record: &StorageRecord) -> Result<()> {
        if !backups::lie_in(tx, record.id).await? {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Conflict,
            "storage_in_use",
            format!(
                "backups are listed in the storage \"{}\", and could not be restored without it",
                record.name
            ),
            "Delete them first, or leave it as it is; its credentials and limits can be changed.",
        ))
    }

    /// Seals every secret that an older key has sealed with the key of now. To be run by whoever starts the
    /// program with a new key; afterwards the former one is not needed any more.
    ///
    /// # Errors
    /// `sealing_key_missing` where a key is not among the given ones; what was sealed so far stays so.
    pub async fn secrets_rotate(&self) -> Result<Rotated> {
        let mut rotated = Rotated::default();
        let mut page = Page { page: 1, size: 100 };
        loop {
            let listed = storages::all(&self.store, page).await?;
            for record in &listed.items {
                rotated.storages += u64::from(self.storage_rotate(record.id).await?);
            }
            if (listed.items.len() as u64) < page.size {
                break;
            }
            page.page += 1;
        }
        rotated.servers = self.servers_rotate().await?;
        rotated.deployments = self.deployments_rotate().await?;
        rotated.addons = self.addons_rotate().await?;
        page.page = 1;
        loop {
            let listed = people::organisations(&self.store, None, page).await?;
            for organisation in &listed.items {
                let name = signing::setting(organisation.id);
                rotated.signing_keys += u64::from(self.setting_rotate(&name).await?);
            }
            if (listed.items.len() as u64) < page.size {
                return Ok(rotated);
            }
            page.page += 1;
        }
    }

    async fn storage_rotate(&self, id: StorageId) -> Result<bool> {
        let tx = self.store.begin().await?;
        let Some(mut record) = storages::get(&tx, id).await? else { return Ok(false) };
        let Some(renewed) = self.sealer.renewed(&about(id), &record.sealed)? else { return Ok(false) };
        record.sealed = renewed;
        storages::update(&tx, &record).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn setting_rotate(&self, name: &str) -> Result<bool> {
        let tx = self.store.begin().await?;
        let Some(sealed) = settings::get(&tx, name).await? else { return Ok(false) };
        let Some(renewed) = self.sealer.renewed(name, &sealed)? else { return Ok(false) };
        settings::set(&tx, name, &renewed).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// A storage of an organisation.
///
/// # Errors
/// `not_found` (`Missing`), also for one of another organisation.
pub(crate) async fn storage_in(
    on: &impl Connection,
    organisation: OrganisationId,
    id: StorageId,
) -> Result<StorageRecord> {
    let storage = storages::get(on, id).await?;
    let own = storage.filter(|storage| storage.organisation_id == organisation);
    own.ok_or_else(|| Named("storage", id).missing())
}

/// The problem of a host that somebody may not have connections made to.
pub(crate) fn host_refused(code: &'static str, host: &str) -> Problem {
    Problem::new(
        Kind::Denied,
        code,
        format!("{host} leads to the server of the platform itself, or to one without an address of its own"),
        "Give another machine's address; else a portal admin configures it, or names it in `storage_hosts`.",
    )
}

/// The address of a storage, without secrets.
fn place_of(config: &StorageConfig) -> Result<String> {
    Ok(config.storage(&Options::default())?.place().to_owned())
}

fn json_of(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Problem {
    let message = "the configuration could not be written";
    Problem::new(Kind::Internal, "storage_unwritable", message, "please report this").caused_by(error)
}
