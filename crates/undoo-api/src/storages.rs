//! Storages that backups go to: how they are configured, shown and tried.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{Kind, OrganisationId, StorageId, platform::StorageRecord};
use utoipa::{IntoParams, ToSchema};

use crate::{bounds, secret::Secret};

/// A configured storage, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageResponse {
    /// Its id.
    pub id: StorageId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// The provider.
    #[schema(example = "aws_s3")]
    pub provider: String,
    /// Its configuration as it was given, secrets left out.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Whether backups go there when nobody says where.
    pub is_default: bool,
    /// When it was added.
    pub create_date: Timestamp,
}

impl From<StorageRecord> for StorageResponse {
    fn from(storage: StorageRecord) -> Self {
        Self {
            id: storage.id,
            organization_id: storage.organisation_id,
            name: storage.name,
            provider: storage.provider,
            config: storage.shown,
            is_default: storage.is_default,
            create_date: storage.created_at,
        }
    }
}

/// What stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageProvider {
    /// A folder of the server that the worker runs on.
    Local,
    /// Amazon S3, and every server that speaks its protocol and is none of the others.
    AwsS3,
    /// Cloudflare R2.
    CloudflareR2,
    /// Backblaze B2.
    BackblazeB2,
    /// MinIO.
    Minio,
    /// A server that speaks FTP.
    Ftp,
    /// A server that speaks SFTP.
    Sftp,
}

/// How a connection to an FTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FtpTls {
    /// By TLS, always; a server without it is refused.
    Require,
    /// By TLS where the server offers it; an offer that cannot be trusted is refused.
    Prefer,
    /// Not at all: everybody on the way can read the password.
    Off,
}

/// What a backup is locked with when it is written (S3 Object Lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// For how many days from the moment of writing.
    #[schema(minimum = 1, maximum = 36500)]
    pub days: u32,
}

/// Who may lift a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Those with the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, the owner of the account included.
    Compliance,
}

/// How a storage is configured: where it is, as whom to go there, and how hard to try.
///
/// Which fields are needed depends on the provider: `path` for `local`; `bucket`, `access_key` and
/// `secret_key` for those that speak S3; `host` for `ftp`; `host` and `username` for `sftp`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// What stores.
    pub provider: StorageProvider,
    /// `local`, `ftp`, `sftp`: the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// S3: the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// S3: the prefix in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "key")]
    pub prefix: Option<String>,
    /// S3: the server's address. AWS and B2 are found by their region without one.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "endpoint_url")]
    pub endpoint: Option<String>,
    /// S3: the bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// S3: whether requests name the bucket in their path, and not before the host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// S3: lock every backup against removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// S3: the id of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "access_key_id")]
    pub access_key: Option<String>,
    /// S3: the secret of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "secret_access_key")]
    pub secret_key: Option<Secret>,
    /// S3: the token of a session, for credentials that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// `ftp`, `sftp`: the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `ftp`, `sftp`: its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `ftp`, `sftp`: as whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `ftp`, `sftp`: the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// `sftp`: a private key in OpenSSH's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// `sftp`: what the private key is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// `sftp`: the server's host key, as the test of the storage shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// `ftp`: how the connection is protected; `prefer` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<FtpTls>,
    /// Bytes per second, all that is read and written together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1024, maximum = 2000000000)]
    pub bandwidth_limit: Option<u64>,
    /// Bytes of a part of an upload. All that are on their way and one more take at most 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 5242880, maximum = 268435456)]
    pub part_size: Option<u64>,
    /// Parts on their way at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 32)]
    pub concurrency: Option<u64>,
    /// Failures in a row before giving up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub attempts: Option<u32>,
    /// Seconds that a connection may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 300)]
    pub connect_timeout: Option<u64>,
    /// Seconds that a server may stay silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600)]
    pub stall_timeout: Option<u64>,
}

/// Adding a storage.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateStorageRequest {
    /// Whose it will be.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Backups in Frankfurt")]
    pub name: String,
    /// How it is configured.
    pub config: StorageConfig,
    /// Whether backups go there when nobody says where.
    #[serde(default)]
    #[schema(default = false)]
    pub is_default: bool,
}

/// Changes to a storage. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoragePatch {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_name")]
    #[schema(value_type = Option<bounds::Name>)]
    pub name: Option<String>,
    /// All of its configuration, secrets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<StorageConfig>,
    /// `true` makes it the default in place of the one that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
}

/// For whom a storage is tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StorageTestQuery {
    /// The organisation. It can be left out by who belongs to one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganisationId>,
}

/// What the test of a storage found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageTestResponse {
    /// The storage's address, without secrets.
    pub storage: String,
    /// Whether no step failed.
    pub ok: bool,
    /// In the order in which they were tried.
    pub steps: Vec<StorageTestStep>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageTestStep {
    /// What was tried: `write`, `read`, `range`, `list`, `presign`, `delete` or `lock`.
    pub name: String,
    /// What came of it.
    pub outcome: StorageTestOutcome,
    /// How long it took.
    pub milliseconds: u64,
    /// Of a step that failed: what sort of problem it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Of a step that failed: the stable code of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a step that failed: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a step that failed: what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The host key that the server showed, where that is what has to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

/// What came of a step of the test of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageTestOutcome {
    /// It worked.
    Ok,
    /// The storage has no such thing; nothing is wrong.
    NotOffered,
    /// A step before it failed, without which it cannot be tried.
    NotTried,
    /// It failed.
    Failed,
}
