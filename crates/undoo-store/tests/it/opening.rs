//! Opening a database: for whom, how safely, and what is said when it does not work.

use std::{
    error::Error,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use undoo_core::{Kind, Problem};
use undoo_store::{Store, people};
use undoo_testing::postgres::Postgres;

use crate::world::{World, on_both, postgres};

on_both!(migrations_run_once, a_newer_database_is_left_alone, a_text_with_nul_is_refused_or_kept);

async fn migrations_run_once(world: World) {
    assert!(world.store.pending_migrations().await.unwrap().is_empty());
    assert!(world.store.migrate().await.unwrap().is_empty());
    world.store.ping().await.unwrap();
    assert!(people::users_exist(&world.store).await.unwrap());
}

async fn a_newer_database_is_left_alone(world: World) {
    world.sql("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)").await;
    for problem in
        [world.store.pending_migrations().await.unwrap_err(), world.store.migrate().await.unwrap_err()]
    {
        assert_eq!(problem.code, "database_newer");
    }
}

async fn a_text_with_nul_is_refused_or_kept(world: World) {
    let renamed = people::organisation_rename(&world.store, world.organisation.id, "a\0b").await;
    assert!(renamed.is_ok() || renamed.is_err_and(|problem| problem.code == "text_not_storable"));
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}/undoo.db", folder.display())
}

async fn refused(url: &str) -> Problem {
    Store::open(url).await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_migrate_a_server_at_once() {
    let url = postgres().fresh();
    let mut stores = Vec::new();
    let mut pending = 0;
    for _ in 0..5 {
        let store = Store::open(&url).await.unwrap();
        pending = store.pending_migrations().await.unwrap().len();
        assert!(pending > 0);
        stores.push(store);
    }
    let mut processes = tokio::task::JoinSet::new();
    for store in stores {
        processes.spawn(async move { store.migrate().await.unwrap().len() });
    }
    assert_eq!(processes.join_all().await.iter().sum::<usize>(), pending);
}

#[tokio::test]
async fn a_file_is_for_its_owner_and_outlives_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite(folder.path())).await.unwrap();
    assert!(!store.pending_migrations().await.unwrap().is_empty());
    store.migrate().await.unwrap();
    people::user_insert(&store, &crate::world::user("ada@example.com"), None).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    store.close().await;
    assert_eq!(people::users_exist(&store).await.unwrap_err().code, "database_unavailable");
    drop(store);
    let again = Store::open(&sqlite(folder.path())).await.unwrap();
    assert!(people::users_exist(&again).await.unwrap());
}

#[tokio::test]
async fn a_second_process_on_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("undoo.db.lock");
    let mut other = Command::new("flock")
        .arg("--no-fork")
        .arg(&lock)
        .args(["sh", "-c", "echo held; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
    // Also by another name of the file.
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join("undoo.db"), &link).unwrap();
    for url in [sqlite(folder.path()), format!("sqlite:{}", link.display())] {
        let problem = refused(&url).await;
        assert_eq!((problem.kind, problem.code), (Kind::Conflict, "database_in_use"));
        assert!(problem.message.contains("undoo.db "), "{}", problem.message);
        assert!(problem.remedy.contains("postgres://"), "{}", problem.remedy);
    }
    other.kill().unwrap();
    other.wait().unwrap();
    let store = Store::open(&sqlite(folder.path())).await.unwrap();
    assert_eq!(refused(&sqlite(folder.path())).await.code, "database_in_use");
    drop(store);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("undoo.db"), "this is a letter, and no database at all. ".repeat(100))
        .unwrap();
    let expected = [
        ("mysql://localhost/undoo", "database_url_invalid"),
        ("undoo.db", "database_url_invalid"),
        ("postgres://localhost:port/undoo", "database_url_invalid"),
        ("sqlite:/nowhere/at/all/undoo.db", "database_denied"),
        (&sqlite(folder.path()), "database_damaged"),
        (&postgres().url("postgres", "missing"), "database_missing"),
        ("postgres://undoo@127.0.0.1:1/undoo", "database_unavailable"),
    ];
    for (url, code) in expected {
        let problem = refused(url).await;
        assert_eq!(problem.code, code, "{url}: {problem:?}");
        assert!(!problem.remedy.is_empty());
    }
}

#[tokio::test]
async fn the_password_of_a_url_is_told_nobody() {
    let server = postgres();
    server.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'right-one'");
    let urls = [
        server.url("app:s3cr3t-word", "postgres"),
        "postgres://app:s3cr3t-word@127.0.0.1:1/undoo".into(),
        "postgres://app:s3cr3t-word@host:port/undoo".into(),
        "postgres://app:s3cr3t-word@[::1/undoo".into(),
    ];
    for url in urls {
        let problem = refused(&url).await;
        let mut said = format!("{problem:?} {problem} {}", problem.remedy);
        let mut source = problem.source();
        while let Some(error) = source {
            said.push_str(&format!("{error} {error:?}"));
            source = error.source();
        }
        assert!(!said.contains("s3cr3t"), "{said}");
    }
    assert_eq!(refused(&server.url("app:wrong", "postgres")).await.code, "database_denied");
    Store::open(&server.url("app:right-one", "postgres")).await.unwrap();
}

#[tokio::test]
async fn tables_that_are_not_there_yet_are_named() {
    let store = Store::open(&postgres().fresh()).await.unwrap();
    let problem = people::users_exist(&store).await.unwrap_err();
    assert_eq!(problem.code, "not_migrated");
    assert!(problem.remedy.contains("undoo migrate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_unavailable_and_comes_back() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let server = Postgres::own(env!("CARGO_TARGET_TMPDIR"), place.path(), &["fsync=off"]);
    let store = Store::open(&server.fresh()).await.unwrap();
    store.migrate().await.unwrap();
    let tx = store.begin().await.unwrap();
    people::user_insert(&tx, &crate::world::user("ada@example.com"), None).await.unwrap();
    server.stop();
    let broken = tx.commit().await.unwrap_err();
    assert_eq!((broken.kind, broken.code), (Kind::Unavailable, "database_unavailable"));
    let away = tokio::time::timeout(Duration::from_secs(30), store.ping()).await.unwrap().unwrap_err();
    assert_eq!(away.code, "database_unavailable");
    server.start();
    let begun = std::time::Instant::now();
    while store.ping().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert!(!people::users_exist(&store).await.unwrap());
}
