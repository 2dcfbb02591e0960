//! The configuration and mounts that an Odoo off to the side gets.

use std::path::PathBuf;

use super::*;
use crate::target::{Mount, tests::container};

fn mount(destination: &str, source: &str, volume: Option<&str>) -> Mount {
    Mount {
        kind: if volume.is_some() { MountKind::Volume } else { MountKind::Bind },
        volume: volume.map(str::to_owned),
        host_source: Some(PathBuf::from(source)),
        destination: destination.into(),
        rw: true,
    }
}

fn run(like: &OdooContainer) -> OdooRun<'_> {
    OdooRun {
        like,
        database: "acme.test".into(),
        db_host: DATABASE_ALIAS.into(),
        db_port: 5432,
        db_user: "proof".into(),
        db_password: "s3cret".to_owned().into(),
        data_dir_on_host: "/srv/odoo/.undoo/proof".into(),
        network: "net".into(),
        labels: Labels::new("t", 1),
        memory_limit: None,
    }
}

fn mounted(run: &OdooRun<'_>) -> Vec<(String, String, bool)> {
    let mounts = run.mounts().into_iter();
    mounts.map(|m| (m.source.unwrap(), m.target.unwrap(), m.read_only.unwrap())).collect()
}

#[test]
fn it_sees_addons_but_neither_live_data_nor_live_configuration() {
    let mut like = container(vec![
        mount("/var/lib/odoo", "/v/data", Some("data")),
        mount("/var/lib/odoo/filestore", "/big", None),
        mount("/mnt/extra-addons", "/srv/addons", None),
        mount("/opt/enterprise", "/v/ent", Some("ent")),
        mount("/etc/odoo", "/srv/conf", None),
        mount("/run/secrets/db", "/srv/secret", None),
        mount("/var/run/docker.sock", "/var/run/docker.sock", None),
    ]);
    like.conf.data_dir = "/var/lib/odoo".into();
    like.filestore_root = "/var/lib/odoo/filestore".into();
    like.conf.path = Some("/etc/odoo/odoo.conf".into());
    like.conf.addons_path = vec!["/mnt/extra-addons".into(), "/var/lib/odoo/addons/19.0".into()];
    let owned = |a: &str, b: &str, c| (a.to_owned(), b.to_owned(), c);
    assert_eq!(
        mounted(&run(&like)),
        [
            owned("/srv/addons", "/mnt/extra-addons", true),
            owned("ent", "/opt/enterprise", true),
            owned("/v/data/addons/19.0", "/var/lib/odoo/addons/19.0", true),
            owned("/srv/odoo/.undoo/proof", DATA_DIR, false),
        ]
    );
}

#[test]
fn the_configuration_is_the_live_one_with_everything_outgoing_turned_off() {
    let mut like = container(Vec::new());
    like.conf.all = ConfFile::parse(
        "[options]\nserver_wide_modules = base,web,queue_job\nlogfile = /var/log/odoo.log\nsmtp_password = live\n\
         db_replica_host = replica\nmax_cron_threads = 4\n[queue_job]\nchannels = root:4\n",
    )
    .unwrap();
    let conf = run(&like).conf();
    assert_eq!(conf.get("server_wide_modules"), Some("base,web,queue_job"));
    assert_eq!(conf.get("max_cron_threads"), Some("0"));
    assert_eq!(conf.get("dbfilter"), Some("^acme\\.test$"));
    assert_eq!(conf.get("db_password"), Some("s3cret"));
    for gone in ["logfile", "smtp_password", "db_replica_host"] {
        assert_eq!(conf.get(gone), None, "{gone}");
    }
    let text = conf.to_text();
    assert!(text.expose_secret().contains("[queue_job]\nchannels = root:0\n"));
    assert_ne!(conf.get("admin_passwd"), run(&like).conf().get("admin_passwd"), "it is random");
}

#[test]
fn a_subcommand_comes_first_and_no_argument_holds_the_password() {
    let like = container(Vec::new());
    let words = run(&like).arguments(&["neutralize", "--stdout"]);
    assert_eq!(words.first().map(String::as_str), Some("neutralize"));
    assert_eq!(words.last().map(String::as_str), Some("--stdout"));
    assert!(words.contains(&"--config=/etc/undoo/odoo.conf".to_owned()));
    assert!(!words.concat().contains("s3cret"));
    assert!(run(&like).arguments(&["--stop-after-init"])[0].starts_with("--config="));
}
