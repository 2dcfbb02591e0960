//! The reader of custom archives against what no honest `pg_dump` writes: truncation, damage, lies.

use std::{
    io::{self, Read},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;
use undoo_archive::dump::{
    DumpEvent, DumpStream, ROWS_CHUNK,
    custom::{CustomDump, MAX_ENTRIES, MAX_STRING},
};
use undoo_core::Kind;

use crate::custom_craft::{
    Craft, DATA, Entry, GZIP, LZ4, NO_SECTION, NONE, ZSTD, chunks, compress, entry, int, read, statements,
    string, table_data,
};

const ALL: [u8; 4] = [NONE, GZIP, LZ4, ZSTD];

/// Rows, large objects and statements, some kilobytes of each.
fn sample(compression: u8) -> Craft {
    let rows: String = (0..2000).map(|n| format!("{n}\trow {}\\n\n", n * n)).collect();
    let bytes: Vec<u8> = (0..5000_u32).map(|n| (n * n % 251) as u8).collect();
    Craft::new(compression)
        .with(entry(10, "TABLE", "t", "CREATE TABLE public.t (a text);\n"))
        .with(entry(11, "BLOB METADATA", "BLOBS 5..6", "5\n6\n"))
        .with_rows(12, rows.as_bytes())
        .with_rows(13, b"")
        .with_large_objects(14, &[(5, &bytes), (6, b"")])
        .with_rows(15, b"last\n")
        .with(entry(16, "COMMENT", "TABLE t", "COMMENT ON TABLE public.t IS ';';\nSELECT 1;"))
}

fn rows_of(bytes: Vec<u8>) -> Vec<(usize, u64, bool)> {
    let events = read(bytes).unwrap().into_iter();
    let rows = events.filter_map(|event| match event {
        DumpEvent::CopyRows { bytes, rows, ends_row } => Some((bytes.len(), rows, ends_row)),
        _ => None,
    });
    rows.collect()
}

#[track_caller]
fn assert_problem(bytes: Vec<u8>, kind: Kind, code: &str) -> String {
    let problem = read(bytes).unwrap_err();
    assert_eq!((problem.kind, problem.code), (kind, code), "{problem}");
    assert!(!problem.remedy.is_empty());
    problem.message
}

#[test]
fn every_compression_gives_the_same_events() {
    let expected = read(sample(NONE).bytes()).unwrap();
    assert!(expected.iter().any(|event| matches!(event, DumpEvent::CopyRows { rows: 2000, .. })));
    assert!(expected.iter().any(|event| matches!(event, DumpEvent::LargeObjectData(b) if b.len() == 5000)));
    for compression in [GZIP, LZ4, ZSTD] {
        assert_eq!(read(sample(compression).bytes()).unwrap(), expected);
    }
    // Before version 1.15 the header has a level in place of a method.
    assert_eq!(read(Craft { version: (1, 14, 0), ..sample(GZIP) }.bytes()).unwrap(), expected);
}

#[test]
fn an_archive_cut_anywhere_is_never_read_as_complete() {
    for compression in ALL {
        let bytes = sample(compression).bytes();
        let cuts = (0..bytes.len()).step_by(bytes.len() / 50);
        for cut in cuts.chain(bytes.len() - 300..bytes.len()).chain(0..200) {
            let problem = read(&bytes[..cut]).unwrap_err();
            assert_eq!(problem.kind, Kind::Invalid, "cut at {cut}: {problem}");
        }
    }
}

#[test]
fn a_block_whose_compressed_stream_is_cut_is_never_read_as_complete() {
    // The chunks are whole, the stream in them is not.
    let content = [b"row\n".repeat(3000).as_slice(), b"\\.\n\n\n"].concat();
    for compression in [GZIP, LZ4, ZSTD] {
        let stream = compress(compression, &content);
        for cut in 1..stream.len() {
            let mut craft = Craft::new(compression).with(table_data(9, "COPY t FROM stdin;"));
            craft.blocks = [vec![1], int(9), chunks(&stream[..cut], 64)].concat();
            let problem = read(craft.bytes()).unwrap_err();
            assert_eq!(problem.kind, Kind::Invalid, "method {compression}, cut at {cut}: {problem}");
        }
        let mut craft = Craft::new(compression).with(table_data(9, "COPY t FROM stdin;"));
        craft.blocks = [vec![1], int(9), chunks(&[stream, b"more".to_vec()].concat(), 64)].concat();
        assert_problem(craft.bytes(), Kind::Invalid, "dump_bad_block");
    }
}

#[test]
fn other_versions_and_formats_are_refused_by_name() {
    let craft = |version| Craft { version, ..Craft::new(NONE) }.bytes();
    assert!(assert_problem(craft((1, 99, 0)), Kind::Invalid, "dump_version_too_new").contains("1.99-0"));
    assert!(assert_problem(craft((2, 0, 0)), Kind::Invalid, "dump_version_too_new").contains("2.0-0"));
    assert!(assert_problem(craft((1, 11, 2)), Kind::Invalid, "dump_version_too_old").contains("1.11-2"));
    for format in [3, 5] {
        let bytes = Craft { format, ..Craft::new(NONE) }.bytes();
        assert_problem(bytes, Kind::Invalid, "dump_wrong_format");
    }
    assert_problem(b"PK\x03\x04 not a dump".to_vec(), Kind::Invalid, "dump_wrong_format");
    assert_problem(Vec::new(), Kind::Invalid, "dump_truncated");
    assert!(read(craft((1, 16, 7))).is_ok());
}

#[test]
fn a_block_that_does_not_fit_the_table_of_contents_is_refused() {
    let rows = b"1\n\\.\n";
    let unknown = sample(GZIP).with_block(99, rows);
    assert!(assert_problem(unknown.bytes(), Kind::Invalid, "dump_bad_block").contains("entry 99"));
    assert_problem(sample(GZIP).with_block(12, rows).bytes(), Kind::Invalid, "dump_bad_block");
    assert_problem(sample(GZIP).with_block(10, rows).bytes(), Kind::Invalid, "dump_bad_block");
    let mut other_kind = sample(GZIP);
    other_kind.blocks[0] = 3;
    assert_problem(other_kind.bytes(), Kind::Invalid, "dump_bad_block");
    other_kind.blocks[0] = 7;
    assert_problem(other_kind.bytes(), Kind::Invalid, "dump_bad_block");
    // Announced, but not there.
    let absent = sample(GZIP).with(table_data(30, "COPY x FROM stdin;"));
    assert!(assert_problem(absent.bytes(), Kind::Invalid, "dump_truncated").contains("entry 30"));
}

#[test]
fn blocks_in_another_order_than_the_entries_are_read_as_they_come() {
    let mut craft = Craft::new(NONE)
        .with(table_data(9, "COPY a FROM stdin;"))
        .with(entry(10, "SEQUENCE SET", "s", "SELECT 1;"))
        .with(table_data(11, "COPY b FROM stdin;"));
    craft = craft.with_block(11, b"b\n\\.\n").with_block(9, b"a\n\\.\n");
    let events = read(craft.bytes()).unwrap().into_iter().filter_map(|event| match event {
        DumpEvent::CopyStart(statement) => Some(statement.sql),
        DumpEvent::CopyRows { bytes, .. } => Some(String::from_utf8(bytes).unwrap()),
        _ => None,
    });
    assert_eq!(events.collect::<Vec<_>>(), ["COPY b FROM stdin;", "b\n", "COPY a FROM stdin;", "a\n"]);
}

#[test]
fn rows_end_with_the_line_that_says_so_and_nothing_follows_it() {
    let block = |content: &[u8]| {
        Craft::new(NONE).with(table_data(9, "COPY t FROM stdin;")).with_block(9, content).bytes()
    };
    assert_eq!(rows_of(block(b"1\n2\n\\.\n")), [(4, 2, true)]);
    assert_eq!(rows_of(block(b"\\.\n\n\n")), []);
    assert_eq!(rows_of(block(b"\\\\.\n\\.\n")), [(4, 1, true)]);
    assert_eq!(rows_of(block(b"x\\.\n\\.\n")), [(4, 1, true)]);
    for (content, code) in [
        (&b"1\n2\n"[..], "dump_truncated"),
        (b"1\n2\\.\n", "dump_truncated"),
        (b"1\n2", "dump_truncated"),
        (b"1\n\\.", "dump_truncated"),
        (b"", "dump_truncated"),
        (b"1\n\\.\n2\n", "dump_bad_block"),
        (b"1\n\\.\n\\.\n", "dump_bad_block"),
        (b"\\.\nDROP TABLE t;\n", "dump_bad_block"),
    ] {
        assert_problem(block(content), Kind::Invalid, code);
    }
}

#[test]
fn rows_are_cut_at_row_boundaries_and_long_rows_into_parts() {
    for (length, count) in [(1000, 2000), (ROWS_CHUNK - 1, 3), (ROWS_CHUNK, 3), (ROWS_CHUNK + 1, 3)] {
        let row = [vec![b'x'; length], b"\n".to_vec()].concat();
        let events = rows_of(Craft::new(ZSTD).with_rows(9, &row.repeat(count)).bytes());
        assert!(events.iter().all(|(bytes, rows, ends)| *ends && *bytes == *rows as usize * row.len()));
        assert!(events.iter().all(|(bytes, ..)| *bytes <= 2 * ROWS_CHUNK));
        assert_eq!(events.iter().map(|(_, rows, _)| rows).sum::<u64>(), count as u64);
    }
    // What looks like the end of the rows when the row is handed out in parts is in the middle of one.
    for length in (1 << 20) - 4..=1 << 20 {
        let row = [&vec![b'x'; length][..], b"\\\\.\n"].concat();
        let events = rows_of(Craft::new(NONE).with_rows(9, &row.repeat(2)).bytes());
        assert_eq!(events.iter().map(|(bytes, ..)| bytes).sum::<usize>(), 2 * row.len());
    }
    let long = [&b"a\n"[..], &vec![b'x'; 5 << 20], b"\nb\n\\\\.\n"].concat();
    let events = rows_of(Craft::new(GZIP).with_rows(9, &long).bytes());
    assert_eq!(events.iter().map(|(bytes, ..)| bytes).sum::<usize>(), long.len());
    assert_eq!(events.iter().map(|(_, rows, _)| rows).sum::<u64>(), 4);
    assert!(events.iter().filter(|(_, rows, ends)| *rows == 0 && !ends).count() >= 4);
    assert!(events.iter().all(|(bytes, ..)| *bytes < (1 << 20) + 2 * ROWS_CHUNK));
}

#[test]
fn the_table_of_contents_is_checked_before_it_is_believed() {
    let one = |entry: Entry| Craft::new(NONE).with(entry).bytes();
    assert_problem(one(entry(2, "TABLE", "t", "")), Kind::Invalid, "dump_duplicate_entry");
    assert_problem(one(entry(0, "TABLE", "t", "")), Kind::Invalid, "dump_bad_entry");
    assert_problem(one(entry(-4, "TABLE", "t", "")), Kind::Invalid, "dump_bad_entry");
    assert_problem(one(entry(9, "TABLE", "t", b"SELECT 1\0; DROP")), Kind::Invalid, "dump_nul");
    assert_problem(one(entry(9, "TABLE", "t", b"SELECT '\xff'")), Kind::Invalid, "dump_not_utf8");
    let bad_section = Entry { section: 9, ..entry(9, "TABLE", "t", "") };
    assert_problem(one(bad_section), Kind::Invalid, "dump_bad_entry");
    let long = Entry { depends: vec![Box::leak("x".repeat(1 << 20).into())], ..entry(9, "TABLE", "t", "") };
    assert!(assert_problem(one(long), Kind::Invalid, "dump_bad_entry").len() < 200);
    let bad_dependency = Entry { depends: vec!["x"], ..entry(9, "TABLE", "t", "") };
    assert_problem(one(bad_dependency), Kind::Invalid, "dump_bad_entry");
    let injected = entry(9, "BLOB METADATA", "x", "1\n2'); DROP TABLE x; --\n");
    assert_problem(one(injected), Kind::Invalid, "dump_bad_entry");
    let encoding = entry(9, "ENCODING", "x", "SET client_encoding = 'a; b';");
    assert_problem(one(encoding), Kind::Invalid, "dump_bad_entry");
    let two_copies = Craft::new(NONE).with(table_data(9, "COPY a FROM stdin; DROP TABLE b;"));
    assert_problem(two_copies.with_block(9, b"\\.\n").bytes(), Kind::Refused, "dump_bad_copy");
    let many = entry(9, "TABLE", "t", "a;".repeat(1_000_001));
    assert_problem(one(many), Kind::Refused, "dump_too_many_statements");

    let head = Craft::new(NONE).head();
    let claims = |claim: Vec<u8>| [head.clone(), claim].concat();
    assert_problem(claims(int(i64::from(MAX_ENTRIES) + 1)), Kind::Invalid, "dump_toc_too_large");
    assert_problem(claims(int(-1)), Kind::Invalid, "dump_toc_too_large");
    let long = [int(1), int(5), int(0), int(MAX_STRING as i64 + 1)].concat();
    assert_problem(claims(long), Kind::Invalid, "dump_toc_too_large");
}

#[test]
fn what_is_claimed_but_not_there_takes_no_memory() {
    const NAME: &str = "custom::what_is_claimed_but_not_there_takes_no_memory";
    // Once more, as a process that may not have 400 MiB: an allocation beyond that ends it.
    if std::env::var_os("UNDOO_TEST_LIMITED").is_none() {
        let status = Command::new("prlimit")
            .arg("--as=400000000")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--test-threads=1"])
            .env("UNDOO_TEST_LIMITED", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let head = Craft::new(NONE).head();
    read([head.clone(), int(i64::from(MAX_ENTRIES))].concat()).unwrap_err();
    for claimed in [MAX_STRING as i64, 0x7fff_ffff, 0xffff_ffff] {
        read([head.clone(), int(1), int(5), int(0), int(claimed)].concat()).unwrap_err();
        for compression in ALL {
            let mut craft = Craft::new(compression).with(table_data(9, "COPY t FROM stdin;"));
            craft.blocks = [vec![1], int(9), int(claimed), b"x".to_vec()].concat();
            read(craft.bytes()).unwrap_err();
        }
    }
    // Few bytes that stand for many: rows flow through, and nothing gathers them.
    let zeros = vec![b'0'; 64 << 20];
    for compression in [GZIP, LZ4, ZSTD] {
        let bytes = Craft::new(compression).with_rows(9, &zeros).bytes();
        let mut dump = CustomDump::open(Box::new(io::Cursor::new(bytes))).unwrap();
        while dump.next_event().is_ok_and(|event| event.is_some()) {}
    }
    // One definition that stands for a statement for each of many large objects.
    let group = entry(9, "BLOB METADATA", "BLOBS", "4000000000\n".repeat(2_000_000));
    let grant = "GRANT SELECT ON LARGE OBJECT 1 TO a_role_with_a_long_name;".repeat(100);
    let acl = Entry { section: NO_SECTION, depends: vec!["9"], ..entry(10, "ACL", "LARGE OBJECTS", grant) };
    let bytes = Craft::new(NONE).with(group).with(acl).bytes();
    let mut dump = CustomDump::open(Box::new(io::Cursor::new(bytes))).unwrap();
    for _ in 0..2_100_000 {
        assert!(dump.next_event().unwrap().is_some());
    }
}

#[test]
fn nothing_behind_the_table_of_contents_is_needed_to_open() {
    struct Counted(io::Cursor<Vec<u8>>, Arc<AtomicUsize>);
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.read(buffer)?;
            self.1.fetch_add(len, Ordering::Relaxed);
            Ok(len)
        }
    }
    let craft = sample(NONE).with_rows(20, &vec![b'\n'; 3 << 20]);
    let (read, bytes) = (Arc::new(AtomicUsize::new(0)), craft.bytes());
    let dump = CustomDump::open(Box::new(Counted(io::Cursor::new(bytes), read.clone()))).unwrap();
    assert!(read.load(Ordering::Relaxed) <= 256 * 1024);
    assert_eq!(dump.toc().len(), craft.entries.len());
    assert_eq!(dump.archive_version(), (1, 16, 0));
    // The front alone will do.
    let front = Craft { blocks: Vec::new(), ..craft }.bytes();
    assert!(CustomDump::open(Box::new(io::Cursor::new(front))).is_ok());
}

#[test]
fn a_source_that_breaks_off_is_not_a_broken_dump() {
    struct Breaks(io::Cursor<Vec<u8>>, io::ErrorKind);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(self.1.into()),
                len => Ok(len),
            }
        }
    }
    for compression in ALL {
        let bytes = sample(compression).bytes();
        for (error, kind) in [
            (io::ErrorKind::ConnectionReset, Kind::Unavailable),
            (io::ErrorKind::UnexpectedEof, Kind::Unavailable),
            (io::ErrorKind::InvalidData, Kind::Invalid),
        ] {
            for cut in [3, 100, bytes.len() / 2, bytes.len() - 1] {
                let source = Breaks(io::Cursor::new(bytes[..cut].to_vec()), error);
                let problem = CustomDump::open(Box::new(source)).map(|mut dump| {
                    loop {
                        match dump.next_event() {
                            Ok(event) => assert!(event.is_some()),
                            Err(problem) => {
                                assert!(dump.next_event().is_err(), "after an error there is no end");
                                break problem;
                            }
                        }
                    }
                });
                let problem = problem.unwrap_or_else(|problem| problem);
                assert_eq!(problem.kind, kind, "{compression}, {cut}, {error:?}: {problem}");
            }
        }
    }
}

