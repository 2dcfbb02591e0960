//! A location together with what it takes to use it, and the way from there to bytes.
//!
//! An [`Access`] cannot be serialised by accident: only a [`crate::StorageOrder`] made of it can. Neither
//! shows its secrets in `Debug`.

use std::{fmt, path::PathBuf, sync::Arc};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use undoo_core::{Kind, Problem, Result};

use crate::{
    client::{Client, Redirects},
    fault::Doing,
    folder::{Folder, backup_missing, blocking},
    ftp::FtpStorage,
    http_source::HttpSource,
    local::{LocalFile, LocalFolder, local_problem},
    local_storage::LocalStorage,
    location::{Location, redacted},
    lock::ObjectLock,
    object::{Object, Opened},
    options::Options,
    resume::{Source, retrying},
    s3::S3Storage,
    sftp::SftpStorage,
    storage::{Storage, backup_parts},
};

/// Where a backup lies or backups are kept, with credentials.
#[derive(Debug, Clone)]
pub enum Access {
    /// A file or folder on the machine that opens it.
    Local {
        /// Relative paths start at the current folder of the process that opens it.
        path: PathBuf,
    },
    /// See [`HttpAccess`].
    Http(HttpAccess),
    /// See [`S3Access`].
    S3(S3Access),
    /// See [`FtpAccess`].
    Ftp(FtpAccess),
    /// See [`SftpAccess`].
    Sftp(SftpAccess),
}

/// A file behind an http or https address.
#[derive(Debug, Clone)]
pub struct HttpAccess {
    /// The whole address, with what it holds of user, password and signature.
    pub url: SecretString,
}

/// Whose S3 it is: what is assumed where nothing is said, and what is held back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Provider {
    /// Amazon's, and every server that is none of the others and speaks the protocol.
    #[default]
    #[serde(rename = "aws_s3")]
    Aws,
    /// Cloudflare R2.
    #[serde(rename = "cloudflare_r2")]
    R2,
    /// Backblaze B2.
    #[serde(rename = "backblaze_b2")]
    B2,
    /// MinIO.
    #[serde(rename = "minio")]
    Minio,
}

impl Provider {
    /// What its addresses begin with.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Aws => "s3",
            Self::R2 => "r2",
            Self::B2 => "b2",
            Self::Minio => "minio",
        }
    }

    /// R2 wants all parts of an upload but the last to have one size.
    /// <https://developers.cloudflare.com/r2/objects/multipart-objects/>
    pub(crate) fn parts_may_differ(self) -> bool {
        self != Self::R2
    }

    /// Where parts cannot grow, they begin larger: 10,000 of 32 MiB are 335 GB.
    pub(crate) fn smallest_part(self) -> usize {
        if self.parts_may_differ() { 0 } else { 32 * 1024 * 1024 }
    }
}

/// An object or a prefix in S3.
#[derive(Debug, Clone)]
pub struct S3Access {
    /// Whose S3 it is.
    pub provider: Provider,
    /// The bucket's name.
    pub bucket: String,
    /// The object's key; empty or ending in a slash for a folder.
    pub key: String,
    /// The server's address. AWS and B2 are found by their region without one.
    pub endpoint: Option<String>,
    /// The bucket's region; without one `us-east-1`, `auto` for R2, and that of the endpoint for B2.
    pub region: Option<String>,
    /// Whether requests name the bucket in their path, and not before the host's name. Without it: at
    /// every endpoint that is given, since not every server has a host name for each bucket.
    pub path_style: Option<bool>,
    /// What backups are locked with when they are written, if anything.
    pub lock: Option<ObjectLock>,
    /// The key to use it with.
    pub credentials: S3Credentials,
}

impl S3Access {
    /// The region that requests are signed for.
    pub(crate) fn region(&self) -> &str {
        let named = || {
            let endpoint = self.endpoint.as_deref().filter(|_| self.provider == Provider::B2)?;
            endpoint.split_once("//s3.")?.1.split_once(".backblazeb2.com").map(|(region, _)| region)
        };
        let assumed = if self.provider == Provider::R2 { "auto" } else { "us-east-1" };
        self.region.as_deref().or_else(named).unwrap_or(assumed)
    }

