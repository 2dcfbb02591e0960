//! Migrations: backups from elsewhere, each for an environment that is made with it and waits.
//!
//! A migration's file becomes a backup of its environment as soon as it was read from end to end (`work`).
//! Deploying the environment restores it, once (`deploy`).

mod deploy;
mod upload;

use serde_json::json;
use undoo_core::{
    EnvironmentId, Kind, MigrationId, OrganisationId, Problem, ProjectId, Result, StorageId,
    platform::{
        Backup, BackupType, Environment, EnvironmentStatus, Migration, MigrationSource, MigrationStatus,
        Names, Permission, Scope, TaskKind,
    },
};
use undoo_storage::Options;
use undoo_store::{Connection, Listed, Page, Tx, backups, environments, migrations, servers, tasks};

pub use self::{deploy::Deploy, upload::UploadState};
use crate::{
    Caller, Control, NewBackup, NewEnvironment, Once,
    control::{Named, invalid, name_of},
    storages::storage_in,
    tasks::About,
};

/// The most that one object of S3 can be, in bytes: 5 TiB.
const MOST_BYTES: u64 = 5 << 40;

/// Where the file of a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationFrom {
    /// It is to be uploaded, and has so many bytes.
    Upload(u64),
    /// It lies in a storage of the organisation already, and stays there.
    Stored(StorageId, String),
}

/// A migration that is asked for.
#[derive(Debug, Clone)]
pub struct MigrationWish {
    /// The project of its environment.
    pub project_id: ProjectId,
    /// Where it comes from.
    pub source: MigrationSource,
    /// Where its file is.
    pub from: MigrationFrom,
    /// The environment that is made for it.
    pub environment: NewEnvironment,
    /// Cores, MiB of memory and GiB of disk that it may use.
    pub limits: [Option<i32>; 3],
    /// Where the environment's backups go, and an uploaded file; `None` for the organisation's default.
    pub storage_id: Option<StorageId>,
    /// Codes of findings that somebody has accepted.
    pub accept: Vec<String>,
}

