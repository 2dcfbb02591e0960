//! Reading on where a connection broke: the one place where requests are repeated.
//!
//! A repeated request asks for the same version from the byte after the last one that was passed on, so
//! the reader sees one unbroken stream or an error, never a gap, a repetition or another version.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{BoxStream, try_unfold},
};

use crate::{
    client::Client,
    fault::{Cause, Fault},
    http_source::{HttpSource, Version},
    object::ByteStream,
    options::Options,
    s3_source::S3Source,
};

/// The content of one answer.
pub(crate) type Content = BoxStream<'static, Result<Bytes, Fault>>;

/// What a read must have gained for its failures to be forgiven; less would let a server that sends one
/// byte at a time keep a reader for ever.
const PROGRESS: u64 = 1024 * 1024;

/// An object on a server, pinned to a version.
pub(crate) struct Remote {
    pub(crate) place: String,
    pub(crate) version: Version,
    pub(crate) source: Source,
    pub(crate) options: Options,
}

pub(crate) enum Source {
    Http(HttpSource),
    S3(S3Source),
}

impl Remote {
    async fn get(&self, offset: u64, len: u64) -> Result<Content, Fault> {
        match &self.source {
            Source::Http(source) => source.get(&self.version, offset, len).await,
            Source::S3(source) => source.get(&self.version, offset, len).await,
        }
    }

    /// The bytes `[offset, offset + len)`, which the caller has checked to lie within the object.
    pub(crate) fn read(self: &Arc<Self>, offset: u64, len: u64) -> ByteStream {
        let reading = Reading {
            remote: Arc::clone(self),
            position: offset,
            end: offset.saturating_add(len),
            content: None,
            failures: 0,
            gained: 0,
        };
        try_unfold(
            reading,
            |mut reading| async move { Ok(reading.next().await?.map(|bytes| (bytes, reading))) },
        )
        .boxed()
    }
}

struct Reading {
    remote: Arc<Remote>,
    position: u64,
    end: u64,
    content: Option<Content>,
    failures: u32,
    /// Bytes passed on since the last failure.
    gained: u64,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.position < self.end {
            match self.advance().await {
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    self.gained += bytes.len() as u64;
                    if let Some(bandwidth) = &self.remote.options.bandwidth {
                        tokio::time::sleep(bandwidth.take(bytes.len())).await;
                    }
                    return Ok(Some(bytes));
                }
                Err(fault) => {
                    self.content = None;
                    if std::mem::take(&mut self.gained) >= PROGRESS {
                        self.failures = 0;
                    }
                    self.failures += 1;
                    let Remote { place, options, .. } = &*self.remote;
                    match pause_after(&fault, self.failures, true, place, options) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(fault.into_io(place)),
                    }
                }
            }
        }
        Ok(None)
    }

    async fn advance(&mut self) -> Result<Bytes, Fault> {
        let left = self.end - self.position;
        let content = match &mut self.content {
            Some(content) => content,
            None => self.content.insert(self.remote.get(self.position, left).await?),
        };
        match content.next().await {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => Ok(bytes),
            Some(Ok(_)) => Err(Fault::unexpected("the server sent more bytes than were asked for")),
            Some(Err(fault)) => Err(fault),
            None => Err(Cause::Broken.into()),
        }
    }
}

/// Makes a request until it succeeds, fails for good, or has failed too often.
pub(crate) async fn retrying<T, F>(
    client: &Client,
    place: &str,
    options: &Options,
    mut request: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut failures = 0;
    loop {
        let fault = match request().await {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        failures += 1;
        match pause_after(&fault, failures, client.seen(), place, options) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(fault),
        }
    }
}

fn pause_after(fault: &Fault, failures: u32, seen: bool, place: &str, options: &Options) -> Option<Duration> {
    if !fault.may_pass(seen) || failures >= options.retry.attempts {
        return None;
    }
    let pause = options.retry.pause(failures, fault.retry_after);
    tracing::warn!(place, failures, ?pause, cause = %fault, "reading failed, trying again");
    Some(pause)
}
