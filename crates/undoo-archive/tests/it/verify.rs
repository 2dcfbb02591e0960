//! Verifying backups of every layout, whole and spoiled, at both levels.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::{Compression, write::GzEncoder};
use undoo_archive::{
    Backup,
    manifest::ours::SignatureState,
    verify::{Level, Options, Report, verify},
};
use undoo_core::{Kind, Problem};

use crate::{
    layout_craft::{custom_dump, open_folder, open_zip, plain_dump},
    write_craft::{backup_of, dump, noise, open, rows, settings, sha1, signer, written},
};

const MIB: usize = 1 << 20;
const LEVELS: [Level; 2] = [Level::Checksums, Level::Deep];

fn look(backup: &Backup, level: Level) -> Report {
    verify(backup, &Options { level, jobs: 3 }, Arc::new(|_, _| Ok(()))).unwrap()
}

fn files() -> Vec<Vec<u8>> {
    (0..20_u64).map(|n| if n % 2 == 0 { noise(n, 3000) } else { rows(n, 50_000).into_bytes() }).collect()
}

fn path(hash: &[u8; 20]) -> String {
    let hash = hex::encode(hash);
    format!("filestore/{}/{hash}", &hash[..2])
}

#[test]
fn a_whole_backup_of_ours_is_whole_and_every_part_holds() {
    let files = files();
    let hashes: Vec<[u8; 20]> = files.iter().map(|file| sha1(file)).collect();
    let given: Vec<([u8; 20], Vec<u8>)> = hashes.iter().copied().zip(files).collect();
    let text = dump(&[2 * MIB, 10], &hashes[..18]);
    for level in [0, 6] {
        let addons: [(&str, &[u8]); 1] = [("mine/__manifest__.py", b"{}")];
        let (bytes, _) = written(&text, &given, &addons, settings(level, 2), Some(&signer())).unwrap();
        for level in LEVELS {
            let report = look(&open(&bytes), level);
            assert!(report.is_whole(), "{report:?}");
            assert_eq!(report.signature, SignatureState::Valid);
            let parts: Vec<_> = report.parts.iter().map(|part| (&*part.part, part.holds)).collect();
            assert_eq!(parts, [("filestore", Some(true)), ("addons", Some(true)), ("database", Some(true))]);
            // Files, an addon, the manifest, the dump.
            assert_eq!((report.files, report.members), (20, 23));
            let found = report.attachments;
            assert_eq!(found.is_some(), level == Level::Deep);
            if let Some(found) = found {
                assert_eq!((found.attachments, found.matched, found.in_database), (18, 18, 1));
                assert_eq!((found.missing.total, found.orphans.total), (0, 2));
            }
        }
    }
}

#[test]
fn missing_and_corrupt_files_are_named() {
    let good = b"good".to_vec();
    let named = [sha1(&good), [0xaa; 20], [0xbb; 20]];
    let files = [(named[0], good), (named[1], b"not its name".to_vec())];
    let (bytes, _) = written(&dump(&[10], &named), &files, &[], settings(6, 1), None).unwrap();
    let report = look(&open(&bytes), Level::Checksums);
    assert!(report.is_whole(), "the backup is as it was written: {report:?}");
    let report = look(&open(&bytes), Level::Deep);
    assert!(!report.is_whole());
    assert_eq!(report.corrupt.first[0].store_fname, format!("aa/{}", "aa".repeat(20)));
    let found = report.attachments.unwrap();
    assert_eq!((found.attachments, found.matched, found.missing.total), (3, 1, 1));
    assert_eq!((found.missing.first[0].attachment, &*found.missing.first[0].name), (3, "file 2"));
}

#[test]
fn a_damaged_byte_anywhere_in_a_member_is_found_and_the_rest_is_still_read() {
    let files = files();
    let (bytes, _) = backup_of(&dump(&[MIB], &[]), &files, settings(6, 2));
    let archive = crate::zip::open(bytes.clone()).unwrap();
    for member in [0, 5, archive.members().len() - 2] {
        let member = &archive.members()[member];
        let mut damaged = bytes.clone();
        damaged[member.offset as usize + 80 + member.compressed as usize / 2] ^= 0x10;
        for level in LEVELS {
            let report = look(&open(&damaged), level);
            assert!(!report.is_whole(), "{}", member.name);
            assert_eq!(report.broken.total, 1);
            assert_eq!(report.broken.first[0].member, &*member.name);
            assert_eq!(report.members as usize, archive.members().len() - 1);
        }
    }
}

/// A backup with other contents, in a ZIP whose own checksums are right.
pub(crate) fn rebuilt(bytes: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Backup {
    let archive = crate::zip::open(bytes.to_vec()).unwrap();
    let contents = crate::zip::contents(&archive);
    let names = archive.members().iter().map(|member| member.name.to_string());
    let members: Vec<(String, Vec<u8>)> = names
        .filter_map(|name| change(&name, contents[&name].clone()).map(|content| (name, content)))
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, content)| (&**name, &**content)).collect();
    open_zip(&members).unwrap()
}

