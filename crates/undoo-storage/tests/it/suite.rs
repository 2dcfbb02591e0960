//! What every storage must do, run against each of them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use undoo_core::Kind;
use undoo_storage::{Access, Entry, Options, Storage};

use crate::{
    open_file, open_folder, read, read_problem, sample,
    servers::{self, Server},
    weed::{self, BUCKET, Weed},
};

/// A storage of one kind, with a place in it that no other test uses.
pub(crate) enum Store {
    Local(tempfile::TempDir),
    Http(&'static Weed, String),
    S3(&'static Weed, String),
    Sftp(Server),
    Ftp(Server),
}

impl Store {
    pub(crate) async fn sftp(_: &str) -> Self {
        Self::Sftp(Server::sshd())
    }

    pub(crate) async fn ftp(_: &str) -> Self {
        Self::Ftp(Server::vsftpd("", None))
    }

    /// How long two versions of one length must lie apart to be told from each other.
    fn grain(&self) -> Duration {
        match self {
            // Time stamps of files have the grain of the kernel's tick, those of the protocols seconds.
            Self::Local(_) | Self::Http(..) | Self::S3(..) => Duration::from_millis(20),
            Self::Sftp(_) | Self::Ftp(_) => Duration::from_millis(1100),
        }
    }

    /// As a place to keep objects in.
    pub(crate) fn storage(&self, options: &Options) -> Arc<dyn Storage> {
        let folder = match self {
            Self::S3(..) => self.folder("root"),
            _ => self.access("root"),
        };
        folder.storage(options).expect("a storage")
    }

    pub(crate) async fn local(_: &str) -> Self {
        Self::Local(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) async fn http(test: &str) -> Self {
        Self::Http(weed::weed().await, format!("/suite/{test}"))
    }

    pub(crate) async fn s3(test: &str) -> Self {
        Self::S3(weed::weed().await, format!("suite/{test}"))
    }

    async fn put(&self, name: &str, content: &[u8]) {
        match self {
            Self::Local(folder) => {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, content).expect("written");
            }
            Self::Http(weed, at) => weed.put(&format!("{at}/{name}"), content),
            Self::S3(weed, at) => weed.put(&format!("/buckets/{BUCKET}/{at}/{name}"), content),
            Self::Sftp(server) | Self::Ftp(server) => server.put(name, content),
        }
    }

    fn access(&self, name: &str) -> Access {
        match self {
            Self::Local(folder) => Access::Local { path: folder.path().join(name) },
            Self::Http(weed, at) => weed::http(weed.filer, &format!("{at}/{name}")),
            Self::S3(weed, at) => weed::s3(weed.s3, &format!("{at}/{name}")),
            Self::Sftp(server) => servers::sftp_access(server, name),
            Self::Ftp(server) => Access::Ftp(servers::ftp(server.port, name)),
        }
    }

    fn folder(&self, name: &str) -> Access {
        match self {
            Self::Local(folder) => Access::Local { path: PathBuf::from(folder.path()).join(name) },
            Self::Http(..) => panic!("http has no folders"),
            Self::S3(weed, at) => weed::s3(weed.s3, &format!("{at}/{name}/")),
            Self::Sftp(_) | Self::Ftp(_) => self.access(name),
        }
    }
}

async fn a_whole_object_reads_as_it_was_written(store: Store) {
    let content = sample(3_000_000);
    store.put("b.zip", &content).await;
    let object = open_file(&store.access("b.zip"), &Options::default()).await.expect("opens");
    assert_eq!(object.size(), content.len() as u64);
    assert!(object.version().is_some());
    assert!(read(&object, 0, object.size()).await.expect("reads") == content);
}

async fn any_range_reads_as_it_was_written(store: Store) {
    let content = sample(700_001);
    store.put("b.zip", &content).await;
    let object = open_file(&store.access("b.zip"), &Options::default()).await.expect("opens");
    let mut random = fastrand::Rng::with_seed(7);
    let mut ranges: Vec<_> = (0..20)
        .map(|_| {
            let start = random.usize(..content.len());
            start..random.usize(start..=content.len())
        })
        .collect();
    ranges.extend([0..0, 0..1, 700_000..700_001, 700_001..700_001]);
    for range in ranges {
        let found = read(&object, range.start as u64, range.len() as u64).await.expect("reads");
        assert!(found == content[range.clone()], "{range:?}");
    }
}

async fn a_range_past_the_end_is_an_error(store: Store) {
    store.put("b.zip", &sample(100)).await;
    let object = open_file(&store.access("b.zip"), &Options::default()).await.expect("opens");
    for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let error = read(&object, offset, len).await.expect_err("outside");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset} {len}");
    }
}

