//! Whether a backup still is what it was: read to its last byte, held against all that is known of it.
//!
//! `checksums` reads every member and compares checksums: those of the ZIP, and of our own backups those
//! of the manifest. `deep` also hashes every file of the filestore against its name, reads the dump as a
//! restore would, and matches its attachments with the files. Nothing is loaded anywhere and nothing is
//! written. What is wrong with one member does not keep the others from being looked at; only a storage
//! that does not answer ends it.

mod database;
mod files;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use undoo_core::{BackupId, Finding, Kind, Problem, Result};

use crate::{
    Backup,
    container::shown,
    error::carry,
    filestore::FilestorePart,
    layout::Layout,
    manifest::ours::{DumpRecord, MOST_LISTED, SignatureState, TreeRecord, Undoo},
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every checksum. Of a backup that is not ours: those of its container, if it has any, and of its
    /// manifest.
    Checksums,
    /// Also every file's SHA-1, the dump as a restore reads it, and its attachments against the files.
    Deep,
}

/// How to look.
#[derive(Debug, Clone)]
pub struct Options {
    /// How closely.
    pub level: Level,
    /// Members that are read at the same time, where they are many.
    pub jobs: usize,
}

/// Told how many bytes of content have been read, and of how many. An error that it answers ends the
/// work, and is answered.
pub type Progress = Arc<dyn Fn(u64, u64) -> Result<()> + Send + Sync>;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How closely it was looked at.
    pub level: Level,
    /// Who makes such backups.
    pub layout: Layout,
    /// The backup's id, of one of ours.
    pub backup_id: Option<BackupId>,
    /// Whether its manifest is signed, and whether the signature holds.
    pub signature: SignatureState,
    /// Public half of the key that signed.
    pub public_key: Option<String>,
    /// Members that were read to their end.
    pub members: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Files of the filestore that were read to their end.
    pub files: u64,
    /// Parts held against the manifest.
    pub parts: Vec<PartCheck>,
    /// Members that are damaged, or not what the manifest says.
    pub broken: Listed<Broken>,
    /// Files of the filestore whose content is not their name.
    pub corrupt: Listed<Corrupt>,
    /// Attachments and files, matched. Only where the level is deep, and both are there.
    pub attachments: Option<AttachmentCheck>,
    /// What else there is to know.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything that was looked at is as it should be.
    pub fn is_whole(&self) -> bool {
        self.broken.total == 0
            && self.corrupt.total == 0
            && self.signature != SignatureState::Invalid
            && self.parts.iter().all(|part| part.holds != Some(false))
            && self.attachments.as_ref().is_none_or(|found| found.missing.total == 0)
    }
}

/// The first of many, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// How many there are.
    pub total: u64,
    /// The first ten thousand.
    pub first: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { total: 0, first: Vec::new() }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, one: T) {
        self.total += 1;
        if self.first.len() < MOST_LISTED {
            self.first.push(one);
        }
    }
}

/// A part and its checksums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartCheck {
    /// `database`, `filestore` or `addons`.
    pub part: String,
    /// Bytes of its content.
    pub bytes: u64,
    /// SHA-256, hexadecimal; of trees as [`TreeRecord`] defines it, of one member that member's.
    pub sha256: String,
    /// MD5, as `sha256`.
    pub md5: String,
    /// Whether the manifest says the same; none where it says nothing.
    pub holds: Option<bool>,
}

/// A member that is damaged, or not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Its name.
    pub member: String,
    /// Stable name of what is wrong.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A file whose content is not its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrupt {
    /// Its path in the filestore.
    pub store_fname: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An attachment that something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentOf {
    /// `ir_attachment.id`.
    pub attachment: i64,
    /// `ir_attachment.name`.
    pub name: String,
    /// Where its file should be.
    pub store_fname: String,
}

/// How the dump's attachments and the files match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentCheck {
    /// Attachments that name a file.
    pub attachments: u64,
    /// Those whose file is there and holds, with the size and checksum that the row has.
    pub matched: u64,
    /// Those whose file is not there.
    pub missing: Listed<AttachmentOf>,
    /// Those whose file holds, and whose row has another size or checksum.
    pub differing: Listed<AttachmentOf>,
    /// Files that no attachment names; Odoo's garbage collector takes them in time.
    pub orphans: Listed<String>,
    /// Attachments kept elsewhere, which are not checked.
    pub external: u64,
    /// Attachments whose bytes are in the database.
    pub in_database: u64,
}

/// Looks at a backup.
///
/// # Errors
/// `Unavailable` when the storage does not answer, and whatever `progress` answers. What is wrong with
/// the backup is in the report.
pub fn verify(backup: &Backup, options: &Options, progress: Progress) -> Result<Report> {
    let manifest = backup.manifest.as_ref();
    let ours = manifest.and_then(|manifest| manifest.undoo.as_deref());
    let report = Report {
        level: options.level,
        layout: backup.layout,
        backup_id: ours.map(|ours| ours.backup_id),
        signature: manifest.map(|manifest| manifest.signature).unwrap_or_default(),
        public_key: ours.and_then(|ours| ours.public_key.as_ref()).map(shown),
        members: 0,
        bytes: 0,
        files: 0,
        parts: Vec::new(),
        broken: Listed::default(),
        corrupt: Listed::default(),
        attachments: None,
        findings: backup.findings.clone(),
    };
    let container = backup.container();
    let total = (0..container.len()).map(|member| container.sizes(member).0).fold(0, u64::saturating_add);
    let meter = Arc::new(Meter { done: AtomicU64::new(0), total, progress });
    let mut work =
        Work { backup, ours, deep: options.level == Level::Deep, jobs: options.jobs.max(1), meter, report };
    let mut files = work.members()?;
    if let FilestorePart::Tar { member, .. } = backup.filestore {
        work.tar(member, &mut files)?;
    }
    if let Some(part) = &backup.database {
        work.database(part, &files)?;
    }
    work.missing_parts();
    work.report.bytes = work.meter.done.load(Ordering::Relaxed);
    Ok(work.report)
}

