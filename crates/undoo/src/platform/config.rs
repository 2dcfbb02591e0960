//! What is set for the platform: read from the command line, the environment and a file, and checked.
//!
//! A value is a text wherever it comes from, and is read in one place. One that is not understood is refused
//! with its name, its source and what would be: nothing is guessed, and nothing unknown in the file is passed
//! over.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{Names, deployment},
};

use crate::cli::{Serve, SettingsArgs, Worker};

/// What the file may hold.
const IN_FILE: [&str; 24] = [
    "listen",
    "public_url",
    "data_dir",
    "database_url",
    "backups_dir",
    "secret_key_file",
    "secret_key_command",
    "worker",
    "worker_name",
    "worker_tasks",
    "worker_listen",
    "lease_seconds",
    "server_tasks",
    "task_attempts",
    "restore_jobs",
    "session_hours",
    "link_hours",
    "event_days",
    "storage_hosts",
    "deploy_prefix",
    "deploy_network",
    "postgres_image",
    "log",
    "log_format",
];

/// What is set.
#[derive(Debug)]
pub struct Config {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Where people reach it, without a slash at its end.
    pub public_url: Option<String>,
    /// The platform's own files.
    pub data_dir: PathBuf,
    /// Its database.
    pub database: Database,
    /// The storage that organisations begin with.
    pub backups_dir: PathBuf,
    /// Where the keys come from that secrets are sealed with.
    pub keys: KeySource,
    /// Whether `serve` has a worker inside.
    pub worker: bool,
    /// The worker's name.
    pub worker_name: String,
    /// Tasks that it does side by side.
    pub worker_tasks: usize,
    /// Where `undoo worker` says how it is.
    pub worker_listen: Option<SocketAddr>,
    /// How long a task is a worker's without another sign of life.
    pub lease: Duration,
    /// Tasks side by side on one server.
    pub server_tasks: i32,
    /// Workers that a task may use up.
    pub task_attempts: i32,
    /// Connections that load a database.
    pub restore_jobs: usize,
    /// How long somebody stays signed in, in hours.
    pub session_hours: u32,
    /// How long a one-time link holds, in hours.
    pub link_hours: u32,
    /// How long events are kept, in days.
    pub event_days: u32,
    /// Servers that everybody may have a storage on, although they lead back to this machine.
    pub storage_hosts: Vec<String>,
    /// What names on servers begin with, of what is deployed from now on.
    pub deploy_prefix: String,
    /// The network of servers that Traefik is in.
    pub deploy_network: String,
    /// PostgreSQL's image for new environments; `{major}` stands for a major version.
    pub postgres_image: String,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// The platform's database.
#[derive(Debug)]
pub enum Database {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server, for several processes.
    Postgres(SecretString),
}

impl Database {
    /// As a store opens it.
    pub fn url(&self) -> SecretString {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()).into(),
            Self::Postgres(url) => url.clone(),
        }
    }
}

/// Where sealing keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// Given themselves.
    Given(SecretString),
    /// What a command prints.
    Command(String),
    /// A file that has to be there.
    File(PathBuf),
    /// A file of the data directory, which is made at first start.
    Own(PathBuf),
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// A value as somebody gave it.
struct Given {
    text: String,
    /// The option, the variable, or the line of the file.
    source: String,
}

impl Given {
    fn read<T>(&self, accepted: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        read(self.text.trim())
            .ok_or_else(|| refused(format!("{} is \"{}\"", self.source, self.text), accepted))
    }
}

fn refused(what: String, accepted: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "setting_invalid",
        format!("{what}, which is not understood"),
        format!("give {accepted}"),
    )
}

/// The three places.
struct Sources<'a> {
    flags: Vec<(&'static str, Option<String>)>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: Option<(PathBuf, toml::Table)>,
}

