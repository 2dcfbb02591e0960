//! The commands of the platform: what runs for long, and what an operator does about it.
//!
//! Settings come from three places, and all of them are read in `platform/config.rs`, so that each bad value
//! gets the same kind of answer. Here they are texts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The commands of the platform.
#[derive(Debug, Subcommand)]
pub enum PlatformCommand {
    /// Run the platform: its API, and a worker, on this machine's Docker Engine.
    #[command(after_long_help = SETTINGS)]
    Serve(Serve),
    /// Run a worker more, on a machine with a Docker Engine; for a platform on PostgreSQL.
    #[command(after_long_help = SETTINGS)]
    Worker(Worker),
    /// Make the platform's tables in its database, or bring them up to this version.
    #[command(after_long_help = SETTINGS)]
    Migrate(SettingsArgs),
    /// Print the description of the API (OpenAPI 3.1, JSON).
    Openapi,
    /// Look after the keys that the platform's secrets are sealed with.
    Keys(Keys),
    /// Let people in again, by the platform's database.
    Users(Users),
}

const SETTINGS: &str = "\
Settings:
  Each is taken from the command line, else from the environment (UNDOO_ and its name in capitals), else from
  the file that --config names (TOML, name = value), else it has its default.

  listen              address of the API                               127.0.0.1:8400
  public_url          where people reach it; https:// where there is a proxy in front
  data_dir            the platform's own files, made at first start    /var/lib/undoo
  database_url        postgres://…, or sqlite:PATH                     sqlite:DATA_DIR/undoo.db
  backups_dir         the storage that organisations begin with        DATA_DIR/backups
  secret_key_file     file with the keys that secrets are sealed with  DATA_DIR/secret.key
  secret_key_command  command that prints them instead
  worker              whether `serve` has a worker inside              true
  worker_name         name of the worker in tasks and logs             the host's name and the process
  worker_tasks        tasks that a worker does side by side            2
  worker_listen       address where `worker` answers /healthz, /readyz and /metrics   nowhere
  lease_seconds       after so long without a sign of life a worker's task goes to another   30
  server_tasks        tasks side by side on one server                 2
  task_attempts       workers that a task may use up                   3
  restore_jobs        connections that load a database                 2
  session_hours       how long somebody stays signed in                12
  link_hours          how long a one-time link holds                   72
  event_days          how long events are kept                         30
  storage_hosts       servers, separated by commas, that storages may be on although they are this machine
                      (loopback) or have no address of their own (link-local); portal admins may use any
  deploy_prefix       networks, volumes and folders of new environments begin with it   paasportal
  deploy_network      network of servers that Traefik is in            traefik-public
  postgres_image      PostgreSQL's image for new environments; {major} is the backup's major version
                                                                       postgres:{major}-alpine
  log                 what is logged, as RUST_LOG has it               info
  log_format          text or json                                     text

  A key is a line of 64 hexadecimal digits; the first one seals, all open. In the environment it can also be
  given itself, as UNDOO_SECRET_KEY. `serve` on SQLite makes one at its first start. Whoever has the database
  and the keys has every secret in it: keep a copy of them, and not beside the database's.";

/// What `serve`, `worker`, `migrate`, `keys` and `users` share.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// File with settings (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The platform's own files.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The platform's database: postgres://…, or sqlite:PATH. [default: sqlite in the data directory]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// File with the keys that secrets are sealed with.
    #[arg(long, value_name = "FILE")]
    pub secret_key_file: Option<String>,
    /// What is logged, as RUST_LOG has it.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// `undoo serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// What is set.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Address of the API. [default: 127.0.0.1:8400]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where people reach it, such as https://undo.example.com.
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Leave the tasks to `undoo worker` processes.
    #[arg(long)]
    pub no_worker: bool,
}

/// `undoo worker`
#[derive(Debug, Args)]
pub struct Worker {
    /// What is set.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Name of the worker, in tasks and logs.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Tasks that it does side by side.
    #[arg(long, value_name = "N")]
    pub tasks: Option<String>,
}

/// `undoo keys`
#[derive(Debug, Args)]
pub struct Keys {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The commands about sealing keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Seal every secret anew, with the first key. The others can go then.
    ///
    /// On SQLite, with the platform stopped, this is all of it: where the file of keys has but one, a new one
    /// is put before it, and in the end the former is taken out. On PostgreSQL put a new key (openssl rand
    /// -hex 32) before the present one in the file of each process, restart them one after another, and then
    /// run this.
    #[command(after_long_help = SETTINGS)]
    Rotate(SettingsArgs),
}

/// `undoo users`
#[derive(Debug, Args)]
pub struct Users {
    /// What to do.
    #[command(subcommand)]
    pub command: UsersCommand,
}

/// The commands about accounts.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Print a one-time link with which somebody chooses a new password: for the last admin who lost theirs.
    ///
    /// It works on the platform's database, so it is for who runs the platform. On SQLite stop `undoo serve`
    /// first, and start it again to use the link. Their password of now holds until the link is used.
    #[command(after_long_help = SETTINGS)]
    Reset {
        /// Their address.
        email: String,
        /// What is set.
        #[command(flatten)]
        settings: SettingsArgs,
    },
}
