//! Backups of every layout: recognised by content, inspected by a few reads, opened part by part.

use std::{
    io::Read,
    sync::{Arc, atomic::Ordering},
};

use serde_json::json;
use undoo_archive::{
    Backup,
    backup::{BackupInput, Inspection, inspect},
    dump::DumpEvent,
    filestore::FilestorePart,
    layout::Layout,
};
use undoo_core::Severity;

use crate::{
    layout_craft::{
        CONTENT, HASH, MANIFEST, custom_dump, filestore_path, inspected, open_file, open_folder, open_zip,
        plain_dump,
    },
    tar::{archive, entry, gzip},
    zip_craft::{Counting, Synthetic, craft, deflated, end_record, header},
};

fn filestore_tar() -> Vec<u8> {
    let checklist = format!("./acme/checklist/{}/{HASH}", &HASH[..2]);
    archive(&[
        entry("./acme/", b'5', b""),
        entry(&filestore_path("./acme/"), b'0', CONTENT),
        entry(&checklist, b'0', b""),
        entry("./acme/notes.txt", b'0', b"x"),
    ])
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection.findings.iter().map(|finding| &*finding.code).collect()
}

/// Reads the dump to its end and the filestore's one file, wherever it is.
fn whole(backup: &Backup) -> (u64, Vec<u8>) {
    let mut dump = backup.open_dump().unwrap();
    let mut rows = 0;
    while let Some(event) = dump.next_event().unwrap() {
        if let DumpEvent::CopyRows { rows: more, .. } = event {
            rows += more;
        }
    }
    let mut content = Vec::new();
    match &backup.filestore {
        FilestorePart::None => {}
        FilestorePart::Members(files) | FilestorePart::Directory(files) => {
            let [file] = &files[..] else { panic!("one file") };
            assert_eq!((hex::encode(file.hash), file.size), (HASH.to_owned(), CONTENT.len() as u64));
            backup.open_file(file).unwrap().read_to_end(&mut content).unwrap();
        }
        FilestorePart::Tar { .. } => {
            let mut tar = backup.open_filestore_tar().unwrap();
            let (hash, size) = tar.next_file().unwrap().unwrap();
            assert_eq!((hex::encode(hash), size), (HASH.to_owned(), CONTENT.len() as u64));
            tar.read_to_end(&mut content).unwrap();
            assert!(tar.next_file().unwrap().is_none());
            assert_eq!(tar.finding().unwrap().code, "filestore_unknown_member");
        }
    }
    (rows, content)
}

#[test]
fn every_layout_is_recognised_by_its_content_and_opens() {
    let (plain, owned, custom) = (plain_dump(None), plain_dump(Some("p_acme")), custom_dump());
    let (tar, file) = (filestore_tar(), CONTENT);
    let (plain_gz, tar_gz) = (gzip(&plain), gzip(&tar));
    let (in_filestore, in_daily) = (filestore_path("filestore/"), filestore_path("acme_daily/"));
    let checklist = format!("acme_daily/checklist/{}/{HASH}", &HASH[..2]);
    let packed_folder =
        [("my/dump.sql", &*plain), ("my/manifest.json", MANIFEST), (&*format!("my/{in_filestore}"), file)];
    let cases = [
        (
            Layout::OdooZip,
            2,
            open_zip(&[("dump.sql", &plain), ("manifest.json", MANIFEST), (&in_filestore, file)]),
        ),
        (Layout::OdooZip, 2, open_zip(&packed_folder)),
        (Layout::OdooZip, 2, open_folder(&[("a", &plain), ("b", MANIFEST), (&in_filestore, file)])),
        (
            Layout::OecZip,
            2,
            open_zip(&[("dump.sql", &plain), ("filestore.tar.gz", &tar_gz), ("manifest.json", b"{}")]),
        ),
        (Layout::OecZip, 0, open_zip(&[("dump.sql", &custom), ("filestore.tar.gz", &tar_gz)])),
        (Layout::OecZip, 0, open_zip(&[("x", &custom), ("y", &tar)])),
        (
            Layout::OdooSh,
            2,
            open_zip(&[("dump.sql", &owned), ("manifest.json", MANIFEST), (&in_filestore, file)]),
        ),
        (
            Layout::OdooSh,
            2,
            open_folder(&[
                ("acme_daily.sql.gz", &plain_gz),
                ("acme_daily.json", MANIFEST),
                (&in_daily, file),
                (&checklist, b""),
            ]),
        ),
        (
            Layout::ClickOdooFolder,
            0,
            open_folder(&[("db.dump", &custom), ("manifest.json", MANIFEST), (&in_filestore, file)]),
        ),
        (Layout::Odooctl, 0, open_folder(&[("db.dump", &custom), ("filestore.tar", &tar)])),
        (Layout::CustomDump, 0, open_file(custom.clone())),
        (Layout::CustomDump, 0, open_file(gzip(&custom))),
        (Layout::PlainDump, 2, open_file(plain.clone())),
        (Layout::PlainDump, 2, open_file(plain_gz.clone())),
        (Layout::PlainDump, 2, open_folder(&[("only.sql", &plain)])),
    ];
    for (at, (layout, rows, backup)) in cases.into_iter().enumerate() {
        let backup = backup.unwrap();
        assert_eq!(backup.layout, layout, "case {at}");
        let has_files = backup.filestore != FilestorePart::None;
        assert_eq!(
            whole(&backup),
            (rows, if has_files { CONTENT.to_vec() } else { Vec::new() }),
            "case {at}"
        );
    }
}

