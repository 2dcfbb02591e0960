//! A platform that was set up, with environments, over the fake data plane; and workers that can be killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use undoo_control::{
    Adopt, Caller, Control, NewBackup, NewServer, NewToken, NewUser, RestoreWish, Sealer, Settings, Setup,
    plane::{ServerAccess, SshAccess},
    work::{Worker, WorkerSettings},
};
use undoo_core::{
    BackupId, EnvironmentId, OrganisationId, ProjectId, RestoreId, ServerId, TaskId,
    platform::{
        Backup, BackupStatus, Capacity, Environment, EnvironmentType, OrgRole, Permission, ProjectRole,
        RestorePoint, Task, User,
    },
};
use undoo_store::{Page, Store, backups, people, restore_points, tasks};
use undoo_testing::postgres::Postgres;

use crate::fake_plane::{FakePlane, HOST_KEY, PASSWORD, SOON};

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

pub const LEASE: Duration = Duration::from_millis(2000);
pub const FIRST: Page = Page { page: 1, size: 100 };

pub struct World {
    pub control: Control,
    pub plane: Arc<FakePlane>,
    pub admin: Caller,
    pub organisation: OrganisationId,
    pub project: ProjectId,
    pub production: Environment,
    pub staging: Environment,
    pub folder: tempfile::TempDir,
    ahead: Arc<AtomicI64>,
    workers: AtomicU32,
}

