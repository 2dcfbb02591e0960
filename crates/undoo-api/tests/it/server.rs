//! A server that does what a test says, request by request: answers, breaks off, stalls.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

/// What is done with a request.
pub enum Step {
    /// These bytes, and the end of the connection.
    Say(String),
    /// These bytes, and nothing more.
    Stall(String),
    /// These bytes, whatever is sent, and nothing more.
    Blurt(String),
    /// What comes through the channel, until its other end is dropped.
    Feed(mpsc::Receiver<String>),
}

/// A running server.
pub struct Server {
    /// Its address.
    pub base: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// A server that takes one step for each request, and refuses connections when there are no more.
    pub async fn with(steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, steps) = (Arc::clone(&requests), steps.into_iter().collect::<Vec<_>>());
        let task = tokio::spawn(async move {
            let mut stalled = Vec::new();
            for step in steps {
                let (mut connection, _) = listener.accept().await.unwrap();
                if !matches!(step, Step::Blurt(_)) {
                    let request = read(&mut connection).await;
                    seen.lock().unwrap().push(request);
                }
                match step {
                    Step::Say(text) => drop(connection.write_all(text.as_bytes()).await),
                    Step::Stall(text) | Step::Blurt(text) => {
                        connection.write_all(text.as_bytes()).await.unwrap();
                        stalled.push(connection);
                    }
                    Step::Feed(mut texts) => {
                        while let Some(text) = texts.recv().await {
                            connection.write_all(text.as_bytes()).await.unwrap();
                        }
                    }
                }
            }
            drop(listener);
            std::future::pending::<()>().await;
        });
        Self { base, requests, task }
    }

    /// The requests so far, each as it came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= end + 4 + length {
                return String::from_utf8(request).unwrap();
            }
        }
        match connection.read(&mut piece).await.unwrap() {
            0 => return String::from_utf8(request).unwrap(),
            read => request.extend_from_slice(&piece[..read]),
        }
    }
}

/// An answer with a body.
pub fn answer(status: &str, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Say(format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

/// An answer of Undoo.
pub fn json(body: &serde_json::Value) -> Step {
    answer("200 OK", "content-type: application/json\r\n", &body.to_string())
}

/// A problem of Undoo.
pub fn problem(status: u16, body: &serde_json::Value) -> Step {
    answer(&format!("{status} No"), "content-type: application/problem+json\r\n", &body.to_string())
}

/// The beginning of a stream of events.
pub const EVENTS: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
