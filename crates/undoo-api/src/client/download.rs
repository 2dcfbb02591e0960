//! Fetching a backup by one of its addresses: nothing but the address is shown, since that is all it takes.

use reqwest::Response;
use tokio::time::timeout;
use undoo_core::{Kind, Problem, Result};
use url::Url;

use super::{Client, Shown};
use crate::secret::Secret;

/// A backup, or a part of it, on its way.
pub struct Download {
    from: Client,
    response: Response,
}

impl Client {
    /// Begins to fetch what is at an address that the server has given out. Errors name its host and no more.
    ///
    /// # Errors
    /// When it is not there, does not hold any more, or cannot be reached.
    pub async fn fetch(&self, address: &Secret) -> Result<Download> {
        let url = Url::parse(address.expose()).ok().filter(Url::has_host).ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "download_address",
                "the server gave out an address that is none",
                "see which public address the server is configured with",
            )
        })?;
        let mut host = url.clone();
        host.set_path("");
        host.set_query(None);
        host.set_fragment(None);
        let _ = host.set_username("").and_then(|()| host.set_password(None));
        let from = Self { base: host, shown: Shown::Nothing, ..self.clone() };
        let response = from.at(url).begun().await?;
        Ok(Download { from, response })
    }
}

impl Download {
    /// Bytes that will come, where that is known.
    pub fn total(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off, or falls silent.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match timeout(self.from.patience.silence, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk.map(Into::into)),
            Ok(Err(error)) => Err(self.from.broken_off(error)),
            Err(_) => Err(self.from.silent()),
        }
    }
}
