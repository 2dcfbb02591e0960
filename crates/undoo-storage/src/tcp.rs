//! A connection to a server by name, for the protocols that are not HTTP: with a time-out, and with the same
//! words for why none came about.

use std::io;

use tokio::net::{TcpStream, lookup_host};

use crate::{
    fault::{Cause, Fault, chain},
    options::Options,
};

pub(crate) async fn connect(host: &str, port: u16, options: &Options) -> Result<TcpStream, Fault> {
    let patience = options.connect_timeout;
    let connecting = async {
        let addresses = lookup_host((host, port)).await.map_err(|error| Fault {
            detail: error.to_string(),
            ..Cause::NameNotResolved { host: host.to_owned() }.into()
        })?;
        let mut fault = Fault::from(Cause::NameNotResolved { host: host.to_owned() });
        for address in addresses {
            if !options.reach.allows(address.ip()) {
                return Err(Cause::OutOfReach { host: host.to_owned() }.into());
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|error| from_io(&error))?;
                    return Ok(stream);
                }
                Err(error) => fault = from_io(&error),
            }
        }
        Err(fault)
    };
    tokio::time::timeout(patience, connecting).await.unwrap_or_else(|_| Err(Cause::Unreachable.into()))
}

/// Why a connection failed or broke.
pub(crate) fn from_io(error: &io::Error) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cause::Unreachable,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        _ => Cause::Broken,
    };
    Fault { detail: chain(error), ..cause.into() }
}
