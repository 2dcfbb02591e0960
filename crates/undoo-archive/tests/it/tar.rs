//! Tars as GNU tar and Python make them, and as no backup tool does.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    path::Path,
    process::Command,
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use undoo_archive::{error::problem_of, tar::TarReader};
use undoo_core::{Kind, Problem, Result};

use crate::{zip::python, zip_craft::Synthetic};

type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn reader(bytes: Vec<u8>) -> TarReader {
    TarReader::open(Box::new(Cursor::new(bytes)), "the archive").unwrap()
}

/// All files of an archive that is read to its end.
fn files(bytes: Vec<u8>) -> Result<Files> {
    let mut tar = reader(bytes);
    let mut files = Files::new();
    while let Some(entry) = tar.next_entry()? {
        let mut content = Vec::new();
        tar.read_to_end(&mut content).map_err(problem_of)?;
        assert_eq!(content.len() as u64, entry.size);
        if !entry.is_directory() {
            files.insert(entry.path, content);
        }
    }
    Ok(files)
}

fn refusal(bytes: Vec<u8>) -> Problem {
    let plain = files(bytes.clone()).unwrap_err();
    assert_eq!(files(gzip(&bytes)).unwrap_err().code, plain.code, "the same under gzip");
    plain
}

fn sample() -> Files {
    let mut files = Files::from([
        ("filestore/b1/b15835fdac8df7a502d7203681ca1b44866be2ce".to_owned(), vec![7; 1890]),
        ("filestore/da/da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned(), Vec::new()),
        ("filestore/né/exact".to_owned(), vec![1; 1024]),
    ]);
    files.insert(format!("filestore/{}/{}", "d".repeat(120), "f".repeat(200)), b"a long name".to_vec());
    files
}

fn write_sample(folder: &Path) {
    for (name, content) in sample() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

#[test]
fn gnu_tars_of_every_format_read_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    for format in ["gnu", "posix", "oldgnu"] {
        for (compress, what) in [(&[][..], "filestore"), (&["-z"], "."), (&["-b", "200"], "./filestore")] {
            let output = Command::new("tar")
                .args(["-c", "-f", "-", "--format", format])
                .args(compress)
                .arg(what)
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(files(output.stdout).unwrap(), sample(), "{format} {compress:?} {what}");
        }
    }
}

#[test]
fn python_tars_of_every_format_read_back_whole() {
    const PROGRAM: &str = r#"
import sys, tarfile
folder, how, mode = sys.argv[1:]
with tarfile.open(fileobj=sys.stdout.buffer, mode=mode, format=getattr(tarfile, how)) as t:
    t.add(folder + '/filestore', arcname='filestore')
"#;
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    for how in ["GNU_FORMAT", "PAX_FORMAT"] {
        for mode in ["w|", "w|gz"] {
            let bytes = python(PROGRAM, &[folder.path().to_str().unwrap(), how, mode]);
            assert_eq!(files(bytes).unwrap(), sample(), "{how} {mode}");
        }
    }
}

#[test]
fn entries_may_be_skipped_or_read_in_part() {
    let bytes = archive(&[entry("a", b'0', &[1; 700]), entry("b", b'0', &[2; 700]), entry("c", b'0', b"3")]);
    let mut tar = reader(bytes);
    assert_eq!(tar.next_entry().unwrap().unwrap().path, "a");
    assert_eq!(tar.next_entry().unwrap().unwrap().path, "b");
    tar.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(tar.next_entry().unwrap().unwrap().path, "c");
    assert!(tar.next_entry().unwrap().is_none());
    assert!(tar.next_entry().unwrap().is_none());
}

#[test]
fn gzip_in_several_members_reads_as_one() {
    let tar = archive(&[entry("a", b'0', &[1; 5000])]);
    let (front, back) = tar.split_at(1000);
    assert_eq!(files([gzip(front), gzip(back)].concat()).unwrap()["a"], [1; 5000]);
}

#[test]
fn a_file_over_eight_gigabytes_has_its_size_from_base_256_or_pax() {
    let size = (8_u64 << 30) + 5;
    let mut base256 = header("big", b'0', 0);
    base256[124..136].fill(0);
    base256[124] = 0x80;
    base256[128..136].copy_from_slice(&size.to_be_bytes());
    seal(&mut base256);
    let pax = [pax(&[("size", size.to_string().as_bytes())]), header("big", b'0', 0)].concat();
    for headers in [base256, pax] {
        let mut source = Synthetic::default();
        source.push(&headers, 1);
        source.push(&[0; 512], size.div_ceil(512));
        let len = undoo_archive::RangedRead::size(&source);
        let stream = undoo_archive::RangedRead::stream(&source, 0, len).unwrap();
        let mut tar = TarReader::open(stream, "the archive").unwrap();
        assert_eq!(tar.next_entry().unwrap().unwrap().size, size);
    }
}

fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(crate) fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    entry("PaxHeaders/x", b'x', &pax_records(records))
}

fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let len =
            (1..5).map(|digits| rest + digits).find(|len| len.to_string().len() + rest == *len).unwrap();
        body.extend(format!("{len} {key}=").as_bytes());
        body.extend(*value);
        body.push(b'\n');
    }
    body
}

pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize((bytes.len() + 1024).next_multiple_of(10_240), 0);
    bytes
}

#[test]
fn links_devices_and_pipes_are_refused() {
    for kind in b"123467KVMND" {
        let problem = refusal(archive(&[entry("filestore/x", *kind, b"")]));
        assert_eq!(
            (problem.kind, problem.code),
            (Kind::Refused, "tar_member_special"),
            "{}",
            char::from(*kind)
        );
        assert!(problem.message.contains("filestore/x"));
    }
}

#[test]
fn sparse_files_are_refused() {
    assert_eq!(refusal(archive(&[entry("x", b'S', b"")])).code, "tar_sparse");
    let sparse = pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"99999999999")]);
    assert_eq!(refusal(archive(&[sparse, entry("x", b'0', b"")])).code, "tar_sparse");

    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("x")).unwrap().set_len(10 << 20).unwrap();
    for format in ["gnu", "posix"] {
        let output = Command::new("tar")
            .args(["-c", "-S", "--format", format, "-f", "-", "x"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(refusal(output.stdout).code, "tar_sparse", "{format}");
    }
}

#[test]
fn harmful_paths_are_refused_wherever_they_are_said() {
    for (path, code) in [
        ("/etc/passwd", "member_name_absolute"),
        ("../x", "member_name_climbs"),
        ("a/../../x", "member_name_climbs"),
        (".//x", "member_name_absolute"),
        ("a\\b", "member_name_backslash"),
        ("a\nb", "member_name_control"),
    ] {
        let long = [path.as_bytes(), b"\0"].concat();
        assert_eq!(refusal(archive(&[entry(path, b'0', b"")])).code, code);
        assert_eq!(refusal(archive(&[entry("L", b'L', &long), entry("x", b'0', b"")])).code, code);
        assert_eq!(refusal(archive(&[pax(&[("path", path.as_bytes())]), entry("x", b'0', b"")])).code, code);
    }
    let hidden = pax(&[("path", b"good\0evil")]);
    assert_eq!(refusal(archive(&[hidden, entry("x", b'0', b"")])).code, "member_name_control");
}

#[test]
fn what_two_readers_would_read_differently_is_refused() {
    let file = || entry("x", b'0', b"content");
    let long = || entry("L", b'L', b"other\0");
    let named = || pax(&[("path", b"other")]);
    let global = |key| entry("g", b'g', &pax_records(&[(key, b"1")]));
    for entries in [
        vec![pax(&[("size", b"3")]), file()],
        vec![pax(&[("size", b"8589934591")]), file()],
        vec![named(), named(), file()],
        vec![long(), long(), file()],
        vec![long(), named(), file()],
        vec![global("size"), file()],
        vec![global("path"), file()],
    ] {
        assert_eq!(refusal(archive(&entries)).code, "tar_ambiguous");
    }
    let twice = pax(&[("path", b"a"), ("path", b"b")]);
    assert_eq!(refusal(archive(&[twice, file()])).code, "tar_damaged");
    // A comment for all entries changes nothing.
    assert_eq!(files(archive(&[global("comment"), file()])).unwrap()["x"], b"content");
}

#[test]
fn an_archive_without_its_end_mark_was_cut_off() {
    let whole = archive(&[entry("a", b'0', &[1; 5000]), entry("b", b'0', &[2; 5000])]);
    for len in [0, 100, 512, 3000, 5632, 5700, 11_264, 11_776, 12_000] {
        assert_eq!(refusal(whole[..len].to_vec()).code, "tar_truncated", "{len}");
    }
    assert_eq!(files(whole[..12_288].to_vec()).unwrap().len(), 2);
}

#[test]
fn gzip_that_was_cut_off_or_damaged_is_named() {
    let good = gzip(&archive(&[entry("a", b'0', &[1; 5000])]));
    for cut in [1, 4, 9, good.len() / 2] {
        assert_eq!(files(good[..good.len() - cut].to_vec()).unwrap_err().code, "gzip_truncated", "{cut}");
    }
    for at in [good.len() - 1, good.len() - 6] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(files(bad).unwrap_err().code, "gzip_damaged", "{at}");
    }
    assert_eq!(files([good, b"trailing bytes".to_vec()].concat()).unwrap_err().code, "gzip_damaged");
}

