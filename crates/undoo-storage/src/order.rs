//! An [`Access`] as it is written down: the order of a mover, the configuration of a storage.
//!
//! The fields have the names of the source document's API. Serialising writes the secrets out, so that is
//! for the standard input of a mover and for a sealed store, and for nothing else; what is shown is
//! [`Redacted`].

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{path::PathBuf, sync::Arc, time::Duration};
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::{
        Access, FtpAccess, FtpTls, HttpAccess, Provider, S3Access, S3Credentials, SftpAccess, SshAccess,
    },
    lock::ObjectLock,
    meter::Bandwidth,
    options::Options,
    storage::Storage,
};

/// An [`Access`] in the form that goes to a mover: serialising it writes the secrets out.
#[derive(Debug, Clone)]
pub struct StorageOrder(pub Access);

/// An [`Access`] in the form that may be shown: its secrets are left out.
#[derive(Debug, Clone, Copy)]
pub struct Redacted<'a>(pub &'a Access);

/// A storage as it is configured: where and as whom, and the options that are its own. Serialising it
/// writes the secrets out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StorageConfig {
    /// Where and as whom. Its path, prefix or key is the storage's root.
    #[serde(flatten)]
    pub order: StorageOrder,
    /// What differs from the defaults.
    #[serde(flatten)]
    pub limits: Limits,
}

/// Options of a storage that differ from the defaults; see [`Options`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes per second, all that is read and written together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_size: Option<usize>,
    /// Parts on their way at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Failures in a row before giving up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Seconds that a connection may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<u64>,
    /// Seconds that a server may stay silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<u64>,
}

/// What a storage may be set to, so that one cannot take a worker's memory or time for ever: the field, its
/// least, its most, and of what. The schema of the API has the same.
const BOUNDS: [(&str, u64, u64, &str); 6] = [
    ("bandwidth_limit", 1024, 1_000_000_000_000, "bytes a second"),
    // The least is S3's.
    ("part_size", 5 << 20, 512 << 20, "bytes"),
    ("concurrency", 1, 64, "parts"),
    ("attempts", 1, 100, "attempts"),
    ("connect_timeout", 1, 3600, "seconds"),
    ("stall_timeout", 1, 3600, "seconds"),
];
/// Bytes that the parts of one upload take together: those on their way, and the one that is filled.
const MOST_IN_PARTS: u64 = 1 << 30;

impl Limits {
    /// Refuses what would take a machine's memory, or wait for ever.
    ///
    /// # Errors
    /// `storage_limit_invalid` (`Invalid`), naming the field and its bounds.
    pub fn check(&self) -> Result<()> {
        let size = |size: Option<usize>| size.map(|size| u64::try_from(size).unwrap_or(u64::MAX));
        let (part_size, concurrency) = (size(self.part_size), size(self.concurrency));
        let given = [
            self.bandwidth_limit,
            part_size,
            concurrency,
            self.attempts.map(u64::from),
            self.connect_timeout,
            self.stall_timeout,
        ];
        for ((name, least, most, of), value) in BOUNDS.into_iter().zip(given) {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                return Err(limit_invalid(format!("{name} is from {least} to {most} {of}")));
            }
        }
        let defaults = Options::default();
        let part_size = part_size.unwrap_or(defaults.part_size as u64);
        let parts = concurrency.unwrap_or(defaults.concurrency as u64).saturating_add(1);
        if part_size.saturating_mul(parts) > MOST_IN_PARTS {
            let message = format!("{parts} parts of {part_size} bytes take more than {MOST_IN_PARTS} bytes");
            return Err(limit_invalid(message));
        }
        Ok(())
    }
}

fn limit_invalid(message: String) -> Problem {
    let remedy = "Give a value within these bounds, or leave it out: the default suits most storages.";
    Problem::new(Kind::Invalid, "storage_limit_invalid", message, remedy)
}

impl From<Access> for StorageConfig {
    /// Without anything that differs from the defaults.
    fn from(access: Access) -> Self {
        Self { order: StorageOrder(access), limits: Limits::default() }
    }
}

impl StorageConfig {
    /// Where and as whom.
    pub fn access(&self) -> &Access {
        &self.order.0
    }

    /// `options` with what this storage wants otherwise.
    pub fn options(&self, options: &Options) -> Options {
        let mut options = options.clone();
        let limits = &self.limits;
        if let Some(limit) = limits.bandwidth_limit {
            options.bandwidth = Some(Bandwidth::new(limit));
        }
        options.part_size = limits.part_size.unwrap_or(options.part_size);
        options.concurrency = limits.concurrency.unwrap_or(options.concurrency);
        options.retry.attempts = limits.attempts.unwrap_or(options.retry.attempts);
        options.connect_timeout = limits.connect_timeout.map_or(options.connect_timeout, Duration::from_secs);
        options.stall_timeout = limits.stall_timeout.map_or(options.stall_timeout, Duration::from_secs);
        options
    }