#[test]
fn an_odoo_zip_is_inspected() {
    let inspection = inspected(open_zip(&[
        ("dump.sql", &plain_dump(None)),
        ("manifest.json", MANIFEST),
        (&filestore_path("filestore/"), CONTENT),
    ]));
    let mut found = serde_json::to_value(&inspection).unwrap();
    found["findings"].take();
    assert_eq!(
        found,
        json!({
            "layout": "odoo_zip",
            "database": {
                "name": "acme",
                "format": "plain",
                "server_version": "15.18 (Debian 15.18-0+deb12u1)",
                "dump_version": "17.11 (Debian 17.11-0+deb13u1)",
                "extensions": ["pg_trgm", "unaccent"],
                "tables": 2,
            },
            "odoo": {"version": "19.0", "modules": 2},
            "filestore": {"form": "members", "files": 1, "bytes": 17},
            "findings": null,
        })
    );
    assert_eq!(codes(&inspection), ["newer_settings", "restrict_lines", "extensions", "needs_postgresql"]);
    assert!(inspection.findings.iter().all(|finding| !finding.remedy.is_empty()));
}

#[test]
fn a_custom_dump_by_itself_is_inspected() {
    let inspection = inspected(open_file(custom_dump()));
    let found = serde_json::to_value(&inspection).unwrap();
    assert_eq!(
        found["database"],
        json!({
            "name": "acme", "format": "custom", "server_version": "13.16", "dump_version": "13.16",
            "extensions": ["unaccent"], "tables": 1,
        })
    );
    assert_eq!(found["odoo"], json!({"version": null, "modules": null}));
    assert_eq!(found["filestore"], json!({"form": "none", "files": 0, "bytes": 0}));
    assert_eq!(codes(&inspection), ["extensions", "needs_postgresql", "no_manifest", "database_only"]);
}

#[test]
fn the_size_of_a_tar_is_known_only_if_the_manifest_says_it() {
    let tar = gzip(&filestore_tar());
    let plain = plain_dump(None);
    for (manifest, files) in [
        (&b"{}"[..], json!(null)),
        (br#"{"db_name": "x", "filestore_files": 3, "filestore_size_bytes": 70}"#, json!(3)),
    ] {
        let members = [("dump.sql", &*plain), ("filestore.tar.gz", &tar), ("manifest.json", manifest)];
        let inspection = inspected(open_zip(&members));
        let found = serde_json::to_value(&inspection).unwrap();
        assert_eq!((&found["filestore"]["form"], &found["filestore"]["files"]), (&json!("tar"), &files));
        assert!(codes(&inspection).contains(&"filestore_tar"));
    }
}

#[test]
fn a_manifest_that_contradicts_the_dump_is_not_believed() {
    let manifest = br#"{"db_name": "acme", "pg_version": "12.0"}"#;
    let inspection = inspected(open_zip(&[("dump.sql", &plain_dump(None)), ("manifest.json", manifest)]));
    let finding =
        inspection.findings.iter().find(|finding| finding.code == "manifest_pg_version_mismatch").unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.message.contains("12.0") && finding.message.contains("15.18"));
}

