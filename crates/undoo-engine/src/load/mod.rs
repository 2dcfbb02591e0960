//! Loading a dump into a staged database.
//!
//! A thread reads and judges the dump ([`read`]) and hands work through a bounded channel to the
//! sessions here: definitions on one of them, rows on all ([`copy`]), indexes and keys on all
//! ([`post`]). Nothing is written to disk on our side, and memory does not grow with the dump.

mod copy;
pub mod pace;
mod post;
pub mod read;
mod session;
mod work;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;
use tokio_postgres::Client;
use undoo_archive::dump::{DumpStream, statement::QualifiedName};
use undoo_core::{Finding, Kind, Problem, Result};

pub use post::{PostTimes, Unheld, UnheldState};

use crate::{
    cluster::Cluster,
    order::{Answer, Audience, Failure, Options, Phase, Target},
    pg::{self, DatabaseAccess},
    room,
    stage::Staged,
    trust::Trust,
};
use copy::Copier;
use pace::Pace;
use post::PostLoad;
use session::{Batch, Located};
use work::{Inserted, PostData, Work};

/// Bytes of rows between two looks at the disk.
const WATCH_EVERY: u64 = 4 << 20;

/// Bytes of rows written as statements between two words about progress.
const TELL_EVERY: u64 = 256 << 10;

/// What a load came to.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Loaded {
    /// Rows in the dump, by table.
    pub rows: BTreeMap<String, u64>,
    /// Those of them that PostgreSQL was allowed to skip (`ON CONFLICT DO NOTHING`), by table.
    #[serde(default)]
    pub skippable: BTreeMap<String, u64>,
    /// Bytes of rows.
    pub bytes: u64,
    /// Constraints and indexes that the backup's own data does not allow.
    pub unheld: Vec<Unheld>,
    /// What was changed on the way, with how often.
    pub mends: BTreeMap<String, u64>,
    /// Functions of unknown code that someone accepted.
    pub confined: Vec<String>,
    /// Seconds for definitions and rows.
    pub data_seconds: f64,
    /// Seconds for indexes, keys and statistics.
    pub post_data_seconds: f64,
    /// The parts of that.
    pub post_data: PostTimes,
}

/// A dump, where it goes, and who hears of it.
pub struct Load<'a> {
    /// The staged database.
    pub staged: &'a Staged,
    /// The server's facts.
    pub cluster: &'a Cluster,
    /// Options of the restore.
    pub options: &'a Options,
    /// The code that the backup's signature speaks for.
    pub trust: Trust,
    /// When to give way to the live database.
    pub pace: Arc<Pace>,
    /// Whose disks must not fill up.
    pub target: &'a Target,
    /// Who hears of it.
    pub audience: &'a dyn Audience,
}

