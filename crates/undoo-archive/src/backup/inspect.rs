//! What a backup is and what it needs, from a few ranged reads.
//!
//! Inspection answers in seconds for a backup of any size: it reads the directory, the manifest, the
//! dump's header and its table of contents (of a plain dump the front), and never a whole part. It
//! must never say more than it has read: what is not known is null.

use std::{io::Read, sync::atomic::Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{BackupId, Finding, Kind, Problem, Result};

use super::{Backup, DatabasePart};
use crate::{
    container::{Gunzip, Head, shown},
    dump::{
        DumpEvent, DumpFormat, DumpHeader, DumpStream, custom::CustomDump, plain::PlainDump, sql::Tokens,
    },
    error::innermost,
    filestore::FilestorePart,
    layout::Layout,
    manifest::ours::SignatureState,
};

/// Stored bytes of a plain dump that inspection reads. Extensions come first, then the tables: of an
/// Odoo with 620 tables, some 250 KiB in a ZIP.
const BUDGET: u64 = 512 * 1024;
/// Content that inspection looks at, however well it is compressed.
const MAX_CONTENT: u64 = 32 << 20;
/// Warnings of the one who wrote it that are shown.
const MOST_WARNINGS: usize = 20;
/// A local header and extra fields may take this much of the budget.
const OVERHEAD: u64 = 70_000;

/// What inspection found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Who makes such backups.
    pub layout: Layout,
    /// The dump, if there is one.
    pub database: Option<DatabaseInspection>,
    /// What the manifest says of Odoo.
    pub odoo: OdooInspection,
    /// The filestore.
    pub filestore: FilestoreInspection,
    /// What our own backups say besides; none for those of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoo: Option<UndooInspection>,
    /// What there is to know and to decide.
    pub findings: Vec<Finding>,
}

/// What a dump says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInspection {
    /// Name of the database: the dump's, else the manifest's.
    pub name: Option<String>,
    /// As the content says.
    pub format: DumpFormat,
    /// Version of the server that was dumped.
    pub server_version: Option<String>,
    /// Version of the `pg_dump` that wrote it.
    pub dump_version: Option<String>,
    /// Extensions that it creates.
    pub extensions: Vec<String>,
    /// Tables that it creates, where all of them were seen.
    pub tables: Option<u64>,
}

/// What the manifest says of Odoo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OdooInspection {
    /// Such as `19.0`.
    pub version: Option<String>,
    /// Number of installed modules.
    pub modules: Option<u64>,
}

/// What one of our own backups says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndooInspection {
    /// The backup's id.
    pub backup_id: BackupId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Version of the program that wrote it.
    pub undoo_version: String,
    /// Whose it is, as it says.
    pub organisation: Option<String>,
    /// Whether it is signed, and whether the signature holds.
    pub signature: SignatureState,
    /// Public half of the key that signed it.
    pub public_key: Option<String>,
    /// Whether its tables can be read side by side.
    pub seekable: bool,
    /// Files that are not what their names say, as it was written down.
    pub corrupt_files: u64,
    /// Files that attachments name and that it has not, as it was written down.
    pub missing_files: u64,
}

/// The filestore's form and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilestoreInspection {
    /// How it is carried.
    pub form: FilestoreForm,
    /// Number of files; not known of a tar, unless the manifest says so.
    pub files: Option<u64>,
    /// Bytes of their contents; as `files`.
    pub bytes: Option<u64>,
}

/// How a filestore is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilestoreForm {
    /// As members of a ZIP.
    Members,
    /// As a tar archive.
    Tar,
    /// As files of a folder.
    Directory,
    /// There is none.
    None,
}

/// Inspects a backup. What is wrong with a part is a finding, so that everything is told at once.
///
/// # Errors
/// `Unavailable` when the storage does not answer.
pub fn inspect(backup: &Backup) -> Result<Inspection> {
    let mut findings = backup.findings.clone();
    let database = match &backup.database {
        Some(part) => Some(database(backup, part, &mut findings)?),
        None => None,
    };
    let manifest = backup.manifest.as_ref();
    if let Some(database) = &database {
        let manifest_says = manifest.and_then(|manifest| manifest.pg_version.as_deref());
        versions(database, manifest_says, &mut findings);
    }
    parts_missing(backup, &mut findings);
    let odoo = OdooInspection {
        version: manifest.and_then(|manifest| manifest.version.clone()),
        modules: manifest.and_then(|manifest| manifest.modules.as_ref()).map(|modules| modules.len() as u64),
    };
    let undoo = undoo(backup, &mut findings);
    let filestore = filestore(backup);
    Ok(Inspection { layout: backup.layout, database, odoo, filestore, undoo, findings })
}

