//! What a backup is refused for, by which code, and what accepting it does.

use undoo_core::{Side, pair::parked_database};
use undoo_engine::{load::UnheldState, restore};

use crate::{
    odoo::{content, files, fname, odoo_zip, zip_of},
    server::Server,
    world::{World, accept, codes, cut_over, nobody, open, stage, stage_and_accept},
};

#[tokio::test(flavor = "multi_thread")]
async fn orphan_keys_are_refused_by_name_and_once_accepted_stay_not_valid() {
    let server = Server::of(17);
    let copy = server.copy_of_source(
        "SET session_replication_role = replica; UPDATE sale_order SET partner_id = 999999 WHERE id = 7; \
         UPDATE res_partner SET parent_id = 888888 WHERE id = 8",
    );
    let world = World::live(server);
    let oid = world.oid(&world.target.database);
    let backup = odoo_zip(&world.path("b.zip"), &server.dump(&copy, &["--no-owner"]), &files());
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    assert_eq!(codes(&failure), ["orphan_keys"]);
    for name in ["sale_order_partner_id_fkey", "res_partner_parent_id_fkey"] {
        assert!(failure.findings[0].message.contains(name), "{:?}", failure.findings);
    }
    world.assert_nothing_left(&work.id);
    world.assert_untouched(&oid);

    work = world.work();
    work.options.accept.push("orphan_keys".into());
    let report = stage_and_accept(&work, &backup).await;
    let unheld = report.loaded.unwrap().unheld;
    let mut names: Vec<&str> = unheld.iter().map(|unheld| unheld.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["res_partner_parent_id_fkey", "sale_order_partner_id_fkey"]);
    assert!(unheld.iter().all(|unheld| unheld.state == UnheldState::NotValid
        && unheld.reason.contains("88888") != unheld.reason.contains("99999")));
    cut_over(&world, &work.id, Side::Restored).await;
    let not_valid = "SELECT string_agg(conname, ',' ORDER BY conname) FROM pg_constraint WHERE NOT convalidated AND conparentid = 0";
    assert_eq!(
        server.psql(&world.target.database, not_valid),
        "res_partner_parent_id_fkey,sale_order_line_old,sale_order_partner_id_fkey"
    );
}

