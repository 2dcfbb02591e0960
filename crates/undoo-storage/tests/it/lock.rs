//! Object Lock, on a SeaweedFS that has it: backups are locked as they are written, and nothing else is.

use std::time::{Duration, SystemTime};

use undoo_storage::{Access, Options, Outcome, S3Access, StepName, Storage, backup_key, test};

use crate::{
    proxy::{Proxy, s3_refusal},
    quick, sample, weed,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn storage(port: u16, bucket: &str, lock: &str) -> std::sync::Arc<dyn Storage> {
    let lock = Some(lock.parse().expect("a lock"));
    let root = format!("{:x}/", fastrand::u64(..));
    let access = S3Access { bucket: bucket.into(), lock, ..weed::s3_with(port, &root, weed::KEY) };
    Access::S3(access).storage(&Options { part_size: 5 << 20, ..quick() }).expect("a storage")
}

async fn put(storage: &dyn Storage, key: &str, len: usize) -> undoo_core::Result<undoo_storage::Stat> {
    let mut upload = storage.write(key, None)?;
    upload.write(&sample(len)).await?;
    upload.finish().await
}

#[tokio::test]
async fn a_backup_is_locked_from_the_moment_it_is_written_and_nothing_else_is() {
    let storage = storage(weed::weed().await.s3, weed::LOCKED, "governance:2d");
    // In one request, and in parts.
    for (name, len) in [("small.zip", 100_000), ("large.zip", 11 << 20)] {
        let key = backup_key("acme", "prod", name).expect("a key");
        let before = SystemTime::now();
        put(&*storage, &key, len).await.expect("written");
        let until = storage.locked_until(&key).await.expect("told").expect("locked");
        // Dates have whole seconds.
        let (least, most) = (before + 2 * DAY - Duration::from_secs(1), SystemTime::now() + 2 * DAY);
        assert!((least..=most).contains(&until), "{name}: {until:?}");
    }
    put(&*storage, "elsewhere.txt", 10).await.expect("written");
    assert_eq!(storage.locked_until("elsewhere.txt").await.expect("told"), None);
    let report = test(&*storage).await;
    assert!(report.ok, "{report:?}");
    let lock = report.steps.iter().find(|step| step.name == StepName::Lock).expect("tried");
    assert!(matches!(lock.outcome, Outcome::Ok), "{lock:?}");
}

#[tokio::test]
async fn a_bucket_without_object_lock_is_named() {
    let storage = storage(weed::weed().await.s3, weed::BUCKET, "compliance:1d");
    for (name, len) in [("small.zip", 1000), ("large.zip", 11 << 20)] {
        let key = backup_key("acme", "unlocked", name).expect("a key");
        let problem = put(&*storage, &key, len).await.expect_err("refused");
        assert_eq!(problem.code, "object_lock_missing", "{problem:?}");
        assert_eq!(storage.stat(&key).await.expect("told"), None);
    }
    let problem = test(&*storage).await.problem().expect("a step failed");
    assert_eq!(problem.code, "object_lock_missing");
}

#[tokio::test]
async fn what_the_provider_holds_is_told_as_locked() {
    let proxy = Proxy::start(1, Vec::new(), s3_refusal(403, "ObjectLocked")).await;
    let storage = storage(proxy.port, weed::BUCKET, "governance:1d");
    let problem = storage.delete("backups/acme/prod/b.zip").await.expect_err("locked");
    assert_eq!(problem.code, "object_locked");
    assert!(problem.is_permanent());
}
