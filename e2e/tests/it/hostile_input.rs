//! Whatever a stranger has put into a backup: it is refused with its cause, through the real command, and
//! the live system is byte for byte what it was.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, docker_maybe, pg_dump},
    sha1,
};

/// A backup, the exit code that it ends in, and the code of the problem or of a finding.
struct Case {
    name: &'static str,
    backup: Vec<u8>,
    ends: i32,
    code: &'static str,
}

fn case(name: &'static str, backup: Vec<u8>, ends: i32, code: &'static str) -> Case {
    Case { name, backup, ends, code }
}

#[test]
fn hostile_and_broken_backups_are_refused_by_name_and_the_live_system_is_what_it_was() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    // It would write by itself.
    docker(&["stop", &live.odoo()]);
    let address = live.address(&live.db());
    let url = format!("postgresql://odoo:{}@{address}:5432/{}", live.password(), live.name);
    let filestore = live.filestore().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let dump = fs::read_to_string(backup.plain()).unwrap();
    let (before, whole) = (Seen::of(&live), whole(&live));

    let mut wrong = Vec::new();
    let mut cases = containers(dump.as_bytes());
    cases.extend(dumps(&dump));
    let count = cases.len();
    for Case { name, backup, ends, code } in cases {
        let path = folder.path().join("backup");
        fs::write(&path, backup).unwrap();
        let restore = |accepted: &[String]| {
            let words = ["restore", path.to_str().unwrap(), "--filestore", &filestore, "--yes", "--json"];
            // Most have no files, which would stop them too.
            let accepted = ["missing_files"].into_iter().chain(accepted.iter().map(String::as_str));
            let words: Vec<&str> =
                words.into_iter().chain(accepted.flat_map(|code| ["--accept", code])).collect();
            let run = undoo.run_with(&words, &[("UNDOO_DATABASE_URL", &url)]);
            assert_ne!(run.code, 0, "{name} was restored");
            assert!(run.json()["message"].as_str().is_some_and(|cause| !cause.is_empty()), "{name}");
            assert_eq!(Seen::of(&live), before, "{name} touched the live system");
            assert_eq!(live.staged(), [""; 0], "{name} left something");
            assert_eq!(live.newest_restore(), None, "{name} left something");
            run
        };
        let run = restore(&[]);
        let (findings, answer) = (run.findings(), run.json());
        let is_it = |found: &String| found == code || (code.ends_with(':') && found.starts_with(code));
        if run.code != ends || !(answer["code"] == code || findings.iter().any(is_it)) {
            let message = &answer["message"];
            wrong.push(format!("{name}: {} {findings:?} instead of {ends} {code}: {message}", run.code));
        }
        // A backup without some of its files may be all there is; nothing else here is a matter of consent.
        if !findings.is_empty() && code != "corrupt_files" {
            restore(&findings);
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    left_out(&undoo, &live, &with_all_that_is_left_out(&dump), &filestore, &url);
    assert!(self::whole(&live) == whole, "the live database is another one");
    assert!(docker_maybe(&["exec", &live.db(), "test", "-e", "/tmp/pwned"]).is_none());
    assert!(!Path::new("/tmp/undoo-e2e-pwned").exists());
}

/// What reaches out of a database without being a reason to refuse a dump.
fn with_all_that_is_left_out(dump: &str) -> Vec<u8> {
    let statements = "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 dbname=postgres' PUBLICATION p;\n\
        CREATE PUBLICATION p FOR ALL TABLES;\n\
        CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;\n\
        CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();\n\
        GRANT pg_execute_server_program TO odoo;\n\
        ALTER DATABASE postgres SET work_mem TO '1GB';\n\
        CREATE TRUSTED LANGUAGE plperl;\n\
        DROP DATABASE IF EXISTS postgres;\n";
    dump.replacen("\nSET ", &format!("\n{statements}\nSET "), 1).into_bytes()
}

/// Restored into another database, which has none of it.
fn left_out(undoo: &Undoo, live: &Instance, dump: &[u8], filestore: &str, url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.sql");
    fs::write(&path, dump).unwrap();
    let other = format!("{}-other", live.name);
    let roles = "SELECT rolname, rolsuper, (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r \
                 WHERE rolname NOT LIKE 'undoo%' UNION ALL SELECT setconfig::text, NULL, NULL FROM pg_db_role_setting";
    let before = live.sql_in("postgres", roles);
    let words = [
        "restore",
        path.to_str().unwrap(),
        "--filestore",
        filestore,
        "--database",
        &other,
        "--yes",
        "--json",
    ];
    let run = undoo
        .run_with(&[&words[..], &["--accept", "missing_files"]].concat(), &[("UNDOO_DATABASE_URL", url)]);
    let result = run.ends(0).result();
    let told = result["report"].to_string();
    for code in ["subscription_dropped", "publication_dropped", "foreign_dropped", "event_trigger_dropped"] {
        assert!(told.contains(code), "{code} is not in the report");
    }
    let there = "SELECT (SELECT count(*) FROM pg_subscription), (SELECT count(*) FROM pg_publication), \
                 (SELECT count(*) FROM pg_foreign_server), (SELECT count(*) FROM pg_event_trigger), \
                 (SELECT count(*) FROM pg_language WHERE lanname LIKE 'plperl%')";
    assert_eq!(live.sql_in(&other, there), "0|0|0|0|0");
    assert_eq!(live.sql_in("postgres", roles), before);
}

/// The live system as it is seen without reading all of it.
#[derive(Debug, PartialEq)]
struct Seen {
    server: String,
    files: BTreeMap<String, (u64, u64, i64, u32, u32)>,
}

impl Seen {
    fn of(live: &Instance) -> Self {
        let server = live.sql_in(
            "postgres",
            "SELECT oid, datname, datdba, datallowconn, datacl, datconnlimit FROM pg_database ORDER BY 1; \
             SELECT oid, rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolpassword FROM pg_authid ORDER BY 1; \
             SELECT * FROM pg_db_role_setting ORDER BY 1, 2; SELECT name, setting FROM pg_file_settings",
        );
        // Not of the whole database: autovacuum writes its statistics into the catalogue when it likes.
        let written = live.sql_in(
            &live.name,
            "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables",
        );
        let mut files = BTreeMap::new();
        list(&live.filestore(), &mut files);
        Self { server: format!("{server}\n{written}"), files }
    }
}

fn list(folder: &Path, files: &mut BTreeMap<String, (u64, u64, i64, u32, u32)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let found = entry.metadata().unwrap();
        let path = entry.path();
        if found.is_dir() {
            list(&path, files);
        }
        let about = (found.ino(), found.len(), found.mtime_nsec() ^ found.mtime(), found.mode(), found.uid());
        files.insert(path.display().to_string(), about);
    }
}

