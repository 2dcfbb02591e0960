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
    /// The server is not asked; this is the whole answer.
    Answer(String),
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

async fn play(act: Act, mut client: TcpStream, head: String, server: u16) {
    let limit = match &act {
        Act::Answer(text) => {
            client.write_all(text.as_bytes()).await.ok();
            client.shutdown().await.ok();
            return;
        }
        Act::Pass => usize::MAX,
        Act::Reset(limit) | Act::Close(limit) | Act::Stall(limit) => *limit,
    };
    let Ok(mut upstream) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (line, rest) = head.split_once("\r\n").expect("a request line");
    let head = format!("{line}\r\nConnection: close\r\n{rest}");
    upstream.write_all(head.as_bytes()).await.ok();
    let mut left = limit;
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let Ok(read @ 1..) = upstream.read(&mut buffer).await else { break };
        let part = read.min(left);
        if client.write_all(&buffer[..part]).await.is_err() {
            return;
        }
        left -= part;
    }
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
