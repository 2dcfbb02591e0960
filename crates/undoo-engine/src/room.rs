//! Room on the disks that a restore writes to. A full one stops the live cluster: what would come near that
//! is not begun unasked, and a load gives way to it.
//!
//! It asks file systems for their size and reads no file. Of the database server's disks it is given a
//! directory each, which it must never open.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use undoo_archive::{backup::Backup, dump::DumpFormat, filestore::FilestorePart};
use undoo_core::{Finding, Kind, Problem, Result};

use crate::{
    cluster::Cluster,
    filestore::store_fname,
    home::at,
    order::{Parts, Strategy, Target},
    restore::Assignment,
};

/// Room that must stay free on a disk with live data, whatever its size.
const KEEP_FREE_BYTES: u64 = 2 << 30;

/// A disk that must not fill up.
struct Disk {
    name: String,
    device: u64,
    free: u64,
    /// How many bytes must stay free.
    keep: u64,
}

impl Disk {
    fn look(path: &Path, name: &str) -> io::Result<Self> {
        let device = fs::metadata(path)?.dev();
        let stat = rustix::fs::statvfs(path)?;
        let (free, size) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        // A tenth of a small disk would be less than a busy server writes in an hour; two gibibytes of a
        // tiny one would be all of it.
        let keep = KEEP_FREE_BYTES.max(size / 10).min(size / 4);
        Ok(Self { name: name.to_owned(), device, free, keep })
    }
}

/// The disks of a target, each once: first that of the filestore, then those of the database server that
/// can be seen from here.
struct Disks {
    all: Vec<Disk>,
    /// Which of them has the databases, as far as is known.
    databases: Option<usize>,
}

impl Disks {
    fn of(target: &Target) -> Result<Self> {
        let root = &target.filestore_root;
        let mut all = vec![Disk::look(root, &root.display().to_string()).map_err(at("examine", root))?];
        let mut databases = target.shares_disk.then_some(0);
        let names = ["the disk of the database server's data", "the disk of its write-ahead log"];
        for (number, (path, name)) in target.database_disks.iter().zip(names).enumerate() {
            // It may lie where we have no rights.
            let Ok(disk) = Disk::look(path, name) else { continue };
            let place = all.iter().position(|other| other.device == disk.device).unwrap_or_else(|| {
                all.push(disk);
                all.len() - 1
            });
            if number == 0 {
                databases = Some(place);
            }
        }
        Ok(Self { all, databases })
    }
}

/// Whether staging leaves enough room on every disk.
///
/// # Errors
/// When the directory of filestores cannot be examined.
pub fn findings(work: &Assignment, backup: &Backup, cluster: &Cluster) -> Result<Vec<Finding>> {
    let disks = Disks::of(&work.target)?;
    let parts = work.options.parts;
    let files = if parts == Parts::Database { 0 } else { bytes_to_fetch(work, backup) };
    let database = if parts == Parts::Filestore { 0 } else { database_bytes(work, backup, cluster) };
    let mib = |bytes: u64| bytes >> 20;
    let mut findings = Vec::new();
    // Files alone are no matter of the server's disks.
    let touched = if parts == Parts::Filestore { 1 } else { disks.all.len() };
    for (number, disk) in disks.all.iter().enumerate().take(touched) {
        let files = if number == 0 { files } else { 0 };
        let database = if disks.databases == Some(number) { database } else { 0 };
        if disk.free >= files.saturating_add(database).saturating_add(disk.keep) {
            continue;
        }
        findings.push(Finding::needs_acceptance(
            "disk_space",
            format!(
                "{} has {} MiB free; the files need {} MiB, the database about {} MiB, and {} MiB must stay \
                 free",
                disk.name,
                mib(disk.free),
                mib(files),
                mib(database),
                mib(disk.keep)
            ),
            "make room, purge kept pairs (`undoo list`, `undoo purge`), or drop the live database first \
             (--strategy stop-first), which cannot be undone",
        ));
    }
    if disks.databases.is_none() && database > 0 {
        findings.push(Finding::info(
            "database_disk_unknown",
            "the database server's disk cannot be seen from here: its room is neither checked nor watched",
            format!(
                "see yourself that about {} MiB are free there, for data, its clone and write-ahead log",
                mib(database)
            ),
        ));
    }
    Ok(findings)
}

/// Looks whether every disk still has what must stay free.
///
/// # Errors
/// `Unavailable` with code `disk_low` naming one that does not.
pub fn watch(target: &Target) -> Result<()> {
    let disks = Disks::of(target)?.all;
    let Some(low) = disks.iter().find(|disk| disk.free < disk.keep) else { return Ok(()) };
    Err(Problem::new(
        Kind::Unavailable,
        "disk_low",
        format!("{} has only {} MiB left; {} MiB must stay free", low.name, low.free >> 20, low.keep >> 20),
        "it gave way to the live system; make room, then run it again",
    ))
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

fn bytes_to_fetch(work: &Assignment, backup: &Backup) -> u64 {
    let live: PathBuf = work.target.filestore_root.join(&work.target.database);
    match &backup.filestore {
        FilestorePart::None => 0,
        FilestorePart::Tar { stored, .. } => *stored,
        FilestorePart::Members(files) | FilestorePart::Directory(files) => files
            .iter()
            .filter(|file| !live.join(store_fname(&file.hash)).exists())
            .map(|file| file.size)
            .sum(),
    }
}
