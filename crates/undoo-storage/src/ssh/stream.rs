//! What goes through one channel of a connection.
//!
//! The library underneath stops reading the whole connection while one channel's messages are not taken, so
//! they are taken here at once, into a bounded room of each stream's own. And it tells a connection that broke
//! from a stream that ended by nothing but a missing message, which becomes an error here: whoever reads to
//! the end must not take half of something for the whole.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
};

use undoo_core::{Kind, Problem};

use super::Ssh;

/// What is kept of a stream that nobody reads, in bytes. More holds up what else goes through the connection.
const ROOM: u32 = 4 * 1024 * 1024;
/// A message takes this much of the room besides its bytes.
const HEAD: u32 = 64;
/// What is kept of a command's standard error, in bytes.
const WORDS: usize = 16 * 1024;

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Its exit status; `None` where the server told none, as for a command that was killed.
    pub exit_status: Option<u32>,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// What a stream says that ended before its time.
fn broken_off(server: &str) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "connection_broken",
        format!("the SSH connection to the server {server} broke off"),
        "Check the network and the server, then try again.",
    )
}

/// A stream to a socket or a command on a server. It is closed there when this is dropped.
pub struct Stream {
    pieces: UnboundedReceiver<io::Result<Bytes>>,
    /// What was taken out and not read yet.
    begun: Bytes,
    /// What it takes in the room.
    weight: usize,
    ended: bool,
    room: Arc<Semaphore>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    told: Arc<Mutex<Told>>,
    /// Kept for the connection that it stands for.
    _ssh: Arc<Ssh>,
}

#[derive(Default)]
struct Told {
    exit_status: Option<u32>,
    stderr: Vec<u8>,
}

impl Stream {
    pub(super) fn new(channel: Channel<Msg>, ssh: Arc<Ssh>, server: &str) -> Self {
        let (read, write) = channel.split();
        let (sender, pieces) = unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let told = Arc::new(Mutex::new(Told::default()));
        let writer = Box::pin(write.make_writer());
        let broken = broken_off(server);
        tokio::spawn(pump(read, write, sender, Arc::clone(&room), Arc::clone(&told), broken));
        Self { pieces, begun: Bytes::new(), weight: 0, ended: false, room, writer, told, _ssh: ssh }
    }

    /// Waits until a command has ended, passing over what it still writes.
    ///
    /// # Errors
    /// `ConnectionReset` when the connection breaks before; the problem is in it.
    pub async fn ending(mut self) -> io::Result<Ending> {
        self.begun = Bytes::new();
        self.release();
        while let Some(piece) = self.pieces.recv().await {
            let piece = piece?;
            self.room.add_permits(weight(&piece) as usize);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = std::mem::take(&mut told.stderr);
        Ok(Ending {
            exit_status: told.exit_status,
            stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        })
    }

    fn release(&mut self) {
        self.room.add_permits(std::mem::take(&mut self.weight));
    }
}

fn weight(piece: &Bytes) -> u32 {
    u32::try_from(piece.len()).unwrap_or(ROOM).saturating_add(HEAD).min(ROOM)
}

/// Takes a channel's messages until it ends or nobody reads them any more. An empty piece is the end of what
/// is read.
async fn pump(
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    pieces: UnboundedSender<io::Result<Bytes>>,
    room: Arc<Semaphore>,
    told: Arc<Mutex<Told>>,
    broken: Problem,
) {
    let taking = async {
        let mut ended = false;
        loop {
            let piece = match read.wait().await {
                Some(ChannelMsg::Data { data }) if !data.is_empty() && !ended => data,
                Some(ChannelMsg::Eof) if !ended => {
                    ended = true;
                    Bytes::new()
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    let free = WORDS.saturating_sub(told.stderr.len()).min(data.len());
                    told.stderr.extend(data.get(..free).unwrap_or_default());
                    continue;
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    told.lock().unwrap_or_else(PoisonError::into_inner).exit_status = Some(exit_status);
                    continue;
                }
                Some(ChannelMsg::Close) => return,
                Some(_) => continue,
                None => {
                    // Nobody reads it: nobody misses it.
                    let _ = pieces.send(Err(io::Error::new(io::ErrorKind::ConnectionReset, broken)));
                    return;
                }
            };
            match room.acquire_many(weight(&piece)).await {
                Ok(taken) => taken.forget(),
                Err(_) => return,
            }
            if pieces.send(Ok(piece)).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = taking => {}
        () = pieces.closed() => {}
    }
    // One that the server has closed, or that is gone with the connection, needs no more words.
    let _ = write.close().await;
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.begun.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.release();
            match ready!(self.pieces.poll_recv(context)) {
                Some(Ok(piece)) => {
                    self.ended = piece.is_empty();
                    self.weight = weight(&piece) as usize;
                    self.begun = piece;
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.ended = true,
            }
        }
        let len = self.begun.len().min(buffer.remaining());
        buffer.put_slice(self.begun.get(..len).unwrap_or_default());
        self.begun.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(context)
    }
}