impl World {
    pub async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/undoo.db", folder.path().display());
        Self::at(&url, folder).await
    }

    pub async fn on_postgres() -> Self {
        let postgres = Postgres::shared(env!("CARGO_TARGET_TMPDIR"));
        Self::at(&postgres.fresh(), tempfile::tempdir().unwrap()).await
    }

    async fn at(url: &str, folder: tempfile::TempDir) -> Self {
        let store = Store::open(url).await.unwrap();
        store.migrate().await.unwrap();
        let plane = FakePlane::new();
        let settings = Settings {
            local_storage: folder.path().join("backups"),
            cancel_wait: Duration::from_millis(10),
            server_task_limit: 8,
            ..Settings::default()
        };
        let ahead = Arc::new(AtomicI64::new(0));
        let hours = Arc::clone(&ahead);
        let clock =
            Arc::new(move || Timestamp::now() + SignedDuration::from_hours(hours.load(Ordering::Relaxed)));
        let control = Control::with_clock(store, plane.clone(), Sealer::new(&[7; 32], &[]), settings, clock);
        let token = control.first_start().await.unwrap().unwrap();
        let setup = Setup {
            email: "Ada@example.com".into(),
            name: "Ada".into(),
            password: "correct horse".into(),
            organisation_name: "Acme".into(),
        };
        let (session, _) = control.setup(&token, setup).await.unwrap();
        let admin = caller(&control, &session).await;
        let organisation = control.organisation_list(&admin, FIRST).await.unwrap().items[0].id;
        let project = control.project_list(&admin, organisation, FIRST).await.unwrap().items[0].id;
        let server = control.server_list(&admin, organisation, FIRST).await.unwrap().items[0].id;
        let adopt = |name: &str, environment_type| Adopt {
            project_id: project,
            name: name.into(),
            environment_type,
            server_id: server,
            container: format!("{name}_odoo"),
            database_name: None,
            domain: None,
            storage_id: None,
        };
        let production = adopt("production", EnvironmentType::Production);
        let production = control.environment_adopt(&admin, production).await.unwrap();
        let staging = adopt("staging", EnvironmentType::Staging);
        let staging = control.environment_adopt(&admin, staging).await.unwrap();
        let workers = AtomicU32::new(0);
        Self { control, plane, admin, organisation, project, production, staging, folder, ahead, workers }
    }

    /// Lets hours pass.
    pub fn later(&self, hours: i64) {
        self.ahead.fetch_add(hours, Ordering::Relaxed);
    }

    /// Somebody with these roles.
    pub async fn somebody(&self, email: &str, of_project: Option<ProjectRole>) -> Caller {
        let user = self.member(email, OrgRole::Member).await;
        if let Some(role) = of_project {
            self.control.project_member_set(&self.admin, self.project, user.1.id, role).await.unwrap();
        }
        caller(&self.control, &user.0).await
    }

    pub async fn member(&self, email: &str, role: OrgRole) -> (SecretString, User) {
        let new =
            NewUser { email: email.into(), name: email.into(), organisation_id: self.organisation, role };
        let invited = self.control.user_create(&self.admin, new).await.unwrap();
        self.control.invitation_accept(&invited.token, "correct horse".into()).await.unwrap()
    }

    /// Whoever has a token of the admin's with these scopes.
    pub async fn program(&self, scopes: &[Permission]) -> Caller {
        let new = NewToken {
            name: "program".into(),
            organisation_id: None,
            scopes: Some(scopes.to_vec()),
            expires_in_days: None,
        };
        let (_, secret) = self.control.token_create(&self.admin, new).await.unwrap();
        self.control.caller_of_token(secret.expose_secret(), "request").await.unwrap()
    }

    /// A server besides the one that the environments are on.
    pub async fn second_server(&self) -> ServerId {
        let ssh = SshAccess {
            host: "10.0.0.2".into(),
            port: None,
            user: "root".into(),
            password: Some(PASSWORD.to_owned().into()),
            private_key: None,
            passphrase: None,
            host_key: Some(HOST_KEY.into()),
        };
        let new = NewServer {
            organisation_id: self.organisation,
            name: "second".into(),
            access: ServerAccess::Ssh(ssh),
            limit: Capacity::default(),
            task_limit: Some(8),
        };
        self.control.server_add(&self.admin, new).await.unwrap().id
    }

    /// A worker, which dies when it is dropped.
    pub fn worker(&self) -> Killable {
        let name = format!("worker-{}", self.workers.fetch_add(1, Ordering::Relaxed));
        let settings = WorkerSettings {
            concurrency: 4,
            lease: LEASE,
            poll: Duration::from_millis(100),
            grace: Duration::from_millis(500),
            ..WorkerSettings::named(name)
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(Worker::run(self.control.clone(), settings, stop.clone()));
        Killable { stop, running: Some(running) }
    }

    /// A completed backup of production.
    pub async fn backed_up(&self) -> Backup {
        let new = NewBackup::default();
        let environment = self.production.id;
        let backup = self.control.backup_create(&self.admin, environment, new, None).await.unwrap();
        let worker = self.worker();
        self.task_over(backup.task_id.unwrap()).await;
        worker.stop().await;
        let backup = self.backup(backup.id).await;
        assert_eq!(backup.status, BackupStatus::Completed);
        backup
    }

    pub async fn restore(&self, backup: &Backup) -> RestorePoint {
        self.restore_as(RestoreWish::of(backup.id)).await
    }

    pub async fn restore_as(&self, wish: RestoreWish) -> RestorePoint {
        self.control.restore_start(&self.admin, wish, None).await.unwrap().restore_point
    }

    pub async fn backup(&self, id: BackupId) -> Backup {
        backups::get(self.control.store(), id).await.unwrap().unwrap()
    }

    pub async fn point(&self, id: RestoreId) -> RestorePoint {
        restore_points::get(self.control.store(), id).await.unwrap().unwrap()
    }

    pub async fn task(&self, id: TaskId) -> Task {
        tasks::get(self.control.store(), id).await.unwrap().unwrap()
    }

    /// The task, once it is over.
    pub async fn task_over(&self, id: TaskId) -> Task {
        let over = async {
            loop {
                let task = self.task(id).await;
                if task.status.is_final() {
                    return task;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, over).await.expect("the task ends")
    }

    /// Objects in the local storage.
    pub async fn objects(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let each = |entry: std::fs::DirEntry| match entry.path() {
                path if path.is_dir() => count(&path),
                _ => 1,
            };
            entries.map(each).sum()
        }
        count(&self.folder.path().join("backups"))
    }

    pub async fn environment_backups(&self, environment: EnvironmentId) -> Vec<Backup> {
        let filter = backups::BackupFilter::default();
        backups::of_environment(self.control.store(), environment, filter, FIRST).await.unwrap().items
    }

    pub async fn events(&self) -> Vec<String> {
        let from = [(self.organisation, 0)];
        let events = undoo_store::events::after(self.control.store(), &from, 1000).await.unwrap();
        events.into_iter().map(|event| event.event.kind.to_string()).collect()
    }

    pub async fn members(&self) -> usize {
        people::members_of_org(self.control.store(), self.organisation, FIRST).await.unwrap().items.len()
    }
}

pub async fn caller(control: &Control, session: &SecretString) -> Caller {
    control.caller_of_session(session.expose_secret(), "request").await.unwrap()
}

/// A worker that is killed when this is dropped: nothing of it runs any more, and nobody was told.
pub struct Killable {
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Killable {
    /// Stops it in order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.running.take().unwrap()).await.expect("it stops").unwrap();
    }

    /// Kills it.
    pub async fn kill(mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        drop(running.await);
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}
