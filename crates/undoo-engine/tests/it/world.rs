//! A target with a live pair, a restore of it, and the one question that matters afterwards: is exactly
//! one whole pair live?

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use undoo_core::{
    Kind, Move, Problem, RestoreId, Side,
    pair::{loader_role, parked_database},
};
use undoo_engine::{
    home::{Home, marker},
    lock::{Locked, Work},
    order::{Answer, Audience, Failure, Intent, Options, Parts, Strategy, Target},
    orders::{Order, Session},
    outgoing::HeldOutgoing,
    record::{Record, State},
    restore::{self, Assignment, Preparation, Report},
    source,
    swap::{Checkpoint, Services, Swap},
};
use undoo_storage::{Access, Meter};

use crate::{
    odoo::{files, fname, odoo_zip, readable, write_filestore},
    server::{Server, quoted},
};

/// A target on a server, with its own directory of filestores.
pub struct World<'s> {
    pub server: &'s Server,
    pub folder: tempfile::TempDir,
    _filestores: tempfile::TempDir,
    pub target: Target,
}

/// A file that only the live filestore has.
pub const BORN_LATER: &[u8] = b"born after the backup";

impl<'s> World<'s> {
    /// A target without a database.
    pub fn empty(server: &'s Server) -> Self {
        Self::named(server, &server.unique("acme"))
    }

    /// A target without a database, whose database has this name.
    pub fn named(server: &'s Server, database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Every step of a cutover is synced to disk; in memory that costs nothing.
        let filestores = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        readable(filestores.path());
        let root = filestores.path().join("filestore");
        fs::create_dir(&root).unwrap();
        let target = Target {
            admin: server.access("postgres"),
            owner: "odoo".into(),
            owner_assumed: false,
            database: database.to_owned(),
            filestore_root: root,
            files_owner: None,
            shares_disk: false,
            database_disks: Vec::new(),
            database_pinned: false,
            name: "the tested target".into(),
            odoo_major: Some(17),
        };
        Self { server, folder, _filestores: filestores, target }
    }

    /// A target with a live pair that differs from the source in a row and a file.
    pub fn live(server: &'s Server) -> Self {
        let world = Self::empty(server);
        world.make_live();
        world
    }

    /// Makes the live pair.
    pub fn make_live(&self) {
        let name = undoo_engine::pg::ident(&self.target.database);
        let owner = undoo_engine::pg::ident(&self.target.owner);
        self.server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE source OWNER {owner}"));
        let row = "INSERT INTO ir_config_parameter (key, value) VALUES ('side', 'replaced')";
        self.server.psql(&self.target.database, row);
        let mut all = files();
        all.push((fname(BORN_LATER), BORN_LATER.to_vec()));
        write_filestore(&self.live_directory(), &all);
    }

    pub fn live_directory(&self) -> PathBuf {
        self.target.filestore_root.join(&self.target.database)
    }

