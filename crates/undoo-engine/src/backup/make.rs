//! Making a backup, from the first link to the last byte read back, on a thread that may block.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use undoo_archive::{
    error::carry,
    manifest::ours::{OdooKeys, Undoo, Warning},
    verify::{self, Level},
    write::{BackupWriter, Description, Settings},
};
use undoo_core::{Kind, Problem, Result, Sign, signature};
use undoo_storage::{BlockingUpload, CancellationToken, Options, Retry, Stat, Storage};

use super::{
    Assignment, Event, Made,
    addons::{self, Addons},
    cancelled,
    dump::{self, Collector, Dump, Facts, Moment},
    kept::Kept,
    snapshot::{Dead, Snapshot},
};
use crate::{
    catalog::verification_key,
    encryption::{Identities, Outgoing},
    home::{Home, at},
    order::{Answer, Phase, Target},
    room, source,
};

/// How often progress is told.
const OFTEN: Duration = Duration::from_millis(200);
/// Members that are read at the same time when a backup is read back.
const READ_BACK_JOBS: usize = 4;

pub(super) struct Maker {
    work: Assignment,
    /// The target, with the database that is dumped as it is called now.
    target: Target,
    /// Its files.
    files: PathBuf,
    runtime: Handle,
    cancel: CancellationToken,
    events: mpsc::UnboundedSender<Event>,
    signed: Mutex<Option<oneshot::Receiver<String>>>,
}

impl Maker {
    /// Must be called on a runtime.
    pub(super) fn new(
        work: Assignment,
        kept: Option<&Kept>,
        cancel: CancellationToken,
        events: mpsc::UnboundedSender<Event>,
        signed: oneshot::Receiver<String>,
    ) -> Self {
        let (target, files) = match kept {
            Some(kept) => (kept.target.clone(), kept.files.clone()),
            None => (work.target.clone(), work.target.filestore_root.join(&work.target.database)),
        };
        let signed = Mutex::new(Some(signed));
        Self { work, target, files, runtime: Handle::current(), cancel, events, signed }
    }

    /// Makes the backup.
    ///
    /// # Errors
    /// With everything taken back. Only an upload that could not be is left, and known to the next backup.
    pub(super) fn make(self) -> Result<Made> {
        let began = Instant::now();
        let object = &self.work.object;
        let storage =
            self.work.storage.storage(&Options { cancel: self.cancel.clone(), ..Options::default() })?;
        // Tidying up goes on after the work was cancelled; it is not what one has to wait for.
        let brief = Retry { attempts: 3, ..Retry::default() };
        let tidy = Tidy {
            storage: self.work.storage.access().storage(&Options { retry: brief, ..Options::default() })?,
            runtime: self.runtime.clone(),
        };
        let home = Home::of(&self.work.target.filestore_root);
        tidy.sweep(&home, &object.place)?;
        if self.runtime.block_on(storage.stat(&object.key))?.is_some() {
            return Err(Problem::new(
                Kind::Conflict,
                "backup_exists",
                format!("the storage has {} already", object.key),
                "nothing is written over: run it again, and the backup gets a later name",
            ));
        }
        let mut snapshot = Snapshot::create(&home, &self.work.id, object)?;
        let written = self.write(&*storage, &mut snapshot);
        if let Err(left) = snapshot.let_go() {
            tracing::warn!(%left, "links stay until the next backup");
        }
        let (undoo, stat, keys) = match written {
            Ok(written) => written,
            Err(problem) => {
                if tidy.clear(&object.key) {
                    snapshot.end()?;
                }
                return Err(problem);
            }
        };
        let outcome = match self.read_back(&*storage, &keys) {
            Ok(()) => Ok(made(&self.work, undoo, &stat, began.elapsed())),
            // What was called off, and what is not what was written.
            Err(problem) if matches!(problem.kind, Kind::Cancelled | Kind::NotProven | Kind::Invalid) => {
                // Else the next backup finds it.
                if tidy.remove(&object.key) {
                    snapshot.end()?;
                }
                return Err(problem);
            }
            // Nobody has said that anything is wrong with it.
            Err(problem) => Err(unverified(&self.work, &problem)),
        };
        snapshot.end()?;
        outcome
    }

