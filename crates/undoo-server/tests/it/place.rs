//! An organisation with a project, and one of everything in it.

use serde_json::json;
use undoo_control::{MigrationFrom, MigrationWish, NewEnvironment, NewStorage, RecoveryWish, RestoreWish};
use undoo_core::{
    BackupId, EnvironmentId, MigrationId, OrganisationId, ProjectId, RecoveryPlanId, ServerId, StorageId,
    platform::{
        Backup, BackupStatus, BackupType, Capacity, DeploymentRecord, DeploymentState, Environment,
        EnvironmentStatus, EnvironmentType, Migration, MigrationSource, MigrationStatus, OrgRole,
        Organisation, Project, RestorePoint, Server, ServerStatus, StorageRecord, Task, User,
        recovery_plan::Targets,
    },
};
use undoo_store::{backups, deployments, environments, migrations, people, restore_points, servers};

use crate::platform::{Platform, now};

/// One of everything, of one environment.
pub struct Place {
    pub organisation: Organisation,
    pub project: Project,
    pub server: Server,
    pub storage: StorageRecord,
    pub environment: Environment,
    /// Completed, and made of the environment.
    pub backup: Backup,
    /// To the environment, and waiting.
    pub restore: RestorePoint,
    /// The restore's.
    pub task: Task,
    /// Of the environment's server.
    pub recovery: RecoveryPlanId,
    /// To an environment that waits, with nothing uploaded.
    pub migration: MigrationId,
    /// A member of organisation and project.
    pub member: User,
}

impl Platform {
    /// An organisation with a project.
    pub async fn place(&self, kind: EnvironmentType) -> Place {
        let id = OrganisationId::generate();
        let organisation = Organisation { id, name: format!("Acme {id}"), created_at: now() };
        people::organisation_insert(&self.store, &organisation).await.unwrap();
        self.place_in(organisation, kind).await
    }

    /// Another project of an organisation.
    pub async fn place_in(&self, organisation: Organisation, kind: EnvironmentType) -> Place {
        let id = ProjectId::generate();
        let project =
            Project { id, organisation_id: organisation.id, name: format!("Shop {id}"), created_at: now() };
        people::project_insert(&self.store, &project).await.unwrap();
        self.place_of(organisation, project, kind).await
    }

    /// Another environment of a project, with all that belongs to it.
    pub async fn place_of(
        &self,
        organisation: Organisation,
        project: Project,
        kind: EnvironmentType,
    ) -> Place {
        let server = server(organisation.id);
        servers::insert(&self.store, &server).await.unwrap();
        let admin = self.user(true).await;
        let path = self.folder.path().join(server.id.to_string());
        let new = NewStorage {
            organisation_id: organisation.id,
            name: format!("Storage {}", server.id),
            config: serde_json::from_value(json!({ "provider": "local", "path": path })).unwrap(),
            is_default: false,
        };
        let storage = self.control.storage_create(&self.caller(&admin).await, new).await.unwrap();
        let environment = self.environment(&project, Some(&server), Some(storage.id), kind).await;
        let mut backup = backup(&environment);
        backup.storage_id = Some(storage.id);
        backups::insert(&self.store, &backup).await.unwrap();
        let (restore, task) = self.waiting_restore(&backup).await;
        let recovery = self.recovery(&admin, &server).await;
        let migration = self.migration(&admin, &project, &server, &storage).await;
        let member = self.user(false).await;
        let role = Some(OrgRole::Member);
        people::org_role_set(&self.store, organisation.id, member.id, role).await.unwrap();
        Place {
            organisation,
            project,
            server,
            storage,
            environment,
            backup,
            restore,
            task,
            recovery,
            migration,
            member,
        }
    }

    pub async fn environment(
        &self,
        project: &Project,
        on: Option<&Server>,
        storage_id: Option<StorageId>,
        environment_type: EnvironmentType,
    ) -> Environment {
        let id = EnvironmentId::generate();
        let environment = Environment {
            id,
            organisation_id: project.organisation_id,
            project_id: project.id,
            name: format!("Odoo {id}"),
            environment_type,
            status: EnvironmentStatus::Running,
            server_id: on.map(|server| server.id),
            container: Some(format!("odoo_{}", id.short())),
            database_name: Some("acme".into()),
            odoo_version: Some("19.0".into()),
            odoo_image: Some("odoo:19.0".into()),
            postgres_version: Some("15.20".into()),
            domain: None,
            cpu_cores: Some(2),
            ram_mb: Some(2048),
            disk_gb: Some(10),
            storage_id,
            created_by: None,
            created_at: now(),
            deleted_at: None,
        };
        environments::insert(&self.store, &environment).await.unwrap();
        environment
    }

    /// An environment that the platform has put on the server of a place, with secrets that nobody may see.
    pub async fn deployed(&self, at: &Place, state: DeploymentState) -> Environment {
        let (server, storage) = (Some(&at.server), Some(at.storage.id));
        let environment = self.environment(&at.project, server, storage, EnvironmentType::Staging).await;
        self.put(&environment, state).await;
        environment
    }