    /// The storage itself; see [`Access::storage`].
    ///
    /// # Errors
    /// As there.
    pub fn storage(&self, options: &Options) -> Result<Arc<dyn Storage>> {
        self.access().storage(&self.options(options))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    S3(Provider),
    Other(Other),
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Other {
    Local,
    Http,
    Ftp,
    Sftp,
}

/// All fields of all kinds; which of them are there depends on the provider.
#[derive(Serialize, Deserialize)]
struct Written {
    provider: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    url: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "prefix")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "endpoint_url")]
    endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_style: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object_lock: Option<ObjectLock>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "access_key_id")]
    access_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "secret_access_key")]
    #[serde(serialize_with = "exposed")]
    secret_key: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    session_token: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    password: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    private_key: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    passphrase: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<FtpTls>,
}

fn exposed<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

impl Written {
    fn empty(provider: Name) -> Self {
        Self {
            provider,
            path: None,
            url: None,
            bucket: None,
            key: None,
            endpoint: None,
            region: None,
            path_style: None,
            object_lock: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            host: None,
            port: None,
            username: None,
            password: None,
            private_key: None,
            passphrase: None,
            host_key: None,
            tls: None,
        }
    }

    fn without_secrets(self) -> Self {
        // An http address may hold its secret anywhere.
        Self {
            url: None,
            secret_key: None,
            session_token: None,
            password: None,
            private_key: None,
            passphrase: None,
            ..self
        }
    }
}

impl From<&Access> for Written {
    fn from(access: &Access) -> Self {
        match access.clone() {
            Access::Local { path } => Self { path: Some(path), ..Self::empty(Name::Other(Other::Local)) },
            Access::Http(HttpAccess { url }) => {
                Self { url: Some(url), ..Self::empty(Name::Other(Other::Http)) }
            }
            Access::S3(access) => Self {
                bucket: Some(access.bucket),
                key: Some(access.key),
                endpoint: access.endpoint,
                region: access.region,
                path_style: access.path_style,
                object_lock: access.lock,
                access_key: Some(access.credentials.access_key_id),
                secret_key: Some(access.credentials.secret_access_key),
                session_token: access.credentials.session_token,
                ..Self::empty(Name::S3(access.provider))
            },
            Access::Ftp(access) => Self {
                host: Some(access.host),
                port: access.port,
                username: access.user,
                password: access.password,
                path: Some(access.path.into()),
                tls: Some(access.tls),
                ..Self::empty(Name::Other(Other::Ftp))
            },
            Access::Sftp(SftpAccess { ssh, path }) => Self {
                host: Some(ssh.host),
                port: ssh.port,
                username: Some(ssh.user),
                password: ssh.password,
                private_key: ssh.private_key,
                passphrase: ssh.passphrase,
                host_key: ssh.host_key,
                path: Some(path.into()),
                ..Self::empty(Name::Other(Other::Sftp))
            },
        }
    }
}

impl TryFrom<Written> for Access {
    /// The field that is missing or wrong.
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        fn need<T>(value: Option<T>, name: &str) -> Result<T, String> {
            value.ok_or_else(|| format!("the field `{name}` is missing"))
        }
        let text = |path: Option<PathBuf>| match path.unwrap_or_default().into_os_string().into_string() {
            Ok(path) => Ok(path),
            Err(_) => Err("the field `path` is not UTF-8".to_owned()),
        };
        Ok(match written.provider {
            Name::Other(Other::Local) => Self::Local { path: need(written.path, "path")? },
            Name::Other(Other::Http) => Self::Http(HttpAccess { url: need(written.url, "url")? }),
            Name::S3(provider) => Self::S3(S3Access {
                provider,
                bucket: need(written.bucket, "bucket")?,
                key: written.key.unwrap_or_default(),
                endpoint: written.endpoint,
                region: written.region,
                path_style: written.path_style,
                lock: written.object_lock,
                credentials: S3Credentials {
                    access_key_id: need(written.access_key, "access_key")?,
                    secret_access_key: need(written.secret_key, "secret_key")?,
                    session_token: written.session_token,
                },
            }),
            Name::Other(Other::Ftp) => Self::Ftp(FtpAccess {
                host: need(written.host, "host")?,
                port: written.port,
                user: written.username,
                password: written.password,
                path: text(written.path)?,
                tls: written.tls.unwrap_or_default(),
            }),
            Name::Other(Other::Sftp) => Self::Sftp(SftpAccess {
                ssh: SshAccess {
                    host: need(written.host, "host")?,
                    port: written.port,
                    user: need(written.username, "username")?,
                    password: written.password,
                    private_key: written.private_key,
                    passphrase: written.passphrase,
                    host_key: written.host_key,
                },
                path: text(written.path)?,
            }),
        })
    }
}

