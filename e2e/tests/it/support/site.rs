//! A production on a platform, which has lost something since its backup; and the process that works for it:
//! the control plane's own on SQLite, a worker beside it on PostgreSQL.

use std::{path::PathBuf, time::Instant};

use serde_json::{Value, json};
use undoo_core::{
    EnvironmentId, OrganisationId, RestoreId, TaskId,
    platform::{Backup, BackupStatus, EventKind, StepEvent, StepLog, Task},
};
use undoo_store::{Page, Store, audit, backups, events, tasks};
use undoo_testing::postgres::Postgres;

use super::{
    Instance, Kind, Undoo,
    backup::base64,
    docker::docker,
    noise,
    platform::Platform,
    sha1,
    undoo::Running,
    web::{RUNTIME, Web},
};

/// Where a restore is over.
pub(crate) const ENDED: [&str; 5] = ["completed", "failed", "cancelled", "undone", "stuck"];

pub(crate) struct Site<'a> {
    undoo: &'a Undoo,
    pub(crate) live: Instance,
    pub(crate) platform: Platform,
    database: String,
    environment: String,
    backup: String,
    attachment: i64,
    /// On SQLite there is none.
    worker: Option<Running>,
}

/// What the platform's database says of a task and its restore.
pub(crate) struct Ledger {
    pub(crate) task: Task,
    pub(crate) log: Vec<StepLog>,
    pub(crate) events: Vec<EventKind>,
    pub(crate) backups: Vec<Backup>,
}

impl<'a> Site<'a> {
    pub(crate) fn on_sqlite(undoo: &'a Undoo) -> Self {
        let platform = Platform::up_with(undoo, &SETTINGS);
        let database = format!("sqlite:{}/undoo.db", platform.folder().display());
        Self::with_backup(undoo, platform, database, None)
    }

    pub(crate) fn on_postgres(undoo: &'a Undoo) -> Self {
        let (platform, database) = shared_platform(undoo, &SETTINGS);
        let worker = platform.worker(undoo, "first", &[]);
        Self::with_backup(undoo, platform, database, Some(worker))
    }

    fn with_backup(undoo: &'a Undoo, platform: Platform, database: String, worker: Option<Running>) -> Self {
        let live = Instance::up(Kind::ODOO_19);
        let environment = platform.adopt(&live.odoo(), "production");
        let web = live.web();
        let partner = web.create("res.partner", json!({ "name": "Kept by the platform" }));
        let values = json!({ "name": "kept.bin", "res_model": "res.partner", "res_id": partner,
                             "datas": base64(&noise(7, 40_000)) });
        let attachment = web.create("ir.attachment", values);
        let backup = platform.back_up(&environment);
        let site = Self { undoo, live, platform, database, environment, backup, attachment, worker };
        site.damage();
        site
    }

    /// Loses what the backup has.
    pub(crate) fn damage(&self) {
        let web = self.live.web();
        let partners = web.call("res.partner", "search", json!([named()]), json!({}));
        web.call("ir.attachment", "unlink", json!([[self.attachment]]), json!({}));
        web.call("res.partner", "unlink", json!([partners]), json!({}));
        self.is_damaged();
    }

    /// Insists that what the backup has is live.
    pub(crate) fn is_restored(&self) {
        let web = self.live.web();
        assert_eq!(count(&web), 1, "what was lost is back");
        assert_eq!(sha1(&web.attachment(self.attachment)), sha1(&noise(7, 40_000)));
    }

    /// Insists that what was live after the damage is.
    pub(crate) fn is_damaged(&self) {
        assert_eq!(count(&self.live.web()), 0, "what was lost is lost");
    }

    /// Insists that nothing of ours runs or lies about on the target, but the pairs of as many restores.
    pub(crate) fn is_at_rest(&self, restores: usize) {
        assert_eq!(self.live.leftovers(), [""; 0]);
        let staged = self.live.staged();
        let ids = staged.iter().map(|name| name.split('_').nth(1).unwrap().to_owned());
        let ids: std::collections::BTreeSet<String> = ids.collect();
        assert!(ids.len() <= restores, "databases and roles: {staged:?}");
        let homes = std::fs::read_dir(self.live.data_dir().join("filestore/.undoo"));
        let homes = homes.into_iter().flatten().map(|entry| entry.unwrap().path());
        let homes: Vec<PathBuf> = homes.filter(|path| path.is_dir()).collect();
        assert_eq!(homes.len(), restores, "{homes:?}");
    }

    /// Asks for a restore of the backup over the API; gives its id.
    pub(crate) fn restore(&self, safety_backup: bool) -> String {
        let request = json!({ "backup_id": self.backup, "create_pre_restore_backup": safety_backup });
        self.platform.restore(request)
    }

    pub(crate) fn get(&self, restore: &str) -> Value {
        self.platform.get(&format!("/restore/{restore}"))
    }

    pub(crate) fn ended(&self, restore: &str, statuses: &[&str]) -> Value {
        self.platform.ended(&format!("/restore/{restore}"), statuses)
    }

    /// Starts what works, to be held at this moment.
    fn work(&mut self, hold: Option<&str>) {
        let hold: Vec<_> = hold.map(|moment| ("UNDOO_HOLD_AT", moment)).into_iter().collect();
        match self.worker {
            Some(_) => self.worker = Some(self.platform.worker(self.undoo, "next", &hold)),
            None => self.platform.start(self.undoo, &hold),
        }
    }

    /// SIGKILL for what works, and on PostgreSQL, if wished, for the control plane too, which is started again.
    pub(crate) fn kill(&mut self, both: bool) {
        match &mut self.worker {
            Some(worker) => {
                worker.kill();
                if both {
                    self.platform.kill_and_start(self.undoo);
                }
            }
            None => self.platform.kill(),
        }
    }

