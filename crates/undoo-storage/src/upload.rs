//! Writing one object of any storage: bytes of unknown number become parts, and parts an object.
//!
//! A [`Sink`] knows a protocol and nothing of repetition; here is what all of them share: parts that are
//! sent at the same time and again, memory that is bounded, and an end that is either the whole object or
//! nothing. An upload that is dropped removes what it has sent, unless it is kept for somebody who goes on
//! with it, maybe in another process.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};
use undoo_core::{Kind, Problem, Result};

use crate::{
    fault::{Cause, Doing, Fault},
    options::Options,
    resume::{Seen, retrying},
    storage::Stat,
};

/// How an object of one protocol is written. Every call may come again after it failed, also after it
/// failed without our knowing what it did.
#[async_trait]
pub(crate) trait Sink: Send + Sync + 'static {
    fn plan(&self) -> Plan;

    /// Before the first part.
    async fn begin(&self) -> Result<(), Fault>;

    /// One part. Those of a plan with `in_order` come one after the other.
    async fn put(&self, part: Part) -> Result<(), Fault>;

    /// Puts the object under its key; `size` is that of all parts.
    async fn finish(&self, size: u64) -> Result<Stat, Fault>;

    /// An object that is no larger than a part, in one go; `None` where that takes the same steps.
    async fn put_whole(&self, content: Bytes) -> Option<Result<Stat, Fault>>;

    /// Removes all that was sent.
    async fn abort(&self) -> Result<(), Fault>;

    /// What the storage knows it by, once it was begun: as [`crate::Unfinished::id`].
    fn id(&self) -> Option<String>;
}

/// What a protocol wants of parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Bytes of the first parts.
    pub(crate) part: usize,
    /// Whether later parts may be larger than the first.
    pub(crate) grows: bool,
    /// The most parts that an object may have.
    pub(crate) most: u32,
    /// Whether a part may be sent only when the one before it has arrived.
    pub(crate) in_order: bool,
    /// Whether the length of what there is tells how far it came: then any part may be short, and those of an
    /// upload that is kept go one after the other. Else all parts but the last are whole.
    pub(crate) by_length: bool,
}

/// How far an upload is that is gone on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Parts that have arrived.
    pub(crate) parts: u32,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

/// After so many parts they are made larger by as much as the first has, so that 10,000 of them hold 55
/// thousand times the first: 450 GB of 8 MiB.
const GROWTH: u32 = 1000;

impl Plan {
    fn part_len(&self, number: u32) -> usize {
        let steps = if self.grows { 1 + number / GROWTH } else { 1 };
        self.part.saturating_mul(usize::try_from(steps).unwrap_or(usize::MAX))
    }

    /// The size of the first part with which an object of `expected` bytes fits, with a tenth to spare.
    pub(crate) fn sized_for(mut self, expected: Option<u64>) -> Self {
        let most = u64::from(self.most.max(1));
        let growth = u64::from(if self.grows { (self.most / GROWTH).max(1) } else { 1 });
        // The mean part of one that grows in steps from 1 to `growth` is (growth + 1) / 2 times the first.
        let wanted = expected.unwrap_or(0).saturating_add(expected.unwrap_or(0) / 10);
        let least = wanted.saturating_mul(2) / most.saturating_mul(growth + 1);
        let rounded = least.div_ceil(1024 * 1024).saturating_mul(1024 * 1024);
        self.part = self.part.max(usize::try_from(rounded).unwrap_or(usize::MAX));
        self
    }
}

/// A part of an object.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// From 0.
    pub(crate) number: u32,
    /// Where it begins in the object.
    pub(crate) offset: u64,
    pub(crate) content: Bytes,
}

/// What counting in the semaphore is done in, since it counts to four billion only.
const PERMIT: usize = 1024;

/// An object that is being written. It is there when [`Upload::finish`] has succeeded, and not before;
/// dropped, or ended by [`Upload::abort`], it leaves nothing behind. One that is [kept](Upload::keep) stays as
/// far as it came.
pub struct Upload {
    sink: Option<Arc<dyn Sink>>,
    place: Arc<str>,
    options: Options,
    seen: Seen,
    runtime: Handle,
    plan: Plan,
    buffer: BytesMut,
    number: u32,
    offset: u64,
    /// Whether there may be something to remove.
    begun: bool,
    /// Whether somebody else may go on with it.
    kept: bool,
    tasks: JoinSet<Result<()>>,
    room: Arc<Semaphore>,
    budget: usize,
}

