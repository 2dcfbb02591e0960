//! Plain dumps, whole, cut off and hostile, through buffers of any size.

use std::io;

use proptest::prelude::*;
use undoo_core::Kind;

use super::*;

/// Gives out at most `step` bytes at a time, and then, if asked to, an error.
struct Trickle {
    bytes: io::Cursor<Vec<u8>>,
    step: usize,
    error: Option<io::ErrorKind>,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.step.min(buffer.len());
        match (self.bytes.read(&mut buffer[..len])?, self.error) {
            (0, Some(kind)) => Err(kind.into()),
            (read, _) => Ok(read),
        }
    }
}

fn trickle(bytes: impl Into<Vec<u8>>, step: usize) -> Box<dyn Read + Send> {
    Box::new(Trickle { bytes: io::Cursor::new(bytes.into()), step, error: None })
}

fn script(body: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n\
         -- Dumped by pg_dump version 17.11\n\nSET statement_timeout = 0;\n{body}\n--\n-- PostgreSQL database \
         dump complete\n--\n\n"
    )
}

fn read_all(input: Box<dyn Read + Send>) -> Result<Vec<DumpEvent>> {
    let mut dump = PlainDump::open(input)?;
    let mut events = Vec::new();
    while let Some(event) = dump.next_event()? {
        events.push(event);
    }
    Ok(events)
}

/// The events after the one `SET` of [`script`].
fn events(body: &str) -> Vec<DumpEvent> {
    read_all(trickle(script(body), usize::MAX)).expect("a good dump").split_off(1)
}

fn problem(text: impl Into<Vec<u8>>) -> Problem {
    read_all(trickle(text, usize::MAX)).expect_err("a bad dump")
}

fn statement(sql: &str, line: u64) -> DumpEvent {
    DumpEvent::Statement(Statement { sql: sql.to_owned(), origin: Origin::Line(line) })
}

#[test]
fn the_header_names_both_versions() {
    let dump = PlainDump::open(trickle(script(""), 1)).expect("a good dump");
    assert_eq!(dump.header().server_version.as_deref(), Some("15.18 (Debian 15.18-0+deb12u1)"));
    assert_eq!(dump.header().dump_version.as_deref(), Some("17.11"));
}

#[test]
fn statements_keep_their_lines_and_lose_the_comments_between_them() {
    let body = "-- one\nCREATE TABLE public.t (\n    a integer -- kept\n);\n\n\n/* two */\nSELECT 'x;\ny';\n";
    assert_eq!(
        events(body),
        [
            statement("CREATE TABLE public.t (\n    a integer -- kept\n);", 10),
            statement("SELECT 'x;\ny';", 16),
        ]
    );
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert!(read_all(trickle(format!("\u{feff}{}", script("")), usize::MAX)).is_ok());
}

#[test]
fn restrict_lines_are_counted_and_passed_over() {
    let text =
        script("").replacen("\n\n-- Dumped", "\n\n\\restrict aB3\n\n-- Dumped", 1) + "\\unrestrict aB3\n\n";
    let mut dump = PlainDump::open(trickle(text, usize::MAX)).expect("a good dump");
    assert_eq!(dump.header().dump_version.as_deref(), Some("17.11"), "comments after it are header too");
    while dump.next_event().expect("a good dump").is_some() {}
    assert_eq!(dump.restrict_lines(), 2);
}

#[test]
fn restrict_lines_in_other_places_or_shapes_are_refused() {
    let good = script("").replacen("\n\n-- Dumped", "\n\n\\restrict aB3\n\n-- Dumped", 1);
    for text in [
        good.clone() + "\\unrestrict aB4\n",
        good.clone() + "\\unrestrict aB3 \\! id\n",
        good.clone() + "\\unrestrict aB3\n\\unrestrict aB3\n",
        good.replace("\\restrict aB3", "\\restrict aB3 `id`"),
        good.replace("\\restrict aB3", "\\restrict a\n\\restrict b"),
        good.replace("SET", "\\unrestrict aB3\nSET"),
        script("\\restrict aB3\n"),
    ] {
        assert_eq!(problem(text).code, "meta_command");
    }
    assert_eq!(problem(good + "\\unrestrict a").code, "dump_truncated");
}