    /// The endpoint, given or known.
    pub(crate) fn endpoint(&self) -> Option<String> {
        let known = || match (self.provider, self.region.as_deref()) {
            (Provider::Aws, region) => {
                let region = region.unwrap_or("us-east-1");
                let end = if region.starts_with("cn-") { ".cn" } else { "" };
                Some(format!("https://s3.{region}.amazonaws.com{end}"))
            }
            (Provider::B2, Some(region)) => Some(format!("https://s3.{region}.backblazeb2.com")),
            _ => None,
        };
        self.endpoint.clone().or_else(known)
    }

    /// A dot in the bucket's name would not match the certificate as a host name.
    pub(crate) fn path_style(&self) -> bool {
        let assumed = self.endpoint.is_some() || self.provider != Provider::Aws || self.bucket.contains('.');
        self.path_style.unwrap_or(assumed)
    }
}

/// A key for S3. The secrets are overwritten in memory when dropped; the library that signs keeps a copy of
/// its own while something is open.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// Names the key; not secret.
    pub access_key_id: String,
    /// The secret that requests are signed with.
    pub secret_access_key: SecretString,
    /// Comes with temporary keys.
    pub session_token: Option<SecretString>,
}

/// A file or folder on an FTP server.
#[derive(Debug, Clone)]
pub struct FtpAccess {
    /// Name or address.
    pub host: String,
    /// 21 if none is given.
    pub port: Option<u16>,
    /// Who logs in; `anonymous` if nobody is named.
    pub user: Option<String>,
    /// Their password.
    pub password: Option<SecretString>,
    /// From the folder in which a login ends; from the root where it begins with a slash.
    pub path: String,
    /// Whether the connection is encrypted.
    pub tls: FtpTls,
}

/// When TLS is used with FTP (`AUTH TLS`, RFC 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FtpTls {
    /// Always; a server without it is refused.
    Require,
    /// Where the server offers it; an offered one that cannot be trusted is refused.
    #[default]
    Prefer,
    /// Never: password and bytes are readable on the way.
    Off,
}

/// An SSH server, and who logs in there.
#[derive(Debug, Clone)]
pub struct SshAccess {
    /// Name or address.
    pub host: String,
    /// 22 if none is given.
    pub port: Option<u16>,
    /// Who logs in.
    pub user: String,
    /// A password, tried after the key if there is one.
    pub password: Option<SecretString>,
    /// A private key as `ssh-keygen` writes it.
    pub private_key: Option<SecretString>,
    /// What that key is encrypted with.
    pub passphrase: Option<SecretString>,
    /// The server's key that was confirmed: its fingerprint (`SHA256:…`) or the key itself as in
    /// `known_hosts`. Without one, opening ends with the problem `host_key_unknown`, which names it.
    pub host_key: Option<String>,
}

/// A file or folder on an SSH server.
#[derive(Debug, Clone)]
pub struct SftpAccess {
    /// The server.
    pub ssh: SshAccess,
    /// From the user's home; from the root where it begins with a slash.
    pub path: String,
}

