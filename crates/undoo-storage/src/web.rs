//! The ground that every HTTP client of Undoo stands on: whom it trusts, how it finds servers, and how far that
//! leads.

use std::{error::Error as StdError, io, sync::Arc};

use reqwest::{
    ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

pub use crate::fault::find;
use crate::reach::Reach;

/// A client that reaches so far. What it waits for and whom it follows is its maker's to say.
pub fn client(reach: Reach) -> ClientBuilder {
    // A mover runs in a PostgreSQL image, which has no certificate authorities of its own: the
    // public ones are built in, and the system's come on top where there are any.
    let public_roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|root| reqwest::Certificate::from_der(root.as_ref()).ok());
    // Bytes must arrive as they are stored, whatever features other crates switch on in reqwest.
    reqwest::Client::builder()
        .tls_certs_merge(public_roots)
        .dns_resolver(Arc::new(SystemResolver(reach)))
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
}

/// Whether the server of an address may be connected to, where that is written out; names are the resolver's to
/// judge.
pub fn is_within(reach: Reach, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().map_or(true, |address| reach.allows(address))
}

/// The name of a server leads to an address that is not to be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to an address that is not to be connected to")]
pub struct OutOfReach {
    /// The name.
    pub host: String,
}

/// The name of a server has no address.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}")]
pub struct NotResolved {
    /// The name.
    pub host: String,
    source: io::Error,
}

/// The system's resolver, with errors that can be told from other failures to connect.
struct SystemResolver(Reach);

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(Vec::from_iter);
            match found {
                Ok(addresses) if !addresses.iter().all(|address| reach.allows(address.ip())) => {
                    Err(Box::new(OutOfReach { host }) as Box<dyn StdError + Send + Sync>)
                }
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(source) => Err(Box::new(NotResolved { host, source }) as Box<dyn StdError + Send + Sync>),
            }
        })
    }
}