    fn write(&self, storage: &dyn Storage, snapshot: &mut Snapshot) -> Result<(Undoo, Stat, Identities)> {
        let (moment, unheld) = self.hold(snapshot)?;
        let expected = moment.facts.bytes.saturating_add(snapshot.size().1);
        let upload = storage.write(&self.work.object.key, Some(expected))?;
        let mut upload = BlockingUpload::new(self.runtime.clone(), upload);
        match self.fill(&mut upload, snapshot, moment, unheld) {
            Ok((undoo, keys)) => Ok((undoo, upload.finish()?, keys)),
            Err(problem) => {
                if let Err(left) = upload.abort() {
                    tracing::warn!(%left, "what was sent of a backup could not be removed");
                }
                Err(problem)
            }
        }
    }

    /// Links the files and holds the moment that they belong to.
    ///
    /// Whatever an attachment names at that moment is there when files are linked for the second time,
    /// since nobody may have removed any in between. So nothing that the dump names is missing, whenever
    /// it was born and however soon it goes. The first time makes the second one short.
    ///
    /// Answers the moment, and whether somebody may have removed files all the same.
    fn hold(&self, snapshot: &mut Snapshot) -> Result<(Moment, bool)> {
        let target = &self.target;
        let link = |snapshot: &mut Snapshot| match self.work.database_only {
            true => Ok(()),
            false => snapshot.link(&self.files, &|| self.go_on(), &|| room::watch(target)),
        };
        self.phase(Phase::Snapshot);
        link(snapshot)?;
        let collector = self.unless_cancelled(Collector::keep_away(target))?;
        let moment = self.unless_cancelled(Moment::hold(target))?;
        link(snapshot)?;
        let unheld = self.runtime.block_on(collector.let_go())?;
        Ok((moment, unheld))
    }

    /// Writes it; answers what was written, and what reads it back if it is encrypted.
    fn fill(
        &self,
        upload: &mut BlockingUpload,
        snapshot: &Snapshot,
        moment: Moment,
        unheld: bool,
    ) -> Result<(Undoo, Identities)> {
        let work = &self.work;
        let settings =
            Settings { level: work.level, threads: work.threads.max(1), created_at: work.created_at };
        let mut out = Outgoing::new(upload, &work.recipients)?;
        let keys = out.read_back();
        let mut writer = BackupWriter::new(&mut out, settings)?;
        writer.vouch_for_code();

        self.phase(Phase::Dump);
        let program = dump::program(moment.facts.major, work.pg_dump.as_deref())?;
        let dump = Dump::start(&self.runtime, &program, &self.target, &moment, &work.id, &self.cancel)?;
        writer.database(&mut self.told(dump, &Told::of(Phase::Dump, None)))?;
        let facts = moment.end();
        self.event(Event::Dumped);

        self.phase(Phase::Store);
        let (_, bytes) = snapshot.size();
        let told = Told::of(Phase::Store, Some(bytes));
        for (hash, path) in snapshot.files() {
            let file = File::open(&path).map_err(at("open", &path))?;
            writer.file(hash, &mut self.told(file, &told))?;
        }
        let mut addons = addons::collect(&work.addons);
        let told = Told::of(Phase::Store, None);
        for (member, path) in std::mem::take(&mut addons.files) {
            let Ok(file) = File::open(&path) else {
                addons.left_out.push(member);
                continue;
            };
            match writer.addon(&member, &mut self.told(file, &told)) {
                // A name that readers refuse.
                Err(problem) if problem.kind == Kind::Refused => addons.left_out.push(member),
                written => written?,
            }
        }
        let description = self.describe(&facts, addons, snapshot, unheld);
        let (_, undoo) = writer.finish(description, Some(&Asking(self)))?;
        out.finish()?;
        Ok((undoo, keys))
    }

    fn describe(&self, facts: &Facts, addons: Addons, snapshot: &Snapshot, unheld: bool) -> Description {
        let work = &self.work;
        let mut environment = work.environment.clone();
        environment.database.clone_from(&work.target.database);
        environment.postgres_version = Some(facts.server_version.clone());
        let odoo = odoo_keys(facts, environment.odoo_version.as_deref(), &work.target.database);
        if environment.odoo_version.is_none() && !odoo.version.is_empty() {
            environment.odoo_version = Some(odoo.version.clone());
        }
        environment.addons = addons.folders;
        let mut warnings = Vec::new();
        let mut warn = |code: &str, message: String| warnings.push(Warning { code: code.into(), message });
        if unheld && !work.database_only {
            warn(
                "collector_not_held",
                "the role may not lock ir_attachment, so Odoo may have removed a file that the dump names"
                    .to_owned(),
            );
        }
        let (copied, strangers) = snapshot.oddities();
        if copied > 0 {
            warn("files_copied", format!("{copied} files could not be linked and were copied for the time"));
        }
        if strangers > 0 {
            warn(
                "strange_files",
                format!(
                    "{strangers} entries of the filestore are not named as Odoo names files; they were left out"
                ),
            );
        }
        if let Some(first) = addons.left_out.first() {
            warn(
                "addons_left_out",
                format!(
                    "{} files of custom modules could not be read, or have names that no reader takes: {first}",
                    addons.left_out.len()
                ),
            );
        }
        Description {
            backup_id: work.id,
            undoo_version: work.undoo_version.clone(),
            organisation: Some(work.organisation.clone()),
            odoo,
            environment,
            database_only: work.database_only,
            warnings,
        }
    }

