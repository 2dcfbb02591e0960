//! A location together with what it takes to read it, and the form in which that travels to a mover.
//!
//! An [`Access`] cannot be serialised by accident: only a [`StorageOrder`] made of it can, and that is
//! for the standard input of a mover and nothing else. Neither shows its secrets in `Debug`.

use std::{fmt, path::PathBuf, sync::Arc};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use undoo_core::{Kind, Problem, Result};

use crate::{
    client::{Client, Redirects},
    folder::{Folder, blocking},
    http_source::HttpSource,
    local::{LocalFile, LocalFolder, local_problem},
    location::{Location, redacted},
    object::{Object, Opened},
    options::Options,
    resume::{Source, retrying},
    s3_source::Bucket,
};

/// Where a backup lies, with credentials.
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
}

/// A file behind an http or https address.
#[derive(Debug, Clone)]
pub struct HttpAccess {
    /// The whole address, with what it holds of user, password and signature.
    pub url: SecretString,
}

/// An object or a prefix in S3.
#[derive(Debug, Clone)]
pub struct S3Access {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key; empty or ending in a slash for a folder.
    pub key: String,
    /// The server's address, for storages that are not Amazon's; requests to it name the bucket in the
    /// path, since not every server has a host name for each bucket.
    pub endpoint: Option<String>,
    /// The bucket's region; `us-east-1` if none is given.
    pub region: Option<String>,
    /// The key to read it with.
    pub credentials: S3Credentials,
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

impl Access {
    /// Opens what lies there and pins it to the version found.
    ///
    /// # Errors
    /// With a code for each cause that a person can act on: `backup_missing`, `bucket_missing`,
    /// `no_permission`, `wrong_key`, `token_expired`, `sign_in_required`, `clock_off`, `wrong_region`,
    /// `name_not_resolved`, `connection_refused`, `storage_unreachable`, `tls_failed`, `no_ranges`,
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
                let source = HttpSource { client: Client::new(options, Redirects::Follow)?, url };
                let request = || source.version();
                let version = retrying(&source.client, &place, options, request).await;
                let version = version.map_err(|fault| fault.into_problem(&place))?;
                let object = Object::remote(place, version, Source::Http(source), options);
                Ok(Opened::File(Arc::new(object)))
            }
            Self::S3(access) => {
                let bucket = Bucket::new(access, options)?;
                if access.key.is_empty() || access.key.ends_with('/') {
                    let folder = Folder::s3(bucket, access.key.clone(), place, options).await?;
                    return Ok(Opened::Folder(Arc::new(folder)));
                }
                let source = bucket.object(&access.key);
                let request = || source.version();
                let version = retrying(&bucket.client, &place, options, request).await;
                let version = version.map_err(|fault| fault.into_problem(&place))?;
                let object = Object::remote(place, version, Source::S3(source), options);
                Ok(Opened::File(Arc::new(object)))
            }
        }
    }

    /// The same place without credentials.
    pub fn location(&self) -> Location {
        match self {
            Self::Local { path } => Location::Local { path: path.clone() },
            Self::Http(HttpAccess { url }) => Location::Http { url: url.clone() },
            Self::S3(access) => Location::S3 { bucket: access.bucket.clone(), key: access.key.clone() },
        }
    }
}

/// The address, without secrets.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => path.display().fmt(f),
            Self::Http(HttpAccess { url }) => f.write_str(&redacted(url.expose_secret())),
            Self::S3(S3Access { bucket, key, .. }) => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

async fn open_local(path: PathBuf, place: String, options: Options) -> Result<Opened> {
    blocking(move || {
        let found = std::fs::metadata(&path).map_err(|error| local_problem(&place, error))?;
        if found.is_dir() {
            let folder = LocalFolder::open(&path, &options)?;
            return Ok(Opened::Folder(Arc::new(Folder::local(folder, place, &options))));
        }
        Ok(Opened::File(Arc::new(Object::local(LocalFile::open(path, &options)?))))
    })
    .await
}

/// An [`Access`] in the form that goes to a mover: serialising it writes the secrets out.
#[derive(Debug, Clone)]
pub struct StorageOrder(pub Access);

impl Serialize for StorageOrder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match &self.0 {
            Access::Local { path } => Written::Local { path },
            Access::Http(access) => Written::Http { url: access.url.expose_secret() },
            Access::S3(access) => Written::S3 {
                bucket: &access.bucket,
                key: &access.key,
                endpoint: access.endpoint.as_deref(),
                region: access.region.as_deref(),
                access_key_id: &access.credentials.access_key_id,
                secret_access_key: access.credentials.secret_access_key.expose_secret(),
                session_token: access.credentials.session_token.as_ref().map(ExposeSecret::expose_secret),
            },
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StorageOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let access = match Read::deserialize(deserializer)? {
            Read::Local { path } => Access::Local { path },
            Read::Http { url } => Access::Http(HttpAccess { url }),
            Read::S3 { bucket, key, endpoint, region, access_key_id, secret_access_key, session_token } => {
                let credentials = S3Credentials { access_key_id, secret_access_key, session_token };
                Access::S3(S3Access { bucket, key, endpoint, region, credentials })
            }
        };
        Ok(Self(access))
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written<'a> {
    Local {
        path: &'a PathBuf,
    },
    Http {
        url: &'a str,
    },
    S3 {
        bucket: &'a str,
        key: &'a str,
        endpoint: Option<&'a str>,
        region: Option<&'a str>,
        access_key_id: &'a str,
        secret_access_key: &'a str,
        session_token: Option<&'a str>,
    },
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Read {
    Local {
        path: PathBuf,
    },
    Http {
        url: SecretString,
    },
    S3 {
        bucket: String,
        key: String,
        endpoint: Option<String>,
        region: Option<String>,
        access_key_id: String,
        secret_access_key: SecretString,
        session_token: Option<SecretString>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> Access {
        Access::S3(S3Access {
            bucket: "b".into(),
            key: "k".into(),
            endpoint: Some("http://127.0.0.1:1".into()),
            region: None,
            credentials: S3Credentials {
                access_key_id: "id".into(),
                secret_access_key: "geheim".into(),
                session_token: Some("wertvoll".into()),
            },
        })
    }

    #[test]
    fn an_order_read_back_is_the_order_written() {
        for access in [
            s3(),
            Access::Local { path: "/backups/b.zip".into() },
            Access::Http(HttpAccess { url: "https://u:p@h/b.zip?s=1".into() }),
        ] {
            let text = serde_json::to_string(&StorageOrder(access)).expect("serialisable");
            let order: StorageOrder = serde_json::from_str(&text).expect(&text);
            assert_eq!(serde_json::to_string(&order).expect("serialisable"), text);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?} {}", s3(), StorageOrder(s3()), s3());
        assert!(!shown.contains("geheim") && !shown.contains("wertvoll"), "{shown}");
    }
}
