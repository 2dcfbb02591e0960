//! What can be known before anything is made: room, versions, and what the file system can do.

use std::{fs, path::Path};

use undoo_archive::{
    backup::{Backup, Inspection},
    dump::DumpFormat,
    filestore::FilestorePart,
};
use undoo_core::{Finding, Kind, Problem, RestoreId, Result};

use crate::{
    cluster::Cluster,
    home::at,
    order::{Parts, Strategy},
    restore::Assignment,
};

/// Room that must stay free on a disk with live data, whatever its size.
const KEEP_FREE_BYTES: u64 = 2 << 30;

/// A database's name is also that of its filestore's directory, and PostgreSQL cuts off what is longer than
/// its names can be, so that a rename would end elsewhere than at the name asked for.
///
/// # Errors
/// `Invalid` for a name that is not the same in all these places.
pub fn check_name(database: &str) -> Result<()> {
    const LONGEST: usize = 63;
    let fits = !database.is_empty()
        && database.len() <= LONGEST
        && !database.starts_with('.')
        && !database.contains(['/', '\0']);
    if fits {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Invalid,
        "database_name",
        format!("\"{database}\" cannot be the name of a database and of its directory"),
        "name it with letters, digits, - and _, in at most 63 bytes",
    ))
}

/// Findings about how backup and target fit.
///
/// # Errors
/// When the directory of filestores cannot be read.
pub fn findings(
    work: &Assignment,
    backup: &Backup,
    inspection: &Inspection,
    cluster: &Cluster,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let root = &work.target.filestore_root;
    if work.options.parts != Parts::Filestore && backup.database.is_none() {
        findings.push(Finding::refusal(
            "no_database",
            "the backup has no database",
            "name a backup with one, or restore the files only (--filestore-only)",
        ));
    }
    if work.options.parts == Parts::Filestore && backup.filestore == FilestorePart::None {
        findings.push(Finding::refusal(
            "no_filestore",
            "the backup has no filestore",
            "name a backup with one, or restore the database only (--database-only)",
        ));
    }
    findings.extend(versions(work, inspection, cluster));
    for extension in inspection.database.iter().flat_map(|database| &database.extensions) {
        if extension != "plpgsql" && !cluster.available_extensions.contains(extension) {
            findings.push(Finding::refusal(
                format!("extension_missing:{extension}"),
                format!("the dump needs extension \"{extension}\", which this PostgreSQL does not have"),
                "install it on the database server, or restore to a server that has it",
            ));
        }
    }
    findings.extend(file_system(root)?);
    findings.extend(room(work, backup, cluster)?);
    if !work.target.shares_disk && work.options.parts != Parts::Filestore && backup.database.is_some() {
        let mib = database_bytes(work, backup, cluster) >> 20;
        findings.push(Finding::info(
            "database_disk_unknown",
            "the database server's disk cannot be seen from here: its room is neither checked nor watched",
            format!(
                "see yourself that about {mib} MiB are free there, for data, its clone and write-ahead log"
            ),
        ));
    }
    Ok(findings)
}

fn versions(work: &Assignment, inspection: &Inspection, cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    let database = inspection.database.as_ref();
    let dumped_from = database.and_then(|database| major(database.server_version.as_deref()?));
    if let Some(from) = dumped_from.filter(|from| *from > cluster.major) {
        findings.push(Finding::warning(
            "older_postgresql",
            format!("the dump comes from PostgreSQL {from}, the target is {}", cluster.version),
            "statements that the target does not know are mended or refused by name; a target of the same \
             version is safer",
        ));
    }
    let odoo = inspection.odoo.version.as_deref().and_then(major);
    if let (Some(from), Some(to)) = (odoo, work.target.odoo_major)
        && from != to
    {
        findings.push(Finding::warning(
            "odoo_version",
            format!("the backup is of Odoo {from}, the target runs Odoo {to}"),
            "Odoo does not start on a database of another major version without upgrade scripts: restore \
             to an environment of the same version first",
        ));
    }
    findings
}

