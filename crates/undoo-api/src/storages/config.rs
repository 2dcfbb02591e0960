//! How a storage is configured. What a provider needs and takes is said once, and both what is refused and
//! what the OpenAPI document says follow from it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Type},
    },
};

use crate::{bounds, schema::without_null, secret::Secret};

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
    #[serde(deserialize_with = "bounds::number::<_, _, 1, 36500>")]
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
/// Which fields it has depends on the provider; those of another one are refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct StorageConfig {
    /// What stores.
    pub provider: StorageProvider,
    /// `local`, `ftp`, `sftp`: the folder.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 4096>"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub path: Option<String>,
    /// S3: the bucket.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_word::<_, 255>"
    )]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,255}$")]
    pub bucket: Option<String>,
    /// S3: the prefix in the bucket.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "key",
        deserialize_with = "bounds::some_text::<_, 900>"
    )]
    #[schema(min_length = 1, max_length = 900)]
    pub prefix: Option<String>,
    /// S3: the server's address. AWS and B2 are found by their region without one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "endpoint_url",
        deserialize_with = "bounds::some_http_address"
    )]
    #[schema(pattern = "^https?://[!-~]{1,900}$")]
    pub endpoint: Option<String>,
    /// S3: the bucket's region.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_word::<_, 64>"
    )]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub region: Option<String>,
    /// S3: whether requests name the bucket in their path, and not before the host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// S3: lock every backup against removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// S3: the id of the access key.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "access_key_id",
        deserialize_with = "bounds::some_visible::<_, 1024>"
    )]
    #[schema(pattern = "^[!-~]{1,1024}$")]
    pub access_key: Option<String>,
    /// S3: the secret of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "secret_access_key")]
    pub secret_key: Option<Secret>,
    /// S3: the token of a session, for credentials that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// `ftp`, `sftp`: the server.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_visible::<_, 253>"
    )]
    #[schema(pattern = "^[!-~]{1,253}$")]
    pub host: Option<String>,
    /// `ftp`, `sftp`: its port.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 65535>"
    )]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// `ftp`, `sftp`: as whom.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255)]
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 1024>"
    )]
    #[schema(min_length = 1, max_length = 1024)]
    pub host_key: Option<String>,
    /// `ftp`: how the connection is protected; `prefer` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<FtpTls>,
    /// Bytes per second, all that is read and written together.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1024, 1_000_000_000_000>"
    )]
    #[schema(minimum = 1024, maximum = 1_000_000_000_000i64)]
    pub bandwidth_limit: Option<u64>,
    /// Bytes of a part of an upload.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 5_242_880, 536_870_912>"
    )]
    #[schema(minimum = 5_242_880, maximum = 536_870_912)]
    pub part_size: Option<u64>,
    /// Parts on their way at the same time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 64>"
    )]
    #[schema(minimum = 1, maximum = 64)]
    pub concurrency: Option<u64>,
    /// Failures in a row before giving up.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 100>"
    )]
    #[schema(minimum = 1, maximum = 100)]
    pub attempts: Option<u32>,
    /// Seconds that a connection may take.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 3600>"
    )]
    #[schema(minimum = 1, maximum = 3600)]
    pub connect_timeout: Option<u64>,
    /// Seconds that a server may stay silent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 3600>"
    )]
    #[schema(minimum = 1, maximum = 3600)]
    pub stall_timeout: Option<u64>,
}

impl StorageConfig {
    /// What is missing or too much for its provider.
    fn check(&self) -> Result<(), String> {
        let written =
            Self::serialize(self, serde_json::value::Serializer).map_err(|error| error.to_string())?;
        let fields = written.as_object().into_iter().flat_map(|fields| fields.keys());
        let fields: Vec<&str> = fields.map(String::as_str).filter(|name| *name != PROVIDER).collect();
        let provider = written[PROVIDER].as_str().unwrap_or_default();
        let Fields { takes, needs } = self.provider.fields();
        if let Some(missing) = needs.iter().find(|name| !fields.contains(name)) {
            return Err(format!("missing field `{missing}`"));
        }
        match fields.iter().find(|name| !takes.contains(name) && !LIMITS.contains(name)) {
            Some(other) => Err(format!("the provider {provider} has no field `{other}`")),
            None => Ok(()),
        }
    }
}

impl Serialize for StorageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for StorageConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }
}

const PROVIDER: &str = "provider";

/// What every storage takes.
const LIMITS: [&str; 6] =
    ["bandwidth_limit", "part_size", "concurrency", "attempts", "connect_timeout", "stall_timeout"];

const S3: &[&str] = &[
    "bucket",
    "prefix",
    "endpoint",
    "region",
    "path_style",
    "object_lock",
    "access_key",
    "secret_key",
    "session_token",
];

/// The fields of a provider besides the limits.
struct Fields {
    takes: &'static [&'static str],
    needs: &'static [&'static str],
}

impl StorageProvider {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Local, Self::AwsS3, Self::CloudflareR2, Self::BackblazeB2, Self::Minio, Self::Ftp, Self::Sftp];

    fn fields(self) -> Fields {
        let (takes, needs): (&[&str], &[&str]) = match self {
            Self::Local => (&["path"], &["path"]),
            Self::AwsS3 => (S3, &["bucket", "access_key", "secret_key"]),
            Self::BackblazeB2 => (S3, &["bucket", "region", "access_key", "secret_key"]),
            Self::CloudflareR2 | Self::Minio => (S3, &["bucket", "endpoint", "access_key", "secret_key"]),
            Self::Ftp => (&["host", "port", "username", "password", "path", "tls"], &["host"]),
            Self::Sftp => (
                &["host", "port", "username", "password", "private_key", "passphrase", "host_key", "path"],
                &["host", "username"],
            ),
        };
        Fields { takes, needs }
    }
}

/// Stands for the schema of a [`StorageConfig`]: one of as many as there are providers.
pub struct ByProvider;

impl ToSchema for ByProvider {
    fn name() -> Cow<'static, str> {
        "StorageConfig".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        StorageConfig::schemas(schemas);
    }
}

impl PartialSchema for ByProvider {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(all)) = StorageConfig::schema() else { return StorageConfig::schema() };
        let choices = StorageProvider::ALL.map(|provider| {
            let Fields { takes, needs } = provider.fields();
            let word = serde_json::to_value(provider).unwrap_or_default();
            let title = word.as_str().unwrap_or_default().to_owned();
            let only = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([word]));
            let mut choice = ObjectBuilder::new()
                .schema_type(Type::Object)
                .title(Some(title))
                .property(PROVIDER, only)
                .required(PROVIDER)
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
            for name in takes.iter().chain(&LIMITS) {
                if let Some(schema) = all.properties.get(*name) {
                    let schema = schema.clone();
                    choice = choice
                        .property(*name, if needs.contains(name) { without_null(schema) } else { schema });
                }
            }
            needs.iter().fold(choice, |choice, name| choice.required(*name)).build()
        });
        let one = OneOfBuilder::new().description(all.description);
        Schema::OneOf(choices.into_iter().fold(one, OneOfBuilder::item).build()).into()
    }
}
