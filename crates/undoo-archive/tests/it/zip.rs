//! ZIPs as honest tools make them: Python's zipfile (Odoo's own), Info-ZIP and the `zip` crate.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use undoo_archive::zip::{Method, ZipArchive};

use crate::zip_craft::Counting;

/// Every file of the archive, read and checked.
pub(crate) fn contents(archive: &ZipArchive) -> BTreeMap<String, Vec<u8>> {
    let files = archive.members().iter().filter(|member| !member.is_directory());
    let read = files.map(|member| {
        let mut bytes = Vec::new();
        archive.read(member).unwrap().read_to_end(&mut bytes).unwrap();
        (member.name.to_string(), bytes)
    });
    read.collect()
}

pub(crate) fn open(bytes: Vec<u8>) -> undoo_core::Result<ZipArchive> {
    ZipArchive::open(Arc::new(bytes))
}

/// Runs a Python program and returns what it wrote to its standard output.
pub(crate) fn python(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("python3").arg("-c").arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sample() -> BTreeMap<String, Vec<u8>> {
    let noise = (0..200_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    BTreeMap::from([
        ("dump.sql".into(), b"-- PostgreSQL database dump\n".repeat(20_000)),
        ("manifest.json".into(), b"{}".to_vec()),
        ("filestore/da/da39a3ee5e6b4b0d3255bfef95601890afd80709".into(), Vec::new()),
        ("filestore/né".into(), noise),
    ])
}

fn write_sample(folder: &Path) {
    for (name, content) in sample() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

const PYTHON: &str = r#"
import io, os, sys, zipfile
folder, how = sys.argv[1:]
class Pipe(io.RawIOBase):
    def __init__(self): self.bytes = bytearray()
    def writable(self): return True
    def write(self, b): self.bytes += b; return len(b)
out = Pipe() if 'pipe' in how else io.BytesIO()
method = zipfile.ZIP_STORED if 'stored' in how else zipfile.ZIP_DEFLATED
with zipfile.ZipFile(out, 'w', method, allowZip64=True) as z:
    if 'comment' in how: z.comment = b'made on a Monday ' * 100
    for root, _, files in os.walk(folder):
        for f in files:
            path = os.path.join(root, f)
            with z.open(os.path.relpath(path, folder), 'w', force_zip64='zip64' in how) as m:
                m.write(open(path, 'rb').read())
sys.stdout.buffer.write(out.bytes if 'pipe' in how else out.getvalue())
"#;

#[test]
fn python_zipfiles_read_back_whole_however_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let folder = folder.path().to_str().unwrap();
    for how in
        ["deflate", "stored", "deflate zip64", "stored zip64 comment", "deflate pipe", "stored pipe zip64"]
    {
        let archive = open(python(PYTHON, &[folder, how])).unwrap();
        assert_eq!(contents(&archive), sample(), "{how}");
        let method = if how.contains("stored") { Method::Stored } else { Method::Deflate };
        assert_eq!(archive.find("dump.sql").unwrap().method, method, "{how}");
    }
}

#[test]
fn info_zip_archives_read_back_whole_however_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let zip = |options: &[&str], target: &Path| {
        let mut command = Command::new("zip");
        let output =
            command.arg("-qr").args(options).arg(target).arg(".").current_dir(folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    // To a pipe, sizes follow the data in descriptors.
    for options in [&[][..], &["-0"], &["-D", "-X"]] {
        assert_eq!(contents(&open(zip(options, "-".as_ref())).unwrap()), sample(), "{options:?} to a pipe");
    }
    // With -fz to a pipe, Info-ZIP 3.0 leaves the ZIP64 end record out, and its own unzip fails too.
    for options in [&[][..], &["-0"], &["-D", "-X"], &["-fz"], &["-fd"]] {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("a.zip");
        zip(options, &path);
        assert_eq!(contents(&open(std::fs::read(path).unwrap()).unwrap()), sample(), "{options:?} to a file");
    }
}

#[test]
fn archives_of_the_zip_crate_read_back_whole() {
    for large in [false, true] {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in sample() {
            let options = zip::write::SimpleFileOptions::default().large_file(large);
            writer.start_file(name, options).unwrap();
            writer.write_all(&content).unwrap();
        }
        writer.add_directory("addons/", zip::write::SimpleFileOptions::default()).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        assert_eq!(contents(&open(bytes).unwrap()), sample(), "large_file {large}");
    }
}

#[test]
fn a_member_is_found_by_its_exact_name_only() {
    let archive = open(crate::zip_craft::craft(&[(b"b", b"1"), (b"a/c", b"2"), (b"a", b"3")]).bytes).unwrap();
    for name in ["a", "b", "a/c"] {
        assert_eq!(&*archive.find(name).unwrap().name, name);
    }
    for name in ["", "A", "a/", "c", "a/c/"] {
        assert!(archive.find(name).is_none(), "{name}");
    }
}

#[test]
fn an_empty_archive_has_no_members() {
    assert_eq!(open(python(PYTHON, &["/nonexistent", "deflate"])).unwrap().members(), []);
}

#[test]
fn a_member_costs_one_request_and_opening_costs_one_for_a_small_archive() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let bytes = python(PYTHON, &[folder.path().to_str().unwrap(), "deflate"]);
    let source = Counting::new(Arc::new(bytes));
    let requests = source.requests.clone();
    let archive = ZipArchive::open(Arc::new(source)).unwrap();
    assert_eq!(requests.swap(0, Ordering::Relaxed), 1);
    let mut dump = Vec::new();
    archive.read(archive.find("dump.sql").unwrap()).unwrap().read_to_end(&mut dump).unwrap();
    assert_eq!(dump, sample()["dump.sql"]);
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[test]
fn the_head_of_a_member_is_a_prefix_within_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let folder = folder.path().to_str().unwrap();
    for how in ["stored", "deflate", "stored pipe zip64"] {
        let source = Counting::new(Arc::new(python(PYTHON, &[folder, how])));
        let bytes = source.bytes.clone();
        let archive = ZipArchive::open(Arc::new(source)).unwrap();
        let whole = &sample()["filestore/né"];
        for budget in [0, 10, 46, 60, 100, 1000, 70_000, 1 << 40] {
            bytes.store(0, Ordering::Relaxed);
            let mut head = Vec::new();
            let member = archive.find("filestore/né").unwrap();
            archive.read_head(member, budget).unwrap().read_to_end(&mut head).unwrap();
            assert!(whole.starts_with(&head), "{how} {budget}");
            assert!(bytes.load(Ordering::Relaxed) <= budget.max(100), "{how} {budget}");
            assert_eq!(head.len() == whole.len(), budget > 1 << 30, "{how} {budget}");
            assert!(budget < 1000 || !head.is_empty(), "{how} {budget}");
        }
    }
}
