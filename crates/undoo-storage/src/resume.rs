//! Going on where a connection broke: the one place where requests are repeated.
//!
//! A repeated request asks for the same version from the byte after the last one that was passed on, so
//! the reader sees one unbroken stream or an error, never a gap, a repetition or another version.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{BoxStream, try_unfold},
};

use crate::{
    fault::{Cause, Fault},
    object::ByteStream,
    options::Options,
};

/// The content of one answer.
pub(crate) type Content = BoxStream<'static, Result<Bytes, Fault>>;

/// What a read must have gained for its failures to be forgiven; less would let a server that sends one
/// byte at a time keep a reader for ever.
const PROGRESS: u64 = 1024 * 1024;

/// Whether a server has answered at all; see [`Fault::may_pass`]. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<AtomicBool>);

impl Seen {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which version of an object was seen first. A server that sends neither tag nor date is held to the
/// length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) size: u64,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// One object of one protocol. It never repeats a request by itself.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Which version is there now.
    async fn version(&self) -> Result<Version, Fault>;

    /// The bytes `[offset, offset + len)` of exactly that version; `len` is at least one.
    async fn get(&self, version: &Version, offset: u64, len: u64) -> Result<Content, Fault>;
}

/// An object on a server, pinned to a version.
pub(crate) struct Remote {
    pub(crate) place: String,
    pub(crate) version: Version,
    pub(crate) source: Box<dyn Source>,
    pub(crate) options: Options,
}

impl Remote {
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
            let cancel = self.remote.options.cancel.clone();
            let advanced = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Cause::Cancelled.into()),
                advanced = self.advance() => advanced,
            };
            match advanced {
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
                        Some(pause) => rest(pause, options).await,
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
            None => {
                let Remote { source, version, .. } = &*self.remote;
                self.content.insert(source.get(version, self.position, left).await?)
            }
        };
        match content.next().await {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => Ok(bytes),
            Some(Ok(_)) => Err(Fault::unexpected("the server sent more bytes than were asked for")),
            Some(Err(fault)) => Err(fault),
            None => Err(Cause::Broken.into()),
        }
    }
}

/// Makes a request until it succeeds, fails for good, has failed too often, or is cancelled.
pub(crate) async fn retrying<T, F>(
    seen: &Seen,
    place: &str,
    options: &Options,
    mut request: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut failures = 0;
    loop {
        let answer = tokio::select! {
            biased;
            () = options.cancel.cancelled() => Err(Cause::Cancelled.into()),
            answer = request() => answer,
        };
        let fault = match answer {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        failures += 1;
        match pause_after(&fault, failures, seen.is_set(), place, options) {
            Some(pause) => rest(pause, options).await,
            None => return Err(fault),
        }
    }
}

/// Sleeps, unless the next attempt would find itself cancelled anyway.
async fn rest(pause: Duration, options: &Options) {
    tokio::select! {
        () = options.cancel.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
}

fn pause_after(fault: &Fault, failures: u32, seen: bool, place: &str, options: &Options) -> Option<Duration> {
    if !fault.may_pass(seen) || failures >= options.retry.attempts {
        return None;
    }
    let pause = options.retry.pause(failures, fault.retry_after);
    tracing::warn!(place, failures, ?pause, cause = %fault, "a request failed, trying again");
    Some(pause)
}
