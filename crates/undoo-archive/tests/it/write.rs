//! Backups that we write: read by Python's zipfile, Info-ZIP and our own reader, the same whatever the
//! number of threads, within bounded memory, and honest about what is wrong with what they were given.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{self, Read, Write},
    process::Command,
    rc::Rc,
};

use proptest::prelude::*;
use undoo_archive::{
    backup::inspect, filestore::FilestorePart, layout::Layout, manifest::ours::SignatureState,
    write::BackupWriter, zip::Method,
};
use undoo_core::Kind;

use crate::{
    write_craft::{
        Counted, backup_of, description, dump, noise, open, read_all, rows, settings, sha1, signer, written,
    },
    zip::{contents, python},
};

const MIB: usize = 1 << 20;

fn files() -> Vec<Vec<u8>> {
    let png = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![7; 5000]].concat();
    let pdf = [b"%PDF-1.7\n".to_vec(), noise(3, 2 * MIB + 17)].concat();
    vec![
        png,
        pdf,
        Vec::new(),
        b"small".to_vec(),
        rows(9, 3 * MIB).into_bytes(),
        noise(4, MIB),
        vec![0; 4 * MIB],
    ]
}

#[test]
fn a_backup_is_accepted_by_python_by_info_zip_and_by_our_reader() {
    let dump = dump(&[100, 3 * MIB, 0], &[]);
    for level in [0, 1, 6] {
        let (bytes, _) = backup_of(&dump, &files(), settings(level, 3));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.zip");
        std::fs::write(&path, &bytes).unwrap();
        let path = path.to_str().unwrap();
        let unzip = Command::new("unzip").args(["-t", path]).output().unwrap();
        assert!(String::from_utf8_lossy(&unzip.stdout).contains("No errors detected"), "{unzip:?}");
        let program = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None\n\
            assert zipfile.is_zipfile(sys.argv[1]); print(z.namelist()); sys.stdout.write(z.read('dump.sql').decode())";
        let seen = String::from_utf8(python(program, &[path])).unwrap();
        let (names, text) = seen.split_once('\n').unwrap();
        assert!(
            names.starts_with("['dump.sql', 'filestore/") && names.ends_with("'manifest.json']"),
            "{names}"
        );
        assert!(text.as_bytes() == dump);

        let found = contents(&crate::zip::open(bytes.clone()).unwrap());
        assert!(found["dump.sql"] == dump);
        let backup = open(&bytes);
        assert_eq!(backup.layout, Layout::OdooZip);
        assert_eq!(backup.findings, []);
        let FilestorePart::Members(members) = &backup.filestore else { panic!() };
        let by_hash: BTreeMap<[u8; 20], Vec<u8>> =
            files().into_iter().map(|file| (sha1(&file), file)).collect();
        assert_eq!(members.len(), by_hash.len());
        for file in members {
            assert!(read_all(backup.open_file(file).unwrap()) == by_hash[&file.hash]);
        }
    }
}

#[test]
fn what_is_compressed_already_is_stored_and_the_rest_is_deflated() {
    let (bytes, _) = backup_of(&dump(&[10], &[]), &files(), settings(6, 2));
    let archive = crate::zip::open(bytes).unwrap();
    let method = |content: &[u8]| {
        let hash = hex::encode(sha1(content));
        archive.find(&format!("filestore/{}/{hash}", &hash[..2])).unwrap().method
    };
    let expected = [
        Method::Stored,
        Method::Stored,
        Method::Stored,
        Method::Stored,
        Method::Deflate,
        Method::Deflate,
        Method::Deflate,
    ];
    for (file, expected) in files().iter().zip(expected) {
        // Noise of a whole block is found out too late.
        assert_eq!(method(file), expected, "{:?}", &file[..file.len().min(8)]);
    }
    assert_eq!(archive.find("dump.sql").unwrap().method, Method::Deflate);
}

