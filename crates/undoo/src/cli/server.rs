//! `undoo server`: the servers of the platform that one is signed in to.

use clap::{Args, Subcommand};

use super::remote::ServerArgs;

/// `undoo server`
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// List servers, how they are and what they have.
    List(ServerArgs),
    /// Add a server. It is reached first, and nothing is installed there.
    #[command(after_long_help = LOGIN_NOTES)]
    Add(ServerAdd),
    /// Reach a server and say what it has, without adding it.
    #[command(after_long_help = LOGIN_NOTES)]
    Test(ServerTest),
    /// Look at a server now.
    Verify(OneServer),
    /// Put nothing new on a server; what is on it can be backed up, restored and moved.
    Drain(ServerDrain),
    /// Forget a server that nothing is on any more. The server itself is not touched.
    Remove(ServerRemove),
}

const LOGIN_NOTES: &str = "\
What to log in with is never typed as an argument: UNDOO_SSH_KEY_FILE names a private key (its passphrase is
UNDOO_SSH_KEY_PASSPHRASE), UNDOO_SSH_PASSWORD is a password. That user may use Docker. The platform keeps them
sealed. The host key can be given as UNDOO_SSH_HOST_KEY too.";

/// Where a server is.
#[derive(Debug, Args)]
pub struct ServerAddress {
    /// Its address: ssh://USER@HOST or ssh://USER@HOST:PORT.
    pub address: String,
    /// The fingerprint of its host key, which you have compared: SHA256:…
    #[arg(long, value_name = "KEY")]
    pub host_key: Option<String>,
}

/// `undoo server add`
#[derive(Debug, Args)]
pub struct ServerAdd {
    /// Where it is.
    #[command(flatten)]
    pub at: ServerAddress,
    /// Its name, unique in the organisation.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Cores that environments may have of it. [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub cpu_cores: Option<i32>,
    /// Memory that environments may have of it, in GiB. [default: all]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(i32).range(1..))]
    pub memory_gb: Option<i32>,
    /// Disk that environments may have of it, in GiB. [default: all]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(i32).range(1..))]
    pub disk_gb: Option<i32>,
    /// Restores and backups that may run on it side by side. [default: the platform's setting]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1000))]
    pub tasks: Option<i32>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo server test`
#[derive(Debug, Args)]
pub struct ServerTest {
    /// Where it is.
    #[command(flatten)]
    pub at: ServerAddress,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A command about one server.
#[derive(Debug, Args)]
pub struct OneServer {
    /// The server, by its name or id.
    #[arg(value_name = "SERVER")]
    pub name: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `undoo server drain`
#[derive(Debug, Args)]
pub struct ServerDrain {
    /// Which.
    #[command(flatten)]
    pub one: OneServer,
    /// Let new environments on it again.
    #[arg(long)]
    pub end: bool,
}

/// `undoo server remove`
#[derive(Debug, Args)]
pub struct ServerRemove {
    /// Which.
    #[command(flatten)]
    pub one: OneServer,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
}

impl ServerCommand {
    /// Whether a program reads the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::List(server) => server.json,
            Self::Add(add) => add.server.json,
            Self::Test(test) => test.server.json,
            Self::Verify(one) => one.server.json,
            Self::Drain(drain) => drain.one.server.json,
            Self::Remove(remove) => remove.one.server.json,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn what_one_types_about_servers_is_understood_and_no_password_is_an_argument() {
        let parses = |line: &str| Cli::try_parse_from(format!("undoo server {line}").split(' ')).is_ok();
        for line in [
            "list --json",
            "add ssh://root@10.0.0.2 --name Frankfurt --memory-gb 32",
            "test ssh://root@10.0.0.2:2222 --host-key SHA256:x",
            "verify Frankfurt",
            "drain Frankfurt --end",
            "remove Frankfurt -y",
        ] {
            assert!(parses(line), "{line}");
        }
        for wrong in [
            "add ssh://root@10.0.0.2",
            "add ssh://root@10.0.0.2 --name F --password x",
            "add ssh://root@10.0.0.2 --name F --disk-gb 0",
            "remove",
        ] {
            assert!(!parses(wrong), "{wrong}");
        }
    }
}
