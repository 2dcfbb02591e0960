//! The other end of [`super::far`], in a mover's container: what connects to its loopback becomes a stream over
//! standard input and output. What comes over them is never taken for more than the other end of such a stream.

use std::{
    collections::VecDeque,
    future::poll_fn,
    process::ExitCode,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional, stdin, stdout},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Connection, Mode};

/// Connections that wait for a stream.
const WAITING: usize = 64;

/// Says its port as a line, then forwards until standard input ends.
pub async fn run() -> ExitCode {
    match forward().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("undoo relay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn forward() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut out = stdout();
    out.write_all(format!("{}\n", listener.local_addr()?.port()).as_bytes()).await?;
    out.flush().await?;
    let (sender, mut connected) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            if sender.send(near).await.is_err() {
                return;
            }
        }
    });
    let way = tokio::io::join(stdin(), out).compat();
    let mut connection = Connection::new(way, yamux::Config::default(), Mode::Client);
    let mut waiting = VecDeque::new();
    poll_fn(|cx| drive(&mut connection, &mut connected, &mut waiting, cx)).await;
    Ok(())
}

/// Gives each connection a stream, and moves the bytes of all of them.
fn drive<T>(
    connection: &mut Connection<T>,
    connected: &mut mpsc::Receiver<TcpStream>,
    waiting: &mut VecDeque<TcpStream>,
    cx: &mut Context<'_>,
) -> Poll<()>
where
    T: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin,
{
    loop {
        while waiting.len() < WAITING
            && let Poll::Ready(Some(near)) = connected.poll_recv(cx)
        {
            waiting.push_back(near);
        }
        if !waiting.is_empty() {
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    let Some(mut near) = waiting.pop_front() else { continue };
                    tokio::spawn(async move {
                        // A reader that leaves is its own affair.
                        _ = copy_bidirectional(&mut near, &mut stream.compat()).await;
                    });
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        match connection.poll_next_inbound(cx) {
            // Nobody there begins anything.
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}