/// One unique index, one primary key that others refer to, one check.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_and_rows_that_break_a_check_are_refused_by_name_and_once_accepted_leave_the_rule_out() {
    let server = Server::of(15);
    let dump = String::from_utf8(server.plain_dump()).unwrap();
    let rows = |table: &str, more: &str| {
        let start = dump.find(&format!("COPY public.{table} (")).unwrap();
        (start + dump[start..].find('\n').unwrap() + 1, more.to_owned())
    };
    let mut more = [
        rows("res_users", "9\tadmin\tt\t1\t\\N\t\\N\n"),
        rows("ir_cron", "1\tTwice\tf\t2024-01-01 00:00:00\n"),
        rows("account_line", "1\t1\t2024\n"),
        rows("sale_order", "9999\tS1\t1\t1\t1\tdraft\t\\N\t\\N\n"),
    ];
    more.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut broken = dump.clone();
    for (at, text) in more {
        broken.insert_str(at, &text);
    }
    let world = World::empty(server);
    let backup = odoo_zip(&world.path("b.zip"), broken.as_bytes(), &files());
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    assert_eq!(codes(&failure), ["broken_constraints"], "{failure:?}");
    for name in [
        "res_users_login_key",
        "ir_cron_pkey",
        "account_line_pkey",
        "sale_order_name_uniq",
        "ir_cron_trigger_cron_id_fkey",
    ] {
        assert!(failure.findings[0].message.contains(name), "{name}: {:?}", failure.findings);
    }
    world.assert_nothing_left(&work.id);
    work = world.work();
    work.options.accept.push("broken_constraints".into());
    let report = stage_and_accept(&work, &backup).await;
    assert!(report.loaded.unwrap().unheld.iter().all(|unheld| unheld.state == UnheldState::Absent));
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(
        server.psql(&world.target.database, "SELECT count(*) FROM res_users WHERE login = 'admin'"),
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_corrupt_files_are_refused_by_name_and_once_accepted_are_named_in_the_report() {
    let world = World::empty(Server::of(17));
    let mut offered = files();
    let missing = offered.remove(3);
    let corrupt = offered[10].0.clone();
    offered[10].1[5] ^= 1;
    let backup = odoo_zip(&world.path("b.zip"), &world.server.plain_dump(), &offered);
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    let mut found = codes(&failure);
    found.sort_unstable();
    assert_eq!(found, ["corrupt_files", "missing_files"]);
    let said: String = failure.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(said.contains("file 3") && said.contains(&corrupt), "{said}");
    world.assert_nothing_left(&work.id);
    assert!(!world.live_directory().exists());

    work = world.work();
    work.options.accept = vec!["missing_files".into(), "corrupt_files".into()];
    let report = stage_and_accept(&work, &backup).await;
    let found = report.attachments.unwrap();
    assert_eq!(found.missing.iter().map(|file| file.store_fname.as_str()).collect::<Vec<_>>(), [&missing.0]);
    assert_eq!(found.corrupt.iter().map(|file| file.store_fname.as_str()).collect::<Vec<_>>(), [&corrupt]);
    assert_eq!(found.matched, 58);
    cut_over(&world, &work.id, Side::Restored).await;
    assert!(!world.live_directory().join(&corrupt).exists());
    assert_eq!(std::fs::read(world.live_directory().join(fname(&content(12)))).unwrap(), content(12));
}

/// Functions that leave a trace if anything of them runs.
const CODE: &str = "CREATE TABLE trace (who text); \
    CREATE FUNCTION count_partners() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trace VALUES ('function'); \
    RETURN (SELECT count(*) FROM res_partner); END $$; \
    CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trace VALUES ('trigger'); \
    RETURN NEW; END $$; \
    CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON res_partner FOR EACH ROW EXECUTE FUNCTION on_change(); \
    CREATE FUNCTION checked(integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS \
    $$ BEGIN RETURN $1 IS NOT NULL; END $$; \
    ALTER TABLE sale_order ADD CONSTRAINT sale_order_checked CHECK (checked(id))";

#[tokio::test(flavor = "multi_thread")]
async fn unknown_code_is_refused_all_of_it_in_one_run_and_restored_once_each_hash_is_accepted() {
    let server = Server::of(15);
    let copy = server.copy_of_source(CODE);
    for (number, format) in ["-Fp", "-Fc"].into_iter().enumerate() {
        let world = World::empty(server);
        let dump = server.dump(&copy, &["--no-owner", format]);
        let backup = odoo_zip(&world.path("b.zip"), &dump, &files());
        let mut work = world.work();
        let failure = stage(&work, &backup).await.unwrap_err();
        let mut found = codes(&failure);
        assert!(found.iter().all(|code| code.starts_with("code:")), "{found:?}");
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 5, "three functions, a trigger, a check: {:?}", failure.findings);
        world.assert_nothing_left(&work.id);
        // The plan with its dump names the same.
        let plan = restore::plan_with_dump(&work, &open(&backup).await.0, &nobody).await.unwrap();
        assert!(found.iter().all(|code| plan.findings.iter().any(|finding| finding.code == *code)));
        let accepted: Vec<String> = found.iter().map(|code| (*code).to_owned()).collect();

        work = world.work();
        work.options.accept = accepted[1..].to_vec();
        let failure = stage(&work, &backup).await.unwrap_err();
        assert_eq!(codes(&failure), [accepted[0].as_str()]);
        work = world.work();
        work.options.accept = accepted;
        let report = stage_and_accept(&work, &backup).await;
        assert_eq!(report.loaded.unwrap().confined.len(), 3);
        cut_over(&world, &work.id, Side::Restored).await;
        let live = &world.target.database;
        assert_eq!(server.psql(live, "SELECT count(*) FROM trace"), "0", "code of the dump ran");
        if number == 0 {
            let update = "UPDATE res_partner SET name = 'new' WHERE id = 1; SELECT count_partners()";
            assert_eq!(server.psql_as("odoo", live, update), "2000");
            assert_eq!(server.psql(live, "SELECT string_agg(who, ',') FROM trace"), "trigger,function");
        }
    }
}

