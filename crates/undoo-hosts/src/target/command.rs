//! What a container's command says about its Odoo: which program it runs and with which options.
//!
//! Pure: it never runs anything. Odoo parses its arguments with Python's `optparse`; the same rules are
//! followed here, so that a password which starts with a dash is still a password.

use std::collections::BTreeMap;

/// Names that Odoo's server has had.
const EXECUTABLES: [&str; 5] = ["odoo", "odoo-bin", "odoo.py", "openerp-server", "odoo-server"];

/// Long options that take no value; every other long option takes one.
const WITHOUT_VALUE: [&str; 21] = [
    "save",
    "stop-after-init",
    "no-http",
    "no-xmlrpc",
    "proxy-mode",
    "x-sendfile",
    "test-enable",
    "test-commit",
    "logrotate",
    "syslog",
    "log-request",
    "log-response",
    "log-web",
    "log-sql",
    "smtp-ssl",
    "i18n-overwrite",
    "no-database-list",
    "unaccent",
    "help",
    "version",
    "with-demo",
];

/// Options that ask for one run's work and do not describe the server.
const OF_ONE_RUN: [&str; 16] = [
    "config",
    "init",
    "update",
    "save",
    "stop_after_init",
    "import_partial",
    "load_language",
    "language",
    "translate_out",
    "translate_in",
    "overwrite_existing_translations",
    "test_enable",
    "test_commit",
    "shell_interface",
    "help",
    "version",
];

/// A container's command, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommandLine {
    /// How Odoo is called: `["odoo"]`, `["python3", "/opt/odoo/odoo-bin"]`.
    pub(crate) executable: Vec<String>,
    /// What is given to it.
    pub(crate) args: Vec<String>,
    /// Whether the command named the executable itself.
    pub(crate) names_odoo: bool,
}

impl CommandLine {
    /// Takes apart entrypoint and command as Docker keeps them.
    pub(crate) fn parse(entrypoint: &[String], command: &[String]) -> Self {
        let mut words: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
        if let Some(script) = shell_script(&words) {
            words = last_command_with_odoo(&script);
        }
        match words.iter().position(|word| is_odoo(word)) {
            Some(at) => {
                let interpreter = at
                    .checked_sub(1)
                    .and_then(|before| words.get(before))
                    .filter(|word| file_name(word).starts_with("python"));
                let executable = interpreter.into_iter().chain(words.get(at)).cloned().collect();
                Self { executable, args: words.split_off(at + 1), names_odoo: true }
            }
            // The official entrypoint takes options alone and puts "odoo" in front of them.
            None => {
                let args = command.iter().skip_while(|word| !word.starts_with('-')).cloned().collect();
                Self { executable: vec!["odoo".into()], args, names_odoo: false }
            }
        }
    }

    /// The options of the server by their names in the configuration file, as text.
    pub(crate) fn options(&self) -> BTreeMap<String, String> {
        let mut options = self.all_options();
        options.retain(|name, _| !OF_ONE_RUN.contains(&name.as_str()));
        options
    }

    /// The configuration file that is named by `-c` or `--config`.
    pub(crate) fn config_path(&self) -> Option<String> {
        self.all_options().remove("config")
    }

    fn all_options(&self) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let mut words = self.args.iter();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None if long.is_empty() || WITHOUT_VALUE.contains(&long) => (long, None),
                    None => (long, words.next().cloned()),
                };
                match name {
                    "" => {}
                    "no-database-list" => _ = options.insert("list_db".into(), "False".into()),
                    "no-http" | "no-xmlrpc" => _ = options.insert("http_enable".into(), "False".into()),
                    _ => _ = options.insert(file_option(name), value.unwrap_or_else(|| "True".into())),
                }
            } else if let Some(short) = word.strip_prefix('-') {
                let mut letters = short.chars();
                let Some(name) = letters.next().and_then(short_option) else { continue };
                let glued = letters.as_str();
                let value = if glued.is_empty() { words.next().cloned() } else { Some(glued.to_owned()) };
                options.insert(name.into(), value.unwrap_or_default());
            }
        }
        options
    }
}

/// The name in the configuration file of a long option.
pub(crate) fn file_option(long: &str) -> String {
    match long {
        "database" => "db_name".into(),
        "db-filter" => "dbfilter".into(),
        "load" => "server_wide_modules".into(),
        "smtp" => "smtp_server".into(),
        "xmlrpc-port" | "xmlrpc_port" => "http_port".into(),
        "xmlrpc-interface" | "xmlrpc_interface" => "http_interface".into(),
        "i18n-export" => "translate_out".into(),
        "i18n-import" => "translate_in".into(),
        "i18n-overwrite" => "overwrite_existing_translations".into(),
        "dev" => "dev_mode".into(),
        other => other.replace('-', "_"),
    }
}

