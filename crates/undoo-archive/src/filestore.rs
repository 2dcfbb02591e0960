//! The filestore within a backup: which members are files of it, and what their content must hash to.
//!
//! A file's name is the SHA-1 of its content, so nothing else about a member's name matters once the
//! hash is known, and no other name ever becomes a file. Whoever reads a file checks the hash; this
//! module only says what it must be.

use std::io::{self, Read};

use undoo_core::{Finding, Kind, Problem, Result};

use crate::{container::shown, tar::TarReader};

/// A file of the filestore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilestoreFile {
    /// SHA-1 of its content, as its name says.
    pub hash: [u8; 20],
    /// Bytes of its content.
    pub size: u64,
    /// Index of the container's member.
    pub member: u32,
}

/// How a backup carries its filestore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilestorePart {
    /// Not at all.
    None,
    /// As members of a ZIP, in the order of their place in it.
    Members(Vec<FilestoreFile>),
    /// As files of a folder.
    Directory(Vec<FilestoreFile>),
    /// As a tar archive, compressed or not, which has to be streamed whole.
    Tar {
        /// Index of the container's member.
        member: usize,
        /// Whether gzip compresses it.
        gzip: bool,
        /// Bytes that it takes where it is stored.
        stored: u64,
    },
}

/// What a name within a backup means for the filestore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A file of the filestore.
    File([u8; 20]),
    /// A directory, or a marker of the garbage collector: nothing to restore.
    Nothing,
    /// Not of the filestore.
    Other,
}

/// Tells the members of one filestore from the rest, and sees to it that there is only one.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    prefix: Option<String>,
    unknown: u64,
    first_unknown: Vec<String>,
}

impl Sorter {
    /// What a harmless path means. Paths of the filestore are `<2 hex>/<40 hex>` below `filestore/`,
    /// `filestore/<db>/`, `<db>/` or nothing, the same for all.
    ///
    /// # Errors
    /// `filestore_prefix_mismatch` (`Refused`) where the folder is not the front of the hash,
    /// `filestore_ambiguous` (`Invalid`) where there is a second filestore.
    pub(crate) fn sort(&mut self, path: &str) -> Result<Meaning> {
        let Some((hash, folder, prefix)) = split(path) else {
            let marker = path.split('/').rev().skip(1).any(|part| part == "checklist");
            return Ok(if marker || path.ends_with('/') { Meaning::Nothing } else { Meaning::Other });
        };
        if folder != &hash[..2] {
            return Err(Problem::new(
                Kind::Refused,
                "filestore_prefix_mismatch",
                format!("\"{}\" lies in the folder of another hash", shown(path)),
                "Odoo writes no such file. Find out who changed this backup.",
            ));
        }
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        if parts.contains(&"checklist") {
            return Ok(Meaning::Nothing);
        }
        if parts.len() > 2 || (parts.len() == 2 && parts[0] != "filestore") {
            return Ok(Meaning::Other);
        }
        match &self.prefix {
            Some(known) if known != prefix => {
                return Err(Problem::new(
                    Kind::Invalid,
                    "filestore_ambiguous",
                    format!("the backup has two filestores, \"{}\" and \"{}\"", shown(known), shown(prefix)),
                    "Make a backup with the filestore of the one database that is to be restored.",
                ));
            }
            Some(_) => {}
            None => self.prefix = Some(prefix.to_owned()),
        }
        let mut bytes = [0; 20];
        Ok(match hex::decode_to_slice(hash, &mut bytes) {
            Ok(()) => Meaning::File(bytes),
            Err(_) => Meaning::Other,
        })
    }

    /// Notes a member that nobody knows what to do with.
    pub(crate) fn note_unknown(&mut self, path: &str) {
        self.unknown += 1;
        if self.first_unknown.len() < 5 {
            self.first_unknown.push(shown(path));
        }
    }

