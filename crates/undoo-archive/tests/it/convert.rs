//! From our layout to OEC.SH's and back: the same dump, the same files, the same bytes each time.

use std::{collections::BTreeMap, io::Write, process::Command};

use flate2::{Compression, write::GzEncoder};
use undoo_archive::{
    Backup,
    convert::{stream_database, stream_filestore, to_oec, to_undoo},
    filestore::FilestorePart,
    layout::Layout,
    manifest::ours::SignatureState,
    verify::{Level, Options, verify},
};

use crate::{
    layout_craft::{MANIFEST, custom_dump, open_folder, open_zip},
    write_craft::{dump, noise, open, read_all, rows, settings, sha1, signer, written},
    zip::contents,
};

const MIB: usize = 1 << 20;

fn files() -> BTreeMap<[u8; 20], Vec<u8>> {
    let contents =
        [Vec::new(), b"small".to_vec(), rows(1, 700_000).into_bytes(), noise(2, 2 * MIB), vec![0; 512]];
    contents.into_iter().map(|content| (sha1(&content), content)).collect()
}

fn ours() -> (Vec<u8>, Vec<u8>) {
    let files: Vec<([u8; 20], Vec<u8>)> = files().into_iter().collect();
    let hashes: Vec<[u8; 20]> = files.iter().map(|(hash, _)| *hash).collect();
    let text = dump(&[MIB, 10], &hashes);
    let addons: [(&str, &[u8]); 1] = [("mine/a.py", b"pass")];
    (written(&text, &files, &addons, settings(6, 2), Some(&signer())).unwrap().0, text)
}

/// Whether the backup has these files and this dump, and is whole.
fn has(backup: &Backup, text: &[u8]) {
    let report =
        verify(backup, &Options { level: Level::Deep, jobs: 2 }, std::sync::Arc::new(|_, _| Ok(()))).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let found = report.attachments.unwrap();
    assert_eq!((found.matched, found.orphans.total), (files().len() as u64, 0));
    assert!(report.parts.iter().all(|part| part.holds == Some(true)), "{:?}", report.parts);
    let dump = backup.database.as_ref().unwrap().member;
    assert!(read_all(backup.container().read(dump).unwrap()) == text);
}

