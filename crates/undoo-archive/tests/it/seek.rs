//! Reading our own dumps from the middle: at every flush point, any range, each table by itself.

use std::sync::{Arc, atomic::Ordering};

use proptest::prelude::*;
use undoo_archive::{
    Backup, RangedRead,
    backup::BackupInput,
    dump::{DumpEvent, DumpStream},
};

use crate::{
    write_craft::{backup_of, dump, open, read_all, settings},
    zip_craft::Counting,
};

const MIB: usize = 1 << 20;

/// Statements, and the rows of each `COPY`.
fn events(mut dump: Box<dyn DumpStream>) -> (Vec<String>, Vec<(String, Vec<u8>)>) {
    let (mut statements, mut tables) = (Vec::new(), Vec::new());
    while let Some(event) = dump.next_event().unwrap() {
        match event {
            DumpEvent::Statement(statement) => statements.push(statement.sql),
            DumpEvent::CopyStart(copy) => tables.push((copy.sql, Vec::new())),
            DumpEvent::CopyRows { bytes, .. } => tables.last_mut().unwrap().1.extend(bytes),
            _ => {}
        }
    }
    (statements, tables)
}

#[test]
fn the_dump_can_be_read_from_every_flush_point() {
    for level in [0, 1, 9] {
        let text = dump(&[5 * MIB, 300, 2 * MIB], &[]);
        let (bytes, undoo) = backup_of(&text, &[], settings(level, 3));
        let index = undoo.parts.database.unwrap().seek;
        assert_eq!(index.offsets.len(), text.len().div_ceil(MIB));
        // By another decoder, which knows of nothing but the place.
        let archive = crate::zip::open(bytes.clone()).unwrap();
        let member = archive.find("dump.sql").unwrap();
        let data = member.offset as usize + 30 + "dump.sql".len() + 20;
        for (point, offset) in index.offsets.iter().enumerate() {
            let from = &bytes[data + *offset as usize..data + member.compressed as usize];
            let expected = &text[point * MIB..];
            let found =
                if level == 0 { from.to_vec() } else { read_all(flate2::read::DeflateDecoder::new(from)) };
            assert!(found == expected, "point {point} at level {level}");
        }
        let backup = open(&bytes);
        for point in 0..index.offsets.len() {
            let from = (point * MIB) as u64;
            let found = read_all(backup.open_dump_range(from, text.len() as u64 - from).unwrap());
            assert!(found == text[point * MIB..]);
        }
    }
}

#[test]
fn each_table_is_read_by_itself_and_with_the_rest_is_the_whole() {
    let text = dump(&[3 * MIB, 0, 12 * MIB, 70], &[[5; 20]]);
    let (bytes, _) = backup_of(&text, &[], settings(6, 2));
    let backup = open(&bytes);
    let (statements, rows) = events(backup.open_dump().unwrap());
    let tables = backup.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
    let expected =
        ["public.t0", "public.t1", "public.t2", "public.t3", "public.ir_attachment", "public.Odd \"name\""];
    assert_eq!(names, expected);
    std::thread::scope(|scope| {
        for (table, rows) in tables.iter().zip(&rows) {
            let backup = &backup;
            scope.spawn(move || {
                let (_, found) = events(backup.open_dump_at(&table.name).unwrap());
                assert!(found.len() == 1 && found[0] == *rows, "{}", table.name);
                let count = rows.1.iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(table.rows, count as u64);
            });
        }
    });
    let (without_rows, none) = events(backup.open_dump_without_rows().unwrap());
    assert_eq!(without_rows, statements);
    assert!(none.is_empty());
    assert_eq!(backup.open_dump_at("public.nothing").err().map(|p| p.code), Some("no_such_table"));
}

#[test]
fn a_small_table_costs_two_requests_and_little_of_a_large_dump() {
    let text = dump(&[20 * MIB, 70, 20 * MIB], &[]);
    let (bytes, _) = backup_of(&text, &[], settings(1, 2));
    let source = Counting::new(Arc::new(bytes));
    let (requests, read) = (source.requests.clone(), source.bytes.clone());
    let backup = Backup::open(BackupInput::Single(Arc::new(source), "b".into())).unwrap();
    requests.store(0, Ordering::Relaxed);
    read.store(0, Ordering::Relaxed);
    events(backup.open_dump_at("public.t1").unwrap());
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    assert!(read.load(Ordering::Relaxed) < 3 * MIB as u64);
    // The definitions of all: the two large tables are passed over.
    read.store(0, Ordering::Relaxed);
    events(backup.open_dump_without_rows().unwrap());
    assert!(read.load(Ordering::Relaxed) < 4 * MIB as u64, "{}", read.load(Ordering::Relaxed));
}