#[test]
fn psql_commands_are_refused_wherever_they_stand() {
    for command in [
        r"\! rm -rf /",
        r"\connect other",
        r"\c other",
        r"\copy t from program 'id'",
        r"\i /etc/passwd",
        r"\o |sh",
        r"\gexec",
        r"\set x `id`",
        r"SELECT 1 \gexec",
        r"SELECT 1; \! id",
        "SELECT (\n\\! id\n);",
        r"\.",
        r"\\",
    ] {
        let problem = problem(script(command));
        assert_eq!((problem.kind, problem.code), (Kind::Refused, "meta_command"), "{command}");
        assert!(problem.message.contains("line 9") || problem.message.contains("line 10"), "{problem}");
    }
    let problem = problem(script("SELECT 1 \\gexec"));
    assert!(problem.message.contains(r"\gexec"), "{problem}");
}

#[test]
fn backslashes_in_quotes_are_data() {
    assert_eq!(events(r"SELECT '\! id', $$\i x$$;").len(), 1);
}

#[test]
fn rows_are_handed_on_untouched() {
    let events = events("COPY public.t (a, b) FROM stdin;\n1\t\\N\n\\\\.\t'; DROP\nÿ\\.\n\\.\n\nSELECT 1;");
    assert_eq!(
        events,
        [
            DumpEvent::CopyStart(Statement {
                sql: "COPY public.t (a, b) FROM stdin;".into(),
                origin: Origin::Line(9)
            }),
            DumpEvent::CopyRows { bytes: "1\t\\N\n\\\\.\t'; DROP\nÿ\\.\n".into(), rows: 3, ends_row: true },
            DumpEvent::CopyEnd,
            statement("SELECT 1;", 15),
        ]
    );
}

#[test]
fn rows_need_not_be_utf8() {
    let mut text = script("COPY t (a) FROM stdin;\n@\n\\.\n").into_bytes();
    let at = text.iter().position(|b| *b == b'@').expect("the mark");
    text[at] = 0xff;
    assert!(read_all(trickle(text, usize::MAX)).is_ok());
}

#[test]
fn an_empty_table_has_no_rows() {
    let events = events("COPY public.t (a) FROM stdin;\n\\.\n");
    assert!(matches!(events[..], [DumpEvent::CopyStart(_), DumpEvent::CopyEnd]), "{events:?}");
}

#[test]
fn a_huge_row_comes_in_pieces_of_bounded_size() {
    let row = "x".repeat(3 * ROW_MAX + 17);
    let events = events(&format!("COPY t (a) FROM stdin;\n1\n{row}\n2\n\\.\n"));
    let mut joined = Vec::new();
    let (mut total, mut pieces) = (0, 0);
    for event in &events {
        if let DumpEvent::CopyRows { bytes, rows, ends_row } = event {
            assert!(bytes.len() <= ROW_MAX);
            assert_eq!(*ends_row, bytes.ends_with(b"\n"));
            joined.extend_from_slice(bytes);
            total += rows;
            pieces += usize::from(!ends_row);
        }
    }
    assert_eq!((total, joined), (3, format!("1\n{row}\n2\n").into_bytes()));
    assert!(pieces >= 2);
}

#[test]
fn large_objects_become_their_bytes() {
    let body = r"SELECT pg_catalog.lo_create('16420');

BEGIN;

SELECT pg_catalog.lo_open('16420', 131072);
SELECT pg_catalog.lowrite(0, '\x666f6f');
SELECT pg_catalog.lowrite(0, '\x');
SELECT pg_catalog.lo_close(0);

SELECT pg_catalog.lo_open(pg_catalog.lo_create('16421'), 131072);
SELECT pg_catalog.lo_close(0);

COMMIT;
";
    assert_eq!(
        events(body),
        [
            statement("SELECT pg_catalog.lo_create('16420');", 9),
            DumpEvent::LargeObjectStart { oid: 16420, create: false },
            DumpEvent::LargeObjectData(b"foo".to_vec()),
            DumpEvent::LargeObjectData(Vec::new()),
            DumpEvent::LargeObjectEnd,
            DumpEvent::LargeObjectStart { oid: 16421, create: true },
            DumpEvent::LargeObjectEnd,
        ]
    );
}