#[test]
fn the_manifest_has_odoos_keys_in_odoos_order_and_what_was_seen() {
    let files = files();
    let hashes: Vec<[u8; 20]> = files.iter().map(|file| sha1(file)).collect();
    let named = [&hashes[1..4], &[[0xab; 20]]].concat();
    let (bytes, undoo) = backup_of(&dump(&[200, 2 * MIB], &named), &files, settings(6, 2));
    let archive = crate::zip::open(bytes.clone()).unwrap();
    let manifest = read_all(archive.read(archive.find("manifest.json").unwrap()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.json");
    std::fs::write(&path, &manifest).unwrap();
    // Odoo's part is as Python itself writes it.
    let program = "import sys,json; m=json.load(open(sys.argv[1])); del m['undoo']; print(json.dumps(m, indent=4), end='')";
    let odoo = python(program, &[path.to_str().unwrap()]);
    let front = odoo.strip_suffix(b"\n}").unwrap();
    assert!(manifest.starts_with(front), "{}", String::from_utf8_lossy(&manifest));
    assert!(
        odoo.starts_with(
            b"{\n    \"odoo_dump\": \"1\",\n    \"db_name\": \"acme\",\n    \"version\": \"19.0\""
        )
    );

    let backup = open(&bytes);
    let read = backup.manifest.as_ref().unwrap();
    assert_eq!(read.signature, SignatureState::Valid);
    let mut as_read = (**read.undoo.as_ref().unwrap()).clone();
    as_read.signature = None;
    assert_eq!(as_read, undoo);
    let found = undoo.attachments.unwrap();
    assert_eq!((found.attachments, found.in_database, found.missing_total, found.orphans), (4, 1, 1, 4));
    assert_eq!((found.missing[0].attachment, &found.missing[0].store_fname[..5]), (4, "ab/ab"));
    assert_eq!(undoo.warnings[0].code, "missing");
    let parts = undoo.parts;
    assert_eq!(parts.filestore.unwrap().files, files.len() as u64);
    assert!(parts.addons.is_none());
    assert_eq!(parts.database.unwrap().server_version.as_deref(), Some("15.18 (Debian 15.18-0+deb12u1)"));
}

#[test]
fn checksums_of_the_parts_are_those_of_common_tools() {
    let dump = dump(&[MIB + 5], &[]);
    let files = [b"one".to_vec(), b"two".to_vec(), noise(8, MIB + 3)];
    let (_, undoo) = backup_of(&dump, &files, settings(1, 2));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dump.sql"), &dump).unwrap();
    for file in &files {
        let hash = hex::encode(sha1(file));
        let to = folder.path().join("filestore").join(&hash[..2]);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(to.join(hash), file).unwrap();
    }
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let list = "find filestore -type f | LC_ALL=C sort | while read f; do \
        echo \"$(sha256sum < $f | cut -d' ' -f1) $(stat -c %s $f) $f\"; done";
    let database = undoo.parts.database.unwrap();
    assert_eq!((database.sha256, database.md5), (shell("sha256sum dump.sql"), shell("md5sum dump.sql")));
    let filestore = undoo.parts.filestore.unwrap();
    assert_eq!(filestore.sha256, shell(&format!("{list} | sha256sum")));
    assert_eq!(filestore.md5, shell(&format!("{list} | md5sum")));
}

#[test]
fn a_changed_manifest_shows_and_an_unsigned_one_says_so() {
    let (bytes, _) = backup_of(&dump(&[10], &[]), &[], settings(0, 1));
    let state = |bytes: &[u8]| open(bytes).manifest.unwrap().signature;
    assert_eq!(state(&bytes), SignatureState::Valid);
    // Stored, so that its text can be changed in place; the checksum is put right too.
    for (from, to) in [("\"acme\"", "\"bcme\""), ("org-1", "org-2"), ("0.1.0", "0.2.0")] {
        let archive = crate::zip::open(bytes.clone()).unwrap();
        let member = archive.find("manifest.json").unwrap().clone();
        let mut manifest = read_all(archive.read(&member).unwrap());
        let mut changed = bytes.clone();
        let at = memchr::memmem::find(&manifest, from.as_bytes()).unwrap();
        manifest[at..at + from.len()].copy_from_slice(to.as_bytes());
        let start = member.offset as usize + 30 + member.name.len();
        changed[start..start + manifest.len()].copy_from_slice(&manifest);
        let crc = member.crc.to_le_bytes();
        for place in memchr::memmem::find_iter(&bytes, &crc) {
            changed[place..place + 4].copy_from_slice(&crc32fast::hash(&manifest).to_le_bytes());
        }
        assert_eq!(state(&changed), SignatureState::Invalid, "{from}");
        let inspection = inspect(&open(&changed)).unwrap();
        assert!(inspection.findings.iter().any(|finding| finding.code == "signature_invalid"));
    }
    let (bytes, _) = written(&dump(&[10], &[]), &[], &[], settings(0, 1), None).unwrap();
    assert_eq!(state(&bytes), SignatureState::Unsigned);
}

#[test]
fn inspection_tells_that_it_is_ours_and_who_signed() {
    let (bytes, _) = backup_of(&dump(&[10], &[[1; 20]]), &[], settings(6, 1));
    let inspection = inspect(&open(&bytes)).unwrap();
    let undoo = inspection.undoo.unwrap();
    assert_eq!(undoo.signature, SignatureState::Valid);
    assert_eq!(undoo.public_key, Some(signer().public_key()));
    assert_eq!(
        (undoo.organisation.as_deref(), undoo.seekable, undoo.missing_files),
        (Some("org-1"), true, 1)
    );
    assert!(inspection.findings.iter().any(|finding| finding.code == "noted_missing"));
}

#[test]
fn a_file_that_is_not_its_name_is_kept_and_named() {
    let files =
        [([1; 20], b"other".to_vec()), ([2; 20], noise(1, 2 * MIB)), (sha1(b"good"), b"good".to_vec())];
    let (bytes, undoo) = written(&dump(&[10], &[]), &files, &[], settings(6, 2), None).unwrap();
    assert_eq!(undoo.corrupt.iter().map(|file| file.bytes).collect::<Vec<_>>(), [5, 2 * MIB as u64]);
    assert_eq!(undoo.corrupt[0].sha1, hex::encode(sha1(b"other")));
    assert_eq!(undoo.warnings[0].code, "corrupt");
    let found = contents(&crate::zip::open(bytes).unwrap());
    assert_eq!(found[&format!("filestore/01/{}", "01".repeat(20))], b"other");
}

#[test]
fn addons_are_members_of_their_own_and_harmful_paths_are_refused() {
    let addons: [(&str, &[u8]); 2] = [("mine/__manifest__.py", b"{}"), ("mine/static/\u{e9}.js", b"//")];
    let (bytes, undoo) = written(&dump(&[10], &[]), &[], &addons, settings(6, 1), None).unwrap();
    assert_eq!(undoo.parts.addons.map(|part| (part.files, part.bytes)), Some((2, 4)));
    assert_eq!(open(&bytes).findings, []);
    for path in ["../x", "/etc/passwd", "a\\b", "folder/"] {
        let mut writer = BackupWriter::new(Vec::new(), settings(1, 1)).unwrap();
        assert!(writer.addon(path, &mut io::empty()).is_err(), "{path}");
    }
}

#[test]
fn a_dump_that_broke_off_makes_no_backup() {
    let whole = dump(&[2 * MIB], &[]);
    for len in [0, 100, MIB, whole.len() - 60] {
        let mut writer = BackupWriter::new(Vec::new(), settings(1, 2)).unwrap();
        let problem = writer.database(&mut &whole[..len]).unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid, "{len}: {problem:?}");
        let problem = writer.file([1; 20], &mut io::empty()).unwrap_err();
        assert_eq!(problem.code, "backup_writer_misused");
        assert!(writer.finish(description(), None).is_err());
    }
}

#[test]
fn a_dump_with_an_unknown_command_is_kept_with_a_warning() {
    let text = String::from_utf8(dump(&[10], &[])).unwrap();
    let text = text.replace("SELECT pg_catalog", "\\newcommand\nSELECT pg_catalog");
    let (bytes, undoo) = written(text.as_bytes(), &[], &[], settings(6, 1), None).unwrap();
    assert_eq!(undoo.warnings[0].code, "meta_command");
    assert!(undoo.parts.database.unwrap().tables.is_none());
    assert!(contents(&crate::zip::open(bytes).unwrap())["dump.sql"] == text.as_bytes());
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("gone"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("full"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_input_and_output_are_told_apart_and_keep_their_cause() {
    let mut writer = BackupWriter::new(Vec::new(), settings(1, 1)).unwrap();
    let problem = writer.file([1; 20], &mut Broken).unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "backup_source_unreadable"));
    let mut writer = BackupWriter::new(Broken, settings(1, 1)).unwrap();
    let problem = writer.database(&mut &dump(&[10], &[])[..]).unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "backup_write_failed"));
    assert_eq!(problem.source.unwrap().to_string(), "full");
}