fn short_option(letter: char) -> Option<&'static str> {
    Some(match letter {
        'c' => "config",
        'i' => "init",
        'u' => "update",
        'P' => "import_partial",
        'D' => "data_dir",
        'p' => "http_port",
        'd' => "db_name",
        'r' => "db_user",
        'w' => "db_password",
        'l' => "language",
        _ => return None,
    })
}

fn is_odoo(word: &str) -> bool {
    EXECUTABLES.contains(&file_name(word))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The script of `sh -c "…"`, wherever in the words it stands.
fn shell_script(words: &[String]) -> Option<String> {
    words.windows(3).find_map(|window| match window {
        [shell, flag, script]
            if ["sh", "bash", "dash", "ash"].contains(&file_name(shell))
                && flag.starts_with('-')
                && !flag.starts_with("--")
                && flag.ends_with('c') =>
        {
            Some(script.clone())
        }
        _ => None,
    })
}

/// A script may prepare something first; the server is the last Odoo that it calls.
fn last_command_with_odoo(script: &str) -> Vec<String> {
    let words =
        shlex::split(script).unwrap_or_else(|| script.split_whitespace().map(str::to_owned).collect());
    words
        .split(|word| ["&&", "||", ";", "|", "&"].contains(&word.as_str()))
        .filter(|command| command.iter().any(|word| is_odoo(word)))
        .next_back()
        .map(<[String]>::to_vec)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entrypoint: &[&str], command: &[&str]) -> CommandLine {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        CommandLine::parse(&owned(entrypoint), &owned(command))
    }

    fn option(line: &CommandLine, name: &str) -> Option<String> {
        line.options().remove(name)
    }

    #[test]
    fn the_official_image_runs_odoo_from_the_path() {
        let line = parse(&["/entrypoint.sh"], &["odoo"]);
        assert_eq!(line.executable, ["odoo"]);
        assert!(line.options().is_empty());
    }

    #[test]
    fn options_alone_go_to_odoo() {
        let line = parse(&["/entrypoint.sh"], &["-d", "acme", "--db-filter=^acme$"]);
        assert_eq!(line.executable, ["odoo"]);
        assert!(!line.names_odoo);
        assert_eq!(option(&line, "db_name").as_deref(), Some("acme"));
        assert_eq!(option(&line, "dbfilter").as_deref(), Some("^acme$"));
    }

    #[test]
    fn an_interpreter_in_front_is_part_of_the_executable() {
        let line = parse(&[], &["/opt/venv/bin/python3", "/opt/odoo/odoo-bin", "-c", "/opt/odoo.conf"]);
        assert_eq!(line.executable, ["/opt/venv/bin/python3", "/opt/odoo/odoo-bin"]);
        assert_eq!(line.config_path().as_deref(), Some("/opt/odoo.conf"));
        assert_eq!(option(&line, "config"), None, "the path of the file is no option of the server");
    }

    #[test]
    fn the_last_odoo_of_a_shell_script_is_the_server() {
        let line = parse(
            &["/bin/sh", "-c"],
            &["odoo -u all -d x --stop-after-init && exec odoo -d 'my db' --workers 2"],
        );
        assert_eq!(line.executable, ["odoo"]);
        assert_eq!(option(&line, "db_name").as_deref(), Some("my db"));
        assert_eq!(option(&line, "workers").as_deref(), Some("2"));
        assert_eq!(option(&line, "update"), None);
    }

    #[test]
    fn a_value_may_look_like_an_option() {
        let line = parse(&[], &["odoo", "-w", "-secret", "--db_password", "--other", "-racme"]);
        assert_eq!(option(&line, "db_password").as_deref(), Some("--other"));
        assert_eq!(option(&line, "db_user").as_deref(), Some("acme"));
    }

    #[test]
    fn options_without_value_do_not_swallow_the_next() {
        let line = parse(&[], &["odoo", "--no-database-list", "--proxy-mode", "-p", "8070"]);
        assert_eq!(option(&line, "list_db").as_deref(), Some("False"));
        assert_eq!(option(&line, "proxy_mode").as_deref(), Some("True"));
        assert_eq!(option(&line, "http_port").as_deref(), Some("8070"));
    }

    #[test]
    fn broken_commands_are_no_panic() {
        for words in
            [&["odoo", "--"][..], &["odoo", "-"], &["odoo", "-d"], &["sh", "-c", "odoo 'x"], &[""], &[]]
        {
            let _ = parse(&[], words).options();
        }
    }
}