impl Upload {
    /// Must be called on a runtime.
    pub(crate) fn new(sink: Arc<dyn Sink>, place: String, options: Options, seen: Seen) -> Self {
        let plan = sink.plan();
        let at_once = if plan.in_order { 1 } else { options.concurrency.max(1) };
        let budget = plan.part.saturating_mul(at_once).div_ceil(PERMIT).clamp(1, u32::MAX as usize);
        Self {
            sink: Some(sink),
            place: place.into(),
            options,
            seen,
            runtime: Handle::current(),
            plan,
            buffer: BytesMut::new(),
            number: 0,
            offset: 0,
            begun: false,
            kept: false,
            tasks: JoinSet::new(),
            room: Arc::new(Semaphore::new(budget)),
            budget,
        }
    }

    /// One that was kept, from the byte after those that have arrived.
    pub(crate) fn resumed(
        sink: Arc<dyn Sink>,
        place: String,
        options: Options,
        seen: Seen,
        sent: Sent,
    ) -> Self {
        let mut resumed = Self::new(sink, place, options, seen);
        (resumed.number, resumed.offset, resumed.begun) = (sent.parts, sent.bytes, true);
        resumed.keep_from_now();
        resumed
    }

    /// Begins now, and keeps what was sent when this ends before the object is whole. Answers the id by which
    /// [`crate::Storage::resume`] goes on with it.
    ///
    /// # Errors
    /// When the storage does not take it.
    pub async fn keep(&mut self) -> Result<String> {
        let Some(sink) = self.sink.clone() else { return Err(already_ended(&self.place)) };
        self.begin(&sink).await?;
        self.keep_from_now();
        sink.id().ok_or_else(|| {
            Fault::unexpected("what was begun has no id").into_problem(Doing::Write, &self.place)
        })
    }

    /// Ends one that is kept, with as much of what it was given as the storage takes: answers how many bytes
    /// of the object that is. The rest has to be given again.
    ///
    /// # Errors
    /// When a part could not be sent; what arrived before it is kept.
    pub async fn leave(mut self) -> Result<u64> {
        if self.buffer.len() as u64 >= self.least() {
            self.ship().await?;
        }
        while let Some(ended) = self.tasks.join_next().await {
            joined(ended)?;
        }
        Ok(self.offset)
    }

    /// The least that has to be given for anything of it to be kept, unless it is the object's end.
    pub fn least(&self) -> u64 {
        if self.plan.by_length { 1 } else { self.plan.part_len(self.number) as u64 }
    }

    fn keep_from_now(&mut self) {
        self.kept = true;
        if self.plan.by_length {
            self.budget = self.plan.part.div_ceil(PERMIT).clamp(1, u32::MAX as usize);
            self.room = Arc::new(Semaphore::new(self.budget));
        }
    }