    /// Reads the backup where it lies now, and holds it against what its manifest says.
    fn read_back(&self, storage: &dyn Storage, keys: &Identities) -> Result<()> {
        self.phase(Phase::ReadBack);
        let key = &self.work.object.key;
        let object = self.runtime.block_on(storage.open(key))?;
        let backup = source::of_object(self.runtime.clone(), object, key, keys)?;
        let (cancel, events) = (self.cancel.clone(), self.events.clone());
        let told = Mutex::new(None);
        let progress = move |done, total| {
            let mut last = told.lock().unwrap_or_else(PoisonError::into_inner);
            if due(&mut last) {
                let _ = events.send(progress(Phase::ReadBack, done, Some(total)));
            }
            if cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
        };
        let options = verify::Options { level: Level::Checksums, jobs: READ_BACK_JOBS };
        let report = verify::verify(&backup, &options, Arc::new(progress))?;
        if report.is_whole() && report.backup_id == Some(self.work.id) {
            return Ok(());
        }
        let parts = report.parts.iter().filter(|part| part.holds == Some(false));
        let wrong: Vec<&str> = parts
            .map(|part| part.part.as_str())
            .chain(report.broken.first.iter().map(|broken| broken.member.as_str()))
            .take(5)
            .collect();
        Err(Problem::new(
            Kind::NotProven,
            "backup_not_as_written",
            format!("what the storage gives back is not what was written: {}", wrong.join(", ")),
            "it was removed; test the storage with `undoo storage test`, then run it again",
        ))
    }

    /// A reader that ends when the work is cancelled, and tells how far it is.
    fn told<'a, R>(&'a self, inner: R, told: &'a Told) -> Telling<'a, R> {
        Telling { inner, maker: self, told }
    }

    fn go_on(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits for what may take as long as somebody else's lock.
    fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.cancel.cancelled() => Err(cancelled()),
            }
        })
    }

    fn phase(&self, phase: Phase) {
        self.event(Event::Tell(Answer::Phase { phase }));
    }

    fn event(&self, event: Event) {
        // Where nobody listens any more, the work is about to be cancelled.
        let _ = self.events.send(event);
    }
}

/// Whether it is time to tell something again.
fn due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= OFTEN);
    if due {
        *last = Some(Instant::now());
    }
    due
}

fn progress(phase: Phase, done: u64, total: Option<u64>) -> Event {
    Event::Tell(Answer::Progress { phase, done, total, unit: "bytes".into() })
}

/// How far a phase is.
struct Told {
    phase: Phase,
    total: Option<u64>,
    done: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl Told {
    fn of(phase: Phase, total: Option<u64>) -> Self {
        Self { phase, total, done: Cell::new(0), last: Cell::new(None) }
    }
}

struct Telling<'a, R> {
    inner: R,
    maker: &'a Maker,
    told: &'a Told,
}

impl<R: Read> Read for Telling<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.maker.go_on().map_err(carry)?;
        let read = self.inner.read(buffer)?;
        let told = self.told;
        told.done.set(told.done.get().saturating_add(read as u64));
        let mut last = told.last.get();
        if due(&mut last) {
            told.last.set(last);
            self.maker.event(progress(told.phase, told.done.get(), told.total));
        }
        Ok(read)
    }
}

/// A signer that asks whoever gave the order.
struct Asking<'a>(&'a Maker);

impl Sign for Asking<'_> {
    fn public_key(&self) -> String {
        self.0.work.public_key.clone()
    }

    fn sign(&self, bytes: &[u8]) -> Result<String> {
        let maker = self.0;
        maker.event(Event::Unsigned(String::from_utf8_lossy(bytes).into_owned()));
        let asked = maker.signed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let signature = maker.unless_cancelled(async {
            match asked {
                Some(asked) => asked.await.map_err(|_| cancelled()),
                None => Err(cancelled()),
            }
        })?;
        if signature::holds(&self.public_key(), &signature, bytes) {
            return Ok(signature);
        }
        Err(Problem::new(
            Kind::Invalid,
            "signature",
            "the signature that came is not one of the manifest",
            "see that both sides are the same version of undoo",
        ))
    }
}

