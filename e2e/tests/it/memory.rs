//! A backup of ten gigabytes, a file of more than four and a hundred thousand small ones in it, passes
//! through a mover of bounded memory, and through no other file; and so does one that is being made.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha1::Digest as _;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::support::{
    Instance, Kind, Made, Undoo, cache,
    docker::{docker, docker_maybe},
    sha1,
};

/// Fetched: more than 32 bits can count.
const FETCHED: u64 = 4_400 << 20;
/// At hand in the live filestore, where it takes no room on disk.
const LINKED: u64 = 5_800 << 20;
const SMALL_FILES: u64 = 100_000;
const ROWS: u64 = 256 << 20;
const MOST_KIB: u64 = 256 << 10;
/// Changed whenever what stands in the backup changes.
const RECIPE: &str = "2";

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

#[test]
fn a_mover_stays_below_256_mib_with_ten_gigabytes_and_100000_files_and_writes_no_scratch_file() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let large = Large::of(&backup);
    let archive = large.zip.to_str().unwrap();
    assert!(fs::metadata(archive).unwrap().len() > FETCHED + LINKED);
    let inspected = undoo.run(&["inspect", archive, "--json"]).ends(0).json();
    assert!(inspected["filestore"]["files"].as_u64().unwrap() > SMALL_FILES, "{inspected}");
    assert!(inspected["filestore"]["bytes"].as_u64().unwrap() > FETCHED + LINKED, "{inspected}");

    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let at_hand = live.filestore().join(&large.linked);
    fs::create_dir_all(at_hand.parent().unwrap()).unwrap();
    File::create(&at_hand).unwrap().set_len(LINKED).unwrap();
    let words = ["restore", archive, "--into", &live.target(), "--yes", "--json", "--no-boot"];
    let result = within_bounds(&undoo, &live, &words);
    let report = &result["report"];
    assert!(report["loaded"]["bytes"].as_u64().unwrap() > ROWS);
    assert!(report["filestore"]["fetched"].as_u64().unwrap() > SMALL_FILES);
    assert!(report["filestore"]["fetched_bytes"].as_u64().unwrap() > FETCHED);
    assert!(report["attachments"]["matched"].as_u64().unwrap() > SMALL_FILES + 2);
    for nothing in ["missing", "corrupt", "wrong_size"] {
        assert_eq!(report["attachments"][nothing], json!([]), "{nothing}");
    }

    backup.is_live_on(&live, &live.name);
    let of = |name: &str| fs::metadata(live.filestore().join(name)).unwrap();
    assert_eq!(of(&large.fetched).len(), FETCHED);
    assert_eq!((of(&large.linked).len(), of(&large.linked).nlink()), (LINKED, 2), "linked, not fetched");
    for number in [0, SMALL_FILES / 3, SMALL_FILES - 1] {
        let content = small(number);
        assert!(fs::read(live.filestore().join(fname(&sha1(&content)))).unwrap() == content, "{number}");
    }
}

/// Of a live filestore, where it takes no room on disk.
const BACKED_UP: u64 = 1_000 << 20;
const BACKED_UP_SMALL: u64 = 10_000;

#[test]
fn a_mover_that_makes_a_backup_stays_below_256_mib_and_writes_no_scratch_file() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    let mut rows =
        String::from("COPY ir_attachment (name, type, store_fname, checksum, file_size) FROM stdin;\n");
    let filestore = live.filestore();
    let mut add = |content: Option<Vec<u8>>| {
        let hash = content.as_ref().map_or_else(|| sha1_of_zeros(BACKED_UP), |content| sha1(content));
        let path = filestore.join(fname(&hash));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let size = content.as_ref().map_or("\\N".into(), |content| content.len().to_string());
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => File::create(&path).unwrap().set_len(BACKED_UP).unwrap(),
        }
        rows += &format!("large\tbinary\t{}\t{hash}\t{size}\n", fname(&hash));
    };
    add(None);
    (0..BACKED_UP_SMALL).for_each(|number| add(Some(small(number))));
    live.sql(&(rows + "\\.\n"));
    let data = format!("/var/lib/odoo/filestore/{}", live.name);
    docker(&["exec", "-u", "root", &live.odoo(), "chown", "-R", "odoo:", &data]);

    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let made =
        within_bounds(&undoo, &live, &["backup", &live.target(), "--to", to, "--level", "1", "--json"]);
    assert!(made["files"].as_u64().unwrap() > BACKED_UP_SMALL, "{made}");
    assert!(made["files_bytes"].as_u64().unwrap() > BACKED_UP, "{made}");
    assert_eq!(made["verified"], true);
}

