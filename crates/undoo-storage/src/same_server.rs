//! Whether a backup dies with the server that it is of.
//!
//! It is told by the address alone, and so is no more than a warning: a folder may be another machine's,
//! and a name may lead back here. Nothing is asked of a server or a file system.

use std::net::IpAddr;

use reqwest::Url;
use secrecy::ExposeSecret;
use undoo_core::Finding;

use crate::access::Access;

impl Access {
    /// A warning where what lies there is kept by the machine that opens it: in one of its folders, or behind
    /// a loopback address. Where the target is another machine, that is none, and this is not asked.
    pub fn on_this_server(&self) -> Option<Finding> {
        let by = match self {
            Self::Local { .. } => String::new(),
            _ => format!(" ({})", self.host().filter(|host| is_loopback(host))?),
        };
        Some(Finding::warning(
            "backup_on_same_server",
            format!("{self} is on this machine{by}: what takes the machine takes the backup too"),
            "Keep a copy elsewhere: another server, or an object storage. If the folder is another machine's \
             disk, all is well.",
        ))
    }

    /// The server that is connected to, by name or address; none for folders. That of a bucket may be another
    /// one than its endpoint's: the bucket's name can stand before it.
    pub fn connects_to(&self) -> Option<String> {
        match self {
            Self::S3(access) => access.bucket_url().ok()?.host_str().map(str::to_owned),
            other => other.host(),
        }
    }

    /// The server's name or address; none for folders, and where the provider has its own.
    fn host(&self) -> Option<String> {
        let of_url = |url: &str| Url::parse(url).ok()?.host_str().map(str::to_owned);
        match self {
            Self::Local { .. } => None,
            Self::Http(access) => of_url(access.url.expose_secret()),
            Self::S3(access) => of_url(access.endpoint.as_deref()?),
            Self::Ftp(access) => Some(access.host.clone()),
            Self::Sftp(access) => Some(access.ssh.host.clone()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::Location;

    #[test]
    fn folders_and_loopback_addresses_are_on_this_server_and_others_are_not() {
        let finding = |address: &str| {
            let access = Location::parse(address).expect(address).with_variables(|_| Some("x".into()));
            access.expect(address).on_this_server()
        };
        for address in [
            "/srv/backups",
            "b.zip",
            "minio://127.0.0.1:9000/b/k",
            "s3://b/k?endpoint=http%3A%2F%2Flocalhost%3A8333",
            "http://[::1]:8080/b.zip",
            "http://user:secret@127.1.2.3/b.zip",
            "sftp://u@localhost/b",
            "ftp://u@LOCALHOST./b",
        ] {
            let finding = finding(address).unwrap_or_else(|| panic!("{address}"));
            assert_eq!(finding.code, "backup_on_same_server");
            assert!(!finding.message.contains("secret"), "{}", finding.message);
        }
        for address in
            ["https://example.org/b.zip", "r2://b/k?account=a1", "sftp://u@nas/b", "ftp://10.0.0.7/b"]
        {
            assert_eq!(finding(address), None, "{address}");
        }
    }
}