impl Sources<'_> {
    fn given(&self, name: &'static str) -> Result<Option<Given>> {
        let flag = self.flags.iter().find(|(flag, _)| *flag == name).and_then(|(_, text)| text.clone());
        if let Some(text) = flag {
            return Ok(Some(Given { text, source: format!("--{}", name.replace('_', "-")) }));
        }
        let variable = format!("UNDOO_{}", name.to_uppercase());
        if let Some(text) = (self.variable)(&variable) {
            return Ok(Some(Given { text, source: variable }));
        }
        let Some((path, table)) = &self.file else { return Ok(None) };
        let source = format!("{name} in {}", path.display());
        let text = match table.get(name) {
            None => return Ok(None),
            Some(toml::Value::String(text)) => text.clone(),
            Some(toml::Value::Integer(number)) => number.to_string(),
            Some(toml::Value::Boolean(is)) => is.to_string(),
            Some(other) => {
                return Err(refused(
                    format!("{source} is a {}", other.type_str()),
                    "a text, a number or a truth",
                ));
            }
        };
        Ok(Some(Given { text, source }))
    }

    fn read<T>(
        &self,
        name: &'static str,
        accepted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        self.given(name)?.map(|given| given.read(accepted, read)).transpose()
    }

    fn number<T: FromStr + PartialOrd + Copy + std::fmt::Display>(
        &self,
        name: &'static str,
        default: T,
        (least, most): (T, T),
    ) -> Result<T> {
        let accepted = format!("a whole number from {least} to {most}");
        let read = |text: &str| text.parse().ok().filter(|number| (least..=most).contains(number));
        Ok(self.read(name, &accepted, read)?.unwrap_or(default))
    }

    fn path(&self, name: &'static str) -> Result<Option<PathBuf>> {
        self.read(name, "an absolute path", |text| {
            Some(PathBuf::from(text)).filter(|path| path.is_absolute())
        })
    }
}

impl Config {
    /// What is set for `undoo serve`.
    ///
    /// # Errors
    /// `setting_invalid`, `setting_unknown`, `config_unreadable` (`Invalid`).
    pub fn of_serve(arguments: &Serve) -> Result<Self> {
        let flags = vec![
            ("listen", arguments.listen.clone()),
            ("public_url", arguments.public_url.clone()),
            ("worker", arguments.no_worker.then(|| "false".to_owned())),
        ];
        Self::read(&arguments.settings, flags, &variable)
    }

    /// What is set for `undoo worker`.
    ///
    /// # Errors
    /// As [`Config::of_serve`].
    pub fn of_worker(arguments: &Worker) -> Result<Self> {
        let flags = vec![("worker_name", arguments.name.clone()), ("worker_tasks", arguments.tasks.clone())];
        Self::read(&arguments.settings, flags, &variable)
    }

    /// What is set for the commands that do one thing.
    ///
    /// # Errors
    /// As [`Config::of_serve`].
    pub fn of(arguments: &SettingsArgs) -> Result<Self> {
        Self::read(arguments, Vec::new(), &variable)
    }

    /// Where people reach it, when it listens there.
    pub fn url(&self, address: SocketAddr) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{address}"))
    }

    fn read(
        arguments: &SettingsArgs,
        mut flags: Vec<(&'static str, Option<String>)>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        flags.extend([
            ("data_dir", arguments.data_dir.clone()),
            ("database_url", arguments.database_url.clone()),
            ("secret_key_file", arguments.secret_key_file.clone()),
            ("log", arguments.log.clone()),
            ("log_format", arguments.log_format.clone()),
        ]);
        let path = arguments.config.clone().or_else(|| variable("UNDOO_CONFIG").map(PathBuf::from));
        let file = path.map(|path| read_file(&path).map(|table| (path, table))).transpose()?;
        Sources { flags, variable, file }.config()
    }
}