#[test]
fn a_broken_manifest_is_a_finding_and_not_the_end() {
    let long = [b"{\"a\": \"".as_slice(), &vec![b'x'; 17 << 20], b"\"}"].concat();
    for manifest in [&b"{broken"[..], &long] {
        let inspection = inspected(open_zip(&[("dump.sql", &plain_dump(None)), ("manifest.json", manifest)]));
        assert!(codes(&inspection).contains(&"manifest_unreadable"));
        assert!(codes(&inspection).contains(&"no_manifest"));
    }
}

#[test]
fn unknown_members_are_left_out_counted_and_named() {
    let plain = plain_dump(None);
    let names: Vec<String> = (0..40).map(|i| format!("sessions/s{i}")).collect();
    let mut members =
        vec![("dump.sql", &*plain), ("README", b"read me"), ("addons/x/__manifest__.py", b"{}")];
    members.extend(names.iter().map(|name| (&**name, &b"x"[..])));
    let inspection = inspected(open_zip(&members));
    let finding =
        inspection.findings.iter().find(|finding| finding.code == "filestore_unknown_member").unwrap();
    assert!(finding.message.starts_with("41 members"), "{}", finding.message);
    assert!(finding.message.contains("sessions/s0") && finding.message.contains("and others"));
    assert!(!finding.message.contains("addons"));
}

#[test]
fn what_is_no_backup_is_named_for_what_it_is() {
    let tar = filestore_tar();
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"<!DOCTYPE html><html>502</html>", "a web page"),
        (b"\xfd7zXZ\0\0", "an xz file"),
        (&tar, "a tar archive without a dump"),
        (&gzip(&tar), "a tar archive without a dump"),
        (MANIFEST, "JSON"),
        (b"hello", "not known"),
    ] {
        let problem = open_file(bytes.to_vec()).err().unwrap();
        assert_eq!(problem.code, "layout_unknown");
        assert!(problem.message.contains(what) && problem.message.contains("some.file"), "{problem}");
    }
    assert_eq!(open_zip(&[("a.txt", b"x")]).err().unwrap().code, "layout_unknown");
    assert_eq!(open_folder(&[]).err().unwrap().code, "layout_unknown");
}

#[test]
fn two_of_a_kind_are_never_chosen_between() {
    let (plain, custom, tar) = (plain_dump(None), custom_dump(), filestore_tar());
    let problem = open_zip(&[("dump.sql", &plain), ("db.dump", &custom)]).err().unwrap();
    assert_eq!(problem.code, "layout_ambiguous");
    assert!(problem.message.contains("dump.sql") && problem.message.contains("db.dump"));
    let code = |members: &[(&str, &[u8])]| open_zip(members).err().unwrap().code;
    assert_eq!(code(&[("dump.sql", &plain), ("a.tar", &tar), ("b.tar", &tar)]), "layout_ambiguous");
    let (one, two) = (filestore_path("filestore/one/"), filestore_path("filestore/two/"));
    assert_eq!(code(&[("dump.sql", &plain), ("a.tar", &tar), (&one, b"")]), "filestore_ambiguous");
    assert_eq!(code(&[("dump.sql", &plain), (&one, b""), (&two, b"")]), "filestore_ambiguous");
    assert_eq!(
        code(&[("dump.sql", &plain), (&format!("filestore/aa/{HASH}"), b"")]),
        "filestore_prefix_mismatch"
    );
}

#[test]
fn a_folder_with_harmful_names_is_refused() {
    let problem = open_folder(&[("db.dump", &custom_dump()), ("filestore/../../x", b"")]).err().unwrap();
    assert_eq!(problem.code, "member_name_climbs");
}

#[test]
fn a_backup_of_files_only_says_so() {
    let inspection = inspected(open_zip(&[(&filestore_path("filestore/"), CONTENT)]));
    assert_eq!(inspection.database, None);
    assert!(codes(&inspection).contains(&"filestore_only"));
}

