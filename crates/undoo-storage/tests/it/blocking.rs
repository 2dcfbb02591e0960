//! The blocking readers that parsers use.

use std::{io::Read, time::Duration};

use tokio::runtime::Handle;
use undoo_storage::{Access, BlockingFolder, BlockingObject, LocalFile, Options, problem_of};

use crate::{
    open_file, open_folder,
    proxy::{Act, Proxy},
    quick, sample, weed,
};

const SIZE: usize = 8_000_000;

async fn on_s3(name: &str, options: &Options) -> BlockingObject {
    let weed = weed::weed().await;
    weed.put(&format!("/buckets/{}/{name}", weed::BUCKET), &sample(SIZE));
    let object = open_file(&weed::s3(weed.s3, name), options).await.expect("opens");
    BlockingObject::new(Handle::current(), object)
}

async fn wait<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_blocking_stream_has_the_same_bytes() {
    let object = on_s3("blocking/same", &Options::default()).await;
    wait(move || {
        assert_eq!(object.size(), SIZE as u64);
        for (offset, len) in [(0, SIZE), (SIZE - 1, 1), (1_234_567, 3_000_000), (5, 0)] {
            let mut found = Vec::new();
            let mut stream = object.stream(offset as u64, len as u64).expect("within it");
            stream.read_to_end(&mut found).expect("reads");
            assert!(found == sample(SIZE)[offset..offset + len], "{offset} {len}");
        }
        let error = object.stream(1, SIZE as u64).err().expect("outside");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_parser_holds_the_network_back() {
    let options = Options::default();
    let object = on_s3("blocking/slow", &options).await;
    let stream = wait(move || {
        let mut stream = object.stream(0, SIZE as u64).expect("within it");
        stream.read_exact(&mut [0]).expect("reads");
        stream
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ahead = options.meter.bytes();
    assert!((1_000_000..2_500_000).contains(&ahead), "{ahead} bytes read ahead");
    drop(stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(options.meter.bytes(), ahead, "a dropped stream reads no further");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_problem_of_a_broken_stream_reaches_the_parser() {
    let weed = weed::weed().await;
    weed.put(&format!("/buckets/{}/blocking/broken", weed::BUCKET), &sample(100_000));
    let proxy = Proxy::start(weed.s3, vec![Act::Pass], Act::Close(1000)).await;
    let object = open_file(&weed::s3(proxy.port, "blocking/broken"), &quick()).await.expect("opens");
    let object = BlockingObject::new(Handle::current(), object);
    let error = wait(move || {
        let mut stream = object.stream(0, 100_000).expect("within it");
        stream.read_to_end(&mut Vec::new()).expect_err("broken")
    });
    assert_eq!(problem_of(error.await).expect("a problem").code, "connection_broken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_folder_is_listed_and_opened_from_a_thread() {
    let weed = weed::weed().await;
    weed.put(&format!("/buckets/{}/blocking/folder/a/b", weed::BUCKET), b"ab");
    let local = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(local.path().join("a")).expect("a folder");
    std::fs::write(local.path().join("a/b"), b"ab").expect("written");
    for access in [weed::s3(weed.s3, "blocking/folder/"), Access::Local { path: local.path().into() }] {
        let folder = open_folder(&access, &Options::default()).await.expect("opens");
        let folder = BlockingFolder::new(Handle::current(), folder);
        wait(move || {
            let entries = folder.list().expect("lists");
            assert_eq!(entries.len(), 1);
            let object = folder.open(&entries[0].name).expect("opens");
            let mut found = String::new();
            object.stream(0, 2).and_then(|mut stream| stream.read_to_string(&mut found)).expect("reads");
            assert_eq!(found, "ab");
        })
        .await;
    }
}

#[test]
fn a_local_file_needs_no_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.zip");
    std::fs::write(&path, sample(1000)).expect("written");
    let file = LocalFile::open(&path, &Options::default()).expect("opens");
    let object = BlockingObject::from(file);
    let mut found = Vec::new();
    object.stream(100, 800).and_then(|mut stream| stream.read_to_end(&mut found)).expect("reads");
    assert_eq!(found, sample(1000)[100..900]);
}
