//! A backup of more than a gigabyte passes through a mover of bounded memory, and through no other file.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::support::{Instance, Kind, Made, Undoo, cache, docker::docker_maybe};

const FILE: u64 = 1 << 30;
const ROWS: u64 = 256 << 20;
const MOST_KIB: u64 = 256 << 10;

#[test]
fn a_mover_stays_below_256_mib_with_a_gigabyte_of_files_and_writes_no_scratch_file() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let large = large(&backup);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let words =
        ["restore", large.to_str().unwrap(), "--into", &live.target(), "--yes", "--json", "--no-boot"];
    let mut run = undoo.start(&words, &[]);
    let (mut peak, mut movers) = (0, std::collections::BTreeSet::new());
    while run.is_running() {
        for mover in live.of_undoo("mover", false) {
            let Some(found) = docker_maybe(&["inspect", &mover]) else { continue };
            let found: Value = serde_json::from_str(&found).unwrap();
            let host = &found[0]["HostConfig"];
            assert_eq!(host["ReadonlyRootfs"], true, "a mover has nowhere to write but the filestore");
            peak = peak.max(high_water(&found[0]["State"]["Pid"].to_string()).unwrap_or(0));
            // The engine makes the mount points; nothing else may be new.
            let mounted = |path: &str| {
                let mounts = found[0]["Mounts"].as_array().unwrap();
                mounts.iter().any(|mount| Path::new(mount["Destination"].as_str().unwrap()).starts_with(path))
            };
            let changes = docker_maybe(&["diff", &mover]).unwrap_or_default();
            let written: Vec<_> = changes.lines().filter_map(|line| line.strip_prefix("A ")).collect();
            let strange: Vec<_> = written.into_iter().filter(|path| !mounted(path)).collect();
            assert_eq!(strange, [""; 0], "files outside of the mounts");
            movers.insert(mover);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let result = run.finish().ends(0).result();
    eprintln!("peak of the movers: {} MiB", peak >> 10);
    assert!(!movers.is_empty() && peak > 1 << 10, "the mover was measured");
    assert!(peak <= MOST_KIB, "the mover's memory rose to {} MiB", peak >> 10);
    assert!(result["report"]["loaded"]["bytes"].as_u64().unwrap() > ROWS);
    assert!(result["report"]["filestore"]["fetched_bytes"].as_u64().unwrap() >= FILE);
    backup.is_live_on(&live, &live.name);
}

/// The highest resident size of a process so far, in KiB.
fn high_water(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

/// The backup with a large file and a large table more. Zeros and repeated rows: it stays small itself.
fn large(backup: &Made) -> PathBuf {
    let key = Path::new(&backup.zip()).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let path = cache().join(format!("{key}-large-1.zip"));
    if path.exists() {
        return path;
    }
    let mut from = ZipArchive::new(fs::File::open(backup.zip()).unwrap()).unwrap();
    let draft = path.with_extension("part");
    let mut to = ZipWriter::new(fs::File::create(&draft).unwrap());
    let options = SimpleFileOptions::default().compression_level(Some(1)).large_file(true);
    for index in 0..from.len() {
        let name = from.by_index_raw(index).unwrap().name().unwrap().into_owned();
        if name == "dump.sql" {
            to.start_file(&name, options).unwrap();
            with_large_table(from.by_index(index).unwrap(), &mut to);
        } else {
            to.raw_copy_file(from.by_index_raw(index).unwrap()).unwrap();
        }
    }
    let hash = sha1_of_zeros();
    to.start_file(format!("filestore/{}/{hash}", &hash[..2]), options).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(FILE), &mut to).unwrap();
    to.finish().unwrap();
    fs::rename(&draft, &path).unwrap();
    path
}

fn with_large_table(dump: impl std::io::Read, to: &mut impl std::io::Write) {
    let mut lines = BufReader::new(dump);
    let (mut line, mut done) = (Vec::new(), false);
    while lines.read_until(b'\n', &mut line).unwrap() > 0 {
        if !done && line.starts_with(b"COPY public.") {
            to.write_all(b"CREATE TABLE public.e2e_bulk (id integer NOT NULL, line text);\n\n").unwrap();
            to.write_all(b"COPY public.e2e_bulk (id, line) FROM stdin;\n").unwrap();
            let (text, mut written) = ("0123456789abcdef".repeat(64), 0);
            for id in 0.. {
                let row = format!("{id}\t{text}\n");
                to.write_all(row.as_bytes()).unwrap();
                written += row.len() as u64;
                if written > ROWS {
                    break;
                }
            }
            to.write_all(b"\\.\n\n").unwrap();
            done = true;
        }
        to.write_all(&line).unwrap();
        line.clear();
    }
    assert!(done, "the dump has rows");
}

fn sha1_of_zeros() -> String {
    use sha1::Digest as _;
    let (mut hash, zeros) = (sha1::Sha1::new(), vec![0; 1 << 20]);
    for _ in 0..FILE >> 20 {
        hash.update(&zeros);
    }
    hex::encode(hash.finalize())
}