/// The storage, for putting it in order.
struct Tidy {
    storage: Arc<dyn Storage>,
    runtime: Handle,
}

impl Tidy {
    /// Takes away what backups have left whose processes died: their links, what they had begun to write to
    /// this storage, and what they had written and not read back. What they wrote to another one stays known
    /// for a backup that goes there.
    fn sweep(&self, home: &Home, place: &str) -> Result<()> {
        for dead in Dead::all(home)? {
            let gone = match &dead.object {
                Some(object) if object.place == place => {
                    self.clear(&object.key) && self.remove_unread(&object.key)
                }
                Some(_) => false,
                None => true,
            };
            if gone {
                dead.bury()?;
            }
        }
        Ok(())
    }

    /// Removes what was written whole and not read back, unless somebody has verified it since; answers
    /// whether that is settled.
    fn remove_unread(&self, key: &str) -> bool {
        match self.runtime.block_on(self.storage.stat(&verification_key(key))) {
            Ok(Some(_)) => true,
            Ok(None) => self.remove(key),
            Err(problem) => {
                tracing::warn!(%problem, key, "whether a backup was verified since is not known");
                false
            }
        }
    }

    /// Removes a backup that is not to stay; answers whether it is gone.
    fn remove(&self, key: &str) -> bool {
        let removed = self.runtime.block_on(self.storage.delete(key));
        if let Err(problem) = &removed {
            tracing::warn!(%problem, key, "a backup that was not read back could not be removed");
        }
        removed.is_ok()
    }

    /// Removes unfinished uploads of a key; answers whether there are none any more.
    fn clear(&self, key: &str) -> bool {
        let cleared = self.runtime.block_on(async {
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut found = self.storage.unfinished(&format!("{folder}/")).await?;
            found.retain(|unfinished| unfinished.key == key);
            if found.is_empty() {
                // MinIO knows them by their whole key only; others take none that is no folder's.
                found = match self.storage.unfinished(key).await {
                    Err(problem) if problem.kind == Kind::Invalid => Vec::new(),
                    found => found?,
                };
            }
            for unfinished in &found {
                self.storage.discard(unfinished).await?;
            }
            Ok::<_, Problem>(())
        });
        if let Err(problem) = &cleared {
            tracing::warn!(%problem, key, "unfinished uploads could not be removed");
        }
        cleared.is_ok()
    }
}

fn unverified(work: &Assignment, problem: &Problem) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "backup_not_read_back",
        format!("{} was written whole, and could not be read back: {problem}", work.object.key),
        "it stays where it is; `undoo verify` says whether it holds once the storage answers again",
    )
}

fn made(work: &Assignment, undoo: Undoo, stat: &Stat, took: Duration) -> Made {
    let database = undoo.parts.database.unwrap_or_default();
    let tree = undoo.parts.filestore.map(|tree| (tree.files, tree.bytes)).unwrap_or_default();
    Made {
        id: work.id,
        object: work.object.clone(),
        bytes: stat.size,
        dump_bytes: database.bytes,
        rows: database.tables.map(|tables| tables.iter().map(|table| table.rows).sum()),
        files: tree.0,
        files_bytes: tree.1,
        addons: undoo.parts.addons.map_or(0, |tree| tree.files),
        warnings: undoo.warnings,
        verified: true,
        seconds: took.as_secs_f64(),
    }
}

/// Odoo's own keys, as its `dump_db_manifest` writes them.
fn odoo_keys(facts: &Facts, release: Option<&str>, database: &str) -> OdooKeys {
    // A module's version begins with that of the Odoo that it was installed in.
    let base = facts.modules.get("base").and_then(Option::as_deref).unwrap_or_default();
    let installed: Vec<&str> = base.splitn(3, '.').take(2).collect();
    let major_version = match installed.as_slice() {
        [_, _] => installed.join("."),
        _ => release.unwrap_or_default().to_owned(),
    };
    let version = release.filter(|release| release.starts_with(&major_version)).unwrap_or(&major_version);
    let version_info = match major_version.split_once('.') {
        Some((major, minor)) => {
            let number = |text: &str| text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from);
            vec![number(major), number(minor), json!(0), json!("final"), json!(0), json!("")]
        }
        None => Vec::new(),
    };
    OdooKeys {
        odoo_dump: "1".into(),
        db_name: database.to_owned(),
        version: version.to_owned(),
        version_info,
        major_version,
        pg_version: format!("{}.0", facts.major),
        modules: facts.modules.clone(),
    }
}