impl Control {
    /// Makes an environment that waits for a backup from elsewhere. Nothing is put on its server yet.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.create`, `project.backups.restore`, `org.servers.view`, and
    /// `org.backups.list` for a file that lies in a storage; `server_needed`, `upload_size_invalid`, `no_storage`,
    /// `deployment_invalid` (`Invalid`); `object_missing` (`Missing`); `server_draining`, `server_full`, `name_taken`,
    /// `idempotency_key_reused` (`Conflict`).
    pub async fn migration_create(
        &self,
        caller: &Caller,
        mut wish: MigrationWish,
        once: Option<Once>,
    ) -> Result<Migration> {
        let permission = Permission::EnvironmentsCreate;
        let project = self.project_for(&self.store, caller, wish.project_id, permission).await?;
        let (organisation, named) = (project.organisation_id, Named("project", project.id));
        let scope = Scope::Environment(organisation, project.id, wish.environment.environment_type);
        self.allow(caller, Permission::BackupsRestore, scope, &named)?;
        let of_organisation = Scope::Organisation(organisation);
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgServersView, of_organisation, &named)?;
        if matches!(wish.from, MigrationFrom::Stored(..)) {
            self.allow(caller, Permission::OrgBackupsList, of_organisation, &named)?;
        }
        self.addons_allowed(caller, &mut wish.environment.addons).await?;
        let size = self.size_of(organisation, &wish.from).await?;
        let environment = self.environment_waiting(&wish, organisation, caller)?;
        let tx = self.store.begin().await?;
        if let Some(before) = self.once(&tx, caller, once.as_ref()).await? {
            return self.migration_for(&tx, caller, before.into(), permission).await;
        }
        if let Some(server) = environment.server_id {
            servers::locked(&tx, server).await?;
            let server = self.server_taking(&tx, organisation, server).await?;
            self.server_fits(&tx, &server, &environment, &wish.accept).await?;
        }
        environments::insert(&tx, &environment).await?;
        if !wish.environment.addons.is_empty() {
            self.addons_keep(&tx, environment.id, &wish.environment.addons).await?;
        }
        let id = MigrationId::generate();
        let backup = self.backup_of(&tx, id, &wish.from, &environment, size).await?;
        backups::insert(&tx, &backup).await?;
        let uploads = matches!(wish.from, MigrationFrom::Upload(_));
        let now = self.now();
        let migration = Migration {
            id,
            organisation_id: organisation,
            project_id: project.id,
            environment_id: environment.id,
            backup_id: backup.id,
            source: wish.source,
            status: if uploads { MigrationStatus::Pending } else { MigrationStatus::Verifying },
            upload_bytes: if uploads { size } else { None },
            upload: None,
            upload_epoch: 0,
            upload_at: None,
            deployment: json!(wish.environment.deployment),
            error_message: None,
            created_by: Some(caller.user.id),
            created_at: now,
            uploaded_at: (!uploads).then_some(now),
            verified_at: None,
            restore_started_at: None,
            restored_at: None,
            completed_at: None,
            failed_at: None,
        };
        migrations::insert(&tx, &migration).await?;
        if !uploads {
            self.enqueue(&tx, TaskKind::VerifyBackup, About::migration(&migration), caller).await?;
        }
        let data = json!({ "environment": environment.id, "source": migration.source });
        self.note(&tx, Some(caller), organisation, "migration.created", id, data).await?;
        self.done_once(&tx, caller, once.as_ref(), id.uuid()).await?;
        tx.commit().await?;
        Ok(migration)
    }

    /// How large the file is, where that can be told now.
    async fn size_of(&self, organisation: OrganisationId, from: &MigrationFrom) -> Result<Option<i64>> {
        match from {
            MigrationFrom::Upload(size) => {
                if !(1..=MOST_BYTES).contains(size) {
                    let message = format!("a file of {size} bytes cannot be uploaded");
                    return Err(invalid("upload_size_invalid", message, "It has 1 byte to 5 TiB."));
                }
                Ok(i64::try_from(*size).ok())
            }
            MigrationFrom::Stored(storage_id, key) => {
                let storage = storage_in(&self.store, organisation, *storage_id).await?;
                let opened = self.storage_config(&storage)?.storage(&Options::default())?;
                if let Some(found) = opened.stat(key).await? {
                    return Ok(i64::try_from(found.size).ok());
                }
                let within = opened.list(&format!("{key}/")).await?;
                if within.is_empty() {
                    return Err(Problem::new(
                        Kind::Missing,
                        "object_missing",
                        format!("there is nothing at \"{key}\" in the storage \"{}\"", storage.name),
                        "Check the key: it counts from the storage's own folder.",
                    ));
                }
                let size = within.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.size));
                Ok(i64::try_from(size).ok())
            }
        }
    }

    /// The environment, as it is before anything of it is on a server.
    fn environment_waiting(
        &self,
        wish: &MigrationWish,
        organisation: OrganisationId,
        caller: &Caller,
    ) -> Result<Environment> {
        let MigrationWish { environment: new, limits: [cpu_cores, ram_mb, disk_gb], .. } = wish;
        let id = EnvironmentId::generate();
        if new.server_id.is_none() {
            let message = "a migration needs the server that its environment is to be on";
            return Err(invalid("server_needed", message, "Name it: `environment.server_id`."));
        }
        let environment = Environment {
            id,
            organisation_id: organisation,
            project_id: wish.project_id,
            name: name_of(&new.name)?,
            environment_type: new.environment_type,
            status: EnvironmentStatus::Pending,
            server_id: new.server_id,
            container: Some(Names::new(&self.settings.deploy_prefix, id).odoo()),
            database_name: Some(id.to_string()),
            odoo_version: None,
            odoo_image: new.odoo_image.clone(),
            postgres_version: None,
            domain: new.domain.clone(),
            cpu_cores: *cpu_cores,
            ram_mb: *ram_mb,
            disk_gb: *disk_gb,
            storage_id: wish.storage_id,
            created_by: Some(caller.user.id),
            created_at: self.now(),
            deleted_at: None,
        };
        // Whether it could be made, said now and not after ten gigabytes.
        self.deployment_new(&environment, &new.deployment, None)?;
        Ok(environment)
    }

    /// Its backup: complete when it was read from end to end.
    async fn backup_of(
        &self,
        tx: &Tx,
        id: MigrationId,
        from: &MigrationFrom,
        environment: &Environment,
        size: Option<i64>,
    ) -> Result<Backup> {
        let (storage_id, key) = match from {
            MigrationFrom::Upload(_) => (None, format!("migrations/{id}/backup")),
            MigrationFrom::Stored(storage, key) => (Some(*storage), key.clone()),
        };
        let new = NewBackup { storage_id, backup_type: BackupType::Migration, ..NewBackup::default() };
        let backup = self.new_backup(tx, environment, &new).await?;
        Ok(Backup { key: Some(key), size_bytes: size, created_by: environment.created_by, ..backup })
    }

    /// A migration.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.view`.
    pub async fn migration_get(&self, caller: &Caller, id: MigrationId) -> Result<Migration> {
        self.migration_for(&self.store, caller, id, Permission::EnvironmentsView).await
    }

    async fn migration_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: MigrationId,
        permission: Permission,
    ) -> Result<Migration> {
        let named = Named("migration", id);
        let migration = migrations::get(on, id).await?.ok_or_else(|| named.missing())?;
        let scope = Scope::Project(migration.organisation_id, migration.project_id);
        self.allow(caller, permission, scope, &named)?;
        Ok(migration)
    }

    /// The migration of an environment; `None` for one that came about in another way.
    ///
    /// # Errors
    /// As [`Control::environment_get`].
    pub async fn environment_migration(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Option<Migration>> {
        let environment = self.environment_get(caller, id).await?;
        migrations::of_environment(&self.store, environment.id).await
    }

    /// Migrations of an organisation, newest first: those that the caller may see.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn migration_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        page: Page,
    ) -> Result<Listed<Migration>> {
        let permission = Permission::EnvironmentsView;
        let projects = self.projects_seen(caller, organisation, project, permission).await?;
        migrations::list(&self.store, organisation, projects.as_deref(), page).await
    }

    /// Has the file of a migration read again that could not be read. While that is asked for or done already,
    /// nothing is added.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.create`; `not_uploaded` (`Conflict`).
    pub async fn migration_verify(&self, caller: &Caller, id: MigrationId) -> Result<Migration> {
        let tx = self.store.begin().await?;
        self.migration_for(&tx, caller, id, Permission::EnvironmentsCreate).await?;
        let mut migration = locked(&tx, id).await?;
        if migration.uploaded_at.is_none() || migration.is_over() {
            return Err(not_uploaded(&migration));
        }
        let about = About::migration(&migration);
        let active = tasks::active(&tx, TaskKind::VerifyBackup, &about.payload()).await?;
        if migration.verified_at.is_some() || active.is_some() {
            return Ok(migration);
        }
        migration.status = MigrationStatus::Verifying;
        migrations::update(&tx, &migration).await?;
        self.enqueue(&tx, TaskKind::VerifyBackup, about, caller).await?;
        tx.commit().await?;
        Ok(migration)
    }

    /// Notes that nothing is to come of the migration of an environment that is not wanted any more.
    pub(crate) async fn migration_over(&self, tx: &Tx, environment: EnvironmentId) -> Result<()> {
        let Some(found) = migrations::of_environment(tx, environment).await? else { return Ok(()) };
        let mut migration = locked(tx, found.id).await?;
        if migration.completed_at.is_some() || migration.is_over() {
            return Ok(());
        }
        migration.status = MigrationStatus::Cancelled;
        migrations::update(tx, &migration).await
    }
}

/// One, which nobody else changes before this transaction ends.
pub(crate) async fn locked(tx: &Tx, id: MigrationId) -> Result<Migration> {
    migrations::locked(tx, id).await?.ok_or_else(|| Named("migration", id).missing())
}

fn not_uploaded(migration: &Migration) -> Problem {
    let id = migration.id;
    let (why, remedy) = match migration.status {
        MigrationStatus::Pending | MigrationStatus::Uploading => (
            "has not arrived",
            format!("Upload it: `undoo migration resume {id} FILE` goes on where it was left."),
        ),
        MigrationStatus::Verifying => {
            ("is still being read from end to end", "Wait until that is over.".into())
        }
        MigrationStatus::Cancelled => ("was called off", "Begin another migration.".into()),
        _ => (
            "could not be read",
            format!(
                "{} `undoo migration verify {id}` reads it again.",
                migration.error_message.as_deref().unwrap_or_default()
            ),
        ),
    };
    let message = format!("the backup of migration {id} {why}");
    Problem::new(Kind::Conflict, "not_uploaded", message, remedy.trim_start().to_owned())
}
