//! Addresses as people type them: a path, an http address, a bucket, a folder on a server.
//!
//! An address may hold secrets (a password, a signature), so it is shown only without them.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::{Access, FtpAccess, FtpTls, Provider, SftpAccess, SshAccess},
    lock::ObjectLock,
    object::Opened,
    options::Options,
};

/// Where a backup lies or backups are kept. [`fmt::Display`] and [`fmt::Debug`] leave secrets out.
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
        /// Whose S3 it is.
        provider: Provider,
        /// The bucket's name.
        bucket: String,
        /// The object's key; empty or ending in a slash for a folder.
        key: String,
        /// The server, if the address names it.
        endpoint: Option<String>,
        /// The region, if the address names it.
        region: Option<String>,
        /// Whether the bucket is named in the path, if the address says so.
        path_style: Option<bool>,
        /// What backups are locked with, if the address says so.
        lock: Option<ObjectLock>,
    },
    /// A file or folder on an FTP server, with what the address has of user and password.
    Ftp(FtpAccess),
    /// A file or folder on an SSH server, with what the address has of user and password; the user is
    /// empty if it has none.
    Sftp(SftpAccess),
}

impl Location {
    /// Reads an address:
    ///
    /// - a path, or `file:///path`
    /// - `http://…`, `https://…`: one file, to read
    /// - `s3://bucket/key`, and with `?endpoint=URL&region=NAME&path_style=BOOL` behind it
    /// - the same with `lock=governance:30d` or `lock=compliance:30d`: see [`ObjectLock`]
    /// - `r2://bucket/key?account=ID`, `b2://bucket/key?region=NAME`, with the same besides
    /// - `minio://host:9000/bucket/key`, and with `?tls=off` behind it
    /// - `ftp://user@host:21/path?tls=require|prefer|off`, `ftps://` for `tls=require`
    /// - `sftp://user@host:22/path`
    ///
    /// A key that is empty or ends in a slash is a folder. A path on a server begins where a login ends; one
    /// with two slashes (`sftp://host//srv/backups`) begins at the root.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for other schemes and for addresses that can name no backup.
    pub fn parse(address: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Problem::new(
                Kind::Invalid,
                "invalid_address",
                format!("{} is not the address of a backup or storage: {why}", redacted(address)),
                "Give a path, https://host/file, s3://bucket/key, r2://bucket/key?account=ID, \
                 b2://bucket/key?region=NAME, minio://host:port/bucket/key, ftp://user@host/path or \
                 sftp://user@host/path (a folder in S3 ends in a slash).",
            )
        };
        if address.is_empty() {
            return Err(invalid("it is empty"));
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Ok(Self::Local { path: address.into() });
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "file" if rest.starts_with('/') => Ok(Self::Local { path: rest.into() }),
            "file" => Err(invalid("file addresses have three slashes: file:///path")),
            "http" | "https" => {
                let url = Url::parse(address).map_err(|error| invalid(&error.to_string()))?;
                if url.path().ends_with('/') {
                    return Err(invalid("folders cannot be listed over http"));
                }
                Ok(Self::Http { url: String::from(url).into() })
            }
            "s3" => bucket(Provider::Aws, rest).map_err(|why| invalid(&why)),
            "r2" => bucket(Provider::R2, rest).map_err(|why| invalid(&why)),
            "b2" => bucket(Provider::B2, rest).map_err(|why| invalid(&why)),
            "minio" => bucket(Provider::Minio, rest).map_err(|why| invalid(&why)),
            "ftp" | "ftps" | "sftp" => server(&scheme, rest).map_err(|why| invalid(&why)),
            _ => Err(invalid("only file, http, https, s3, r2, b2, minio, ftp, ftps and sftp are known")),
        }
    }

    /// Opens it with the credentials of this process's environment.
    ///
    /// # Errors
    /// As [`Location::with_environment`] and [`Access::open`].
    pub async fn open(&self, options: &Options) -> Result<Opened> {
        self.clone().with_environment()?.open(options).await
    }
}

/// The settings behind the question mark of an address.
struct Query(Vec<(String, String)>);

impl Query {
    fn split(address: &str) -> (&str, Self) {
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), decoded(value))
        };
        (address, Self(query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Refuses what nobody took: a setting that is spelt wrong must not be a setting ignored.
    fn done(self) -> Result<(), String> {
        match self.0.first() {
            // Its value may be a secret.
            Some((name, _)) => Err(format!("it has no setting {name:?} (a ? in a key is not supported)")),
            None => Ok(()),
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn switch(value: Option<String>) -> Result<Option<bool>, String> {
    match value.as_deref() {
        None => Ok(None),
        Some("true" | "on" | "1") => Ok(Some(true)),
        Some("false" | "off" | "0") => Ok(Some(false)),
        Some(_) => Err("a switch is true or false".to_owned()),
    }
}

fn bucket(provider: Provider, rest: &str) -> Result<Location, String> {
    let (path, mut query) = Query::split(rest);
    let (mut endpoint, path) = match provider {
        Provider::Minio => {
            let (host, path) = path.split_once('/').unwrap_or((path, ""));
            if host.is_empty() || host.contains('@') {
                return Err("it names the server first: minio://host:port/bucket".to_owned());
            }
            let scheme = if switch(query.take("tls"))?.unwrap_or(true) { "https" } else { "http" };
            (Some(format!("{scheme}://{host}")), path)
        }
        _ => (query.take("endpoint"), path),
    };
    if let Some(account) = query.take("account").filter(|_| provider == Provider::R2) {
        if account.is_empty() || !account.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err("an account's id has only letters and digits".to_owned());
        }
        endpoint = endpoint.or_else(|| Some(format!("https://{account}.r2.cloudflarestorage.com")));
    }
    let (region, path_style) = (query.take("region"), switch(query.take("path_style"))?);
    let lock = query.take("lock").map(|lock| lock.parse::<ObjectLock>()).transpose()?;
    query.done()?;
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(allowed) {
        return Err("a bucket's name has only letters, digits, dots and hyphens".to_owned());
    }
    let folder = key.strip_suffix('/').unwrap_or(key);
    if !key.is_empty() && folder.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("keys with empty, `.` or `..` parts are not supported".to_owned());
    }
    Ok(Location::S3 {
        provider,
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        endpoint,
        region,
        path_style,
        lock,
    })
}

/// A server with users, as it stands between the scheme of an address and its path.
pub(crate) struct Authority {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretString>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // A scheme that the library has no opinion about, so that it does not fold the path.
        let url = Url::parse(&format!("x://{text}")).map_err(|error| error.to_string())?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("it names no server".to_owned());
        }
        let user = (!url.username().is_empty()).then(|| decoded(url.username()));
        let password = url.password().map(|password| SecretString::from(decoded(password)));
        Ok(Self { user, password, host, port: url.port() })
    }
}