#[test]
fn archives_without_a_search_path_set_it_for_each_schema() {
    let mut craft = Craft { version: (1, 12, 0), ..Craft::new(NONE) };
    craft.entries.pop();
    let table = |id, schema, with_oids| Entry {
        schema: Some(schema),
        owner: "All",
        drop_stmt: "DROP TABLE t;",
        with_oids,
        ..entry(id, "TABLE", "user", "CREATE TABLE t ();")
    };
    let craft = craft.with(table(5, "a", false)).with(table(6, "a", true)).with(table(7, "B c", false));
    assert_eq!(
        statements(&craft),
        [
            "SET search_path = a, pg_catalog;",
            "CREATE TABLE t ();",
            "ALTER TABLE a.\"user\" OWNER TO \"All\";",
            "SET default_with_oids = true;",
            "CREATE TABLE t ();",
            "ALTER TABLE a.\"user\" OWNER TO \"All\";",
            "SET search_path = \"B c\", pg_catalog;",
            "SET default_with_oids = false;",
            "CREATE TABLE t ();",
            "ALTER TABLE \"B c\".\"user\" OWNER TO \"All\";",
        ]
    );
}

#[test]
fn privileges_of_a_group_of_large_objects_are_given_to_each() {
    let grants =
        "SET SESSION AUTHORIZATION \"LARGE OBJECT 9\";\nGRANT ALL ON LARGE OBJECT 5 TO \"LARGE OBJECT 5\";\n";
    let acl =
        Entry { section: NO_SECTION, depends: vec!["4"], ..entry(6, "ACL", "LARGE OBJECTS 5..7", grants) };
    let craft = Craft::new(NONE).with(acl.clone()).with(entry(4, "BLOB METADATA", "5..7", "5\n4294967295\n"));
    assert_eq!(
        statements(&craft),
        [
            "SELECT pg_catalog.lo_create('5');",
            "SELECT pg_catalog.lo_create('4294967295');",
            "SET SESSION AUTHORIZATION \"LARGE OBJECT 9\";",
            "GRANT ALL ON LARGE OBJECT 5 TO \"LARGE OBJECT 5\";",
            "GRANT ALL ON LARGE OBJECT 4294967295 TO \"LARGE OBJECT 5\";",
        ]
    );
    assert_problem(Craft::new(NONE).with(acl).bytes(), Kind::Invalid, "dump_bad_entry");
}

