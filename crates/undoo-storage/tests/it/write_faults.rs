//! Writing through connections that break and servers that fail: what comes of it is the whole object or
//! nothing, and nothing begun is left.

use std::{sync::Arc, time::Duration};

use undoo_core::{Kind, Result};
use undoo_storage::{Access, Options, Stat, Storage};

use crate::{
    proxy::{Act, Proxy, Tunnel, answer, s3_refusal},
    quick, read, sample,
    servers::{self, Server},
    weed,
};

const PART: usize = 5 * 1024 * 1024;
/// Two parts: begin, part, part, complete.
const SIZE: usize = PART + 100_000;

/// One part after the other, so that an act of a script meets the same request each time.
fn one_by_one() -> Options {
    Options { part_size: PART, concurrency: 1, ..quick() }
}

fn on_s3(port: u16, name: &str) -> Arc<dyn Storage> {
    let access = weed::s3(port, &format!("write-faults/{name}/"));
    access.storage(&one_by_one()).expect("a storage")
}

async fn write(storage: &Arc<dyn Storage>) -> Result<Stat> {
    let mut upload = storage.write("b.zip", None)?;
    upload.write(&sample(SIZE)).await?;
    upload.finish().await
}

async fn is_whole(storage: &Arc<dyn Storage>, what: &str) {
    let object = storage.open("b.zip").await.expect(what);
    assert!(read(&object, 0, object.size()).await.expect(what) == sample(SIZE), "{what}: other bytes");
    assert_eq!(storage.unfinished("").await.expect(what), [], "{what}");
}

async fn is_empty(storage: &Arc<dyn Storage>, what: &str) {
    assert_eq!(storage.list("").await.expect(what), [], "{what}");
    assert_eq!(storage.unfinished("").await.expect(what), [], "{what}");
}

/// Each request of an upload meets the act once.
async fn survives(name: &str, act: Act) {
    let weed = weed::weed().await;
    for at in 0..4 {
        let name = format!("{name}-{at}");
        let mut script = vec![Act::Pass; at];
        script.push(act.clone());
        let proxy = Proxy::start(weed.s3, script, Act::Pass).await;
        write(&on_s3(proxy.port, &name)).await.unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
        is_whole(&on_s3(weed.s3, &name), &name).await;
    }
}

#[tokio::test]
async fn an_upload_survives_answers_that_are_lost() {
    survives("lost", Act::Reset(0)).await;
}

#[tokio::test]
async fn an_upload_survives_answers_that_are_cut() {
    survives("cut", Act::Close(20)).await;
}

#[tokio::test]
async fn an_upload_survives_connections_that_are_reset_on_the_way_there() {
    survives("reset", Act::ResetContent(50_000)).await;
}

#[tokio::test]
async fn an_upload_survives_servers_that_take_no_more_or_fall_silent() {
    survives("stalled-content", Act::StallContent(50_000)).await;
    survives("stalled-answer", Act::Stall(0)).await;
}

#[tokio::test]
async fn an_upload_survives_a_server_that_is_busy_or_fails_for_a_while() {
    survives("failed", answer(500, "", "")).await;
    survives("busy", s3_refusal(503, "SlowDown")).await;
    survives("digest", s3_refusal(400, "BadDigest")).await;
}

#[tokio::test]
async fn a_completion_that_fails_with_status_200_is_asked_again() {
    let weed = weed::weed().await;
    let error = "<Error><Code>InternalError</Code><Message>No.</Message></Error>";
    let script = vec![Act::Pass, Act::Pass, Act::Pass, answer(200, "", error)];
    let proxy = Proxy::start(weed.s3, script, Act::Pass).await;
    write(&on_s3(proxy.port, "two-hundred")).await.expect("is finished");
    is_whole(&on_s3(weed.s3, "two-hundred"), "two-hundred").await;
}