/// Runs a command to its end; insists that its movers were seen, stayed within bounds, and wrote nothing
/// beside their mounts. Gives its result.
fn within_bounds(undoo: &Undoo, live: &Instance, words: &[&str]) -> Value {
    let began = Instant::now();
    let mut run = undoo.start(words, &[]);
    let (mut peak, mut movers) = (0, BTreeSet::new());
    while run.is_running() {
        for mover in live.of_undoo("mover", false) {
            peak = peak.max(look_at(&mover).unwrap_or(0));
            movers.insert(mover);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let result = run.finish().ends(0).result();
    eprintln!("{} took {:?}; peak of the movers: {} MiB", words[0], began.elapsed(), peak >> 10);
    assert!(!movers.is_empty() && peak > 1 << 10, "the mover was measured");
    assert!(peak <= MOST_KIB, "the mover's memory rose to {} MiB", peak >> 10);
    result
}

/// What a mover may use, and what it has written; gives its highest resident size so far, in KiB.
fn look_at(mover: &str) -> Option<u64> {
    let found: Value = serde_json::from_str(&docker_maybe(&["inspect", mover])?).unwrap();
    let host = &found[0]["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true, "a mover has nowhere to write but the filestore");
    // The engine makes the mount points; nothing else may be new.
    let mounted = |path: &str| {
        let mounts = found[0]["Mounts"].as_array().unwrap();
        mounts.iter().any(|mount| Path::new(mount["Destination"].as_str().unwrap()).starts_with(path))
    };
    let changes = docker_maybe(&["diff", mover]).unwrap_or_default();
    let written: Vec<_> = changes.lines().filter_map(|line| line.strip_prefix("A ")).collect();
    let strange: Vec<_> = written.into_iter().filter(|path| !mounted(path)).collect();
    assert_eq!(strange, [""; 0], "files outside of the mounts");
    let status = fs::read_to_string(format!("/proc/{}/status", found[0]["State"]["Pid"])).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

/// A backup with two large files, many small ones and a large table more. Its zeros take no room on disk.
struct Large {
    zip: PathBuf,
    /// The large files, as the filestore names them.
    fetched: String,
    linked: String,
}

impl Large {
    /// From the cache, or made now.
    fn of(backup: &Made) -> Self {
        let key =
            Path::new(&backup.zip()).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let zip = cache().join(format!("{key}-large-{RECIPE}.zip"));
        let facts = zip.with_extension("json");
        if !facts.exists() {
            let [fetched, linked] = [FETCHED, LINKED].map(|length| fname(&sha1_of_zeros(length)));
            write(backup, &zip, [(&fetched, FETCHED), (&linked, LINKED)]).unwrap();
            fs::write(&facts, json!({ "fetched": fetched, "linked": linked }).to_string()).unwrap();
        }
        let facts: Value = serde_json::from_slice(&fs::read(facts).unwrap()).unwrap();
        let name = |key: &str| facts[key].as_str().unwrap().to_owned();
        Self { zip, fetched: name("fetched"), linked: name("linked") }
    }
}

/// The large files come first, so that all others lie beyond what 32 bits can address.
fn write(backup: &Made, path: &Path, large: [(&String, u64); 2]) -> io::Result<()> {
    let mut from = ZipArchive::new(File::open(backup.zip())?)?;
    let mut to = ZipWriter::new(Sparse(File::create(path)?));
    let deflated = SimpleFileOptions::default().compression_level(Some(1)).large_file(true);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut rows = Vec::new();
    for (name, length) in large {
        to.start_file(format!("filestore/{name}"), stored.large_file(true))?;
        for _ in 0..length / ZEROS.len() as u64 {
            to.write_all(&ZEROS)?;
        }
        // More than the column of its size can hold.
        rows.push((name.clone(), None));
    }
    for number in 0..SMALL_FILES {
        let content = small(number);
        let name = fname(&sha1(&content));
        to.start_file(format!("filestore/{name}"), if number % 2 == 0 { stored } else { deflated })?;
        to.write_all(&content)?;
        rows.push((name, Some(content.len())));
    }
    for index in 0..from.len() {
        let name = from.by_index_raw(index)?.name()?.into_owned();
        if name == "dump.sql" {
            to.start_file(&name, deflated)?;
            with_more_rows(from.by_index(index)?, &rows, &mut to)?;
        } else {
            to.raw_copy_file(from.by_index_raw(index)?)?;
        }
    }
    to.finish()?;
    Ok(())
}

/// The dump with a large table of its own and an attachment for each of these files.
fn with_more_rows(
    dump: impl io::Read,
    attachments: &[(String, Option<usize>)],
    to: &mut impl Write,
) -> io::Result<()> {
    let first_id = 1_000_000;
    let mut to = io::BufWriter::with_capacity(1 << 20, to);
    let mut lines = BufReader::new(dump);
    let (mut line, mut bulk, mut attached) = (Vec::new(), false, false);
    while lines.read_until(b'\n', &mut line)? > 0 {
        if !bulk && line.starts_with(b"COPY public.") {
            to.write_all(b"CREATE TABLE public.e2e_bulk (id integer NOT NULL, line text);\n\n")?;
            to.write_all(b"COPY public.e2e_bulk (id, line) FROM stdin;\n")?;
            let text = "0123456789abcdef".repeat(64);
            for id in 0..=ROWS / text.len() as u64 {
                writeln!(to, "{id}\t{text}")?;
            }
            to.write_all(b"\\.\n\n")?;
            bulk = true;
        }
        if line.starts_with(b"SELECT pg_catalog.setval('public.ir_attachment_id_seq'") {
            line = b"SELECT pg_catalog.setval('public.ir_attachment_id_seq', 2000000, true);\n".to_vec();
        }
        to.write_all(&line)?;
        if let Some(columns) = line.strip_prefix(b"COPY public.ir_attachment (") {
            let columns = String::from_utf8_lossy(columns).into_owned();
            let columns: Vec<&str> = columns.split(')').next().unwrap().split(", ").collect();
            for (number, (name, size)) in attachments.iter().enumerate() {
                let fields = columns.iter().map(|column| match *column {
                    "id" => (first_id + number).to_string(),
                    "name" => format!("large {number}"),
                    "type" => "binary".into(),
                    "store_fname" => name.clone(),
                    "checksum" => name[3..].to_owned(),
                    "file_size" => size.map_or("\\N".into(), |size| size.to_string()),
                    _ => "\\N".into(),
                });
                writeln!(to, "{}", fields.collect::<Vec<_>>().join("\t"))?;
            }
            attached = true;
        }
        line.clear();
    }
    assert!(bulk && attached, "the dump has rows");
    to.flush()
}

/// The content of a small file, each its own.
fn small(number: u64) -> Vec<u8> {
    format!("small file {number}\n").repeat(20 + number as usize % 100).into_bytes()
}

/// Where a filestore has the file of this SHA-1.
fn fname(hash: &str) -> String {
    format!("{}/{hash}", &hash[..2])
}

fn sha1_of_zeros(length: u64) -> String {
    let mut hash = sha1::Sha1::new();
    for _ in 0..length / ZEROS.len() as u64 {
        hash.update(ZEROS);
    }
    hex::encode(hash.finalize())
}

/// A file in which long runs of zeros take no room.
struct Sparse(File);

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() == ZEROS.len() && bytes == ZEROS {
            self.0.seek_relative(ZEROS.len() as i64)?;
            return Ok(bytes.len());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
