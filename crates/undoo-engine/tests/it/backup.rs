//! Backups of a pair that is being written to, and what is left of those that did not come to their end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use jiff::Timestamp;
use undoo_archive::{
    manifest::ours::SignatureState,
    verify::{self, Level},
};
use undoo_core::{BackupId, RestoreId, Side, Signer, pair::parked_database};
use undoo_engine::{
    backup::{Assignment, Destination, Made, Unsigned},
    encryption::Recipients,
    lock::{Locked, Work},
    order::{Answer, Failure, Phase},
    orders::{Order, Session},
};
use undoo_storage::Access;

use crate::{
    odoo::{self, FILES, fname},
    server::{Server, connection},
    world::{World, cut_over, nobody, open, stage_and_accept},
};

/// A part of a key that all these backups have.
const FOLDER: &str = "backups/local/acme";

fn signer() -> Signer {
    Signer::from_seed(&[5; 32])
}

/// An order to back this world up, as the role that owns its database, into a folder of the test.
fn work(world: &World<'_>) -> Assignment {
    let id = BackupId::generate();
    let mut target = world.target.clone();
    target.admin = world.server.access("odoo");
    Assignment {
        id,
        created_at: Timestamp::now(),
        target,
        kept: None,
        storage: Access::Local { path: store(world) }.into(),
        object: Destination { place: "the store/".into(), key: format!("{FOLDER}/{id}.zip") },
        recipients: Recipients::default(),
        database_only: false,
        level: 0,
        threads: 2,
        addons: Vec::new(),
        organisation: "local".into(),
        environment: Default::default(),
        undoo_version: "0".into(),
        public_key: signer().public_key(),
        pg_dump: Some(world.server.client("pg_dump").get_program().into()),
    }
}

/// A pair with so much in it that an upload has begun before its end. To be written without compression.
fn large(server: &Server) -> World<'_> {
    let world = World::live(server);
    let content = vec![b'x'; 3 << 20];
    let path = world.live_directory().join(fname(&content));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    world
}

fn store(world: &World<'_>) -> PathBuf {
    world.path("store")
}

