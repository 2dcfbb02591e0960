//! Backups: made and deleted by tasks, listed, and handed out by `download`.

mod compatible;
mod download;

use serde_json::json;
use undoo_core::{
    BackupId, EnvironmentId, Kind, OrganisationId, Problem, ProjectId, Result, StorageId,
    platform::{
        Backup, BackupStatus, BackupType, Decision, Environment, Permission, Scope, StorageRecord, TaskKind,
    },
};
use undoo_engine::source::BackupOrder;
use undoo_storage::{Access, FtpAccess, S3Access, SftpAccess, StorageConfig, StorageOrder};
use undoo_store::{Connection, Listed, Page, Tx, backups, idempotency, restore_points, storages, tasks};

pub use self::{
    compatible::{CompatibleEnvironment, CompatibleServer},
    download::{Download, Part, PartLink, Urls},
};
pub(crate) use self::{
    compatible::{Need, all},
    download::MOST_PARTS,
};
use crate::{
    Caller, Control, Once,
    control::{Named, invalid},
    environments::place_of,
    storages::storage_in,
    tasks::About,
};

/// A backup that is asked for.
#[derive(Debug, Clone)]
pub struct NewBackup {
    /// What somebody wrote about it.
    pub description: Option<String>,
    /// Whether the files are in it.
    pub include_filestore: bool,
    /// Where it goes; `None` for the environment's storage.
    pub storage_id: Option<StorageId>,
    /// Why it is made.
    pub backup_type: BackupType,
}

impl Default for NewBackup {
    fn default() -> Self {
        Self { description: None, include_filestore: true, storage_id: None, backup_type: BackupType::Manual }
    }
}

/// Which backups a list is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackupQuery {
    /// Those that are so.
    pub status: Option<BackupStatus>,
    /// Those that were made for this.
    pub backup_type: Option<BackupType>,
}

/// A backup, whoever asks.
///
/// # Errors
/// `not_found` (`Missing`).
pub(crate) async fn known(on: &impl Connection, id: BackupId) -> Result<Backup> {
    backups::get(on, id).await?.ok_or_else(|| Named("backup", id).missing())
}

impl Control {
    /// Has a backup made.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.create`; `no_server`, `no_storage` (`Invalid`);
    /// `environment_busy`, `idempotency_key_reused` (`Conflict`).
    pub async fn backup_create(
        &self,
        caller: &Caller,
        environment: EnvironmentId,
        new: NewBackup,
        once: Option<Once>,
    ) -> Result<Backup> {
        let tx = self.store.begin().await?;
        let permission = Permission::BackupsCreate;
        let environment = self.environment_to_change(&tx, caller, environment, permission).await?;
        if let Some(before) = self.once(&tx, caller, once.as_ref()).await? {
            return self.backup_for(&tx, caller, before.into(), Permission::BackupsView).await;
        }
        place_of(&environment)?;
        if new.description.as_ref().is_some_and(|text| text.chars().count() > 2000) {
            let message = "a description has at most 2000 characters";
            return Err(invalid("description_too_long", message, "Shorten it."));
        }
        if matches!(new.backup_type, BackupType::PreRestore | BackupType::Migration) {
            let message = format!("a backup of type {} is not made by itself", new.backup_type);
            return Err(invalid("backup_type_invalid", message, "Ask for one of type manual."));
        }
        let mut backup = self.new_backup(&tx, &environment, &new).await?;
        backup.created_by = Some(caller.user.id);
        let task = self.enqueue(&tx, TaskKind::Backup, About::backup(&backup, &environment), caller).await?;
        backup.task_id = Some(task.id);
        backups::insert(&tx, &backup).await?;
        let data = json!({ "environment": environment.id, "backup_type": backup.backup_type });
        self.note(&tx, Some(caller), backup.organisation_id, "backup.requested", backup.id, data).await?;
        self.done_once(&tx, caller, once.as_ref(), backup.id.uuid()).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// A backup that waits to be made, as a value.
    pub(crate) async fn new_backup(
        &self,
        on: &impl Connection,
        environment: &Environment,
        new: &NewBackup,
    ) -> Result<Backup> {
        let storage = self.storage_of(on, environment, new.storage_id).await?;
        Ok(Backup {
            id: BackupId::generate(),
            organisation_id: environment.organisation_id,
            project_id: environment.project_id,
            environment_id: environment.id,
            storage_id: Some(storage.id),
            key: None,
            status: BackupStatus::Pending,
            backup_type: new.backup_type,
            description: new.description.clone(),
            include_filestore: new.include_filestore,
            size_bytes: None,
            database_size_bytes: None,
            filestore_size_bytes: None,
            is_verified: false,
            environment_snapshot: None,
            error_message: None,
            task_id: None,
            created_by: None,
            created_at: self.now(),
            completed_at: None,
        })
    }

    /// The storage that a backup of an environment goes to.
    async fn storage_of(
        &self,
        on: &impl Connection,
        environment: &Environment,
        wanted: Option<StorageId>,
    ) -> Result<StorageRecord> {
        let organisation = environment.organisation_id;
        if let Some(id) = wanted.or(environment.storage_id) {
            return storage_in(on, organisation, id).await;
        }
        storages::default_of(on, organisation).await?.ok_or_else(|| {
            let message =
                format!("environment \"{}\" has no storage, and there is no default", environment.name);
            invalid("no_storage", message, "Make a storage the default, or give one for the environment.")
        })
    }

    /// A backup.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.view` or `org.backups.list`.
    pub async fn backup_get(&self, caller: &Caller, id: BackupId) -> Result<Backup> {
        self.backup_for(&self.store, caller, id, Permission::BackupsView).await
    }

    /// A backup, for a caller who has a permission on its project. To look is also for those who list all
    /// backups of the organisation.
    pub(crate) async fn backup_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: BackupId,
        permission: Permission,
    ) -> Result<Backup> {
        let named = Named("backup", id);
        let backup = known(on, id).await?;
        let organisation = Scope::Organisation(backup.organisation_id);
        let lists = caller.grants.decide(Permission::OrgBackupsList, organisation) == Decision::Granted;
        if permission != Permission::BackupsView || !lists {
            let scope = Scope::Project(backup.organisation_id, backup.project_id);
            self.allow(caller, permission, scope, &named)?;
        }
        Ok(backup)
    }

