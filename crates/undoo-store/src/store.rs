//! The opened database: where reads and writes go, and transactions.

use std::{fs::File, path::Path, sync::Arc};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, SqlxPostgresConnector,
    SqlxSqliteConnector, TransactionOptions, TransactionTrait,
};
use tokio::sync::broadcast;
use undoo_core::{Kind, Problem, Result};

use crate::{
    failure::{failure, misuse},
    hints::{Hint, Hints, Pending},
    postgres, schema, sqlite,
    tasks::{Held, Lease, hold},
};

/// All that the control plane keeps. Clones are the same one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    reads: DatabaseConnection,
    writes: DatabaseConnection,
    hints: Hints,
    /// Of a database in a file.
    _lock: Option<File>,
}

impl Store {
    /// Opens `sqlite:PATH`, which is made if it is not there, or `postgres://…`. Its tables are for
    /// [`Store::migrate`] to make.
    ///
    /// # Errors
    /// `database_url_invalid`; `database_in_use` when another process has the file; `database_denied`,
    /// `database_missing`, `database_unavailable`, `database_damaged`.
    pub async fn open(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let opened = sqlite::open(Path::new(path)).await?;
            return Ok(Self(Arc::new(Inner {
                reads: SqlxSqliteConnector::from_sqlx_sqlite_pool(opened.reads),
                writes: SqlxSqliteConnector::from_sqlx_sqlite_pool(opened.writes),
                hints: Hints::here(),
                _lock: Some(opened.lock),
            })));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = postgres::open(url).await?;
            let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
            return Ok(Self(Arc::new(Inner {
                reads: connection.clone(),
                writes: connection,
                hints: Hints::through(pool),
                _lock: None,
            })));
        }
        Err(Problem::new(
            Kind::Invalid,
            "database_url_invalid",
            "the database URL is neither one of SQLite nor one of PostgreSQL",
            "write sqlite:/PATH/undoo.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        ))
    }

    /// Makes the tables what this version needs; answers the names of the migrations that were missing.
    /// Several processes may do so at once.
    ///
    /// # Errors
    /// `database_newer` when a newer version wrote it.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let tx = self.begin_raw().await?;
        let names = schema::apply(&tx).await?;
        tx.commit().await.map_err(failure)?;
        Ok(names)
    }

    /// Names of migrations that are missing. While there is one, nothing else here works.
    ///
    /// # Errors
    /// `database_newer` when a newer version wrote it.
    pub async fn pending_migrations(&self) -> Result<Vec<String>> {
        schema::pending(&self.0.reads).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn ping(&self) -> Result<()> {
        self.0.reads.execute_unprepared("SELECT 1").await.map_err(failure).map(drop)
    }

    /// Begins to write. On SQLite this waits for whoever writes.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn begin(&self) -> Result<Tx> {
        let raw = self.begin_raw().await?;
        Ok(Tx { raw, store: self.clone(), hints: Pending::default(), held: None })
    }

    /// Begins to write as the worker that has a task. From here to the end of the transaction nobody else
    /// can take it.
    ///
    /// # Errors
    /// `lease_lost` when somebody else has it, or it is over.
    pub async fn begin_held(&self, lease: &Lease) -> Result<Tx> {
        let mut tx = self.begin().await?;
        tx.held = Some(hold(&tx, lease).await?);
        Ok(tx)
    }

    /// Hints from now on.
    pub fn hints(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.subscribe()
    }

    /// Closes all connections, once what is under way is done. Whoever asks afterwards gets
    /// `database_unavailable`.
    pub async fn close(&self) {
        for connection in [&self.0.reads, &self.0.writes] {
            if let Err(error) = connection.close_by_ref().await {
                tracing::debug!(?error, "a connection was not closed");
            }
        }
    }

    async fn begin_raw(&self) -> Result<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.0.writes.begin_with_options(options).await.map_err(failure)
    }
}

/// A transaction that writes. Dropped, it is as if it had never been.
///
/// On SQLite there is one at a time. Whoever has it writes through it: a write through the store would wait
/// for its end.
///
/// Events and audit entries are ordered by commit, for which their organisation is locked: add them last.
pub struct Tx {
    raw: DatabaseTransaction,
    store: Store,
    hints: Pending,
    held: Option<Held>,
}

impl Tx {
    /// Makes it last, and then sends its hints.
    ///
    /// # Errors
    /// `database_unavailable`: whether it lasts is then not known.
    pub async fn commit(self) -> Result<()> {
        self.raw.commit().await.map_err(failure)?;
        self.store.0.hints.send(&self.hints);
        Ok(())
    }

    /// As dropping it, but done when this returns.
    pub(crate) async fn roll_back(self) -> Result<()> {
        self.raw.rollback().await.map_err(failure)
    }

    pub(crate) fn raw(&self) -> &DatabaseTransaction {
        &self.raw
    }

    pub(crate) fn hint(&self, hint: Hint) {
        self.hints.add(hint);
    }

    /// What [`Store::begin_held`] found.
    pub(crate) fn held(&self, lease: &Lease) -> Result<&Held> {
        let held = self.held.as_ref().filter(|held| held.is_of(lease));
        held.ok_or_else(|| misuse("A worker wrote outside of its lease (not in begin_held)."))
    }
}

/// Something to ask: the store itself, or a transaction, which sees what it wrote.
pub trait Connection: sealed::Connection {}

impl Connection for Store {}
impl Connection for Tx {}

pub(crate) mod sealed {
    //! Only this crate knows what is behind a connection.

    use super::{DatabaseConnection, DatabaseTransaction, Store, Tx};

    pub trait Connection: Send + Sync {
        type Raw: sea_orm::ConnectionTrait;

        /// Where it reads.
        fn reads(&self) -> &Self::Raw;

        /// Where it writes.
        fn writes(&self) -> &Self::Raw;
    }

    impl Connection for Store {
        type Raw = DatabaseConnection;

        fn reads(&self) -> &DatabaseConnection {
            &self.0.reads
        }

        fn writes(&self) -> &DatabaseConnection {
            &self.0.writes
        }
    }

    impl Connection for Tx {
        type Raw = DatabaseTransaction;

        fn reads(&self) -> &DatabaseTransaction {
            &self.raw
        }

        fn writes(&self) -> &DatabaseTransaction {
            &self.raw
        }
    }
}