/// Everything in the store that is a file.
fn stored(world: &World<'_>) -> Vec<String> {
    let entries = fs::read_dir(store(world).join(FOLDER)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// What is left on the target.
fn held(world: &World<'_>) -> Vec<PathBuf> {
    world.home().backups().unwrap()
}

async fn begin(session: &mut Session, work: Assignment) -> Result<String, Failure> {
    let answer = session.carry_out(Order::Backup { work: Box::new(work) }, &nobody).await?;
    Ok(serde_json::from_value::<Unsigned>(answer).unwrap().text)
}

async fn make(work: Assignment) -> Result<Made, Failure> {
    let (mut session, id) = (Session::default(), work.id);
    let text = begin(&mut session, work).await?;
    let signature = signer().sign(text.as_bytes());
    let made = session.carry_out(Order::Seal { id, signature }, &nobody).await?;
    Ok(serde_json::from_value(made).unwrap())
}

async fn verified(path: &Path) -> verify::Report {
    let (backup, _) = open(path).await;
    let options = verify::Options { level: Level::Deep, jobs: 2 };
    tokio::task::spawn_blocking(move || verify::verify(&backup, &options, Arc::new(|_, _| Ok(()))))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_writer_and_a_collector_has_every_file_that_its_dump_names() {
    let world = World::live(Server::of(15));
    let stop = Arc::new(AtomicBool::new(false));
    let collected = Arc::new(AtomicU32::new(0));
    let access = world.server.access("odoo");
    let (live, database) = (world.live_directory(), world.target.database.clone());
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&collected));
    // As Odoo does it: a file is there before its row, goes after it, and only under this lock.
    let writer = tokio::spawn(async move {
        let client = access.connect(&database).await.unwrap();
        let mut born: Vec<String> = Vec::new();
        for number in 0.. {
            if stopped.load(Ordering::SeqCst) {
                break;
            }
            let content = format!("written meanwhile {number}").into_bytes();
            let name = fname(&content);
            let path = live.join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &content).unwrap();
            let insert = "INSERT INTO ir_attachment (name, store_fname, checksum, file_size) \
                          VALUES ('meanwhile', $1, $2, $3)";
            let size = i32::try_from(content.len()).unwrap();
            client.execute(insert, &[&name, &&name[3..], &size]).await.unwrap();
            born.push(name);
            if born.len() < 3 {
                continue;
            }
            let gone = born.split_off(1);
            client.execute("DELETE FROM ir_attachment WHERE store_fname = ANY($1)", &[&gone]).await.unwrap();
            let lock = "BEGIN; SET LOCAL lock_timeout = '10s'; LOCK ir_attachment IN SHARE MODE";
            client.batch_execute(lock).await.unwrap();
            for name in &gone {
                fs::remove_file(live.join(name)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
            client.batch_execute("COMMIT").await.unwrap();
        }
    });
    for _ in 0..4 {
        let before = collected.load(Ordering::SeqCst);
        let made = make(work(&world)).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(collected.load(Ordering::SeqCst) > before, "nothing was collected meanwhile");
        let report = verified(&store(&world).join(&made.object.key)).await;
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.signature, SignatureState::Valid);
        let found = report.attachments.unwrap();
        assert_eq!((found.matched, found.missing.total), (found.attachments, 0));
        assert!(found.attachments > FILES as u64, "{found:?}");
        assert!(made.verified && made.files >= FILES as u64 && made.rows.is_some(), "{made:?}");
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert_eq!(held(&world), [""; 0].map(PathBuf::from));
    assert_eq!(stored(&world).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_under_the_key_before_the_seal_and_nothing_is_left_without_it() {
    let world = large(Server::of(15));
    let mut session = Session::default();
    let work = work(&world);
    let name = format!("{}.zip", work.id);
    let text = begin(&mut session, work.clone()).await.unwrap();
    let files = stored(&world);
    assert!(files.len() == 1 && files[0] != name && files[0].ends_with(".part"), "{files:?}");
    assert_eq!(held(&world).len(), 1);
    // The database is in: a restore may work now.
    drop(Locked::take(&world.target, Work::Restore(RestoreId::generate())).await.unwrap());
    session.end().await;
    assert_eq!((stored(&world).len(), held(&world).len()), (0, 0));

    // Neither does an order about another backup seal it, nor a signature of something else.
    let begun = begin(&mut session, work.clone()).await.unwrap();
    assert_ne!(begun, text);
    let order = Order::Seal { id: BackupId::generate(), signature: signer().sign(begun.as_bytes()) };
    let failure = session.carry_out(order, &nobody).await.unwrap_err();
    assert_eq!(failure.problem.code, "backup_out_of_turn");
    let order = Order::Seal { id: work.id, signature: signer().sign(b"something else") };
    let failure = session.carry_out(order, &nobody).await.unwrap_err();
    assert_eq!(failure.problem.code, "signature");
    assert_eq!((stored(&world).len(), held(&world).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_refused_while_the_database_is_dumped_and_the_dump_can_be_called_off() {
    let world = World::live(Server::of(15));
    let blocker = world.server.access("postgres").connect(&world.target.database).await.unwrap();
    let mut session = Session::default();
    for cancelled in [true, false] {
        blocker.batch_execute("BEGIN; LOCK TABLE res_partner IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let work = work(&world);
        let id = work.id;
        let dumping = tokio::sync::Notify::new();
        let listen = |answer| {
            if matches!(answer, Answer::Phase { phase: Phase::Dump }) {
                dumping.notify_one();
            }
        };
        let mut order = Box::pin(session.carry_out(Order::Backup { work: Box::new(work) }, &listen));
        tokio::select! {
            answer = &mut order => panic!("{answer:?}"),
            () = dumping.notified() => {}
        }
        let busy = Locked::take(&world.target, Work::Restore(RestoreId::generate())).await.err().unwrap();
        assert_eq!(busy.code, "target_busy");
        assert!(busy.message.contains(&format!("backup {id}")), "{}", busy.message);
        if cancelled {
            drop(order);
            session.end().await;
            assert_eq!((stored(&world).len(), held(&world).len()), (0, 0));
            blocker.batch_execute("ROLLBACK").await.unwrap();
        } else {
            blocker.batch_execute("ROLLBACK").await.unwrap();
            order.await.unwrap();
            session.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_backup_left_is_swept_and_what_lives_is_not() {
    let world = large(Server::of(15));
    let mut alive = Session::default();
    begin(&mut alive, work(&world)).await.unwrap();
    let living = held(&world);
    // As a process leaves it that was killed.
    let dead = |place: &str| {
        let id = BackupId::generate();
        let directory = world.home().backup(&id);
        let key = format!("{FOLDER}/{id}.zip");
        fs::create_dir_all(directory.join("filestore/ab")).unwrap();
        fs::write(directory.join("filestore/ab/x"), "linked").unwrap();
        fs::write(directory.join("life"), "").unwrap();
        fs::write(directory.join("object.json"), format!(r#"{{"place":"{place}","key":"{key}"}}"#)).unwrap();
        fs::write(store(&world).join(format!("{key}.0123456789abcdef.part")), "begun").unwrap();
        fs::write(store(&world).join(&key), "written, not read back").unwrap();
        (directory, format!("{id}.zip"))
    };
    let (here, here_key) = dead("the store/");
    let (elsewhere, elsewhere_key) = dead("another store/");
    let (verified, verified_key) = dead("the store/");
    let by_hand = store(&world).join(format!("{FOLDER}/{verified_key}.verified.json"));
    fs::write(by_hand, "by a person, since").unwrap();
    let begun = world.home().backup(&BackupId::generate());
    fs::create_dir_all(&begun).unwrap();

    make(work(&world)).await.unwrap();
    assert!(!here.exists() && !begun.exists() && !verified.exists(), "of the dead nothing stays");
    assert!(
        elsewhere.exists() && !elsewhere.join("filestore").exists(),
        "what has to be looked for elsewhere"
    );
    assert!(living.iter().all(|path| path.join("filestore").exists()), "a living one");
    let names = stored(&world);
    assert!(!names.contains(&here_key), "written whole by a dead one, and not read back: {names:?}");
    assert!(names.contains(&elsewhere_key) && names.contains(&verified_key), "{names:?}");
    let parts: Vec<&String> = names.iter().filter(|name| name.ends_with(".part")).collect();
    assert!(!parts.iter().any(|name| name.starts_with(&here_key)), "{names:?}");
    assert!(parts.iter().any(|name| name.starts_with(&elsewhere_key)) && parts.len() == 2, "{names:?}");
    alive.end().await;
    assert_eq!(held(&world), [elsewhere]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_fails_makes_no_backup_and_its_words_are_told() {
    let world = World::live(Server::of(15));
    world.server.psql(&world.target.database, "CREATE TABLE closed (id int)");
    let failure = make(work(&world)).await.unwrap_err();
    assert_eq!(failure.problem.code, "pg_dump_failed");
    assert!(failure.problem.message.contains("permission denied"), "{}", failure.problem.message);
    assert_eq!((stored(&world).len(), held(&world).len()), (0, 0));

    let older = Assignment { pg_dump: Some("/no/such/pg_dump".into()), ..work(&world) };
    assert_eq!(make(older).await.unwrap_err().problem.code, "pg_dump_missing");
    let old = Server::of(13).client("pg_dump").get_program().into();
    let failure = make(Assignment { pg_dump: Some(old), ..work(&world) }).await.unwrap_err();
    assert_eq!(failure.problem.code, "pg_dump_missing");
    assert!(failure.problem.message.contains("of PostgreSQL 13"), "{}", failure.problem.message);
    assert_eq!((stored(&world).len(), held(&world).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_files_loads_as_any_dump_and_says_what_it_is_of() {
    let world = World::live(Server::of(15));
    let made = make(Assignment { database_only: true, ..work(&world) }).await.unwrap();
    assert_eq!((made.files, held(&world).len()), (0, 0));
    let (backup, _) = open(&store(&world).join(&made.object.key)).await;
    let manifest = backup.manifest.as_ref().unwrap().undoo.as_ref().unwrap();
    assert_eq!(manifest.environment.odoo_version.as_deref(), Some("17.0"));
    assert!(manifest.parts.filestore.is_none());
    // The dump is what psql takes.
    let (dump, copy) = (world.path("dump.sql"), world.server.unique("loaded"));
    let mut zip =
        zip::ZipArchive::new(fs::File::open(store(&world).join(&made.object.key)).unwrap()).unwrap();
    std::io::copy(&mut zip.by_name("dump.sql").unwrap(), &mut fs::File::create(&dump).unwrap()).unwrap();
    world.server.psql("postgres", &format!("CREATE DATABASE {copy}"));
    // As Odoo makes its databases; dumps leave it out.
    let unaccent = "CREATE EXTENSION unaccent; ALTER FUNCTION unaccent(text) IMMUTABLE";
    world.server.psql(&copy, unaccent);
    let mut psql = world.server.client("psql");
    undoo_testing::run(
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &connection(&copy), "-f"]).arg(&dump),
    );
    let count = |database: &str| world.server.psql(database, "SELECT count(*) FROM res_partner");
    assert_eq!(count(&copy), count(&world.target.database));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_pair_is_backed_up_as_it_was_replaced_and_nobody_sees_it_meanwhile() {
    let world = World::live(Server::of(15));
    let restore = world.work();
    stage_and_accept(&restore, &world.backup()).await;
    let replaced = world.server.psql(&world.target.database, "SELECT count(*) FROM ir_config_parameter");
    cut_over(&world, &restore.id, Side::Restored).await;
    let restored = world.server.psql(&world.target.database, "SELECT count(*) FROM ir_config_parameter");
    assert_ne!(replaced, restored);
    let parked = parked_database(&restore.id, Side::Replaced);
    let seen = format!(
        "SELECT datallowconn, pg_get_userbyid(datdba) = 'odoo' FROM pg_database WHERE datname = '{parked}'"
    );
    let before = world.server.psql("postgres", &seen);

    let (mut session, mut order) = (Session::default(), work(&world));
    order.kept = Some(restore.id);
    order.target = world.target.clone();
    let (id, key) = (order.id, order.object.key.clone());
    let during = Arc::new(Mutex::new(String::new()));
    let (server, asked, while_open) = (world.server, seen.clone(), Arc::clone(&during));
    let audience = move |answer: Answer| {
        if matches!(answer, Answer::Phase { phase: Phase::Dump }) {
            *while_open.lock().unwrap() = server.psql("postgres", &asked);
        }
    };
    let order = Order::Backup { work: Box::new(order) };
    let answer = session.carry_out(order, &audience).await.unwrap();
    let text = serde_json::from_value::<Unsigned>(answer).unwrap().text;
    let signature = signer().sign(text.as_bytes());
    session.carry_out(Order::Seal { id, signature }, &nobody).await.unwrap();

    assert_eq!(during.lock().unwrap().as_str(), "t|f", "open, and not Odoo's role's");
    assert_eq!(world.server.psql("postgres", &seen), before);
    assert_eq!(before, "f|t");
    world.assert_no_role(&restore.id);
    let path = store(&world).join(key);
    assert!(verified(&path).await.is_whole());
    let (backup, _) = open(&path).await;
    let manifest = backup.manifest.as_ref().unwrap().undoo.as_ref().unwrap();
    assert_eq!(manifest.environment.database, world.target.database);
    let parts = &manifest.parts;
    let tables = parts.database.as_ref().unwrap().tables.as_ref().unwrap();
    let parameters = tables.iter().find(|counted| counted.name.ends_with("ir_config_parameter")).unwrap();
    assert_eq!(parameters.rows.to_string(), replaced);
    assert_eq!(parts.filestore.as_ref().unwrap().files, odoo::files().len() as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_database_that_a_dead_backup_left_open_is_closed_by_the_next_one() {
    let world = World::live(Server::of(15));
    let restore = world.work();
    stage_and_accept(&restore, &world.backup()).await;
    cut_over(&world, &restore.id, Side::Restored).await;
    let parked = parked_database(&restore.id, Side::Replaced);
    world.server.psql("postgres", &format!("ALTER DATABASE {parked} ALLOW_CONNECTIONS true"));
    make(work(&world)).await.unwrap();
    let open = format!("SELECT datallowconn FROM pg_database WHERE datname = '{parked}'");
    assert_eq!(world.server.psql("postgres", &open), "f");
    let missing = Assignment { kept: Some(RestoreId::generate()), ..work(&world) };
    assert_eq!(make(missing).await.unwrap_err().problem.code, "nothing_kept");
    // This order's administrator is Odoo's own role, which may make no other one.
    let seen = Assignment { kept: Some(restore.id), ..work(&world) };
    assert_eq!(make(seen).await.unwrap_err().problem.code, "kept_pair_would_be_seen");
    assert_eq!(world.server.psql("postgres", &open), "f");
}
