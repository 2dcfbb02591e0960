//! What an environment is made of on its server, said before anything is made.
//!
//! Names, configuration, labels, limits and variables follow from a [`Deployment`] alone, so that a second
//! attempt after a crash looks for exactly what the first one made. Nothing here touches a server. The
//! passwords are nowhere but in [`Deployment::odoo_conf`] and in the file that PostgreSQL's image reads.

use std::{collections::BTreeMap, fmt};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    EnvironmentId,
    problem::{Kind, Problem, Result},
};

/// What names begin with unless a setting says otherwise.
pub const PREFIX: &str = "paasportal";
/// The network that Traefik is in.
pub const PUBLIC_NETWORK: &str = "traefik-public";
/// PostgreSQL's role for Odoo.
pub const ROLE: &str = "odoo";
/// The database that is there from the start. The environment's own is made by its restore.
pub const FIRST_DATABASE: &str = "postgres";
/// The file with the role's password, inside PostgreSQL's container.
pub const PASSWORD_FILE: &str = "/etc/undoo/postgres-password";
/// Odoo's port for HTTP, inside its container.
pub const HTTP_PORT: u16 = 8069;
/// Odoo's port for websockets where it has workers, inside its container.
const GEVENT_PORT: u16 = 8072;
/// Where custom addons are, inside Odoo's container.
pub const ADDONS: &str = "/mnt/extra-addons";
/// Where the official image has Odoo's own addons.
pub const IMAGE_ADDONS: &str = "/usr/lib/python3/dist-packages/odoo/addons";
/// Where Python packages that addons need are, inside Odoo's container.
pub const PYTHON: &str = "/mnt/extra-python";
/// Odoo's `data_dir`.
pub const DATA_DIR: &str = "/var/lib/odoo";
/// Odoo's configuration, inside its container.
pub const CONF: &str = "/etc/odoo/odoo.conf";

/// Where PostgreSQL keeps its data, inside its container. Said to the image, since those of 18 and newer have
/// another default, which would not be in the volume.
pub const PGDATA: &str = "/var/lib/postgresql/data";

/// The least memory that a database server gets, in MiB.
const LEAST_DATABASE_MEMORY: u32 = 256;
/// What it gets at least while a backup is loaded, when indexes are built on several connections, in MiB.
const LEAST_LOADING_MEMORY: u32 = 2048;
/// Less than that is not enough for an Odoo and its PostgreSQL, in MiB.
const LEAST_MEMORY: u32 = 512;
const MIB: u64 = 1 << 20;

/// Options that make the environment what it is: an override of one would lead it away from its own database,
/// files or port.
const OWN_OPTIONS: [&str; 11] = [
    "admin_passwd",
    "data_dir",
    "db_host",
    "db_name",
    "db_password",
    "db_port",
    "db_user",
    "dbfilter",
    "http_interface",
    "http_port",
    "list_db",
];

/// Settings with which a fresh cluster is loaded. A crash meanwhile costs the whole cluster.
const FAST: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

/// Names of what an environment has on its server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    prefix: String,
    environment: EnvironmentId,
    /// What it is called instead of by its id.
    called: Option<String>,
}

/// How much of the server an environment may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Cores, for Odoo and for its database each.
    pub cpu_cores: Option<u32>,
    /// Memory of both together, in MiB.
    pub ram_mb: Option<u32>,
}

/// Secrets of an environment. They are made once and kept: a second attempt has to find the same.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Of PostgreSQL's role.
    pub role: SecretString,
    /// Odoo's master password.
    pub master: SecretString,
}