/// Every row and definition, and every byte of every file.
fn whole(live: &Instance) -> (String, BTreeMap<String, String>) {
    let dump = String::from_utf8(pg_dump(&live.db(), &live.name, &[])).unwrap();
    let lines = dump.lines().filter(|line| !line.contains("restrict "));
    let mut files = BTreeMap::new();
    list(&live.filestore(), &mut files);
    let content = |path: String| Some((path.clone(), sha1(&fs::read(&path).ok()?)));
    (lines.collect::<Vec<_>>().join("\n"), files.into_keys().filter_map(content).collect())
}

/// Dumps that are not what `pg_dump` writes, or not only.
fn dumps(dump: &str) -> Vec<Case> {
    // Right after the first setting: what follows is an honest dump.
    let with = |attack: &str| dump.replacen("\nSET ", &format!("\n{attack}\nSET "), 1).into_bytes();
    let function = |language: &str, body: &str| {
        with(&format!("CREATE FUNCTION public.f() RETURNS void LANGUAGE {language} AS {body};"))
    };
    let copy = dump.find("\nCOPY public.res_users (").unwrap() + 1;
    let rows = copy + dump[copy..].find('\n').unwrap() + 1;
    let mut cut = dump.as_bytes()[..rows + 40].to_vec();
    let mut null = dump.as_bytes().to_vec();
    null[rows + 2] = 0;
    let cut_custom = {
        cut.truncate(rows + 33);
        cut
    };
    vec![
        case("a shell command", with("\\! touch /tmp/undoo-e2e-pwned"), 4, "meta_command"),
        case("a file's content", with("\\i /etc/passwd"), 4, "meta_command"),
        case("another database", with("\\connect postgres"), 4, "meta_command"),
        case(
            "another database, quoted to break out",
            with("\\connect \"x'; DROP DATABASE y; --\""),
            4,
            "meta_command",
        ),
        case("a query that is run again", with("SELECT 'DROP TABLE res_users' \\gexec"), 4, "meta_command"),
        case(
            "a copy by the client",
            with("\\copy res_users from program 'touch /tmp/undoo-e2e-pwned'"),
            4,
            "meta_command",
        ),
        case("COPY TO PROGRAM", with("COPY (SELECT 1) TO PROGRAM 'touch /tmp/pwned';"), 4, "copy_program"),
        case(
            "COPY FROM PROGRAM",
            with("COPY public.res_users FROM PROGRAM 'touch /tmp/pwned';"),
            4,
            "copy_program",
        ),
        case("COPY FROM a file", with("COPY public.res_users FROM '/etc/passwd';"), 4, "copy_file"),
        case("COPY TO a file", with("COPY pg_authid TO '/tmp/pwned';"), 4, "copy_file"),
        case(
            "a setting of the server",
            with("ALTER SYSTEM SET archive_command = 'touch /tmp/pwned';"),
            4,
            "statement_not_allowed",
        ),
        case("a superuser", with("ALTER ROLE odoo SUPERUSER;"), 4, "statement_not_allowed"),
        case("a new role", with("CREATE ROLE evil SUPERUSER LOGIN;"), 4, "statement_not_allowed"),
        case("a role to be", with("SET SESSION AUTHORIZATION odoo;"), 4, "setting_not_allowed"),
        case("another role", with("SET ROLE odoo;"), 4, "setting_not_allowed"),
        case(
            "a database whose name breaks quotes",
            with("CREATE DATABASE \"a\"\"; DROP ROLE odoo; --\";"),
            4,
            "statement_not_allowed",
        ),
        case(
            "anonymous code",
            with("DO $$ BEGIN EXECUTE 'ALTER ROLE odoo SUPERUSER'; END $$;"),
            4,
            "statement_not_allowed",
        ),
        case("a library", with("LOAD '/tmp/evil.so';"), 4, "statement_not_allowed"),
        case(
            "a query that reads files",
            with("SELECT pg_read_file('/etc/passwd');"),
            4,
            "statement_not_allowed",
        ),
        case(
            "a large object from a file",
            with("SELECT lo_import('/etc/passwd');"),
            4,
            "statement_not_allowed",
        ),
        case(
            "two statements in one",
            with("SET statement_timeout = 0; ALTER ROLE odoo SUPERUSER;"),
            4,
            "statement_not_allowed",
        ),
        case("a function in C", function("c", "'/lib/x86_64-linux-gnu/libc.so.6', 'system'"), 4, "code:"),
        case("a function in an untrusted language", function("plpython3u", "$$import os$$"), 4, "code:"),
        case("an extension that reaches out", with("CREATE EXTENSION dblink;"), 4, "extension_not_allowed"),
        case("rows cut off", cut_custom, 3, "dump_truncated"),
        case("rows with a zero byte", null, 3, "rows_refused"),
        case("MySQL's dump", MYSQL.to_vec(), 3, "layout_unknown"),
        case(
            "SQLite's dump",
            b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (a);\nCOMMIT;\n".to_vec(),
            3,
            "layout_unknown",
        ),
        case(
            "a page instead of a backup",
            b"<!DOCTYPE html><html><body>Please log in</body></html>".to_vec(),
            3,
            "layout_unknown",
        ),
        case("nothing", Vec::new(), 3, "layout_unknown"),
        case("noise", crate::support::noise(5, 100_000), 3, "layout_unknown"),
        case(
            "the head of a custom dump",
            b"PGDMP\x01\x0e\x00\x04\x08\x01\x01\x00".to_vec(),
            4,
            "dump_truncated",
        ),
    ]
}

