//! Odoo's configuration as it is in force in a container, and `odoo.conf` written anew.
//!
//! Odoo takes its options from the command line, the environment, a file and its defaults; the entrypoint
//! of the official image adds a turn of its own. [`OdooConf::merge`] does the same, without any I/O.
//! Values of options nobody here knows may be secrets too: they are kept for writing a file, and never
//! shown or serialised.

use std::{collections::BTreeMap, fmt};

use configparser::ini::{Ini, IniDefault};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

use super::command::{CommandLine, file_option};

/// Options of a file by section and name. Sections beside `options` belong to modules.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfFile {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl fmt::Debug for ConfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sections.iter().map(|(name, options)| (name, options.keys()))).finish()
    }
}

impl ConfFile {
    /// Reads a file by the rules of Python's `RawConfigParser`, which Odoo uses: no interpolation, no
    /// comments behind values, indented lines continue a value.
    ///
    /// # Errors
    /// `odoo_conf_invalid` with the parser's words, which name the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rules = IniDefault::default();
        rules.default_section = "DEFAULT".into();
        rules.enable_inline_comments = false;
        rules.multiline = true;
        let mut ini = Ini::new_from_defaults(rules);
        let sections = ini.read(text.to_owned()).map_err(|error| {
            Problem::new(
                Kind::Invalid,
                "odoo_conf_invalid",
                format!("Odoo's configuration file cannot be read: {error}."),
                "Correct that line; Odoo itself would not start with it either.",
            )
        })?;
        let sections = sections
            .into_iter()
            .map(|(section, options)| {
                let options = options
                    .into_iter()
                    .map(|(name, value)| (name, value.unwrap_or_default().replace("\r\n", "\n")))
                    .collect();
                (section, options)
            })
            .collect();
        Ok(Self { sections })
    }

    /// The value of an option in `[options]`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.sections.get("options")?.get(name).map(String::as_str)
    }

    /// Names and values of the options in `[options]`.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let options = self.sections.get("options").into_iter().flatten();
        options.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets an option in `[options]`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.set_in("options", name, value);
    }

    /// Sets an option in a section of its own.
    pub(crate) fn set_in(&mut self, section: &str, name: &str, value: impl Into<String>) {
        self.sections.entry(section.to_owned()).or_default().insert(name.to_owned(), value.into());
    }

    /// Takes an option out of `[options]`.
    pub fn remove(&mut self, name: &str) {
        if let Some(options) = self.sections.get_mut("options") {
            options.remove(name);
        }
    }

    /// The file's text. It may hold passwords.
    pub fn to_text(&self) -> SecretString {
        let mut text = String::new();
        for (section, options) in &self.sections {
            text.push_str(&format!("[{section}]\n"));
            for (name, value) in options {
                // A continued value's lines have to be indented, and an empty line would end it.
                let lines: Vec<&str> = value.lines().filter(|line| !line.trim().is_empty()).collect();
                text.push_str(&format!("{name} = {}\n", lines.join("\n    ")));
            }
            text.push('\n');
        }
        text.into()
    }
}

/// What decides the configuration of a container's Odoo.
pub(crate) struct ConfSources<'a> {
    pub(crate) command: &'a CommandLine,
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The file that Odoo reads, with its path.
    pub(crate) file: Option<(String, ConfFile)>,
    /// What the official entrypoint sees; `None` where another entrypoint runs.
    pub(crate) official: Option<OfficialEntrypoint>,
    /// First number of Odoo's version.
    pub(crate) major: Option<u32>,
    /// The home directory of the user that Odoo runs as.
    pub(crate) home: String,
}

/// The official image's entrypoint looks for the database's address in the file that `ODOO_RC` names,
/// then in the environment, and gives what it found to Odoo as the last options of the command line.
pub(crate) struct OfficialEntrypoint {
    pub(crate) odoo_rc: ConfFile,
    /// The content of `PASSWORD_FILE`.
    pub(crate) password_file: Option<SecretString>,
}

/// The configuration in force.
#[derive(Debug, Clone, Serialize)]
pub struct OdooConf {
    /// The file it was read from, as a path inside the container.
    pub path: Option<String>,
    /// Name or address of the database server; `None` is a socket inside the container.
    pub db_host: Option<String>,
    /// Port of the database server.
    pub db_port: u16,
    /// The role that Odoo connects as.
    pub db_user: Option<String>,
    /// That role's password.
    #[serde(skip)]
    pub db_password: Option<SecretString>,
    /// The databases that Odoo is bound to; empty: every database that its role may see.
    pub db_name: Vec<String>,
    /// Regular expression of the databases offered to web clients.
    pub dbfilter: Option<String>,
    /// libpq's `sslmode`.
    pub db_sslmode: String,
    /// Where Odoo keeps filestore and sessions, as a path inside the container.
    pub data_dir: String,
    /// Where addons are looked for, in order.
    pub addons_path: Vec<String>,
    /// Port of the web server.
    pub http_port: u16,
    /// Whether the database manager is reachable.
    pub list_db: bool,
    /// Number of worker processes; 0 is threads in one process.
    pub workers: u32,
    /// Every option in force, sections of modules included; for writing a file from.
    #[serde(skip)]
    pub all: ConfFile,
}