impl Serialize for StorageOrder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::from(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StorageOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Access::try_from(Written::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Redacted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::from(self.0).without_secrets().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> [Access; 4] {
        [
            Access::S3(S3Access {
                provider: Provider::R2,
                bucket: "b".into(),
                key: "k".into(),
                endpoint: Some("http://127.0.0.1:1".into()),
                region: None,
                path_style: Some(true),
                lock: Some("compliance:30d".parse().expect("a lock")),
                credentials: S3Credentials {
                    access_key_id: "id".into(),
                    secret_access_key: "geheim".into(),
                    session_token: Some("geheim".into()),
                },
            }),
            Access::Http(HttpAccess { url: "https://u:geheim@h/b.zip?s=geheim".into() }),
            Access::Ftp(FtpAccess {
                host: "h".into(),
                port: Some(2121),
                user: Some("u".into()),
                password: Some("geheim".into()),
                path: "backups".into(),
                tls: FtpTls::Require,
            }),
            Access::Sftp(SftpAccess {
                ssh: SshAccess {
                    host: "h".into(),
                    port: None,
                    user: "u".into(),
                    password: Some("geheim".into()),
                    private_key: Some("geheim".into()),
                    passphrase: Some("geheim".into()),
                    host_key: Some("SHA256:abc".into()),
                },
                path: "/backups".into(),
            }),
        ]
    }

    #[test]
    fn an_order_read_back_is_the_order_written() {
        for access in secrets().into_iter().chain([Access::Local { path: "/backups/b.zip".into() }]) {
            let text = serde_json::to_string(&StorageOrder(access)).expect("serialisable");
            let order: StorageOrder = serde_json::from_str(&text).expect(&text);
            assert_eq!(serde_json::to_string(&order).expect("serialisable"), text);
        }
    }

    #[test]
    fn neither_debug_nor_display_nor_what_is_redacted_shows_a_secret() {
        for access in secrets() {
            let shown = format!("{access:?} {access} {:?}", StorageOrder(access.clone()));
            let redacted = serde_json::to_string(&Redacted(&access)).expect("serialisable");
            assert!(!shown.contains("geheim") && !redacted.contains("geheim"), "{shown} {redacted}");
            assert!(redacted.contains("provider"));
        }
    }

    #[test]
    fn limits_stay_within_memory_and_patience() {
        let check = |limits: &str| {
            let limits: Limits = serde_json::from_str(limits).expect(limits);
            limits.check().map_err(|problem| problem.message)
        };
        for fine in [
            "{}",
            r#"{"part_size": 5242880, "concurrency": 32, "attempts": 1, "stall_timeout": 3600}"#,
            r#"{"part_size": 268435456, "concurrency": 3, "bandwidth_limit": 1024}"#,
        ] {
            check(fine).expect(fine);
        }
        for (wrong, named) in [
            (r#"{"part_size": 1}"#, "part_size"),
            (r#"{"part_size": 18446744073709551615}"#, "part_size"),
            (r#"{"concurrency": 0}"#, "concurrency"),
            (r#"{"attempts": 0}"#, "attempts"),
            (r#"{"bandwidth_limit": 0}"#, "bandwidth_limit"),
            (r#"{"connect_timeout": 0}"#, "connect_timeout"),
            (r#"{"stall_timeout": 18446744073709551615}"#, "stall_timeout"),
            (r#"{"part_size": 268435456, "concurrency": 4}"#, "5 parts"),
        ] {
            assert!(check(wrong).expect_err(wrong).contains(named), "{wrong}");
        }
    }

    #[test]
    fn a_configuration_has_the_names_of_the_api() {
        let text = r#"{"provider": "aws_s3", "access_key": "id", "secret_key": "geheim", "bucket": "b",
            "prefix": "odoo", "bandwidth_limit": 1000, "attempts": 3}"#;
        let config: StorageConfig = serde_json::from_str(text).expect("a configuration");
        assert_eq!(config.order.0.to_string(), "s3://b/odoo");
        let options = config.options(&Options::default());
        assert_eq!((options.retry.attempts, options.bandwidth.is_some()), (3, true));
        let written = serde_json::to_string(&config).expect("serialisable");
        let again: StorageConfig = serde_json::from_str(&written).expect(&written);
        assert_eq!((again.limits, again.order.0.to_string()), (config.limits, "s3://b/odoo".to_owned()));
    }

    #[test]
    fn a_configuration_without_its_bucket_says_so() {
        let text = r#"{"provider": "minio", "access_key": "id", "secret_key": "s"}"#;
        let error = serde_json::from_str::<StorageConfig>(text).expect_err("no bucket");
        assert!(error.to_string().contains("`bucket`"), "{error}");
    }
}
