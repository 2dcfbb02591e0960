//! Runs that die: what they leave is swept by the next one, and the live pair never notices.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use undoo_core::{Side, pair::parked_database};
use undoo_engine::{
    order::{Answer, Phase},
    source,
};
use undoo_storage::{Access, HttpAccess, Retry};

use crate::{
    odoo::{SOURCE, files, odoo_zip, zip_of},
    server::Server,
    world::{World, discard, nobody, open, stage, stage_opened},
};

/// A backup that takes a moment to load.
fn slow_backup(world: &World<'_>) -> std::path::PathBuf {
    let copy = world.server.copy_of_source(
        "CREATE TABLE mail_message (id integer PRIMARY KEY, body text); \
         INSERT INTO mail_message SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 60000) i",
    );
    odoo_zip(&world.path("slow.zip"), &world.server.dump(&copy, &["--no-owner"]), &files())
}

/// Waits for the first progress of a phase.
fn on(phase: Phase) -> (impl Fn(Answer) + Send + Sync, tokio::sync::oneshot::Receiver<()>) {
    let (tell, heard) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let audience = move |answer: Answer| {
        let begun = match answer {
            Answer::Progress { phase: at, done, .. } => at == phase && done > 1 << 20,
            Answer::Phase { phase: at } => at == phase && phase != Phase::Data,
            _ => false,
        };
        if begun && let Some(tell) = tell.lock().unwrap().take() {
            tell.send(()).ok();
        }
    };
    (audience, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staging_that_is_dropped_at_any_phase_is_swept_by_the_next_run() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let (backup, slow) = (world.backup(), slow_backup(&world));
    for phase in [Phase::Data, Phase::PostData, Phase::Verify] {
        let work = world.work();
        let (audience, heard) = on(phase);
        let opened = open(&slow).await.0;
        tokio::select! {
            outcome = stage_opened(&work, "slow", opened, &audience) => panic!("it ended before {phase:?}: {outcome:?}"),
            heard = heard => heard.unwrap(),
        }
        assert!(world.has_database(&parked_database(&work.id, Side::Restored)), "it had not begun");
        let next = world.work();
        stage(&next, &backup).await.unwrap_or_else(|failure| panic!("after {phase:?}: {failure:?}"));
        world.assert_nothing_left(&work.id);
        discard(&world.target, &next.id).await.unwrap();
        world.assert_nothing_left(&next.id);
        world.assert_untouched(&oid);
    }
    let left = std::fs::read_dir(world.target.filestore_root.join(".undoo")).unwrap().count();
    assert_eq!(left, 0, "something is left in .undoo");
}

/// Databases of one Odoo share the directory, and each has a lock of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_database_s_run_is_at_is_not_swept() {
    let world = World::live(Server::of(17));
    let (ours, theirs) = (world.work().id, world.work().id);
    for (id, database) in [(ours, world.target.database.as_str()), (theirs, "another")] {
        world.home().create(&id, database).unwrap();
        std::fs::create_dir(world.home().restore(&id).join(undoo_engine::files::STAGING)).unwrap();
    }
    stage(&world.work(), &world.backup()).await.unwrap();
    assert!(!world.home().restore(&ours).exists());
    assert!(world.home().restore(&theirs).join(undoo_engine::files::STAGING).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_load_is_a_clear_error_and_its_leftovers_are_swept() {
    let server = Server::own(15);
    let world = World::live(&server);
    let oid = world.oid(&world.target.database);
    let slow = slow_backup(&world);
    let work = world.work();
    let (audience, heard) = on(Phase::Data);
    let opened = open(&slow).await.0;
    let (outcome, ()) = tokio::join!(stage_opened(&work, "slow", opened, &audience), async {
        heard.await.unwrap();
        server.kill();
    });
    let failure = outcome.unwrap_err();
    assert_eq!(failure.problem.kind, undoo_core::Kind::Unavailable, "{failure:?}");
    assert_eq!(failure.problem.code, "database_lost", "{failure:?}");
    server.start();
    assert!(world.home().restore(&work.id).exists(), "nobody could have swept it yet");
    let next = world.work();
    stage(&next, &world.backup()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    world.assert_nothing_left(&work.id);
    world.assert_untouched(&oid);
}

/// A truncated download, as proxies leave it.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_zip_or_dump_is_refused_and_leaves_nothing() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let whole = std::fs::read(world.backup()).unwrap();
    let cut = world.path("cut.zip");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let opened = source::open(&Access::Local { path: cut }, &undoo_storage::Options::default()).await;
    assert_eq!(opened.err().map(|problem| problem.kind), Some(undoo_core::Kind::Invalid));
    let plain = world.server.plain_dump();
    let custom = world.server.dump(SOURCE, &["-Fc"]);
    let rows = plain.windows(9).position(|bytes| bytes == b"\tP\xc3\xa4rtner").unwrap();
    for dump in [
        &plain[..rows + 5000],
        &plain[..plain.len() - 200],
        &custom[..custom.len() / 2],
        &custom[..custom.len() - 10],
    ] {
        let backup = zip_of(&world.path("b.zip"), &[("dump.sql", dump)]);
        let work = world.work();
        let options = undoo_storage::Options::default();
        let opened = source::open(&Access::Local { path: backup.clone() }, &options).await;
        let problem = match opened {
            Err(problem) => problem,
            Ok(opened) => stage_opened(&work, "cut", opened, &nobody).await.unwrap_err().problem,
        };
        assert_eq!(problem.kind, undoo_core::Kind::Invalid, "{problem:?}");
        world.assert_nothing_left(&work.id);
        world.assert_untouched(&oid);
    }
}

/// Serves a file by ranges and, once told, closes every connection after a few bytes.
fn flaky_server(bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/backup.zip", listener.local_addr().unwrap());
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let (bytes, allowed) = (Arc::new(bytes), Arc::clone(&left));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, bytes, left) = (stream.unwrap(), Arc::clone(&bytes), Arc::clone(&allowed));
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(read) => request.extend_from_slice(&buffer[..read]),
                    }
                }
                let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
                let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
                let (from, to) = range.map_or((0, bytes.len() - 1), |range| {
                    let (from, to) = range.split_once('-').unwrap();
                    (from.parse().unwrap(), to.parse().unwrap_or(bytes.len() - 1).min(bytes.len() - 1))
                });
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{to}/{}\r\n\
                     Accept-Ranges: bytes\r\nETag: \"1\"\r\nConnection: close\r\n\r\n",
                    to - from + 1,
                    bytes.len()
                );
                if stream.write_all(head.as_bytes()).is_err() || request.starts_with("head") {
                    return;
                }
                for chunk in bytes[from..=to].chunks(16 * 1024) {
                    // To the last byte: a rest that is never sent would be offered again and again.
                    let take = |left: usize| Some(left - chunk.len().min(left));
                    let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap();
                    let send = chunk.len().min(before);
                    if stream.write_all(&chunk[..send]).is_err() || send < chunk.len() {
                        return;
                    }
                }
            });
        }
    });
    (address, left)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_breaks_off_in_mid_member_leaves_the_live_pair_and_nothing_else() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let bytes = std::fs::read(world.backup()).unwrap();
    let length = bytes.len();
    for part in [3, 2] {
        let (address, left) = flaky_server(bytes.clone());
        let options = undoo_storage::Options {
            retry: Retry {
                attempts: 2,
                first_pause: Duration::from_millis(5),
                longest_pause: Duration::from_millis(10),
            },
            ..undoo_storage::Options::default()
        };
        let access = Access::Http(HttpAccess { url: address.into() });
        let opened = source::open(&access, &options).await.unwrap();
        left.store(length / part, Ordering::SeqCst);
        let work = world.work();
        let failure = stage_opened(&work, "flaky", opened, &nobody).await.unwrap_err();
        assert_eq!(failure.problem.kind, undoo_core::Kind::Unavailable, "{failure:?}");
        world.assert_nothing_left(&work.id);
        world.assert_untouched(&oid);
    }
}

