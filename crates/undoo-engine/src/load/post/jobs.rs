//! The work after the data, cut into jobs.
//!
//! Statements of small tables go together, since thousands of them are not worth a round trip and a
//! commit each; those of a large table are a job each. Order and urgency are decided here and nowhere
//! else; nothing here talks to a server.

use std::collections::{BTreeMap, HashMap};

use undoo_archive::dump::{sql::Tokens, statement::QualifiedName};

use super::schedule::{Demand, Place, Step};
use crate::{load::work::PostData, pg};

#[cfg(test)]
mod tests;

/// Tables with more bytes of rows than this get jobs of their own.
const LARGE_TABLE: u64 = 4 * 1024 * 1024;
/// Statements of small tables that are sent together.
const SMALL_STATEMENTS: usize = 60;
/// A sort works fastest on as much as stays in a processor's cache; see [`sort_memory`].
const CACHED_SORT_MIB: u32 = 8;
/// Bytes of a table for each byte of that memory at most: an index is a quarter of its table or less, and
/// the two dozen runs that then stay are merged in one go.
const TABLE_BYTES_PER_SORTED: u64 = 96;

/// One statement, and what to do when it fails in a way that the backup's own data explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// It is left out, and named.
    Plain(String),
    /// A foreign key.
    ForeignKey(ForeignKey),
}

/// A foreign key of the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    /// The table that refers.
    pub table: QualifiedName,
    /// The constraint's name.
    pub name: String,
    /// Whether the dump itself says `NOT VALID`.
    pub not_valid: bool,
    /// The dump's statement.
    pub sql: String,
    /// Whether it is validated by a job of its own.
    pub validated_later: bool,
}

/// What runs in one transaction on one session.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// When it may run.
    pub demand: Demand,
    /// `maintenance_work_mem` for it, in MiB; `None`: all that a session may have.
    pub memory_mib: Option<u32>,
    /// As they are sent together.
    pub together: Vec<String>,
    /// As they are sent one by one when that failed, to find what does not hold.
    pub singly: Vec<Statement>,
    /// The foreign key that it validates.
    pub validates: Option<KeyName>,
    urgency: (u8, u64),
}

/// A foreign key's table and name: names alone are not unique.
pub(super) type KeyName = (QualifiedName, String);

/// Everything that comes after the data.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// Jobs, most urgent first.
    pub jobs: Vec<Job>,
    /// What comes last, in this order.
    pub others: Vec<String>,
}

/// Cuts the work into jobs; `bytes` are those of each table's rows.
pub(super) fn plan(items: Vec<PostData>, bytes: &HashMap<QualifiedName, u64>, most_mib: u32) -> Planned {
    let mut planner = Planner { places: Places::of(bytes), bytes, most_mib, jobs: Vec::new() };
    let mut small: BTreeMap<Step, BTreeMap<QualifiedName, Vec<String>>> = BTreeMap::new();
    let (mut attachments, mut keys, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let (step, table, sql) = match item {
            PostData::Index { table, unique, sql } => {
                (if unique { Step::Key } else { Step::Index }, table, sql)
            }
            PostData::Constraint { table, sql } => (Step::Key, table, sql),
            PostData::AttachIndex { sql } => {
                attachments.push(sql);
                continue;
            }
            PostData::ForeignKey { table, name, references, not_valid, sql } => {
                keys.push((references, ForeignKey { table, name, not_valid, sql, validated_later: false }));
                continue;
            }
            PostData::Other { sql } => {
                others.push(sql);
                continue;
            }
        };
        match planner.places.of_table(&table) {
            Place::Small => small.entry(step).or_default().entry(table).or_default().push(sql),
            place => planner.index(step, place, &table, sql),
        }
    }
    for (step, tables) in small {
        planner.small(step, tables.into_values());
    }
    if !attachments.is_empty() {
        planner.push(Step::Attach, Place::Small, vec![Place::Small], 0, None, plain(attachments));
    }
    planner.foreign_keys(keys);
    planner.statistics();
    let mut jobs = planner.jobs;
    jobs.sort_by_key(|job| std::cmp::Reverse(job.urgency));
    Planned { jobs, others }
}

/// Numbers of the large tables.
struct Places(HashMap<QualifiedName, usize>);

impl Places {
    fn of(bytes: &HashMap<QualifiedName, u64>) -> Self {
        let large = bytes.iter().filter(|(_, bytes)| **bytes > LARGE_TABLE).map(|(table, _)| table.clone());
        Self(large.enumerate().map(|(number, table)| (table, number)).collect())
    }

