//! Objects and prefixes in S3 and what speaks its protocol (MinIO, R2, B2, SeaweedFS).
//!
//! OpenDAL signs and builds the requests; they go through our own client, since reading needs the
//! server's error codes, exact counts and resumption at the byte. OpenDAL's own retries stay off.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use opendal::{HttpTransporter, OperationContext, Operator, services::S3};
use secrecy::ExposeSecret;
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::S3Access,
    client::{Client, Redirects, from_opendal},
    fault::{Cause, Fault},
    folder::Entry,
    http_source::Version,
    options::Options,
    resume::Content,
};

/// What S3 itself takes for a request without a region, and what other servers do not look at.
const DEFAULT_REGION: &str = "us-east-1";

/// A bucket with the means to read it.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) client: Client,
    operator: Operator,
}

impl Bucket {
    pub(crate) fn new(access: &S3Access, options: &Options) -> Result<Self> {
        let credentials = &access.credentials;
        let mut service = S3::default()
            .bucket(&access.bucket)
            .region(access.region.as_deref().unwrap_or(DEFAULT_REGION))
            .access_key_id(&credentials.access_key_id)
            .secret_access_key(credentials.secret_access_key.expose_secret())
            // An order is complete: nothing of the machine that carries it out may slip in.
            .disable_config_load()
            .disable_ec2_metadata();
        if let Some(token) = &credentials.session_token {
            service = service.session_token(token.expose_secret());
        }
        match &access.endpoint {
            Some(endpoint) => service = service.endpoint(endpoint),
            // A dot in the name would not match Amazon's certificate as a host name.
            None if !access.bucket.contains('.') => service = service.enable_virtual_host_style(),
            None => {}
        }
        let client = Client::new(options, Redirects::Refuse)?;
        let operator = Operator::new(service).map_err(|error| {
            Problem::new(
                Kind::Invalid,
                "storage_settings",
                format!("the settings for bucket {} do not fit together", access.bucket),
                "Check the bucket's name, the endpoint and the region.",
            )
            .caused_by(error)
        })?;
        let transport = HttpTransporter::new(client.clone());
        let context = OperationContext::from_parts(transport, Default::default());
        Ok(Self { client, operator: operator.with_context(context) })
    }

    pub(crate) fn object(&self, key: &str) -> S3Source {
        S3Source { bucket: self.clone(), key: Arc::from(key) }
    }

    /// Everything under `prefix` (empty, or ending in a slash), at most `limit` objects.
    pub(crate) async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<Entry>, Fault> {
        let from_opendal = |error: opendal::Error| from_opendal(&error);
        let start = if prefix.is_empty() { "/" } else { prefix };
        let lister = self.operator.lister_with(start).recursive(true).await.map_err(from_opendal)?;
        let found = lister.map_err(from_opendal).try_filter_map(async |entry| {
            // Keys that end in a slash stand for folders; they have no content.
            let name = entry.path().strip_prefix(prefix).filter(|name| !name.is_empty());
            let name = name.filter(|name| !name.ends_with('/'));
            let size = entry.metadata().content_length();
            Ok(name.map(|name| Entry { name: name.to_owned(), size }))
        });
        found.take(limit).try_collect().await
    }
}

/// One object in a bucket.
#[derive(Clone)]
pub(crate) struct S3Source {
    pub(crate) bucket: Bucket,
    key: Arc<str>,
}

impl S3Source {
    /// Which version is there now.
    pub(crate) async fn version(&self) -> Result<Version, Fault> {
        match self.bucket.operator.stat(&self.key).await {
            Ok(found) if found.etag().is_none() => {
                Err(Fault::unexpected("the server does not tell versions of an object apart (no ETag)"))
            }
            Ok(found) => Ok(Version {
                size: found.content_length(),
                etag: found.etag().map(str::to_owned),
                last_modified: None,
            }),
            Err(error) => {
                let fault = from_opendal(&error);
                if fault.may_pass(true) {
                    return Err(fault);
                }
                // The answer to HEAD has no body, so it cannot say whether key, bucket or clock is wrong.
                Err(self.content(None, 0, 1).await.err().unwrap_or(fault))
            }
        }
    }

    /// The bytes `[offset, offset + len)` of exactly that version.
    pub(crate) async fn get(&self, version: &Version, offset: u64, len: u64) -> Result<Content, Fault> {
        self.content(version.etag.as_deref(), offset, len).await
    }

    async fn content(&self, etag: Option<&str>, offset: u64, len: u64) -> Result<Content, Fault> {
        let mut reader = self.bucket.operator.reader_with(&self.key);
        if let Some(etag) = etag {
            reader = reader.if_match(etag);
        }
        let reader = reader.await.map_err(|error| from_opendal(&error))?;
        let content = reader.into_bytes_stream(offset..offset.saturating_add(len)).await;
        let mut content = content.map_err(|error| from_opendal(&error))?;
        let answer = content.metadata().await.map_err(|error| from_opendal(&error))?;
        // Not every server that calls itself S3 heeds If-Match.
        if etag.is_some_and(|etag| answer.etag().is_some_and(|now| now != etag)) {
            return Err(Cause::Changed.into());
        }
        Ok(content.map_err(|error| from_opendal(&error)).boxed())
    }
}