#[test]
fn what_was_read_and_not_written_yet_is_bounded() {
    struct Watch {
        written: Rc<Cell<u64>>,
        read: Rc<Cell<u64>>,
        most: Rc<Cell<u64>>,
    }
    impl Write for Watch {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Nothing is compressed here, so what came in goes out.
            self.most.set(self.most.get().max(self.read.get().saturating_sub(self.written.get())));
            self.written.set(self.written.get() + bytes.len() as u64);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (written, read, most) = (Rc::default(), Rc::<Cell<u64>>::default(), Rc::<Cell<u64>>::default());
    let out = Watch { written, read: read.clone(), most: most.clone() };
    let mut writer = BackupWriter::new(out, settings(0, 2)).unwrap();
    let mut dump = Counted(io::Cursor::new(dump(&[40 * MIB], &[])), read.clone());
    writer.database(&mut dump).unwrap();
    let large = noise(5, 10 * MIB);
    writer.file(sha1(&large), &mut Counted(&large[..], read.clone())).unwrap();
    for index in 0..400_u32 {
        let small = [&index.to_le_bytes()[..], &large[..100_000]].concat();
        writer.file(sha1(&small), &mut Counted(&small[..], read.clone())).unwrap();
    }
    writer.finish(description(), None).unwrap();
    assert!(read.get() > 80 * MIB as u64);
    assert!(most.get() <= 6 * MIB as u64, "{}", most.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn content_is_kept_and_threads_change_nothing(
        tables in proptest::collection::vec(0..3 * MIB, 0..4),
        sizes in proptest::collection::vec((any::<u64>(), prop_oneof![0..2000_usize, 0..3 * MIB], any::<bool>()), 0..12),
        level in 0..=9_u8,
        threads in 1..5_usize,
    ) {
        let dump = dump(&tables, &[]);
        let files: Vec<Vec<u8>> = sizes
            .into_iter()
            .map(|(seed, len, text)| if text { rows(seed, len).into_bytes() } else { noise(seed, len) })
            .collect();
        let (bytes, _) = backup_of(&dump, &files, settings(level, threads));
        let found = contents(&crate::zip::open(bytes.clone()).unwrap());
        prop_assert!(found["dump.sql"] == dump);
        for file in &files {
            let hash = hex::encode(sha1(file));
            let name = format!("filestore/{}/{hash}", &hash[..2]);
            prop_assert!(found[&name] == *file);
        }
        prop_assert!(backup_of(&dump, &files, settings(level, threads % 4 + 1)).0 == bytes);
    }
}
