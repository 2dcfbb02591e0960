//! Credentials from the environment of this process, for addresses that people type.
//!
//! Each variable may instead be named with `_FILE` at its end and hold the path of a file with the value,
//! as container images have it, so that the secret itself is in no environment.

use secrecy::SecretString;
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::{Access, FtpAccess, HttpAccess, Provider, S3Access, S3Credentials, SftpAccess, SshAccess},
    location::{Authority, Location, redacted},
};

impl Location {
    /// Adds the credentials that this process's environment has for it:
    ///
    /// - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` or
    ///   `AWS_DEFAULT_REGION`, and `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`
    /// - R2: `R2_ACCESS_KEY_ID`, `R2_SECRET_ACCESS_KEY`, `R2_ACCOUNT_ID`
    /// - B2: `B2_APPLICATION_KEY_ID`, `B2_APPLICATION_KEY`, `B2_REGION`
    /// - MinIO: `MINIO_ACCESS_KEY`, `MINIO_SECRET_KEY`
    /// - FTP: `FTP_USER`, `FTP_PASSWORD`
    /// - SFTP: `SFTP_USER`, `SFTP_PASSWORD`, `SFTP_KEY` (a private key), `SFTP_KEY_PASSPHRASE`,
    ///   `SFTP_HOST_KEY`
    ///
    /// R2, B2 and MinIO fall back to the keys of `AWS_…`. Each may be given as a file, by a variable of
    /// its name and `_FILE`. What the address itself says comes first.
    ///
    /// # Errors
    /// [`Kind::Denied`] when a key is asked for and not set, or its file cannot be read.
    pub fn with_environment(self) -> Result<Access> {
        self.with_variables(|name| std::env::var(name).ok())
    }

    /// As [`Location::with_environment`], from any set of variables.
    ///
    /// # Errors
    /// As there.
    pub fn with_variables(self, variable: impl Fn(&str) -> Option<String>) -> Result<Access> {
        let set = Variables(&variable);
        Ok(match self {
            Self::Local { path } => Access::Local { path },
            Self::Http { url } => Access::Http(HttpAccess { url }),
            Self::S3 { provider, bucket, key, endpoint, region, path_style, lock } => {
                let (id, secret, of_aws) = match provider {
                    Provider::Aws => ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", true),
                    Provider::R2 => ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", false),
                    Provider::B2 => ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY", false),
                    Provider::Minio => ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", false),
                };
                // Both of one origin: half a key of each fits nothing.
                let own = set.get(id)?.zip(set.get(secret)?);
                let key_of_aws = || -> Result<_> {
                    Ok(set.get("AWS_ACCESS_KEY_ID")?.zip(set.get("AWS_SECRET_ACCESS_KEY")?))
                };
                let (found, token) = match own {
                    Some(own) => (Some(own), of_aws),
                    None => (key_of_aws()?, true),
                };
                let (access_key_id, secret_access_key) = found.ok_or_else(|| {
                    let place = format!("{}://{bucket}/{key}", provider.scheme());
                    missing(&place, &format!("{id} and {secret}"), of_aws)
                })?;
                let session_token = if token { set.get("AWS_SESSION_TOKEN")? } else { None };
                let credentials = S3Credentials {
                    access_key_id,
                    secret_access_key: secret_access_key.into(),
                    session_token: session_token.map(SecretString::from),
                };
                let (endpoint_there, region_there) = match provider {
                    Provider::Aws => (
                        set.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?,
                        set.first(&["AWS_REGION", "AWS_DEFAULT_REGION"])?,
                    ),
                    Provider::R2 => {
                        let account = set.get("R2_ACCOUNT_ID")?;
                        (account.map(|account| format!("https://{account}.r2.cloudflarestorage.com")), None)
                    }
                    Provider::B2 => (None, set.get("B2_REGION")?),
                    Provider::Minio => (None, None),
                };
                Access::S3(S3Access {
                    provider,
                    bucket,
                    key,
                    endpoint: endpoint.or(endpoint_there),
                    region: region.or(region_there),
                    path_style,
                    lock,
                    credentials,
                })
            }
            Self::Ftp(access) => Access::Ftp(FtpAccess {
                user: access.user.or(set.get("FTP_USER")?),
                password: access.password.or(set.secret("FTP_PASSWORD")?),
                ..access
            }),
            Self::Sftp(SftpAccess { ssh, path }) => {
                let user = Some(ssh.user).filter(|user| !user.is_empty());
                let user = user.or(set.get("SFTP_USER")?);
                let place = format!("sftp://{}/{path}", ssh.host);
                let ssh = SshAccess {
                    user: user.ok_or_else(|| missing(&place, "SFTP_USER", false))?,
                    password: ssh.password.or(set.secret("SFTP_PASSWORD")?),
                    private_key: set.secret("SFTP_KEY")?,
                    passphrase: set.secret("SFTP_KEY_PASSPHRASE")?,
                    host_key: ssh.host_key.or(set.get("SFTP_HOST_KEY")?),
                    ..ssh
                };
                if ssh.password.is_none() && ssh.private_key.is_none() {
                    return Err(missing(&place, "SFTP_KEY_FILE or SFTP_PASSWORD", false));
                }
                Access::Sftp(SftpAccess { ssh, path })
            }
        })
    }
}