#[test]
fn large_objects_out_of_order_are_refused() {
    let open = "SELECT pg_catalog.lo_open('1', 131072);\n";
    for body in [
        format!("{open}{open}"),
        format!("{open}SELECT 1;"),
        r"SELECT pg_catalog.lowrite(0, '\x00');".to_owned(),
        "SELECT pg_catalog.lo_close(0);".to_owned(),
        format!("{open}SELECT pg_catalog.lowrite(0, 'x');"),
    ] {
        assert_eq!(problem(script(&body)).code, "dump_damaged", "{body}");
    }
    assert_eq!(problem(script(open)).code, "dump_truncated");
}

#[test]
fn a_dump_cut_anywhere_is_truncated() {
    let text =
        script("CREATE TABLE t (a text);\nCOPY t (a) FROM stdin;\nabc\n\\.\n\nSELECT 'x';\nSELECT $$y$$;\n");
    let whole = text.rfind("-- PostgreSQL").expect("the closing comment") + CLOSING.len();
    let opened = text.find("dump\n").expect("the opening comment") + 5;
    for cut in opened..whole {
        assert_eq!(problem(&text[..cut]).code, "dump_truncated", "{:?}", &text[..cut]);
    }
    assert!(read_all(trickle(&text[..whole], usize::MAX)).is_ok());
}

#[test]
fn sql_after_the_closing_comment_is_refused() {
    assert_eq!(problem(script("") + "SELECT 1;").code, "dump_damaged");
}

#[test]
fn converted_line_ends_are_named() {
    assert_eq!(problem(script("").replace('\n', "\r\n")).code, "dump_crlf");
    assert_eq!(problem(script("COPY t (a) FROM stdin;\n1\r\n\\.\r\n")).code, "dump_crlf");
}

#[test]
fn other_files_are_named() {
    let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec()].concat();
    let files: [(&[u8], &str); 12] = [
        (b"", "empty"),
        (b"-- MySQL dump 10.13  Distrib 8.0.36\n", "MySQL"),
        (b"/*M!999999\\- enable the sandbox mode */\n", "MariaDB"),
        (b"\n<!DOCTYPE HTML><html>", "HTML"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "XML"),
        (b"--\n-- PostgreSQL database cluster dump\n--\n", "pg_dumpall"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PGDMP\x01\x0e", "custom format"),
        (b"\xff\xfe-\x00-\x00", "UTF-16"),
        (b"abc\x00def", "binary"),
        (&tar, "tar"),
        (b"CREATE TABLE t (a int);\n", "opening comment is missing"),
    ];
    for (bytes, name) in files {
        let problem = problem(bytes);
        assert_eq!((problem.kind, problem.code), (Kind::Invalid, "not_a_dump"), "{name}");
        assert!(problem.message.contains(name), "{problem} does not name {name}");
    }
}

#[test]
fn other_encodings_are_refused() {
    let problem = problem(script("SET client_encoding = 'LATIN1';"));
    assert_eq!(problem.code, "dump_encoding");
    assert!(problem.message.contains("LATIN1"));
    let mut text = script("SELECT '@';").into_bytes();
    let at = text.iter().position(|b| *b == b'@').expect("the mark");
    text[at] = 0xe9;
    assert_eq!(super::tests::problem(text).code, "dump_encoding");
}

#[test]
fn zero_bytes_in_statements_are_damage() {
    let body = format!("-- {}\nSELECT '\0';", "x".repeat(5000));
    assert_eq!(problem(script(&body)).code, "dump_damaged");
}

#[test]
fn copy_with_options_or_text_before_its_rows_is_refused() {
    assert_eq!(problem(script("COPY t FROM stdin WITH (FORMAT csv);\n\\.\n")).code, "statement_not_allowed");
    assert_eq!(problem(script("COPY t FROM stdin; SELECT 1;\n\\.\n")).code, "dump_damaged");
    assert_eq!(problem(script("COPY t FROM stdin;\n1\n\\.x\n\\.\n")).code, "dump_damaged");
}