impl OdooConf {
    /// Puts the sources together as Odoo does.
    pub(crate) fn merge(sources: ConfSources<'_>) -> Self {
        let (path, file) = match sources.file {
            Some((path, file)) => (Some(path), file),
            None => (None, ConfFile::default()),
        };
        let mut all = ConfFile { sections: file.sections };
        for old in ["xmlrpc_port", "xmlrpc_interface"] {
            if let Some(value) = all.get(old).map(str::to_owned) {
                all.remove(old);
                if all.get(&file_option(old)).is_none() {
                    all.set(&file_option(old), value);
                }
            }
        }
        for (variable, option) in LIBPQ {
            // Since version 19 Odoo reads these itself, before the file. Before, only libpq did, for
            // what neither command line nor file had said.
            let read_by_odoo = sources.major.is_some_and(|major| major >= 19);
            if let Some(value) = sources.env.get(variable)
                && (read_by_odoo || all.text(option).is_none())
            {
                all.set(option, value);
            }
        }
        if sources.major.is_some_and(|major| major >= 19) {
            for (variable, value) in sources.env {
                match variable.strip_prefix("ODOO_") {
                    Some("RC" | "VERSION" | "DEV" | "SHA" | "RELEASE") | None => {}
                    Some(option) => all.set(&option.to_lowercase(), value),
                }
            }
        }
        for (option, value) in sources.command.options() {
            all.set(&option, value);
        }
        if let Some(official) = &sources.official {
            for (option, value) in official.arguments(sources.env) {
                all.set(&option, value);
            }
        }
        Self {
            path,
            db_host: all.text("db_host"),
            db_port: all.number("db_port").unwrap_or(5432),
            db_user: all.text("db_user"),
            db_password: all.text("db_password").map(SecretString::from),
            db_name: all.list("db_name"),
            dbfilter: all.text("dbfilter"),
            db_sslmode: all.text("db_sslmode").unwrap_or_else(|| "prefer".into()),
            data_dir: all.text("data_dir").map_or_else(
                || format!("{}/.local/share/Odoo", sources.home.trim_end_matches('/')),
                |path| without_trailing_slash(&path),
            ),
            addons_path: all.list("addons_path"),
            http_port: all.number("http_port").unwrap_or(8069),
            list_db: all.text_or_false("list_db").is_none_or(|value| !is_false(&value)),
            workers: all.number("workers").unwrap_or(0),
            all,
        }
    }

    /// Where the filestores of all databases are, as a path inside the container.
    pub fn filestore_root(&self) -> String {
        format!("{}/filestore", self.data_dir)
    }
}

/// libpq's variables and the options that they stand for.
const LIBPQ: [(&str, &str); 6] = [
    ("PGHOST", "db_host"),
    ("PGPORT", "db_port"),
    ("PGUSER", "db_user"),
    ("PGPASSWORD", "db_password"),
    ("PGDATABASE", "db_name"),
    ("PGSSLMODE", "db_sslmode"),
];

impl OfficialEntrypoint {
    /// Whether it adds its arguments to this command; any other it runs as it is.
    pub(crate) fn adds_to(command: &[String]) -> bool {
        command.first().is_some_and(|first| first == "odoo" || first.starts_with('-'))
    }

    fn arguments(&self, env: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let first = |names: &[&str], default: &str| {
            names
                .iter()
                .find_map(|name| env.get(*name).filter(|value| !value.is_empty()).cloned())
                .unwrap_or_else(|| default.to_owned())
        };
        let password = match &self.password_file {
            Some(password) => password.expose_secret().to_owned(),
            None => first(&["PASSWORD", "DB_ENV_POSTGRES_PASSWORD", "POSTGRES_PASSWORD"], "odoo"),
        };
        [
            ("db_host", first(&["HOST", "DB_PORT_5432_TCP_ADDR"], "db")),
            ("db_port", first(&["PORT", "DB_PORT_5432_TCP_PORT"], "5432")),
            ("db_user", first(&["USER", "DB_ENV_POSTGRES_USER", "POSTGRES_USER"], "odoo")),
            ("db_password", password),
        ]
        .into_iter()
        .map(|(option, from_env)| {
            let in_file = self.odoo_rc.get(option).map(|value| value.trim_matches('"').to_owned());
            (option.to_owned(), in_file.unwrap_or(from_env))
        })
        .collect()
    }
}

impl ConfFile {
    /// An option's text; `None` where it is unset, also in Odoo's ways of writing that.
    fn text(&self, name: &str) -> Option<String> {
        self.text_or_false(name).filter(|value| !is_false(value) && value != "None")
    }

    fn text_or_false(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.text(name)?.parse().ok()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

fn is_false(value: &str) -> bool {
    ["false", "0", "no", "off", "f", "n"].contains(&value.to_lowercase().as_str())
}

fn without_trailing_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".into(),
        trimmed => trimmed.into(),
    }
}

#[cfg(test)]
mod tests;
