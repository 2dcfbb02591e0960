//! Writing a backup: one ZIP, front to back, that Odoo's own database manager loads.
//!
//! `dump.sql` comes first, as a plain dump deflated in blocks of which each can be read alone; then the
//! files under `filestore/`, custom modules under `addons/`, and `manifest.json` last, because it tells
//! what came before. Nothing is gone back to, nothing is kept on a disk, and memory is bounded but for
//! some 200 bytes for each file. A file is never left out because something is wrong with it: it is
//! written as it is, and named.

pub(crate) mod deflate;
mod points;
mod scan;
mod sniff;
pub(crate) mod stream;
pub(crate) mod zip;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    sync::Arc,
};

use jiff::Timestamp;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use undoo_core::{BackupId, Kind, Problem, Result, Sign};

use self::{
    deflate::{BLOCK, Lane, Pending, Pool},
    points::Points,
    scan::Seen,
    stream::{Content, stream, unwritable},
    zip::ZipWriter,
};
use crate::{
    attachments::store_fname,
    container::{harmless, shown},
    manifest::ours::{
        self, Attachments, CorruptFile, DUMP_MEMBER, DumpRecord, Environment, FORMAT, MOST_LISTED,
        MissingFile, OdooKeys, Parts, TreeRecord, Undoo, Warning,
    },
    zip::{MAX_DIRECTORY, MAX_MEMBERS, Method},
};

/// Small files under way; besides, their bytes are bounded.
const MOST_SMALL: usize = 256;

/// How a backup is written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From 1 (quick) to 9 (small); 0 stores everything as it is.
    pub level: u8,
    /// Threads that compress, at least one. Three more hash and read the dump while it is written.
    pub threads: usize,
    /// When the backup was begun: in the manifest, and the time of every member.
    pub created_at: Timestamp,
}

/// What the manifest says besides what the writer has seen itself.
#[derive(Debug, Clone)]
pub struct Description {
    /// The backup's id.
    pub backup_id: BackupId,
    /// Version of the program.
    pub undoo_version: String,
    /// Whose backup it is.
    pub organisation: Option<String>,
    /// Odoo's own keys.
    pub odoo: OdooKeys,
    /// What the system was like.
    pub environment: Environment,
    /// Whether the filestore was left out on purpose.
    pub database_only: bool,
    /// What the caller found besides.
    pub warnings: Vec<Warning>,
}

/// A file's share in its part's checksum.
#[derive(Debug, Clone, Copy, Default)]
struct Leaf {
    sha256: [u8; 32],
    bytes: u64,
}

/// Whose content a member is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    File([u8; 20]),
    Addon(String),
}

impl Owner {
    fn member(&self) -> String {
        match self {
            Self::File(hash) => format!("filestore/{}", store_fname(hash)),
            Self::Addon(path) => format!("addons/{path}"),
        }
    }
}

/// A small file, ready to be written.
struct Packed {
    method: Method,
    deflated: Option<Vec<u8>>,
    content: Vec<u8>,
    crc: u32,
    sha1: Option<[u8; 20]>,
    sha256: [u8; 32],
}

struct Small {
    owner: Owner,
    bytes: usize,
    packed: Pending<Result<Packed>>,
}

/// A backup being written.
///
/// After an error the backup is lost: what was written so far must not be taken for one. It has no
/// directory, so no reader does.
pub struct BackupWriter<W: Write> {
    zip: ZipWriter<W>,
    pool: Pool,
    settings: Settings,
    small: VecDeque<Small>,
    small_bytes: usize,
    database: Option<(DumpRecord, Seen)>,
    filestore: BTreeMap<[u8; 20], Leaf>,
    addons: BTreeMap<String, Leaf>,
    corrupt: Vec<CorruptFile>,
    corrupt_total: u64,
    warnings: Vec<Warning>,
    failed: bool,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup. Nothing is written yet.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no threads.
    pub fn new(out: W, settings: Settings) -> Result<Self> {
        Ok(Self {
            zip: ZipWriter::new(out, settings.created_at),
            pool: Pool::new(settings.threads, settings.level)?,
            settings,
            small: VecDeque::new(),
            small_bytes: 0,
            database: None,
            filestore: BTreeMap::new(),
            addons: BTreeMap::new(),
            corrupt: Vec::new(),
            corrupt_total: 0,
            warnings: Vec::new(),
            failed: false,
        })
    }

