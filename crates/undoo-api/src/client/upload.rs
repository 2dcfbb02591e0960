//! Uploading the file of a migration: one request with all that is left, and how far it came.

use std::io;

use futures_util::Stream;
use reqwest::{
    Body,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use undoo_core::{MigrationId, Result};

use super::Client;
use crate::migrations::{TUS_RESUMABLE, TUS_VERSION, UPLOAD_OFFSET, UPLOAD_TYPE, UploadResponse};

impl Client {
    /// How many bytes of a migration's file have arrived.
    ///
    /// # Errors
    /// Those of the server, and of the way there.
    pub async fn migration_uploaded(&self, id: MigrationId) -> Result<u64> {
        let call = self.get(&["migrations", &id.to_string(), "upload"]).patiently();
        Ok(call.answer::<UploadResponse>().await?.arrived_bytes)
    }

    /// Sends bytes of a migration's file, from this one on. Answers how many have arrived.
    ///
    /// # Errors
    /// As [`Client::migration_uploaded`]. Where it broke off, that says how far it came.
    pub async fn migration_upload(
        &self,
        id: MigrationId,
        from: u64,
        content: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
    ) -> Result<u64> {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(UPLOAD_TYPE)),
            (HeaderName::from_static(UPLOAD_OFFSET), HeaderValue::from(from)),
            (HeaderName::from_static(TUS_RESUMABLE), HeaderValue::from_static(TUS_VERSION)),
        ]);
        let call = self.patch(&["migrations", &id.to_string(), "upload"]).headers(headers);
        let response = call.streamed(Body::wrap_stream(content)).await?;
        let arrived = response.headers().get(UPLOAD_OFFSET);
        let arrived = arrived.and_then(|value| value.to_str().ok()?.parse().ok());
        arrived.ok_or_else(|| self.not_understood())
    }
}