/// What it says of itself, and what is to be said about that.
fn undoo(backup: &Backup, findings: &mut Vec<Finding>) -> Option<UndooInspection> {
    let manifest = backup.manifest.as_ref()?;
    let undoo = manifest.undoo.as_ref()?;
    if manifest.signature == SignatureState::Invalid {
        findings.push(Finding::warning(
            "signature_invalid",
            "the manifest is signed and the signature does not hold: it was changed after it was signed",
            "Find out who changed this backup. It is judged as one of unknown origin.",
        ));
    }
    for warning in undoo.warnings.iter().take(MOST_WARNINGS) {
        findings.push(Finding::warning(
            format!("noted_{}", shown(&warning.code)),
            format!("when this backup was made: {}", shown(&warning.message)),
            "See the manifest for names; `undoo verify BACKUP --level deep` looks for itself.",
        ));
    }
    Some(UndooInspection {
        backup_id: undoo.backup_id,
        created_at: undoo.created_at,
        undoo_version: shown(&undoo.undoo_version),
        organisation: undoo.organisation.as_ref().map(shown),
        signature: manifest.signature,
        public_key: undoo.public_key.as_ref().map(shown),
        seekable: backup.tables().is_some(),
        corrupt_files: undoo.corrupt.len() as u64,
        missing_files: undoo.attachments.as_ref().map_or(0, |found| found.missing_total),
    })
}

fn database(backup: &Backup, part: &DatabasePart, findings: &mut Vec<Finding>) -> Result<DatabaseInspection> {
    let seen = match part.format {
        DumpFormat::Custom => custom(backup, part),
        DumpFormat::Plain => plain(backup, part, findings),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(problem) if problem.kind == Kind::Unavailable => return Err(problem),
        Err(problem) => {
            findings.push(Finding::refusal(problem.code, problem.message, problem.remedy));
            Seen::default()
        }
    };
    if !seen.extensions.is_empty() {
        findings.push(Finding::info(
            "extensions",
            format!("the dump creates the extensions {}", seen.extensions.join(", ")),
            "The target's PostgreSQL must have them: most come with its contrib package, vector with pgvector.",
        ));
    }
    let header = seen.header;
    let from_manifest = || backup.manifest.as_ref().and_then(|manifest| manifest.db_name.clone());
    Ok(DatabaseInspection {
        name: header.as_ref().and_then(|header| header.database.clone()).or_else(from_manifest),
        format: part.format,
        server_version: header.as_ref().and_then(|header| header.server_version.clone()),
        dump_version: header.as_ref().and_then(|header| header.dump_version.clone()),
        extensions: seen.extensions,
        tables: seen.tables,
    })
}

/// What was seen of a dump.
#[derive(Default)]
struct Seen {
    header: Option<DumpHeader>,
    extensions: Vec<String>,
    tables: Option<u64>,
}

fn custom(backup: &Backup, part: &DatabasePart) -> Result<Seen> {
    let dump = CustomDump::open(backup.dump_bytes(part)?).map_err(innermost)?;
    let entries = |desc: &'static str| dump.toc().iter().filter(move |entry| entry.desc == desc);
    Ok(Seen {
        header: Some(dump.header().clone()),
        extensions: entries("EXTENSION").map(|entry| entry.tag.clone()).collect(),
        tables: Some(entries("TABLE").count() as u64),
    })
}

fn plain(backup: &Backup, part: &DatabasePart, findings: &mut Vec<Finding>) -> Result<Seen> {
    let mut input = backup.container.head(part.member, BUDGET)?;
    if part.gzip {
        input = Box::new(Gunzip::new(input, backup.container.describe(part.member)));
    }
    let (head, ended) = Head::new(Box::new(input.take(MAX_CONTENT)));
    let whole = part.stored + OVERHEAD <= BUDGET && part.size.is_some_and(|size| size < MAX_CONTENT);
    // Where the budget ends inside a statement, the reader rightly calls the dump cut off.
    let budget_ended =
        |problem: &Problem| problem.kind == Kind::Invalid && !whole && ended.load(Ordering::Relaxed);

    let mut dump = PlainDump::open(Box::new(head)).map_err(innermost)?;
    let mut seen = Seen { header: Some(dump.header().clone()), ..Seen::default() };
    let (mut tables, mut newer_settings) = (0, Vec::new());
    loop {
        match dump.next_event() {
            Ok(Some(DumpEvent::Statement(statement))) => {
                let mut tokens = Tokens::new(&statement.sql);
                let mut word =
                    || tokens.next().map(|token| token.text.to_ascii_lowercase()).unwrap_or_default();
                match (&*word(), &*word()) {
                    ("create", "extension") => seen.extensions.extend(extension(&statement.sql)),
                    ("create", "table") => tables += 1,
                    ("create", "unlogged") if word() == "table" => tables += 1,
                    ("set", "transaction_timeout") => newer_settings.push("transaction_timeout"),
                    _ => {}
                }
            }
            // Rows come after all tables.
            Ok(Some(_) | None) => {
                seen.tables = Some(tables);
                break;
            }
            Err(problem) => {
                let problem = innermost(problem);
                if problem.kind == Kind::Unavailable {
                    return Err(problem);
                }
                if !budget_ended(&problem) {
                    findings.push(Finding::refusal(problem.code, problem.message, problem.remedy));
                }
                break;
            }
        }
    }
    if !newer_settings.is_empty() {
        findings.push(Finding::info(
            "newer_settings",
            "the dump sets transaction_timeout, which PostgreSQL knows since version 17".to_owned(),
            "The statement is left out where the target is older; nothing depends on it.",
        ));
    }
    if dump.restrict_lines() > 0 {
        findings.push(Finding::info(
            "restrict_lines",
            r"the dump has \restrict lines, which older versions of psql do not know".to_owned(),
            "They are passed over: they protect psql, which is not used here.",
        ));
    }
    Ok(seen)
}