    fn of_table(&self, table: &QualifiedName) -> Place {
        self.0.get(table).map_or(Place::Small, |number| Place::Large(*number))
    }
}

struct Planner<'a> {
    places: Places,
    bytes: &'a HashMap<QualifiedName, u64>,
    most_mib: u32,
    jobs: Vec<Job>,
}

impl Planner<'_> {
    fn weight(&self, table: &QualifiedName) -> u64 {
        self.bytes.get(table).copied().unwrap_or(0)
    }

    fn push(
        &mut self,
        step: Step,
        place: Place,
        alone: Vec<Place>,
        weight: u64,
        memory_mib: Option<u32>,
        (together, singly): (Vec<String>, Vec<Statement>),
    ) {
        // Small tables first where all keys are awaited, since that is soon done; then the large ones, of
        // which one session after the other can be busy for long; the rest fills up beside them. Large
        // tables are analyzed before their keys are validated: those queries are planned like any other.
        let rank = match (step, place) {
            (Step::Key, Place::Small) => 9,
            (Step::Key, _) => 8,
            (Step::Index, Place::Small) => 7,
            (Step::Index, _) => 6,
            (Step::Attach, _) => 5,
            (Step::ForeignKey, Place::Large(_)) => 4,
            (Step::Statistics, Place::Large(_)) => 3,
            (Step::Validation, _) => 2,
            (Step::ForeignKey, Place::Small) => 1,
            (Step::Statistics, Place::Small) => 0,
        };
        let demand = Demand { step, place, alone };
        let urgency = (rank, weight);
        self.jobs.push(Job { demand, memory_mib, together, singly, validates: None, urgency });
    }

    /// A constraint or index of a large table.
    fn index(&mut self, step: Step, place: Place, table: &QualifiedName, sql: String) {
        let weight = self.weight(table);
        // A constraint locks its table, a unique index only keeps writers out: it is not worth a distinction.
        let alone = if step == Step::Key { vec![place] } else { Vec::new() };
        let memory = sorts(&sql).then(|| sort_memory(weight, self.most_mib));
        self.push(step, place, alone, weight, memory, plain(vec![sql]));
    }

    /// Constraints or indexes of small tables; those of one table stay together.
    fn small(&mut self, step: Step, tables: impl Iterator<Item = Vec<String>>) {
        let mut batch = Vec::new();
        for statements in tables {
            batch.extend(statements);
            if batch.len() >= SMALL_STATEMENTS {
                self.push(step, Place::Small, Vec::new(), 0, None, plain(std::mem::take(&mut batch)));
            }
        }
        if !batch.is_empty() {
            self.push(step, Place::Small, Vec::new(), 0, None, plain(batch));
        }
    }

    /// Keys of small tables are added as they are, several in one statement. Adding one to a large table
    /// goes through all its rows under a lock on every table that it refers to; so there it is added `NOT
    /// VALID` and validated by a statement whose lock stops nobody but the table's own jobs.
    fn foreign_keys(&mut self, keys: Vec<(QualifiedName, ForeignKey)>) {
        let mut by_table: BTreeMap<QualifiedName, Vec<(QualifiedName, ForeignKey)>> = BTreeMap::new();
        for (references, key) in keys {
            by_table.entry(key.table.clone()).or_default().push((references, key));
        }
        let mut batches: BTreeMap<Vec<usize>, (Vec<String>, Vec<Statement>)> = BTreeMap::new();
        for (table, keys) in by_table {
            let place = self.places.of_table(&table);
            let large = place != Place::Small;
            let mut others: Vec<usize> =
                keys.iter().filter_map(|(references, _)| self.places.0.get(references).copied()).collect();
            others.sort_unstable();
            others.dedup();
            let keys: Vec<ForeignKey> = keys
                .into_iter()
                .map(|(_, key)| ForeignKey { validated_later: large && !key.not_valid, ..key })
                .collect();
            let clauses: Vec<String> = keys.iter().map(|key| key.clause(key.validated_later)).collect();
            let together = format!("ALTER TABLE {} {};", table.quoted(), clauses.join(", "));
            if large {
                self.validations(place, &table, &keys);
                let mut alone: Vec<Place> = others.into_iter().map(Place::Large).collect();
                alone.extend([place, Place::Small]);
                let singly = keys.into_iter().map(Statement::ForeignKey).collect();
                self.push(
                    Step::ForeignKey,
                    place,
                    alone,
                    self.weight(&table),
                    None,
                    (vec![together], singly),
                );
                continue;
            }
            let batch = batches.entry(others.clone()).or_default();
            batch.0.push(together);
            batch.1.extend(keys.into_iter().map(Statement::ForeignKey));
            if batch.1.len() >= SMALL_STATEMENTS {
                let full = std::mem::take(batch);
                self.small_keys(&others, full);
            }
        }
        for (others, batch) in batches {
            if !batch.1.is_empty() {
                self.small_keys(&others, batch);
            }
        }
    }

    fn small_keys(&mut self, others: &[usize], statements: (Vec<String>, Vec<Statement>)) {
        let mut alone: Vec<Place> = others.iter().copied().map(Place::Large).collect();
        alone.push(Place::Small);
        // Those that refer to large tables have to find these unused: they go first.
        let weight = u64::from(!others.is_empty());
        self.push(Step::ForeignKey, Place::Small, alone, weight, None, statements);
    }

    fn validations(&mut self, place: Place, table: &QualifiedName, keys: &[ForeignKey]) {
        let weight = self.weight(table).saturating_mul(keys.len() as u64);
        for key in keys.iter().filter(|key| key.validated_later) {
            let sql = format!("ALTER TABLE {} VALIDATE CONSTRAINT {};", table.quoted(), pg::ident(&key.name));
            self.push(Step::Validation, place, vec![place], weight, None, plain(vec![sql]));
            if let Some(job) = self.jobs.last_mut() {
                job.validates = Some((table.clone(), key.name.clone()));
            }
        }
    }

    fn statistics(&mut self) {
        // Of an empty table there is nothing to know.
        let mut filled: Vec<_> = self.bytes.iter().filter(|(_, bytes)| **bytes > 0).collect();
        filled.sort();
        let mut small = Vec::new();
        for (table, weight) in filled {
            match self.places.of_table(table) {
                Place::Small => small.push(table.quoted()),
                place => {
                    let sql = plain(vec![format!("ANALYZE {};", table.quoted())]);
                    self.push(Step::Statistics, place, vec![place], *weight, None, sql);
                }
            }
        }
        for tables in small.chunks(SMALL_STATEMENTS) {
            let sql = plain(vec![format!("ANALYZE {};", tables.join(", "))]);
            self.push(Step::Statistics, Place::Small, Vec::new(), 0, None, sql);
        }
    }
}

