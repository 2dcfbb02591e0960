//! A way to a server on loopback that is as slow as a test wants it, and that can turn everybody away.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The way; it closes when the test's process ends.
pub(crate) struct Link {
    pub(crate) port: u16,
    refuses: Arc<AtomicBool>,
    /// Bytes a second that go to the server; 0 is as many as can.
    rate: Arc<AtomicU64>,
}

/// What S3 answers who may not.
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";

impl Link {
    /// A way to this port.
    pub(crate) fn to(server: u16) -> Self {
        Self::at("127.0.0.1", server)
    }

    /// A way from this address of the machine to this port of the loopback.
    pub(crate) fn at(address: &str, server: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (refuses, rate) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (refusing, bytes) = (Arc::clone(&refuses), Arc::clone(&rate));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (refusing, bytes) = (Arc::clone(&refusing), Arc::clone(&bytes));
                thread::spawn(move || {
                    // A connection that breaks is what the other side has to live with.
                    let _ = serve(client, server, &refusing, &bytes);
                });
            }
        });
        Self { port, refuses, rate }
    }

    /// From now on this many bytes a second go to the server, on each connection.
    pub(crate) fn slow_down(&self, rate: u64) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    /// Breaks everything off and lets nobody do anything any more, or does so no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }
}

fn serve(mut client: TcpStream, server: u16, refuses: &Arc<AtomicBool>, rate: &AtomicU64) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server))?;
    let (mut back, mut from) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = client.read(&mut buffer)?;
        if refuses.load(Ordering::SeqCst) {
            let length = DENIED.len();
            write!(
                client,
                "HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{DENIED}"
            )?;
            // Its request is read to its end, so that the answer is not lost by a reset.
            client.set_read_timeout(Some(Duration::from_millis(200)))?;
            while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
            return server.shutdown(Shutdown::Both);
        }
        if read == 0 {
            return server.shutdown(Shutdown::Both);
        }
        let pause = (read as u64 * 1_000_000).checked_div(rate.load(Ordering::SeqCst));
        thread::sleep(Duration::from_micros(pause.unwrap_or_default()));
        server.write_all(&buffer[..read])?;
    }
}
