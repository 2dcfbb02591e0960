//! A proxy between a test and a server that breaks the answers it is told to break.
//!
//! Each connection carries one request, so that each act of the script meets exactly one request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It is answered as the server answers it.
    Pass,
    /// After so many bytes of the answer the connection is reset.
    Reset(usize),
    /// After so many bytes of the answer the connection is closed in good order.
    Close(usize),
    /// After so many bytes of the answer nothing more comes.
    Stall(usize),
    /// The server is not asked; this is the whole answer, given when the request has come whole.
    Answer(String),
    /// After so many bytes of the request's content the connection is reset.
    ResetContent(usize),
    /// After so many bytes of the request's content nothing more is taken.
    StallContent(usize),
    /// Everything takes so many bytes per second.
    Slow(usize),
}

/// An answer as a server writes it.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Answer(format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    ))
}

/// A refusal as S3 writes it.
pub(crate) fn s3_refusal(status: u16, code: &str) -> Act {
    answer(
        status,
        "",
        &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message></Error>"),
    )
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// `script` is played request by request; `then` meets all further ones.
    pub(crate) async fn start(server: u16, script: Vec<Act>, then: Act) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut script = VecDeque::from(script);
            while let Ok((client, _)) = listener.accept().await {
                let mut client = client;
                let Some(head) = read_head(&mut client).await else { continue };
                seen.lock().expect("no panic above").push(head.clone());
                let act = script.pop_front().unwrap_or_else(|| then.clone());
                tokio::spawn(play(act, client, head, server));
            }
        });
        Self { port, heads, task }
    }

    /// The value of the `Range` header of each request so far, empty where there was none.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let heads = self.heads.lock().expect("no panic above");
        let range = |head: &String| {
            let line =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(str::to_owned));
            line.unwrap_or_default()
        };
        heads.iter().map(range).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// How many bytes of content the head of a request announces.
fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let line = line.to_lowercase();
        line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
    });
    length.unwrap_or(0)
}

async fn play(act: Act, mut client: TcpStream, head: String, server: u16) {
    let length = content_length(&head);
    let pace = if let Act::Slow(rate) = act { Some(rate) } else { None };
    if let Act::Answer(text) = &act {
        pass(&mut client, None, length, None).await;
        client.write_all(text.as_bytes()).await.ok();
        client.shutdown().await.ok();
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (line, rest) = head.split_once("\r\n").expect("a request line");
    let head = format!("{line}\r\nConnection: close\r\n{rest}");
    upstream.write_all(head.as_bytes()).await.ok();
    let taken = match act {
        Act::ResetContent(limit) | Act::StallContent(limit) => length.min(limit),
        _ => length,
    };
    pass(&mut client, Some(&mut upstream), taken, pace).await;
    match act {
        Act::ResetContent(_) => {
            client.set_zero_linger().ok();
            return;
        }
        Act::StallContent(_) => return tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    let limit = match act {
        Act::Reset(limit) | Act::Close(limit) | Act::Stall(limit) => limit,
        _ => usize::MAX,
    };
    // The server is heard out even where nothing is passed on, so that it has done what it was asked.
    if limit == 0 {
        upstream.read_u8().await.ok();
    }
    pass(&mut upstream, Some(&mut client), limit, pace).await;
    match act {
        Act::Reset(_) => {
            client.set_zero_linger().ok();
        }
        Act::Stall(_) => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {
            client.shutdown().await.ok();
        }
    }
}

/// Passes so many bytes on, at a pace if there is one.
async fn pass(from: &mut TcpStream, mut to: Option<&mut TcpStream>, mut left: usize, pace: Option<usize>) {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let part = read.min(left);
        if let Some(to) = &mut to
            && to.write_all(&buffer[..part]).await.is_err()
        {
            return;
        }
        left -= part;
        if let Some(rate) = pace {
            tokio::time::sleep(Duration::from_secs_f64(part as f64 / rate as f64)).await;
        }
    }
}

/// A tunnel to a server of any protocol. Its first connections are reset after so many bytes each from the
/// client, those after them live.
pub(crate) struct Tunnel {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Tunnel {
    pub(crate) async fn start(server: u16, resets: Vec<usize>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let task = tokio::spawn(async move {
            let mut resets = VecDeque::from(resets);
            while let Ok((client, _)) = listener.accept().await {
                let limit = resets.pop_front().unwrap_or(usize::MAX);
                tokio::spawn(async move {
                    let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let (mut back, mut there) = upstream.into_split();
                    let (mut from, mut to) = client.into_split();
                    let answers = tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
                    let mut taken = (&mut from).take(limit as u64);
                    tokio::io::copy(&mut taken, &mut there).await.ok();
                    from.as_ref().set_zero_linger().ok();
                    answers.abort();
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}