#[test]
fn statements_among_the_rows_are_cut_at_their_semicolons() {
    let inserts: String = (0..5000).map(|n| format!("INSERT INTO t VALUES ({n}, 'a;''b');\n")).collect();
    let block = |text: &str| {
        let data = Entry { dumper: true, section: DATA, ..entry(9, "TABLE DATA", "t", "") };
        Craft::new(GZIP).with(data).with_block(9, text.as_bytes())
    };
    let long = format!("INSERT INTO t VALUES ('{}');", "x;".repeat(500_000));
    let craft = block(&format!("{inserts}{long}\n\n\n"));
    let said = statements(&craft);
    assert_eq!(said.len(), 5001);
    assert_eq!(said[4999], "INSERT INTO t VALUES (4999, 'a;''b');");
    assert_eq!(said[5000], long);
    assert_problem(block("INSERT INTO t VALUES ('a;").bytes(), Kind::Invalid, "dump_truncated");
    assert_problem(block("INSERT INTO t VALUES (1)").bytes(), Kind::Invalid, "dump_truncated");
}

/// Places and what stands there instead.
fn flips(most: usize) -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn damage_never_panics(compression in 0..4_u8, flips in flips(6)) {
        let mut bytes = sample(compression).bytes();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Any end will do, as long as it is one.
        let _ = read(bytes);
    }

    #[test]
    fn damage_within_compressed_bytes_never_panics(compression in 1..4_u8, flips in flips(20)) {
        let content = b"some rows\tthat repeat\nsome more rows\tthat repeat\n".repeat(4000);
        let mut stream = compress(compression, &content);
        for (at, value) in flips {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        let mut craft = Craft::new(compression).with(table_data(9, "COPY t FROM stdin;"));
        craft.blocks = [vec![1], int(9), chunks(&stream, 4096)].concat();
        let _ = read(craft.bytes());
    }

    #[test]
    fn bytes_that_are_no_archive_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(tail.clone());
        let _ = read([Craft::new(GZIP).head(), int(3), tail.clone()].concat());
        let _ = read([Craft::new(GZIP).head(), int(1), int(1), int(1), string(Some(b"1")), tail].concat());
    }
}
