//! The way between a runtime and the parsers and writers of archives, which block threads of their own.
//!
//! A stream is fetched a little ahead, so that the network and the parser work at the same time. These
//! must never be used on a thread of the runtime itself: they would wait for their own thread.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use undoo_core::Result;

use crate::{
    fault::problem_to_io,
    folder::{Entry, Folder},
    local::LocalFile,
    object::{ByteStream, Object},
    storage::Stat,
    upload::Upload,
};

/// How many bytes of a stream may wait for the parser.
const READ_AHEAD: usize = 1024 * 1024;

/// An object for blocking readers.
#[derive(Clone)]
pub struct BlockingObject(Inner);

#[derive(Clone)]
enum Inner {
    /// Local files need no runtime and no second thread.
    Local(LocalFile),
    Remote {
        runtime: Handle,
        object: Arc<Object>,
    },
}

impl BlockingObject {
    /// `runtime` is where network reads run.
    pub fn new(runtime: Handle, object: Arc<Object>) -> Self {
        match object.as_local() {
            Some(file) => Self(Inner::Local(file.clone())),
            None => Self(Inner::Remote { runtime, object }),
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Inner::Local(file) => file.size(),
            Inner::Remote { object, .. } => object.size(),
        }
    }

    /// A stream over `[offset, offset + len)`, in one request. Dropping it stops the request.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.0 {
            Inner::Local(file) => file.stream(offset, len),
            Inner::Remote { runtime, object } => {
                let stream = object.read(offset, len)?;
                Ok(Box::new(ReadAhead::start(runtime, stream, len)))
            }
        }
    }
}

impl From<LocalFile> for BlockingObject {
    fn from(file: LocalFile) -> Self {
        Self(Inner::Local(file))
    }
}

/// A folder for blocking readers.
#[derive(Clone)]
pub struct BlockingFolder {
    runtime: Handle,
    folder: Arc<Folder>,
}

impl BlockingFolder {
    /// `runtime` is where network reads run.
    pub fn new(runtime: Handle, folder: Arc<Folder>) -> Self {
        Self { runtime, folder }
    }

    /// Every file below the folder, sorted by name.
    ///
    /// # Errors
    /// As [`Folder::list`].
    pub fn list(&self) -> Result<Vec<Entry>> {
        match self.folder.as_local() {
            Some(folder) => folder.list(),
            None => self.runtime.block_on(self.folder.list()),
        }
    }

    /// Opens a file by its name in the list.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open(&self, name: &str) -> Result<BlockingObject> {
        match self.folder.as_local() {
            Some(folder) => Ok(folder.open_file(name)?.into()),
            None => {
                let object = self.runtime.block_on(self.folder.open(name))?;
                Ok(BlockingObject::new(self.runtime.clone(), object))
            }
        }
    }
}

/// How much is gathered before it is handed over.
const GATHER: usize = 256 * 1024;

/// An object that is being written by a thread. It is there when [`BlockingUpload::finish`] has succeeded,
/// and not before; dropped, or ended by [`BlockingUpload::abort`], it leaves nothing behind. Its errors carry
/// problems, see [`crate::problem_of`].
pub struct BlockingUpload {
    runtime: Handle,
    upload: Upload,
    buffer: Vec<u8>,
}

impl BlockingUpload {
    /// `runtime` is where the parts are sent from.
    pub fn new(runtime: Handle, upload: Upload) -> Self {
        Self { runtime, upload, buffer: Vec::with_capacity(GATHER) }
    }

    /// Bytes given to it so far.
    pub fn written(&self) -> u64 {
        self.upload.written() + self.buffer.len() as u64
    }

    /// As [`Upload::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(mut self) -> Result<Stat> {
        self.runtime.block_on(async {
            self.upload.write(&self.buffer).await?;
            self.upload.finish().await
        })
    }

    /// As [`Upload::abort`].
    ///
    /// # Errors
    /// As there.
    pub fn abort(self) -> Result<()> {
        self.runtime.block_on(self.upload.abort())
    }
}

impl Write for BlockingUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > GATHER {
            self.flush()?;
        }
        if bytes.len() < GATHER {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.runtime.block_on(self.upload.write(bytes)).map_err(problem_to_io)?;
        }
        Ok(bytes.len())
    }

    /// Hands over what was gathered; that it arrived is known only after [`BlockingUpload::finish`].
    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.upload.write(&self.buffer)).map_err(problem_to_io)?;
        self.buffer.clear();
        Ok(())
    }
}

/// The reading end of a task that fetches ahead.
struct ReadAhead {
    chunks: mpsc::UnboundedReceiver<io::Result<Bytes>>,
    /// Permits are bytes that may still be fetched: the channel itself is unbounded, since chunks are of
    /// any size and a count of them would bound nothing.
    room: Arc<Semaphore>,
    task: AbortHandle,
    current: Bytes,
    /// Bytes still owed to the reader.
    left: u64,
}

impl ReadAhead {
    fn start(runtime: &Handle, mut stream: ByteStream, len: u64) -> Self {
        let (sender, chunks) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(READ_AHEAD));
        let space = Arc::clone(&room);
        let task = runtime.spawn(async move {
            while let Some(chunk) = stream.next().await {
                if let Ok(bytes) = &chunk {
                    match space.acquire_many(permits(bytes)).await {
                        Ok(permit) => permit.forget(),
                        Err(_) => return,
                    }
                }
                if sender.send(chunk).is_err() {
                    return;
                }
            }
        });
        Self { chunks, room, task: task.abort_handle(), current: Bytes::new(), left: len }
    }
}

/// What a chunk takes of the room; a chunk larger than all of it waits for all of it.
fn permits(bytes: &Bytes) -> u32 {
    bytes.len().min(READ_AHEAD) as u32
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.left == 0 {
            return Ok(0);
        }
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => {
                    self.current = chunk?;
                    self.room.add_permits(permits(&self.current) as usize);
                }
                // The task ends early only when its runtime is shut down.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let read = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..read]);
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.task.abort();
    }
}