/// An environment as it is to be on its server.
#[derive(Clone)]
pub struct Deployment {
    /// Names of its things.
    pub names: Names,
    /// Odoo's image.
    pub odoo_image: String,
    /// PostgreSQL's image.
    pub postgres_image: String,
    /// Odoo's version such as `17.0`, where it is known.
    pub odoo_version: Option<String>,
    /// Its database, usually called as the environment's id.
    pub database: String,
    /// The host name by which Traefik knows it; `None`: Traefik passes it over.
    pub domain: Option<String>,
    /// The network that Traefik is in.
    pub public_network: String,
    /// A port of the server at which its web server is to be found as well, for a server without Traefik.
    pub http_port: Option<u16>,
    /// What it may use.
    pub limits: Limits,
    /// Options of `odoo.conf` besides those that every environment has, or instead of them.
    pub odoo_conf: BTreeMap<String, String>,
    /// Variables of Odoo's container. They may be secret.
    pub variables: BTreeMap<String, String>,
    /// The package index that Python packages come from instead of PyPI. Its address may have a password.
    pub pip_index: Option<SecretString>,
    /// Its secrets.
    pub passwords: Passwords,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("names", &self.names)
            .field("odoo_image", &self.odoo_image)
            .field("postgres_image", &self.postgres_image)
            .field("database", &self.database)
            .field("domain", &self.domain)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Names {
    /// Names with this prefix.
    pub fn new(prefix: impl Into<String>, environment: EnvironmentId) -> Self {
        Self { prefix: prefix.into(), environment, called: None }
    }

    /// The same, with this name in the place of the id: for people who find their way by names alone. Another
    /// environment may have had it before.
    #[must_use]
    pub fn called(self, name: impl Into<String>) -> Self {
        Self { called: Some(name.into()), ..self }
    }

    /// The name that it was given, if its things are not called by its id.
    pub fn given(&self) -> Option<&str> {
        self.called.as_deref()
    }

    /// What its things are called by: the name that it was given, else its id.
    pub fn name(&self) -> String {
        self.called.clone().unwrap_or_else(|| self.environment.to_string())
    }

    /// The environment.
    pub fn environment(&self) -> EnvironmentId {
        self.environment
    }

    /// What the names of networks, volumes and folders begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Odoo's container.
    pub fn odoo(&self) -> String {
        format!("{}_odoo", self.name())
    }

    /// PostgreSQL's container, by which Odoo finds it.
    pub fn db(&self) -> String {
        format!("{}_db", self.name())
    }

    /// The network that the two are in.
    pub fn network(&self) -> String {
        format!("{}_net_{}", self.prefix, self.name())
    }

    /// The volume of PostgreSQL's data.
    pub fn pgdata(&self) -> String {
        format!("{}_pgdata_{}", self.prefix, self.name())
    }

    /// The volume of Odoo's data.
    pub fn data(&self) -> String {
        format!("{}_odoo_{}_data", self.prefix, self.name())
    }

    /// The folder of the server that has the folders of all environments.
    pub fn folders(&self) -> String {
        format!("/opt/{}", self.prefix)
    }

    /// The folder of the server with configuration and addons.
    pub fn folder(&self) -> String {
        format!("/opt/{}/{}", self.prefix, self.name())
    }

    /// The folder of the server with its addons.
    pub fn addons(&self) -> String {
        format!("{}/addons", self.folder())
    }

    /// The folder of the server with Python packages that its addons need.
    pub fn packages(&self) -> String {
        format!("{}/python", self.folder())
    }

    /// Whether prefix and name can be part of a name of Docker's and of a path.
    ///
    /// # Errors
    /// `deployment_invalid`.
    pub fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let fits = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 40 && text.chars().all(plain)
        };
        let both = [("prefix", Some(&self.prefix)), ("name", self.called.as_ref())];
        match both.into_iter().find_map(|(what, text)| Some((what, text.filter(|text| !fits(text))?))) {
            None => Ok(()),
            Some((what, text)) => Err(invalid(
                format!("The {what} {text:?} cannot be part of names."),
                "Use at most 40 lower-case letters, digits, - and _, and begin with a letter.",
            )),
        }
    }
}

impl Deployment {
    /// An environment with everything as usual, in a database called as it is.
    pub fn new(
        names: Names,
        odoo_image: impl Into<String>,
        postgres_image: impl Into<String>,
        passwords: Passwords,
    ) -> Self {
        Self {
            database: names.name(),
            names,
            odoo_image: odoo_image.into(),
            postgres_image: postgres_image.into(),
            odoo_version: None,
            domain: None,
            public_network: PUBLIC_NETWORK.into(),
            http_port: None,
            limits: Limits::default(),
            odoo_conf: BTreeMap::new(),
            variables: BTreeMap::new(),
            pip_index: None,
            passwords,
        }
    }