impl SshAccess {
    /// The server of an address `ssh://USER@HOST[:PORT]`, with the credentials that this process's environment
    /// has for it: `UNDOO_SSH_KEY` (a private key), `UNDOO_SSH_KEY_PASSPHRASE`, `UNDOO_SSH_PASSWORD` and
    /// `UNDOO_SSH_HOST_KEY`. Each may be given as a file, by a variable of its name and `_FILE`. What the
    /// address says, and `host_key`, come first.
    ///
    /// # Errors
    /// `invalid_address` for what is no such address; [`Kind::Denied`] when neither a key nor a password is
    /// set, or a file cannot be read.
    pub fn with_environment(address: &str, host_key: Option<&str>) -> Result<Self> {
        Self::with_variables(address, host_key, |name| std::env::var(name).ok())
    }

    /// As [`SshAccess::with_environment`], from any set of variables.
    ///
    /// # Errors
    /// As there.
    pub fn with_variables(
        address: &str,
        host_key: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let invalid = |why: &str| {
            // Without its user part, also where there is no scheme before it.
            let shown = redacted(address);
            let shown = shown.rsplit('@').next().unwrap_or_default();
            Problem::new(
                Kind::Invalid,
                "invalid_address",
                format!("{shown} is not the address of a server: {why}"),
                "Give ssh://USER@HOST, or ssh://USER@HOST:PORT where its SSH server has another port than 22.",
            )
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(|| invalid("it has no ssh://"))?;
        if !scheme.eq_ignore_ascii_case("ssh") {
            return Err(invalid("only ssh is known"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(invalid("a server's address has no path"));
        }
        let Authority { user, password, host, port } =
            Authority::parse(authority).map_err(|why| invalid(&why))?;
        let user = user.ok_or_else(|| invalid("it does not say who logs in"))?;
        let set = Variables(&variable);
        let access = Self {
            host,
            port,
            user,
            password: password.or(set.secret("UNDOO_SSH_PASSWORD")?),
            private_key: set.secret("UNDOO_SSH_KEY")?,
            passphrase: set.secret("UNDOO_SSH_KEY_PASSPHRASE")?,
            host_key: host_key.map(str::to_owned).or(set.get("UNDOO_SSH_HOST_KEY")?),
        };
        if access.password.is_none() && access.private_key.is_none() {
            return Err(missing(&access.to_string(), "UNDOO_SSH_KEY_FILE or UNDOO_SSH_PASSWORD", false));
        }
        Ok(access)
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Result<Option<String>> {
        let set = |name: &str| (self.0)(name).filter(|value| !value.is_empty());
        if let Some(value) = set(name) {
            return Ok(Some(value));
        }
        let Some(path) = set(&format!("{name}_FILE")) else { return Ok(None) };
        let content = std::fs::read_to_string(&path).map_err(|error| {
            Problem::new(
                Kind::Denied,
                "credentials_unreadable",
                format!("cannot read {path}, which {name}_FILE names: {error}"),
                "Check the path, and that the user who runs this may read it.",
            )
        })?;
        // An editor ends a file with a line break, and a private key needs its own.
        let value = if content.trim().lines().count() > 1 { &content } else { content.trim() };
        Ok(Some(value.to_owned()))
    }

    fn secret(&self, name: &str) -> Result<Option<SecretString>> {
        Ok(self.get(name)?.map(SecretString::from))
    }

    fn first(&self, names: &[&str]) -> Result<Option<String>> {
        for name in names {
            if let Some(value) = self.get(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn missing(place: &str, names: &str, of_aws: bool) -> Problem {
    let further = if of_aws { " (and AWS_ENDPOINT_URL for a storage that is not Amazon's)" } else { "" };
    Problem::new(
        Kind::Denied,
        "credentials_missing",
        format!("cannot use {place}: {names} is not set"),
        format!("Set {names}{further}, or variables with _FILE at the end that name files with the values."),
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

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

    #[test]
    fn a_secret_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "geheim\n").expect("written");
        let path = file.path().display().to_string();
        let location = Location::parse("ftp://u@h/x").expect("an address");
        let set = |name: &str| (name == "FTP_PASSWORD_FILE").then(|| path.clone());
        let Access::Ftp(access) = location.clone().with_variables(set).expect("all is set") else {
            panic!("not FTP")
        };
        assert_eq!(access.password.as_ref().map(ExposeSecret::expose_secret), Some("geheim"));
        let gone = |name: &str| (name == "FTP_PASSWORD_FILE").then(|| "/nonexistent".to_owned());
        assert_eq!(location.with_variables(gone).expect_err("gone").code, "credentials_unreadable");
    }

    #[test]
    fn a_provider_has_names_of_its_own_and_falls_back_to_those_of_aws_as_a_pair() {
        let location = || Location::parse("b2://b/?region=r").expect("an address");
        let of = |names: &'static [&str]| {
            let set = |name: &str| names.contains(&name).then(|| name.to_owned());
            match location().with_variables(set) {
                Ok(Access::S3(access)) => Some(access.credentials.access_key_id),
                _ => None,
            }
        };
        let (own, aws) = (["B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"], "AWS_SECRET_ACCESS_KEY");
        assert_eq!(of(&["B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"]).as_deref(), Some(own[0]));
        assert_eq!(of(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]).as_deref(), Some("AWS_ACCESS_KEY_ID"));
        assert_eq!(of(&["B2_APPLICATION_KEY_ID", "AWS_SECRET_ACCESS_KEY"]), None, "{aws}");
    }

    #[test]
    fn an_sftp_address_without_key_and_password_says_what_to_set() {
        let location = Location::parse("sftp://u@h/x").expect("an address");
        let problem = location.with_variables(|_| None).expect_err("no key");
        assert!(problem.message.contains("SFTP_KEY_FILE"), "{}", problem.message);
    }

    #[test]
    fn a_server_is_named_by_its_address_and_opened_with_variables_of_its_own() {
        let set = |name: &str| ["UNDOO_SSH_KEY", "UNDOO_SSH_HOST_KEY"].contains(&name).then(|| name.into());
        let access =
            SshAccess::with_variables("ssh://deploy@[fd12::5]:2222/", None, set).expect("an address");
        assert_eq!(access.to_string(), "ssh://deploy@[fd12::5]:2222");
        assert_eq!(access.private_key.as_ref().map(ExposeSecret::expose_secret), Some("UNDOO_SSH_KEY"));
        assert_eq!(access.host_key.as_deref(), Some("UNDOO_SSH_HOST_KEY"));
        let pinned = SshAccess::with_variables("ssh://u@h", Some("SHA256:x"), set).expect("an address");
        assert_eq!(pinned.host_key.as_deref(), Some("SHA256:x"));
        let problem = SshAccess::with_variables("ssh://u@h", None, |_| None).expect_err("no key");
        assert!(problem.message.contains("UNDOO_SSH_KEY_FILE"), "{}", problem.message);
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused_without_its_password() {
        for address in
            ["h", "u:geheim@h", "ssh://h", "ssh://", "sftp://u@h", "ssh://u:geheim@h/path", "ssh://u@h:x"]
        {
            let problem = SshAccess::with_variables(address, None, |_| None).expect_err(address);
            assert_eq!((problem.kind, problem.code), (Kind::Invalid, "invalid_address"), "{address}");
            assert!(!problem.message.contains("geheim"), "{}", problem.message);
        }
    }
}
