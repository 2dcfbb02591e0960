//! Addresses as people type them: a path, an http address, or `s3://bucket/key`.
//!
//! An address may hold secrets (a password, a signature), so it is shown only without its user part and
//! its query.

use std::{fmt, path::PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::{Access, HttpAccess, S3Access, S3Credentials},
    object::Opened,
    options::Options,
};

/// Where a backup lies. [`fmt::Display`] and [`fmt::Debug`] leave secrets out.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file or folder on this machine.
    Local {
        /// As typed.
        path: PathBuf,
    },
    /// A file behind an http or https address.
    Http {
        /// The whole address, which may hold a password or a signature.
        url: SecretString,
    },
    /// An object, or all that begins with a prefix, in S3 or what speaks its protocol.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The object's key; empty or ending in a slash for a folder.
        key: String,
    },
}

impl Location {
    /// Reads an address: a path, `file:///path`, `http(s)://…` or `s3://bucket/key`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for other schemes and for addresses that can name no backup.
    pub fn parse(address: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Problem::new(
                Kind::Invalid,
                "invalid_address",
                format!("{} is not the address of a backup: {why}", redacted(address)),
                "Give a path, https://host/file or s3://bucket/key (a folder in S3 ends in a slash).",
            )
        };
        if address.is_empty() {
            return Err(invalid("it is empty"));
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Ok(Self::Local { path: address.into() });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" if rest.starts_with('/') => Ok(Self::Local { path: rest.into() }),
            "file" => Err(invalid("file addresses have three slashes: file:///path")),
            "http" | "https" => {
                let url = Url::parse(address).map_err(|error| invalid(&error.to_string()))?;
                if url.path().ends_with('/') {
                    return Err(invalid("folders cannot be listed over http"));
                }
                Ok(Self::Http { url: String::from(url).into() })
            }
            "s3" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if bucket.is_empty() || !bucket.chars().all(allowed) {
                    return Err(invalid("a bucket's name has only letters, digits, dots and hyphens"));
                }
                // The library folds these, and would read another object than was named.
                if key.starts_with('/') || key.contains("//") || key != key.trim() {
                    return Err(invalid("keys with empty parts or spaces around them are not supported"));
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(invalid("only file, http, https and s3 are known")),
        }
    }

    /// Adds the credentials that this process's environment has for it: for S3 `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` or `AWS_DEFAULT_REGION`, and
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// [`Kind::Denied`] when S3 is asked for and the key is not set.
    pub fn with_environment(self) -> Result<Access> {
        self.with_variables(|name| std::env::var(name).ok())
    }

    /// As [`Location::with_environment`], from any set of variables.
    ///
    /// # Errors
    /// As there.
    pub fn with_variables(self, variable: impl Fn(&str) -> Option<String>) -> Result<Access> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let (bucket, key) = match self {
            Self::Local { path } => return Ok(Access::Local { path }),
            Self::Http { url } => return Ok(Access::Http(HttpAccess { url })),
            Self::S3 { bucket, key } => (bucket, key),
        };
        let required = |name| {
            variable(name).ok_or_else(|| {
                Problem::new(
                    Kind::Denied,
                    "credentials_missing",
                    format!("cannot read s3://{bucket}/{key}: {name} is not set"),
                    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for a storage \
                     that is not Amazon's).",
                )
            })
        };
        let credentials = S3Credentials {
            access_key_id: required("AWS_ACCESS_KEY_ID")?,
            secret_access_key: required("AWS_SECRET_ACCESS_KEY")?.into(),
            session_token: variable("AWS_SESSION_TOKEN").map(SecretString::from),
        };
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        Ok(Access::S3(S3Access { bucket, key, endpoint, region, credentials }))
    }

    /// Opens it with the credentials of this process's environment.
    ///
    /// # Errors
    /// As [`Location::with_environment`] and [`Access::open`].
    pub async fn open(&self, options: &Options) -> Result<Opened> {
        self.clone().with_environment()?.open(options).await
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => path.display().fmt(f),
            Self::Http { url } => f.write_str(&redacted(url.expose_secret())),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// An address without user part, query and fragment.
pub(crate) fn redacted(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_display_shows_a_password_or_a_signature() {
        let address = "https://me:geheim@example.org/b.zip?X-Amz-Signature=abcd";
        let location = Location::parse(address).expect("an address");
        assert_eq!(location.to_string(), "https://example.org/b.zip");
        let shown = format!("{location:?}");
        assert!(!shown.contains("geheim") && !shown.contains("abcd"), "{shown}");
    }

    #[test]
    fn a_broken_address_is_refused_without_showing_its_secrets() {
        let problem = Location::parse("ftp://me:geheim@host/b.zip").expect_err("not supported");
        assert_eq!(problem.code, "invalid_address");
        assert!(!problem.message.contains("geheim"), "{}", problem.message);
        let problem = Location::parse("http://me:ge@heim@ho st/b.zip").expect_err("not an address");
        assert!(!problem.message.contains("ge@"), "{}", problem.message);
    }

    #[test]
    fn a_bucket_alone_and_a_key_with_a_slash_at_its_end_are_folders() {
        for (address, bucket, key) in
            [("s3://b", "b", ""), ("s3://b/", "b", ""), ("s3://b/x/y/", "b", "x/y/"), ("s3://b/x", "b", "x")]
        {
            match Location::parse(address).expect(address) {
                Location::S3 { bucket: found, key: at } => assert_eq!((&*found, &*at), (bucket, key)),
                other => panic!("{address}: {other}"),
            }
        }
    }

    #[test]
    fn addresses_that_can_name_no_backup_are_refused() {
        for address in [
            "",
            "s3://",
            "s3:///key",
            "s3://b//key",
            "s3://b/a//b",
            "http://h/",
            "http://h",
            "file://x",
            "ssh://h/x",
        ] {
            let problem = Location::parse(address).expect_err(address);
            assert_eq!((problem.kind, problem.code), (Kind::Invalid, "invalid_address"), "{address}");
        }
    }

    #[test]
    fn the_endpoint_for_s3_wins_over_the_general_one() {
        let location = Location::parse("s3://b/k").expect("an address");
        let access = location.with_variables(|name| Some(name.to_owned())).expect("all is set");
        let Access::S3(access) = access else { panic!("not S3") };
        assert_eq!(access.endpoint.as_deref(), Some("AWS_ENDPOINT_URL_S3"));
        assert_eq!(access.region.as_deref(), Some("AWS_REGION"));
        assert_eq!(access.credentials.secret_access_key.expose_secret(), "AWS_SECRET_ACCESS_KEY");
    }

    #[test]
    fn a_missing_key_names_the_variable_to_set() {
        let location = Location::parse("s3://b/k").expect("an address");
        let problem = location.with_variables(|_| None).expect_err("no key");
        assert_eq!(problem.code, "credentials_missing");
        assert!(problem.message.contains("AWS_ACCESS_KEY_ID"));
    }
}
