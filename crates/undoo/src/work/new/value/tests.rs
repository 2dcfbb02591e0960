//! What comes of backups that say much, and of those that say little.

use secrecy::ExposeSecret as _;

use super::*;

/// Whether a text has one of the passwords in it.
fn has_secret(deployment: &Deployment, text: &str) -> bool {
    let Passwords { role, master } = &deployment.passwords;
    [role, master].into_iter().any(|secret| text.contains(secret.expose_secret()))
}

fn environment() -> ours::Environment {
    ours::Environment {
        database: "acme".into(),
        odoo_version: Some("19.0-20260101".into()),
        odoo_image: Some("registry.example.com/acme/odoo:19".into()),
        postgres_version: Some("16.3".into()),
        postgres_image: Some("pgvector/pgvector:pg16".into()),
        resources: ours::Resources {
            odoo_memory: Some(3 << 30),
            odoo_nano_cpus: Some(3_500_000_000),
            postgres_memory: Some(1 << 30),
            postgres_nano_cpus: None,
        },
        odoo_conf: Some(
            "[options]\naddons_path = /mnt/extra-addons,/opt/enterprise,\n    /usr/lib/python3/dist-packages/odoo/addons\n\
             admin_passwd = ***\ndb_host = old_db\ndb_name = acme\nsmtp_password = ***\nworkers = 4\nlimit_time_real = 900\n\
             pidfile = /run/odoo.pid\nserver_wide_modules = base,web,queue_job\nxmlrpc_port = 80\n\
             [queue_job]\nchannels = root:2\n"
                .into(),
        ),
        ..ours::Environment::default()
    }
}

fn words(name: &str) -> Words<'_> {
    Words { name, ..Words::default() }
}

#[test]
fn an_environment_is_what_its_backup_says_it_was() {
    let environment = environment();
    let told = Told {
        environment: Some(&environment),
        is_trusted: true,
        odoo_version: Some("19.0"),
        postgres_version: None,
    };
    let (made, findings) = deployment(&told, &words("acme"), Some(2)).expect("a deployment");
    assert_eq!((made.names.odoo().as_str(), made.database.as_str()), ("acme_odoo", "acme"));
    assert_eq!(made.odoo_image, "registry.example.com/acme/odoo:19");
    assert_eq!(made.postgres_image, "pgvector/pgvector:pg16");
    assert_eq!(made.odoo_version.as_deref(), Some("19.0"), "not the day's build");
    // No more cores than the new server has.
    assert_eq!(made.limits, Limits { cpu_cores: Some(2), ram_mb: Some(4096) });
    let conf: Vec<(&str, &str)> = made.odoo_conf.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        conf,
        [
            ("addons_path", "/mnt/extra-addons,/opt/enterprise,/usr/lib/python3/dist-packages/odoo/addons"),
            ("limit_time_real", "900"),
            ("server_wide_modules", "base,web,queue_job"),
            ("workers", "4"),
        ]
    );
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.code, CONF_LEFT_OUT);
    assert!(finding.message.ends_with(": pidfile, smtp_password"), "{}", finding.message);
    assert!(made.odoo_conf().expose_secret().contains("db_host = acme_db\n"));
}