    /// Writes the database: a plain dump to its end, which has to be complete. The first thing that a
    /// backup gets. Answers what there is to know about the dump, rows of every table among it.
    ///
    /// # Errors
    /// `dump_truncated` and others of kind `Invalid` when this is no whole plain dump; `Unavailable` when
    /// it cannot be read or the output cannot be written. A dump that a restore would refuse (`Refused`)
    /// is written all the same, with a warning in the manifest.
    pub fn database(&mut self, dump: &mut dyn Read) -> Result<&DumpRecord> {
        if self.zip.members() > 0 || !self.small.is_empty() {
            return Err(misuse("the database was not given first"));
        }
        self.begin()?;
        let written = self.write_database(dump)?;
        self.failed = false;
        Ok(&self.database.insert(written).0)
    }

    fn write_database(&mut self, dump: &mut dyn Read) -> Result<(DumpRecord, Seen)> {
        let sha256 = Lane::new("sha256", hash::<Sha256>)?;
        let md5 = Lane::new("md5", hash::<Md5>)?;
        let scan = Lane::new("dump", scan::scan)?;
        let deflate = self.settings.level > 0;
        let mut points = Points::default();
        let streamed = stream(
            &mut self.zip,
            &self.pool,
            DUMP_MEMBER,
            deflate,
            &mut Content::new(dump, "pg_dump's output"),
            &mut |block| {
                sha256.give(block);
                md5.give(block);
                scan.give(block);
            },
            &mut |block, at| points.add(at, &block.crc),
        )?;
        let (sha256, md5, mut seen) = (sha256.end()?, md5.end()?, scan.end()?);
        let whole = seen.problem.is_none();
        if let Some(problem) = seen.problem.take() {
            if problem.kind != Kind::Refused {
                return Err(problem);
            }
            self.warnings.push(Warning { code: problem.code.to_owned(), message: problem.message });
        }
        let header = seen.header.take();
        let record = DumpRecord {
            bytes: streamed.bytes,
            stored_bytes: streamed.stored,
            sha256: hex::encode(sha256),
            md5: hex::encode(md5),
            server_version: header.as_ref().and_then(|header| header.server_version.clone()),
            dump_version: header.and_then(|header| header.dump_version),
            seek: points.index(),
            tables: whole.then(|| std::mem::take(&mut seen.tables)),
        };
        Ok((record, seen))
    }

    /// Writes a file of the filestore by the hash that is its name. What it holds is checked; a file that
    /// holds something else is written as it is, and named in the manifest. A file that was given before
    /// is passed over, and false answered.
    ///
    /// # Errors
    /// `Unavailable` when the content cannot be read or the output cannot be written.
    pub fn file(&mut self, hash: [u8; 20], content: &mut dyn Read) -> Result<bool> {
        if self.filestore.insert(hash, Leaf::default()).is_some() {
            return Ok(false);
        }
        self.add(Owner::File(hash), content)?;
        Ok(true)
    }

    /// Writes a file of a custom module. `path` is relative to `addons/`.
    ///
    /// # Errors
    /// `Refused` for a path that readers refuse; `Invalid` for one that was given before; otherwise as
    /// [`BackupWriter::file`].
    pub fn addon(&mut self, path: &str, content: &mut dyn Read) -> Result<()> {
        harmless(path.as_bytes(), "the addons")?;
        if path.ends_with('/') || self.addons.insert(path.to_owned(), Leaf::default()).is_some() {
            return Err(Problem::new(
                Kind::Invalid,
                "addon_path",
                format!("the addon's path \"{}\" is a directory's, or was given twice", shown(path)),
                "Give each file once, and no directories.",
            ));
        }
        self.add(Owner::Addon(path.to_owned()), content)
    }

    fn add(&mut self, owner: Owner, content: &mut dyn Read) -> Result<()> {
        self.begin()?;
        self.room()?;
        let what = owner.member();
        let mut content = Content::new(content, &what);
        let first = content.block()?;
        if first.len() < BLOCK {
            self.add_small(owner, first)?;
        } else {
            while !self.small.is_empty() {
                self.put_small()?;
            }
            self.add_large(owner, first, content)?;
        }
        self.failed = false;
        Ok(())
    }

