//! Indexes, constraints, keys and statistics, after the data.
//!
//! An Odoo database has thousands of them, nearly all on tiny tables, so two costs matter: one round
//! trip and one commit for each, and a single busy core. Statements of small tables are sent together;
//! those of large tables run one by one on whichever session is free. Foreign keys are added in two
//! steps, `NOT VALID` and then `VALIDATE CONSTRAINT`: the first is a matter of the catalogue alone, the
//! second takes locks that let sessions work side by side, and a key that cannot hold stays behind as
//! `NOT VALID` with its name known.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::task::JoinSet;
use tokio_postgres::{Client, error::SqlState};
use undoo_archive::dump::{sql::Tokens, statement::QualifiedName};
use undoo_core::{Kind, Problem, Result};

use super::{
    pace::Pace,
    session::{Batch, Located, statement_failed},
    work::PostData,
};
use crate::pg;

/// Tables with more bytes of rows than this get their statements run one by one.
const LARGE_TABLE: u64 = 4 * 1024 * 1024;
/// Statements of small tables that are sent together.
const SMALL_STATEMENTS: usize = 60;

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

/// Seconds that each part of the work after the data took.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PostTimes {
    /// Indexes, primary keys, unique and check constraints.
    pub indexes: f64,
    /// Foreign keys as `NOT VALID`, and `ANALYZE` beside.
    pub foreign_keys_and_analyze: f64,
    /// The keys' validation.
    pub validation: f64,
    /// Triggers and whatever comes last.
    pub rest: f64,
}

/// Statements that run in one transaction on one session.
struct Job {
    /// Bytes of rows that they go through; the heaviest jobs start first.
    weight: u64,
    /// As they are sent together.
    statements: Vec<String>,
    /// As they are sent one by one when the transaction failed, to find what does not hold.
    singly: Vec<String>,
}

impl Job {
    fn of(weight: u64, statements: Vec<String>) -> Self {
        Self { weight, singly: statements.clone(), statements }
    }
}

/// Hears of statements that are done.
type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// The sessions and how many bytes of rows each table has.
pub struct PostLoader<'a> {
    /// Sessions that nothing else uses.
    pub clients: Vec<Client>,
    /// Bytes of rows by table.
    pub bytes: &'a HashMap<QualifiedName, u64>,
    /// Called with the number of statements done.
    pub progress: Progress,
    /// When to give way.
    pub pace: Arc<Pace>,
}

impl PostLoader<'_> {
    /// Runs everything; answers what does not hold.
    ///
    /// # Errors
    /// The first statement that failed for a reason other than the backup's own data.
    pub async fn run(self, items: Vec<PostData>) -> Result<(Vec<Unheld>, PostTimes)> {
        let mut by_table: HashMap<QualifiedName, Vec<(bool, String)>> = HashMap::new();
        let (mut attachments, mut keys, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            match item {
                PostData::Index { table, sql } => by_table.entry(table).or_default().push((false, sql)),
                PostData::Constraint { table, sql } => by_table.entry(table).or_default().push((true, sql)),
                PostData::AttachIndex { sql } => attachments.push(sql),
                PostData::ForeignKey { table, name, not_valid, sql } => {
                    keys.push(ForeignKey { table, name, not_valid, sql });
                }
                PostData::Other { sql } => others.push(sql),
            }
        }
        let Self { clients, bytes, progress, pace } = self;
        let mut unheld = Vec::new();
        let weight = |table: &QualifiedName| bytes.get(table).copied().unwrap_or(0);

        let (mut times, mut began) = (PostTimes::default(), Instant::now());
        let mut lap = || std::mem::replace(&mut began, Instant::now()).elapsed().as_secs_f64();

        let (clients, failed) = run_jobs(clients, index_jobs(by_table, &weight), &progress, &pace).await?;
        unheld.extend(failed);
        let (first, rest) = split_first(clients)?;
        run_in_order(&first, attachments, &progress).await?;
        times.indexes = lap();
        // Adding keys keeps one session busy; statistics are for the others meanwhile.
        let (added, analyzed) = tokio::join!(
            add_unvalidated(&first, &keys, &progress),
            run_jobs(rest, analyze_jobs(bytes), &progress, &pace),
        );
        let ((settled, impossible), (rest, _)) = (added?, analyzed?);
        unheld.extend(impossible);
        let alone = rest.is_empty();
        let mut clients: Vec<Client> = std::iter::once(first).chain(rest).collect();
        if alone {
            (clients, _) = run_jobs(clients, analyze_jobs(bytes), &progress, &pace).await?;
        }
        times.foreign_keys_and_analyze = lap();
        let (clients, failed) =
            run_jobs(clients, validation_jobs(&keys, &settled, &weight), &progress, &pace).await?;
        unheld.extend(failed);
        times.validation = lap();
        let (first, _) = split_first(clients)?;
        run_in_order(&first, speaking_of_what_is(others, &unheld), &progress).await?;
        times.rest = lap();
        Ok((unheld, times))
    }
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

