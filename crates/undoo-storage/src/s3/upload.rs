//! An object on its way into a bucket: one request if it is small, else a multipart upload.
//!
//! The object is not there before `CompleteMultipartUpload`. Each part carries its MD5, so that what a
//! broken network makes of it is refused, which the signature alone does not do.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::{S3Storage, accepted, parsed, server_time, stat_of, told_error};
use crate::{
    client::text,
    fault::{Cause, Fault},
    resume::Source,
    storage::{BACKUPS, Stat},
    upload::{Part, Plan, Sent, Sink},
};

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MOST_PARTS: u32 = 10_000;
const SMALLEST_PART: usize = 5 * 1024 * 1024;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

pub(super) struct S3Upload {
    storage: S3Storage,
    key: String,
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    id: Option<String>,
    /// When it began, by the server's clock.
    started: Option<SystemTime>,
    /// How often it was asked to begin: an answer that was lost leaves an upload that nobody knows.
    begun: u32,
    completed: u32,
    /// The tag of each part that arrived.
    parts: BTreeMap<u32, String>,
}

impl S3Upload {
    pub(super) fn new(storage: S3Storage, key: &str, expected: Option<u64>) -> Self {
        let grows = storage.provider.parts_may_differ();
        let part = storage.options.part_size.max(storage.provider.smallest_part().max(SMALLEST_PART));
        let plan = Plan { part, grows, most: MOST_PARTS, in_order: false, by_length: false };
        let plan = plan.sized_for(expected);
        Self { storage, key: key.to_owned(), plan, state: Mutex::default() }
    }

    /// One that was begun before, and which parts of it have arrived: those before the first that has not.
    pub(super) async fn resumed(
        storage: S3Storage,
        key: &str,
        id: &str,
        expected: Option<u64>,
    ) -> Result<(Self, Sent), Fault> {
        let listed = storage.parts(key, id).await?;
        let mut sink = Self::new(storage, key, expected);
        if let Some(first) = listed.first() {
            // The storage's settings may have changed since, and parts of some providers are all of one size.
            sink.plan.part = usize::try_from(first.size).unwrap_or(usize::MAX);
        }
        let arrived = listed.into_iter().zip(1..).take_while(|(part, number)| part.part_number == *number);
        let mut sent = Sent { parts: 0, bytes: 0 };
        {
            let mut state = sink.state();
            state.id = Some(id.to_owned());
            for (part, number) in arrived {
                sent = Sent { parts: number, bytes: sent.bytes + part.size };
                state.parts.insert(number, part.e_tag);
            }
        }
        Ok((sink, sent))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is a single assignment: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> Result<String, Fault> {
        self.state().id.clone().ok_or_else(|| Fault::unexpected("the upload was not begun"))
    }

    async fn put_content(
        &self,
        mut request: reqwest::Request,
        content: Bytes,
    ) -> Result<reqwest::Response, Fault> {
        let sum = STANDARD.encode(Md5::digest(&content));
        let sum = HeaderValue::from_str(&sum).map_err(|_| Fault::unexpected("Base64 is a header value"))?;
        request.headers_mut().insert(CONTENT_MD5, sum);
        self.storage.signer.sign(&mut request).await?;
        accepted(self.storage.client.upload(request, content).await?).await
    }

    /// Adds the lock to the request that makes the object, if it is a backup and there is one.
    fn lock(&self, request: &mut reqwest::Request) -> Result<(), Fault> {
        let Some(lock) = self.storage.lock.filter(|_| self.key.starts_with(BACKUPS)) else { return Ok(()) };
        lock.apply(request.headers_mut(), SystemTime::now())
    }

    /// What a refusal of the request that makes the object means.
    fn refused(&self, fault: Fault) -> Fault {
        // AWS and its like answer so where a bucket has no Object Lock.
        let unlockable =
            self.storage.lock.is_some() && fault.detail.starts_with("status 400, InvalidRequest");
        if unlockable { Fault { cause: Cause::NoObjectLock, ..fault } } else { fault }
    }

    /// Whether the object is there although the answer that said so was lost.
    async fn is_there(&self, size: u64) -> Option<Stat> {
        let version = self.storage.source(&self.key).version().await.ok()?;
        let stat = stat_of(version);
        // Dates have whole seconds.
        let ours = stat.modified.zip(self.state().started).is_some_and(|(written, began)| written >= began);
        (stat.size == size && ours).then_some(stat)
    }
}

#[async_trait]
impl Sink for S3Upload {
    fn plan(&self) -> Plan {
        self.plan
    }

