//! Deflate on several threads: blocks that need nothing of each other, put together in their order.
//!
//! Every block is compressed by a fresh compressor and ends in a flush, so that the blocks one after
//! the other are one valid deflate stream (RFC 1951), and a reader can start at any of them. What is
//! under way at any time is bounded by the number of threads, never by the length of the input.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::JoinHandle,
};

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use undoo_core::{Kind, Problem, Result};

use crate::zip::BOMB_RATIO;

/// Bytes of input in a block. Smaller ones compress worse, since nothing is remembered between them.
pub(crate) const BLOCK: usize = 1 << 20;
/// The end of a deflate stream whose last block was flushed: an empty block with the final bit.
pub(crate) const STREAM_END: &[u8] = b"\x03\x00";
/// Pieces of an input that are tried before all of it is compressed, and their bytes.
const TRIED: (usize, usize) = (4, 4 << 10);
/// An empty stored block, which means nothing and may stand between any two blocks.
const PADDING: &[u8] = b"\x00\x00\x00\xff\xff";

type Job = Box<dyn FnOnce(&mut Deflater) + Send>;

/// Threads that compress. They end when this is dropped.
pub(crate) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// The answer of a job, once it is there.
pub(crate) struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `Internal` when the job broke down.
    pub(crate) fn wait(self) -> Result<T> {
        self.0.recv().map_err(|error| broke_down().caused_by(error))
    }
}

fn broke_down() -> Problem {
    Problem::new(
        Kind::Internal,
        "compression_broke_down",
        "a thread that compresses the backup broke down",
        "please report this",
    )
}

impl Pool {
    /// Starts threads, at least one, that compress at a level from 1 to 9.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no thread.
    pub(crate) fn new(threads: usize, level: u8) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Self { jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let queue = queue.clone();
            let work = move || {
                let mut deflater = Deflater::new(level);
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(&mut deflater),
                        Err(_) => return,
                    }
                }
            };
            pool.threads.push(spawn("deflate", work)?);
        }
        Ok(pool)
    }

    /// How many jobs are worth having under way.
    pub(crate) fn depth(&self) -> usize {
        self.threads.len() + 1
    }

    /// Gives a job to the next thread that is free.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Deflater) -> T + Send + 'static,
    ) -> Pending<T> {
        let (answer, pending) = sync_channel(1);
        let job: Job = Box::new(move |deflater| {
            // Nobody waits for it any more: the writer was dropped.
            let _ = answer.send(work(deflater));
        });
        if let Some(jobs) = &self.jobs {
            // Where no thread takes it, waiting for the answer says so.
            let _ = jobs.send(job);
        }
        Pending(pending)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked was noticed by who waited for its answer.
            let _ = thread.join();
        }
    }
}

/// Starts a thread.
///
/// # Errors
/// `Unavailable` when the system gives none.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        Problem::new(
            Kind::Unavailable,
            "no_thread",
            "the system gives no further thread",
            "Raise the limit of processes (pids) of the container or user, or ask for fewer threads.",
        )
        .caused_by(error)
    })
}

/// The compressors that a thread keeps.
pub(crate) struct Deflater {
    raw: Compress,
    /// For trying.
    quick: Compress,
    /// Writes blocks that are stored: most bytes of a filestore are pictures and documents that do not get
    /// smaller, and trying hard is what a backup would take its time for.
    stored: Compress,
}

impl Deflater {
    fn new(level: u8) -> Self {
        let of = |level| Compress::new(Compression::new(level), false);
        Self { raw: of(u32::from(level).clamp(1, 9)), quick: of(1), stored: of(0) }
    }

    /// A block of a longer stream.
    ///
    /// # Errors
    /// `Internal`; compressing does not fail.
    pub(crate) fn block(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let mut out = self.run(input, FlushCompress::Full)?;
        // What expands by more is taken for an attack, by our own reader too.
        while (out.len() as u64) < input.len() as u64 / (BOMB_RATIO / 2) {
            out.extend(PADDING);
        }
        Ok(out)
    }

    /// A whole stream.
    ///
    /// # Errors
    /// `Internal`; compressing does not fail.
    pub(crate) fn whole(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let out = self.run(input, FlushCompress::Finish)?;
        if out.len() as u64 >= input.len() as u64 / (BOMB_RATIO / 2) {
            return Ok(out);
        }
        let mut out = self.block(input)?;
        out.extend(STREAM_END);
        Ok(out)
    }

    fn run(&mut self, input: &[u8], flush: FlushCompress) -> Result<Vec<u8>> {
        if self.shrinks(input)? {
            return run(&mut self.raw, input, flush, input.len() / 3);
        }
        run(&mut self.stored, input, flush, input.len())
    }

    /// Whether pieces of the input get smaller by more than a thirtieth.
    fn shrinks(&mut self, input: &[u8]) -> Result<bool> {
        let (pieces, len) = TRIED;
        if input.len() <= pieces * len {
            return Ok(true);
        }
        let every = input.len() / pieces;
        let tried: Vec<u8> =
            input.chunks(every).take(pieces).flat_map(|piece| &piece[..len]).copied().collect();
        let out = run(&mut self.quick, &tried, FlushCompress::Finish, tried.len())?;
        Ok(out.len() < tried.len() - tried.len() / 30)
    }
}

/// Compresses all of an input; `expected` are about the bytes that come out.
fn run(compress: &mut Compress, input: &[u8], flush: FlushCompress, expected: usize) -> Result<Vec<u8>> {
    compress.reset();
    let mut out = Vec::with_capacity(expected + 1024);
    loop {
        let rest = input.get(compress.total_in() as usize..).unwrap_or_default();
        let status = compress.compress_vec(rest, &mut out, flush);
        let status = status.map_err(|error| broke_down().caused_by(error))?;
        let taken = compress.total_in() == input.len() as u64;
        let ended = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // With room left over, nothing of the flush is waiting.
            _ => taken && out.len() < out.capacity(),
        };
        if ended {
            return Ok(out);
        }
        out.reserve(out.len() / 2 + 4096);
    }
}