    /// Backups of an environment, newest first.
    ///
    /// # Errors
    /// As [`Control::backup_get`].
    pub async fn backup_list(
        &self,
        caller: &Caller,
        environment: EnvironmentId,
        query: BackupQuery,
        page: Page,
    ) -> Result<Listed<Backup>> {
        let environment =
            self.environment_for(&self.store, caller, environment, Permission::BackupsView).await?;
        let filter = backups::BackupFilter { status: query.status, backup_type: query.backup_type };
        backups::of_environment(&self.store, environment.id, filter, page).await
    }

    /// Backups of an organisation, newest first: those that the caller may see.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn backup_list_all(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        query: BackupQuery,
        page: Page,
    ) -> Result<Listed<Backup>> {
        // Who lists all of an organisation's backups may see them without being in a project.
        let lists = caller.grants.decide(Permission::OrgBackupsList, Scope::Organisation(organisation));
        let projects = if lists == Decision::Granted && project.is_none() {
            let named = Named("organisation", organisation);
            self.allow(caller, Permission::OrgView, Scope::Organisation(organisation), &named)?;
            caller.grants.projects(organisation)
        } else {
            self.projects_seen(caller, organisation, project, Permission::BackupsView).await?
        };
        let filter = backups::BackupFilter { status: query.status, backup_type: query.backup_type };
        backups::of_organisation(&self.store, organisation, projects.as_deref(), filter, page).await
    }

    /// Has a backup removed from its storage.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.delete`; `backup_in_use` (`Conflict`) while it is made,
    /// removed or restored.
    pub async fn backup_delete(&self, caller: &Caller, id: BackupId) -> Result<Backup> {
        let tx = self.store.begin().await?;
        let mut backup = self.backup_for(&tx, caller, id, Permission::BackupsDelete).await?;
        if backup.status == BackupStatus::Deleted {
            return Err(Named("backup", id).missing());
        }
        let before = backup.status;
        if !before.may_become(BackupStatus::Deleting) {
            return Err(in_use(id, &format!("it is {before}")));
        }
        if restore_points::using_backup(&tx, id).await? {
            return Err(in_use(id, "a restore reads it"));
        }
        let task = self.enqueue(&tx, TaskKind::DeleteBackup, About::backup_alone(&backup), caller).await?;
        backup.status = BackupStatus::Deleting;
        backup.task_id = Some(task.id);
        backups::update(&tx, &backup, before).await?;
        let data = json!({ "environment": backup.environment_id, "key": backup.key });
        self.note(&tx, Some(caller), backup.organisation_id, "backup.delete_requested", id, data).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// Has a backup read from end to end. While that is asked for or done already, nothing is added.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.create`; `backup_not_completed` (`Invalid`).
    pub async fn backup_verify(&self, caller: &Caller, id: BackupId, once: Option<Once>) -> Result<Backup> {
        let tx = self.store.begin().await?;
        let backup = self.backup_for(&tx, caller, id, Permission::BackupsCreate).await?;
        if self.once(&tx, caller, once.as_ref()).await?.is_some() {
            return Ok(backup);
        }
        completed(&backup)?;
        let about = About::backup_alone(&backup);
        // Of two who ask at the same time, one waits here; reading it twice would tell nothing more.
        backups::locked(&tx, id).await?;
        if tasks::active(&tx, TaskKind::VerifyBackup, &about.payload()).await?.is_some() {
            self.done_once(&tx, caller, once.as_ref(), id.uuid()).await?;
            tx.commit().await?;
            return Ok(backup);
        }
        self.enqueue(&tx, TaskKind::VerifyBackup, about, caller).await?;
        self.note(&tx, Some(caller), backup.organisation_id, "backup.verify_requested", id, json!({}))
            .await?;
        self.done_once(&tx, caller, once.as_ref(), id.uuid()).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// A backup in its storage, with what it takes to read it.
    pub(crate) async fn backup_order(&self, backup: &Backup) -> Result<BackupOrder> {
        let (config, key) = self.backup_place(backup).await?;
        let order = StorageOrder(object_in(config.access(), &key));
        Ok(BackupOrder::from(StorageConfig { order, ..config }))
    }

    /// The storage of a backup, and its key there.
    pub(crate) async fn backup_place(&self, backup: &Backup) -> Result<(StorageConfig, String)> {
        let storage = match backup.storage_id {
            Some(id) => storages::get(&self.store, id).await?,
            None => None,
        };
        let (storage, key) = storage.zip(backup.key.clone()).ok_or_else(|| {
            Problem::new(
                Kind::Missing,
                "backup_nowhere",
                format!(
                    "it is not known any more where backup {} lies: its storage was forgotten",
                    backup.id
                ),
                "Configure the storage again.",
            )
        })?;
        Ok((self.storage_config(&storage)?, key))
    }

    /// What the same request has made before, if it came before; see [`Once`].
    pub(crate) async fn once(
        &self,
        tx: &Tx,
        caller: &Caller,
        once: Option<&Once>,
    ) -> Result<Option<uuid::Uuid>> {
        let Some(Once { key, request_hash }) = once else { return Ok(None) };
        if key.is_empty() || key.len() > 255 {
            let message = "an Idempotency-Key has 1 to 255 characters";
            return Err(invalid("idempotency_key_invalid", message, "Send a shorter one, such as a UUID."));
        }
        match idempotency::take(tx, caller.user.id, key, *request_hash, self.now()).await? {
            idempotency::Taken::Fresh => Ok(None),
            idempotency::Taken::Same(object) => Ok(Some(object)),
        }
    }

    /// Keeps what a request has made.
    pub(crate) async fn done_once(
        &self,
        tx: &Tx,
        caller: &Caller,
        once: Option<&Once>,
        object: uuid::Uuid,
    ) -> Result<()> {
        match once {
            Some(once) => idempotency::done(tx, caller.user.id, &once.key, object).await,
            None => Ok(()),
        }
    }
}

/// Refuses a backup that is not whole.
pub(crate) fn completed(backup: &Backup) -> Result<()> {
    if backup.status == BackupStatus::Completed {
        return Ok(());
    }
    Err(invalid(
        "backup_not_completed",
        format!("backup {} is {}, and only a completed one can be used", backup.id, backup.status),
        "Wait until it is complete, or choose another.",
    ))
}

fn in_use(id: BackupId, why: &str) -> Problem {
    let message = format!("backup {id} cannot be deleted now: {why}");
    Problem::new(Kind::Conflict, "backup_in_use", message, "Wait until that is over, or cancel it.")
}

/// An object in a storage.
fn object_in(root: &Access, key: &str) -> Access {
    let within = |folder: &str| match folder {
        "" => key.to_owned(),
        folder => format!("{}/{key}", folder.strip_suffix('/').unwrap_or(folder)),
    };
    match root.clone() {
        Access::Local { path } => Access::Local { path: path.join(key) },
        Access::Http(access) => Access::Http(access),
        Access::S3(access) => Access::S3(S3Access { key: within(&access.key), ..access }),
        Access::Ftp(access) => Access::Ftp(FtpAccess { path: within(&access.path), ..access }),
        Access::Sftp(access) => Access::Sftp(SftpAccess { path: within(&access.path), ..access }),
    }
}

#[cfg(test)]
mod tests {
    use undoo_storage::SshAccess;

    use super::*;

    #[test]
    fn an_object_of_a_storage_leads_back_to_that_storage() {
        let key = "backups/o/e/n.zip";
        let sftp = |path: &str| {
            let ssh = SshAccess {
                host: "h".into(),
                port: None,
                user: "u".into(),
                password: None,
                private_key: None,
                passphrase: None,
                host_key: None,
            };
            Access::Sftp(SftpAccess { ssh, path: path.to_owned() })
        };
        let roots = [Access::Local { path: "/srv".into() }, sftp(""), sftp("/srv"), sftp("srv/")];
        for root in roots {
            let (found, its_key) = object_in(&root, key).in_storage().unwrap();
            assert_eq!(its_key, key);
            let shown = |access: &Access| access.to_string().trim_end_matches('/').to_owned();
            assert_eq!(shown(&found), shown(&root));
        }
    }
}