impl Load<'_> {
    /// Loads the dump.
    ///
    /// # Errors
    /// `Refused` with the findings that nobody accepted; `Invalid` for a broken dump or a statement that
    /// the server refuses; `Unavailable` when storage or server break off. The staged database is then
    /// in no particular state and has to be dropped.
    pub async fn run(
        self,
        dump: Box<dyn DumpStream>,
        total: Option<u64>,
    ) -> Result<(Loaded, Vec<Finding>), Failure> {
        let access = &self.staged.loader;
        let sessions = self.sessions(access).await?;
        let (queue, work) = mpsc::channel(8);
        let judge = read::Judge::new(self.cluster.major, &self.options.accept, self.trust.clone());
        let reader = tokio::task::spawn_blocking(move || read::read(dump, judge, &queue));
        let loaded = self.consume(work, sessions, total).await;
        let read = reader.await.map_err(|error| {
            Problem::new(Kind::Internal, "reader", "the reader of the dump broke down", "please report this")
                .caused_by(error)
        })?;
        match (read, loaded) {
            // The reader stops when nobody takes its work any more: then the loader knows the cause.
            (Err(failure), Err(problem)) if failure.problem.code == read::NOBODY_TAKES => Err(problem.into()),
            (Err(failure), _) => Err(failure),
            (Ok(_), Err(problem)) => Err(problem.into()),
            (Ok(read), Ok(loaded)) => {
                Ok((Loaded { mends: read.mends, confined: read.confined, ..loaded }, read.findings))
            }
        }
    }

    async fn sessions(&self, access: &DatabaseAccess) -> Result<Vec<Client>> {
        let mut sessions = Vec::new();
        for _ in 0..self.options.jobs.max(1) {
            sessions.push(session::open(access, &self.staged.database, self.options.maintenance_mib).await?);
        }
        Ok(sessions)
    }

    async fn consume(
        &self,
        mut work: mpsc::Receiver<Work>,
        sessions: Vec<Client>,
        total: Option<u64>,
    ) -> Result<Loaded> {
        let began = Instant::now();
        self.audience.tell(Answer::Phase { phase: Phase::Data });
        let main =
            session::open(&self.staged.loader, &self.staged.database, self.options.maintenance_mib).await?;
        let mut definitions = Batch::on(&main);
        let mut copier = Copier::new(sessions, Arc::clone(&self.pace));
        let mut tally = Tally::default();
        let (mut after_data, mut post_data) = (Vec::new(), Vec::new());
        let mut large_object = LargeObject::default();
        let mut watched = 0;
        let mut whole = false;
        let mut outcome: Result<()> = Ok(());
        while let Some(item) = work.recv().await {
            outcome = async {
                match item {
                    Work::Extension { name } => {
                        definitions.commit().await?;
                        self.staged.extension(&name, self.cluster).await?;
                    }
                    Work::Define { sql, origin, inserted } => {
                        if let Some(inserted) = inserted {
                            let before = tally.bytes;
                            tally.inserted(inserted, sql.len() as u64);
                            // A statement may be as short as one row.
                            if tally.bytes / TELL_EVERY > before / TELL_EVERY {
                                self.tell(tally.bytes, total);
                                self.watch_disks_after(&mut watched, tally.bytes)?;
                            }
                        }
                        definitions.push(Located { sql, origin }).await?;
                    }
                    Work::CopyStart { table, sql } => {
                        definitions.commit().await?;
                        tally.start(&table);
                        copier.start(table, sql);
                    }
                    Work::Rows { bytes, rows, ends_row } => {
                        tally.rows(bytes.len() as u64, rows);
                        self.tell(tally.bytes, total);
                        self.watch_disks_after(&mut watched, tally.bytes)?;
                        copier.rows(bytes, ends_row).await?;
                    }
                    Work::CopyEnd => copier.end().await?,
                    Work::LargeObjectStart { oid, create } => {
                        definitions.commit().await?;
                        large_object.start(&main, oid, create).await?;
                    }
                    Work::LargeObjectData(bytes) => {
                        tally.bytes += bytes.len() as u64;
                        self.watch_disks_after(&mut watched, tally.bytes)?;
                        large_object.write(&main, &bytes).await?;
                    }
                    Work::LargeObjectEnd => {}
                    Work::AfterData { sql } => after_data.push(sql),
                    Work::PostData(item) => post_data.push(item),
                    Work::End => whole = true,
                }
                Ok(())
            }
            .await;
            if outcome.is_err() {
                break;
            }
        }
        // A closed channel ends the reader, and with it the rows that sessions wait for.
        drop(work);
        let finished = copier.finish().await;
        let (sessions, taken) = match (outcome, finished) {
            (Err(problem), Err(cause)) if problem.code == copy::GONE => return Err(cause),
            (Err(problem), _) => return Err(problem),
            (Ok(()), finished) => finished?,
        };
        if !whole {
            // Why, the reader tells.
            return Err(Problem::new(Kind::Cancelled, "dump_ended", "the dump was not read to its end", ""));
        }
        definitions.commit().await?;
        tally.check(&taken)?;
        for sql in after_data {
            definitions.push(Located { sql, origin: "the end of the data".into() }).await?;
        }
        definitions.commit().await?;
        let data_seconds = began.elapsed().as_secs_f64();
        let (unheld, post_data_times) = self.post_data(sessions, &tally, post_data).await?;
        Ok(Loaded {
            rows: tally.all_rows(),
            skippable: tally.skippable.iter().map(|(table, rows)| (table.quoted(), *rows)).collect(),
            bytes: tally.bytes,
            unheld,
            mends: BTreeMap::new(),
            confined: Vec::new(),
            data_seconds,
            post_data_seconds: began.elapsed().as_secs_f64() - data_seconds,
            post_data: post_data_times,
        })
    }

    async fn post_data(
        &self,
        clients: Vec<Client>,
        tally: &Tally,
        items: Vec<PostData>,
    ) -> Result<(Vec<Unheld>, PostTimes)> {
        self.audience.tell(Answer::Phase { phase: Phase::PostData });
        self.watch_disks()?;
        // Audiences are borrowed and sessions run on tasks of their own: the count is what they share.
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let progress = Arc::new(move |more| {
            count.fetch_add(more, Ordering::Relaxed);
        });
        let load = PostLoad::plan(items, &tally.table_bytes, self.options.maintenance_mib);
        let total = load.statements();
        let work = load.run(clients, progress, Arc::clone(&self.pace));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                    self.watch_disks()?;
                    self.audience.tell(Answer::Progress {
                        phase: Phase::PostData,
                        done: done.load(Ordering::Relaxed).min(total),
                        total: Some(total),
                        unit: "statements".into(),
                    });
                }
            }
        }
    }

    fn watch_disks_after(&self, watched: &mut u64, bytes: u64) -> Result<()> {
        if bytes - *watched < WATCH_EVERY {
            return Ok(());
        }
        *watched = bytes;
        self.watch_disks()
    }

    /// A full disk stops the live cluster too: the load gives way before.
    fn watch_disks(&self) -> Result<()> {
        if self.options.accept.iter().any(|code| code == "disk_space") {
            return Ok(());
        }
        room::watch(self.target)
    }

    fn tell(&self, done: u64, total: Option<u64>) {
        self.audience.tell(Answer::Progress { phase: Phase::Data, done, total, unit: "bytes".into() });
    }
}