/// The name in `CREATE EXTENSION [IF NOT EXISTS] name …`.
fn extension(sql: &str) -> Option<String> {
    Tokens::new(sql)
        .skip(2)
        .find(|token| !["if", "not", "exists"].iter().any(|word| token.is_word(word)))
        .and_then(|token| token.name())
}

/// The major version that a version text begins with: `15`, and `9.6` before 10.
fn major(version: &str) -> Option<String> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let first: u32 = parts.next()?.parse().ok()?;
    if first >= 10 {
        return Some(first.to_string());
    }
    let second: u32 = parts.next()?.parse().ok()?;
    Some(format!("{first}.{second}"))
}

fn versions(database: &DatabaseInspection, manifest: Option<&str>, findings: &mut Vec<Finding>) {
    let Some(server) = database.server_version.as_deref() else {
        if let Some(manifest) = manifest {
            findings.push(Finding::info(
                "pg_version_coarse",
                format!("only the manifest tells PostgreSQL's version: {manifest}, which Odoo writes for every minor one"),
                "Restore into this major version or a newer one.",
            ));
        }
        return;
    };
    let Some(needs) = major(server) else { return };
    if let Some(manifest) = manifest.filter(|manifest| major(manifest).is_some_and(|major| major != needs)) {
        findings.push(Finding::warning(
            "manifest_pg_version_mismatch",
            format!("the manifest says PostgreSQL {manifest}, the dump was made from {server}"),
            "The dump is believed. Check that manifest and dump belong to one backup.",
        ));
    }
    findings.push(Finding::info(
        "needs_postgresql",
        format!("the dump was made from PostgreSQL {server}"),
        format!("Restore into PostgreSQL {needs} or newer; an older server may not know all that is in it."),
    ));
}

fn parts_missing(backup: &Backup, findings: &mut Vec<Finding>) {
    if backup.manifest.is_none() {
        findings.push(Finding::info(
            "no_manifest",
            "the backup has no manifest: the versions of Odoo and its modules are known after loading only",
            "See to it that the target runs the Odoo version that the backup was made with.",
        ));
    }
    match (&backup.database, &backup.filestore) {
        (Some(_), FilestorePart::None) => findings.push(Finding::warning(
            "database_only",
            "the backup has no filestore: attachments, images and documents are not in it",
            "Restore in place to keep the files that are there, or find the filestore of the same moment.",
        )),
        (None, _) => findings.push(Finding::warning(
            "filestore_only",
            "the backup has no database dump",
            "Only files can be restored from it; files that are there already stay.",
        )),
        _ => {}
    }
    if let FilestorePart::Tar { .. } = backup.filestore {
        findings.push(Finding::info(
            "filestore_tar",
            "the filestore is a tar archive, which has no directory",
            "It is streamed whole, even if most of its files are on the target already.",
        ));
    }
}

fn filestore(backup: &Backup) -> FilestoreInspection {
    let counted = |form, files: &[crate::filestore::FilestoreFile]| FilestoreInspection {
        form,
        files: Some(files.len() as u64),
        bytes: Some(files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size))),
    };
    match &backup.filestore {
        FilestorePart::None => {
            FilestoreInspection { form: FilestoreForm::None, files: Some(0), bytes: Some(0) }
        }
        FilestorePart::Members(files) => counted(FilestoreForm::Members, files),
        FilestorePart::Directory(files) => counted(FilestoreForm::Directory, files),
        FilestorePart::Tar { .. } => {
            let (files, bytes) = backup.manifest.as_ref().and_then(|manifest| manifest.filestore).unzip();
            FilestoreInspection { form: FilestoreForm::Tar, files, bytes }
        }
    }
}
