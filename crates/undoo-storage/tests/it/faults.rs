//! Connections that break, servers that fail for a while, and when reading gives up.

use std::time::Instant;

use undoo_core::{Kind, Problem};
use undoo_storage::{Access, Options, Retry};

use crate::{
    open_file,
    proxy::{Act, Proxy, answer, s3_refusal},
    quick, read, read_problem, sample, weed,
};

const SIZE: usize = 2_500_000;

/// The same file over both protocols, each through a proxy that plays the script.
async fn both(name: &str, script: &[Act], then: Act) -> Vec<(Proxy, Access)> {
    let weed = weed::weed().await;
    let key = format!("faults/{name}");
    weed.put(&format!("/buckets/{}/{key}", weed::BUCKET), &sample(SIZE));
    let http = Proxy::start(weed.filer, script.to_vec(), then.clone()).await;
    let s3 = Proxy::start(weed.s3, script.to_vec(), then).await;
    let http_access = weed::http(http.port, &format!("/buckets/{}/{key}", weed::BUCKET));
    let s3_access = weed::s3(s3.port, &key);
    vec![(http, http_access), (s3, s3_access)]
}

/// Opens, reads all, and checks that no byte is missing, doubled or out of place.
async fn reads_whole(access: &Access, options: &Options) {
    let object = open_file(access, options).await.expect("opens");
    let opening = options.meter.bytes();
    let found = read(&object, 0, object.size()).await.unwrap_or_else(|error| panic!("{access}: {error:?}"));
    assert!(found == sample(SIZE), "{access}: other bytes");
    assert_eq!(options.meter.bytes() - opening, SIZE as u64, "{access}: nothing is read twice");
}

/// The first byte that each request of the read asked for.
fn starts(proxy: &Proxy) -> Vec<usize> {
    let start = |range: &String| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok();
    proxy.ranges()[1..].iter().filter_map(start).collect()
}

#[tokio::test]
async fn a_read_goes_on_at_the_byte_where_its_connection_was_reset() {
    let script = [Act::Pass, Act::Reset(400_000), Act::Reset(700_000)];
    for (proxy, access) in both("reset", &script, Act::Pass).await {
        reads_whole(&access, &quick()).await;
        let starts = starts(&proxy);
        assert_eq!(starts.len(), 3, "{access}: {starts:?}");
        assert!(starts[0] == 0 && starts[1] <= 400_000 && starts[2] <= starts[1] + 700_000, "{starts:?}");
        assert!(starts.is_sorted());
    }
}

#[tokio::test]
async fn a_read_goes_on_where_an_answer_ended_early() {
    let script = [Act::Pass, Act::Close(500_000)];
    for (proxy, access) in both("close", &script, Act::Pass).await {
        reads_whole(&access, &quick()).await;
        let starts = starts(&proxy);
        assert!(starts.len() == 2 && starts[1] > 490_000 && starts[1] < 500_000, "{access}: {starts:?}");
    }
}

#[tokio::test]
async fn a_read_goes_on_where_the_server_fell_silent() {
    let script = [Act::Pass, Act::Stall(500_000), Act::Stall(0)];
    for (proxy, access) in both("stall", &script, Act::Pass).await {
        let start = Instant::now();
        reads_whole(&access, &quick()).await;
        assert!(start.elapsed().as_millis() >= 1000, "both stalls were waited for");
        assert_eq!(starts(&proxy).len(), 3, "{access}");
    }
}

#[tokio::test]
async fn a_server_that_fails_for_a_while_is_asked_again() {
    let busy = s3_refusal(503, "SlowDown");
    let failed = answer(500, "", "");
    // Opening meets the first two, reading the others.
    let script = [failed.clone(), busy.clone(), Act::Pass, busy, failed, Act::Reset(0)];
    for (proxy, access) in both("busy", &script, Act::Pass).await {
        reads_whole(&access, &quick()).await;
        assert_eq!(proxy.ranges().len(), 7, "{access}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_every_read_is_given_up_after_the_attempts() {
    let script = [Act::Pass];
    for (proxy, access) in both("broken", &script, Act::Reset(1000)).await {
        let object = open_file(&access, &quick()).await.expect("opens");
        let problem = read_problem(&object, 0, object.size()).await;
        assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "connection_broken"), "{access}");
        assert_eq!(proxy.ranges().len(), 1 + 4, "{access}");
    }
}

#[tokio::test]
async fn a_long_read_that_moves_on_is_not_given_up_for_the_number_of_its_failures() {
    // Each connection gains more than the megabyte that forgives its failure.
    let script = [Act::Pass, Act::Close(1_100_000), Act::Close(1_100_000)];
    let retry = Retry { attempts: 2, ..quick().retry };
    for (_proxy, access) in both("long", &script, Act::Pass).await {
        reads_whole(&access, &Options { retry, ..quick() }).await;
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_read_ends_it_at_once() {
    let script = [Act::Pass, Act::Close(500_000)];
    for (proxy, access) in both("denied", &script, s3_refusal(403, "AccessDenied")).await {
        let object = open_file(&access, &quick()).await.expect("opens");
        let problem = read_problem(&object, 0, object.size()).await;
        assert_eq!((problem.kind, problem.code), (Kind::Denied, "no_permission"), "{access}");
        assert_eq!(proxy.ranges().len(), 3, "{access}");
    }
}

#[tokio::test]
async fn a_version_put_there_while_a_read_is_resumed_is_a_conflict() {
    let weed = weed::weed().await;
    let script = [Act::Pass, Act::Close(500_000)];
    for (_proxy, access) in both("swapped", &script, Act::Pass).await {
        let object = open_file(&access, &quick()).await.expect("opens");
        weed.put(&format!("/buckets/{}/faults/swapped", weed::BUCKET), &vec![7; SIZE]);
        let problem = read_problem(&object, 0, object.size()).await;
        assert_eq!(problem.code, "backup_changed_while_read", "{access}");
        weed.put(&format!("/buckets/{}/faults/swapped", weed::BUCKET), &sample(SIZE));
    }
}

async fn http_problem(script: Vec<Act>) -> Problem {
    let proxy = Proxy::start(1, script, answer(500, "", "")).await;
    let access = weed::http(proxy.port, "/b.zip");
    match open_file(&access, &quick()).await {
        Ok(object) => read_problem(&object, 0, object.size()).await,
        Err(problem) => problem,
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_told_at_opening() {
    let problem = http_problem(vec![answer(200, "ETag: \"a\"\r\n", "the whole file")]).await;
    assert_eq!((problem.kind, problem.code), (Kind::Invalid, "no_ranges"));
}

#[tokio::test]
async fn without_an_etag_the_date_pins_the_version() {
    let part =
        |date: &str| answer(206, &format!("Content-Range: bytes 0-0/1\r\nLast-Modified: {date}\r\n"), "x");
    let old = part("Sun, 22 Nov 2026 10:00:00 GMT");
    let new = part("Sun, 22 Nov 2026 11:00:00 GMT");
    let problem = http_problem(vec![old, new]).await;
    assert_eq!(problem.code, "backup_changed_while_read");
}

#[tokio::test]
async fn a_part_from_another_place_is_never_passed_on() {
    let opened = answer(206, "Content-Range: bytes 0-0/3\r\n", "x");
    let shifted = answer(206, "Content-Range: bytes 1-2/3\r\n", "yz");
    assert_eq!(http_problem(vec![opened, shifted]).await.code, "storage_unexpected");
}
