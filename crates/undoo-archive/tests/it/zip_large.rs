//! Sizes: members over 4 GiB, a hundred thousand members, an archive of a gigabyte. No large file is
//! needed, because the archives exist by rule only.

use std::{
    io::{self, Read},
    sync::{Arc, atomic::Ordering},
};

use undoo_archive::zip::{Member, ZipArchive};

use crate::zip_craft::{Counting, Synthetic, end_record, header};

const CONTENT: &[u8] = b"after four gigabytes";
const SATURATED: u32 = u32::MAX;

fn crc_of_zeros(len: u64) -> u32 {
    let mut unit = crc32fast::Hasher::new();
    unit.update(&[0]);
    let (mut sum, mut left) = (crc32fast::Hasher::new(), len);
    while left > 0 {
        if left & 1 == 1 {
            sum.combine(&unit);
        }
        let half = unit.clone();
        unit.combine(&half);
        left >>= 1;
    }
    sum.finalize()
}

fn zip64_extra(values: &[u64]) -> Vec<u8> {
    let mut extra = vec![1, 0, (values.len() * 8) as u8, 0];
    extra.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    extra
}

fn zip64_end(entries: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut bytes = b"PK\x06\x06".to_vec();
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([45, 0, 45, 0]);
    bytes.extend([0; 8]);
    for value in [entries, entries, size, offset] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend((offset + size).to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(end_record(u16::MAX, SATURATED, SATURATED, b""));
    bytes
}

/// A stored member of zeros, a deflated one of zeros in uncompressed blocks (each over 4 GiB), and a
/// small one behind them.
fn huge() -> (Synthetic, u64) {
    const BLOCK: u64 = 65_535;
    let blocks = (1 << 32) / BLOCK + 3;
    let size = blocks * BLOCK;
    let crc = crc_of_zeros(size);
    let mut zip = Synthetic::default();
    let mut directory = Vec::new();

    let extra = zip64_extra(&[size, size]);
    zip.push(&header(false, b"stored", 0, crc, [SATURATED, SATURATED, 0], &extra), 1);
    zip.push(&vec![0; 1 << 20], size >> 20);
    zip.push(&[0], size & ((1 << 20) - 1));
    directory.extend(header(true, b"stored", 0, crc, [SATURATED, SATURATED, 0], &extra));

    let mut block = b"\0\xff\xff\0\0".to_vec();
    block.resize(5 + BLOCK as usize, 0);
    let compressed = blocks * block.len() as u64 + 5;
    let extra = zip64_extra(&[size, compressed]);
    let offset = zip.push(&header(false, b"deflated", 8, crc, [SATURATED, SATURATED, 0], &extra), 1);
    zip.push(&block, blocks);
    zip.push(b"\x01\0\0\xff\xff", 1);
    let extra = zip64_extra(&[size, compressed, offset]);
    directory.extend(header(true, b"deflated", 8, crc, [SATURATED; 3], &extra));

    let sizes = [CONTENT.len() as u32; 2];
    let crc = crc32fast::hash(CONTENT);
    let offset = zip.push(&header(false, b"small", 0, crc, [sizes[0], sizes[1], 0], b""), 1);
    zip.push(CONTENT, 1);
    let extra = zip64_extra(&[offset]);
    directory.extend(header(true, b"small", 0, crc, [sizes[0], sizes[1], SATURATED], &extra));

    let offset = zip.push(&directory, 1);
    zip.push(&zip64_end(3, directory.len() as u64, offset), 1);
    (zip, size)
}

#[test]
fn members_over_four_gigabytes_are_read_to_their_checked_end() {
    let (zip, size) = huge();
    let archive = Arc::new(ZipArchive::open(Arc::new(zip)).unwrap());
    let names: Vec<&str> = archive.members().iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["stored", "deflated", "small"]);
    let readers = ["stored", "deflated"].map(|name| {
        let archive = archive.clone();
        std::thread::spawn(move || {
            let mut reader = archive.read(archive.find(name).unwrap()).unwrap();
            let mut buffer = vec![0; 1 << 20];
            let mut total = 0;
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => return total,
                    len => total += len as u64,
                }
            }
        })
    });
    for reader in readers {
        assert_eq!(reader.join().unwrap(), size);
    }
}

#[test]
fn a_member_beyond_four_gigabytes_is_reached_without_reading_what_lies_before() {
    let source = Counting::new(Arc::new(huge().0));
    let bytes = source.bytes.clone();
    let archive = ZipArchive::open(Arc::new(source)).unwrap();
    let content = io::read_to_string(archive.read(archive.find("small").unwrap()).unwrap()).unwrap();
    assert_eq!(content.as_bytes(), CONTENT);
    assert!(bytes.load(Ordering::Relaxed) < 200 << 10);
}

/// An archive of `count` stored members of `size` zeros each, with names of a filestore's length.
fn many(count: u32, size: u32) -> Synthetic {
    let crc = crc_of_zeros(size.into());
    let mut zip = Synthetic::default();
    let mut directory = Vec::new();
    for index in 0..count {
        let name = format!("filestore/{:02x}/{index:040x}", index % 256);
        let offset = zip.push(&header(false, name.as_bytes(), 0, crc, [size, size, 0], b""), 1);
        zip.push(&[0; 1024], (size / 1024).into());
        let offset = u32::try_from(offset).unwrap();
        directory.extend(header(true, name.as_bytes(), 0, crc, [size, size, offset], b""));
    }
    let offset = zip.push(&directory, 1);
    zip.push(&zip64_end(count.into(), directory.len() as u64, offset), 1);
    zip
}

#[test]
fn a_hundred_thousand_members_are_held_in_twenty_megabytes() {
    let archive = ZipArchive::open(Arc::new(many(100_000, 0))).unwrap();
    assert_eq!(archive.members().len(), 100_000);
    // An allocation carries 16 bytes of its own; an index by name has 4 bytes a member.
    let held = |member: &Member| size_of::<Member>() + member.name.len() + 16 + 4;
    assert!(archive.members().iter().map(held).sum::<usize>() <= 20 << 20);
    let name = format!("filestore/{:02x}/{:040x}", 77_777 % 256, 77_777);
    assert!(archive.find(&name).is_some());
}

#[test]
fn opening_an_archive_of_a_gigabyte_reads_its_end_only() {
    let source = Counting::new(Arc::new(many(1300, 1 << 20)));
    let (bytes, requests) = (source.bytes.clone(), source.requests.clone());
    ZipArchive::open(Arc::new(source)).unwrap();
    assert!(bytes.load(Ordering::Relaxed) < 256 << 10, "{}", bytes.load(Ordering::Relaxed));
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}