#[test]
fn what_is_typed_goes_before_what_the_backup_says() {
    let environment = environment();
    let told = Told { environment: Some(&environment), ..Told::default() };
    let conf = [("workers", "0"), ("pidfile", "/tmp/odoo.pid")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let typed = Words {
        name: "acme",
        database: Some("erp"),
        domain: Some("erp.example.com"),
        http_port: Some(8069),
        odoo_image: Some("odoo:19.0"),
        postgres_image: Some("postgres:16"),
        conf: &conf,
    };
    let (made, findings) = deployment(&told, &typed, None).expect("a deployment");
    assert_eq!((made.odoo_image.as_str(), made.postgres_image.as_str()), ("odoo:19.0", "postgres:16"));
    assert_eq!((made.database.as_str(), made.names.db().as_str()), ("erp", "acme_db"));
    assert_eq!((made.domain.as_deref(), made.http_port), (Some("erp.example.com"), Some(8069)));
    assert_eq!(made.odoo_conf["workers"], "0");
    assert_eq!(made.limits.cpu_cores, Some(4), "half a core more is one more");
    assert!(!findings[0].message.contains("pidfile"), "{}", findings[0].message);
    for wrong in ["Acme", "../etc", ""] {
        assert_eq!(
            deployment(&told, &words(wrong), None).expect_err("refused").code,
            "deployment_invalid",
            "{wrong}"
        );
    }
}

#[test]
fn the_backup_of_another_tool_is_an_odoo_of_its_version_without_limits() {
    let told =
        Told { odoo_version: Some("18.0"), postgres_version: Some("15.20 (Debian)"), ..Told::default() };
    let (made, findings) = deployment(&told, &words("acme"), Some(2)).expect("a deployment");
    assert_eq!((made.odoo_image.as_str(), made.postgres_image.as_str()), ("odoo:18.0", "postgres:15-alpine"));
    assert_eq!((made.limits, made.odoo_conf.len(), findings.len()), (Limits::default(), 0, 0));

    let silent = Told::default();
    assert_eq!(deployment(&silent, &words("acme"), None).expect_err("refused").code, "odoo_unknown");
    let named = Words { odoo_image: Some("odoo:16.0"), ..words("acme") };
    assert_eq!(deployment(&silent, &named, None).expect("a deployment").0.odoo_image, "odoo:16.0");
}

#[test]
fn each_environment_has_an_id_and_passwords_of_its_own_which_are_shown_nowhere() {
    let told = Told { odoo_version: Some("19.0"), ..Told::default() };
    let [one, other] = [(); 2].map(|()| deployment(&told, &words("acme"), None).expect("a deployment").0);
    assert_ne!(one.names.environment(), other.names.environment());
    assert!(!has_secret(&other, one.odoo_conf().expose_secret()));
    assert!(has_secret(&one, one.odoo_conf().expose_secret()));
    assert!(!has_secret(&one, &format!("{one:?}")));
}

#[test]
fn a_hostile_odoo_conf_gets_no_line_of_its_own_in() {
    for text in [
        "[options]\nworkers = 2\n  db_host = evil\n",
        "[options]\nlog_level = info\0\n",
        "[options]\ninit = evil\nload_language = xx\ndb_template = evil\nupgrade_path = /tmp\n",
        "not a file",
    ] {
        let environment = ours::Environment { odoo_conf: Some(text.into()), ..ours::Environment::default() };
        let told = Told { environment: Some(&environment), odoo_version: Some("19.0"), ..Told::default() };
        let (made, _) = deployment(&told, &words("acme"), None).expect("a deployment");
        assert!(made.odoo_conf.is_empty(), "{text}: {:?}", made.odoo_conf);
    }
}

#[test]
fn images_that_a_stranger_names_are_not_run_unasked() {
    let strange = environment();
    let found = |environment: &ours::Environment, is_trusted, words: &Words<'_>| {
        let told = Told { environment: Some(environment), is_trusted, ..Told::default() };
        let findings = deployment(&told, words, None).expect("a deployment").1;
        findings.into_iter().find(|finding| finding.code == IMAGES_UNTRUSTED)
    };
    let finding = found(&strange, false, &words("acme")).expect("it has to be accepted");
    assert!(finding.acceptable && finding.message.contains("acme/odoo:19, pgvector/"), "{}", finding.message);
    assert_eq!(found(&strange, true, &words("acme")), None);
    let named =
        Words { odoo_image: Some("acme/odoo:19"), postgres_image: Some("postgres:16"), ..words("acme") };
    assert_eq!(found(&strange, false, &named), None);
    for (image, is_known) in [
        ("odoo:19.0", true),
        ("odoo@sha256:ab", true),
        ("odoo.example.com/odoo:19.0", false),
        ("x/odoo", false),
    ] {
        let environment = ours::Environment {
            odoo_image: Some(image.into()),
            postgres_image: Some("postgres:16-alpine".into()),
            ..ours::Environment::default()
        };
        assert_eq!(found(&environment, false, &words("acme")).is_none(), is_known, "{image}");
    }
}