#[test]
fn ours_becomes_the_documented_layout_that_common_tools_unpack() {
    let (bytes, text) = ours();
    let (oec, converted) = to_oec(&open(&bytes), Vec::new(), &settings(6, 2), None).unwrap();
    assert_eq!(converted.files, files().len() as u64);
    assert_eq!(converted.left_out.len(), 2);
    let backup = open(&oec);
    assert_eq!(backup.layout, Layout::OecZip);
    assert!(matches!(backup.filestore, FilestorePart::Tar { gzip: true, .. }));
    has(&backup, &text);
    // The same again, whatever the number of threads.
    assert!(to_oec(&open(&bytes), Vec::new(), &settings(6, 4), None).unwrap().0 == oec);

    let names: Vec<String> = contents(&crate::zip::open(oec.clone()).unwrap()).into_keys().collect();
    assert_eq!(names, ["dump.sql", "filestore.tar.gz", "manifest.json"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.zip"), &oec).unwrap();
    // As the document says: unzip, compare the checksums with the manifest, unpack the filestore.
    let script = "set -e; unzip -q b.zip; mkdir f; tar -xzf filestore.tar.gz -C f; gzip -t filestore.tar.gz
        tar -tvzf filestore.tar.gz | head -2; md5sum dump.sql filestore.tar.gz | cut -c1-32; cat manifest.json";
    let output = Command::new("bash").args(["-c", script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = String::from_utf8(output.stdout).unwrap();
    let mut lines = seen.lines();
    assert!(lines.next().unwrap().starts_with("drwxr-xr-x root/root"));
    assert!(lines.next().unwrap().starts_with("drwxr-xr-x root/root"));
    let manifest = &seen[seen.find('{').unwrap()..];
    for _ in 0..2 {
        assert!(manifest.contains(lines.next().unwrap()), "{seen}");
    }
    for key in ["\"odoo_dump\": \"1\"", "\"modules\"", "\"environment_snapshot\"", "\"odoo_version\""] {
        assert!(manifest.contains(key), "{key}");
    }
    for (hash, content) in files() {
        let hash = hex::encode(hash);
        let path = folder.path().join("f/acme").join(&hash[..2]).join(&hash);
        assert!(std::fs::read(path).unwrap() == content);
    }
}

#[test]
fn the_documented_layout_becomes_ours_again() {
    let (bytes, text) = ours();
    let (oec, _) = to_oec(&open(&bytes), Vec::new(), &settings(1, 2), Some("other")).unwrap();
    let (back, undoo, converted) =
        to_undoo(&open(&oec), Vec::new(), settings(6, 2), "0.1.0", Some(&signer())).unwrap();
    let backup = open(&back);
    assert_eq!(backup.layout, Layout::OdooZip);
    assert_eq!(backup.manifest.as_ref().unwrap().signature, SignatureState::Valid);
    assert_eq!(backup.manifest.as_ref().unwrap().db_name.as_deref(), Some("other"));
    assert_eq!(converted.files, files().len() as u64);
    assert_eq!(undoo.warnings[0].code, "converted");
    assert!(backup.tables().is_some());
    has(&backup, &text);
}

#[test]
fn a_backup_of_ours_written_anew_keeps_its_id_and_its_addons() {
    let (bytes, text) = ours();
    let first = open(&bytes);
    let (again, undoo, _) = to_undoo(&first, Vec::new(), settings(9, 2), "0.1.0", Some(&signer())).unwrap();
    has(&open(&again), &text);
    let before = first.manifest.as_ref().unwrap().undoo.as_ref().unwrap();
    assert_eq!((undoo.backup_id, undoo.parts.addons), (before.backup_id, before.parts.addons.clone()));
}

#[test]
fn folders_gzip_and_odoos_own_manifest_are_taken() {
    let (name, content) = files().into_iter().next().unwrap();
    let text = dump(&[300], &[name]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&text).unwrap();
    let path = format!("filestore/{}/{}", &hex::encode(name)[..2], hex::encode(name));
    let dump = gzip.finish().unwrap();
    let backup = open_folder(&[("x.sql.gz", &dump), ("manifest.json", MANIFEST), (&path, &content)]).unwrap();
    let (bytes, _, _) = to_undoo(&backup, Vec::new(), settings(6, 1), "0.1.0", None).unwrap();
    let found = contents(&crate::zip::open(bytes).unwrap());
    assert!(found["dump.sql"] == text && found[&path] == content);
    let manifest = String::from_utf8(found["manifest.json"].clone()).unwrap();
    assert!(
        manifest.contains("\"pg_version\": \"15.0\"")
            && manifest.contains("\"version_info\": [\n        19,")
    );
}

#[test]
fn a_custom_dump_stays_custom_and_cannot_become_ours() {
    let dump = custom_dump();
    let backup = open_zip(&[("dump.sql", &dump), ("manifest.json", MANIFEST)]).unwrap();
    let problem = to_undoo(&backup, Vec::new(), settings(6, 1), "0.1.0", None).unwrap_err();
    assert_eq!(problem.code, "custom_dump");
    let (oec, _) = to_oec(&backup, Vec::new(), &settings(6, 1), None).unwrap();
    let found = contents(&crate::zip::open(oec).unwrap());
    assert_eq!(found["dump.sql"], dump);
    assert!(!found.contains_key("filestore.tar.gz"));
}

#[test]
fn the_filestores_folder_needs_a_name_and_takes_no_path() {
    let text = dump(&[10], &[]);
    let backup = open_zip(&[("dump.sql", &text), (&format!("filestore/{}", "x"), b"")]).unwrap();
    let code = |name| to_oec(&backup, Vec::new(), &settings(1, 1), name).err().map(|problem| problem.code);
    assert_eq!(code(None), Some("no_database_name"));
    let (bytes, _) = ours();
    for name in ["..", "a/b", "", "a\nb", &"x".repeat(101)] {
        let problem = to_oec(&open(&bytes), Vec::new(), &settings(1, 1), Some(name)).unwrap_err();
        assert_eq!(problem.code, "tar_name", "{name}");
    }
    let long = "d".repeat(63);
    let (oec, _) = to_oec(&open(&bytes), Vec::new(), &settings(1, 1), Some(&long)).unwrap();
    let mut tar = open(&oec).open_filestore_tar().unwrap();
    let mut count = 0;
    while tar.next_file().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, files().len());
}

#[test]
fn the_parts_by_themselves_are_the_dump_and_a_tar_that_is_the_same_each_time() {
    let (bytes, text) = ours();
    let backup = open(&bytes);
    assert!(stream_database(&backup, Vec::new()).unwrap() == text);
    let tar = stream_filestore(&backup, Vec::new(), 1, None).unwrap();
    assert!(stream_filestore(&open(&bytes), Vec::new(), 3, None).unwrap() == tar);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("filestore.tar.gz"), &tar).unwrap();
    let run = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = run(&["tar", "-tvzf", "filestore.tar.gz", "--full-time", "--utc"]);
    let names: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(names.len(), files().len());
    assert!(names.is_sorted() && names.iter().all(|name| name.starts_with("acme/")), "{names:?}");
    assert!(
        listed.lines().all(|line| line.contains(" root/root ") && line.contains(" 2026-11-22 12:37:21 "))
    );
    run(&["tar", "-xzf", "filestore.tar.gz"]);
    for (hash, content) in files() {
        let hash = hex::encode(hash);
        let path = folder.path().join("acme").join(&hash[..2]).join(&hash);
        assert!(std::fs::read(path).unwrap() == content);
    }
}

#[test]
fn a_part_that_is_not_there_cannot_be_had_by_itself() {
    let dump = open_zip(&[("dump.sql", &dump(&[10], &[]))]).unwrap();
    assert_eq!(stream_filestore(&dump, Vec::new(), 1, Some("acme")).unwrap_err().code, "no_filestore");
}
