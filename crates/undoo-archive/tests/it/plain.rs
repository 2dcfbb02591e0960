//! Plain dumps made by the real pg_dump: whatever it writes must be recognised, and honest data must
//! come through byte for byte.

use std::io::Cursor;

use undoo_archive::dump::{
    DumpEvent, DumpStream,
    code::{Verdict, inspect_code},
    mend::{Decision, Target, decide},
    plain::PlainDump,
    statement::{Classified, classify},
};
use undoo_testing::run;

use crate::custom_postgres::Cluster;

/// One of everything that pg_dump has a form for and that needs no other software.
fn tricky() -> Cluster {
    let cluster = Cluster::start(15);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/plain_objects.sql");
    run(cluster.client("psql").args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", script]));
    cluster
}

fn events(dump: Vec<u8>) -> Vec<DumpEvent> {
    let mut dump = PlainDump::open(Box::new(Cursor::new(dump))).expect("pg_dump's header is known");
    let mut events = Vec::new();
    while let Some(event) = dump.next_event().expect("pg_dump's output is read") {
        events.push(event);
    }
    events
}

fn statements(events: &[DumpEvent]) -> Vec<(Classified, &str)> {
    let statements = events.iter().filter_map(|event| match event {
        DumpEvent::Statement(statement) | DumpEvent::CopyStart(statement) => Some(&statement.sql),
        _ => None,
    });
    statements
        .map(|sql| {
            (classify(sql).unwrap_or_else(|problem| panic!("{}: {sql}", problem.message)), sql.as_str())
        })
        .collect()
}

#[test]
fn whatever_pg_dump_writes_is_recognised_and_nothing_is_refused() {
    let cluster = tricky();
    let target = Target { server_major: 15, schemas: ["public".to_owned()].into() };
    for options in [&["postgres"][..], &["--clean", "--if-exists", "postgres"], &["--inserts", "postgres"]] {
        let events = events(run(cluster.client("pg_dump").args(options)));
        for (statement, sql) in statements(&events) {
            let decision = decide(&statement, &target);
            assert!(!matches!(decision, Decision::Refuse(_)), "{sql}: {decision:?}");
        }
    }

    let events = events(run(cluster.client("pg_dump").args(["postgres"])));
    let statements = statements(&events);
    let count = |kind: fn(&Classified) -> bool| statements.iter().filter(|(one, _)| kind(one)).count();
    assert_eq!(count(|one| matches!(one, Classified::CreateTable { .. })), 7);
    assert_eq!(count(|one| matches!(one, Classified::Copy { .. })), 6);
    assert_eq!(count(|one| matches!(one, Classified::AddForeignKey { not_valid: true, .. })), 1);
    assert_eq!(count(|one| matches!(one, Classified::CreateFunction { .. })), 4);

    let mut needs: Vec<String> = Vec::new();
    for (statement, sql) in &statements {
        for finding in inspect_code(statement, sql) {
            assert_ne!(finding.verdict, Verdict::Never, "{sql}");
            if finding.verdict == Verdict::NeedsAcceptance {
                needs.push(finding.object);
            }
        }
    }
    needs.sort();
    assert_eq!(
        needs,
        [
            "aggregate public.total",
            "function public.atomic",
            "function public.positive",
            "function public.touch",
            "rule no_delete on public.plain",
            "table public.Odd \"name\"",
            "trigger touch on public.plain",
        ]
    );
}

#[test]
fn rows_and_large_objects_of_a_real_dump_are_those_of_the_database() {
    let cluster = tricky();
    let expected = run(cluster.client("psql").args(["-q", "-c", "COPY public.plain TO stdout", "postgres"]));
    let object =
        run(cluster.client("psql").args(["-qAt", "-c", "SELECT encode(lo_get(4711), 'hex')", "postgres"]));
    let events = events(run(cluster.client("pg_dump").args(["postgres"])));

    let mut rows = Vec::new();
    let mut large = Vec::new();
    let mut current = None;
    for event in &events {
        match event {
            DumpEvent::CopyStart(statement) => current = classify(&statement.sql).ok(),
            DumpEvent::CopyRows { bytes, .. }
                if current
                    .as_ref()
                    .and_then(Classified::table)
                    .is_some_and(|table| table.name == "plain") =>
            {
                rows.extend_from_slice(bytes);
            }
            DumpEvent::LargeObjectData(bytes) => large.extend_from_slice(bytes),
            _ => {}
        }
    }
    assert_eq!(String::from_utf8_lossy(&rows), String::from_utf8_lossy(&expected));
    assert_eq!(hex::encode(large), String::from_utf8_lossy(&object).trim());
}
