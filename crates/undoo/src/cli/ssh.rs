//! Another machine that a command works on by SSH alone, as people name it. Passwords and keys are never
//! arguments: whoever lists processes sees those.

use clap::Args;
use undoo_hosts::DockerEndpoint;
use undoo_storage::SshAccess;

/// Another machine whose Docker runs the target.
#[derive(Debug, Clone, Default, Args)]
pub struct SshArgs {
    /// The server whose Docker runs the target, reached by SSH alone; nothing is installed there. Who logs in
    /// comes from UNDOO_SSH_KEY_FILE (or UNDOO_SSH_KEY, the key itself), UNDOO_SSH_KEY_PASSPHRASE and
    /// UNDOO_SSH_PASSWORD. Backups go between the storage and the server directly: it must reach the storage.
    #[arg(long, value_name = "ssh://USER@HOST[:PORT]")]
    pub server: Option<String>,
    /// The server's host key: its fingerprint (SHA256:…) or a line of known_hosts. Without it and
    /// UNDOO_SSH_HOST_KEY, the one it shows is named and nothing is done.
    #[arg(long, value_name = "KEY", requires = "server")]
    pub host_key: Option<String>,
}

impl SshArgs {
    /// The Docker Engine that is meant.
    ///
    /// # Errors
    /// Those of the address and of its credentials.
    pub fn endpoint(&self) -> undoo_core::Result<DockerEndpoint> {
        match &self.server {
            Some(server) => {
                SshAccess::with_environment(server, self.host_key.as_deref()).map(DockerEndpoint::Ssh)
            }
            None => Ok(DockerEndpoint::Local),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_server_is_another_ones_docker_and_its_host_key_is_nothing_without_it() {
        for command in [
            "undoo backup docker:o --to s3://b",
            "undoo restore b.zip --into docker:o",
            "undoo undo docker:o",
        ] {
            let parsed = |more: &str| Cli::try_parse_from(command.split(' ').chain(more.split(' ')));
            assert!(parsed("--server ssh://u@h --host-key SHA256:x").is_ok(), "{command}");
            assert!(parsed("--host-key SHA256:x").is_err(), "{command}");
            let both = "--server ssh://u@h --database-url postgresql://h/d --filestore /srv";
            assert!(parsed(both).is_err(), "{command}");
        }
        let here = SshArgs::default().endpoint();
        assert!(matches!(here, Ok(DockerEndpoint::Local)));
        let wrong = SshArgs { server: Some("https://h".into()), host_key: None };
        assert_eq!(wrong.endpoint().expect_err("no address").code, "invalid_address");
    }
}
