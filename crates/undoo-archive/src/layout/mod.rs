//! Which tool made a backup, told by what is in it.
//!
//! The same name means different things from different tools (`dump.sql` is a plain dump from one and a
//! custom archive from another), so the content of every candidate is looked at and names only help to
//! say what was found. Where a backup could be read in two ways, it is refused: this module must never
//! choose one of two databases.

mod sniff;

use std::io::Read;

use serde::{Deserialize, Serialize};
use undoo_core::{Finding, Kind, Problem, Result};

use self::sniff::{Content, Sniffed, names_owners, sniff};
use crate::{
    backup::DatabasePart,
    container::Container,
    dump::DumpFormat,
    error::problem_of,
    filestore::{FilestoreFile, FilestorePart, Meaning, Sorter},
    manifest::{MAX_MANIFEST, Manifest},
};

/// Files beside the filestore that are looked at; a backup has three.
const MAX_CANDIDATES: usize = 32;

/// Who makes backups of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Odoo's database manager, `odoo db dump`, click-odoo's ZIP, and Undoo's own.
    OdooZip,
    /// OEC.SH: the filestore is a tar in the ZIP.
    OecZip,
    /// Odoo.sh: the download, which names owners, or the daily backup on the server.
    OdooSh,
    /// click-odoo's folder: a custom dump, files and a manifest.
    ClickOdooFolder,
    /// odooctl: a custom dump and a tar.
    Odooctl,
    /// A `pg_dump -Fc` archive by itself.
    CustomDump,
    /// A plain dump by itself, compressed by gzip or not.
    PlainDump,
}

/// A backup's parts.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) database: Option<DatabasePart>,
    pub(crate) filestore: FilestorePart,
    pub(crate) manifest: Option<(usize, Manifest)>,
    pub(crate) findings: Vec<Finding>,
}

/// Finds a backup's parts.
///
/// # Errors
/// `layout_unknown` (`Invalid`), naming what was found instead; `layout_ambiguous` and
/// `filestore_ambiguous` where there are two of a kind; otherwise as the container's readers.
pub(crate) fn recognise(container: &Container) -> Result<Parts> {
    let mut found = Found::default();
    let mut sorter = Sorter::default();
    let mut files = Vec::new();
    let mut candidates = Vec::new();
    let single = matches!(container, Container::Single(..));
    let base = common_folder(container);
    for member in 0..container.len() {
        let name = container.name(member);
        let name = name.strip_prefix(&*base).unwrap_or(name);
        let meaning = if single { Meaning::Other } else { sorter.sort(name)? };
        match meaning {
            Meaning::File(hash) => {
                files.push(FilestoreFile { hash, size: container.sizes(member).0, member: member as u32 });
            }
            Meaning::Nothing => {}
            Meaning::Other if candidates.len() < MAX_CANDIDATES && (single || !name.contains('/')) => {
                candidates.push(member);
            }
            // Custom modules, in Undoo's own backups.
            Meaning::Other if name.starts_with("addons/") => {}
            Meaning::Other => sorter.note_unknown(name),
        }
    }
    for member in candidates {
        found.take(container, member, &mut sorter)?;
    }
    let mut findings = Vec::new();
    let manifest = found.manifest(container, &mut sorter, &mut findings)?;
    findings.extend(sorter.finding());
    if found.tar.is_some() && !files.is_empty() {
        return Err(Problem::new(
            Kind::Invalid,
            "filestore_ambiguous",
            "the backup has a filestore as files and another as a tar archive",
            "Remove the one that does not belong to the database.",
        ));
    }
    let layout = found.layout(container, !files.is_empty(), manifest.is_some())?;
    let filestore = match found.tar {
        Some((member, sniffed)) => {
            FilestorePart::Tar { member, gzip: sniffed.gzip, stored: container.sizes(member).1 }
        }
        None if files.is_empty() => FilestorePart::None,
        None if container.is_folder() => FilestorePart::Directory(files),
        None => FilestorePart::Members(files),
    };
    let database = found.dump.map(|(member, sniffed)| {
        let (size, stored) = container.sizes(member);
        let format = match sniffed.content {
            Content::CustomDump => DumpFormat::Custom,
            _ => DumpFormat::Plain,
        };
        DatabasePart { format, member, gzip: sniffed.gzip, stored, size: (!sniffed.gzip).then_some(size) }
    });
    Ok(Parts { layout, database, filestore, manifest, findings })
}

/// The folder with its slash in which everything lies, where someone packed the folder itself.
fn common_folder(container: &Container) -> String {
    let files =
        || (0..container.len()).map(|member| container.name(member)).filter(|name| !name.ends_with('/'));
    let Some((folder, _)) = files().next().and_then(|name| name.split_once('/')) else {
        return String::new();
    };
    let prefix = format!("{folder}/");
    // Files of a filestore lie in a folder of their own, which is not the backup's.
    let direct =
        |name: &str| name.strip_prefix(&*prefix).is_some_and(|rest| !rest.contains('/') && rest.len() != 40);
    let common = files().all(|name| name.starts_with(&*prefix)) && files().any(direct);
    if common { prefix } else { String::new() }
}