/// It is away for a moment in the middle of the dump and again among the files, for fewer tries than are
/// made.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_breaks_off_in_mid_member_and_comes_back_is_read_on() {
    let world = World::empty(Server::of(17));
    let bytes = std::fs::read(slow_backup(&world)).unwrap();
    let length = bytes.len();
    let (address, left) = flaky_server(bytes);
    let options = undoo_storage::Options {
        retry: Retry {
            attempts: 200,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(10),
        },
        ..undoo_storage::Options::default()
    };
    let access = Access::Http(HttpAccess { url: address.into() });
    let opened = source::open(&access, &options).await.unwrap();
    left.store(length / 3, Ordering::SeqCst);
    let breaks = tokio::spawn(async move {
        for more in [length / 3, usize::MAX] {
            while left.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Several requests meet a server that sends nothing.
            tokio::time::sleep(Duration::from_millis(100)).await;
            left.store(more, Ordering::SeqCst);
        }
    });
    let work = world.work();
    let report = stage_opened(&work, "flaky", opened, &nobody).await.unwrap_or_else(|f| panic!("{f:?}"));
    breaks.await.unwrap();
    assert!(report.attachments.is_some_and(|found| found.is_exact() && found.matched == 60));
    assert_eq!(report.loaded.map(|loaded| loaded.rows["\"public\".\"mail_message\""]), Some(60_000));
}