    /// Begins something and kills what works at each of these moments in turn, and a cutover's agent with it.
    /// Whoever comes then works undisturbed. With PostgreSQL every other kill is one of both processes.
    pub(crate) fn killed_at<T>(&mut self, moments: &[&str], begin: impl FnOnce(&Self) -> T) -> T {
        self.kill(false);
        self.work(moments.first().copied());
        let (begun, started) = (begin(self), Instant::now());
        for (number, moment) in moments.iter().enumerate() {
            self.is_held_at(moment);
            eprintln!("{} killed at {moment} after {:?}", self.live.name, started.elapsed());
            self.kill(number % 2 == 1);
            for agent in self.live.of_undoo("cutover-agent", false) {
                docker(&["kill", &agent]);
            }
            self.work(moments.get(number + 1).copied());
        }
        begun
    }

    /// Waits until what works is held at this moment.
    pub(crate) fn is_held_at(&self, moment: &str) {
        self.worker.as_ref().unwrap_or_else(|| self.platform.process()).line(&held_at(moment));
    }

    /// What the platform's database holds about a task. SQLite's has to be let go for that.
    pub(crate) fn ledger(&mut self, restore: &str, task: &str) -> Ledger {
        if self.worker.is_none() {
            self.platform.kill();
        }
        let (task, restore): (TaskId, RestoreId) = (task.parse().unwrap(), restore.parse().unwrap());
        let environment: EnvironmentId = self.environment.parse().unwrap();
        let ledger = RUNTIME.block_on(async {
            let store = Store::open(&self.database).await.unwrap();
            let task = tasks::get(&store, task).await.unwrap().unwrap();
            let organisation: OrganisationId = task.organisation_id;
            let told = events::after(&store, &[(organisation, 0)], 10_000).await.unwrap();
            let told = told.into_iter().filter(|told| told.event.data["restore_id"] == restore.to_string());
            let page = Page { page: 1, size: 100 };
            let kept = backups::of_environment(&store, environment, Default::default(), page).await.unwrap();
            assert!(audit::verify(&store, organisation).await.unwrap() > 0);
            Ledger {
                log: tasks::log(&store, task.id).await.unwrap(),
                events: told.map(|told| told.event.kind).collect(),
                backups: kept.items,
                task,
            }
        });
        if self.worker.is_none() {
            self.platform.start(self.undoo, &[]);
        }
        ledger
    }

    /// Its newest task.
    pub(crate) fn task(&self) -> String {
        let environment = &self.environment;
        let about = self.platform.get(&format!("/environments/{environment}"));
        let of = about["organization_id"].as_str().unwrap();
        let tasks = format!("/tasks?organization_id={of}&environment_id={environment}");
        let tasks = self.platform.get(&tasks);
        tasks[0]["id"].as_str().unwrap().to_owned()
    }
}

impl Ledger {
    /// How often an event was told.
    pub(crate) fn told(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| **event == kind).count()
    }

    /// Insists on a log without gaps, in which each epoch comes after those before; and on steps that came to
    /// their ends once, in this order, and never to another one.
    pub(crate) fn has_once(&self, event: StepEvent, steps: &[&str]) {
        let lines: Vec<String> =
            self.log.iter().map(|line| format!("{} {}", line.step, line.event)).collect();
        let numbers: Vec<i32> = self.log.iter().map(|line| line.sequence).collect();
        assert_eq!(numbers, (1..=i32::try_from(lines.len()).unwrap()).collect::<Vec<_>>());
        assert!(self.log.is_sorted_by_key(|line| line.epoch), "{lines:?}");
        let ends: Vec<&str> =
            self.log.iter().filter(|line| line.event == event).map(|line| &*line.step).collect();
        assert_eq!(ends, steps, "{lines:?}");
        let failed = |line: &&StepLog| matches!(line.event, StepEvent::DoFailed | StepEvent::UndoFailed);
        assert_eq!(self.log.iter().filter(failed).count(), 0, "{lines:?}");
    }

    /// Backups besides the first: how many are complete, and how many are anything else.
    pub(crate) fn safety_backups(&self) -> (usize, usize) {
        let complete = self.backups.iter().filter(|backup| backup.status == BackupStatus::Completed).count();
        (complete - 1, self.backups.len() - complete)
    }
}

/// What every process of the platform is told: a worker that is dead is not waited for long, and none is the last.
const SETTINGS: [(&str, &str); 2] = [("UNDOO_LEASE_SECONDS", "3"), ("UNDOO_TASK_ATTEMPTS", "100")];

/// A platform on a PostgreSQL database of its own, without a worker inside; and the database's URL.
pub(crate) fn shared_platform(undoo: &Undoo, settings: &[(&str, &str)]) -> (Platform, String) {
    let database = Postgres::shared(env!("CARGO_TARGET_TMPDIR")).fresh();
    let key = hex::encode([7; 32]);
    let own = [("UNDOO_DATABASE_URL", &*database), ("UNDOO_SECRET_KEY", &*key), ("UNDOO_WORKER", "false")];
    let platform = Platform::up_with(undoo, &[&own[..], settings].concat());
    (platform, database)
}

/// What a process says that is held at a moment.
pub(crate) fn held_at(moment: &str) -> String {
    format!("\"message\":\"held at {moment}\"")
}

fn named() -> Value {
    json!([["name", "=", "Kept by the platform"]])
}

fn count(web: &Web) -> i64 {
    web.count("res.partner", named())
}