    /// What to say about members that were noted.
    pub(crate) fn finding(&self) -> Option<Finding> {
        if self.unknown == 0 {
            return None;
        }
        let names = self.first_unknown.join("\", \"");
        let more = if self.unknown > 5 { " and others" } else { "" };
        Some(Finding::info(
            "filestore_unknown_member",
            format!(
                "{} members belong neither to the database nor to the filestore: \"{names}\"{more}",
                self.unknown
            ),
            "They are left out of the restore. If you need them, take them from the backup by hand.",
        ))
    }
}

/// Hash, folder and what is before them, of a path that ends like a file of a filestore.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let lower_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (front, hash) = path.rsplit_once('/')?;
    let (prefix, folder) = front.rsplit_once('/').unwrap_or(("", front));
    (hash.len() == 40 && folder.len() == 2 && lower_hex(hash) && lower_hex(folder))
        .then_some((hash, folder, prefix))
}

/// The files of a filestore that comes as a tar. Reading from it yields the content of the file told
/// last; errors carry their problem.
pub struct FilestoreTar {
    tar: TarReader,
    sorter: Sorter,
}

impl FilestoreTar {
    pub(crate) fn new(tar: TarReader) -> Self {
        Self { tar, sorter: Sorter::default() }
    }

    /// Hash and size of the next file; `None` after a complete archive.
    ///
    /// # Errors
    /// As [`TarReader::next_entry`]; `Refused` for a folder that is not the front of the hash,
    /// `Invalid` for a second filestore.
    pub fn next_file(&mut self) -> Result<Option<([u8; 20], u64)>> {
        while let Some(entry) = self.tar.next_entry()? {
            match self.sorter.sort(&entry.path)? {
                Meaning::File(hash) => return Ok(Some((hash, entry.size))),
                Meaning::Nothing => {}
                Meaning::Other => self.sorter.note_unknown(&entry.path),
            }
        }
        Ok(None)
    }

    /// What to say about the members that were left out so far.
    pub fn finding(&self) -> Option<Finding> {
        self.sorter.finding()
    }
}

impl Read for FilestoreTar {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.tar.read(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "b1/b15835fdac8df7a502d7203681ca1b44866be2ce";

    #[test]
    fn files_are_known_below_each_top_folder_that_tools_write() {
        for top in ["", "filestore/", "filestore/acme/", "acme/", "filestore/b1/", "b1/"] {
            let meaning = Sorter::default().sort(&format!("{top}{FILE}")).ok();
            assert!(matches!(meaning, Some(Meaning::File([0xb1, 0x58, ..]))), "{top}");
        }
    }

    #[test]
    fn directories_and_checklists_are_nothing_and_the_rest_is_other() {
        let meaning = |path: &str| Sorter::default().sort(path).ok();
        for path in ["filestore/", "filestore/b1/", "checklist/b1/x", "filestore/acme/checklist/x"] {
            assert_eq!(meaning(path), Some(Meaning::Nothing), "{path}");
        }
        assert_eq!(meaning(&format!("filestore/checklist/{FILE}")), Some(Meaning::Nothing));
        let deep = format!("var/lib/{FILE}");
        for path in ["dump.sql", "b1/short", "B1/B15835FDAC8DF7A502D7203681CA1B44866BE2CE", &deep, &FILE[3..]]
        {
            assert_eq!(meaning(path), Some(Meaning::Other), "{path}");
        }
    }

    #[test]
    fn a_file_in_the_folder_of_another_hash_is_refused() {
        let problem = Sorter::default().sort(&format!("filestore/b2/{}", &FILE[3..])).err();
        assert_eq!(problem.map(|p| p.code), Some("filestore_prefix_mismatch"));
    }

    #[test]
    fn a_second_filestore_is_refused() {
        let mut sorter = Sorter::default();
        assert!(sorter.sort(&format!("filestore/one/{FILE}")).is_ok());
        let problem = sorter.sort(&format!("filestore/two/{FILE}")).err();
        assert_eq!(problem.map(|p| p.code), Some("filestore_ambiguous"));
    }
}