    fn add_small(&mut self, owner: Owner, content: Vec<u8>) -> Result<()> {
        let bytes = content.len();
        let deflate = self.settings.level > 0 && !sniff::is_compressed(&content);
        let is_file = matches!(owner, Owner::File(_));
        let packed = self.pool.submit(move |deflater| {
            let deflated = if deflate { Some(deflater.whole(&content)?) } else { None };
            let deflated = deflated.filter(|deflated| deflated.len() < content.len());
            Ok(Packed {
                method: if deflated.is_some() { Method::Deflate } else { Method::Stored },
                crc: crc32fast::hash(&content),
                sha1: is_file.then(|| Sha1::digest(&content).into()),
                sha256: Sha256::digest(&content).into(),
                deflated,
                content,
            })
        });
        self.small.push_back(Small { owner, bytes, packed });
        self.small_bytes += bytes;
        while self.small.len() > MOST_SMALL || self.small_bytes > self.pool.depth() * BLOCK {
            self.put_small()?;
        }
        Ok(())
    }

    /// Writes the small file that has waited longest.
    fn put_small(&mut self) -> Result<()> {
        let Some(Small { owner, bytes, packed }) = self.small.pop_front() else { return Ok(()) };
        self.small_bytes -= bytes;
        let packed = packed.wait()??;
        let data = packed.deflated.as_ref().unwrap_or(&packed.content);
        let written = self.zip.member(&owner.member(), packed.method, data, packed.crc, bytes as u64);
        written.map_err(unwritable)?;
        self.enter(owner, packed.sha1, Leaf { sha256: packed.sha256, bytes: bytes as u64 });
        Ok(())
    }

    fn add_large(&mut self, owner: Owner, first: Vec<u8>, mut content: Content<'_>) -> Result<()> {
        let deflate = self.settings.level > 0 && !sniff::is_compressed(&first);
        let sha256 = Lane::new("sha256", hash::<Sha256>)?;
        let sha1 = match owner {
            Owner::File(_) => Some(Lane::new("sha1", hash::<Sha1>)?),
            Owner::Addon(_) => None,
        };
        content.ahead = Some(first);
        let streamed = stream(
            &mut self.zip,
            &self.pool,
            &owner.member(),
            deflate,
            &mut content,
            &mut |block| {
                sha256.give(block);
                if let Some(sha1) = &sha1 {
                    sha1.give(block);
                }
            },
            &mut |_, _| {},
        )?;
        let sha1 = sha1.map(Lane::end).transpose()?.map(Into::into);
        let leaf = Leaf { sha256: sha256.end()?.into(), bytes: streamed.bytes };
        self.enter(owner, sha1, leaf);
        Ok(())
    }

    fn enter(&mut self, owner: Owner, sha1: Option<[u8; 20]>, leaf: Leaf) {
        match owner {
            Owner::Addon(path) => {
                self.addons.insert(path, leaf);
            }
            Owner::File(hash) => {
                if let Some(sha1) = sha1.filter(|sha1| *sha1 != hash) {
                    self.corrupt_total += 1;
                    if self.corrupt.len() < MOST_LISTED {
                        self.corrupt.push(CorruptFile {
                            store_fname: store_fname(&hash),
                            sha1: hex::encode(sha1),
                            bytes: leaf.bytes,
                        });
                    }
                }
                self.filestore.insert(hash, leaf);
            }
        }
    }

    /// Files so far whose content is not their name.
    pub fn corrupt(&self) -> u64 {
        self.corrupt_total
    }

    /// Writes what is left and the manifest, signed where there is a signer, and the directory. Answers
    /// the output, flushed, and what was written about the backup.
    ///
    /// # Errors
    /// `Unavailable` when the output cannot be written; those of [`ours::write`].
    pub fn finish(mut self, description: Description, signer: Option<&dyn Sign>) -> Result<(W, Undoo)> {
        self.begin()?;
        while !self.small.is_empty() {
            self.put_small()?;
        }
        self.room()?;
        let odoo = description.odoo.clone();
        let mut undoo = self.describe(description);
        let manifest = ours::write(&odoo, &undoo, signer)?;
        undoo.public_key = signer.map(Sign::public_key);
        let crc = crc32fast::hash(&manifest);
        let (len, deflate) = (manifest.len() as u64, self.settings.level > 0);
        let (method, data) = if deflate {
            (Method::Deflate, self.pool.submit(move |deflater| deflater.whole(&manifest)).wait()??)
        } else {
            (Method::Stored, manifest)
        };
        self.zip.member("manifest.json", method, &data, crc, len).map_err(unwritable)?;
        Ok((self.zip.finish().map_err(unwritable)?, undoo))
    }