#[test]
fn what_was_exchanged_with_right_checksums_of_the_zip_is_found_by_those_of_the_manifest() {
    let files = files();
    let (bytes, _) = backup_of(&dump(&[1000], &[]), &files, settings(6, 2));
    let victim = path(&sha1(&files[3]));
    for level in LEVELS {
        let report = look(&rebuilt(&bytes, |_, content| Some(content)), level);
        assert!(report.is_whole(), "{report:?}");
        let exchanged =
            rebuilt(&bytes, |name, content| Some(if name == victim { b"x".to_vec() } else { content }));
        let removed = rebuilt(&bytes, |name, content| (name != victim).then_some(content));
        for backup in [exchanged, removed] {
            let report = look(&backup, level);
            assert!(!report.is_whole());
            assert_eq!((&*report.parts[0].part, report.parts[0].holds), ("filestore", Some(false)));
        }
        let text = dump(&[2000], &[]);
        let other =
            rebuilt(&bytes, |name, content| Some(if name == "dump.sql" { text.clone() } else { content }));
        let report = look(&other, level);
        assert_eq!(report.parts.iter().find(|part| part.part == "database").unwrap().holds, Some(false));
        assert_eq!(report.broken.total, u64::from(level == Level::Deep), "{report:?}");
        let without = rebuilt(&bytes, |name, content| (name != "dump.sql").then_some(content));
        assert_eq!(look(&without, level).broken.first[0].code, "part_missing");
    }
}

/// A tar of the files below `top`, by the real tool.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let output =
        std::process::Command::new("tar").args(["-cf", "-", "."]).current_dir(folder.path()).output();
    output.unwrap().stdout
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn backups_of_others_are_looked_at_by_the_same_measure() {
    use md5::Digest;
    let (good, bad) = (b"good".to_vec(), b"bad".to_vec());
    let named = [sha1(&good), [0xaa; 20], [0xbb; 20]];
    let text = dump(&[1000], &named);
    let files = [(path(&named[0]), good), (path(&named[1]), bad)];
    let tarred = gzip(&tar(&files));
    let md5 = |bytes: &[u8]| hex::encode(md5::Md5::digest(bytes));
    let manifest = |dump: &str, tar: &str| {
        format!(
            r#"{{"db_name": "acme", "checksums": {{"dump.sql": "{dump}", "filestore.tar.gz": "{tar}"}}}}"#
        )
    };
    let right = manifest(&md5(&text), &md5(&tarred));
    let wrong = manifest(&md5(b""), &md5(&tarred));
    let members: [(&str, &[u8]); 3] =
        [("dump.sql", &text), (&files[0].0, &files[0].1), (&files[1].0, &files[1].1)];
    let oec = |manifest: &str| {
        open_zip(&[
            ("dump.sql", &text),
            ("filestore.tar.gz", &tarred),
            ("manifest.json", manifest.as_bytes()),
        ])
    };
    let backups = [open_zip(&members), open_folder(&members), oec(&right)].map(Result::unwrap);
    for backup in &backups {
        let report = look(backup, Level::Checksums);
        assert!(report.is_whole(), "{report:?}");
        let report = look(backup, Level::Deep);
        assert_eq!((report.files, report.corrupt.total), (2, 1), "{:?}", backup.layout);
        let found = report.attachments.unwrap();
        assert_eq!((found.attachments, found.matched, found.missing.total), (3, 1, 1));
        assert!(report.broken.total == 0 && report.signature == SignatureState::Unsigned);
    }
    let holds = |backup: &Backup| {
        let report = look(backup, Level::Checksums);
        report.parts.iter().map(|part| part.holds).collect::<Vec<_>>()
    };
    assert_eq!(holds(&backups[2]), [Some(true), Some(true)]);
    assert_eq!(holds(&oec(&wrong).unwrap()), [Some(true), Some(false)]);
    assert_eq!(holds(&backups[1]), [None]);
}

#[test]
fn a_dump_cut_off_inside_a_sound_zip_is_found_by_a_deep_look_only() {
    let text = dump(&[1000], &[]);
    let cut = gzip(&text[..text.len() - 100]);
    for dump in [&text[..500], &cut] {
        let backup = open_zip(&[("dump.sql", dump)]).unwrap();
        assert!(look(&backup, Level::Checksums).is_whole());
        let report = look(&backup, Level::Deep);
        assert_eq!(report.broken.first[0].code, "dump_truncated");
    }
    let custom = custom_dump();
    let report = look(&open_zip(&[("dump.sql", &custom[..])]).unwrap(), Level::Deep);
    assert_eq!(report.members, 1);
    // A dump without attachments' rows beside files says so.
    let hash = sha1(b"x");
    let backup = open_zip(&[("dump.sql", &plain_dump(None)), (&path(&hash), b"x")]).unwrap();
    let report = look(&backup, Level::Deep);
    assert!(report.is_whole() && report.attachments.is_none());
    assert!(report.findings.iter().any(|finding| finding.code == "attachments_unknown"));
}

#[test]
fn progress_comes_to_all_and_can_end_the_work() {
    let (bytes, _) = backup_of(&dump(&[MIB], &[]), &files(), settings(6, 2));
    let backup = open(&bytes);
    for level in LEVELS {
        let most = Arc::new(AtomicU64::new(0));
        let seen = most.clone();
        let progress = move |done, total| {
            assert!(done <= total);
            seen.fetch_max(done * 1000 / total, Ordering::Relaxed);
            Ok(())
        };
        let report = verify(&backup, &Options { level, jobs: 2 }, Arc::new(progress)).unwrap();
        assert_eq!(most.load(Ordering::Relaxed), 1000);
        assert!(report.bytes > MIB as u64);
        for after in [0, 100_000, MIB as u64] {
            let stop = move |done, _| match done > after {
                true => Err(Problem::new(Kind::Cancelled, "cancelled", "enough", "")),
                false => Ok(()),
            };
            let problem = verify(&backup, &Options { level, jobs: 2 }, Arc::new(stop)).unwrap_err();
            assert_eq!(problem.kind, Kind::Cancelled);
        }
    }
}
