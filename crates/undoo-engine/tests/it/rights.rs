//! What each kind of role can do, and what is said where it can not.

use undoo_core::{Side, pair::parked_database};
use undoo_engine::{cluster, pairs, swap};

use crate::{
    server::{PASSWORD, Server, quoted},
    world::{Crash, Recorder, World, codes, cut_over, make_live, stage, stage_and_accept},
};

/// A role with these attributes.
fn role(server: &Server, attributes: &str) -> String {
    let name = server.unique("role");
    server.psql("postgres", &format!("CREATE ROLE {name} LOGIN {attributes} PASSWORD {}", quoted(PASSWORD)));
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_databases_is_told_so_and_nothing_is_created() {
    let server = Server::of(17);
    let mut world = World::live(server);
    let role = role(server, "");
    world.target.admin = server.access(&role);
    let oid = world.oid(&world.target.database);
    let work = world.work();
    let failure = stage(&work, &world.backup()).await.unwrap_err();
    assert!(codes(&failure).contains(&"needs_createdb"), "{failure:?}");
    assert!(failure.findings.iter().any(|finding| finding.remedy.contains("CREATEDB")));
    world.assert_nothing_left(&work.id);
    world.assert_untouched(&oid);
}

/// Odoo's own role, as most installations without Docker have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_createdb_alone_restores_where_odoo_is_pinned_and_else_asks_first() {
    for major in [13, 17] {
        let server = Server::of(major);
        let mut world = World::empty(server);
        let owner = role(server, "CREATEDB");
        world.target.owner.clone_from(&owner);
        world.target.admin = server.access(&owner);
        world.make_live();
        let name = &world.target.database;
        // As it is where that role made everything itself.
        server.psql(name, &format!("ALTER DATABASE {name} OWNER TO {owner}"));
        // It may not mark unaccent as IMMUTABLE, so its own database has no index on it.
        let server_wide =
            server.copy_of_source("DROP INDEX res_partner_name_unaccent; DROP EXTENSION unaccent");
        let dump = server.dump(&server_wide, &["--no-owner"]);
        let backup = crate::odoo::odoo_zip(&world.path("b.zip"), &dump, &crate::odoo::files());
        let mut work = world.work();
        let failure = stage(&work, &backup).await.unwrap_err();
        assert_eq!(codes(&failure), ["staged_visible"]);
        world.assert_nothing_left(&work.id);
        world.target.database_pinned = true;
        work = world.work();
        stage_and_accept(&work, &backup).await;
        cut_over(&world, &work.id, Side::Restored).await;
        assert_eq!(
            server.psql_as(
                &owner,
                &world.target.database,
                "UPDATE res_users SET active = true; SELECT count(*) FROM res_users"
            ),
            "2"
        );
        cut_over(&world, &work.id, Side::Replaced).await;
        pairs::purge(&world.target, &world.home(), &mut world.record(&work.id)).await.unwrap();
        assert!(!world.has_database(&parked_database(&work.id, Side::Restored)));
    }
}

/// Its tables would stay the administrator's, and Odoo could not read them.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_createdb_alone_cannot_restore_for_another_role() {
    let server = Server::of(17);
    let mut world = World::live(server);
    let admin = role(server, "CREATEDB");
    server.psql("postgres", &format!("GRANT odoo TO {admin}"));
    world.target.admin = server.access(&admin);
    world.target.database_pinned = true;
    let oid = world.oid(&world.target.database);
    let work = world.work();
    let failure = stage(&work, &world.backup()).await.unwrap_err();
    assert_eq!(codes(&failure), ["needs_createrole"], "{failure:?}");
    world.assert_nothing_left(&work.id);
    world.assert_untouched(&oid);
}