    fn describe(&mut self, description: Description) -> Undoo {
        let (database, seen) = self.database.take().unzip();
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(description.warnings);
        if self.corrupt_total > 0 {
            warnings.push(Warning {
                code: "corrupt".into(),
                message: format!(
                    "{} files of the filestore are not what their names say; they are in the backup as they are",
                    self.corrupt_total
                ),
            });
        }
        let understood = database.as_ref().is_some_and(|database| database.tables.is_some());
        let attachments = seen
            .filter(|_| understood && !description.database_only)
            .map(|seen| attachments(&seen, &self.filestore));
        if let Some(missing) = attachments.as_ref().map(|found| found.missing_total).filter(|n| *n > 0) {
            warnings.push(Warning {
                code: "missing".into(),
                message: format!("{missing} files that attachments name were not in the filestore"),
            });
        }
        let filestore = std::mem::take(&mut self.filestore);
        let filestore = (!description.database_only)
            .then(|| tree(filestore.iter().map(|(hash, leaf)| (Owner::File(*hash), *leaf))));
        let addons = std::mem::take(&mut self.addons);
        let addons = (!addons.is_empty())
            .then(|| tree(addons.iter().map(|(path, leaf)| (Owner::Addon(path.clone()), *leaf))));
        Undoo {
            format: FORMAT,
            undoo_version: description.undoo_version,
            backup_id: description.backup_id,
            created_at: self.settings.created_at,
            organisation: description.organisation,
            parts: Parts { database, filestore, addons },
            environment: description.environment,
            attachments,
            corrupt: std::mem::take(&mut self.corrupt),
            warnings,
            public_key: None,
            signature: None,
        }
    }

    /// Marks the backup as lost until the step at hand is done.
    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(misuse("it was written to after an error"));
        }
        Ok(())
    }

    /// Sees to it that our own reader takes one member more.
    fn room(&self) -> Result<()> {
        let members = self.zip.members() + self.small.len() as u64;
        if members + 2 < MAX_MEMBERS && self.zip.directory_len() < MAX_DIRECTORY - (1 << 20) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Invalid,
            "backup_too_many_files",
            format!("the filestore and the addons have more files than a backup may have: {MAX_MEMBERS}"),
            "Let Odoo collect the files that no attachment names any more, then try again.",
        ))
    }
}

/// Dumps named files against those that are there.
fn attachments(seen: &Seen, files: &BTreeMap<[u8; 20], Leaf>) -> Attachments {
    let mut found = Attachments {
        attachments: seen.attachments,
        in_database: seen.in_database,
        external: seen.external,
        orphans: files.keys().filter(|hash| !seen.named.contains_key(*hash)).count() as u64,
        ..Attachments::default()
    };
    for (hash, id) in seen.named.iter().filter(|(hash, _)| !files.contains_key(*hash)) {
        found.missing_total += 1;
        if found.missing.len() < MOST_LISTED {
            found.missing.push(MissingFile { attachment: *id, store_fname: store_fname(hash) });
        }
    }
    found
}

fn tree(files: impl Iterator<Item = (Owner, Leaf)>) -> TreeRecord {
    let mut digest = TreeDigest::default();
    for (owner, leaf) in files {
        digest.add(&owner.member(), &leaf.sha256, leaf.bytes);
    }
    digest.end()
}

/// Makes the checksum of a tree from its files, in the order of their members' names.
#[derive(Default)]
pub(crate) struct TreeDigest {
    sha256: Sha256,
    md5: Md5,
    files: u64,
    bytes: u64,
}

impl TreeDigest {
    pub(crate) fn add(&mut self, member: &str, sha256: &[u8; 32], bytes: u64) {
        let line = format!("{} {bytes} {member}\n", hex::encode(sha256));
        self.sha256.update(&line);
        self.md5.update(&line);
        self.files += 1;
        self.bytes += bytes;
    }

    pub(crate) fn end(self) -> TreeRecord {
        TreeRecord {
            files: self.files,
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.finalize()),
            md5: hex::encode(self.md5.finalize()),
        }
    }
}

/// A thread's work: the hash of all blocks.
pub(crate) fn hash<D: Digest>(blocks: std::sync::mpsc::Receiver<Arc<Vec<u8>>>) -> sha2::digest::Output<D> {
    let mut digest = D::new();
    for block in blocks {
        digest.update(&*block);
    }
    digest.finalize()
}

fn misuse(what: &str) -> Problem {
    Problem::new(
        Kind::Internal,
        "backup_writer_misused",
        format!("the backup is lost: {what}"),
        "please report this",
    )
}
