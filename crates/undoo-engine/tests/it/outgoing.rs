//! What a restored database must not send, and what makes a copy another instance.

use undoo_core::{Side, pair::parked_database};
use undoo_engine::{
    order::{Answer, Target},
    orders::{Listed, Order},
    restore::Preparation,
};

use crate::{
    server::Server,
    world::{World, accept, carry_out, cut_over, discard, nobody, preparation, prepare, stage},
};

async fn order<T: serde::de::DeserializeOwned>(order: Order) -> T {
    // As a mover gets it and answers it: through JSON.
    let order: Order = serde_json::from_value(serde_json::to_value(order).unwrap()).unwrap();
    let answer = carry_out(order, &nobody).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let done = Answer::Done { result: answer };
    let done: Answer = serde_json::from_str(&serde_json::to_string(&done).unwrap()).unwrap();
    serde_json::from_value(done.outcome().unwrap().unwrap()).unwrap()
}

async fn listed(target: &Target) -> Vec<Listed> {
    order(Order::List { target: target.clone() }).await
}

const MAILS: &str = "SELECT string_agg(email_to || ':' || state || coalesce(':' || failure_reason, ''), ',' ORDER BY id) FROM mail_mail";
const CRONS: &str = "SELECT string_agg(cron_name, ',' ORDER BY id) FROM ir_cron WHERE active";

#[tokio::test(flavor = "multi_thread")]
async fn mail_and_crons_that_wait_are_held_and_listed_until_a_person_releases_them() {
    let world = World::live(Server::of(15));
    let work = world.work();
    let live = &world.target.database;
    let server = world.server;
    let (mails, crons) = (server.psql(live, MAILS), server.psql(live, CRONS));
    stage(&work, &world.backup()).await.unwrap();
    let hold = Preparation { hold_outgoing: true, ..preparation() };
    let held = prepare(&work, &hold).await.unwrap();
    // A caller that was interrupted prepares again; what is held must not be forgotten for it.
    let again = prepare(&work, &hold).await.unwrap();
    assert_eq!(held, again);
    let what =
        |held: &[undoo_engine::outgoing::Held]| held.iter().map(|held| held.what.clone()).collect::<Vec<_>>();
    assert_eq!(what(&held.mails), ["waits@example.com", "also.waits@example.com"]);
    // One is due by a trigger, whose time has come though its own has not.
    let mut due = what(&held.crons);
    due.sort();
    assert_eq!(due, ["Autovacuum", "Overdue", "Triggered"]);
    accept(&work).await.unwrap();
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(server.psql(live, CRONS), "Far ahead,Triggered later");
    assert!(!server.psql(live, MAILS).contains("outgoing"));
    assert_eq!(listed(&world.target).await[0].held, held);

    // Someone saw to one of each in the meantime.
    server.psql(live, "UPDATE mail_mail SET failure_reason = 'by a person' WHERE id = 2; UPDATE ir_cron SET active = true WHERE id = 1");
    let released: serde_json::Value = order(Order::Release { target: world.target.clone() }).await;
    assert_eq!(released, serde_json::json!({ "mails": 1, "crons": 2 }));
    assert_eq!(server.psql(live, CRONS), crons);
    let by_a_person =
        mails.replace("also.waits@example.com:outgoing", "also.waits@example.com:cancel:by a person");
    assert_eq!(server.psql(live, MAILS), by_a_person);
    assert!(listed(&world.target).await[0].held.is_empty());
    let again = carry_out(Order::Release { target: world.target.clone() }, &nobody).await.unwrap_err();
    assert_eq!(again.problem.code, "nothing_held");
}

fn parameters(server: &Server, database: &str) -> String {
    server.psql(database, "SELECT key || '=' || value FROM ir_config_parameter ORDER BY key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_gets_an_identity_of_its_own_and_the_address_of_its_target() {
    let world = World::live(Server::of(17));
    let live = &world.target.database;
    world.server.psql(
        live,
        "UPDATE ir_config_parameter SET value = 'https://staging.example.com' WHERE key = 'web.base.url'; \
        DELETE FROM ir_config_parameter WHERE key = 'report.url'",
    );
    let work = world.work();
    stage(&work, &world.backup()).await.unwrap();
    let copy = Preparation { renew_identity: true, clone: true, ..preparation() };
    prepare(&work, &copy).await.unwrap();
    let staged = parked_database(&work.id, Side::Restored);
    let now = parameters(world.server, &staged);
    let value =
        |key: &str| now.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).map(str::to_owned);
    let uuid = value("database.uuid").unwrap();
    assert!(uuid != "the-instance" && uuid.len() == 36);
    assert!(value("database.secret").is_some_and(|secret| secret != "the-secret" && secret != uuid));
    assert!(value("database.create_date").is_some_and(|date| !date.starts_with("2020")));
    assert_eq!(value("web.base.url").as_deref(), Some("https://staging.example.com"));
    for gone in ["report.url", "database.enterprise_code", "database.expiration_date"] {
        assert_eq!(value(gone), None, "{gone}");
    }
    // The clone on which Odoo will prove it is the same, and as closed.
    let clone = undoo_core::pair::proof_database(&work.id);
    assert_eq!(parameters(world.server, &clone), now);
    assert!(world.server.access("odoo").connect(&clone).await.is_err());
    let tree = world.home().proof(&work.id).join("filestore").join(&clone);
    assert!(tree.join(crate::odoo::fname(&crate::odoo::content(0))).exists());
    accept(&work).await.unwrap();
    assert!(!world.has_database(&clone) && !world.home().proof(&work.id).exists());
    discard(&world.target, &work.id).await.unwrap();
    world.assert_nothing_left(&work.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_a_neutralize_of_its_own_is_neutralized_in_sql() {
    let world = World::empty(Server::of(13));
    let work = world.work();
    stage(&work, &world.backup()).await.unwrap();
    let neutral = Preparation { neutralize_in_sql: true, renew_identity: true, ..preparation() };
    prepare(&work, &neutral).await.unwrap();
    accept(&work).await.unwrap();
    cut_over(&world, &work.id, Side::Restored).await;
    let live = &world.target.database;
    let asked = |sql: &str| world.server.psql(live, sql);
    assert_eq!(asked(CRONS), "Autovacuum");
    let servers = "SELECT string_agg(smtp_host, ',') FROM ir_mail_server WHERE active";
    assert_eq!(asked(servers), "invalid");
    assert_eq!(asked("SELECT count(*) FROM fetchmail_server WHERE active"), "0");
    assert_eq!(asked("SELECT state FROM payment_acquirer"), "disabled");
    let value = |key: &str| asked(&format!("SELECT value FROM ir_config_parameter WHERE key = '{key}'"));
    assert_eq!(value("database.is_neutralized"), "true");
    assert_eq!(value("web.base.url"), "http://localhost:8069");
    // The rows were written by Odoo's own role, not by one that will be gone.
    assert_eq!(world.server.psql_as("odoo", live, "UPDATE ir_mail_server SET sequence = 1; SELECT 1"), "1");
}