/// The rest of the files is not fetched for a restore that has failed already.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_dump_ends_the_fetching_of_files() {
    let world = World::empty(Server::of(17));
    let mut many = files();
    many.extend((0..4000_u32).map(|number| {
        let content = vec![number.to_le_bytes(); 5000].concat();
        (crate::odoo::fname(&content), content)
    }));
    let dump = String::from_utf8(world.server.plain_dump()).unwrap();
    let dump = dump.replacen("\nSET ", "\nALTER SYSTEM SET fsync TO off;\nSET ", 1);
    let backup = crate::odoo::click_odoo_folder(&world.path("b"), dump.as_bytes(), &[]);
    crate::odoo::write_filestore(&backup.join("filestore"), &many);
    let options = undoo_storage::Options {
        bandwidth: Some(undoo_storage::Bandwidth::new(20_000_000)),
        ..undoo_storage::Options::default()
    };
    let meter = options.meter.clone();
    let opened = source::open(&Access::Local { path: backup }, &options).await.unwrap();
    let work = world.work();
    let failure = stage_opened(&work, "refused", opened, &nobody).await.unwrap_err();
    assert_eq!(failure.problem.kind, undoo_core::Kind::Refused, "{failure:?}");
    world.assert_nothing_left(&work.id);
    assert!(meter.bytes() < 40_000_000, "{} of 80 MB were read", meter.bytes());
}

/// Nor is the dump loaded to its end for a restore whose files cannot be had.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_end_the_load_of_the_dump() {
    let world = World::empty(Server::of(17));
    let backup = world.path("b");
    let copy = world.server.copy_of_source(
        "CREATE TABLE mail_message (id integer PRIMARY KEY, body text); \
         INSERT INTO mail_message SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 60000) i",
    );
    crate::odoo::click_odoo_folder(&backup, &world.server.dump(&copy, &["--no-owner"]), &files());
    let opened = open(&backup).await.0;
    std::fs::remove_file(backup.join("filestore").join(&files()[9].0)).unwrap();
    let work = world.work();
    let loaded = AtomicUsize::new(0);
    let audience = |answer: Answer| {
        if let Answer::Phase { phase: Phase::PostData } = answer {
            loaded.fetch_add(1, Ordering::SeqCst);
        }
    };
    let failure = stage_opened(&work, "no files", opened, &audience).await.unwrap_err();
    assert_ne!(failure.problem.code, "files_stopped", "{failure:?}");
    assert_ne!(failure.problem.kind, undoo_core::Kind::Internal, "{failure:?}");
    assert_eq!(loaded.load(Ordering::SeqCst), 0, "it was loaded to its end");
    world.assert_nothing_left(&work.id);
}
