//! What is written is a ZIP to others too: Python, unzip and our own strict reader.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::Path,
    process::Command,
    sync::Arc,
};

use super::*;
use crate::{RangedRead, zip::ZipArchive};

fn time() -> Timestamp {
    "2026-11-22T12:37:21Z".parse().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// A file in which stretches of zeros take no room.
struct Sparse(File);

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
        if ZEROS.get(..bytes.len()) != Some(bytes) {
            return self.0.write(bytes);
        }
        self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct OnDisk(File);

impl RangedRead for OnDisk {
    fn size(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(io::Read::take(file, len)))
    }
}

fn sum(bytes: &[u8]) -> Hasher {
    let mut sum = Hasher::new();
    sum.update(bytes);
    sum
}

fn path(folder: &tempfile::TempDir) -> String {
    folder.path().join("a.zip").to_str().unwrap().to_owned()
}

#[test]
fn a_member_over_four_gigabytes_and_what_follows_it_are_read_by_all() {
    const MIB: u64 = 1 << 20;
    const COUNT: u64 = 4 * 1024 + 3;
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut zip = ZipWriter::new(Sparse(File::create(&path).unwrap()), time());
    let zeros = vec![0; MIB as usize];
    let one = sum(&zeros);
    let mut crc = Hasher::new();
    for (name, method) in [("stored", Method::Stored), ("deflated", Method::Deflate)] {
        let open = zip.begin(name, method).unwrap();
        let count = if name == "stored" { COUNT } else { 1 };
        for _ in 0..count {
            match method {
                Method::Stored => zip.data(&zeros).unwrap(),
                Method::Deflate => {
                    // Blocks of their own size, not compressed.
                    for part in zeros.chunks(65_535) {
                        let len = (part.len() as u16).to_le_bytes();
                        zip.data(&[0, len[0], len[1], !len[0], !len[1]]).unwrap();
                        zip.data(part).unwrap();
                    }
                }
            }
            crc.combine(&one);
        }
        if method == Method::Deflate {
            zip.data(b"\x03\0").unwrap();
        }
        assert!(zip.end(open, std::mem::take(&mut crc), count * MIB).unwrap() >= count * MIB);
    }
    zip.member("small", Method::Stored, b"behind", crc32fast::hash(b"behind"), 6).unwrap();
    zip.finish().unwrap();

    let archive = ZipArchive::open(Arc::new(OnDisk(File::open(&path).unwrap()))).unwrap();
    for member in archive.members() {
        // That members of this size are read to their end is shown elsewhere.
        let len = member.size.min(MIB);
        let mut head = io::Read::take(archive.read(member).unwrap(), len);
        assert_eq!(io::copy(&mut head, &mut io::sink()).unwrap(), len);
    }
    assert_eq!(archive.find("stored").unwrap().size, COUNT * MIB);
    assert!(archive.find("small").unwrap().offset > 1 << 32);
    // Their own checksums take long: the small ones behind show that they got there.
    let program = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); \
        print([(i.filename, i.file_size, i.compress_size) for i in z.infolist()], z.read('small'), len(z.read('deflated')))";
    let seen = run("python3", &["-c", program, &path]);
    assert!(seen.contains(&format!("('stored', {0}, {0})", COUNT * MIB)), "{seen}");
    assert!(seen.contains("b'behind'") && seen.contains("1048576"), "{seen}");
    assert!(run("unzip", &["-t", &path, "deflated", "small"]).contains("No errors detected"));
}

#[test]
fn seventy_thousand_members_are_listed_and_tested_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut zip = ZipWriter::new(io::BufWriter::new(File::create(&path).unwrap()), time());
    for index in 0..70_000_u32 {
        let content = index.to_le_bytes();
        let name = format!("filestore/{:02x}/{index:040x}", index % 256);
        zip.member(&name, Method::Stored, &content, crc32fast::hash(&content), 4).unwrap();
    }
    assert_eq!(zip.members(), 70_000);
    zip.finish().unwrap();
    let archive = ZipArchive::open(Arc::new(std::fs::read(&path).unwrap())).unwrap();
    assert_eq!(archive.members().len(), 70_000);
    let program = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); print(len(z.namelist()), z.testzip())";
    assert_eq!(run("python3", &["-c", program, &path]).trim(), "70000 None");
    assert!(run("unzip", &["-tqq", &path]).is_empty());
}

#[test]
fn names_times_and_modes_are_as_they_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut zip = ZipWriter::new(Vec::new(), time());
    zip.member("addons/été.py", Method::Stored, b"x", crc32fast::hash(b"x"), 1).unwrap();
    let open = zip.begin("empty", Method::Deflate).unwrap();
    zip.data(b"\x03\0").unwrap();
    zip.end(open, Hasher::new(), 0).unwrap();
    std::fs::write(&path, zip.finish().unwrap()).unwrap();
    let program = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1])\n\
        for i in z.infolist(): print(i.filename, i.date_time, oct(i.external_attr >> 16), z.read(i))";
    let seen = run("python3", &["-c", program, &path]);
    let line = |name: &str, content: &str| format!("{name} (2026, 11, 22, 12, 37, 20) 0o100644 {content}\n");
    assert_eq!(seen, line("addons/été.py", "b'x'") + &line("empty", "b''"));
    assert!(run("unzip", &["-t", &path]).contains("No errors detected"));
    assert!(Path::new(&path).exists());
}

#[test]
fn times_outside_what_a_zip_can_say_are_brought_within() {
    assert_eq!(dos_time(Timestamp::UNIX_EPOCH)[1] >> 9, 0);
    assert_eq!(dos_time("2500-01-01T00:00:00Z".parse().unwrap())[1] >> 9, 127);
}