/// A block, compressed or as it is.
pub(crate) struct Block {
    input: Arc<Vec<u8>>,
    deflated: Option<Vec<u8>>,
    /// Checksum of the input.
    pub(crate) crc: Hasher,
}

impl Block {
    /// What is to be written.
    pub(crate) fn data(&self) -> &[u8] {
        self.deflated.as_ref().unwrap_or(&self.input)
    }

    /// Bytes of the input.
    pub(crate) fn len(&self) -> u64 {
        self.input.len() as u64
    }
}

/// Where finished blocks go.
pub(crate) type Sink<'a> = dyn FnMut(Block) -> Result<()> + 'a;

/// Blocks that the pool works on, answered in the order in which they were given.
pub(crate) struct Blocks<'a> {
    pool: &'a Pool,
    deflate: bool,
    under_way: VecDeque<Pending<Result<Block>>>,
}

impl<'a> Blocks<'a> {
    /// `deflate` says whether blocks are compressed; their checksums are made either way.
    pub(crate) fn new(pool: &'a Pool, deflate: bool) -> Self {
        Self { pool, deflate, under_way: VecDeque::new() }
    }

    /// Gives a block to the pool, and blocks that are done to `sink`.
    ///
    /// # Errors
    /// Those of `sink`; `Internal` when a thread broke down.
    pub(crate) fn push(&mut self, input: Arc<Vec<u8>>, sink: &mut Sink<'_>) -> Result<()> {
        let deflate = self.deflate;
        self.under_way.push_back(self.pool.submit(move |deflater| {
            let mut crc = Hasher::new();
            crc.update(&input);
            let deflated = if deflate { Some(deflater.block(&input)?) } else { None };
            Ok(Block { input, deflated, crc })
        }));
        while self.under_way.len() > self.pool.depth() {
            self.take(sink)?;
        }
        Ok(())
    }

    /// Gives the last blocks to `sink`.
    ///
    /// # Errors
    /// As [`Blocks::push`].
    pub(crate) fn finish(mut self, sink: &mut Sink<'_>) -> Result<()> {
        while !self.under_way.is_empty() {
            self.take(sink)?;
        }
        Ok(())
    }

    fn take(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        match self.under_way.pop_front() {
            Some(pending) => sink(pending.wait()??),
            None => Ok(()),
        }
    }
}

/// A thread that looks at the same bytes beside the compression, such as a hash.
pub(crate) struct Lane<T> {
    blocks: Option<SyncSender<Arc<Vec<u8>>>>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Lane<T> {
    /// Starts a thread that gets the blocks.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no thread.
    pub(crate) fn new(
        name: &str,
        work: impl FnOnce(Receiver<Arc<Vec<u8>>>) -> T + Send + 'static,
    ) -> Result<Self> {
        let (blocks, queue) = sync_channel(1);
        Ok(Self { blocks: Some(blocks), thread: spawn(name, move || work(queue))? })
    }

    /// Shows a block.
    pub(crate) fn give(&self, block: &Arc<Vec<u8>>) {
        if let Some(blocks) = &self.blocks {
            // It has seen enough and ended.
            let _ = blocks.send(block.clone());
        }
    }

    /// What came of it, after the last block.
    ///
    /// # Errors
    /// `Internal` when it broke down.
    pub(crate) fn end(mut self) -> Result<T> {
        self.blocks = None;
        self.thread.join().map_err(|_| broke_down())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn blocks_one_after_the_other_are_one_stream_and_each_can_be_read_alone() {
        let pool = Pool::new(2, 6).unwrap();
        let inputs: Vec<Arc<Vec<u8>>> =
            (0..9_u8).map(|n| Arc::new(vec![n; usize::from(n) * 40_000])).collect();
        let (mut stream, mut starts) = (Vec::new(), Vec::new());
        let mut sink = |block: Block| {
            starts.push(stream.len());
            stream.extend(block.data());
            Ok(())
        };
        let mut blocks = Blocks::new(&pool, true);
        for input in &inputs {
            blocks.push(input.clone(), &mut sink).unwrap();
        }
        blocks.finish(&mut sink).unwrap();
        stream.extend(STREAM_END);
        for (start, first) in starts.iter().zip(0..) {
            let mut out = Vec::new();
            flate2::read::DeflateDecoder::new(&stream[*start..]).read_to_end(&mut out).unwrap();
            assert_eq!(out, inputs[first..].iter().flat_map(|input| input.to_vec()).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn nothing_is_compressed_so_well_that_it_looks_like_an_attack() {
        let zeros = vec![0; BLOCK];
        let mut deflater = Deflater::new(9);
        for out in [deflater.block(&zeros).unwrap(), deflater.whole(&zeros).unwrap()] {
            assert!(zeros.len() as u64 / (out.len() as u64) < BOMB_RATIO, "{}", out.len());
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_and_reads_as_it_was() {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let input: Vec<u8> = noise.take(BLOCK + 17).collect();
        let mut deflater = Deflater::new(6);
        let mut block = deflater.block(&input).unwrap();
        block.extend(STREAM_END);
        for out in [block, deflater.whole(&input).unwrap()] {
            assert!(out.len() < input.len() + input.len() / 1000, "{}", out.len());
            let mut read = Vec::new();
            flate2::read::DeflateDecoder::new(&out[..]).read_to_end(&mut read).unwrap();
            assert!(read == input);
        }
    }
}