#[test]
fn damaged_and_overlong_headers_are_named() {
    let mut wrong_sum = archive(&[entry("a", b'0', b"x")]);
    wrong_sum[0] = b'b';
    assert_eq!(refusal(wrong_sum).code, "tar_damaged");
    assert_eq!(refusal(vec![b'x'; 2048]).code, "tar_damaged");
    assert_eq!(refusal(archive(&[header("L", b'L', 1 << 30)])).code, "tar_header_too_large");
    assert_eq!(refusal(archive(&[header("x", b'x', 1 << 30)])).code, "tar_header_too_large");
    assert_eq!(refusal(archive(&[entry("d/", b'5', b"content")])).code, "tar_damaged");
    assert_eq!(refusal(archive(&[entry("d/", b'0', b"content")])).code, "tar_damaged");
    assert_eq!(refusal(archive(&[pax(&[("mtime", b"1")])])).code, "tar_damaged");
    for body in
        [&b"5 a=b"[..], b"99 a=b\n", b"x a=b\n", b"4 a\n\n", b"6 =b\n\n", b"18446744073709551616 a=b\n"]
    {
        assert_eq!(refusal(archive(&[entry("x", b'x', body), entry("a", b'0', b"")])).code, "tar_damaged");
    }
}

#[test]
fn bytes_after_the_end_mark_are_refused() {
    let mut bytes = archive(&[entry("a", b'0', b"x")]);
    bytes.extend(archive(&[entry("b", b'0', b"y")]));
    assert_eq!(refusal(bytes).code, "tar_trailing_data");
    let mut lone = [entry("a", b'0', b"x"), vec![0; 512]].concat();
    lone.extend(archive(&[entry("b", b'0', b"y")]));
    assert_eq!(refusal(lone).code, "tar_damaged");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        let _ = files(bytes);
    }

    #[test]
    fn spoiled_archives_never_panic(spots in prop::collection::vec((0_usize..3072, any::<u8>()), 1..6)) {
        let mut bytes = archive(&[pax(&[("path", b"a/b"), ("size", b"7")]), entry("x", b'0', b"content")]);
        for (at, value) in spots {
            bytes[at] = value;
        }
        for at in [0, 1024] {
            seal(&mut bytes[at..at + 512]);
        }
        let _ = files(bytes);
    }
}