    pub fn home(&self) -> Home {
        Home::of(&self.target.filestore_root)
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The source as an ordinary backup.
    pub fn backup(&self) -> PathBuf {
        odoo_zip(&self.path("backup.zip"), &self.server.plain_dump(), &files())
    }

    /// An order to restore here.
    pub fn work(&self) -> Assignment {
        Assignment {
            id: RestoreId::generate(),
            target: self.target.clone(),
            options: Options {
                parts: Parts::All,
                strategy: Strategy::Beside,
                accept: Vec::new(),
                trusted_keys: Vec::new(),
                trust_size: false,
                undo_window_hours: 24,
                jobs: 2,
                maintenance_mib: 32,
            },
            loader_password: undoo_engine::pg::random_password().unwrap(),
        }
    }

    /// The restore's record as it is on the target.
    pub fn record(&self, id: &RestoreId) -> Record {
        Record::read(&self.home(), id).unwrap().expect("a record")
    }

    /// Whether a database of this name exists.
    pub fn has_database(&self, name: &str) -> bool {
        self.server.psql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = {}", quoted(name)))
            == "1"
    }

    /// No database, role or directory of this restore is on the target.
    pub fn assert_nothing_left(&self, id: &RestoreId) {
        let of_it = format!("'undoo_{}_%'", id.short());
        let databases = self
            .server
            .psql("postgres", &format!("SELECT datname FROM pg_database WHERE datname LIKE {of_it}"));
        assert_eq!(databases, "", "databases of the restore are left");
        self.assert_no_role(id);
        assert!(!self.home().restore(id).exists(), "the restore's directory is left");
    }

    /// The loader role does not exist.
    pub fn assert_no_role(&self, id: &RestoreId) {
        let role = quoted(&loader_role(id));
        assert_eq!(
            self.server.psql("postgres", &format!("SELECT 1 FROM pg_roles WHERE rolname = {role}")),
            ""
        );
    }

    /// The live database is the one with this OID, open, with its row and its file.
    pub fn assert_untouched(&self, oid: &str) {
        self.assert_untouched_but(oid, "");
    }

    /// As [`World::assert_untouched`], where the test itself has changed one file.
    pub fn assert_untouched_but(&self, oid: &str, changed: &str) {
        assert_eq!(self.oid(&self.target.database), oid);
        let side = self
            .server
            .psql(&self.target.database, "SELECT value FROM ir_config_parameter WHERE key = 'side'");
        assert_eq!(side, "replaced");
        let file = self.live_directory().join(fname(BORN_LATER));
        assert_eq!(fs::read(file).unwrap(), BORN_LATER);
        for (name, content) in files().into_iter().filter(|(name, _)| name != changed) {
            assert!(fs::read(self.live_directory().join(&name)).unwrap() == content, "{name} was changed");
        }
    }

    /// OID of a database, as text; empty when there is none.
    pub fn oid(&self, database: &str) -> String {
        self.server
            .psql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = {}", quoted(database)))
    }

    /// Exactly one whole pair is live; answers which.
    pub async fn whole(&self, id: &RestoreId, services: &Recorder) -> Side {
        let record = self.record(id);
        let State::Live { side } = record.state else { panic!("the record says {:?}", record.state) };
        let other = side.other();
        let live_name = &self.target.database;
        let names = [live_name.clone(), parked_database(id, side), parked_database(id, other)];
        let sql = "SELECT datname::text, oid, datallowconn, pg_get_userbyid(datdba)::text FROM pg_database \
                   WHERE datname = ANY($1)";
        let client = self.target.admin.connect("postgres").await.unwrap();
        let rows = client.query(sql, &[&names.as_slice()]).await.unwrap();
        let databases: HashMap<String, (u32, bool, String)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect();
        let oid = |side| match side {
            Side::Restored => record.restored_oid,
            Side::Replaced => record.replaced_oid,
        };
        let live = databases.get(live_name);
        assert_eq!(live.map(|found| found.0), oid(side), "the live name has another database");
        let kept = databases.get(&names[2]);
        assert_eq!(kept.map(|found| found.0), oid(other), "the other side is not parked");
        assert_eq!(databases.get(&names[1]), None);
        if let Some((_, open, owner)) = live {
            assert!(open, "the live database is closed");
            assert_eq!(*owner, self.target.owner);
        }
        assert!(kept.is_none_or(|(_, open, _)| !open), "the kept database is open");
        let directory = self.live_directory();
        if directory.exists() || oid(side).is_some() {
            let marker = marker(&directory).expect("a marker in the live directory");
            assert_eq!((marker.restore, marker.side), (*id, side), "the live directory is of the other side");
            let later = directory.join(fname(BORN_LATER)).exists();
            let kept_has_it = self.home().parked(id, other).join(fname(BORN_LATER)).exists();
            // Where only one tree has it, it is the one that was live when the file was born.
            assert!(later == kept_has_it || later == (side == Side::Replaced));
            assert!(later == kept_has_it || record.parts != Parts::Database);
        }
        let parked = self.home().parked(id, other);
        assert_eq!(parked.exists(), oid(other).is_some(), "the other side's directory is not parked");
        assert!(!self.home().parked(id, side).exists());
        assert!(services.running.load(Ordering::SeqCst), "the services were not started");
        side
    }
}

/// Opens a local backup; the meter counts what is read of it.
pub async fn open(path: &Path) -> (std::sync::Arc<undoo_archive::backup::Backup>, Meter) {
    let options = undoo_storage::Options::default();
    let meter = options.meter.clone();
    let backup = source::open(&Access::Local { path: path.to_owned() }, &options).await.unwrap();
    (backup, meter)
}

/// Nobody.
pub fn nobody(_: Answer) {}

/// The target's lock, for work on this restore.
pub async fn lock(work: &Assignment) -> undoo_core::Result<Locked> {
    Locked::take(&work.target, Work::Restore(work.id)).await
}

/// Stages a backup.
pub async fn stage(work: &Assignment, backup: &Path) -> Result<Report, Failure> {
    let (opened, _) = open(backup).await;
    stage_opened(work, &backup.display().to_string(), opened, &nobody).await
}

/// Stages an opened backup.
pub async fn stage_opened(
    work: &Assignment,
    name: &str,
    backup: std::sync::Arc<undoo_archive::backup::Backup>,
    audience: &dyn Audience,
) -> Result<Report, Failure> {
    restore::stage(&lock(work).await?, work, name, backup, audience).await
}

/// Prepares a staged pair.
pub async fn prepare(work: &Assignment, preparation: &Preparation) -> undoo_core::Result<HeldOutgoing> {
    restore::prepare(&lock(work).await?, work, preparation).await
}

/// Accepts a staged pair.
pub async fn accept(work: &Assignment) -> undoo_core::Result<()> {
    restore::accept(&lock(work).await?, work).await
}

/// Takes a staged pair back.
pub async fn discard(target: &Target, id: &RestoreId) -> undoo_core::Result<()> {
    restore::discard(&Locked::take(target, Work::Restore(*id)).await?, target, id).await
}

/// Has an order carried out by a session of its own.
pub async fn carry_out(order: Order, audience: &dyn Audience) -> Result<serde_json::Value, Failure> {
    Session::default().carry_out(order, audience).await
}

/// What a recovery of the same instance asks for, without the proof, which needs an Odoo.
pub fn preparation() -> Preparation {
    Preparation {
        intent: Intent::Recover,
        renew_identity: false,
        neutralize_in_sql: false,
        hold_outgoing: false,
        clone: false,
    }
}

/// Everything up to the cutover.
pub async fn stage_and_accept(work: &Assignment, backup: &Path) -> Report {
    let report = stage(work, backup).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    prepare(work, &preparation()).await.unwrap();
    accept(work).await.unwrap();
    report
}

/// The codes of the findings that stopped an order.
pub fn codes(failure: &Failure) -> Vec<&str> {
    failure.findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// Services that note what is asked of them.
pub struct Recorder {
    pub calls: Mutex<Vec<&'static str>>,
    pub running: AtomicBool,
    /// How many times Odoo does not answer.
    pub unhealthy: AtomicU32,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { calls: Mutex::default(), running: AtomicBool::new(true), unhealthy: AtomicU32::new(0) }
    }
}

impl Recorder {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Services for Recorder {
    async fn stop(&self) -> undoo_core::Result<()> {
        self.note("stop");
        self.running.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn start(&self) -> undoo_core::Result<()> {
        self.note("start");
        self.running.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn await_health(&self) -> undoo_core::Result<()> {
        self.note("health");
        let sick = |left: u32| left.checked_sub(1);
        match self.unhealthy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sick) {
            Ok(_) => Err(Problem::new(Kind::Unavailable, "no_answer", "no answer", "")),
            Err(_) => Ok(()),
        }
    }
}

/// Where a cutover is to break off: the nth checkpoint that it reaches, counted from 1.
pub struct Crash {
    left: AtomicU32,
    pub at: Mutex<Option<(Move, bool)>>,
}

impl Crash {
    pub fn at(nth: u32) -> Self {
        Self { left: AtomicU32::new(nth), at: Mutex::default() }
    }

