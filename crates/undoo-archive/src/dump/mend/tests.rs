//! What becomes of recognised statements on servers of other versions.

use super::*;
use crate::dump::statement::classify;

fn decision(sql: &str, server_major: u32) -> Decision {
    let target = Target { server_major, schemas: ["public".to_owned()].into() };
    decide(&classify(sql).unwrap_or_else(|problem| panic!("{sql}: {problem}")), &target)
}

fn mend(sql: &str, server_major: u32) -> Option<&'static str> {
    match decision(sql, server_major) {
        Decision::Run => None,
        Decision::Skip(mend) => Some(mend.code),
        other => panic!("{sql}: {other:?}"),
    }
}

fn refusal(sql: &str) -> &'static str {
    match decision(sql, 15) {
        Decision::Refuse(problem) => problem.code,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn settings_newer_than_the_server_are_left_out() {
    assert_eq!(mend("SET transaction_timeout = 0;", 15), Some("settings"));
    assert_eq!(mend("SET transaction_timeout = 0;", 17), None);
    assert_eq!(mend("SET default_table_access_method = heap;", 11), Some("settings"));
    assert_eq!(mend("SET default_table_access_method = heap;", 15), None);
    assert_eq!(mend("SET default_table_access_method = columnar;", 15), Some("access_methods"));
    assert_eq!(mend("SET default_tablespace = '';", 15), None);
    assert_eq!(mend("SET default_tablespace = fast;", 15), Some("tablespaces"));
    assert_eq!(mend("SET row_security = off;", 15), None);
}

#[test]
fn settings_that_change_roles_libraries_or_quoting_are_refused() {
    for sql in [
        "SET role = postgres;",
        "SET ROLE postgres;",
        "SET SESSION AUTHORIZATION 'postgres';",
        "SET session_authorization = DEFAULT;",
        "SET session_preload_libraries = 'x';",
        "SET local_preload_libraries = 'x';",
        "SET standard_conforming_strings = off;",
        "SET work_mem = '1TB';",
    ] {
        assert_eq!(refusal(sql), "setting_not_allowed", "{sql}");
    }
    assert_eq!(refusal("SET client_encoding = 'SJIS';"), "dump_encoding");
}

#[test]
fn what_the_target_has_or_decides_itself_is_left_out() {
    for (sql, code) in [
        ("ALTER TABLE public.t OWNER TO x;", "owners"),
        ("GRANT ALL ON SCHEMA public TO PUBLIC;", "owners"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b;", "owners"),
        ("CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;", "extensions"),
        ("COMMENT ON EXTENSION unaccent IS 'x';", "extensions"),
        ("CREATE SCHEMA public;", "schemas"),
        ("COMMENT ON SCHEMA public IS 'x';", "schemas"),
        ("CREATE PROCEDURAL LANGUAGE plpgsql;", "languages"),
        ("DROP TABLE public.t;", "clean"),
        ("COMMENT ON DATABASE x IS 'x';", "database_properties"),
        (
            "SELECT * FROM pg_catalog.pg_restore_relation_stats('version', '180000'::integer);",
            "planner_statistics",
        ),
        ("COMMENT ON PUBLICATION p IS 'x';", "comments"),
    ] {
        assert_eq!(mend(sql, 15), Some(code), "{sql}");
    }
    assert_eq!(mend("CREATE SCHEMA sales;", 15), None);
    assert_eq!(mend("COMMENT ON TABLE public.t IS 'x';", 15), None);
}

#[test]
fn column_compression_needs_a_server_that_knows_it() {
    let sql = "ALTER TABLE ONLY public.t ALTER COLUMN a SET COMPRESSION lz4;";
    assert_eq!((mend(sql, 13), mend(sql, 14)), (Some("column_compression"), None));
}

#[test]
fn what_reaches_other_servers_is_left_out_with_a_warning() {
    for (sql, code) in [
        ("CREATE PUBLICATION p FOR ALL TABLES;", "publication_dropped"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p;", "subscription_dropped"),
        ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();", "event_trigger_dropped"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;", "foreign_dropped"),
        ("CREATE FOREIGN TABLE public.t (a int) SERVER s;", "foreign_dropped"),
        ("CREATE USER MAPPING FOR x SERVER s;", "foreign_dropped"),
    ] {
        match decision(sql, 15) {
            Decision::Drop(finding) => {
                assert_eq!(finding.code, code);
                assert!(!finding.blocks(&[]));
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn mends_are_counted_by_code() {
    let mut mends = Mends::default();
    mends.count(OWNERS, 1);
    mends.count(OWNERS, 1);
    mends.count(Mends::RESTRICT, 2);
    mends.count(SETTINGS, 0);
    let counts: Vec<_> = mends.iter().map(|(mend, times)| (mend.code, times)).collect();
    assert_eq!(counts, [("owners", 2), ("restrict", 2)]);
}