#[tokio::test]
async fn a_line_on_which_a_part_takes_longer_than_the_time_out_is_slow_and_not_broken() {
    let weed = weed::weed().await;
    let proxy = Proxy::start(weed.s3, Vec::new(), Act::Slow(4_000_000)).await;
    write(&on_s3(proxy.port, "slow")).await.expect("is finished");
    is_whole(&on_s3(weed.s3, "slow"), "slow").await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_in_the_middle_leaves_nothing() {
    let weed = weed::weed().await;
    for at in 1..4 {
        let name = format!("denied-{at}");
        let mut script = vec![Act::Pass; at];
        script.push(s3_refusal(403, "AccessDenied"));
        let proxy = Proxy::start(weed.s3, script, Act::Pass).await;
        let problem = write(&on_s3(proxy.port, &name)).await.expect_err("is denied");
        assert_eq!((problem.kind, problem.code), (Kind::Denied, "no_permission"), "{name}");
        assert!(problem.is_permanent() && problem.message.starts_with("cannot write"), "{}", problem.message);
        is_empty(&on_s3(weed.s3, &name), &name).await;
    }
}

#[tokio::test]
async fn after_credentials_expire_in_the_middle_new_ones_find_what_is_left() {
    let weed = weed::weed().await;
    let expired = s3_refusal(400, "ExpiredToken");
    let proxy = Proxy::start(weed.s3, vec![Act::Pass, Act::Pass], expired).await;
    let problem = write(&on_s3(proxy.port, "expired")).await.expect_err("is expired");
    assert_eq!((problem.kind, problem.code), (Kind::Denied, "token_expired"));
    let storage = on_s3(weed.s3, "expired");
    assert_eq!(storage.list("").await.expect("lists"), []);
    let left = storage.unfinished("").await.expect("lists");
    assert_eq!(left.len(), 1);
    storage.discard(&left[0]).await.expect("is removed");
    is_empty(&storage, "expired").await;
}

#[tokio::test]
async fn a_server_that_fails_for_good_is_given_up() {
    let weed = weed::weed().await;
    let proxy = Proxy::start(weed.s3, vec![Act::Pass], answer(500, "", "")).await;
    let problem = write(&on_s3(proxy.port, "for-good")).await.expect_err("fails");
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "storage_failed"));
    assert!(!problem.is_permanent());
    assert_eq!(on_s3(weed.s3, "for-good").list("").await.expect("lists"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_by_sftp_goes_on_over_another_connection() {
    let server = Server::sshd();
    let options = Options { part_size: 1024 * 1024, stall_timeout: Duration::from_secs(5), ..quick() };
    let tunnel = Tunnel::start(server.port, vec![2_000, 1_500_000, 2_700_000]).await;
    let broken = Access::Sftp(servers::sftp(&server, tunnel.port, "root")).storage(&options);
    write(&broken.expect("a storage")).await.expect("is finished");
    is_whole(&servers::sftp_access(&server, "root").storage(&options).expect("a storage"), "sftp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_by_ftp_goes_on_over_another_connection() {
    let server = Server::vsftpd("", None);
    let options = Options { part_size: 1024 * 1024, stall_timeout: Duration::from_secs(5), ..quick() };
    // Where a login, a transfer and a rename are; each transfer costs some 50 bytes.
    for resets in [vec![30], vec![150], vec![200, 250], vec![300], vec![400], vec![450, 120]] {
        let what = format!("{resets:?}");
        let tunnel = Tunnel::start(server.port, resets).await;
        let broken = Access::Ftp(servers::ftp(tunnel.port, "root")).storage(&options);
        write(&broken.expect("a storage")).await.unwrap_or_else(|problem| panic!("{what}: {problem:?}"));
        let storage = Access::Ftp(servers::ftp(server.port, "root")).storage(&options).expect("a storage");
        is_whole(&storage, &what).await;
        storage.delete("b.zip").await.expect("is removed");
    }
}
