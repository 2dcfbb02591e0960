//! Ways to the real SeaweedFS server that all tests share.

use undoo_storage::{Access, HttpAccess, Provider, S3Access, S3Credentials};
pub(crate) use undoo_testing::weed::{BUCKET, Weed};
use undoo_testing::weed::{KEY, STRANGER};

/// The server, started at the first call.
pub(crate) async fn weed() -> &'static Weed {
    let started = tokio::task::spawn_blocking(|| Weed::shared(env!("CARGO_TARGET_TMPDIR")));
    started.await.expect("SeaweedFS starts")
}

/// A file under `/buckets` or elsewhere, over plain HTTP through `port`.
pub(crate) fn http(port: u16, path: &str) -> Access {
    Access::Http(HttpAccess { url: format!("http://127.0.0.1:{port}{path}").into() })
}

/// An object or folder of [`BUCKET`] through `port`.
pub(crate) fn s3(port: u16, key: &str) -> Access {
    Access::S3(s3_with(port, key, KEY))
}

/// The same with a key that has no right to it.
pub(crate) fn s3_as_stranger(port: u16, key: &str) -> Access {
    Access::S3(s3_with(port, key, STRANGER))
}

pub(crate) fn s3_with(port: u16, key: &str, (id, secret): (&str, &str)) -> S3Access {
    S3Access {
        provider: Provider::Aws,
        path_style: None,
        bucket: BUCKET.into(),
        key: key.into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: None,
        credentials: S3Credentials {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: None,
        },
    }
}