/// The number before the first dot.
fn major(version: &str) -> Option<u32> {
    let digits: String =
        version.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Tries on the spot whether links and renames work, since they decide how files move.
fn file_system(root: &Path) -> Result<Vec<Finding>> {
    let home = root.join(".undoo");
    fs::create_dir_all(&home).map_err(at("create", &home))?;
    // Plans take no lock, and another one may try at the same time.
    let probe = |number: u8| home.join(format!("probe.{}.{number}", RestoreId::generate()));
    let (one, two, three) = (probe(1), probe(2), probe(3));
    fs::write(&one, b"probe").map_err(at("write", &one))?;
    let linked = fs::hard_link(&one, &two).is_ok();
    let renamed = fs::rename(&one, &three).is_ok();
    for path in [&one, &two, &three] {
        // Whichever of them exist now.
        let _ = fs::remove_file(path);
    }
    let mut findings = Vec::new();
    if !linked {
        findings.push(Finding::warning(
            "no_hard_links",
            format!("{} is on a file system without hard links", root.display()),
            "files that are there already are copied instead, which takes room and time",
        ));
    }
    if !renamed {
        findings.push(Finding::refusal(
            "no_renames",
            format!("{} is on a file system that does not rename", root.display()),
            "put the filestore on a local file system",
        ));
    }
    Ok(findings)
}

/// Whether staging leaves enough room: the disk of a live system must not fill up.
fn room(work: &Assignment, backup: &Backup, cluster: &Cluster) -> Result<Option<Finding>> {
    let root = &work.target.filestore_root;
    let (free, keep) = free_and_keep(root)?;
    let files = if work.options.parts == Parts::Database { 0 } else { bytes_to_fetch(root, work, backup) };
    let database = if work.target.shares_disk && work.options.parts != Parts::Filestore {
        database_bytes(work, backup, cluster)
    } else {
        0
    };
    if free >= files.saturating_add(database).saturating_add(keep) {
        return Ok(None);
    }
    let mib = |bytes: u64| bytes >> 20;
    Ok(Some(Finding::needs_acceptance(
        "disk_space",
        format!(
            "{} has {} MiB free; the files need {} MiB, the database about {} MiB, and {} MiB must stay free",
            root.display(),
            mib(free),
            mib(files),
            mib(database),
            mib(keep)
        ),
        "make room, purge kept pairs (`undoo list`, `undoo purge`), or drop the live database first \
         (--strategy stop-first), which cannot be undone",
    )))
}

/// Free bytes of a disk, and how many of them must stay free: what the design keeps for the live system.
///
/// # Errors
/// When the directory cannot be examined.
pub fn free_and_keep(root: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(root).map_err(|error| at("examine", root)(error.into()))?;
    let (free, size) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    // A tenth of a small disk would be less than a busy server writes in an hour; two gibibytes of a
    // tiny one would be all of it.
    Ok((free, KEEP_FREE_BYTES.max(size / 10).min(size / 4)))
}

/// What the restored database and its clone will take, from what the dump holds: rows take about as much
/// on disk as in a plain dump, indexes half as much again; a custom dump is about an eighth of a plain one.
fn database_bytes(work: &Assignment, backup: &Backup, cluster: &Cluster) -> u64 {
    let Some(part) = &backup.database else { return 0 };
    let plain = match part.format {
        DumpFormat::Plain => part.size.unwrap_or(part.stored.saturating_mul(8)),
        DumpFormat::Custom => part.stored.saturating_mul(8),
    };
    let with_clone = plain.saturating_mul(3);
    match (&work.options.strategy, &cluster.live) {
        (Strategy::StopFirst { .. }, Some(live)) => with_clone.saturating_sub(live.bytes.unsigned_abs()),
        _ => with_clone,
    }
}

fn bytes_to_fetch(root: &Path, work: &Assignment, backup: &Backup) -> u64 {
    let live = root.join(&work.target.database);
    match &backup.filestore {
        FilestorePart::None => 0,
        FilestorePart::Tar { stored, .. } => *stored,
        FilestorePart::Members(files) | FilestorePart::Directory(files) => files
            .iter()
            .filter(|file| !live.join(crate::filestore::store_fname(&file.hash)).exists())
            .map(|file| file.size)
            .sum(),
    }
}
