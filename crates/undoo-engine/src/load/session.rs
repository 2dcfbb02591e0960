//! The loader role's sessions: their settings, and statements in batches whose failures are named.

use tokio_postgres::{Client, error::ErrorPosition};
use undoo_core::{Kind, Problem, Result};

use crate::pg::{self, DatabaseAccess};

/// Statements that are sent together, in bytes. One round trip and one parse for many.
const BATCH_BYTES: usize = 64 * 1024;

/// Opens a session for loading.
///
/// `synchronous_commit` is off: nothing of the staged database counts before the cutover, whose own
/// commit is synchronous and flushes all the log before it. Parallel workers are off because their
/// shared memory is 64 MB in a container, and because other sessions use the processors; compiling is
/// off because a thousand short queries do not pay for it.
///
/// # Errors
/// Those of [`DatabaseAccess::connect`].
pub async fn open(access: &DatabaseAccess, database: &str, maintenance_mib: u32) -> Result<Client> {
    let client = access.connect(database).await?;
    let settings = format!(
        "SET synchronous_commit = off; SET maintenance_work_mem = '{maintenance_mib}MB'; \
         SET max_parallel_maintenance_workers = 0; SET max_parallel_workers_per_gather = 0; \
         SET work_mem = '64MB'; SET jit = off; SET statement_timeout = 0; SET lock_timeout = 0; \
         SET idle_in_transaction_session_timeout = 0; SET client_encoding = 'UTF8'; \
         SET standard_conforming_strings = on; SET check_function_bodies = off; \
         SET xmloption = content; SET client_min_messages = warning; SET row_security = off; \
         SELECT pg_catalog.set_config('search_path', '', false)"
    );
    client.batch_execute(&settings).await.map_err(pg::failed("preparing a loading session"))?;
    Ok(client)
}

/// A statement and where it stands in the dump.
#[derive(Debug, Clone)]
pub struct Located {
    /// The statement.
    pub sql: String,
    /// Such as `line 120`.
    pub origin: String,
}

/// Statements that run in one transaction, sent in batches.
pub struct Batch<'a> {
    client: &'a Client,
    pending: Vec<Located>,
    bytes: usize,
    open: bool,
}

impl<'a> Batch<'a> {
    /// An empty batch on a session without a transaction.
    pub fn on(client: &'a Client) -> Self {
        Self { client, pending: Vec::new(), bytes: 0, open: false }
    }

    /// Takes a statement, and sends what has gathered when it is enough.
    ///
    /// # Errors
    /// The problem of the statement that failed, by its text and place.
    pub async fn push(&mut self, statement: Located) -> Result<()> {
        self.bytes += statement.sql.len();
        self.pending.push(statement);
        if self.bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends everything and commits.
    ///
    /// # Errors
    /// As [`Batch::push`].
    pub async fn commit(&mut self) -> Result<()> {
        self.flush().await?;
        if std::mem::take(&mut self.open) {
            self.client.batch_execute("COMMIT").await.map_err(pg::failed("committing"))?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let begin = if std::mem::replace(&mut self.open, true) { "" } else { "BEGIN;\n" };
        let mut text = String::with_capacity(self.bytes + 64);
        text.push_str(begin);
        let mut starts = Vec::with_capacity(self.pending.len());
        for statement in &self.pending {
            starts.push(text.chars().count());
            text.push_str(&statement.sql);
            text.push('\n');
        }
        let outcome = self.client.batch_execute(&text).await;
        let pending = std::mem::take(&mut self.pending);
        self.bytes = 0;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(self.name_the_culprit(&pending, &starts, error).await),
        }
    }

    /// Which statement of a failed batch it was: by the error's position, else by running them singly
    /// in a transaction that is thrown away.
    async fn name_the_culprit(
        &self,
        pending: &[Located],
        starts: &[usize],
        error: tokio_postgres::Error,
    ) -> Problem {
        if let Some(ErrorPosition::Original(position)) = error.as_db_error().and_then(|db| db.position()) {
            let index = starts.partition_point(|start| *start < *position as usize).saturating_sub(1);
            return statement_failed(&pending[index], error);
        }
        if error.as_db_error().is_some() && self.client.batch_execute("ROLLBACK; BEGIN").await.is_ok() {
            for statement in pending {
                if let Err(single) = self.client.batch_execute(&statement.sql).await {
                    return statement_failed(statement, single);
                }
            }
        }
        pg::failed("running a batch of the dump's statements")(error)
    }
}

/// The problem of a statement that PostgreSQL refused.
pub fn statement_failed(statement: &Located, error: tokio_postgres::Error) -> Problem {
    if pg::is_the_servers(&error) {
        return pg::failed("running a statement of the dump")(error);
    }
    let start: String = statement.sql.chars().take(160).collect();
    Problem::new(
        Kind::Invalid,
        "statement_failed",
        format!(
            "PostgreSQL refused the dump's statement at {}: {} — {start}",
            statement.origin,
            pg::describe(&error)
        ),
        "the live system is untouched; check the backup, or the server's version and extensions",
    )
    .caused_by(error)
}

/// The problem of a session whose task did not come to its end.
pub fn lost(error: tokio::task::JoinError) -> Problem {
    Problem::new(
        Kind::Internal,
        "load_session",
        "a loading session broke down",
        "see the log; please report this",
    )
    .caused_by(error)
}