    async fn begin(&self) -> Result<(), Fault> {
        self.state().begun += 1;
        let mut request =
            reqwest::Request::new(Method::POST, self.storage.url(&self.key, &[("uploads", "")]));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.lock(&mut request)?;
        self.storage.signer.sign(&mut request).await?;
        let answer = accepted(self.storage.client.send(request).await?).await;
        let answer = answer.map_err(|fault| self.refused(fault))?;
        let started = server_time(&answer);
        let begun: InitiateMultipartUploadResult = parsed(&self.storage.client.text(answer).await?)?;
        let mut state = self.state();
        (state.id, state.started) = (Some(begun.upload_id), started);
        Ok(())
    }

    async fn put(&self, part: Part) -> Result<(), Fault> {
        let (id, number) = (self.id()?, part.number + 1);
        let query = [("partNumber", &*number.to_string()), ("uploadId", &*id)];
        let request = reqwest::Request::new(Method::PUT, self.storage.url(&self.key, &query));
        let answer = self.put_content(request, part.content).await?;
        let tag = text(answer.headers(), ETAG);
        let tag = tag.ok_or_else(|| Fault::unexpected("the server gave no tag for a part"))?;
        self.state().parts.insert(number, tag);
        Ok(())
    }

    async fn finish(&self, size: u64) -> Result<Stat, Fault> {
        let id = self.id()?;
        let (document, again) = {
            let mut state = self.state();
            state.completed += 1;
            (complete_document(&state.parts), state.completed > 1)
        };
        let url = self.storage.url(&self.key, &[("uploadId", &id)]);
        let mut request = reqwest::Request::new(Method::POST, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        self.storage.signer.sign(&mut request).await?;
        *request.body_mut() = Some(document.into());
        let completed = async {
            let answer = accepted(self.storage.client.send(request).await?).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = self.storage.client.text(answer).await?;
            match told_error(status, &headers, &body) {
                Some(fault) => Err(fault),
                None => parsed::<CompleteMultipartUploadResult>(&body),
            }
        };
        match completed.await {
            Ok(done) => {
                self.sweep().await;
                Ok(Stat { size, version: done.e_tag, modified: None })
            }
            Err(fault) if again && fault.cause == Cause::UploadGone => {
                let found = self.is_there(size).await.ok_or(fault)?;
                self.sweep().await;
                Ok(found)
            }
            Err(fault) => Err(fault),
        }
    }

    async fn put_whole(&self, content: Bytes) -> Option<Result<Stat, Fault>> {
        let size = content.len() as u64;
        let mut request = reqwest::Request::new(Method::PUT, self.storage.url(&self.key, &[]));
        let put = async {
            self.lock(&mut request)?;
            self.put_content(request, content).await.map_err(|fault| self.refused(fault))
        };
        Some(put.await.map(|answer| Stat { size, version: text(answer.headers(), ETAG), modified: None }))
    }

    async fn abort(&self) -> Result<(), Fault> {
        let id = self.state().id.clone();
        if let Some(id) = id {
            self.storage.abort(&self.key, &id).await?;
        }
        if self.leaves_strays() {
            for stray in self.storage.uploads(&self.key).await? {
                if stray.key == self.key {
                    self.storage.abort(&stray.key, &stray.id).await?;
                }
            }
        }
        Ok(())
    }

    fn id(&self) -> Option<String> {
        self.state().id.clone()
    }
}

impl S3Upload {
    /// Whether an upload may have begun whose id never reached us.
    fn leaves_strays(&self) -> bool {
        let state = self.state();
        state.begun > 1 || (state.begun == 1 && state.id.is_none())
    }

    /// Removes such uploads of this key; the object is there, so that a failure is only logged.
    async fn sweep(&self) {
        if !self.leaves_strays() {
            return;
        }
        if let Err(fault) = self.abort().await {
            tracing::warn!(key = self.key, %fault, "an upload that was begun twice could not be removed");
        }
    }
}

fn complete_document(parts: &BTreeMap<u32, String>) -> String {
    let mut document = String::from("<CompleteMultipartUpload>");
    for (number, tag) in parts {
        let tag = quick_xml::escape::escape(tag.as_str());
        // Writing to a string cannot fail.
        let _ = write!(document, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    document.push_str("</CompleteMultipartUpload>");
    document
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult {
    upload_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CompleteMultipartUploadResult {
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}