    pub fn never() -> Self {
        Self::at(0)
    }

    fn check(&self, step: Move, done: bool) -> undoo_core::Result<()> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        self.left.store(left - 1, Ordering::SeqCst);
        if left > 1 {
            return Ok(());
        }
        *self.at.lock().unwrap() = Some((step, done));
        Err(Problem::new(Kind::Internal, "crash", format!("{step:?} {done}"), ""))
    }
}

/// A cutover of the world's target, which calls `checkpoint` before and after each move.
pub fn swap<'a, S>(
    world: &'a World<'_>,
    home: &'a Home,
    services: &'a S,
    checkpoint: Checkpoint<'a>,
) -> Swap<'a, S> {
    Swap { target: &world.target, home, services, audience: &nobody, auto_rollback: true, checkpoint }
}

/// Brings a side to life, from the record that is on the target, as a new process would.
pub async fn make_live(
    world: &World<'_>,
    id: &RestoreId,
    to: Side,
    services: &Recorder,
    crash: &Crash,
) -> undoo_core::Result<()> {
    let mut record = world.record(id);
    let home = world.home();
    let checkpoint = |step, done| crash.check(step, done);
    let locked = Locked::take(&world.target, Work::Cutover(*id)).await?;
    swap(world, &home, services, &checkpoint).make_live(&locked, &mut record, to).await
}

/// Cuts over without trouble.
pub async fn cut_over(world: &World<'_>, id: &RestoreId, to: Side) -> Recorder {
    let services = Recorder::default();
    make_live(world, id, to, &services, &Crash::never()).await.unwrap();
    assert_eq!(world.whole(id, &services).await, to);
    services
}