async fn an_empty_object_opens_and_reads_as_nothing(store: Store) {
    store.put("empty", b"").await;
    let object = open_file(&store.access("empty"), &Options::default()).await.expect("opens");
    assert_eq!(object.size(), 0);
    assert!(read(&object, 0, 0).await.expect("reads").is_empty());
}

async fn a_missing_object_is_named(store: Store) {
    store.put("other", b"x").await;
    let access = store.access("none.zip");
    let problem = open_file(&access, &Options::default()).await.err().expect("is missing");
    assert_eq!((problem.kind, problem.code), (Kind::Missing, "backup_missing"));
    assert!(problem.message.contains("none.zip"), "{}", problem.message);
}

async fn an_object_replaced_between_two_reads_is_a_conflict(store: Store) {
    store.put("b.zip", &sample(100_000)).await;
    let object = open_file(&store.access("b.zip"), &Options::default()).await.expect("opens");
    read(&object, 0, 1000).await.expect("reads");
    tokio::time::sleep(store.grain()).await;
    let mut other = sample(100_000);
    other[500] ^= 1;
    store.put("b.zip", &other).await;
    let problem = read_problem(&object, 0, 1000).await;
    assert_eq!((problem.kind, problem.code), (Kind::Conflict, "backup_changed_while_read"));
}

async fn the_meter_counts_exactly_what_was_read(store: Store) {
    store.put("b.zip", &sample(1_000_000)).await;
    let options = Options::default();
    let object = open_file(&store.access("b.zip"), &options).await.expect("opens");
    let (bytes, requests) = (options.meter.bytes(), options.meter.requests());
    assert!(bytes <= 1 && requests <= 1, "opening read {bytes} bytes in {requests} requests");
    read(&object, 10, 50_000).await.expect("reads");
    read(&object, 999_999, 1).await.expect("reads");
    assert_eq!(options.meter.bytes() - bytes, 50_001);
    assert_eq!(options.meter.requests() - requests, 2);
}

async fn a_bandwidth_limit_slows_reading_down(store: Store) {
    store.put("b.zip", &sample(300_000)).await;
    let bandwidth = Some(undoo_storage::Bandwidth::new(1_000_000));
    let options = Options { bandwidth, ..Options::default() };
    let object = open_file(&store.access("b.zip"), &options).await.expect("opens");
    let start = std::time::Instant::now();
    read(&object, 0, 300_000).await.expect("reads");
    assert!(start.elapsed().as_millis() >= 290, "{:?}", start.elapsed());
}

