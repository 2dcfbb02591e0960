//! Indexes, constraints, keys and statistics, after the data.
//!
//! An Odoo database has thousands of them, nearly all on tiny tables, so two costs matter: one round
//! trip and one commit for each, and a processor that has nothing to do. [`jobs`] says what is sent
//! together and what is urgent, [`schedule`] what may run side by side; here sessions take jobs until
//! none is left, and what a backup's own data does not allow is found and named.

mod jobs;
mod schedule;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{sync::Notify, task::JoinSet};
use tokio_postgres::{Client, error::SqlState};
use undoo_archive::dump::{sql::Tokens, statement::QualifiedName};
use undoo_core::{Kind, Problem, Result};

use super::{
    pace::Pace,
    session::{self, Batch, Located, statement_failed},
    work::PostData,
};
use crate::pg;
use jobs::{ForeignKey, Job, KeyName, Planned, Statement};
use schedule::{Next, Schedule, Step};

/// A constraint or index that the backup's own data does not allow.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unheld {
    /// Table.
    pub table: String,
    /// Constraint or index.
    pub name: String,
    /// What PostgreSQL says of it.
    pub reason: String,
    /// `not_valid` when it stands unvalidated, `absent` when it could not be made at all.
    pub state: UnheldState,
}

/// What became of a constraint that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnheldState {
    /// It binds new rows; old ones are not checked.
    NotValid,
    /// It does not exist: duplicate values allow no unique index.
    Absent,
}

/// Seconds that the sessions spent on each part of the work after the data, added up over all of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PostTimes {
    /// Primary keys, constraints and indexes.
    pub indexes: f64,
    /// Adding foreign keys.
    pub foreign_keys: f64,
    /// Validating those of large tables.
    pub validation: f64,
    /// `ANALYZE`.
    pub statistics: f64,
    /// Triggers and whatever comes last.
    pub rest: f64,
    /// Waiting for each other.
    pub waiting: f64,
}

/// Hears of statements that are done.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// The work after the data, planned.
pub struct PostLoad {
    planned: Planned,
    maintenance_mib: u32,
}

impl PostLoad {
    /// Plans it for sessions that may have so much `maintenance_work_mem` each, in MiB; `bytes` are those
    /// of each table's rows.
    pub fn plan(items: Vec<PostData>, bytes: &HashMap<QualifiedName, u64>, maintenance_mib: u32) -> Self {
        Self { planned: jobs::plan(items, bytes, maintenance_mib), maintenance_mib }
    }

    /// How many statements there are.
    pub fn statements(&self) -> u64 {
        let jobs = self.planned.jobs.iter().map(|job| job.singly.len());
        (jobs.sum::<usize>() + self.planned.others.len()) as u64
    }

    /// Runs everything, on sessions that nothing else uses; answers what does not hold. `progress` is
    /// called with the number of statements done, each time some are.
    ///
    /// # Errors
    /// The first statement that failed for a reason other than the backup's own data.
    pub async fn run(
        self,
        clients: Vec<Client>,
        progress: Progress,
        pace: Arc<Pace>,
    ) -> Result<(Vec<Unheld>, PostTimes)> {
        let Self { planned: Planned { jobs, others }, maintenance_mib } = self;
        let shared = Arc::new(Shared {
            schedule: Mutex::new(Schedule::new(jobs.iter().map(|job| job.demand.clone()))),
            changed: Notify::new(),
            jobs,
            found: Mutex::default(),
            maintenance_mib,
            progress,
            pace,
        });
        let mut sessions = JoinSet::new();
        for (index, client) in clients.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            sessions.spawn(async move { shared.work(index, &client).await.map(|()| client) });
        }
        let mut client = None;
        // The first failure ends the others: they are dropped with the set.
        while let Some(outcome) = sessions.join_next().await {
            client = Some(outcome.map_err(session::lost)??);
        }
        let client = client.ok_or_else(|| {
            Problem::new(
                Kind::Internal,
                "no_sessions",
                "there is no session to load on",
                "please report this",
            )
        })?;
        let Found { unheld, mut times, .. } = std::mem::take(&mut *lock(&shared.found));
        let began = Instant::now();
        let mut batch = Batch::on(&client);
        for sql in speaking_of_what_is(others, &unheld) {
            batch.push(Located { sql, origin: "the end of the dump".into() }).await?;
            (shared.progress)(1);
        }
        batch.commit().await?;
        times.rest = began.elapsed().as_secs_f64();
        Ok((unheld, times))
    }
}

/// What the sessions share.
struct Shared {
    jobs: Vec<Job>,
    schedule: Mutex<Schedule>,
    /// A job is over.
    changed: Notify,
    found: Mutex<Found>,
    maintenance_mib: u32,
    progress: Progress,
    pace: Arc<Pace>,
}

/// What has come up on the way.
#[derive(Default)]
struct Found {
    unheld: Vec<Unheld>,
    /// Keys that are not to be validated: they were added as they are, or not at all.
    settled: HashSet<KeyName>,
    times: PostTimes,
}

