//! The members of a backup, each read to its end: several at a time, since in object storage most of the
//! time goes into asking.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use undoo_core::{Problem, Result};

use super::{Broken, Corrupt, Files, Listed, Watched, Work, broken};
use crate::{
    attachments::store_fname,
    container::Container,
    error::problem_of,
    filestore::{FilestorePart, FilestoreTar},
    manifest::ours::TreeRecord,
    tar::TarReader,
    write::TreeDigest,
};

/// A member to read, and the hash that is its name where it is a file of the filestore.
struct Member {
    member: usize,
    hash: Option<[u8; 20]>,
}

/// What came of the members.
#[derive(Default)]
struct Collected {
    files: Files,
    files_read: u64,
    members: u64,
    /// Of our own backups: what the parts' checksums are made of.
    filestore: BTreeMap<[u8; 20], ([u8; 32], u64)>,
    addons: BTreeMap<String, ([u8; 32], u64)>,
    broken: Listed<Broken>,
    corrupt: Listed<Corrupt>,
    failed: Option<Problem>,
}

/// What a content hashes to.
struct Content {
    bytes: u64,
    sha1: Option<[u8; 20]>,
    sha256: Option<[u8; 32]>,
}

impl Work<'_> {
    /// Reads every member but the dump and a filestore's tar.
    pub(super) fn members(&mut self) -> Result<Files> {
        let list = self.list();
        let collected = Mutex::new(Collected::default());
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(list.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(member) = list.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        let found = self.content(member);
                        let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Err(problem) = self.collect(&mut collected, member, found) {
                            collected.failed.get_or_insert(problem);
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut found = collected.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = found.failed {
            return Err(problem);
        }
        found.broken.first.sort_by(|a, b| a.member.cmp(&b.member));
        found.corrupt.first.sort_by(|a, b| a.store_fname.cmp(&b.store_fname));
        self.report.members += found.members;
        self.report.broken = found.broken;
        self.report.corrupt = found.corrupt;
        self.report.files = found.files_read;
        if let Some(ours) = self.ours {
            if ours.parts.filestore.is_some() || !found.filestore.is_empty() {
                let name = |hash: &[u8; 20]| format!("filestore/{}", store_fname(hash));
                self.tree("filestore", tree(found.filestore.iter().map(|(hash, leaf)| (name(hash), *leaf))));
            }
            if ours.parts.addons.is_some() || !found.addons.is_empty() {
                self.tree("addons", tree(found.addons.into_iter()));
            }
        }
        Ok(found.files)
    }

    /// In the order of their places.
    fn list(&self) -> Vec<Member> {
        let container = self.backup.container();
        if matches!(container, Container::Single(..)) {
            return Vec::new();
        }
        let mut hashes = BTreeMap::new();
        if let FilestorePart::Members(files) | FilestorePart::Directory(files) = &self.backup.filestore {
            hashes.extend(files.iter().map(|file| (file.member as usize, file.hash)));
        }
        let elsewhere = |member: usize| {
            let dump = self.backup.database.as_ref().map(|part| part.member);
            let tar = match self.backup.filestore {
                FilestorePart::Tar { member, .. } => Some(member),
                _ => None,
            };
            dump == Some(member) || tar == Some(member) || container.name(member).ends_with('/')
        };
        let members = (0..container.len()).filter(|member| !elsewhere(*member));
        members.map(|member| Member { member, hash: hashes.get(&member).copied() }).collect()
    }

    fn content(&self, member: &Member) -> Result<Content> {
        let mut input = self.backup.container().read(member.member)?;
        let is_file = member.hash.is_some();
        let (mut sha1, mut sha256) =
            ((self.deep && is_file).then(Sha1::new), self.ours.map(|_| Sha256::new()));
        let mut bytes = 0;
        pieces(&mut *input, &mut |piece| {
            if let Some(sha1) = &mut sha1 {
                sha1.update(piece);
            }
            if let Some(sha256) = &mut sha256 {
                sha256.update(piece);
            }
            bytes += piece.len() as u64;
            self.meter.add(piece.len() as u64)
        })?;
        Ok(Content {
            bytes,
            sha1: sha1.map(|sha1| sha1.finalize().into()),
            sha256: sha256.map(|sha256| sha256.finalize().into()),
        })
    }

    fn collect(&self, into: &mut Collected, member: &Member, found: Result<Content>) -> Result<()> {
        let name = self.backup.container().name(member.member);
        let content = match found {
            Ok(content) => content,
            Err(problem) => {
                into.broken.push(broken(name, problem)?);
                if let Some(hash) = member.hash {
                    into.files.insert(hash, None);
                }
                return Ok(());
            }
        };
        into.members += 1;
        match member.hash {
            Some(hash) => {
                into.files_read += 1;
                let holds = content.sha1.is_none_or(|sha1| sha1 == hash);
                if let Some(sha1) = content.sha1.filter(|_| !holds) {
                    into.corrupt.push(corrupt(&hash, &sha1));
                }
                into.files.insert(hash, holds.then_some(content.bytes));
                if let Some(sha256) = content.sha256 {
                    into.filestore.insert(hash, (sha256, content.bytes));
                }
            }
            None => {
                if let Some(sha256) = content.sha256.filter(|_| name.starts_with("addons/")) {
                    into.addons.insert(name.to_owned(), (sha256, content.bytes));
                }
            }
        }
        Ok(())
    }

    /// Reads a filestore that comes as a tar.
    pub(super) fn tar(&mut self, member: usize, files: &mut Files) -> Result<()> {
        let container = self.backup.container();
        let name = container.name(member).to_owned();
        let read = container.read(member).and_then(|input| {
            let input = Watched::new(input, self.meter.clone());
            if self.deep {
                let tar = TarReader::open(Box::new(input.clone()), container.describe(member))?;
                self.tar_files(FilestoreTar::new(tar), files)?;
            }
            input.finish().map_err(problem_of)
        });
        match read {
            Ok(sums) => {
                self.report.members += 1;
                self.member("filestore", member, sums, None);
                Ok(())
            }
            Err(problem) => self.note(&name, problem),
        }
    }

    fn tar_files(&mut self, mut tar: FilestoreTar, files: &mut Files) -> Result<()> {
        while let Some((hash, size)) = tar.next_file()? {
            let mut digest = Sha1::new();
            pieces(&mut tar, &mut |piece| {
                digest.update(piece);
                Ok(())
            })?;
            let found: [u8; 20] = digest.finalize().into();
            self.report.files += 1;
            if found != hash {
                self.report.corrupt.push(corrupt(&hash, &found));
            }
            files.insert(hash, (found == hash).then_some(size));
        }
        self.report.findings.extend(tar.finding());
        Ok(())
    }
}

/// Reads a stream to its end.
fn pieces(input: &mut dyn Read, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => take(buffer.get(..len).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(problem_of(error)),
        }
    }
}

fn corrupt(hash: &[u8; 20], found: &[u8; 20]) -> Corrupt {
    Corrupt {
        store_fname: store_fname(hash),
        reason: format!("its content has the SHA-1 {}", hex::encode(found)),
    }
}

fn tree(files: impl Iterator<Item = (String, ([u8; 32], u64))>) -> TreeRecord {
    let mut digest = TreeDigest::default();
    for (name, (sha256, bytes)) in files {
        digest.add(&name, &sha256, bytes);
    }
    digest.end()
}