async fn createrole_works(major: u32) {
    let server = Server::of(major);
    let mut world = World::empty(server);
    let admin = role(server, "CREATEDB CREATEROLE");
    let reader = role(server, "");
    // From 16 on, a role that may create roles rules over those that it created, and over no other.
    let owner = server.unique("owner");
    server.psql_as(
        &admin,
        "postgres",
        &format!("CREATE ROLE {owner} LOGIN CREATEDB PASSWORD {}", quoted(PASSWORD)),
    );
    world.target.admin = server.access(&admin);
    world.target.owner.clone_from(&owner);
    world.make_live();
    let name = world.target.database.clone();
    server.psql(
        "postgres",
        &format!("ALTER DATABASE {name} SET work_mem TO '9MB'; GRANT CONNECT ON DATABASE {name} TO {reader}"),
    );
    server.psql("postgres", &format!("ALTER ROLE {owner} IN DATABASE {name} SET lock_timeout TO '9s'"));
    let copy = server.copy_of_source("DROP INDEX res_partner_name_unaccent");
    let dump = server.dump(&copy, &["--no-owner"]);
    let backup = crate::odoo::odoo_zip(&world.path("b.zip"), &dump, &crate::odoo::files());

    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    assert_eq!(codes(&failure), ["needs_membership"], "{failure:?}");
    assert!(failure.findings[0].remedy.contains("GRANT"), "{failure:?}");
    world.assert_nothing_left(&work.id);
    server.psql_as(&admin, "postgres", &format!("GRANT {owner} TO {admin}"));

    work = world.work();
    // Someone is connected: ending that session takes a right too.
    let session = server.access(&owner).connect(&name).await.unwrap();
    stage_and_accept(&work, &backup).await;
    cut_over(&world, &work.id, Side::Restored).await;
    drop(session);
    assert_eq!(server.psql_as(&owner, &name, "SELECT count(*) FROM sale_order"), "3000");
    assert_eq!(server.psql_as(&owner, &name, "SHOW work_mem"), "9MB");
    assert_eq!(server.psql_as(&owner, &name, "SHOW lock_timeout"), "9s");
    cut_over(&world, &work.id, Side::Replaced).await;
    cut_over(&world, &work.id, Side::Restored).await;
    pairs::purge(&world.target, &world.home(), &mut world.record(&work.id)).await.unwrap();
    assert!(!world.has_database(&parked_database(&work.id, Side::Replaced)));
    world.assert_no_role(&work.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_createrole_and_createdb_restores_on_13() {
    createrole_works(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_createrole_and_createdb_restores_on_15() {
    createrole_works(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_createrole_and_createdb_restores_on_17() {
    createrole_works(17).await;
}

/// An administrator without superuser, and what it may not copy: found by the plan, and again before a
/// cutover stops anything.
async fn settings_beyond_a_role(major: u32) {
    let server = Server::of(major);
    let mut world = World::empty(server);
    let admin = role(server, "CREATEDB CREATEROLE");
    let (owner, own) = (server.unique("owner"), server.unique("own"));
    server.psql_as(
        &admin,
        "postgres",
        &format!("CREATE ROLE {owner} LOGIN CREATEDB; CREATE ROLE {own}; GRANT {owner} TO {admin}"),
    );
    let stranger = role(server, "");
    world.target.admin = server.access(&admin);
    world.target.owner.clone_from(&owner);
    world.make_live();
    let name = world.target.database.clone();
    for setting in [
        format!("DATABASE {name} SET work_mem TO '9MB'"),
        format!("DATABASE {name} SET log_min_duration_statement TO '1s'"),
        format!("DATABASE {name} SET odoo.mark TO 'x'"),
        format!("ROLE {own} IN DATABASE {name} SET lock_timeout TO '9s'"),
        format!("ROLE {own} IN DATABASE {name} SET log_statement TO 'ddl'"),
        format!("ROLE {stranger} IN DATABASE {name} SET lock_timeout TO '8s'"),
        format!("ROLE postgres IN DATABASE {name} SET lock_timeout TO '7s'"),
        format!("ROLE {admin} IN DATABASE {name} SET lock_timeout TO '6s'"),
    ] {
        server.psql("postgres", &format!("ALTER {setting}"));
    }
    let copy = server.copy_of_source("DROP INDEX res_partner_name_unaccent");
    let dump = server.dump(&copy, &["--no-owner"]);
    let backup = crate::odoo::odoo_zip(&world.path("b.zip"), &dump, &crate::odoo::files());

    let mut expected = vec![
        "setting_rights:log_min_duration_statement".to_owned(),
        "setting_rights:odoo.mark".to_owned(),
        format!("setting_rights:{own}:log_statement"),
        "setting_rights:postgres:lock_timeout".to_owned(),
    ];
    if major >= 16 {
        expected.push(format!("setting_rights:{stranger}:lock_timeout"));
    }
    expected.sort();
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    let mut found = codes(&failure);
    found.sort_unstable();
    assert_eq!(found, expected);
    let text: Vec<_> = failure.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(text.iter().any(|text| text.contains("lock_timeout of role \"postgres\"")), "{text:?}");
    world.assert_nothing_left(&work.id);
    if major >= 15 {
        server.psql(
            "postgres",
            &format!("GRANT SET ON PARAMETER log_min_duration_statement, odoo.mark TO {admin}"),
        );
        expected.retain(|code| !code.ends_with(":log_min_duration_statement") && !code.ends_with("mark"));
    }

    work = world.work();
    work.options.accept.clone_from(&expected);
    let report = stage_and_accept(&work, &backup).await;
    for code in &expected {
        assert!(report.plan.findings.iter().any(|finding| finding.code == *code), "{code} is not reported");
    }
    // Someone made another one meanwhile.
    server.psql("postgres", &format!("ALTER DATABASE {name} SET log_duration TO on"));
    let services = Recorder::default();
    let problem = make_live(&world, &work.id, Side::Restored, &services, &Crash::never()).await.unwrap_err();
    assert_eq!(problem.code, "setting_rights");
    assert!(problem.message.contains("log_duration"), "{problem}");
    assert!(services.calls.lock().unwrap().is_empty(), "services were stopped for nothing");
    server.psql("postgres", &format!("ALTER DATABASE {name} RESET log_duration"));

    cut_over(&world, &work.id, Side::Restored).await;
    let sql = format!(
        "SELECT coalesce(rolname || '.', '') || unnest(setconfig) FROM pg_db_role_setting s \
         JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole \
         WHERE datname = '{name}' ORDER BY 1"
    );
    let settings = server.psql("postgres", &sql);
    let mut kept =
        vec!["work_mem=9MB".to_owned(), format!("{own}.lock_timeout=9s"), format!("{admin}.lock_timeout=6s")];
    if major >= 15 {
        kept.extend(["log_min_duration_statement=1s".to_owned(), "odoo.mark=x".to_owned()]);
    }
    if major < 16 {
        kept.push(format!("{stranger}.lock_timeout=8s"));
    }
    kept.sort();
    let mut settings: Vec<&str> = settings.lines().collect();
    settings.sort_unstable();
    assert_eq!(settings, kept);
    cut_over(&world, &work.id, Side::Replaced).await;
    cut_over(&world, &work.id, Side::Restored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_role_may_not_copy_are_found_first_and_left_out_when_accepted_on_13() {
    settings_beyond_a_role(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_role_may_not_copy_are_found_first_and_left_out_when_accepted_on_17() {
    settings_beyond_a_role(17).await;
}

/// Without Docker nobody says who Odoo is; the live database does.
#[tokio::test(flavor = "multi_thread")]
async fn who_shall_own_the_restored_database_is_asked_of_the_live_one_and_a_guess_is_told() {
    let server = Server::of(17);
    let mut world = World::empty(server);
    assert_eq!(cluster::owner_of(&world.target).await.unwrap(), None);
    world.target.owner = "postgres".into();
    world.target.owner_assumed = true;
    let report = stage(&world.work(), &world.backup()).await.unwrap();
    let told = |code: &str| report.plan.findings.iter().filter(|finding| finding.code == code).count();
    assert_eq!(told("owner_superuser"), 1);
    // The test's target says that the server's disk is another one.
    assert_eq!(told("database_disk_unknown"), 1);
    world.target.owner = "odoo".into();
    world.make_live();
    assert_eq!(cluster::owner_of(&world.target).await.unwrap().as_deref(), Some("odoo"));
}

/// An earlier restore dropped the live database and failed: what it kept is the next one's to give.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_database_that_was_dropped_first_are_found_too_and_so_is_its_owner() {
    let server = Server::of(17);
    let mut world = World::live(server);
    let admin = role(server, "CREATEDB CREATEROLE");
    server.psql("postgres", &format!("GRANT odoo TO {admin} WITH ADMIN OPTION"));
    let name = world.target.database.clone();
    server.psql("postgres", &format!("ALTER DATABASE {name} SET log_duration TO on"));
    let kept = swap::properties_of_live(&world.target).await.unwrap();
    world.target.admin = server.access(&admin);
    world.home().create(&world.work().id, &name).unwrap();
    world.home().write_dropped(&name, &kept).unwrap();
    server.psql("postgres", &format!("DROP DATABASE {name}"));
    assert_eq!(cluster::owner_of(&world.target).await.unwrap().as_deref(), Some("odoo"));
    let failure = stage(&world.work(), &world.backup()).await.unwrap_err();
    assert_eq!(codes(&failure), ["setting_rights:log_duration"]);
}

/// The staged database is made where the live one is, unless someone can do without that.
#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_that_the_role_may_not_use_is_found_first_and_left_out_when_accepted() {
    let server = Server::of(17);
    let mut world = World::live(server);
    let admin = role(server, "CREATEDB CREATEROLE");
    server.psql("postgres", &format!("GRANT odoo TO {admin} WITH ADMIN OPTION"));
    world.target.admin = server.access(&admin);
    let name = world.target.database.clone();
    let space = server.unique("space");
    let place = server.data_file(&space);
    std::fs::create_dir(&place).unwrap();
    server.psql("postgres", &format!("CREATE TABLESPACE {space} LOCATION '{}'", place.display()));
    server.psql("postgres", &format!("ALTER DATABASE {name} SET TABLESPACE {space}"));
    let copy = server.copy_of_source("DROP INDEX res_partner_name_unaccent");
    let dump = server.dump(&copy, &["--no-owner"]);
    let backup = crate::odoo::odoo_zip(&world.path("b.zip"), &dump, &crate::odoo::files());
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    assert_eq!(codes(&failure), ["tablespace_rights"]);
    let of = || {
        let sql = "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace";
        server.psql("postgres", &format!("{sql} WHERE datname = '{name}'"))
    };
    work = world.work();
    work.options.accept.push("tablespace_rights".into());
    stage_and_accept(&work, &backup).await;
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(of(), "pg_default");
    cut_over(&world, &work.id, Side::Replaced).await;
    server.psql("postgres", &format!("GRANT CREATE ON TABLESPACE {space} TO {admin}"));
    work = world.work();
    stage_and_accept(&work, &backup).await;
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(of(), space);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_exist_is_found_before_anything_is_made() {
    let mut world = World::empty(Server::of(17));
    world.target.owner = "nobody_of_that_name".into();
    let work = world.work();
    let failure = stage(&work, &world.backup()).await.unwrap_err();
    assert_eq!(codes(&failure), ["owner_missing"]);
    world.assert_nothing_left(&work.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_hold_up_or_get_lost_in_a_rename_is_found_first() {
    let server = Server::of(17);
    let world = World::live(server);
    let name = &world.target.database;
    let slot = server.unique("slot");
    server.psql(name, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    server.psql(name, "CREATE PUBLICATION p FOR TABLE res_users");
    server.psql(name, "BEGIN; INSERT INTO base_log VALUES (now(), 'prepared'); PREPARE TRANSACTION 'kept'");
    let mut work = world.work();
    work.options.accept =
        ["prepared_transactions", "replication_slots", "replication"].map(str::to_owned).to_vec();
    let failure = stage(&work, &world.backup()).await.unwrap_err();
    assert_eq!(codes(&failure), ["prepared_transactions"], "the others were accepted");
    work.options.accept.clear();
    let failure = stage(&work, &world.backup()).await.unwrap_err();
    assert_eq!(codes(&failure), ["prepared_transactions", "replication_slots", "replication"]);
    assert!(failure.findings[1].message.contains(&slot));
    server.psql(name, "ROLLBACK PREPARED 'kept'");
    server.psql(name, &format!("SELECT pg_drop_replication_slot('{slot}')"));
}