impl Access {
    /// Opens what lies there and pins it to the version found.
    ///
    /// # Errors
    /// With a code for each cause that a person can act on: `backup_missing`, `bucket_missing`,
    /// `no_permission`, `wrong_key`, `wrong_login`, `host_key_unknown`, `host_key_changed`,
    /// `token_expired`, `sign_in_required`, `clock_off`, `wrong_region`, `name_not_resolved`,
    /// `connection_refused`, `storage_unreachable`, `tls_failed`, `tls_not_offered`, `no_ranges`,
    /// `backup_in_cold_storage` at once; `storage_busy`, `storage_failed`, `storage_timed_out`,
    /// `connection_broken` after the retries of `options`.
    pub async fn open(&self, options: &Options) -> Result<Opened> {
        let place = self.to_string();
        match self {
            Self::Local { path } => open_local(path.clone(), place, options.clone()).await,
            Self::Http(access) => {
                let url = Url::parse(access.url.expose_secret()).map_err(|error| {
                    let message = format!("{place} is not an http address: {error}");
                    Problem::new(Kind::Invalid, "invalid_address", message, "Check the address.")
                })?;
                let client = Client::new(options, Redirects::Follow)?;
                let source = HttpSource { client, url, signer: None };
                let request = || source.version();
                let version = retrying(&source.client.seen, &place, options, request).await;
                let version = version.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
                let object = Object::remote(place, version, Box::new(source), options);
                Ok(Opened::File(Arc::new(object)))
            }
            Self::S3(access) if access.key.is_empty() || access.key.ends_with('/') => {
                let storage = S3Storage::new(access, access.key.clone(), place.clone(), options)?;
                let empty = storage.is_empty().await;
                if empty.map_err(|fault| fault.into_problem(Doing::List, &place))? {
                    return Err(backup_missing(&place));
                }
                Ok(Opened::Folder(Arc::new(Folder::remote(Arc::new(storage)))))
            }
            Self::S3(access) => {
                let root = place.strip_suffix(&access.key).unwrap_or(&place);
                let storage = S3Storage::new(access, String::new(), root.to_owned(), options)?;
                Ok(Opened::File(storage.open(&access.key).await?))
            }
            Self::Ftp(access) => {
                let storage = FtpStorage::new(access, place, options)?;
                storage.open_itself().await
            }
            Self::Sftp(access) => {
                let storage = SftpStorage::new(access, place, options)?;
                storage.open_itself().await
            }
        }
    }

    /// What lies there as a place to keep objects in: a folder, made when something is written to it, or
    /// a prefix. No connection is made yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for http addresses, which can only be read, and for settings that do not fit
    /// together.
    pub fn storage(&self, options: &Options) -> Result<Arc<dyn Storage>> {
        let mut place = self.to_string();
        if !place.ends_with('/') {
            place.push('/');
        }
        Ok(match self {
            Self::Local { path } => Arc::new(LocalStorage::new(path.clone(), place, options)),
            Self::Http(_) => {
                return Err(Problem::new(
                    Kind::Invalid,
                    "storage_read_only",
                    format!("{place} is an http address, which can only be read"),
                    "Give a folder, or an s3://, r2://, b2://, minio://, ftp:// or sftp:// address.",
                ));
            }
            Self::S3(access) => {
                let mut prefix = access.key.clone();
                if !prefix.is_empty() && !prefix.ends_with('/') {
                    prefix.push('/');
                }
                Arc::new(S3Storage::new(access, prefix, place, options)?)
            }
            Self::Ftp(access) => Arc::new(FtpStorage::new(access, place, options)?),
            Self::Sftp(access) => Arc::new(SftpStorage::new(access, place, options)?),
        })
    }

    /// The storage that an object lies in and its key there, where the address ends in the key of a backup:
    /// `backups/ORGANISATION/ENVIRONMENT/NAME`.
    pub fn in_storage(&self) -> Option<(Self, String)> {
        let split = |path: &str| {
            let slash = path.rmatch_indices('/').nth(3).map_or(0, |(at, _)| at + 1);
            let (root, key) = path.split_at_checked(slash)?;
            backup_parts(key).map(|_| (root.to_owned(), key.to_owned()))
        };
        let mut root = self.clone();
        let key = match &mut root {
            Self::Http(_) => return None,
            Self::Local { path } => {
                let (folder, key) = split(path.to_str()?)?;
                *path = if folder.is_empty() { ".".into() } else { folder.into() };
                key
            }
            Self::S3(S3Access { key: path, .. })
            | Self::Ftp(FtpAccess { path, .. })
            | Self::Sftp(SftpAccess { path, .. }) => {
                let (folder, key) = split(path)?;
                *path = folder;
                key
            }
        };
        Some((root, key))
    }