async fn run_in_order(client: &Client, statements: Vec<String>, progress: &Progress) -> Result<()> {
    let mut batch = Batch::on(client);
    for sql in statements {
        batch.push(Located { sql, origin: "the end of the dump".into() }).await?;
        progress(1);
    }
    batch.commit().await
}

struct ForeignKey {
    table: QualifiedName,
    name: String,
    not_valid: bool,
    sql: String,
}

fn split_first(mut clients: Vec<Client>) -> Result<(Client, Vec<Client>)> {
    if clients.is_empty() {
        return Err(Problem::new(
            Kind::Internal,
            "no_sessions",
            "there is no session to finish the load on",
            "please report this",
        ));
    }
    let first = clients.remove(0);
    Ok((first, clients))
}

fn index_jobs(
    by_table: HashMap<QualifiedName, Vec<(bool, String)>>,
    weight: &impl Fn(&QualifiedName) -> u64,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut small: Vec<String> = Vec::new();
    let mut tables: Vec<_> = by_table.into_iter().collect();
    tables.sort_by(|a, b| a.0.cmp(&b.0));
    for (table, statements) in tables {
        let table_weight = weight(&table);
        if table_weight > LARGE_TABLE {
            // Constraints lock the table for themselves: they go first, and together.
            let (constraints, indexes): (Vec<_>, Vec<_>) =
                statements.into_iter().partition(|(constraint, _)| *constraint);
            for (extra, (_, sql)) in constraints.into_iter().enumerate() {
                let weight = table_weight.saturating_mul(4) - extra as u64;
                jobs.push(Job::of(weight, vec![sql]));
            }
            for (_, sql) in indexes {
                jobs.push(Job::of(table_weight, vec![sql]));
            }
        } else {
            small.extend(statements.into_iter().map(|(_, sql)| sql));
            if small.len() >= SMALL_STATEMENTS {
                jobs.push(Job::of(0, std::mem::take(&mut small)));
            }
        }
    }
    if !small.is_empty() {
        jobs.push(Job::of(0, small));
    }
    jobs
}

/// A key by its table and name: names alone are not unique.
type KeyName = (QualifiedName, String);

