//! Where settings come from, and that a wrong one is named with its source.

use std::fs;

use super::*;

fn read(variables: &[(&str, &str)], file: Option<&str>, arguments: SettingsArgs) -> Result<Config> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("undoo.toml");
    let mut arguments = arguments;
    if let Some(text) = file {
        fs::write(&path, text).expect("written");
        arguments.config = Some(path);
    }
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::read(&arguments, Vec::new(), &variable)
}

#[test]
fn without_any_setting_it_is_one_machine_with_its_files_in_one_place() {
    let config = read(&[], None, SettingsArgs::default()).expect("defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8400");
    assert!(
        matches!(&config.database, Database::Sqlite(path) if path == Path::new("/var/lib/undoo/undoo.db"))
    );
    assert!(matches!(&config.keys, KeySource::Own(path) if path == Path::new("/var/lib/undoo/secret.key")));
    assert!(config.worker);
    let deployed = (&*config.deploy_prefix, &*config.deploy_network, &*config.postgres_image);
    assert_eq!(deployed, ("paasportal", "traefik-public", "postgres:{major}-alpine"));
}

#[test]
fn what_is_deployed_is_named_and_made_of_what_is_set() {
    let variables = [("UNDOO_DEPLOY_PREFIX", "acme"), ("UNDOO_DEPLOY_NETWORK", "web")];
    let file = "postgres_image = \"registry.example.com:5000/pgvector:pg{major}\"";
    let config = read(&variables, Some(file), SettingsArgs::default()).expect("settings");
    assert_eq!((&*config.deploy_prefix, &*config.deploy_network), ("acme", "web"));
    assert_eq!(config.postgres_image, "registry.example.com:5000/pgvector:pg{major}");
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let file = "data_dir = \"/file\"\nlisten = \"[::1]:1\"\nworker_tasks = 4\nworker = false\n";
    let variables = [("UNDOO_DATA_DIR", "/variable"), ("UNDOO_LISTEN", "127.0.0.1:2")];
    let arguments = SettingsArgs { data_dir: Some("/flag".into()), ..SettingsArgs::default() };
    let config = read(&variables, Some(file), arguments).expect("settings");
    assert_eq!(config.data_dir, Path::new("/flag"));
    assert_eq!(config.backups_dir, Path::new("/flag/backups"));
    assert_eq!(config.listen.port(), 2);
    assert_eq!((config.worker_tasks, config.worker), (4, false));
}

#[test]
fn a_bad_value_is_refused_with_its_source_and_what_is_accepted() {
    for (name, value, accepted) in [
        ("listen", "8400", "127.0.0.1:8400"),
        ("public_url", "example.com", "https://"),
        ("public_url", "https://example.com/undoo", "without a path"),
        ("data_dir", "var/lib", "absolute path"),
        ("database_url", "mysql://u:geheim@h/d", "postgres://"),
        ("database_url", "sqlite:undoo.db", "absolute path"),
        ("worker", "yes", "true or false"),
        ("worker_tasks", "0", "from 1 to 64"),
        ("lease_seconds", "-1", "from 3 to 3600"),
        ("session_hours", "many", "whole number"),
        ("deploy_prefix", "Acme", "lower-case letters"),
        ("deploy_network", "-public", "network's name"),
        ("postgres_image", "postgres {major}", "postgres:{major}-alpine"),
        ("log", "undoo=loud", "filter"),
        ("log_format", "xml", "text or json"),
    ] {
        let variable = format!("UNDOO_{}", name.to_uppercase());
        let by_variable = read(&[(&variable, value)], None, SettingsArgs::default()).expect_err(name);
        let by_file =
            read(&[], Some(&format!("{name} = \"{value}\"")), SettingsArgs::default()).expect_err(name);
        assert!(by_variable.message.contains(&variable), "{}", by_variable.message);
        assert!(by_file.message.contains("undoo.toml"), "{}", by_file.message);
        for problem in [by_variable, by_file] {
            assert_eq!(problem.code, "setting_invalid");
            assert!(problem.remedy.contains(accepted), "{name}: {}", problem.remedy);
            assert!(!problem.message.contains("geheim"), "{}", problem.message);
        }
    }
}

#[test]
fn what_is_no_setting_is_not_passed_over() {
    let unknown = read(&[], Some("lisen = \"127.0.0.1:1\""), SettingsArgs::default()).expect_err("a slip");
    assert_eq!(unknown.code, "setting_unknown");
    assert!(unknown.message.contains("lisen") && unknown.remedy.contains("listen"));
    let key = format!("secret_key = \"{}\"", "0a".repeat(32));
    assert_eq!(read(&[], Some(&key), SettingsArgs::default()).expect_err("shown").code, "setting_unknown");
    for broken in ["listen =", "log = [1]"] {
        assert!(read(&[], Some(broken), SettingsArgs::default()).is_err(), "{broken}");
    }
}

#[test]
fn keys_are_given_in_one_way() {
    let both = [("UNDOO_SECRET_KEY", "0a"), ("UNDOO_SECRET_KEY_FILE", "/k")];
    let problem = read(&both, None, SettingsArgs::default()).expect_err("two");
    assert!(problem.message.contains("UNDOO_SECRET_KEY, UNDOO_SECRET_KEY_FILE"), "{}", problem.message);
    assert!(!format!("{:?}", read(&both[..1], None, SettingsArgs::default())).contains("0a"));
}