fn server(scheme: &str, rest: &str) -> Result<Location, String> {
    let (rest, mut query) = Query::split(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Authority { user, password, host, port } = Authority::parse(authority)?;
    let path = decoded(path);
    if path.chars().any(char::is_control) || path.split('/').any(|part| part == "..") {
        return Err("its path leads elsewhere".to_owned());
    }
    let location = if scheme == "sftp" {
        let ssh = SshAccess {
            host,
            port,
            user: user.unwrap_or_default(),
            password,
            private_key: None,
            passphrase: None,
            host_key: query.take("host_key"),
        };
        Location::Sftp(SftpAccess { ssh, path })
    } else {
        let assumed = if scheme == "ftps" { FtpTls::Require } else { FtpTls::default() };
        let tls = match query.take("tls").as_deref() {
            None => assumed,
            Some("require") => FtpTls::Require,
            Some(_) if scheme == "ftps" => return Err("ftps always has TLS".to_owned()),
            Some("prefer") => FtpTls::Prefer,
            Some("off") => FtpTls::Off,
            Some(_) => return Err("tls is require, prefer or off".to_owned()),
        };
        Location::Ftp(FtpAccess { host, port, user, password, path, tls })
    };
    query.done()?;
    Ok(location)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => path.display().fmt(f),
            Self::Http { url } => f.write_str(&redacted(url.expose_secret())),
            Self::S3 { provider, bucket, key, .. } => write!(f, "{}://{bucket}/{key}", provider.scheme()),
            Self::Ftp(access) => Access::Ftp(access.clone()).fmt(f),
            Self::Sftp(access) => Access::Sftp(access.clone()).fmt(f),
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
        let problem = Location::parse("gopher://me:geheim@host/b.zip").expect_err("not supported");
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
                Location::S3 { bucket: found, key: at, .. } => assert_eq!((&*found, &*at), (bucket, key)),
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
            "minio://h",
            "s3://b/../k",
            "ftp://",
            "sftp://u@h/a/../b",
            "ftp://h/x?tls=maybe",
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
    fn settings_behind_a_question_mark_are_taken_and_unknown_ones_refused() {
        let Location::S3 { key, endpoint, region, path_style, lock, .. } =
            Location::parse("s3://b/k?endpoint=https%3A%2F%2Fh&region=r&path_style=off&lock=governance:7d")
                .expect("an address")
        else {
            panic!("not S3")
        };
        assert_eq!((&*key, endpoint.as_deref(), region.as_deref()), ("k", Some("https://h"), Some("r")));
        assert_eq!((path_style, lock.map(|lock| lock.days)), (Some(false), Some(7)));
        assert!(Location::parse("s3://b/k?secret_key=geheim").is_err_and(|problem| {
            problem.message.contains("secret_key") && !problem.message.contains("geheim")
        }));
    }

    #[test]
    fn each_provider_has_its_own_endpoint() {
        for (address, expected) in [
            ("r2://b/k?account=abc123", Some("https://abc123.r2.cloudflarestorage.com")),
            ("minio://h:9000/b/k?tls=off", Some("http://h:9000")),
            ("minio://h/b", Some("https://h")),
            ("b2://b?region=us-west-004", None),
        ] {
            let location = Location::parse(address).expect(address);
            let Location::S3 { endpoint, bucket, .. } = &location else { panic!("not S3") };
            assert_eq!((endpoint.as_deref(), &**bucket), (expected, "b"), "{address}");
        }
    }

    #[test]
    fn a_path_on_a_server_begins_at_home_or_with_two_slashes_at_the_root() {
        for (address, expected) in
            [("sftp://u@h/backups", "backups"), ("sftp://u@h:2222//srv/b%20c", "/srv/b c"), ("ftp://h", "")]
        {
            let path = match Location::parse(address).expect(address) {
                Location::Ftp(access) => access.path,
                Location::Sftp(access) => access.path,
                other => panic!("{other}"),
            };
            assert_eq!(path, expected, "{address}");
        }
    }

    #[test]
    fn a_password_in_the_address_of_a_server_is_taken_and_never_shown() {
        let location = Location::parse("ftps://u:ge%40heim@h:2121/x").expect("an address");
        let Location::Ftp(access) = &location else { panic!("not FTP") };
        assert_eq!(access.password.as_ref().map(ExposeSecret::expose_secret), Some("ge@heim"));
        assert_eq!((access.port, access.tls), (Some(2121), FtpTls::Require));
        assert_eq!(location.to_string(), "ftp://u@h:2121/x");
        assert!(!format!("{location:?}").contains("heim"));
    }
}
