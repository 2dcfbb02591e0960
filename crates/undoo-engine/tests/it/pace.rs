//! Giving way to whoever works on the same server, and to nobody else.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use undoo_engine::load::pace::Pace;

use crate::{server::Server, world::World};

/// Asks a short question again and again, as an Odoo in use does, until the pace allows as many of four
/// sessions or the time is over.
async fn using(client: &Client, pace: &Pace, allowed: usize, most: Duration) -> usize {
    let began = Instant::now();
    while began.elapsed() < most && pace.allowed(4) != allowed {
        client.batch_execute("SELECT 1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pace.allowed(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_works_on_one_session_while_any_other_database_of_the_server_is_in_use() {
    let server = Server::own(13);
    let world = World::live(&server);
    let other = server.unique("other");
    server.psql("postgres", &format!("CREATE DATABASE {other}"));
    for used in [&world.target.database, &other] {
        let pace = Pace::watch(&world.target, "staged").await;
        assert_eq!(pace.allowed(4), 4, "before anybody was seen at work");
        let client = world.target.admin.connect(used).await.unwrap();
        assert_eq!(using(&client, &pace, 1, Duration::from_secs(20)).await, 1, "{used} is in use");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_itself_and_sessions_that_do_nothing_are_no_use_to_give_way_to() {
    let server = Server::own(17);
    let world = World::live(&server);
    let staged = server.unique("staged");
    server.psql("postgres", &format!("CREATE DATABASE {staged}"));
    let pace = Pace::watch(&world.target, &staged).await;
    let _idle = world.target.admin.connect(&world.target.database).await.unwrap();
    let loading = world.target.admin.connect(&staged).await.unwrap();
    assert_eq!(using(&loading, &pace, 1, Duration::from_secs(6)).await, 4);
}