/// Adds every key `NOT VALID`, one statement for each table, all in one transaction; answers the keys
/// that are not to be validated, because they were added as they are or cannot be, and what cannot be.
async fn add_unvalidated(
    client: &Client,
    keys: &[ForeignKey],
    progress: &Progress,
) -> Result<(Vec<KeyName>, Vec<Unheld>)> {
    let mut by_table: Vec<(&QualifiedName, Vec<&ForeignKey>)> = Vec::new();
    for key in keys {
        match by_table.last_mut() {
            Some((table, of_table)) if *table == &key.table => of_table.push(key),
            _ => by_table.push((&key.table, vec![key])),
        }
    }
    let mut statements = Vec::new();
    for (table, of_table) in &by_table {
        let clauses: Vec<String> = of_table.iter().map(|key| unvalidated_clause(key)).collect();
        statements.push((format!("ALTER TABLE {} {};", table.quoted(), clauses.join(", ")), of_table));
    }
    let (mut settled, mut impossible) = (Vec::new(), Vec::new());
    for chunk in statements.chunks(SMALL_STATEMENTS) {
        let text: Vec<&str> = chunk.iter().map(|(sql, _)| sql.as_str()).collect();
        let batch = format!("BEGIN;\n{}\nCOMMIT;", text.join("\n"));
        if let Err(error) = client.batch_execute(&batch).await {
            if error.as_db_error().is_none() {
                return Err(pg::failed("adding foreign keys")(error));
            }
            client.batch_execute("ROLLBACK").await.map_err(pg::failed("adding foreign keys"))?;
            for (_, of_table) in chunk {
                for key in of_table.iter() {
                    let added = add_one(client, key).await?;
                    if !matches!(added, Added::Unvalidated) {
                        settled.push((key.table.clone(), key.name.clone()));
                    }
                    if let Added::Impossible(unheld) = added {
                        impossible.push(unheld);
                    }
                }
            }
        }
        progress(chunk.iter().map(|(_, of_table)| of_table.len() as u64).sum());
    }
    Ok((settled, impossible))
}

/// How a key was added.
enum Added {
    Unvalidated,
    /// As the dump has it, since its table is partitioned.
    AsItIs,
    /// Not at all: the backup's own data keeps it from holding.
    Impossible(Unheld),
}

async fn add_one(client: &Client, key: &ForeignKey) -> Result<Added> {
    let unvalidated = format!("ALTER TABLE {} {};", key.table.quoted(), unvalidated_clause(key));
    let (sql, error) = match client.batch_execute(&unvalidated).await {
        Ok(()) => return Ok(Added::Unvalidated),
        Err(error) if error.code() == Some(&SqlState::WRONG_OBJECT_TYPE) => {
            match client.batch_execute(&key.sql).await {
                Ok(()) => return Ok(Added::AsItIs),
                Err(error) => (key.sql.clone(), error),
            }
        }
        Err(error) => (unvalidated, error),
    };
    match error.code() {
        // Its rows are orphans, or what it refers to has duplicates and therefore no key.
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION || *code == SqlState::INVALID_FOREIGN_KEY => {
            Ok(Added::Impossible(Unheld {
                table: key.table.to_string(),
                name: key.name.clone(),
                reason: pg::describe(&error),
                state: UnheldState::Absent,
            }))
        }
        _ => Err(statement_failed(&Located { sql, origin: format!("key {}", key.name) }, error)),
    }
}

/// `ADD CONSTRAINT …` of the dump's statement, as `NOT VALID`.
fn unvalidated_clause(key: &ForeignKey) -> String {
    let tokens: Vec<_> = Tokens::new(&key.sql).collect();
    let start = tokens
        .windows(2)
        .find(|pair| pair[0].is_word("ADD") && pair[1].is_word("CONSTRAINT"))
        .map_or(0, |pair| pair[0].at);
    let clause = key.sql[start..].trim_end().trim_end_matches(';').trim_end();
    if key.not_valid { clause.to_owned() } else { format!("{clause} NOT VALID") }
}