#[test]
fn copies_from_elsewhere_are_left_to_the_judge() {
    assert!(matches!(events("COPY t FROM PROGRAM 'id';")[..], [DumpEvent::Statement(_)]));
}

#[test]
fn an_endless_statement_is_given_up() {
    let front = script("SELECT '").into_bytes();
    let endless = io::Cursor::new(front[..front.len() - 60].to_vec()).chain(io::repeat(b'x'));
    assert_eq!(read_all(Box::new(endless)).expect_err("too long").code, "statement_too_long");
}

#[test]
fn reading_errors_tell_corruption_from_a_broken_connection() {
    let run = |kind| {
        let bytes = io::Cursor::new(script("").into_bytes());
        read_all(Box::new(Trickle { bytes, step: 7, error: Some(kind) })).expect_err("an error")
    };
    assert_eq!(run(io::ErrorKind::InvalidData).kind, Kind::Invalid);
    assert_eq!(run(io::ErrorKind::ConnectionReset).kind, Kind::Unavailable);
}

/// A row without the marker of the end: what `COPY` writes never begins with `\.`.
fn row() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![3 => Just(b'\\'), 3 => Just(b'.'), 1 => any::<u8>()], 0..12)
        .prop_map(|row| row.into_iter().filter(|b| *b != b'\n').collect::<Vec<_>>())
        .prop_filter("the marker", |row| !row.starts_with(b"\\."))
}

fn joined_rows(events: &[DumpEvent]) -> (Vec<u8>, u64) {
    let mut joined = (Vec::new(), 0);
    for event in events {
        if let DumpEvent::CopyRows { bytes, rows, .. } = event {
            joined.0.extend_from_slice(bytes);
            joined.1 += rows;
        }
    }
    joined
}

proptest! {
    #[test]
    fn rows_survive_any_read_size(
        rows in prop::collection::vec(row(), 0..40),
        step in 1_usize..70,
    ) {
        let block: Vec<u8> = rows.iter().flat_map(|row| [row.as_slice(), b"\n"].concat()).collect();
        let text = script("COPY t (a) FROM stdin;\n@@\\.\n\nSELECT 1;");
        let (front, back) = text.split_once("@@").expect("the mark");
        let bytes = [front.as_bytes(), &block, back.as_bytes()].concat();
        let events = read_all(trickle(bytes, step)).expect("a good dump");
        prop_assert_eq!(joined_rows(&events), (block, rows.len() as u64));
        prop_assert!(matches!(events.last(), Some(DumpEvent::Statement(_))));
    }

    #[test]
    fn rows_across_chunk_borders_survive(
        fill in (ROWS_CHUNK - 40)..(ROWS_CHUNK + 8),
        rows in prop::collection::vec(row(), 0..20),
    ) {
        let mut block = [vec![b'x'; fill], b"\n".to_vec()].concat();
        block.extend(rows.iter().flat_map(|row| [row.as_slice(), b"\n"].concat()));
        let text = script("COPY t (a) FROM stdin;\n@@\\.\n\nSELECT 1;");
        let (front, back) = text.split_once("@@").expect("the mark");
        let bytes = [front.as_bytes(), &block, back.as_bytes()].concat();
        let events = read_all(trickle(bytes, 1 << 20)).expect("a good dump");
        prop_assert_eq!(joined_rows(&events), (block, rows.len() as u64 + 1));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..9) {
        let _ = read_all(trickle(bytes.clone(), step));
        let front = script("").into_bytes();
        let _ = read_all(trickle([&front[..150], &bytes].concat(), step));
    }

    #[test]
    fn read_sizes_change_nothing(
        body in "(SELECT |'[a;]'|;\n|-- x\n|/\\*|\\*/|\\$\\$|COPY t FROM stdin;\n|1\t2\n|\\\\\\.\n|E'|\\\\){0,12}",
        step in 1_usize..20,
    ) {
        let whole = read_all(trickle(script(&body), usize::MAX)).map_err(|problem| problem.message);
        let small = read_all(trickle(script(&body), step)).map_err(|problem| problem.message);
        prop_assert_eq!(whole, small);
    }
}
