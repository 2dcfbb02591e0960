//! What a cutover carries over, whom it shuts out, and names that were made to do harm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use undoo_core::{Side, pair};
use undoo_engine::{order::Strategy, pairs, pg::ident};

use crate::{
    odoo::{files, odoo_zip},
    server::{Server, quoted},
    world::{BORN_LATER, Crash, Recorder, World, cut_over, make_live, stage, stage_and_accept},
};

/// Everything that belongs to a database's name.
fn properties(server: &Server, database: &str) -> String {
    let locale = match server.major {
        ..=14 => "''",
        15 => "datlocprovider, daticulocale, datcollversion",
        16 => "datlocprovider, daticulocale, daticurules, datcollversion",
        _ => "datlocprovider, datlocale, daticurules, datcollversion",
    };
    let database = quoted(database);
    let settings = format!(
        "SELECT coalesce(rolname, '-'), unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d \
         ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole WHERE datname = {database} ORDER BY 1, 2"
    );
    let grants = format!(
        "SELECT grantee::regrole, privilege_type, is_grantable FROM pg_database, \
         aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = {database} ORDER BY 1, 2, 3"
    );
    let rest = format!(
        "SELECT datconnlimit, shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba), dattablespace, \
         pg_encoding_to_char(encoding), datcollate, datctype, {locale} FROM pg_database WHERE datname = {database}"
    );
    [settings, grants, rest].map(|sql| server.psql("postgres", &sql)).join("\n---\n")
}