fn plain(statements: Vec<String>) -> (Vec<String>, Vec<Statement>) {
    let singly = statements.iter().cloned().map(Statement::Plain).collect();
    (statements, singly)
}

impl ForeignKey {
    /// The statement that adds it alone.
    pub fn alone(&self, not_valid: bool) -> String {
        format!("ALTER TABLE {} {};", self.table.quoted(), self.clause(not_valid))
    }

    /// `ADD CONSTRAINT …` of the dump's statement.
    fn clause(&self, not_valid: bool) -> String {
        let tokens: Vec<_> = Tokens::new(&self.sql).collect();
        let start = tokens
            .windows(2)
            .find(|pair| pair[0].is_word("ADD") && pair[1].is_word("CONSTRAINT"))
            .map_or(0, |pair| pair[0].at);
        let clause = self.sql[start..].trim_end().trim_end_matches(';').trim_end();
        if not_valid && !self.not_valid { format!("{clause} NOT VALID") } else { clause.to_owned() }
    }
}

/// Whether an index or constraint is built by sorting; other kinds want all the memory there is.
fn sorts(sql: &str) -> bool {
    let tokens: Vec<_> = Tokens::new(sql).collect();
    let says = |first: &str, second: &str| {
        tokens.windows(2).any(|pair| pair[0].is_word(first) && pair[1].is_word(second))
    };
    says("USING", "btree") || says("PRIMARY", "KEY") || tokens.iter().any(|token| token.is_word("UNIQUE"))
}

/// `maintenance_work_mem` for sorting an index of a table with so many bytes of rows, in MiB.
///
/// Comparing is what a sort takes its time for, and comparing in the processor's cache is a quarter
/// faster than in main memory (docs/decisions/0005-loading-keys-and-rows.md). So it gets little, and
/// leaves runs to be merged; but not more of them than are merged in one go.
fn sort_memory(table_bytes: u64, most_mib: u32) -> u32 {
    let one_go = u32::try_from((table_bytes / TABLE_BYTES_PER_SORTED) >> 20).unwrap_or(u32::MAX);
    one_go.clamp(CACHED_SORT_MIB, most_mib.max(CACHED_SORT_MIB))
}