const MYSQL: &[u8] = b"-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n--\n-- Host: localhost    Database: shop\n\
    /*!40101 SET NAMES utf8mb4 */;\nDROP TABLE IF EXISTS `orders`;\nCREATE TABLE `orders` (`id` int NOT NULL AUTO_INCREMENT,\n\
    PRIMARY KEY (`id`)) ENGINE=InnoDB;\nINSERT INTO `orders` VALUES (1),(2);\n-- Dump completed on 2026-01-01 00:00:00\n";

/// A file of a filestore that is what its name says.
const CONTENT: &[u8] = b"an honest file of a filestore";

fn honest() -> String {
    let hash = sha1(CONTENT);
    format!("filestore/{}/{hash}", &hash[..2])
}

/// ZIPs and tars that no backup tool writes.
fn containers(dump: &[u8]) -> Vec<Case> {
    let hash = sha1(CONTENT);
    let file = honest();
    let zip = |members: &[(&str, &[u8])]| zip_of(&[&[("dump.sql", dump)], members].concat());
    let patched = |at: fn(&mut Parts<'_>)| {
        let mut bytes = zip(&[(&file, CONTENT)]);
        at(&mut Parts { bytes: &mut bytes });
        bytes
    };
    let tar = |entries: &[Vec<u8>]| zip(&[("filestore.tar", &[entries.concat(), vec![0; 1024]].concat())]);
    let link = |kind: u8, to: &str| tar(&[entry(&file, kind, to, b""), entry(&honest(), b'0', "", CONTENT)]);
    let doubled = {
        let mut bytes = zip(&[("dump.sqm", b"SELECT 1;")]);
        for at in positions(&bytes, b"dump.sqm") {
            bytes[at..at + 8].copy_from_slice(b"dump.sql");
        }
        bytes
    };
    let symlink = {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("dump.sql", SimpleFileOptions::default()).unwrap();
        zip.write_all(dump).unwrap();
        zip.add_symlink(
            format!("filestore/{}/{hash}", &hash[..2]),
            "/etc/passwd",
            SimpleFileOptions::default(),
        )
        .unwrap();
        zip.finish().unwrap().into_inner()
    };
    let whole = zip(&[(&file, CONTENT)]);
    let other = sha1(b"something else");
    vec![
        case(
            "a ZIP whose member climbs",
            zip(&[("filestore/../../../tmp/undoo-e2e-pwned", b"x")]),
            4,
            "member_name_climbs",
        ),
        case(
            "a ZIP whose member is absolute",
            zip(&[("/tmp/undoo-e2e-pwned", b"x")]),
            4,
            "member_name_absolute",
        ),
        case(
            "a ZIP whose member has backslashes",
            zip(&[("filestore\\..\\x", b"x")]),
            4,
            "member_name_backslash",
        ),
        case("a ZIP with a link", symlink, 4, "zip_member_special"),
        case("a ZIP with a member twice", doubled, 4, "zip_member_duplicate"),
        case(
            "a ZIP with members that overlap",
            patched(|zip| zip.entry(1, 42, &0_u32.to_le_bytes())),
            4,
            "zip_member_overlap",
        ),
        case(
            "a ZIP that claims to be a bomb",
            patched(|zip| zip.entry(1, 24, &0xffff_fff0_u32.to_le_bytes())),
            4,
            "zip_bomb",
        ),
        case(
            "an encrypted ZIP",
            patched(|zip| zip.entry(0, 8, &1_u16.to_le_bytes())),
            4,
            "zip_member_encrypted",
        ),
        case(
            "a ZIP with a wrong CRC",
            patched(|zip| zip.both(0, 16, 14, b"\0\x01\x02\x03")),
            3,
            "zip_member_crc",
        ),
        case("a ZIP cut off", whole[..whole.len() / 2].to_vec(), 3, "zip_truncated"),
        case("a ZIP cut off at its end", whole[..whole.len() - 10].to_vec(), 3, "zip_truncated"),
        case("a ZIP without a dump", zip_of(&[(&file, CONTENT)]), 4, "no_database"),
        case(
            "a file that is not what its name says",
            zip(&[(&format!("filestore/{}/{other}", &other[..2]), CONTENT)]),
            4,
            "corrupt_files",
        ),
        case(
            "a file in another hash's folder",
            zip(&[(&format!("filestore/{}/{hash}", &other[..2]), CONTENT)]),
            4,
            "filestore_prefix_mismatch",
        ),
        case(
            "a tar whose entry climbs",
            tar(&[entry("filestore/../../tmp/x", b'0', "", b"x")]),
            4,
            "member_name_climbs",
        ),
        case(
            "a tar whose entry is absolute",
            tar(&[entry("/tmp/undoo-e2e-pwned", b'0', "", b"x")]),
            4,
            "member_name_absolute",
        ),
        case("a tar with a symbolic link", link(b'2', "/etc/passwd"), 4, "tar_member_special"),
        case("a tar with a hard link", link(b'1', "/etc/passwd"), 4, "tar_member_special"),
        case("a tar with a device", link(b'4', ""), 4, "tar_member_special"),
        case("a tar with a pipe", link(b'6', ""), 4, "tar_member_special"),
        case(
            "a tar cut off",
            zip(&[("filestore.tar", &entry(&file, b'0', "", CONTENT)[..520])]),
            3,
            "tar_truncated",
        ),
    ]
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    for (name, content) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A finished ZIP to spoil.
struct Parts<'a> {
    bytes: &'a mut [u8],
}

impl Parts<'_> {
    /// Overwrites a field of a member's entry in the directory.
    fn entry(&mut self, member: usize, field: usize, value: &[u8]) {
        let at = positions(self.bytes, b"PK\x01\x02")[member] + field;
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Overwrites a field in the directory and in the member's own header.
    fn both(&mut self, member: usize, field: usize, local: usize, value: &[u8]) {
        self.entry(member, field, value);
        let at = positions(self.bytes, b"PK\x03\x04")[member] + local;
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    bytes
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, window)| *window == wanted)
        .map(|(at, _)| at)
        .collect()
}

/// A header of a tar with its content, padded.
fn entry(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(content);
    header.resize(header.len().div_ceil(512) * 512, 0);
    header
}