fn validation_jobs(
    keys: &[ForeignKey],
    settled: &[KeyName],
    weight: &impl Fn(&QualifiedName) -> u64,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut small = Job::of(0, Vec::new());
    let mut by_table: BTreeMap<&QualifiedName, Vec<&str>> = BTreeMap::new();
    for key in keys.iter().filter(|key| !key.not_valid) {
        if settled.iter().any(|(table, name)| *table == key.table && *name == key.name) {
            continue;
        }
        by_table.entry(&key.table).or_default().push(&key.name);
    }
    for (table, names) in by_table {
        let validate = |name: &&str| format!("VALIDATE CONSTRAINT {}", pg::ident(name));
        let alter = |clauses: String| format!("ALTER TABLE {} {clauses};", table.quoted());
        let singly: Vec<String> = names.iter().map(|name| alter(validate(name))).collect();
        let weight = weight(table);
        if weight > LARGE_TABLE {
            jobs.extend(singly.into_iter().map(|sql| Job::of(weight, vec![sql])));
            continue;
        }
        small.statements.push(alter(names.iter().map(validate).collect::<Vec<_>>().join(", ")));
        small.singly.extend(singly);
        if small.singly.len() >= SMALL_STATEMENTS {
            jobs.push(std::mem::replace(&mut small, Job::of(0, Vec::new())));
        }
    }
    if !small.statements.is_empty() {
        jobs.push(small);
    }
    jobs
}

fn analyze_jobs(bytes: &HashMap<QualifiedName, u64>) -> Vec<Job> {
    // Of an empty table there is nothing to know.
    let filled = bytes.iter().filter(|(_, bytes)| **bytes > 0);
    let (large, small): (Vec<_>, Vec<_>) = filled.partition(|(_, bytes)| **bytes > LARGE_TABLE);
    let mut jobs: Vec<Job> = large
        .into_iter()
        .map(|(table, weight)| Job::of(*weight, vec![format!("ANALYZE {};", table.quoted())]))
        .collect();
    for tables in small.chunks(SMALL_STATEMENTS) {
        let names: Vec<String> = tables.iter().map(|(table, _)| table.quoted()).collect();
        jobs.push(Job::of(0, vec![format!("ANALYZE {};", names.join(", "))]));
    }
    jobs
}

/// Runs jobs, heaviest first, on whichever session is free.
async fn run_jobs(
    clients: Vec<Client>,
    mut jobs: Vec<Job>,
    progress: &Progress,
    pace: &Arc<Pace>,
) -> Result<(Vec<Client>, Vec<Unheld>)> {
    jobs.sort_by_key(|job| std::cmp::Reverse(job.weight));
    let queue = Arc::new(Mutex::new(VecDeque::from(jobs)));
    let mut sessions = JoinSet::new();
    for (index, client) in clients.into_iter().enumerate() {
        let (queue, progress, pace) = (Arc::clone(&queue), Arc::clone(progress), Arc::clone(pace));
        sessions.spawn(async move {
            let mut unheld = Vec::new();
            loop {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let empty = || queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                if !empty() && pace.gave_way(index).await {
                    continue;
                }
                let Some(job) = next() else { return Ok((client, unheld)) };
                let done = job.singly.len() as u64;
                unheld.extend(run_job(&client, job).await?);
                progress(done);
            }
        });
    }
    let (mut clients, mut unheld) = (Vec::new(), Vec::new());
    while let Some(outcome) = sessions.join_next().await {
        let (client, failed) = outcome.map_err(|error| {
            Problem::new(
                Kind::Internal,
                "load_session",
                "a loading session broke down",
                "see the log; please report this",
            )
            .caused_by(error)
        })??;
        clients.push(client);
        unheld.extend(failed);
    }
    Ok((clients, unheld))
}

async fn run_job(client: &Client, job: Job) -> Result<Vec<Unheld>> {
    let text = job.statements.join("\n");
    let Err(error) = client.batch_execute(&text).await else { return Ok(Vec::new()) };
    if error.as_db_error().is_none() {
        return Err(pg::failed("building indexes and keys")(error));
    }
    if let [sql] = job.singly.as_slice() {
        return held_or(sql, error).map(|unheld| vec![unheld]);
    }
    // What failed took the rest of its transaction with it, so they run one by one.
    let mut unheld = Vec::new();
    for sql in &job.singly {
        if let Err(error) = client.batch_execute(sql).await {
            unheld.push(held_or(sql, error)?);
        }
    }
    Ok(unheld)
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
