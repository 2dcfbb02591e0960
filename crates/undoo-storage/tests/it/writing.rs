//! What every storage that can be written to must do, run against each of them.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use undoo_core::Kind;
use undoo_storage::{
    BlockingUpload, CancellationToken, Entry, Options, Outcome, StepName, Storage, problem_of, test,
};

use crate::{read, sample, suite::Store};

/// What S3 allows as the least.
const PART: usize = 5 * 1024 * 1024;

fn small_parts() -> Options {
    Options { part_size: PART, ..Options::default() }
}

/// Writes an object in pieces that fit no part.
async fn write(storage: &Arc<dyn Storage>, key: &str, content: &[u8]) {
    let mut upload = storage.write(key, None).expect("a key");
    for piece in content.chunks(700_001) {
        upload.write(piece).await.expect("writes");
    }
    assert_eq!(upload.written(), content.len() as u64);
    let stat = upload.finish().await.expect("is finished");
    assert_eq!(stat.size, content.len() as u64);
    let object = storage.open(key).await.expect("is there");
    assert_eq!(stat.version.as_deref(), object.version(), "the version that was written is known");
}

async fn reads(storage: &Arc<dyn Storage>, key: &str, content: &[u8]) {
    let object = storage.open(key).await.expect("opens");
    let found = read(&object, 0, object.size()).await.expect("reads");
    assert!(found == content, "{key}: other bytes");
}

/// Nothing under any key, and nothing begun.
async fn is_empty(storage: &Arc<dyn Storage>) {
    assert_eq!(storage.list("").await.expect("lists"), []);
    assert_eq!(storage.unfinished("").await.expect("lists"), []);
}

async fn objects_of_any_size_read_as_they_were_written(store: Store) {
    let storage = store.storage(&small_parts());
    for size in [0, 1, PART - 1, PART, PART + 1, 2 * PART + 123_456] {
        let content = sample(size);
        write(&storage, "backups/o/e/b.zip", &content).await;
        reads(&storage, "backups/o/e/b.zip", &content).await;
        let stat = storage.stat("backups/o/e/b.zip").await.expect("answers").expect("is there");
        assert_eq!(stat.size, size as u64);
        assert!(stat.modified.is_some());
    }
    assert_eq!(storage.unfinished("").await.expect("lists"), []);
}

async fn nothing_is_seen_under_a_key_before_the_end(store: Store) {
    let storage = store.storage(&small_parts());
    let content = sample(2 * PART + 1);
    let mut upload = storage.write("a/b.zip", None).expect("a key");
    upload.write(&content).await.expect("writes");
    assert_eq!(storage.stat("a/b.zip").await.expect("answers"), None);
    assert_eq!(storage.list("").await.expect("lists"), []);
    let problem = storage.open("a/b.zip").await.err().expect("is not there");
    assert_eq!((problem.kind, problem.code), (Kind::Missing, "backup_missing"));
    upload.finish().await.expect("is finished");
    reads(&storage, "a/b.zip", &content).await;
}

async fn an_object_is_replaced_as_a_whole(store: Store) {
    let storage = store.storage(&small_parts());
    write(&storage, "b.zip", &sample(PART + 1)).await;
    let mut upload = storage.write("b.zip", None).expect("a key");
    upload.write(&sample(PART + 2)).await.expect("writes");
    reads(&storage, "b.zip", &sample(PART + 1)).await;
    upload.finish().await.expect("is finished");
    reads(&storage, "b.zip", &sample(PART + 2)).await;
}

async fn an_upload_that_is_aborted_leaves_nothing(store: Store) {
    let storage = store.storage(&small_parts());
    let mut upload = storage.write("a/b.zip", None).expect("a key");
    upload.write(&sample(2 * PART + 1)).await.expect("writes");
    upload.abort().await.expect("is removed");
    is_empty(&storage).await;
}

async fn an_upload_that_is_dropped_leaves_nothing(store: Store) {
    let storage = store.storage(&small_parts());
    let mut upload = storage.write("a/b.zip", None).expect("a key");
    upload.write(&sample(2 * PART + 1)).await.expect("writes");
    drop(upload);
    let begun = Instant::now();
    while !storage.unfinished("").await.expect("lists").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_empty(&storage).await;
}