#[test]
fn a_dump_that_is_refused_at_its_front_is_a_refusal_among_the_findings() {
    let mut evil = plain_dump(None);
    let at = evil.windows(6).position(|part| part == b"CREATE").unwrap();
    evil.splice(at..at, *b"\\! rm -rf /\n");
    let inspection = inspected(open_zip(&[("dump.sql", &evil)]));
    let finding = inspection.findings.iter().find(|finding| finding.code == "meta_command").unwrap();
    assert!(finding.blocks(&["meta_command".into()]));
    let cut = &plain_dump(None)[..500];
    assert!(codes(&inspected(open_file(cut.to_vec()))).contains(&"dump_truncated"));
}

#[test]
fn a_damaged_dump_inside_a_zip_is_told_by_the_zip() {
    let mut zip = craft(&[("dump.sql".as_bytes(), &plain_dump(None))]);
    zip.set(zip.locals[0] + 14, &[0; 4]);
    zip.set(zip.entries[0] + 16, &[0; 4]);
    let backup = open_file(zip.bytes).unwrap();
    let mut dump = backup.open_dump();
    let problem = loop {
        match dump.as_mut().map(|dump| dump.next_event()) {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => panic!("the checksum is wrong"),
            Ok(Err(problem)) => break problem,
            Err(_) => break dump.err().unwrap(),
        }
    };
    assert_eq!(problem.code, "zip_member_crc");
}

/// An Odoo ZIP of a gigabyte: a large dump of 600 tables, 1,300 files.
#[test]
fn inspecting_a_gigabyte_reads_less_than_one_megabyte() {
    let mut sql = plain_dump(None);
    let end = sql.windows(4).position(|part| part == b"COPY").unwrap();
    sql.truncate(end);
    for table in 0..600 {
        let columns: String =
            (0..40).map(|column| format!("    column_{column}_{table} integer,\n")).collect();
        sql.extend(format!("CREATE TABLE public.table_{table} (\n{columns}    id integer\n);\n").as_bytes());
    }
    sql.extend(b"COPY public.t (id) FROM stdin;\n");
    for row in 0_u32..1_000_000 {
        sql.extend(format!("{}\n", row.wrapping_mul(2_654_435_761)).as_bytes());
    }
    let mut zip = Synthetic::default();
    let mut directory = Vec::new();
    let data = deflated(&sql);
    assert!(data.len() > 4 << 20);
    let mut add = |zip: &mut Synthetic, name: &str, method, sizes: [u32; 2], crc, unit: &[u8], times| {
        let offset = zip.push(&header(false, name.as_bytes(), method, crc, [sizes[0], sizes[1], 0], b""), 1);
        zip.push(unit, times);
        let sizes = [sizes[0], sizes[1], offset as u32];
        directory.extend(header(true, name.as_bytes(), method, crc, sizes, b""));
    };
    let crc = crc32fast::hash(&sql);
    add(&mut zip, "dump.sql", 8, [data.len() as u32, sql.len() as u32], crc, &data, 1);
    let sizes = [MANIFEST.len() as u32; 2];
    add(&mut zip, "manifest.json", 0, sizes, crc32fast::hash(MANIFEST), MANIFEST, 1);
    for file in 0..1300_u32 {
        let name = format!("filestore/{:02x}/{:02x}{file:038x}", file % 256, file % 256);
        add(&mut zip, &name, 0, [800 << 10; 2], 0, &[0; 1 << 10], 800);
    }
    let size = directory.len() as u32;
    let offset = zip.push(&directory, 1);
    zip.push(&end_record(1302, size, offset as u32, b""), 1);

    let source = Counting::new(Arc::new(zip));
    let (bytes, requests) = (source.bytes.clone(), source.requests.clone());
    let backup = Backup::open(BackupInput::Single(Arc::new(source), "backup.zip".into())).unwrap();
    let inspection = inspect(&backup).unwrap();
    assert_eq!(inspection.layout, Layout::OdooZip);
    assert_eq!(inspection.database.unwrap().tables, Some(602));
    assert_eq!(inspection.filestore.files, Some(1300));
    assert!(bytes.load(Ordering::Relaxed) < 1 << 20, "{} bytes", bytes.load(Ordering::Relaxed));
    assert!(requests.load(Ordering::Relaxed) < 12, "{} requests", requests.load(Ordering::Relaxed));
}