/// What the dump had, by table.
#[derive(Default)]
struct Tally {
    table: Option<QualifiedName>,
    table_rows: HashMap<QualifiedName, u64>,
    table_bytes: HashMap<QualifiedName, u64>,
    /// Rows that came as statements, whose count PostgreSQL does not answer.
    inserted_rows: HashMap<QualifiedName, u64>,
    skippable: HashMap<QualifiedName, u64>,
    bytes: u64,
}

impl Tally {
    fn start(&mut self, table: &QualifiedName) {
        self.table_rows.entry(table.clone()).or_default();
        self.table_bytes.entry(table.clone()).or_default();
        self.table = Some(table.clone());
    }

    fn rows(&mut self, bytes: u64, rows: u64) {
        self.bytes += bytes;
        if let Some(table) = &self.table {
            *self.table_rows.entry(table.clone()).or_default() += rows;
            *self.table_bytes.entry(table.clone()).or_default() += bytes;
        }
    }

    fn inserted(&mut self, inserted: Inserted, bytes: u64) {
        let Inserted { table, rows, may_skip } = inserted;
        self.bytes += bytes;
        *self.table_bytes.entry(table.clone()).or_default() += bytes;
        if may_skip {
            *self.skippable.entry(table.clone()).or_default() += rows;
        }
        *self.inserted_rows.entry(table).or_default() += rows;
    }

    /// The rows of either kind, by the name that SQL takes.
    fn all_rows(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (table, rows) in self.table_rows.iter().chain(&self.inserted_rows) {
            *all.entry(table.quoted()).or_default() += *rows;
        }
        all
    }

    /// Every row that was sent was taken.
    fn check(&self, taken: &[copy::Taken]) -> Result<()> {
        let mut by_server: HashMap<&QualifiedName, u64> = HashMap::new();
        for part in taken {
            *by_server.entry(&part.table).or_default() += part.rows;
        }
        for (table, rows) in &self.table_rows {
            let server = by_server.get(table).copied().unwrap_or(0);
            if server != *rows {
                return Err(Problem::new(
                    Kind::NotProven,
                    "row_count",
                    format!("{table} has {rows} rows in the dump and PostgreSQL took {server}"),
                    "the live system is untouched; please report this",
                ));
            }
        }
        Ok(())
    }
}

/// The large object that is being written, and up to where.
#[derive(Default)]
struct LargeObject {
    oid: u32,
    offset: i64,
}

impl LargeObject {
    async fn start(&mut self, client: &Client, oid: u32, create: bool) -> Result<()> {
        *self = Self { oid, offset: 0 };
        if create {
            client
                .execute("SELECT pg_catalog.lo_create($1)", &[&oid])
                .await
                .map_err(pg::failed("creating a large object"))?;
        }
        Ok(())
    }

    async fn write(&mut self, client: &Client, bytes: &[u8]) -> Result<()> {
        client
            .execute("SELECT pg_catalog.lo_put($1, $2, $3)", &[&self.oid, &self.offset, &bytes])
            .await
            .map_err(pg::failed("writing a large object"))?;
        self.offset += bytes.len() as i64;
        Ok(())
    }
}
