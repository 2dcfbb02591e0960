//! A migrated store with one of everything in it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, ProjectId, Result, ServerId, TaskId, UserId,
    platform::{
        Backup, BackupStatus, BackupType, Capacity, Environment, EnvironmentStatus, EnvironmentType,
        Organisation, Project, Server, ServerStatus, Task, TaskKind, TaskStatus, User,
    },
};
use undoo_store::{
    Store, environments, people, servers,
    tasks::{self, Lease, NewTask, Worker},
};
use undoo_testing::postgres::Postgres;

/// Runs tests, functions of a [`World`], on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                super::$name($crate::world::World::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() {
                super::$name($crate::world::World::on_postgres().await).await;
            }
        })+
    };
}
pub(crate) use on_both;

pub const LEASE: std::time::Duration = std::time::Duration::from_secs(60);

pub struct World {
    pub store: Store,
    pub url: String,
    pub user: User,
    pub organisation: Organisation,
    pub project: Project,
    pub server: Server,
    pub environment: Environment,
    _folder: tempfile::TempDir,
}

/// A PostgreSQL that all tests of this process share.
pub fn postgres() -> &'static Postgres {
    Postgres::shared(env!("CARGO_TARGET_TMPDIR"))
}

impl World {
    pub async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/undoo.db", folder.path().display());
        Self::at(url, folder).await
    }

    pub async fn on_postgres() -> Self {
        Self::at(postgres().fresh(), tempfile::tempdir().unwrap()).await
    }

    pub async fn at(url: String, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        let user = user("ada@example.com");
        people::user_insert(&store, &user, Some("hash")).await.unwrap();
        let organisation = organisation("Acme");
        people::organisation_insert(&store, &organisation).await.unwrap();
        let project = project(organisation.id, "Default");
        people::project_insert(&store, &project).await.unwrap();
        let server = server(organisation.id, "This machine", 4);
        servers::insert(&store, &server).await.unwrap();
        let environment = environment(&project, "production");
        environments::insert(&store, &environment).await.unwrap();
        Self { store, url, user, organisation, project, server, environment, _folder: folder }
    }

    /// The store as another process sees it; on SQLite there is no other.
    pub async fn elsewhere(&self) -> Store {
        if self.url.starts_with("sqlite") {
            self.store.clone()
        } else {
            Store::open(&self.url).await.unwrap()
        }
    }

    /// Statements beside the store.
    pub async fn sql(&self, statement: &str) {
        use sea_orm::ConnectionTrait;
        let url = self.url.replace("sqlite:", "sqlite://");
        let connection = sea_orm::Database::connect(url).await.unwrap();
        connection.execute_unprepared(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    pub fn task(&self) -> NewTask {
        NewTask {
            organisation_id: self.organisation.id,
            kind: TaskKind::Backup,
            priority: 0,
            environment_id: None,
            server_id: None,
            payload: json!({ "what": "it is" }),
            max_attempts: 3,
            run_after: None,
            created_by: Some(self.user.id),
        }
    }

    pub async fn enqueued(&self, new: NewTask) -> Task {
        let tx = self.store.begin().await.unwrap();
        let task = tasks::enqueue(&tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        task
    }

    pub async fn claim(&self, name: &str) -> Option<(Task, Lease)> {
        self.claim_at(name, Timestamp::now()).await
    }

    pub async fn claim_at(&self, name: &str, now: Timestamp) -> Option<(Task, Lease)> {
        tasks::claim(&self.store, &worker(name), now).await.unwrap()
    }

    pub async fn finish(&self, lease: &Lease, status: TaskStatus) -> Result<()> {
        finish(&self.store, lease, status).await
    }

    pub async fn status(&self, id: TaskId) -> TaskStatus {
        tasks::get(&self.store, id).await.unwrap().unwrap().status
    }

    pub fn backup(&self) -> Backup {
        Backup {
            id: BackupId::generate(),
            organisation_id: self.organisation.id,
            project_id: self.project.id,
            environment_id: self.environment.id,
            storage_id: None,
            key: Some("a/b.zip".into()),
            status: BackupStatus::Pending,
            backup_type: BackupType::Manual,
            description: Some("before the \u{1F525}".into()),
            include_filestore: true,
            size_bytes: Some(5_000_000_000),
            database_size_bytes: Some(3_000_000_000),
            filestore_size_bytes: None,
            is_verified: false,
            environment_snapshot: Some(json!({ "odoo_version": "19.0", "modules": [1, 2.5, null] })),
            error_message: None,
            task_id: None,
            created_by: Some(self.user.id),
            created_at: now(),
            completed_at: None,
        }
    }
}

pub async fn finish(store: &Store, lease: &Lease, status: TaskStatus) -> Result<()> {
    let tx = store.begin_held(lease).await?;
    tasks::finish(&tx, lease, status, Some(&json!({ "done": true })), None).await?;
    tx.commit().await
}

pub fn worker(name: &str) -> Worker {
    Worker { name: name.into(), kinds: TaskKind::ALL.to_vec(), lease: LEASE }
}

/// When every lease of now has ended.
pub fn later() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(61)
}

/// The time, as it is kept.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

pub fn user(email: &str) -> User {
    User {
        id: UserId::generate(),
        email: email.into(),
        name: "Ada".into(),
        portal_admin: false,
        disabled_at: None,
        created_at: now(),
    }
}

pub fn organisation(name: &str) -> Organisation {
    Organisation { id: OrganisationId::generate(), name: name.into(), created_at: now() }
}

pub fn project(organisation_id: OrganisationId, name: &str) -> Project {
    Project { id: ProjectId::generate(), organisation_id, name: name.into(), created_at: now() }
}

pub fn server(organisation_id: OrganisationId, name: &str, task_limit: i32) -> Server {
    Server {
        id: ServerId::generate(),
        organisation_id,
        name: name.into(),
        ip_address: None,
        ssh_port: None,
        ssh_user: None,
        host_key: None,
        sealed: None,
        has: Capacity { cpu_cores: Some(2), memory_gb: Some(8), disk_gb: None },
        limit: Capacity::default(),
        free_disk_gb: None,
        docker_version: None,
        status: ServerStatus::Online,
        checked_at: None,
        unreachable_since: None,
        last_problem: None,
        draining: false,
        task_limit,
        created_at: now(),
    }
}

pub fn environment(project: &Project, name: &str) -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        organisation_id: project.organisation_id,
        project_id: project.id,
        name: name.into(),
        environment_type: EnvironmentType::Production,
        status: EnvironmentStatus::Running,
        server_id: None,
        container: None,
        database_name: None,
        odoo_version: Some("19.0".into()),
        odoo_image: None,
        postgres_version: None,
        domain: None,
        cpu_cores: None,
        ram_mb: Some(2048),
        disk_gb: None,
        storage_id: None,
        created_by: None,
        created_at: now(),
        deleted_at: None,
    }
}
