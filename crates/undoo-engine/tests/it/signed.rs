//! Whose signature makes the code in a backup welcome, and what is done to a backup that was changed after
//! it was signed.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use undoo_archive::{
    convert,
    manifest::ours::{Environment, OdooKeys},
    write::{BackupWriter, Description, Settings},
};
use undoo_core::{BackupId, Kind, Severity, Side, Signer};
use undoo_engine::{
    order::{Answer, Phase},
    restore,
};

use crate::{
    odoo::{files, zip_of},
    server::Server,
    world::{World, codes, cut_over, nobody, open, stage, stage_and_accept, stage_opened},
};

/// A function that a trigger runs, one that a check runs while rows come in; both leave a trace.
const CODE: &str = "CREATE TABLE trace (who text); \
    CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trace VALUES ('trigger'); \
    RETURN NEW; END $$; \
    CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON res_partner FOR EACH ROW EXECUTE FUNCTION on_change(); \
    CREATE FUNCTION checked(integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS \
    $$ BEGIN RETURN $1 IS NOT NULL; END $$; \
    ALTER TABLE sale_order ADD CONSTRAINT sale_order_checked CHECK (checked(id))";

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn settings() -> Settings {
    Settings { level: 1, threads: 2, created_at: "2026-11-22T12:00:00Z".parse().unwrap() }
}

/// A backup of ours as it is made of a live system.
fn ours(path: PathBuf, dump: &[u8]) -> PathBuf {
    let mut writer = BackupWriter::new(File::create(&path).unwrap(), settings()).unwrap();
    writer.vouch_for_code();
    writer.database(&mut &*dump).unwrap();
    for (name, content) in files() {
        writer.file(hex::decode(&name[3..]).unwrap().try_into().unwrap(), &mut &content[..]).unwrap();
    }
    let description = Description {
        backup_id: BackupId::generate(),
        undoo_version: "0".into(),
        organisation: None,
        odoo: OdooKeys { db_name: "acme".into(), version: "17.0".into(), ..OdooKeys::default() },
        environment: Environment::default(),
        database_only: false,
        warnings: Vec::new(),
    };
    writer.finish(description, Some(&signer())).unwrap();
    path
}