async fn what_a_dead_process_left_is_found_and_removed(store: Store) {
    let storage = store.storage(&small_parts());
    let mut upload = storage.write("backups/o/e/b.zip", None).expect("a key");
    upload.write(&sample(PART + 1)).await.expect("writes");
    upload.write(&[]).await.expect("writes");
    // The first part has begun; wait until it shows.
    let begun = Instant::now();
    let found = loop {
        let found = storage.unfinished("").await.expect("lists");
        if !found.is_empty() || begun.elapsed() > Duration::from_secs(10) {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    std::mem::forget(upload);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key, "backups/o/e/b.zip");
    assert!(found[0].started.is_some());
    assert_eq!(storage.unfinished("backups/o/other/").await.expect("lists"), []);
    tokio::time::sleep(Duration::from_millis(300)).await;
    storage.discard(&found[0]).await.expect("is removed");
    storage.discard(&found[0]).await.expect("is gone already");
    is_empty(&storage).await;
}

/// What is given in each of several processes, and how much of it comes to be kept.
async fn an_upload_that_is_kept_is_gone_on_with_where_it_was_left(store: Store) {
    let content = sample(3 * PART + 123_456);
    let (key, size) = ("migrations/m/backup", content.len() as u64);
    let storage = store.storage(&small_parts());
    let mut upload = storage.write(key, Some(size)).expect("a key");
    let id = upload.keep().await.expect("begins");
    // Dropped, as when the line of whoever sends it breaks: what has arrived stays.
    upload.write(&content[..PART + 1000]).await.expect("writes");
    drop(upload);
    let mut at = 0;
    for until in [PART + 500, 2 * PART + 77, 3 * PART + 1] {
        let storage = store.storage(&small_parts());
        let mut upload = storage.resume(key, &id, Some(size)).await.expect("is known");
        let arrived = usize::try_from(upload.written()).expect("a length");
        assert!(arrived >= at, "{arrived} after {at}");
        at = arrived;
        let until = until.max(at);
        upload.write(&content[at..until]).await.expect("writes");
        let left = usize::try_from(upload.leave().await.expect("is kept")).expect("a length");
        assert!((at..=until).contains(&left), "{left}");
        at = left;
        assert_eq!(storage.stat(key).await.expect("answers"), None, "nothing is seen before the end");
    }
    assert!(at >= 2 * PART, "only {at} bytes are kept");
    let mut upload = storage.resume(key, &id, Some(size)).await.expect("is known");
    assert_eq!(upload.written(), at as u64);
    upload.write(&content[at..]).await.expect("writes");
    assert_eq!(upload.finish().await.expect("is finished").size, size);
    reads(&storage, key, &content).await;
    assert_eq!(storage.unfinished("").await.expect("lists"), []);
    let gone = storage.resume(key, &id, Some(size)).await.map(drop).expect_err("it is finished");
    assert_eq!(gone.code, "upload_gone");
}

async fn a_list_has_what_begins_with_its_prefix(store: Store) {
    let storage = store.storage(&small_parts());
    assert_eq!(storage.list("").await.expect("lists"), []);
    for key in ["backups/o/e/2.zip", "backups/o/e/1.zip", "backups/o/f/3 ä+.zip", "other"] {
        write(&storage, key, key.as_bytes()).await;
    }
    let entry = |name: &str| Entry { name: name.into(), size: name.len() as u64 };
    let all = ["backups/o/e/1.zip", "backups/o/e/2.zip", "backups/o/f/3 ä+.zip", "other"].map(entry);
    assert_eq!(storage.list("").await.expect("lists"), all);
    assert_eq!(storage.list("backups/o/e/").await.expect("lists"), all[..2]);
    assert_eq!(storage.list("backups/none/").await.expect("lists"), []);
    for wrong in ["backups", "../", "a//b/"] {
        assert_eq!(storage.list(wrong).await.expect_err(wrong).code, "invalid_key");
    }
}

async fn an_object_is_removed_once_and_for_all(store: Store) {
    let storage = store.storage(&small_parts());
    storage.delete("a/none.zip").await.expect("is not there");
    write(&storage, "a/b.zip", b"b").await;
    storage.delete("a/b.zip").await.expect("is removed");
    assert_eq!(storage.stat("a/b.zip").await.expect("answers"), None);
    storage.delete("a/b.zip").await.expect("is gone already");
}

async fn a_key_that_leads_elsewhere_is_refused(store: Store) {
    let storage = store.storage(&small_parts());
    for key in ["", "../b", "a//b", "/etc/passwd", "a\nb"] {
        assert_eq!(storage.write(key, None).err().expect(key).code, "invalid_key");
        assert_eq!(storage.delete(key).await.expect_err(key).code, "invalid_key");
        assert_eq!(storage.stat(key).await.expect_err(key).code, "invalid_key");
        assert_eq!(storage.open(key).await.err().expect(key).code, "invalid_key");
    }
}

async fn a_thread_writes_an_object(store: Store) {
    let storage = store.storage(&small_parts());
    let upload = storage.write("b.zip", Some(1 << 30)).expect("a key");
    let mut upload = BlockingUpload::new(Handle::current(), upload);
    let content = sample(PART + 300_000);
    let written = content.clone();
    let stat = tokio::task::spawn_blocking(move || {
        for piece in written.chunks(1234).take(100) {
            upload.write_all(piece).expect("writes");
        }
        upload.write_all(&written[123_400..]).expect("writes");
        upload.finish().expect("is finished")
    });
    assert_eq!(stat.await.expect("no panic").size, content.len() as u64);
    reads(&storage, "b.zip", &content).await;
}

async fn cancelled_writing_ends_and_leaves_nothing(store: Store) {
    let cancel = CancellationToken::new();
    let slow = Some(undoo_storage::Bandwidth::new(2_000_000));
    let options = Options { cancel: cancel.clone(), bandwidth: slow, ..small_parts() };
    let storage = store.storage(&options);
    let upload = storage.write("b.zip", None).expect("a key");
    let mut upload = BlockingUpload::new(Handle::current(), upload);
    let writing = tokio::task::spawn_blocking(move || {
        let content = sample(PART);
        loop {
            if let Err(error) = upload.write_all(&content) {
                return problem_of(error).expect("a problem");
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    cancel.cancel();
    let problem = writing.await.expect("no panic");
    assert_eq!((problem.kind, problem.code), (Kind::Cancelled, "cancelled"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let storage = store.storage(&small_parts());
    while !storage.unfinished("").await.expect("lists").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_empty(&storage).await;
}

async fn a_bandwidth_limit_slows_writing_down(store: Store) {
    let bandwidth = Some(undoo_storage::Bandwidth::new(1_000_000));
    let options = Options { bandwidth, ..small_parts() };
    let storage = store.storage(&options);
    let mut upload = storage.write("b.zip", None).expect("a key");
    let begun = Instant::now();
    for _ in 0..6 {
        upload.write(&sample(100_000)).await.expect("writes");
    }
    upload.finish().await.expect("is finished");
    // What is taken last is not waited for.
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!(options.meter.sent(), 600_000);
}

async fn a_sound_storage_passes_its_test_and_keeps_nothing_of_it(store: Store) {
    let storage = store.storage(&Options::default());
    let report = test(&*storage).await;
    assert!(report.ok, "{report:?}");
    assert!(report.problem().is_none());
    let offered = matches!(store, Store::S3(..));
    for step in &report.steps {
        match step.outcome {
            Outcome::Ok => {}
            // Its bucket has no Object Lock, and none is asked for.
            Outcome::NotOffered => {
                assert!(step.name == StepName::Lock || (step.name == StepName::Presign && !offered));
            }
            _ => panic!("{step:?}"),
        }
    }
    assert_eq!(report.steps.len(), 7);
    is_empty(&storage).await;
}

macro_rules! writing {
    ($($store:ident)* : $behaviours:tt) => {$(
        mod $store {
            writing!(@each $store $behaviours);
        }
    )*};
    (@each $store:ident { $($behaviour:ident)* }) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $behaviour() {
            super::$behaviour(super::Store::$store(concat!("writing/", stringify!($behaviour))).await).await;
        }
    )*};
}

writing! {
    local s3 sftp ftp: {
        objects_of_any_size_read_as_they_were_written nothing_is_seen_under_a_key_before_the_end
        an_object_is_replaced_as_a_whole an_upload_that_is_aborted_leaves_nothing
        an_upload_that_is_dropped_leaves_nothing what_a_dead_process_left_is_found_and_removed
        an_upload_that_is_kept_is_gone_on_with_where_it_was_left
        a_list_has_what_begins_with_its_prefix an_object_is_removed_once_and_for_all
        a_key_that_leads_elsewhere_is_refused a_thread_writes_an_object
        cancelled_writing_ends_and_leaves_nothing a_bandwidth_limit_slows_writing_down
        a_sound_storage_passes_its_test_and_keeps_nothing_of_it
    }
}
