//! What each kind of role can do, and what is said where it can not.

use undoo_core::{Side, pair::parked_database};
use undoo_engine::pairs;

use crate::{
    server::{PASSWORD, Server, quoted},
    world::{World, codes, cut_over, stage, stage_and_accept},
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