#[test]
fn a_damaged_stretch_is_noticed_by_who_reads_a_table_in_it() {
    let text = dump(&[4 * MIB, 4 * MIB], &[]);
    let (bytes, undoo) = backup_of(&text, &[], settings(0, 2));
    let mut damaged = bytes.clone();
    // In the rows of the second table, which is stored as it is.
    let at = 58 + undoo.parts.database.unwrap().tables.unwrap()[1].offset as usize + 3 * MIB;
    damaged[at] ^= 1;
    let backup = open(&damaged);
    events(backup.open_dump_at("public.t0").unwrap());
    let mut second = backup.open_dump_at("public.t1").unwrap();
    let problem = loop {
        match second.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("not noticed"),
            Err(problem) => break problem,
        }
    };
    assert_eq!(problem.code, "dump_stretch_damaged");
}

/// A backup whose manifest was changed; it is stored, and checksums are put right.
fn with_manifest(bytes: &[u8], change: impl Fn(String) -> String) -> Backup {
    let archive = crate::zip::open(bytes.to_vec()).unwrap();
    let members = archive.members().iter().map(|member| {
        let mut content = read_all(archive.read(member).unwrap());
        if &*member.name == "manifest.json" {
            content = change(String::from_utf8(content).unwrap()).into_bytes();
        }
        let (method, data) = match member.method {
            undoo_archive::zip::Method::Stored => (0, content.clone()),
            undoo_archive::zip::Method::Deflate => (8, crate::zip_craft::deflated(&content)),
        };
        (member.name.as_bytes().to_vec(), method, content, data)
    });
    open(&crate::zip_craft::craft_from(members).bytes)
}

#[test]
fn places_that_cannot_be_are_not_used_and_wrong_ones_are_noticed() {
    let text = dump(&[2 * MIB, 300], &[]);
    let (bytes, undoo) = backup_of(&text, &[], settings(0, 2));
    let table = undoo.parts.database.unwrap().tables.unwrap()[1].clone();
    for (from, to) in [
        (format!("\"bytes\":{},", table.bytes), "\"bytes\":18446744073709551615,".to_owned()),
        ("\"every\":1048576".into(), "\"every\":0".into()),
        ("\"offsets\":[0,".into(), "\"offsets\":[0,1,".into()),
        (format!("\"offset\":{},", table.offset), "\"offset\":0,".into()),
    ] {
        let backup = with_manifest(&bytes, |manifest| {
            assert!(manifest.contains(&from), "{from} in {manifest}");
            manifest.replace(&from, &to)
        });
        assert!(backup.tables().is_none(), "{from}");
        assert_eq!(backup.findings.last().map(|finding| &*finding.code), Some("seek_index_unusable"));
        assert_eq!(backup.open_dump_at("public.t1").err().map(|p| p.code), Some("no_such_table"));
        events(backup.open_dump().unwrap());
    }
    for (from, to, code) in [
        (
            format!("\"offset\":{},", table.offset),
            format!("\"offset\":{},", table.offset + 1),
            "table_misplaced",
        ),
        (format!("\"rows\":{}}}", table.rows), "\"rows\":1}".to_owned(), "table_misplaced"),
        (format!("\"bytes\":{},", table.bytes), format!("\"bytes\":{},", table.bytes - 3), "dump_truncated"),
        ("public.t1\"".into(), "public.tx\"".into(), "table_misplaced"),
    ] {
        let backup = with_manifest(&bytes, |manifest| manifest.replace(&from, &to));
        let name = backup.tables().unwrap()[1].name.clone();
        let mut dump = backup.open_dump_at(&name).unwrap();
        let problem = loop {
            match dump.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{from} was not noticed"),
                Err(problem) => break problem,
            }
        };
        assert_eq!(problem.code, code, "{from}: {problem}");
    }
}

#[test]
fn a_later_form_of_the_manifest_is_left_alone_with_a_warning() {
    let (bytes, _) = backup_of(&dump(&[300], &[]), &[], settings(0, 2));
    for (from, to) in [("\"format\": 1", "\"format\": 2"), ("\"parts\": {", "\"parts\": 7, \"x\": {")] {
        let backup = with_manifest(&bytes, |manifest| manifest.replace(from, to));
        assert!(backup.manifest.as_ref().unwrap().undoo.is_none());
        assert_eq!(backup.manifest.as_ref().unwrap().db_name.as_deref(), Some("acme"));
        assert_eq!(backup.findings[0].code, "undoo_manifest_unreadable");
        events(backup.open_dump().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_range_is_what_the_dump_has_there(
        tables in proptest::collection::vec(0..2 * MIB, 0..4),
        level in 0..=9_u8,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let text = dump(&tables, &[]);
        let (bytes, _) = backup_of(&text, &[], settings(level, 2));
        let size = bytes.size();
        let backup = open(&bytes);
        for (a, b) in cuts {
            let (a, b) = (a.index(text.len() + 1), b.index(text.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let found = read_all(backup.open_dump_range(from as u64, (to - from) as u64).unwrap());
            prop_assert!(found == text[from..to]);
        }
        prop_assert!(backup.open_dump_range(text.len() as u64, 1).is_err());
        prop_assert!(size > 0);
    }
}
