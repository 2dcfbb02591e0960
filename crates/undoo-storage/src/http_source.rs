//! A file behind an http or https address.
//!
//! Opened by asking for its first byte rather than by HEAD: signed addresses allow one method only, and
//! the answer shows whether the server knows ranges, how long the file is and which version it has.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::{
    Method, StatusCode, Url,
    header::{
        ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MATCH,
        IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
};

use crate::{
    client::{Client, content_range, refusal, text},
    fault::{Cause, Fault},
    resume::{Content, Source, Version},
    s3::Signer,
};

pub(crate) struct HttpSource {
    pub(crate) client: Client,
    pub(crate) url: Url,
    /// What signs each request, in S3.
    pub(crate) signer: Option<Arc<Signer>>,
}

#[async_trait]
impl Source for HttpSource {
    async fn version(&self) -> Result<Version, Fault> {
        let response = self.send(self.request(0, 1)).await?;
        let headers = response.headers().clone();
        let version =
            |size| Version { size, etag: text(&headers, ETAG), last_modified: text(&headers, LAST_MODIFIED) };
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (first, _, size) = content_range(&headers)?;
                if first != 0 || size == 0 {
                    return Err(Fault::unexpected("the server sent another part than was asked for"));
                }
                // Read to its end, so that the connection serves the next request.
                let mut content = std::pin::pin!(self.client.content(response));
                while content.next().await.transpose()?.is_some() {}
                Ok(version(size))
            }
            StatusCode::RANGE_NOT_SATISFIABLE if is_empty(&headers) => Ok(version(0)),
            StatusCode::OK if text(&headers, CONTENT_LENGTH).as_deref() == Some("0") => Ok(version(0)),
            StatusCode::OK => Err(Cause::NoRanges.into()),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(Cause::NoRanges.into()),
            _ => Err(refusal(response).await),
        }
    }

    async fn get(&self, version: &Version, offset: u64, len: u64) -> Result<Content, Fault> {
        let mut request = self.request(offset, len);
        // A weak tag never matches in If-Match (RFC 9110, 13.1.1); the answer's tag is compared below.
        let strong = version.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        let condition = match (strong, version.last_modified.as_deref()) {
            (Some(etag), _) => Some((IF_MATCH, etag)),
            (None, Some(date)) => Some((IF_UNMODIFIED_SINCE, date)),
            (None, None) => None,
        };
        if let Some((name, value)) = condition
            && let Ok(value) = HeaderValue::from_str(value)
        {
            request.headers_mut().insert(name, value);
        }
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let headers = response.headers();
        let same = match (&version.etag, &version.last_modified) {
            (Some(etag), _) => text(headers, ETAG).is_none_or(|now| now == *etag),
            (None, Some(date)) => text(headers, LAST_MODIFIED).is_none_or(|now| now == *date),
            (None, None) => true,
        };
        if !same {
            return Err(Cause::Changed.into());
        }
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(Cause::NoRanges.into());
        }
        let (first, last, size) = content_range(headers)?;
        if size != version.size {
            return Err(Cause::Changed.into());
        }
        if first != offset || last < first || last - first >= len {
            return Err(Fault::unexpected("the server sent another part than was asked for"));
        }
        Ok(self.client.content(response).boxed())
    }
}

impl HttpSource {
    async fn send(&self, mut request: reqwest::Request) -> Result<reqwest::Response, Fault> {
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        self.client.send(request).await
    }

    /// `len` is at least one.
    fn request(&self, offset: u64, len: u64) -> reqwest::Request {
        let mut request = reqwest::Request::new(Method::GET, self.url.clone());
        let range = format!("bytes={offset}-{}", offset.saturating_add(len - 1));
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are a header value"));
        request
    }
}

fn is_empty(headers: &HeaderMap) -> bool {
    text(headers, CONTENT_RANGE).is_some_and(|range| range == "bytes */0")
}