    /// Whether it can be made: nothing in it can be taken for something else in a file, a label or a name.
    ///
    /// # Errors
    /// `deployment_invalid`, naming what cannot be.
    pub fn check(&self) -> Result<()> {
        self.names.check()?;
        let one_line = |text: &str| !text.contains(['\n', '\r', '\0']);
        if self.database.is_empty() || self.database.len() > 63 || !self.database.chars().all(is_name) {
            return Err(invalid(
                format!("The database cannot be called {:?}.", self.database),
                "Use at most 63 letters, digits, dots, - and _.",
            ));
        }
        if let Some(domain) = self.domain.as_ref().filter(|domain| !is_host_name(domain)) {
            return Err(invalid(
                format!("{domain:?} is no host name."),
                "Write it as in an address, such as erp.example.com.",
            ));
        }
        for (option, value) in &self.odoo_conf {
            if Self::is_own(option) {
                return Err(invalid(
                    format!("The option {option} of odoo.conf is the environment's own."),
                    "Leave it out of the overrides.",
                ));
            }
            if option.is_empty() || !option.chars().all(is_name) || !one_line(value) {
                return Err(invalid(
                    format!("The option {option:?} cannot be written into odoo.conf."),
                    "Names have letters, digits and _, and values are one line.",
                ));
            }
        }
        for (variable, value) in &self.variables {
            if variable.is_empty() || !variable.chars().all(is_name) || value.contains('\0') {
                return Err(invalid(
                    format!("{variable:?} cannot be a variable of a container."),
                    "Names have letters, digits and _.",
                ));
            }
        }
        let index = self.pip_index.as_ref().map(|index| index.expose_secret());
        if index.is_some_and(|index| !index.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(invalid(
                "The address of the package index has blanks or characters that no address has.",
                "Write it as in https://pypi.example.com/simple.",
            ));
        }
        for (what, secret) in [("role", &self.passwords.role), ("master", &self.passwords.master)] {
            let secret = secret.expose_secret();
            if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid(
                    format!("The {what} password is empty or has characters that no file keeps."),
                    "Have it made anew.",
                ));
            }
        }
        if self.limits.ram_mb.is_some_and(|ram| ram < LEAST_MEMORY) {
            return Err(invalid(
                format!("Odoo and PostgreSQL cannot live in less than {LEAST_MEMORY} MiB."),
                "Give the environment more memory.",
            ));
        }
        if self.limits.cpu_cores == Some(0) {
            return Err(invalid("An environment needs a core.", "Give it one, or no limit."));
        }
        Ok(())
    }

    /// Whether an option of `odoo.conf` is the environment's own, which no override may change.
    pub fn is_own(option: &str) -> bool {
        OWN_OPTIONS.contains(&option)
    }

    /// `odoo.conf`: what every environment has, with its overrides. It holds the passwords.
    pub fn odoo_conf(&self) -> SecretString {
        let own = [
            ("db_host", self.names.db()),
            ("db_port", "5432".into()),
            ("db_user", ROLE.into()),
            ("db_password", self.passwords.role.expose_secret().to_owned()),
            ("db_name", self.database.clone()),
            ("dbfilter", format!("^{}$", self.database.replace('.', "\\."))),
            ("data_dir", DATA_DIR.into()),
            ("addons_path", format!("{ADDONS},{IMAGE_ADDONS}")),
            ("http_interface", "0.0.0.0".into()),
            ("http_port", HTTP_PORT.to_string()),
            ("proxy_mode", "True".into()),
            ("list_db", "False".into()),
            ("admin_passwd", self.passwords.master.expose_secret().to_owned()),
        ];
        let mut text = "[options]\n".to_owned();
        for (option, value) in &own {
            let value = self.odoo_conf.get(*option).unwrap_or(value);
            text.push_str(&format!("{option} = {value}\n"));
        }
        for (option, value) in &self.odoo_conf {
            if !own.iter().any(|(name, _)| name == option) {
                text.push_str(&format!("{option} = {value}\n"));
            }
        }
        text.into()
    }

    /// What PostgreSQL's image is told. The password comes from a file, since variables can be seen.
    pub fn database_variables(&self) -> BTreeMap<String, String> {
        [
            ("PGDATA", PGDATA),
            ("POSTGRES_DB", FIRST_DATABASE),
            ("POSTGRES_PASSWORD_FILE", PASSWORD_FILE),
            ("POSTGRES_USER", ROLE),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// How PostgreSQL is called: with settings that are fast and forget everything in a crash, or as usual.
    pub fn database_command(&self, fast: bool) -> Vec<String> {
        let off = FAST.iter().flat_map(|setting| ["-c".to_owned(), format!("{setting}=off")]);
        std::iter::once("postgres".to_owned()).chain(off.filter(|_| fast)).collect()
    }

    /// Settings that have to be `on` in a cluster that somebody works with.
    pub fn durable_settings() -> [&'static str; 3] {
        FAST
    }

    /// Variables of Odoo's container, on top of those of its image, which may have a `PYTHONPATH`.
    pub fn odoo_variables(&self, image_python_path: Option<&str>) -> BTreeMap<String, String> {
        let mut variables = self.variables.clone();
        let others = variables.get("PYTHONPATH").map(String::as_str).or(image_python_path);
        let path = match others.filter(|path| !path.is_empty()) {
            Some(others) => format!("{PYTHON}:{others}"),
            None => PYTHON.to_owned(),
        };
        variables.insert("PYTHONPATH".into(), path);
        variables
    }

    /// Folders and files of the server in Odoo's container, each read-only: from where, and to where.
    pub fn odoo_binds(&self) -> [(String, &'static str); 3] {
        let folder = self.names.folder();
        [
            (format!("{folder}/odoo.conf"), CONF),
            (self.names.addons(), ADDONS),
            (self.names.packages(), PYTHON),
        ]
    }

    /// What Traefik reads off Odoo's container.
    pub fn traefik_labels(&self) -> BTreeMap<String, String> {
        let Some(domain) = &self.domain else {
            return [("traefik.enable".to_owned(), "false".to_owned())].into();
        };
        let id = self.names.environment;
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        let mut label = |name: String, value: String| labels.insert(format!("traefik.{name}"), value);
        label("enable".into(), "true".into());
        label("docker.network".into(), self.public_network.clone());
        let mut route = |router: String, rule: String, port: u16| {
            label(format!("http.routers.{router}.rule"), rule);
            label(format!("http.routers.{router}.entrypoints"), "websecure".into());
            label(format!("http.routers.{router}.tls"), "true".into());
            label(format!("http.routers.{router}.service"), router.clone());
            label(format!("http.services.{router}.loadbalancer.server.port"), port.to_string());
        };
        route(id.to_string(), format!("Host(`{domain}`)"), HTTP_PORT);
        if self.has_workers() {
            let path =
                if self.major().is_some_and(|major| major < 16) { "/longpolling" } else { "/websocket" };
            let rule = format!("Host(`{domain}`) && PathPrefix(`{path}`)");
            route(format!("{id}-gevent"), rule, self.gevent_port());
        }
        labels
    }

    /// Memory that Odoo may use, in bytes.
    pub fn odoo_memory(&self) -> Option<u64> {
        let ram = self.limits.ram_mb?;
        Some(u64::from(ram.saturating_sub(database_share(ram))) * MIB)
    }

    /// Memory that PostgreSQL may use, in bytes. While it is fast it loads a backup, and no Odoo runs beside it.
    pub fn database_memory(&self, fast: bool) -> Option<u64> {
        let share = |ram: u32| if fast { ram.max(LEAST_LOADING_MEMORY) } else { database_share(ram) };
        self.limits.ram_mb.map(|ram| u64::from(share(ram)) * MIB)
    }

    fn has_workers(&self) -> bool {
        let workers = self.odoo_conf.get("workers").and_then(|workers| workers.trim().parse::<u32>().ok());
        workers.is_some_and(|workers| workers > 0)
    }

    fn gevent_port(&self) -> u16 {
        let named = ["gevent_port", "longpolling_port"].iter().find_map(|name| self.odoo_conf.get(*name));
        named.and_then(|port| port.trim().parse().ok()).unwrap_or(GEVENT_PORT)
    }

    fn major(&self) -> Option<u32> {
        let version = self.odoo_version.as_deref()?;
        version.trim_start_matches("saas~").split('.').next()?.parse().ok()
    }
}

/// A quarter of the memory, in MiB.
fn database_share(ram: u32) -> u32 {
    (ram / 4).max(LEAST_DATABASE_MEMORY)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['_', '-', '.'].contains(&c)
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn invalid(message: impl Into<String>, remedy: &str) -> Problem {
    Problem::new(Kind::Invalid, "deployment_invalid", message, remedy)
}

#[cfg(test)]
mod tests;