async fn a_folder_lists_and_opens_nested_names(store: Store) {
    let names = ["dump.sql", "filestore/ab/abcd", "filestore/ff/ff 0+ä%2F", "manifest.json"];
    for (index, name) in names.iter().enumerate() {
        store.put(&format!("daily/{name}"), &sample(index * 10)).await;
    }
    store.put("daily2/not-in-it", b"x").await;
    let folder = open_folder(&store.folder("daily"), &Options::default()).await.expect("opens");
    let listed = folder.list().await.expect("lists");
    let expected: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| Entry { name: (*name).into(), size: index as u64 * 10 })
        .collect();
    assert_eq!(listed, expected);
    for (index, name) in names.iter().enumerate() {
        let object = folder.open(name).await.expect(name);
        assert_eq!(read(&object, 0, object.size()).await.expect(name), sample(index * 10));
    }
    let problem = folder.open("filestore/none").await.err().expect("is missing");
    assert_eq!(problem.code, "backup_missing");
    for name in ["", "../daily2/not-in-it", "/etc/passwd", "filestore/../dump.sql", "./dump.sql"] {
        let problem = folder.open(name).await.err().expect("leads out");
        assert_eq!(problem.code, "name_leads_out", "{name}");
    }
}

async fn a_missing_folder_is_named(store: Store) {
    store.put("other", b"x").await;
    let problem = store.folder("none").open(&Options::default()).await.err().expect("is missing");
    assert_eq!((problem.kind, problem.code), (Kind::Missing, "backup_missing"));
}

#[tokio::test]
async fn a_whole_bucket_is_a_folder() {
    let weed = weed::weed().await;
    weed.put(&format!("/buckets/{BUCKET}/at the root"), &[1, 2]);
    let folder = open_folder(&weed::s3(weed.s3, ""), &Options::default()).await.expect("opens");
    let entry = Entry { name: "at the root".into(), size: 2 };
    assert!(folder.list().await.expect("lists").contains(&entry));
    let object = folder.open("at the root").await.expect("opens");
    assert_eq!(read(&object, 0, 2).await.expect("reads"), [1, 2]);
}

macro_rules! suite {
    ($($store:ident: $($behaviour:ident)*;)*) => {$(
        mod $store {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::Store::$store(stringify!($behaviour)).await).await;
            })*
        }
    )*};
}

suite! {
    local:
        a_whole_object_reads_as_it_was_written any_range_reads_as_it_was_written
        a_range_past_the_end_is_an_error an_empty_object_opens_and_reads_as_nothing
        a_missing_object_is_named an_object_replaced_between_two_reads_is_a_conflict
        the_meter_counts_exactly_what_was_read a_bandwidth_limit_slows_reading_down
        a_folder_lists_and_opens_nested_names a_missing_folder_is_named;
    http:
        a_whole_object_reads_as_it_was_written any_range_reads_as_it_was_written
        a_range_past_the_end_is_an_error an_empty_object_opens_and_reads_as_nothing
        a_missing_object_is_named an_object_replaced_between_two_reads_is_a_conflict
        the_meter_counts_exactly_what_was_read a_bandwidth_limit_slows_reading_down;
    s3:
        a_whole_object_reads_as_it_was_written any_range_reads_as_it_was_written
        a_range_past_the_end_is_an_error an_empty_object_opens_and_reads_as_nothing
        a_missing_object_is_named an_object_replaced_between_two_reads_is_a_conflict
        the_meter_counts_exactly_what_was_read a_bandwidth_limit_slows_reading_down
        a_folder_lists_and_opens_nested_names a_missing_folder_is_named;
    sftp:
        a_whole_object_reads_as_it_was_written any_range_reads_as_it_was_written
        a_range_past_the_end_is_an_error an_empty_object_opens_and_reads_as_nothing
        a_missing_object_is_named an_object_replaced_between_two_reads_is_a_conflict
        the_meter_counts_exactly_what_was_read a_bandwidth_limit_slows_reading_down
        a_folder_lists_and_opens_nested_names a_missing_folder_is_named;
    ftp:
        a_whole_object_reads_as_it_was_written any_range_reads_as_it_was_written
        a_range_past_the_end_is_an_error an_empty_object_opens_and_reads_as_nothing
        a_missing_object_is_named an_object_replaced_between_two_reads_is_a_conflict
        the_meter_counts_exactly_what_was_read a_bandwidth_limit_slows_reading_down
        a_folder_lists_and_opens_nested_names a_missing_folder_is_named;
}
