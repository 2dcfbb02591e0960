//! Which of file, environment, flags and defaults wins.

use super::*;

fn command(words: &[&str]) -> CommandLine {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    CommandLine::parse(&[], &words)
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn merge(command_words: &[&str], env_pairs: &[(&str, &str)], file: &str, major: u32) -> OdooConf {
    OdooConf::merge(ConfSources {
        command: &command(command_words),
        env: &env(env_pairs),
        file: Some(("/etc/odoo/odoo.conf".into(), ConfFile::parse(file).unwrap())),
        official: None,
        major: Some(major),
        home: "/var/lib/odoo".into(),
    })
}

fn merge_official(command_words: &[&str], env_pairs: &[(&str, &str)], file: &str) -> OdooConf {
    let file = ConfFile::parse(file).unwrap();
    OdooConf::merge(ConfSources {
        command: &command(command_words),
        env: &env(env_pairs),
        file: Some(("/etc/odoo/odoo.conf".into(), file.clone())),
        official: Some(OfficialEntrypoint { odoo_rc: file, password_file: None }),
        major: Some(17),
        home: "/var/lib/odoo".into(),
    })
}

fn password(conf: &OdooConf) -> &str {
    conf.db_password.as_ref().map_or("", |password| password.expose_secret())
}

#[test]
fn the_command_line_wins_over_the_file() {
    let conf =
        merge(&["odoo", "-d", "a,b", "-D", "/data/"], &[], "[options]\ndb_name = c\ndata_dir = /x", 14);
    assert_eq!(conf.db_name, ["a", "b"]);
    assert_eq!(conf.data_dir, "/data");
    assert_eq!(conf.filestore_root(), "/data/filestore");
}

#[test]
fn the_official_entrypoint_prefers_its_file_to_the_environment_and_both_to_the_command_line() {
    let conf = merge_official(
        &["odoo", "--db_host=flag", "--db_user=flag", "--db_port=1"],
        &[("HOST", "env"), ("PASSWORD", "from env"), ("USER", "env")],
        "[options]\ndb_host = file\n",
    );
    assert_eq!(conf.db_host.as_deref(), Some("file"));
    assert_eq!(conf.db_user.as_deref(), Some("env"));
    assert_eq!(conf.db_port, 5432, "the entrypoint appends its default after the option");
    assert_eq!(password(&conf), "from env");
}

#[test]
fn the_official_entrypoint_falls_back_to_db_and_odoo() {
    let conf = merge_official(&["odoo"], &[("HOST", "")], "[options]\n");
    assert_eq!(conf.db_host.as_deref(), Some("db"));
    assert_eq!((conf.db_user.as_deref(), password(&conf)), (Some("odoo"), "odoo"));
}

#[test]
fn the_official_entrypoint_leaves_other_commands_alone() {
    let adds_to = |word: &str| OfficialEntrypoint::adds_to(&[word.to_owned()]);
    assert!(adds_to("odoo") && adds_to("--") && adds_to("--dev=all"));
    assert!(!adds_to("bash") && !adds_to("/usr/bin/odoo"));
    assert!(!OfficialEntrypoint::adds_to(&[]));
}

#[test]
fn the_variables_of_libpq_beat_the_file_since_odoo_19_only() {
    let file = "[options]\ndb_host = file\n";
    let variables = [("PGHOST", "env"), ("PGUSER", "role")];
    let before = merge(&["odoo"], &variables, file, 18);
    assert_eq!(before.db_host.as_deref(), Some("file"));
    assert_eq!(before.db_user.as_deref(), Some("role"));
    assert_eq!(merge(&["odoo"], &variables, file, 19).db_host.as_deref(), Some("env"));
}

#[test]
fn odoo_19_takes_any_option_from_the_environment() {
    let variables = [("ODOO_DATA_DIR", "/srv/odoo"), ("ODOO_RC", "/x.conf"), ("ODOO_VERSION", "19.0")];
    assert_eq!(merge(&["odoo"], &variables, "[options]\n", 19).data_dir, "/srv/odoo");
    assert_eq!(merge(&["odoo"], &variables, "[options]\n", 17).data_dir, "/var/lib/odoo/.local/share/Odoo");
}

#[test]
fn false_and_none_in_the_file_mean_unset() {
    let conf = merge(
        &["odoo"],
        &[],
        "[options]\ndb_host = False\ndb_port = False\ndb_name = False\ndbfilter =\nlist_db = False\nworkers = 4",
        14,
    );
    assert_eq!((conf.db_host, conf.db_port, conf.dbfilter), (None, 5432, None));
    assert!(conf.db_name.is_empty());
    assert!(!conf.list_db);
    assert_eq!(conf.workers, 4);
}

#[test]
fn values_keep_what_looks_like_a_comment_and_go_on_over_indented_lines() {
    let text = "; a comment\n[options]\nDB_Password = a;b#c%d = e\naddons_path = /a,\n    /b,\n  # between\n\t/c\n\n[queue_job]\nchannels = root:2\n";
    let conf = merge(&["odoo"], &[], text, 14);
    assert_eq!(password(&conf), "a;b#c%d = e");
    assert_eq!(conf.addons_path, ["/a", "/b", "/c"]);
    let again = ConfFile::parse(conf.all.to_text().expose_secret()).unwrap();
    assert_eq!(again, conf.all, "writing and reading gives the same options");
    assert!(conf.all.to_text().expose_secret().contains("[queue_job]\nchannels = root:2\n"));
}

#[test]
fn neither_debug_nor_json_shows_a_secret() {
    let conf = merge(&["odoo"], &[], "[options]\ndb_password = s3cret\nadmin_passwd = s3cret\n", 14);
    assert!(!format!("{conf:?}").contains("s3cret"));
    assert!(!serde_json::to_string(&conf).unwrap().contains("s3cret"));
}

#[test]
fn a_broken_file_is_a_problem_that_names_the_line() {
    let problem = ConfFile::parse("[options\nx = y\n").unwrap_err();
    assert_eq!(problem.code, "odoo_conf_invalid");
    assert!(problem.message.contains("line 1"), "{}", problem.message);
}