    /// The environment of a place's migration, whose backup was read from end to end.
    pub async fn uploaded(&self, at: &Place) -> (Environment, Migration) {
        let mut migration = migrations::get(&self.store, at.migration).await.unwrap().unwrap();
        let mut file = backups::get(&self.store, migration.backup_id).await.unwrap().unwrap();
        file.environment_snapshot = at.backup.environment_snapshot.clone();
        file.completed_at = Some(now());
        for status in [BackupStatus::Running, BackupStatus::Completed] {
            let before = std::mem::replace(&mut file.status, status);
            backups::update(&self.store, &file, before).await.unwrap();
        }
        migration.status = MigrationStatus::Uploaded;
        (migration.uploaded_at, migration.verified_at) = (Some(now()), Some(now()));
        migrations::update(&self.store, &migration).await.unwrap();
        let environment = environments::get(&self.store, migration.environment_id).await.unwrap().unwrap();
        (environment, migration)
    }

    /// The same in production, after its backup was restored around its deployment.
    pub async fn migrated(&self, at: &Place) -> Environment {
        let (mut environment, mut migration) = self.uploaded(at).await;
        environment.environment_type = EnvironmentType::Production;
        environment.status = EnvironmentStatus::Running;
        (environment.container, environment.database_name) = (Some("migrated".into()), Some("acme".into()));
        environments::update(&self.store, &environment).await.unwrap();
        self.put(&environment, DeploymentState::Deployed).await;
        migration.status = MigrationStatus::Completed;
        (migration.restored_at, migration.completed_at) = (Some(now()), Some(now()));
        migrations::update(&self.store, &migration).await.unwrap();
        environment
    }

    /// Puts an environment on its server, as far as the platform knows.
    async fn put(&self, environment: &Environment, state: DeploymentState) {
        let record = DeploymentRecord {
            environment_id: environment.id,
            organisation_id: environment.organisation_id,
            state,
            prefix: "paasportal".into(),
            public_network: "traefik-public".into(),
            postgres_image: "postgres:15-alpine".into(),
            http_port: None,
            odoo_conf: [("smtp_password".to_owned(), "very-secret".to_owned())].into(),
            sealed: b"very-secret".to_vec(),
            created_at: now(),
        };
        deployments::insert(&self.store, &record).await.unwrap();
    }

    /// A backup in this state, of the environment of a place.
    pub async fn backup_in(&self, at: &Place, status: BackupStatus) -> Backup {
        let mut backup = backup(&at.environment);
        (backup.status, backup.storage_id) = (status, Some(at.storage.id));
        backups::insert(&self.store, &backup).await.unwrap();
        backup
    }

    async fn migration(
        &self,
        admin: &User,
        project: &Project,
        server: &Server,
        storage: &StorageRecord,
    ) -> MigrationId {
        let wish = MigrationWish {
            project_id: project.id,
            source: MigrationSource::OdooSh,
            from: MigrationFrom::Upload(1000),
            environment: NewEnvironment {
                name: format!("Migrated {}", server.id),
                environment_type: EnvironmentType::Staging,
                server_id: Some(server.id),
                domain: None,
                odoo_image: None,
                deployment: Default::default(),
                addons: Vec::new(),
            },
            limits: [Some(1), Some(512), Some(1)],
            storage_id: Some(storage.id),
            accept: Vec::new(),
        };
        self.control.migration_create(&self.caller(admin).await, wish, None).await.unwrap().id
    }

    async fn recovery(&self, admin: &User, lost: &Server) -> RecoveryPlanId {
        let wish = RecoveryWish {
            organisation_id: lost.organisation_id,
            lost_servers: vec![lost.id],
            environments: Vec::new(),
            to: Vec::new(),
            unverified: Vec::new(),
            lost_at: None,
            targets: Targets::default(),
        };
        self.control.recovery_plan(&self.caller(admin).await, wish).await.unwrap().plan.id
    }

    /// A restore that was asked for, with a report as if it had one.
    async fn waiting_restore(&self, of: &Backup) -> (RestorePoint, Task) {
        let admin = self.caller(&self.user(true).await).await;
        let started = self.control.restore_start(&admin, RestoreWish::of(of.id), None).await.unwrap();
        let mut restore = started.restore_point;
        restore.report = Some(json!({ "proven": true }));
        restore_points::update(&self.store, &restore, restore.status).await.unwrap();
        (restore, started.task)
    }
}

/// A server with eight cores, 16 GiB of memory and 500 GiB of disk.
pub fn server(organisation_id: OrganisationId) -> Server {
    let id = ServerId::generate();
    Server {
        id,
        organisation_id,
        name: format!("Server {id}"),
        ip_address: Some("192.168.1.100".into()),
        ssh_port: None,
        ssh_user: Some("root".into()),
        host_key: Some(crate::plane::HOST_KEY.into()),
        sealed: None,
        has: Capacity { cpu_cores: Some(8), memory_gb: Some(16), disk_gb: Some(500) },
        limit: Capacity::default(),
        free_disk_gb: None,
        docker_version: None,
        checked_at: None,
        unreachable_since: None,
        last_problem: None,
        draining: false,
        status: ServerStatus::Online,
        task_limit: 2,
        created_at: now(),
    }
}

fn backup(environment: &Environment) -> Backup {
    let id = BackupId::generate();
    Backup {
        id,
        organisation_id: environment.organisation_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        storage_id: None,
        key: Some(format!("{id}.zip")),
        status: BackupStatus::Completed,
        backup_type: BackupType::Manual,
        description: None,
        include_filestore: true,
        size_bytes: Some(1000),
        database_size_bytes: Some(500),
        filestore_size_bytes: Some(500),
        is_verified: true,
        environment_snapshot: Some(json!({ "odoo_version": "19.0", "postgres_version": "15.20" })),
        error_message: None,
        task_id: None,
        created_by: None,
        created_at: now(),
        completed_at: Some(now()),
    }
}