async fn properties_stay(server: &Server, create: &str) {
    let world = World::empty(server);
    let name = &world.target.database;
    let reader = server.unique("reader");
    let sql = format!(
        r#"CREATE ROLE {reader} LOGIN;
ALTER DATABASE {name} SET search_path TO "$user", public, 'odd, "name; with everything''';
ALTER DATABASE {name} SET application_name TO 'it''s "quoted", with \ and ; ';
ALTER DATABASE {name} SET work_mem TO '12MB';
ALTER DATABASE {name} SET DateStyle TO 'SQL, DMY';
ALTER DATABASE {name} SET odoo.setting TO 'a;b';
ALTER ROLE {reader} IN DATABASE {name} SET statement_timeout TO '5min';
ALTER ROLE {reader} IN DATABASE {name} SET search_path TO '';
ALTER ROLE odoo IN DATABASE {name} SET lock_timeout TO '7s';
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
REVOKE CREATE ON DATABASE {name} FROM odoo;
GRANT CONNECT ON DATABASE {name} TO {reader} WITH GRANT OPTION;
GRANT TEMPORARY ON DATABASE {name} TO {reader};
ALTER DATABASE {name} CONNECTION LIMIT 17;
COMMENT ON DATABASE {name} IS E'it''s the\n"live" one; \\ --'"#
    );
    server.psql("postgres", &format!("CREATE DATABASE {name} OWNER odoo TEMPLATE template0 {create}"));
    let later = (crate::odoo::fname(BORN_LATER), BORN_LATER.to_vec());
    crate::odoo::write_filestore(&world.live_directory(), &[later]);
    for statement in sql.split(";\n") {
        server.psql("postgres", statement);
    }
    let before = properties(server, name);
    assert!(before.contains("17|it's the") && before.lines().count() > 15, "{before}");
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(properties(server, name), before);
    cut_over(&world, &work.id, Side::Replaced).await;
    assert_eq!(properties(server, name), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_grants_limit_comment_and_encoding_are_the_same_after_a_cutover_on_13() {
    properties_stay(Server::of(13), "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_grants_limit_comment_and_collation_are_the_same_after_a_cutover_on_15() {
    properties_stay(Server::of(15), "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_grants_limit_comment_and_locale_provider_are_the_same_after_a_cutover_on_17() {
    properties_stay(Server::of(17), "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'").await;
}

/// In a cluster whose own provider is ICU, each database has to keep the provider that it has.
#[tokio::test(flavor = "multi_thread")]
async fn an_icu_database_has_the_same_locale_and_version_after_a_cutover_on_15() {
    let server = Server::own_build("15-icu", &[]);
    let icu = "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C'";
    properties_stay(&server, icu).await;
    properties_stay(&server, "LOCALE_PROVIDER libc LOCALE 'C'").await;
    let world = World::empty(&server);
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(&world, &work.id, Side::Restored).await;
    let made = properties(&server, &world.target.database);
    assert!(made.contains("|C|C.UTF-8|c|"), "Odoo's databases sort by bytes: {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_icu_database_has_the_same_rules_and_a_builtin_one_its_locale_after_a_cutover_on_17() {
    let server = Server::own_build("17-icu", &[]);
    let rules = "LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&V << w <<< W' LOCALE 'C.UTF-8'";
    properties_stay(&server, rules).await;
    properties_stay(&server, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'").await;
}

/// Odoo's role owns its database and may set what it likes on it; an administrator's session copies it.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_odoos_role_made_to_break_out_of_their_statement_give_it_no_rights() {
    let server = Server::of(13);
    let world = World::live(server);
    let name = &world.target.database;
    let path = "SELECT set_config('search_path', 'x;ALTER/**/ROLE/**/odoo/**/SUPERUSER;--', false)";
    server.psql_as("odoo", name, &format!("{path}; ALTER DATABASE {name} SET search_path FROM CURRENT"));
    let setting = "\"x.y TO 1; ALTER ROLE odoo SUPERUSER; --\"";
    server.psql("postgres", &format!("ALTER DATABASE {name} SET {setting} TO '1'"));
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(server.psql("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'odoo'"), "f");
    assert!(properties(server, name).contains("x.y TO 1; ALTER ROLE odoo SUPERUSER; --"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_come_back_every_few_milliseconds_do_not_stop_the_rename() {
    let world = World::live(Server::of(17));
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    let (stop, sessions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (access, database) = (world.server.access("odoo"), world.target.database.clone());
            let (stop, sessions) = (Arc::clone(&stop), Arc::clone(&sessions));
            tokio::spawn(async move {
                let mut kept = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(client) = access.connect(&database).await {
                        sessions.fetch_add(1, Ordering::SeqCst);
                        kept.push(client);
                    }
                    // The newest stay: there is always someone.
                    kept.drain(..kept.len().saturating_sub(5));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    while sessions.load(Ordering::SeqCst) < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for side in [Side::Restored, Side::Replaced, Side::Restored] {
        cut_over(&world, &work.id, side).await;
    }
    let before = sessions.load(Ordering::SeqCst);
    while sessions.load(Ordering::SeqCst) == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_made_to_break_out_of_quotes_are_restored_swapped_and_purged() {
    let server = Server::of(17);
    let bystander = server.copy_of_source("");
    let mut world = World::named(server, &format!("a\"b; DROP DATABASE {bystander}; -- ' \\"));
    world.target.owner = format!("ro\"le'; DROP DATABASE {bystander}; --");
    let password = quoted(crate::server::PASSWORD);
    server.psql("postgres", &format!("CREATE ROLE {} LOGIN PASSWORD {password}", ident(&world.target.owner)));
    world.make_live();
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(&world, &work.id, Side::Restored).await;
    let count = "SELECT count(*) FROM sale_order";
    assert_eq!(server.psql_as(&world.target.owner, &world.target.database, count), "3000");
    cut_over(&world, &work.id, Side::Replaced).await;
    cut_over(&world, &work.id, Side::Restored).await;
    pairs::purge(&world.target, &world.home(), &mut world.record(&work.id)).await.unwrap();
    assert!(!world.has_database(&pair::parked_database(&work.id, Side::Replaced)));
    assert!(world.has_database(&bystander) && world.has_database(&world.target.database));
}

/// A name is a part of a path too, and PostgreSQL cuts off what is too long.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_file_name_or_too_long_are_refused_before_anything_is_made() {
    for name in ["../acme", "..", ".undoo", "", &"x".repeat(64)] {
        let world = World::named(Server::of(17), name);
        let work = world.work();
        let failure =
            stage(&work, &world.backup()).await.err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!(failure.problem.code, "database_name", "{name}");
        world.assert_nothing_left(&work.id);
    }
}

/// The load fails after the live database was dropped; another restore has to give its name what it had.
#[tokio::test(flavor = "multi_thread")]
async fn what_belonged_to_a_database_that_was_dropped_first_outlives_a_restore_that_fails() {
    let world = World::live(Server::of(17));
    let (server, name) = (world.server, &world.target.database);
    server.psql(
        "postgres",
        &format!(
            "ALTER DATABASE {name} SET work_mem TO '12MB'; ALTER DATABASE {name} CONNECTION LIMIT 17; \
             COMMENT ON DATABASE {name} IS 'ours'; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
        ),
    );
    let before = properties(server, name);
    let dump = String::from_utf8(server.plain_dump()).unwrap();
    let broken = dump.replacen(" FROM stdin;\n", " FROM stdin;\ntoo few columns\n", 1);
    let broken = odoo_zip(&world.path("broken.zip"), broken.as_bytes(), &files());
    let mut work = world.work();
    work.options.strategy = Strategy::StopFirst { confirmed: name.clone() };
    stage(&work, &broken).await.unwrap_err();
    assert!(!world.has_database(name), "it did not come to the drop");
    world.assert_nothing_left(&work.id);

    // One that fails as well, and one that does not.
    stage(&world.work(), &broken).await.unwrap_err();
    let next = world.work();
    stage_and_accept(&next, &world.backup()).await;
    make_live(&world, &next.id, Side::Restored, &Recorder::default(), &Crash::never()).await.unwrap();
    assert_eq!(properties(server, name), before);
    let left = std::fs::read_dir(world.target.filestore_root.join(".undoo")).unwrap();
    assert_eq!(left.count(), 1, "more than the restore's own directory is left");
}
