//! A way from inside a mover to what only this machine has: storage that listens on its loopback, and, for a mover
//! on another server, a file.
//!
//! A MinIO on `127.0.0.1` is nobody's but this machine's. For as long as a mover reads from it, its port
//! is forwarded from the address by which the environment's network sees this machine, and no other.

mod far;
pub mod inside;

use std::net::IpAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use undoo_core::{Kind, Problem, Result};
use undoo_storage::Access;
use url::{Host, Url};

pub use far::Far;

/// What a storage is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A backup is read from it.
    Read,
    /// A backup is written to it.
    Write,
}

/// A forwarded port; it closes when this is dropped.
pub struct Relay {
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Forwards the port of `access`, and rewrites its address, if it is one of loopback.
    ///
    /// # Errors
    /// `Unavailable` when no port can be opened on `gateway`.
    pub async fn for_access(access: &mut Access, gateway: Option<IpAddr>) -> Result<Option<Self>> {
        use secrecy::ExposeSecret;
        let address = match access {
            Access::Local { .. } => None,
            Access::Http(http) => Some(http.url.expose_secret().to_owned()),
            Access::S3(s3) => s3.endpoint.clone(),
            // Their other connections name ports of their own.
            Access::Ftp(_) | Access::Sftp(_) => None,
        };
        let Some(mut url) = address.and_then(|address| Url::parse(&address).ok()) else { return Ok(None) };
        if url.scheme() != "http" || !is_loopback(&url) {
            return Ok(None);
        }
        let Some(gateway) = gateway else { return Ok(None) };
        let to = format!("127.0.0.1:{}", url.port_or_known_default().unwrap_or(80));
        let listener = TcpListener::bind((gateway, 0)).await.map_err(|error| unreachable(&url, error))?;
        let port = listener.local_addr().map_err(|error| unreachable(&url, error))?.port();
        // Both are of kinds that a URL with a host accepts.
        let rewritten = url.set_ip_host(gateway).and_then(|()| url.set_port(Some(port)));
        if rewritten.is_err() {
            return Ok(None);
        }
        match access {
            Access::Local { .. } | Access::Ftp(_) | Access::Sftp(_) => {}
            Access::Http(http) => http.url = url.to_string().into(),
            Access::S3(s3) => s3.endpoint = Some(url.to_string().trim_end_matches('/').to_owned()),
        }
        Ok(Some(Self { task: tokio::spawn(forward(listener, to)) }))
    }
}

/// Refuses a place that only this machine can open, for a mover on another one. A backup that is one file is
/// brought to it ([`Far`]).
///
/// # Errors
/// `backup_not_on_server` for a folder of this machine, `storage_not_on_server` for what listens on its loopback
/// only.
pub fn refuse_from(server: &str, access: &Access, used: Use) -> Result<()> {
    let is_brought = matches!(access, Access::Local { path } if used == Use::Read && !path.is_dir());
    if is_brought || access.on_this_server().is_none() {
        return Ok(());
    }
    let shown = server.rsplit('@').next().unwrap_or(server);
    let elsewhere =
        "use a storage that the server reaches: s3://, r2://, b2://, minio://, sftp://, ftp:// or https://";
    let (code, message) = match access {
        Access::Local { .. } => (
            "backup_not_on_server",
            format!("{access} is a folder of this machine, and the target is on another ({shown})"),
        ),
        _ => (
            "storage_not_on_server",
            format!("{access} is reached from this machine only, and the target is on another ({shown})"),
        ),
    };
    Err(Problem::new(Kind::Invalid, code, message, elsewhere))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn unreachable(url: &Url, error: std::io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "relay",
        format!("{} listens on loopback and could not be made reachable from the target", url.authority()),
        "let the storage listen on an address that the target's network can reach",
    )
    .caused_by(error)
}

async fn forward(listener: TcpListener, to: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(&to).await else { return };
            if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
                tracing::debug!(%error, "a forwarded connection broke");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use undoo_storage::Location;

    use super::*;

    #[test]
    fn what_only_this_machine_opens_is_refused_for_a_target_on_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("b.zip");
        std::fs::write(&file, "").expect("a file");
        let code = |address: &str, used| {
            let location = Location::parse(address).expect(address);
            let access = location.with_variables(|_| Some("x".into())).expect(address);
            refuse_from("ssh://u@10.0.0.7", &access, used).err().map(|problem| problem.code)
        };
        let (file, folder) = (file.display().to_string(), folder.path().display().to_string());
        assert_eq!(code(&file, Use::Read), None);
        assert_eq!(code(&folder, Use::Read), Some("backup_not_on_server"));
        assert_eq!(code(&folder, Use::Write), Some("backup_not_on_server"));
        for used in [Use::Read, Use::Write] {
            assert_eq!(code("http://127.0.0.1:8080/b.zip", used), Some("storage_not_on_server"));
            assert_eq!(code("sftp://u@localhost/b", used), Some("storage_not_on_server"));
            assert_eq!(code("s3://bucket/b.zip", used), None);
        }
    }
}
