//! A backup, whatever its layout: a dump, a filestore, a manifest.
//!
//! This is what the engine holds while it restores. It opens parts as often as asked and keeps nothing
//! of them; it must never take the manifest's word where the part itself can be asked.

mod inspect;
mod seek;
mod signed;

use std::io::Read;

use undoo_core::{Finding, Kind, Problem, Result};

pub use self::inspect::{
    DatabaseInspection, FilestoreForm, FilestoreInspection, Inspection, OdooInspection, UndooInspection,
    inspect,
};
pub use crate::container::BackupInput;
use crate::{
    container::{Container, Gunzip},
    dump::{DumpEvent, DumpFormat, DumpHeader, DumpStream, custom::CustomDump, plain::PlainDump},
    error::{innermost, problem_of},
    filestore::{FilestoreFile, FilestorePart, FilestoreTar},
    layout::{self, Layout},
    manifest::{
        MAX_MANIFEST, Manifest,
        ours::{DumpRecord, SignatureState},
    },
    tar::TarReader,
};

/// The dump within a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePart {
    /// As its content says.
    pub format: DumpFormat,
    /// Index of the container's member.
    pub member: usize,
    /// Whether gzip compresses it, below what a ZIP does.
    pub gzip: bool,
    /// Bytes that it takes where it is stored.
    pub stored: u64,
    /// Bytes of the dump; not known under gzip.
    pub size: Option<u64>,
}

/// An opened backup.
pub struct Backup {
    /// Who makes such backups.
    pub layout: Layout,
    /// The dump; a backup may be of files only.
    pub database: Option<DatabasePart>,
    /// The filestore, if there is one.
    pub filestore: FilestorePart,
    /// What the manifest says, if there is one.
    pub manifest: Option<Manifest>,
    /// What there is to say after a look at the names.
    pub findings: Vec<Finding>,
    container: Container,
    /// The manifest's member.
    pub(crate) manifest_member: Option<usize>,
    /// Whether what the manifest says of the dump's places can be true.
    seekable: bool,
    seek: seek::Seek,
}

impl Backup {
    /// Opens a backup and finds its parts, by ranged reads of the container's directory and of the
    /// first bytes of its few files.
    ///
    /// # Errors
    /// `Invalid` for what is no backup, is broken, or could be read in two ways; `Refused` for what
    /// looks made to do harm; `Unavailable` when the storage does not answer.
    pub fn open(input: BackupInput) -> Result<Self> {
        let container = Container::open(input)?;
        let layout::Parts { layout, database, filestore, manifest, mut findings } =
            layout::recognise(&container)?;
        let (manifest_member, manifest) = manifest.unzip();
        let checked = seek::check(&container, database.as_ref(), manifest.as_ref());
        let seekable = checked.is_ok();
        findings.extend(checked.err());
        let seek = seek::Seek::default();
        Ok(Self {
            layout,
            database,
            filestore,
            manifest,
            findings,
            container,
            manifest_member,
            seekable,
            seek,
        })
    }

    /// The members that the parts refer to.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The dump from its start. One that was signed is held against its signature: its last event comes
    /// only where every byte is what was signed.
    ///
    /// # Errors
    /// `no_database` (`Missing`) where there is none; `dump_not_as_signed` (`Refused`) from the stream;
    /// otherwise what the dump's reader finds wrong.
    pub fn open_dump(&self) -> Result<Box<dyn DumpStream>> {
        let part = self.database.as_ref().ok_or_else(|| missing("no_database", "has no database dump"))?;
        let input = self.dump_bytes(part)?;
        let read = |input| -> Result<Box<dyn DumpStream>> {
            Ok(Box::new(Unwrapping(match part.format {
                DumpFormat::Custom => Box::new(CustomDump::open(input).map_err(innermost)?),
                DumpFormat::Plain => Box::new(PlainDump::open(input).map_err(innermost)?),
            })))
        };
        match self.signed_dump() {
            Some((_, record)) => signed::hold(input, &record.sha256, read),
            None => read(input),
        }
    }

    /// The key that signed this backup's manifest and what it says of the dump. None where no signature
    /// holds. Whether the key is one to be trusted is for the caller to know.
    pub fn signed_dump(&self) -> Option<(&str, &DumpRecord)> {
        let manifest = self.manifest.as_ref()?;
        let undoo = manifest.undoo.as_ref().filter(|_| manifest.signature == SignatureState::Valid)?;
        Some((undoo.public_key.as_deref()?, undoo.parts.database.as_ref()?))
    }

    /// A file's content. Its SHA-1 is for the caller to check.
    ///
    /// # Errors
    /// As [`Container::read`].
    pub fn open_file(&self, file: &FilestoreFile) -> Result<Box<dyn Read + Send>> {
        self.container.read(file.member as usize)
    }

    /// The filestore's tar from its start.
    ///
    /// # Errors
    /// `no_filestore_tar` (`Missing`) where the filestore is no tar; otherwise as [`Container::read`].
    pub fn open_filestore_tar(&self) -> Result<FilestoreTar> {
        let FilestorePart::Tar { member, .. } = self.filestore else {
            return Err(missing("no_filestore_tar", "has no tar archive of a filestore"));
        };
        let tar = TarReader::open(self.container.read(member)?, self.container.describe(member))?;
        Ok(FilestoreTar::new(tar))
    }

    /// The manifest's bytes, if there is one.
    ///
    /// # Errors
    /// As [`Container::read`].
    pub(crate) fn manifest_bytes(&self) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.manifest_member else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = self.container.read(member)?.take(MAX_MANIFEST).read_to_end(&mut bytes);
        read.map_err(problem_of)?;
        Ok(Some(bytes))
    }

    pub(crate) fn dump_bytes(&self, part: &DatabasePart) -> Result<Box<dyn Read + Send>> {
        let input = self.container.read(part.member)?;
        Ok(if part.gzip { Box::new(Gunzip::new(input, self.container.describe(part.member))) } else { input })
    }
}

fn missing(code: &'static str, what: &str) -> Problem {
    Problem::new(
        Kind::Missing,
        code,
        format!("the backup {what}"),
        "Choose another backup, or restore the other part only.",
    )
}

/// Dump readers tell that reading failed; this tells why, where the reader beneath them knows.
struct Unwrapping(Box<dyn DumpStream>);

impl DumpStream for Unwrapping {
    fn header(&self) -> &DumpHeader {
        self.0.header()
    }

    fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        self.0.next_event().map_err(innermost)
    }
}
