//! ZIPs that no backup tool makes: each is refused by its own code.

use std::io::{self, Read};

use proptest::prelude::*;
use undoo_archive::error::problem_of;
use undoo_core::{Kind, Problem};

use crate::{
    zip::{contents, open},
    zip_craft::{Crafted, craft, craft_from, deflated, end_record},
};

fn pair() -> Crafted {
    craft(&[(b"one", b"first content, first content"), (b"two", b"second")])
}

fn refusal(bytes: Vec<u8>) -> Problem {
    open(bytes).map(drop).unwrap_err()
}

/// What reading the first member of an archive that opens ends with.
fn reading(bytes: Vec<u8>) -> Problem {
    let archive = open(bytes).unwrap();
    match archive.read(&archive.members()[0]) {
        Err(problem) => problem,
        Ok(mut reader) => problem_of(io::copy(&mut reader, &mut io::sink()).unwrap_err()),
    }
}

#[test]
fn a_download_that_was_cut_off_is_named_with_its_size() {
    let whole = pair();
    for len in [whole.locals[1] + 3, whole.entries[0], whole.end, whole.end + 10, whole.bytes.len() - 1] {
        let problem = refusal(whole.bytes[..len].to_vec());
        assert_eq!((problem.kind, problem.code), (Kind::Invalid, "zip_truncated"), "{len}");
        assert!(problem.message.contains(&format!("cut off at {len} bytes")), "{problem}");
    }
}

