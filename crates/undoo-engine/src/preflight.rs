//! What can be known before anything is made: versions, what the file system can do, and room.

use std::{fs, path::Path};

use undoo_archive::{
    backup::{Backup, Inspection},
    filestore::FilestorePart,
};
use undoo_core::{Finding, Kind, Problem, RestoreId, Result};

use crate::{cluster::Cluster, filestore, home::at, order::Parts, restore::Assignment, room};

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
    findings.extend(file_system(root, work.target.files_owner)?);
    findings.extend(room::findings(work, backup, cluster)?);
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
fn file_system(root: &Path, owner: Option<(u32, u32)>) -> Result<Vec<Finding>> {
    if !root.exists() {
        // As Odoo would make it: whoever looks next takes its owner for Odoo's user.
        fs::create_dir_all(root).map_err(at("create", root))?;
        filestore::own(root, owner)?;
    }
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