impl Shared {
    /// One session's life: job after job, until none is left.
    async fn work(&self, index: usize, client: &Client) -> Result<()> {
        loop {
            if self.pace.gave_way(index).await && !lock(&self.schedule).is_over() {
                continue;
            }
            let began = Instant::now();
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before looking, so that no change goes by between looking and waiting.
            changed.as_mut().enable();
            let next = lock(&self.schedule).next();
            match next {
                Next::Over => return Ok(()),
                Next::Wait => {
                    changed.await;
                    lock(&self.found).times.waiting += began.elapsed().as_secs_f64();
                }
                Next::Job(number) => {
                    let job = &self.jobs[number];
                    self.run(client, job).await?;
                    lock(&self.schedule).over(number);
                    self.changed.notify_waiters();
                    (self.progress)(job.singly.len() as u64);
                    let seconds = began.elapsed().as_secs_f64();
                    let times = &mut lock(&self.found).times;
                    match job.demand.step {
                        Step::Key | Step::Index | Step::Attach => times.indexes += seconds,
                        Step::ForeignKey => times.foreign_keys += seconds,
                        Step::Validation => times.validation += seconds,
                        Step::Statistics => times.statistics += seconds,
                    }
                }
            }
        }
    }

    async fn run(&self, client: &Client, job: &Job) -> Result<()> {
        if job.validates.as_ref().is_some_and(|key| lock(&self.found).settled.contains(key)) {
            return Ok(());
        }
        let memory = job.memory_mib.unwrap_or(self.maintenance_mib);
        client
            .batch_execute(&format!("SET maintenance_work_mem = '{memory}MB'"))
            .await
            .map_err(pg::failed("building indexes and keys"))?;
        let Err(error) = client.batch_execute(&job.together.join("\n")).await else { return Ok(()) };
        if pg::is_the_servers(&error) {
            return Err(pg::failed("building indexes and keys")(error));
        }
        // What failed took the rest of its transaction with it, so they run one by one.
        for statement in &job.singly {
            match statement {
                Statement::Plain(sql) => {
                    if let Err(error) = client.batch_execute(sql).await {
                        let unheld = held_or(sql, error)?;
                        lock(&self.found).unheld.push(unheld);
                    }
                }
                Statement::ForeignKey(key) => self.add_key(client, key).await?,
            }
        }
        Ok(())
    }

    /// Adds a foreign key as far as the backup's rows allow it.
    async fn add_key(&self, client: &Client, key: &ForeignKey) -> Result<()> {
        let first = key.alone(key.validated_later);
        let Err(error) = client.batch_execute(&first).await else { return Ok(()) };
        let code = error.code().cloned();
        let (second, state) = if code == Some(SqlState::WRONG_OBJECT_TYPE) {
            // A partitioned table's key cannot be NOT VALID.
            (Some(key.alone(false)), None)
        } else if code == Some(SqlState::FOREIGN_KEY_VIOLATION) && !key.validated_later {
            (Some(key.alone(true)), Some(UnheldState::NotValid))
        } else {
            (None, None)
        };
        lock(&self.found).settled.insert((key.table.clone(), key.name.clone()));
        let (error, state) = match second {
            None => (error, UnheldState::Absent),
            Some(second) => match (client.batch_execute(&second).await, state) {
                (Ok(()), None) => return Ok(()),
                (Ok(()), Some(state)) => (error, state),
                // The rows were what kept it out; that it cannot be added unvalidated says less.
                (Err(_), Some(_)) => (error, UnheldState::Absent),
                (Err(error), None) => (error, UnheldState::Absent),
            },
        };
        match error.code() {
            // Its rows are orphans, or what it refers to has duplicates and therefore no key.
            Some(code)
                if *code == SqlState::FOREIGN_KEY_VIOLATION || *code == SqlState::INVALID_FOREIGN_KEY =>
            {
                lock(&self.found).unheld.push(Unheld {
                    table: key.table.to_string(),
                    name: key.name.clone(),
                    reason: pg::describe(&error),
                    state,
                });
                Ok(())
            }
            _ => Err(statement_failed(&Located { sql: first, origin: format!("key {}", key.name) }, error)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without the comments on constraints and indexes that could not be made.
fn speaking_of_what_is(mut statements: Vec<String>, unheld: &[Unheld]) -> Vec<String> {
    let absent = |name: &str| unheld.iter().any(|u| u.state == UnheldState::Absent && u.name == name);
    statements.retain(|sql| {
        let tokens: Vec<_> = Tokens::new(sql).take(6).collect();
        let object = match tokens.as_slice() {
            [comment, on, what, name, ..]
                if comment.is_word("COMMENT") && on.is_word("ON") && what.is_word("CONSTRAINT") =>
            {
                name.name()
            }
            [comment, on, what, _, dot, name]
                if comment.is_word("COMMENT") && on.is_word("ON") && what.is_word("INDEX") && dot.is(".") =>
            {
                name.name()
            }
            _ => None,
        };
        !object.is_some_and(|name| absent(&name))
    });
    statements
}

/// A failure that the backup's own data explains, or the problem that it is.
fn held_or(sql: &str, error: tokio_postgres::Error) -> Result<Unheld> {
    let state = match error.code() {
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => UnheldState::NotValid,
        Some(code)
            if *code == SqlState::UNIQUE_VIOLATION
                || *code == SqlState::CHECK_VIOLATION
                || *code == SqlState::EXCLUSION_VIOLATION =>
        {
            UnheldState::Absent
        }
        _ => {
            let statement = Located { sql: sql.to_owned(), origin: "after the data".into() };
            return Err(statement_failed(&statement, error));
        }
    };
    let from_server = error.as_db_error();
    let table = from_server.and_then(|db| db.table()).unwrap_or_default().to_owned();
    let name = from_server.and_then(|db| db.constraint()).unwrap_or_default().to_owned();
    Ok(Unheld { table, name, reason: pg::describe(&error), state })
}