#[test]
fn what_is_no_zip_is_called_so() {
    for bytes in [&b""[..], b"PK", b"<html>502 Bad Gateway</html>", b"PGDMP\x01\x0e\0"] {
        assert_eq!(refusal(bytes.to_vec()).code, "not_a_zip");
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut zip = pair();
    zip.bytes.extend(b"\r\n");
    assert_eq!(refusal(zip.bytes).code, "zip_trailing_data");
}

#[test]
fn bytes_before_the_archive_or_the_directory_are_refused() {
    let zip = pair();
    let before = [b"#!/bin/sh\n".as_slice(), &zip.bytes].concat();
    assert_eq!(refusal(before).code, "zip_directory_mismatch");
    let mut inside = zip.bytes.clone();
    inside.splice(zip.entries[0]..zip.entries[0], *b"more");
    assert_eq!(refusal(inside).code, "zip_directory_mismatch");
    let mut lost = zip.bytes;
    lost.drain(zip.locals[1]..zip.locals[1] + 4);
    assert_eq!(refusal(lost).code, "zip_directory_mismatch");
}

#[test]
fn an_end_record_hidden_in_a_comment_is_refused() {
    let zip = pair();
    let size = (zip.end - zip.entries[0]) as u32;
    let hidden = end_record(2, size, zip.entries[0] as u32, b"");
    let mut bytes = zip.bytes[..zip.end].to_vec();
    bytes.extend(end_record(2, size, zip.entries[0] as u32, &hidden));
    assert_eq!(refusal(bytes).code, "zip_end_ambiguous");
}

#[test]
fn parts_of_split_archives_are_refused() {
    for at in [4, 6] {
        let mut zip = pair();
        zip.set(zip.end + at, &[1, 0]);
        assert_eq!(refusal(zip.bytes).code, "zip_multi_disk");
    }
    let mut zip = pair();
    zip.set(zip.entries[1] + 34, &[1, 0]);
    assert_eq!(refusal(zip.bytes).code, "zip_multi_disk");
}

#[test]
fn a_directory_that_disagrees_with_its_count_is_refused() {
    for count in [1_u16, 3, 200] {
        let mut zip = pair();
        zip.set(zip.end + 8, &[count.to_le_bytes(), count.to_le_bytes()].concat());
        assert_eq!(refusal(zip.bytes).code, "zip_directory_broken", "{count}");
    }
    let mut zip = pair();
    zip.set(zip.entries[1], b"PK\x03\x04");
    assert_eq!(refusal(zip.bytes).code, "zip_directory_broken");
    // A name that reaches beyond the directory.
    let mut zip = pair();
    zip.set(zip.entries[1] + 28, &[0xff, 0x7f]);
    assert_eq!(refusal(zip.bytes).code, "zip_directory_broken");
}

#[test]
fn encrypted_members_are_refused_by_name() {
    for flag in [1_u16, 1 << 6, 1 << 13] {
        let mut zip = pair();
        zip.set(zip.entries[1] + 8, &flag.to_le_bytes());
        let problem = refusal(zip.bytes);
        assert_eq!(problem.code, "zip_member_encrypted");
        assert!(problem.message.contains("\"two\""));
    }
}

#[test]
fn other_methods_are_refused_by_name_and_number() {
    let mut zip = pair();
    zip.set(zip.entries[0] + 10, &[14, 0]);
    let problem = refusal(zip.bytes);
    assert_eq!(problem.code, "zip_member_method");
    assert!(problem.message.contains("\"one\"") && problem.message.contains("method 14"));
}

#[test]
fn links_and_devices_are_refused() {
    for mode in [0o120_777_u32, 0o020_666, 0o060_666, 0o010_644, 0o140_755, 0o040_755] {
        let mut zip = pair();
        zip.set(zip.entries[0] + 38, &(mode << 16).to_le_bytes());
        assert_eq!(refusal(zip.bytes).code, "zip_member_special", "{mode:o}");
    }
}

#[test]
fn harmful_names_are_refused() {
    let cases: &[(&[u8], &str)] = &[
        (b"/etc/cron.d/x", "member_name_absolute"),
        (b"filestore/../../x", "member_name_climbs"),
        (b"filestore\\..\\x", "member_name_backslash"),
        (b"dump.sql\0.txt", "member_name_control"),
        (b"filestore/\xff\xfe", "member_name_not_utf8"),
        (b"", "member_name_empty"),
    ];
    for (name, code) in cases {
        let problem = refusal(craft(&[(name, b"x")]).bytes);
        assert_eq!((problem.kind, problem.code), (Kind::Refused, *code));
    }
}

#[test]
fn two_members_of_one_name_are_refused() {
    let problem = refusal(craft(&[(b"dump.sql", b"good"), (b"x", b""), (b"dump.sql", b"evil")]).bytes);
    assert_eq!(problem.code, "zip_member_duplicate");
    assert!(problem.message.contains("dump.sql"));
}

#[test]
fn members_that_share_bytes_are_refused() {
    // Both entries point at the first member: the way zip bombs multiply one kernel.
    let mut zip = craft(&[(b"one", b"content"), (b"two", b"content")]);
    zip.set(zip.entries[1] + 42, &[0; 4]);
    assert_eq!(refusal(zip.bytes).code, "zip_member_overlap");
    // The first one's data runs into the second's header.
    let mut zip = pair();
    let grown = zip.locals[1] as u32;
    zip.set(zip.entries[0] + 20, &grown.to_le_bytes());
    assert_eq!(refusal(zip.bytes).code, "zip_member_overlap");
    // The last one's data runs into the directory, and one that starts beyond it.
    let mut zip = pair();
    zip.set(zip.entries[1] + 20, &1000_u32.to_le_bytes());
    assert_eq!(refusal(zip.bytes).code, "zip_member_overlap");
    let mut zip = pair();
    zip.set(zip.entries[1] + 42, &(zip.end as u32).to_le_bytes());
    assert_eq!(refusal(zip.bytes).code, "zip_member_overlap");
    // A local extra field that pushes the data into the next member.
    let mut zip = pair();
    zip.set(zip.locals[0] + 28, &[200, 0]);
    assert_eq!(reading(zip.bytes).code, "zip_member_overlap");
}

#[test]
fn a_member_that_declares_what_deflate_cannot_hold_is_refused() {
    let mut zip = pair();
    zip.set(zip.entries[0] + 24, &0xf000_0000_u32.to_le_bytes());
    assert_eq!(refusal(zip.bytes).code, "zip_bomb");
    // Many that stay below the limit by themselves.
    let names: Vec<String> = (0..50).map(|i| format!("m{i}")).collect();
    let mut zip = craft(&names.iter().map(|name| (name.as_bytes(), &b"x"[..])).collect::<Vec<_>>());
    for entry in zip.entries.clone() {
        zip.set(entry + 24, &0x3000_0000_u32.to_le_bytes());
    }
    assert_eq!(refusal(zip.bytes).code, "zip_bomb");
}

#[test]
fn a_stored_member_has_one_size() {
    let mut zip = craft_from([(b"one".to_vec(), 0, b"content".to_vec(), b"content".to_vec())]);
    zip.set(zip.entries[0] + 24, &[6]);
    assert_eq!(refusal(zip.bytes).code, "zip_directory_broken");
}

#[test]
fn a_member_of_more_bytes_than_declared_yields_none_too_many() {
    let content = vec![7; 100_000];
    let mut zip = craft(&[(b"one", &content)]);
    for at in [zip.entries[0] + 24, zip.locals[0] + 22] {
        zip.set(at, &5000_u32.to_le_bytes());
    }
    let archive = open(zip.bytes).unwrap();
    let mut got = Vec::new();
    let error = archive.read(&archive.members()[0]).unwrap().read_to_end(&mut got).unwrap_err();
    assert_eq!(problem_of(error).code, "zip_member_longer");
    assert!(got.len() < 5000);
}

#[test]
fn a_member_of_fewer_bytes_than_declared_is_short() {
    let mut zip = pair();
    for at in [zip.entries[0] + 24, zip.locals[0] + 22] {
        zip.set(at, &29_u32.to_le_bytes());
    }
    assert_eq!(reading(zip.bytes).code, "zip_member_short");
    // Deflated data without its end mark.
    let content = vec![9; 1000];
    let mut unfinished = b"\0\xe8\x03\x17\xfc".to_vec();
    unfinished.extend(&content);
    assert_eq!(
        reading(craft_from([(b"one".to_vec(), 8, content, unfinished)]).bytes).code,
        "zip_member_short"
    );
}

#[test]
fn damaged_content_is_named_before_its_last_byte_is_handed_out() {
    let content = b"stored content".to_vec();
    let mut zip = craft_from([(b"one".to_vec(), 0, content.clone(), content.clone())]);
    zip.set(zip.locals[0] + 33, b"S");
    assert_eq!(reading(zip.bytes.clone()).code, "zip_member_crc");
    let archive = open(zip.bytes).unwrap();
    let mut exactly = vec![0; content.len()];
    let error = archive.read(&archive.members()[0]).unwrap().read_exact(&mut exactly).unwrap_err();
    assert!(problem_of(error).message.contains("\"one\""));
}

#[test]
fn damaged_compression_is_named() {
    let mut zip = pair();
    zip.set(zip.locals[0] + 33, &[0xff, 0xff]);
    assert_eq!(reading(zip.bytes).code, "zip_member_corrupt");
    let data = [deflated(b"content"), b"hidden".to_vec()].concat();
    assert_eq!(
        reading(craft_from([(b"one".to_vec(), 8, b"content".to_vec(), data)]).bytes).code,
        "zip_member_corrupt"
    );
}

#[test]
fn a_local_header_that_tells_another_story_is_refused() {
    let spoil: &[(usize, &[u8])] = &[
        (0, b"PK\x01\x02"),
        (6, &[1]),
        (6, &[8]),
        (8, &[0]),
        (14, &[1, 2, 3, 4]),
        (22, &[1]),
        (26, &[2]),
        (30, b"two"),
    ];
    for (at, bytes) in spoil {
        let mut zip = pair();
        zip.set(zip.locals[0] + at, bytes);
        assert_eq!(reading(zip.bytes).code, "zip_local_mismatch", "{at}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = open(bytes);
    }

    #[test]
    fn spoiled_archives_never_panic_and_never_lie(spots in prop::collection::vec((0_usize..400, any::<u8>()), 1..4)) {
        let honest = pair();
        let expected = contents(&open(honest.bytes.clone()).unwrap());
        let mut bytes = honest.bytes;
        for (at, value) in spots {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        let Ok(archive) = open(bytes) else { return Ok(()) };
        for member in archive.members() {
            let mut content = Vec::new();
            let read = archive.read(member).map(|mut reader| reader.read_to_end(&mut content));
            if let (Ok(Ok(_)), Some(expected)) = (read, expected.get(&*member.name)) {
                prop_assert_eq!(&content, expected);
            }
        }
    }
}