impl Sources<'_> {
    fn config(&self) -> Result<Config> {
        let address = "an IP address and a port, such as 127.0.0.1:8400";
        let data_dir = self.path("data_dir")?.unwrap_or_else(|| "/var/lib/undoo".into());
        let database = match self.given("database_url")? {
            Some(given) => database(&given)?,
            None => Database::Sqlite(data_dir.join("undoo.db")),
        };
        Ok(Config {
            listen: self
                .read("listen", address, |text| text.parse().ok())?
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8400))),
            public_url: self.read(
                "public_url",
                "an http:// or https:// address without a path",
                public_url,
            )?,
            backups_dir: self.path("backups_dir")?.unwrap_or_else(|| data_dir.join("backups")),
            keys: self.keys(&data_dir)?,
            worker: self.read("worker", "true or false", |text| text.parse().ok())?.unwrap_or(true),
            worker_name: self
                .read("worker_name", "a name of 1 to 100 characters", |text| {
                    (1..=100).contains(&text.chars().count()).then(|| text.to_owned())
                })?
                .unwrap_or_else(this_process),
            worker_tasks: self.number("worker_tasks", 2, (1, 64))?,
            worker_listen: self.read("worker_listen", address, |text| text.parse().ok())?,
            lease: Duration::from_secs(self.number("lease_seconds", 30, (3, 3600))?),
            server_tasks: self.number("server_tasks", 2, (1, 64))?,
            task_attempts: self.number("task_attempts", 3, (1, 100))?,
            restore_jobs: self.number("restore_jobs", 2, (1, 64))?,
            session_hours: self.number("session_hours", 12, (1, 24 * 365))?,
            link_hours: self.number("link_hours", 72, (1, 24 * 365))?,
            event_days: self.number("event_days", 30, (1, 3650))?,
            storage_hosts: self
                .read("storage_hosts", "names or addresses without ports, separated by commas", hosts)?
                .unwrap_or_default(),
            deploy_prefix: self
                .read(
                    "deploy_prefix",
                    "at most 40 lower-case letters, digits, - and _, a letter first",
                    prefix,
                )?
                .unwrap_or_else(|| deployment::PREFIX.into()),
            deploy_network: self
                .read("deploy_network", "a network's name: letters, digits, dots, - and _", network)?
                .unwrap_or_else(|| deployment::PUBLIC_NETWORK.into()),
            postgres_image: self
                .read("postgres_image", "an image such as postgres:{major}-alpine", image)?
                .unwrap_or_else(|| undoo_control::Settings::default().postgres_image),
            log: self
                .read("log", "a filter such as info, or undoo=debug,info", |text| {
                    tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned())
                })?
                .unwrap_or_else(|| "info".into()),
            log_format: self
                .read("log_format", "text or json", |text| match text {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                })?
                .unwrap_or(LogFormat::Text),
            data_dir,
            database,
        })
    }

    /// Of several ways to give the keys, one may be used.
    fn keys(&self, data_dir: &Path) -> Result<KeySource> {
        let key = self.given("secret_key")?;
        let command = self.given("secret_key_command")?;
        let file = self.given("secret_key_file")?;
        match (key, command, file) {
            (Some(key), None, None) => Ok(KeySource::Given(key.text.into())),
            (None, Some(command), None) => Ok(KeySource::Command(command.text)),
            (None, None, Some(_)) => Ok(KeySource::File(self.path("secret_key_file")?.unwrap_or_default())),
            (None, None, None) => Ok(KeySource::Own(data_dir.join("secret.key"))),
            (key, command, file) => {
                let sources: Vec<String> =
                    [key, command, file].into_iter().flatten().map(|given| given.source).collect();
                Err(Problem::new(
                    Kind::Invalid,
                    "setting_invalid",
                    format!("the sealing keys are given more than once: {}", sources.join(", ")),
                    "give them in one way",
                ))
            }
        }
    }
}

fn read_file(path: &Path) -> Result<toml::Table> {
    let unreadable = |why: String| {
        let message = format!("the settings in {} cannot be read: {why}", path.display());
        Problem::new(
            Kind::Invalid,
            "config_unreadable",
            message,
            "give a file in TOML: a name = value a line",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| unreadable(error.message().to_owned()))?;
    match table.keys().find(|name| !IN_FILE.contains(&name.as_str())) {
        None => Ok(table),
        Some(unknown) => Err(Problem::new(
            Kind::Invalid,
            "setting_unknown",
            format!("{} sets \"{unknown}\", which is no setting", path.display()),
            format!("there are {}", IN_FILE.join(", ")),
        )),
    }
}

/// A database's address. It is not shown: there may be a password in it.
fn database(given: &Given) -> Result<Database> {
    let text = given.text.trim();
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        if path.is_absolute() {
            return Ok(Database::Sqlite(path));
        }
    } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Database::Postgres(text.into()));
    }
    let accepted = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite: and an absolute path";
    Err(refused(format!("{} is another kind of address", given.source), accepted))
}

fn public_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

fn hosts(text: &str) -> Option<Vec<String>> {
    let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    // An address of version 6 has colons, a name with a port has one.
    let is_host = |host: &str| host.chars().all(plain) && host.matches(':').count() != 1;
    hosts.map(|host| is_host(host).then(|| host.trim_matches(['[', ']']).to_owned())).collect()
}

fn prefix(text: &str) -> Option<String> {
    let names = Names::new(text, EnvironmentId::generate());
    names.check().is_ok().then(|| text.to_owned())
}

/// As Docker has the names of networks.
fn network(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    (begins && text.len() <= 255 && text.chars().all(plain)).then(|| text.to_owned())
}

fn image(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let named = text.replace("{major}", "17");
    ((1..=255).contains(&text.len()) && named.chars().all(plain)).then(|| text.to_owned())
}

/// Tells this process from others, also of the same machine.
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests;