    /// The same place without credentials.
    pub fn location(&self) -> Location {
        match self {
            Self::Local { path } => Location::Local { path: path.clone() },
            Self::Http(HttpAccess { url }) => Location::Http { url: url.clone() },
            Self::S3(access) => Location::S3 {
                provider: access.provider,
                bucket: access.bucket.clone(),
                key: access.key.clone(),
                endpoint: access.endpoint.clone(),
                region: access.region.clone(),
                path_style: access.path_style,
                lock: access.lock,
            },
            Self::Ftp(access) => Location::Ftp(FtpAccess { password: None, ..access.clone() }),
            Self::Sftp(SftpAccess { ssh, path }) => Location::Sftp(SftpAccess {
                ssh: SshAccess { password: None, private_key: None, passphrase: None, ..ssh.clone() },
                path: path.clone(),
            }),
        }
    }
}

/// The address, without secrets.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => path.display().fmt(f),
            Self::Http(HttpAccess { url }) => f.write_str(&redacted(url.expose_secret())),
            Self::S3(S3Access { provider, bucket, key, .. }) => {
                write!(f, "{}://{bucket}/{key}", provider.scheme())
            }
            Self::Ftp(FtpAccess { user, host, port, path, .. }) => {
                show(f, "ftp", user.as_deref(), host, *port, path)
            }
            Self::Sftp(SftpAccess { ssh, path }) => {
                show(f, "sftp", Some(&ssh.user), &ssh.host, ssh.port, path)
            }
        }
    }
}

/// An address on a server with users.
fn show(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: &str,
) -> fmt::Result {
    show_server(f, scheme, user, host, port)?;
    write!(f, "/{path}")
}

/// The address of a server with users.
pub(crate) fn show_server(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
) -> fmt::Result {
    write!(f, "{scheme}://")?;
    if let Some(user) = user {
        write!(f, "{user}@")?;
    }
    // An IPv6 address needs its brackets.
    if host.contains(':') {
        write!(f, "[{host}]")?
    } else {
        f.write_str(host)?
    }
    match port {
        Some(port) => write!(f, ":{port}"),
        None => Ok(()),
    }
}

async fn open_local(path: PathBuf, place: String, options: Options) -> Result<Opened> {
    blocking(move || {
        let found = std::fs::metadata(&path).map_err(|error| local_problem(Doing::Read, &place, error))?;
        if found.is_dir() {
            let folder = LocalFolder::open(&path, &options)?;
            return Ok(Opened::Folder(Arc::new(Folder::local(folder, place))));
        }
        Ok(Opened::File(Arc::new(Object::local(LocalFile::open(path, &options)?))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_ends_in_a_backups_key_tells_the_storage_that_it_is_in() {
        let told = |address: &str| {
            let access = Location::parse(address).expect(address).with_variables(|_| Some("x".into()));
            access.expect(address).in_storage().map(|(root, key)| (root.to_string(), key))
        };
        for (address, root) in [
            ("s3://b/x/backups/o/e/n.zip", "s3://b/x/"),
            ("s3://b/backups/o/e/n.zip", "s3://b/"),
            ("/srv/backups/o/e/n.zip", "/srv/"),
            ("/backups/o/e/n.zip", "/"),
            ("backups/o/e/n.zip", "."),
            ("sftp://u@h//srv/backups/o/e/n.zip", "sftp://u@h//srv/"),
            ("ftp://u@h/backups/o/e/n.zip", "ftp://u@h/"),
        ] {
            assert_eq!(told(address), Some((root.to_owned(), "backups/o/e/n.zip".to_owned())), "{address}");
        }
        for address in ["s3://b/x/n.zip", "n.zip", "/backups/n.zip", "https://h/backups/o/e/n.zip"] {
            assert_eq!(told(address), None, "{address}");
        }
    }
}