/// The same members, of which `change` changes one.
fn changed(from: &Path, to: PathBuf, change: impl Fn(&str, String) -> String) -> PathBuf {
    let mut zip = zip::ZipArchive::new(File::open(from).unwrap()).unwrap();
    let mut members = Vec::new();
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        if !name.starts_with("filestore/") {
            content = change(&name, String::from_utf8(content).unwrap()).into_bytes();
        }
        members.push((name, content));
    }
    let members: Vec<_> = members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    zip_of(&to, &members)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_signature_accepts_the_code_that_it_lists_and_the_report_says_so() {
    let server = Server::of(15);
    let world = World::empty(server);
    let copy = server.copy_of_source(CODE);
    let backup = ours(world.path("b.zip"), &server.dump(&copy, &["--no-owner"]));

    let mut work = world.work();
    let stranger = Signer::from_seed(&[8; 32]).public_key();
    work.options.trusted_keys = vec![stranger];
    let failure = stage(&work, &backup).await.unwrap_err();
    let mut found = codes(&failure);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 4, "two functions, a trigger, a check: {:?}", failure.findings);
    world.assert_nothing_left(&work.id);

    work = world.work();
    work.options.trusted_keys = vec![signer().public_key()];
    let plan = restore::plan_with_dump(&work, &open(&backup).await.0, &nobody).await.unwrap();
    let report = stage_and_accept(&work, &backup).await;
    for findings in [&plan.findings, &report.findings] {
        for code in &found {
            let finding = findings.iter().find(|finding| finding.code == *code).unwrap();
            assert_eq!(finding.severity, Severity::Info);
            assert!(finding.message.contains(&signer().public_key()), "{finding:?}");
        }
    }
    assert_eq!(report.loaded.unwrap().confined.len(), 2, "it is no less confined than what a person accepts");
    cut_over(&world, &work.id, Side::Restored).await;
    let live = &world.target.database;
    server.psql_as("odoo", live, "UPDATE res_partner SET name = 'new' WHERE id = 1");
    assert_eq!(server.psql(live, "SELECT string_agg(who, ',') FROM trace"), "trigger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_changed_after_it_was_signed_accepts_nothing() {
    let server = Server::of(17);
    let world = World::empty(server);
    let copy = server.copy_of_source(CODE);
    let signed = ours(world.path("signed.zip"), &server.plain_dump());
    let codes_of = ours(world.path("code.zip"), &server.dump(&copy, &["--no-owner"]));
    let (code, _) = open(&codes_of).await;
    let record = code.manifest.as_ref().unwrap().undoo.as_ref().unwrap().parts.database.clone().unwrap();
    assert_eq!(record.code.len(), 4);
    // The honest manifest, with code that it does not list in the dump and in the list.
    let dump = String::from_utf8(server.dump(&copy, &["--no-owner"])).unwrap();
    let backup = changed(&signed, world.path("b.zip"), |name, content| match name {
        "dump.sql" => dump.clone(),
        _ => {
            let list = serde_json::to_string(&record.code).unwrap();
            let changed = content.replacen("\"seek\": ", &format!("\"code\": {list}, \"seek\": "), 1);
            assert!(changed != content);
            changed
        }
    });
    let mut work = world.work();
    work.options.trusted_keys = vec![signer().public_key()];
    let failure = stage(&work, &backup).await.unwrap_err();
    let mut found = codes(&failure);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 4, "{failure:?}");
    world.assert_nothing_left(&work.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_changed_after_it_was_signed_is_refused_before_anything_is_built_on_it() {
    let server = Server::of(15);
    let world = World::live(server);
    let oid = world.oid(&world.target.database);
    let copy = server.copy_of_source(CODE);
    let backup = ours(world.path("ours.zip"), &server.dump(&copy, &["--no-owner"]));
    let row = |dump: String| dump.replacen("\tPärtner 7\t", "\tPärtner X\t", 1);
    let body = |dump: String| dump.replacen("VALUES ('trigger')", "VALUES ('another')", 1);
    let comment = |dump: String| dump.replacen("; Type: TABLE;", "; Type: TABLE ;", 1);
    type Change<'c> = (&'c str, &'c dyn Fn(String) -> String);
    let changes: [Change<'_>; 3] = [("row", &row), ("body", &body), ("comment", &comment)];
    for (what, change) in changes {
        let backup = changed(&backup, world.path("b.zip"), |name, content| match name {
            "dump.sql" => {
                let changed = change(content.clone());
                assert!(changed != content, "{what}");
                changed
            }
            _ => content,
        });
        let mut work = world.work();
        work.options.trusted_keys = vec![signer().public_key()];
        let phases = Mutex::new(Vec::new());
        let hear = |answer: Answer| {
            if let Answer::Phase { phase } = answer {
                phases.lock().unwrap().push(phase);
            }
        };
        let (opened, _) = open(&backup).await;
        let failure = stage_opened(&work, "b.zip", opened, &hear).await.unwrap_err();
        assert_eq!(
            (failure.problem.kind, failure.problem.code),
            (Kind::Refused, "dump_not_as_signed"),
            "{what}"
        );
        let phases = phases.into_inner().unwrap();
        assert!(phases.contains(&Phase::Data) && !phases.contains(&Phase::PostData), "{what}: {phases:?}");
        world.assert_nothing_left(&work.id);
        world.assert_untouched(&oid);
    }
}

/// Whoever converts a stranger's backup signs what it is now, not where it came from.
#[tokio::test(flavor = "multi_thread")]
async fn a_converted_backup_lists_no_code_whoever_signs_it() {
    let server = Server::of(17);
    let world = World::empty(server);
    let copy = server.copy_of_source(CODE);
    let from = ours(world.path("ours.zip"), &server.dump(&copy, &["--no-owner"]));
    let to = world.path("converted.zip");
    let out = File::create(&to).unwrap();
    convert::to_undoo(&open(&from).await.0, out, settings(), "0", Some(&signer())).unwrap();
    let mut work = world.work();
    work.options.trusted_keys = vec![signer().public_key()];
    let failure = stage(&work, &to).await.unwrap_err();
    assert!(codes(&failure).iter().all(|code| code.starts_with("code:")), "{failure:?}");
    fs::remove_file(to).unwrap();
}
