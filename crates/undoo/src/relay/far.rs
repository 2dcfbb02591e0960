//! A backup of this machine for a mover on another server.
//!
//! Beside the mover, in its container, a second `undoo` listens on that container's loopback
//! ([`super::inside`]); what connects there comes here as one of many streams over the second one's standard
//! input and output, and with them over SSH. Each is answered with HTTP, in ranges, and with nothing but this one
//! file. Nobody else on that server or on the way can reach it, and it ends with the mover.

use std::{
    future::poll_fn,
    path::{Path, PathBuf},
};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::JoinHandle,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use tower_http::services::ServeFile;
use undoo_core::{Kind, Problem, Result};
use undoo_hosts::mover::Mover;
use undoo_storage::{Access, HttpAccess};
use url::Url;
use yamux::{Connection, Mode};

/// A file that a mover on another server reads; it cannot any more once this is dropped.
pub struct Far {
    file: PathBuf,
    address: Url,
    task: JoinHandle<()>,
}

impl Drop for Far {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Far {
    /// Lets a mover read this file.
    ///
    /// # Errors
    /// `relay` (`Unavailable`) when the way cannot be opened; those of the engine.
    pub async fn open(mover: &mut Mover, file: &Path) -> Result<Self> {
        let broken = |what: String| {
            let remedy = "try again; if it stays, use a storage that the server reaches";
            Problem::new(Kind::Unavailable, "relay", what, remedy)
        };
        let program = mover.beside(&["relay"]).await?;
        let mut output = BufReader::new(program.output);
        let mut port = String::new();
        let read = output.read_line(&mut port).await;
        read.map_err(|error| broken("the way to the mover broke".into()).caused_by(error))?;
        let address = Url::parse(&format!("http://127.0.0.1:{}/", port.trim()));
        let mut address = address.map_err(|_| broken(format!("the mover's container said: {port}")))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.pop_if_empty().push(&name);
        }
        let way = tokio::io::join(output, program.input).compat();
        let connection = Connection::new(way, yamux::Config::default(), Mode::Server);
        let task = tokio::spawn(serve(connection, file.to_owned()));
        Ok(Self { file: file.to_owned(), address, task })
    }

    /// Whether it is this file.
    pub fn is(&self, file: &Path) -> bool {
        self.file == file
    }

    /// Where the mover finds it.
    pub fn access(&self) -> Access {
        Access::Http(HttpAccess { url: self.address.to_string().into() })
    }
}

async fn serve<T>(mut connection: Connection<T>, file: PathBuf)
where
    T: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin,
{
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        match stream {
            Ok(stream) => {
                let service = TowerToHyperService::new(ServeFile::new(&file));
                tokio::spawn(async move {
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream.compat()), service);
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a reader of a relayed file left");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the way to a mover broke");
                return;
            }
        }
    }
}