/// Files of the filestore that were found to hold, with their bytes; others that are there have none.
type Files = BTreeMap<[u8; 20], Option<u64>>;

struct Work<'a> {
    backup: &'a Backup,
    ours: Option<&'a Undoo>,
    deep: bool,
    jobs: usize,
    meter: Arc<Meter>,
    report: Report,
}

impl Work<'_> {
    /// Notes what is wrong with a member, unless it is not the backup's fault.
    fn note(&mut self, member: &str, problem: Problem) -> Result<()> {
        self.report.broken.push(broken(member, problem)?);
        Ok(())
    }

    /// Holds a tree against the manifest.
    fn tree(&mut self, part: &str, found: TreeRecord) {
        let parts = self.ours.map(|ours| &ours.parts);
        let said = parts.and_then(|parts| match part {
            "addons" => parts.addons.as_ref(),
            _ => parts.filestore.as_ref(),
        });
        // A part that our manifest does not have must not be there.
        let holds = self.ours.map(|_| said == Some(&found));
        let TreeRecord { bytes, sha256, md5, .. } = found;
        self.report.parts.push(PartCheck { part: part.to_owned(), bytes, sha256, md5, holds });
    }

    /// Holds one member against the manifest: ours, or checksums by name as others have them.
    fn member(&mut self, part: &str, member: usize, sums: Sums, record: Option<&DumpRecord>) {
        let Sums { bytes, sha256, md5 } = sums;
        let (sha256, md5) = (hex::encode(sha256.finalize()), hex::encode(md5.finalize()));
        let name = self.backup.container().name(member);
        let name = name.rsplit('/').next().unwrap_or(name);
        let said = self.backup.manifest.as_ref().and_then(|manifest| manifest.checksums.get(name));
        let holds = match (record, said) {
            (Some(record), _) => Some(record.bytes == bytes && record.sha256 == sha256 && record.md5 == md5),
            // Told apart by their length; what else there may be is not known here.
            (None, Some(said)) if said.len() == 64 => Some(*said == sha256),
            (None, Some(said)) if said.len() == 32 => Some(*said == md5),
            _ => None,
        };
        self.report.parts.push(PartCheck { part: part.to_owned(), bytes, sha256, md5, holds });
    }

    /// Parts that our manifest has and the backup has not.
    fn missing_parts(&mut self) {
        let Some(ours) = self.ours else { return };
        let container = self.backup.container();
        let addons = || (0..container.len()).any(|member| container.name(member).starts_with("addons/"));
        let some = |tree: &Option<TreeRecord>| tree.as_ref().is_some_and(|tree| tree.files > 0);
        let parts = [
            ("database", ours.parts.database.is_some(), self.backup.database.is_some()),
            ("filestore", some(&ours.parts.filestore), self.backup.filestore != FilestorePart::None),
            ("addons", some(&ours.parts.addons), addons()),
        ];
        for (part, said, there) in parts {
            if said && !there {
                self.report.broken.push(Broken {
                    member: part.to_owned(),
                    code: "part_missing".into(),
                    message: format!("the manifest has a {part} and the backup has not"),
                });
            }
        }
    }
}

/// What is wrong with a member.
///
/// # Errors
/// The problem itself, where it is not the backup's fault.
fn broken(member: &str, problem: Problem) -> Result<Broken> {
    match problem.kind {
        Kind::Invalid | Kind::Refused | Kind::Missing | Kind::Conflict => {
            Ok(Broken { member: shown(member), code: problem.code.to_owned(), message: problem.message })
        }
        _ => Err(problem),
    }
}

struct Meter {
    done: AtomicU64,
    total: u64,
    progress: Progress,
}

impl Meter {
    fn add(&self, bytes: u64) -> Result<()> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (self.progress)(done, self.total)
    }
}

/// Checksums of what passed.
#[derive(Default, Clone)]
struct Sums {
    bytes: u64,
    sha256: Sha256,
    md5: Md5,
}

/// A stream that is read by someone else, watched: hashed, counted, and read to its end afterwards.
#[derive(Clone)]
struct Watched(Arc<Mutex<Inner>>);

struct Inner {
    reader: Box<dyn Read + Send>,
    sums: Sums,
    meter: Arc<Meter>,
}

impl Watched {
    fn new(reader: Box<dyn Read + Send>, meter: Arc<Meter>) -> Self {
        Self(Arc::new(Mutex::new(Inner { reader, sums: Sums::default(), meter })))
    }

    /// Reads what is left, and answers the checksums of all of it.
    ///
    /// # Errors
    /// Those of the stream.
    fn finish(mut self) -> io::Result<Sums> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).sums.clone())
    }
}

impl Read for Watched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = inner.reader.read(out)?;
        let bytes = out.get(..len).unwrap_or_default();
        inner.sums.sha256.update(bytes);
        inner.sums.md5.update(bytes);
        inner.sums.bytes += len as u64;
        inner.meter.add(len as u64).map_err(carry)?;
        Ok(len)
    }
}
