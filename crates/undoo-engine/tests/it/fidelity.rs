//! What arrives is what `psql` and `pg_restore` make of the same dump: every row, every definition.

use std::{fs, io::Write, process::Stdio};

use undoo_core::Side;
use undoo_core::pair::parked_database;
use undoo_engine::verify;

use crate::{
    odoo::{SOURCE, click_odoo_folder, files, oec_zip},
    server::{Server, connection, run},
    world::{World, cut_over, stage, stage_and_accept},
};

/// Rows and a digest of them for every table, sequences, large objects.
fn data(server: &Server, database: &str) -> String {
    let script = r#"
SELECT format('SELECT %L AS t, count(*), md5(coalesce(string_agg(x::text, E''\n'' ORDER BY x::text COLLATE "C"), '''')) FROM %s %s x',
    c.oid::regclass, CASE c.relkind WHEN 'r' THEN 'ONLY' ELSE '' END, c.oid::regclass)
  FROM pg_class c WHERE relkind IN ('r', 'm') AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  AND relnamespace <> 'pg_toast'::regnamespace ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT format('SELECT %L AS s, last_value, is_called FROM %s', c.oid::regclass, c.oid::regclass)
  FROM pg_class c WHERE relkind = 'S' ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT 'large object', loid, md5(string_agg(data, '' ORDER BY pageno)) FROM pg_largeobject GROUP BY loid ORDER BY loid;
"#;
    let mut psql = server.client("psql");
    psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &connection(database)]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// All definitions, without the lines that are random.
fn definitions(server: &Server, database: &str) -> Vec<String> {
    let dump = server.dump(database, &["--schema-only", "--no-owner", "--no-privileges"]);
    let text = String::from_utf8(dump).unwrap();
    let random = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    text.lines().filter(random).map(str::to_owned).collect()
}

/// What the tools of PostgreSQL make of a dump.
fn reference(server: &Server, restore: impl FnOnce(&str)) -> String {
    let name = server.unique("reference");
    server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
    // Neither tool knows what Odoo does with it, and both fail without.
    server.psql(&name, "CREATE EXTENSION unaccent; ALTER FUNCTION unaccent(text) IMMUTABLE");
    restore(&name);
    name
}

fn assert_same(server: &Server, restored: &str, reference: &str) {
    let (left, right) = (data(server, restored), data(server, reference));
    assert!(left.lines().count() > 40, "{left}");
    for (left, right) in left.lines().zip(right.lines()) {
        assert_eq!(left, right);
    }
    assert_eq!(left.lines().count(), right.lines().count());
    let (left, right) = (definitions(server, restored), definitions(server, reference));
    for (number, (left, right)) in left.iter().zip(&right).enumerate() {
        assert_eq!(left, right, "line {number} of the definitions");
    }
    assert_eq!(left.len(), right.len());
}

async fn plain_as_psql(major: u32) {
    let server = Server::of(major);
    let world = World::live(server);
    let dump = world.path("dump.sql");
    fs::write(&dump, server.plain_dump()).unwrap();
    let reference = reference(server, |name| {
        run(server.client("psql").args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", name, "-f"]).arg(&dump));
    });
    let work = world.work();
    let report = stage_and_accept(&work, &world.backup()).await;
    assert!(
        report
            .attachments
            .is_some_and(|found| found.is_exact() && found.matched == 60 && found.in_database == 1)
    );
    cut_over(&world, &work.id, Side::Restored).await;
    assert_same(server, &world.target.database, &reference);
}

async fn custom_as_pg_restore(major: u32) {
    let server = Server::of(major);
    let world = World::empty(server);
    let dump = server.dump(SOURCE, &["-Fc"]);
    let file = world.path("db.dump");
    fs::write(&file, &dump).unwrap();
    let reference = reference(server, |name| {
        run(server.client("pg_restore").args(["--exit-on-error", "--no-owner", "-d", name]).arg(&file));
    });
    let work = world.work();
    stage_and_accept(&work, &click_odoo_folder(&world.path("backup"), &dump, &files())).await;
    cut_over(&world, &work.id, Side::Restored).await;
    assert_same(server, &world.target.database, &reference);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_arrives_on_13_as_psql_restores_it() {
    plain_as_psql(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_arrives_on_15_as_psql_restores_it() {
    plain_as_psql(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_arrives_on_17_as_psql_restores_it() {
    plain_as_psql(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_arrives_on_13_as_pg_restore_restores_it() {
    custom_as_pg_restore(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_arrives_on_15_as_pg_restore_restores_it() {
    custom_as_pg_restore(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_arrives_on_17_as_pg_restore_restores_it() {
    custom_as_pg_restore(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_newer_server_with_its_files_as_a_tar_arrives_on_an_older_one() {
    let newer = Server::of(17);
    let world = World::empty(Server::of(15));
    let work = world.work();
    let dump = newer.dump(SOURCE, &["-Fc"]);
    let report = stage_and_accept(&work, &oec_zip(&world.path("backup.zip"), &dump, &files())).await;
    assert!(report.plan.findings.iter().any(|finding| finding.code == "older_postgresql"));
    assert_eq!(report.filestore.map(|staged| staged.fetched), Some(60));
    cut_over(&world, &work.id, Side::Restored).await;
    let there = data(world.server, &world.target.database);
    let here = data(newer, SOURCE);
    assert_eq!(there.lines().collect::<Vec<_>>(), here.lines().collect::<Vec<_>>());
}

/// Large enough that one session does not keep up and several take its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_split_over_sessions_arrives_once_for_each_row() {
    let server = Server::of(17);
    let copy = server.copy_of_source(
        "CREATE TABLE mail_message (id integer PRIMARY KEY, body text, partner_id integer REFERENCES res_partner(id)); \
         INSERT INTO mail_message SELECT i, repeat(md5(i::text), CASE i % 100 WHEN 0 THEN 300 ELSE 3 END), 1 + i % 2000 \
         FROM generate_series(1, 200000) i",
    );
    let world = World::empty(server);
    let dump = server.dump(&copy, &["--no-owner"]);
    assert!(dump.len() > 35_000_000, "{} bytes", dump.len());
    let mut work = world.work();
    work.options.jobs = 3;
    let backup = crate::odoo::zip_of(
        &world.path("backup.zip"),
        &[("dump.sql", &dump), ("manifest.json", b"{\"version\": \"17.0\"}")],
    );
    work.options.accept.push("missing_files".into());
    let report = stage(&work, &backup).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let rows = report.loaded.map(|loaded| loaded.rows["\"public\".\"mail_message\""]);
    assert_eq!(rows, Some(200_000));
    let digest =
        "SELECT count(*), count(DISTINCT id), sum(hashtext(mail_message::text)::bigint) FROM mail_message";
    let staged = parked_database(&work.id, Side::Restored);
    assert_eq!(server.psql(&staged, digest), server.psql(&copy, digest));
    let sessions = "SELECT count(DISTINCT xmin::text) > 1 FROM mail_message";
    assert_eq!(server.psql(&staged, sessions), "t", "one session took all rows");
}

/// Dumps whose rows are statements are proven as those with COPY are.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_statements_are_counted_too() {
    let server = Server::of(17);
    let world = World::empty(server);
    let expected = server.psql(SOURCE, "SELECT count(*) FROM sale_order");
    let mut first = None;
    for (options, skips) in [
        (&["--inserts"][..], false),
        (&["--column-inserts"], false),
        (&["--rows-per-insert=70"], false),
        (&["-Fc", "--inserts"], false),
        (&["--inserts", "--on-conflict-do-nothing"], true),
    ] {
        let dump = server.dump(SOURCE, &[&["--no-owner"], options].concat());
        let backup = click_odoo_folder(&world.path(&options.concat()), &dump, &files());
        let work = world.work();
        let report = stage(&work, &backup).await.unwrap_or_else(|failure| panic!("{options:?} {failure:?}"));
        let (loaded, counted) = (report.loaded.unwrap(), report.counted.unwrap());
        assert_eq!(loaded.rows["\"public\".\"sale_order\""].to_string(), expected);
        assert_eq!(counted.rows, loaded.rows.values().sum::<u64>());
        assert_eq!(*first.get_or_insert_with(|| loaded.rows.clone()), loaded.rows, "{options:?}");
        assert_eq!(loaded.skippable, if skips { loaded.rows.clone() } else { Default::default() });
        assert_eq!(report.findings.iter().any(|finding| finding.code == "rows_skippable"), skips);

        // One row more or fewer would have been found.
        let staged = parked_database(&work.id, Side::Restored);
        let client = world.target.admin.connect(&staged).await.unwrap();
        let none = Default::default();
        for change in ["DELETE FROM web_log", "INSERT INTO base_log VALUES (now(), 'more')"] {
            server.psql(&staged, change);
            let found = verify::count(&client, &loaded.rows, &loaded.skippable).await;
            assert_eq!(found.is_err(), !skips || change.starts_with("INSERT"), "{options:?} {change}");
        }
        assert_eq!(verify::count(&client, &loaded.rows, &none).await.unwrap_err().code, "row_count");
    }
}

/// Rows that the dump sends to a partitioned table lie in its partitions, whose own rows it may send too.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_go_to_a_partitioned_table_are_counted_where_they_lie() {
    let server = Server::of(17);
    let copy = server.copy_of_source(
        "CREATE TABLE log (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
         CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') \
         PARTITION BY HASH (id); \
         CREATE TABLE log_2025_a PARTITION OF log_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE log_2025_b PARTITION OF log_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         CREATE TABLE log_later PARTITION OF log DEFAULT; \
         INSERT INTO log SELECT i, date '2025-06-01' + i FROM generate_series(1, 500) i",
    );
    let world = World::empty(server);
    let root = "\"public\".\"log\"";
    for (options, at_the_root) in [
        (&["--load-via-partition-root"][..], Some(500)),
        (&["-Fc", "--load-via-partition-root"], Some(500)),
        (&[], None),
    ] {
        let dump = server.dump(&copy, &[&["--no-owner"], options].concat());
        let backup = click_odoo_folder(&world.path(&format!("b{}", options.concat())), &dump, &files());
        let work = world.work();
        let report = stage(&work, &backup).await.unwrap_or_else(|failure| panic!("{options:?} {failure:?}"));
        let loaded = report.loaded.unwrap();
        assert_eq!(loaded.rows.get(root).copied(), at_the_root, "{options:?}");
        assert_eq!(report.counted.unwrap().rows, loaded.rows.values().sum::<u64>());
        let staged = parked_database(&work.id, Side::Restored);
        let client = world.target.admin.connect(&staged).await.unwrap();
        let none = Default::default();
        if at_the_root.is_some() {
            // As pg_dump has it where only some of the partitions cannot be told beforehand.
            let mut both = loaded.rows.clone();
            both.insert(root.into(), 400);
            both.insert("\"public\".\"log_2025_a\"".into(), 100);
            verify::count(&client, &both, &none).await.unwrap();
        }
        server.psql(&staged, "DELETE FROM log WHERE id = 7");
        assert_eq!(verify::count(&client, &loaded.rows, &none).await.unwrap_err().code, "row_count");
    }
}
