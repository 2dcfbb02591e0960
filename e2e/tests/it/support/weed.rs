//! What the tests put into the SeaweedFS server that all tests share, and how `undoo` comes to it.

use undoo_testing::weed::{BUCKET, KEY, Weed};

/// The secret key that may read everything.
pub(crate) const SECRET: &str = KEY.1;

/// The server, started at the first call.
pub(crate) fn weed() -> &'static Weed {
    Weed::shared(env!("CARGO_TARGET_TMPDIR"))
}

/// Puts an object into the bucket.
pub(crate) fn put(key: &str, content: &[u8]) {
    weed().put(&format!("/buckets/{BUCKET}/{key}"), content);
}

/// An object over plain HTTP.
pub(crate) fn http(key: &str) -> String {
    format!("http://127.0.0.1:{}/buckets/{BUCKET}/{key}", weed().filer)
}

/// The variables that give access over S3.
pub(crate) fn variables() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", KEY.0.into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", weed().s3)),
        ("AWS_REGION", "us-east-1".into()),
    ]
}