/// Accepted functions of a database whose owner is a superuser do not run as one.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_code_under_a_powerful_owner_runs_as_nobody_and_the_instance_works() {
    let server = Server::of(17);
    let copy = server.copy_of_source(CODE);
    let mut world = World::empty(server);
    let owner = server.unique("powerful");
    server.psql(
        "postgres",
        &format!(
            "CREATE ROLE {owner} LOGIN SUPERUSER PASSWORD '{}'",
            crate::server::PASSWORD.replace('\'', "''")
        ),
    );
    world.target.owner.clone_from(&owner);
    let backup = odoo_zip(&world.path("b.zip"), &server.dump(&copy, &["--no-owner"]), &files());
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    work = world.work();
    work.options.accept = codes(&failure).into_iter().map(str::to_owned).collect();
    stage_and_accept(&work, &backup).await;
    cut_over(&world, &work.id, Side::Restored).await;
    let live = &world.target.database;
    let update = "UPDATE res_partner SET name = 'new' WHERE id = 1; UPDATE sale_order SET state = 'done' WHERE id = 1; \
                  SELECT count_partners()";
    assert_eq!(server.psql_as(&owner, live, update), "2000");
    let who = "SELECT count(*) FROM pg_proc p JOIN pg_roles r ON r.oid = proowner \
               WHERE proname IN ('count_partners', 'on_change', 'checked') AND NOT rolsuper AND NOT rolcanlogin AND prosecdef";
    assert_eq!(server.psql(live, who), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_reaches_out_of_the_database_is_refused_whoever_accepts_it() {
    let server = Server::of(17);
    let world = World::empty(server);
    let mark = world.path("reached");
    for attack in [
        format!("COPY public.res_users FROM PROGRAM 'touch {}';\n", mark.display()),
        format!("\\! touch {}\n", mark.display()),
        format!(
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY (SELECT 1) TO PROGRAM 'touch {}'; END $$;\n",
            mark.display()
        ),
        "ALTER ROLE odoo SUPERUSER;\n".into(),
        "DO $$ BEGIN EXECUTE 'ALTER ROLE odoo SUPERUSER'; END $$;\n".into(),
    ] {
        let dump = String::from_utf8(server.plain_dump()).unwrap();
        let (body, end) = dump.split_at(dump.find("\n--\n-- PostgreSQL database dump complete").unwrap());
        let dump = format!("{body}\n{attack}\n{end}").into_bytes();
        let backup = zip_of(&world.path("b.zip"), &[("dump.sql", &dump)]);
        let work = world.work();
        let mut failure = stage(&work, &backup).await.err().unwrap_or_else(|| panic!("restored {attack}"));
        if failure.problem.code == "findings" {
            let mut work = world.work();
            work.options.accept = codes(&failure).into_iter().map(str::to_owned).collect();
            failure = stage(&work, &backup).await.err().unwrap_or_else(|| panic!("accepted {attack}"));
        }
        assert_eq!(failure.problem.kind, undoo_core::Kind::Refused, "{attack}: {failure:?}");
        assert!(!mark.exists());
        world.assert_nothing_left(&work.id);
    }
    assert_eq!(server.psql("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'odoo'"), "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_staged_database_is_its_loaders_and_nobody_else_gets_in() {
    let server = Server::of(17);
    let world = World::live(server);
    let work = world.work();
    stage(&work, &world.backup()).await.unwrap();
    let staged = parked_database(&work.id, Side::Restored);
    let role = undoo_core::pair::loader_role(&work.id);
    let facts = format!(
        "SELECT pg_get_userbyid(datdba) = '{role}', has_database_privilege('odoo', oid, 'CONNECT'), \
         (SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = '{role}'), \
         (SELECT count(*) FROM pg_auth_members WHERE member = '{role}'::regrole) \
         FROM pg_database WHERE datname = '{staged}'"
    );
    assert_eq!(server.psql("postgres", &facts), "t|f|f|0");
    let problem = server.access("odoo").connect(&staged).await.err().unwrap();
    assert!(problem.message.contains("permission denied"), "{problem}");
    // What a dump of its own could tell of the server: nothing that a role without rights may not see.
    let loader = world.target.admin.as_role(&role, &work.loader_password);
    let client = loader.connect(&staged).await.unwrap();
    for forbidden in [
        "SELECT pg_read_file('postgresql.conf')",
        "CREATE DATABASE x",
        "SET ROLE odoo",
        "COPY res_users TO PROGRAM 'true'",
    ] {
        assert!(client.batch_execute(forbidden).await.is_err(), "{forbidden}");
    }
    drop(client);
    accept(&work).await.unwrap();
    assert_eq!(server.psql("postgres", &facts).split('|').take(2).collect::<Vec<_>>(), ["t", "f"]);
    cut_over(&world, &work.id, Side::Restored).await;
    let mut record = world.record(&work.id);
    undoo_engine::pairs::purge(&world.target, &world.home(), &mut record).await.unwrap();
    world.assert_no_role(&work.id);
    assert_eq!(server.psql(&world.target.database, "SELECT count(*) FROM pg_class WHERE relowner <> 'odoo'::regrole AND relnamespace = 'public'::regnamespace"), "0");
}