    /// The address of the object, without secrets.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Bytes given to it so far.
    pub fn written(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Adds bytes at the end. It waits while as many parts are on their way as the options allow.
    ///
    /// # Errors
    /// When a part, this one or one before it, could not be sent; then the object cannot be finished.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let wanted = self.plan.part_len(self.number);
            let taken = bytes.len().min(wanted.saturating_sub(self.buffer.len()));
            let (now, rest) = bytes.split_at(taken);
            // What fills one part is likely to fill the next.
            if self.number > 0 && self.buffer.is_empty() {
                self.buffer.reserve(wanted);
            }
            self.buffer.extend_from_slice(now);
            bytes = rest;
            // A full part waits for a byte more: what fits into one part is sent in one go.
            if bytes.is_empty() {
                return Ok(());
            }
            self.ship().await?;
        }
    }

    /// Sends what is left and puts the object under its key. If that fails, what was sent is removed.
    ///
    /// # Errors
    /// When a part could not be sent or the storage refuses the whole.
    pub async fn finish(mut self) -> Result<Stat> {
        let finished = self.finish_inner().await;
        match finished {
            Ok(stat) => {
                self.sink = None;
                Ok(stat)
            }
            Err(problem) if self.kept => Err(problem),
            Err(problem) => {
                let place = Arc::clone(&self.place);
                if let Err(error) = self.abort().await {
                    tracing::warn!(%place, %error, "what was sent of an object could not be removed");
                }
                Err(problem)
            }
        }
    }

    /// Removes what was sent.
    ///
    /// # Errors
    /// When it may still be there; [`crate::Storage::unfinished`] finds it later.
    pub async fn abort(mut self) -> Result<()> {
        self.tasks.shutdown().await;
        match self.sink.take().filter(|_| self.begun) {
            Some(sink) => discard(sink, &self.place, &self.options, &self.seen).await,
            None => Ok(()),
        }
    }

    async fn finish_inner(&mut self) -> Result<Stat> {
        let Some(sink) = self.sink.clone() else { return Err(already_ended(&self.place)) };
        if !self.begun {
            let content = self.buffer.split().freeze();
            let request = || async {
                // The outer result says whether there is such a way.
                sink.put_whole(content.clone()).await.transpose()
            };
            let written = retrying(&self.seen, &self.place, &self.options, request).await;
            match written.map_err(|fault| fault.into_problem(Doing::Write, &self.place))? {
                Some(stat) => return Ok(stat),
                None => self.buffer = content.into(),
            }
        }
        if self.number == 0 || !self.buffer.is_empty() {
            self.ship().await?;
        }
        while let Some(ended) = self.tasks.join_next().await {
            joined(ended)?;
        }
        let size = self.offset;
        let request = || sink.finish(size);
        let stat = retrying(&self.seen, &self.place, &self.options, request).await;
        stat.map_err(|fault| fault.into_problem(Doing::Write, &self.place))
    }

    /// Sends what is in the buffer as the next part, as soon as there is room for it.
    async fn ship(&mut self) -> Result<()> {
        let Some(sink) = self.sink.clone() else { return Err(already_ended(&self.place)) };
        let permit = self.room_for(self.buffer.len()).await?;
        if self.number >= self.plan.most {
            let fault = Fault::from(Cause::TooLarge { parts: self.plan.most });
            return Err(fault.into_problem(Doing::Write, &self.place));
        }
        self.begin(&sink).await?;
        let content = self.buffer.split().freeze();
        let part = Part { number: self.number, offset: self.offset, content };
        self.number += 1;
        self.offset += part.content.len() as u64;
        let (place, options, seen) = (Arc::clone(&self.place), self.options.clone(), self.seen.clone());
        let sending = async move {
            let sent = retrying(&seen, &place, &options, || sink.put(part.clone())).await;
            drop(permit);
            sent.map_err(|fault| fault.into_problem(Doing::Write, &place))
        };
        self.tasks.spawn_on(sending, &self.runtime);
        Ok(())
    }

    async fn begin(&mut self, sink: &Arc<dyn Sink>) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let begun = retrying(&self.seen, &self.place, &self.options, || sink.begin()).await;
        begun.map_err(|fault| fault.into_problem(Doing::Write, &self.place))
    }

    /// Waits for room, and for the end of it all when a part has failed.
    async fn room_for(&mut self, len: usize) -> Result<OwnedSemaphorePermit> {
        // A part larger than the budget goes alone.
        let permits = u32::try_from(len.div_ceil(PERMIT).clamp(1, self.budget)).unwrap_or(u32::MAX);
        let mut room = std::pin::pin!(Arc::clone(&self.room).acquire_many_owned(permits));
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => joined(ended)?,
                permit = &mut room => return permit.map_err(|_| already_ended(&self.place)),
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(sink) = self.sink.take().filter(|_| self.begun && !self.kept) else { return };
        self.tasks.abort_all();
        let mut tasks = std::mem::take(&mut self.tasks);
        let (place, options, seen) = (Arc::clone(&self.place), self.options.clone(), self.seen.clone());
        self.runtime.spawn(async move {
            tasks.shutdown().await;
            if let Err(error) = discard(sink, &place, &options, &seen).await {
                tracing::warn!(%place, %error, "what was sent of an object could not be removed");
            }
        });
    }
}

/// Cleans up, also after the work was cancelled.
async fn discard(sink: Arc<dyn Sink>, place: &str, options: &Options, seen: &Seen) -> Result<()> {
    let options = Options { cancel: Default::default(), ..options.clone() };
    let removed = retrying(seen, place, &options, || sink.abort()).await;
    removed.map_err(|fault| fault.into_problem(Doing::Delete, place))
}

fn joined(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| {
        Err(Problem::new(
            Kind::Internal,
            "write_aborted",
            "sending a part of an object was broken off",
            "This is a defect of Undoo: report it with the log.",
        )
        .caused_by(error))
    })
}

fn already_ended(place: &str) -> Problem {
    Problem::new(
        Kind::Internal,
        "write_ended",
        format!("{place} was written to after its end"),
        "This is a defect of Undoo: report it with the log.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { part: 8 << 20, grows: true, most: 10_000, in_order: false, by_length: false };

    fn capacity(plan: Plan) -> u64 {
        (0..plan.most).map(|number| plan.part_len(number) as u64).sum()
    }

    #[test]
    fn parts_grow_so_that_hundreds_of_gigabytes_of_unknown_size_fit() {
        assert_eq!(PLAN.part_len(999), 8 << 20);
        assert_eq!(PLAN.part_len(1000), 16 << 20);
        assert!(capacity(PLAN) > 450_000_000_000, "{}", capacity(PLAN));
    }

    #[test]
    fn an_object_of_a_known_size_begins_with_parts_that_make_it_fit() {
        for plan in [PLAN, Plan { grows: false, ..PLAN }] {
            for expected in [0, 1 << 30, 100 << 30, 900 << 30, 4 << 40] {
                let sized = plan.sized_for(Some(expected));
                assert!(capacity(sized) >= expected, "{expected}: {sized:?}");
                assert!(sized.part >= plan.part);
            }
        }
        assert_eq!(PLAN.sized_for(Some(10 << 30)).part, PLAN.part);
    }
}