#[derive(Default)]
struct Found {
    dump: Option<(usize, Sniffed)>,
    tar: Option<(usize, Sniffed)>,
    json: Vec<usize>,
    other: Option<(usize, &'static str)>,
}

impl Found {
    fn take(&mut self, container: &Container, member: usize, sorter: &mut Sorter) -> Result<()> {
        let sniffed = sniff(container, member)?;
        let place = match sniffed.content {
            Content::CustomDump | Content::PlainDump => &mut self.dump,
            Content::Tar => &mut self.tar,
            Content::Json if !sniffed.gzip => {
                self.json.push(member);
                return Ok(());
            }
            Content::Json => {
                sorter.note_unknown(container.name(member));
                return Ok(());
            }
            Content::Other(what) => {
                self.other.get_or_insert((member, what));
                sorter.note_unknown(container.name(member));
                return Ok(());
            }
        };
        let Some((other, _)) = place.replace((member, sniffed)) else { return Ok(()) };
        Err(Problem::new(
            Kind::Invalid,
            "layout_ambiguous",
            format!(
                "{} and {} are both {}",
                container.describe(other),
                container.describe(member),
                if sniffed.content == Content::Tar { "tar archives" } else { "database dumps" }
            ),
            "Give each backup a folder or file of its own, and name the one that is to be restored.",
        ))
    }

    fn manifest(
        &self,
        container: &Container,
        sorter: &mut Sorter,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<(usize, Manifest)>> {
        let mut manifest = None;
        let mut by_name = self.json.clone();
        by_name.sort_by_key(|member| !container.name(*member).ends_with("manifest.json"));
        for member in by_name {
            let unreadable = |why: &str| {
                Finding::warning(
                    "manifest_unreadable",
                    format!("{} {why}", container.describe(member)),
                    "The restore goes by the dump alone, as Odoo's own does.",
                )
            };
            if manifest.is_some() {
                sorter.note_unknown(container.name(member));
                continue;
            }
            let mut bytes = Vec::new();
            let read = container
                .read(member)
                .and_then(|input| input.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(problem_of));
            match read {
                Err(problem) if problem.kind == Kind::Unavailable => return Err(problem),
                Err(problem) => findings.push(unreadable(&format!("cannot be read: {problem}"))),
                Ok(_) if bytes.len() as u64 > MAX_MANIFEST => {
                    findings.push(unreadable("is longer than 16 MiB"))
                }
                Ok(_) => match Manifest::read(&bytes) {
                    Some((found, problem)) if found.says_something() => {
                        let warn = |problem: undoo_core::Problem| {
                            Finding::warning(problem.code, problem.message, problem.remedy)
                        };
                        findings.extend(problem.map(warn));
                        manifest = Some((member, found));
                    }
                    Some(_) => sorter.note_unknown(container.name(member)),
                    None => findings.push(unreadable("is no JSON object")),
                },
            }
        }
        Ok(manifest)
    }

    fn layout(&self, container: &Container, has_files: bool, has_manifest: bool) -> Result<Layout> {
        let dump =
            self.dump.map(|(member, sniffed)| (member, sniffed.gzip, sniffed.content == Content::CustomDump));
        let owners = |member| names_owners(container, member);
        Ok(match (container, dump, self.tar) {
            (Container::Single(..), Some((_, _, custom)), _) => alone(custom),
            (Container::Single(..), None, _) => return Err(self.unknown(container)),
            (_, None, _) if !has_files => return Err(self.unknown(container)),
            (Container::Zip(_), _, Some(_)) | (Container::Zip(_), Some((_, _, true)), _) => Layout::OecZip,
            (Container::Zip(_), Some((member, _, false)), None) if owners(member)? => Layout::OdooSh,
            (Container::Zip(_), ..) => Layout::OdooZip,
            (_, Some((_, _, custom)), None) if !has_files && !has_manifest => alone(custom),
            (_, Some((_, false, true)), Some((_, tar))) if !tar.gzip => Layout::Odooctl,
            (_, _, Some(_)) => Layout::OecZip,
            (_, Some((_, _, true)) | None, None) => Layout::ClickOdooFolder,
            (_, Some((_, true, false)), None) => Layout::OdooSh,
            (_, Some((member, false, false)), None) if owners(member)? => Layout::OdooSh,
            (_, Some((_, false, false)), None) => Layout::OdooZip,
        })
    }

    fn unknown(&self, container: &Container) -> Problem {
        let what = match (self.tar, self.other, self.json.first()) {
            (Some((member, _)), ..) => {
                format!("{} is a tar archive without a dump beside it", container.describe(member))
            }
            (None, Some((member, what)), _) => format!("{} is {what}", container.describe(member)),
            (None, None, Some(member)) => format!("{} is JSON", container.describe(*member)),
            _ => "there is neither a database dump nor a filestore in it".to_owned(),
        };
        Problem::new(
            Kind::Invalid,
            "layout_unknown",
            format!("this is no backup of Odoo: {what}"),
            "Name a ZIP of Odoo's database manager, a pg_dump file, or the folder that holds the dump and its filestore.",
        )
    }
}

fn alone(custom: bool) -> Layout {
    if custom { Layout::CustomDump } else { Layout::PlainDump }
}
