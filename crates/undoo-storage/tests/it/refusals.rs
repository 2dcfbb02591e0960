//! What a person is told when a storage cannot be opened, and that it is told at once.

use undoo_core::{Kind, Problem};
use undoo_storage::{Access, Location, Options};

use crate::{
    proxy::{Act, Proxy, s3_refusal},
    weed,
};

async fn refused(access: &Access) -> (Problem, u64) {
    // The default options: a cause that is not told at once runs into the test's patience.
    let options = Options::default();
    let problem = access.open(&options).await.err().expect("cannot be opened");
    (problem, options.meter.requests())
}

async fn code(access: &Access) -> (Kind, &'static str) {
    let (problem, requests) = refused(access).await;
    assert!(requests <= 2, "{}: {requests} requests", problem.code);
    assert!(!problem.remedy.is_empty());
    (problem.kind, problem.code)
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_key_are_wrong_keys() {
    let weed = weed::weed().await;
    for key in [("undoo", "wrong"), ("nobody", "undoo-secret")] {
        for path in ["b.zip", "folder/"] {
            let access = Access::S3(weed::s3_with(weed.s3, path, key));
            assert_eq!(code(&access).await, (Kind::Denied, "wrong_key"), "{key:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_key_without_the_right_has_no_permission() {
    let weed = weed::weed().await;
    weed.put(&format!("/buckets/{}/denied.zip", weed::BUCKET), &[1]);
    let access = weed::s3_as_stranger(weed.s3, "denied.zip");
    assert_eq!(code(&access).await, (Kind::Denied, "no_permission"));
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    let weed = weed::weed().await;
    let Access::S3(mut access) = weed::s3(weed.s3, "none.zip") else { unreachable!() };
    assert_eq!(code(&Access::S3(access.clone())).await, (Kind::Missing, "backup_missing"));
    access.bucket = "no-such-bucket".into();
    assert_eq!(code(&Access::S3(access)).await, (Kind::Missing, "bucket_missing"));
}

#[tokio::test]
async fn each_refusal_of_s3_has_its_own_code() {
    for (status, refusal, expected) in [
        (403, "RequestTimeTooSkewed", "clock_off"),
        (400, "ExpiredToken", "token_expired"),
        (403, "InvalidObjectState", "backup_in_cold_storage"),
        (301, "PermanentRedirect", "wrong_region"),
    ] {
        let proxy = Proxy::start(1, Vec::new(), s3_refusal(status, refusal)).await;
        assert_eq!(code(&weed::s3(proxy.port, "b.zip")).await.1, expected);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_at_once() {
    let access = Location::parse("http://storage.invalid/b.zip").and_then(Location::with_environment);
    let (problem, requests) = refused(&access.expect("an address")).await;
    assert_eq!((problem.code, requests), ("name_not_resolved", 1));
    assert!(problem.message.contains("storage.invalid"));
}

#[tokio::test]
async fn a_closed_port_is_told_at_once() {
    assert_eq!(code(&weed::http(1, "/b.zip")).await.1, "connection_refused");
    assert_eq!(code(&weed::s3(1, "b.zip")).await.1, "connection_refused");
}

#[test]
fn a_machine_without_certificate_authorities_reads_all_the_same() {
    // The client is set up before it connects, and where it finds no authority at all it is not.
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "refusals::a_closed_port_is_told_at_once"])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .expect("this test runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_server_without_tls_behind_an_https_address_is_told_at_once() {
    let weed = weed::weed().await;
    let address = format!("https://127.0.0.1:{}/b.zip", weed.filer);
    let access = Location::parse(&address).and_then(Location::with_environment).expect("an address");
    assert_eq!(code(&access).await, (Kind::Denied, "tls_failed"));
}

#[tokio::test]
async fn no_secret_of_an_address_is_in_a_problem() {
    let proxy = Proxy::start(1, Vec::new(), Act::Close(0)).await;
    let address = format!("http://me:geheim@127.0.0.1:{}/b.zip?signature=abcd", proxy.port);
    let options = crate::quick();
    let access = Location::parse(&address).and_then(Location::with_environment).expect("an address");
    let problem = access.open(&options).await.err().expect("cannot be opened");
    let shown = format!("{problem:?} {problem}");
    assert!(!shown.contains("geheim") && !shown.contains("abcd"), "{shown}");
}
