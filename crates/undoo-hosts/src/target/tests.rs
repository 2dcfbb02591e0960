//! What is read out of a container, without a Docker Engine.

use super::*;

fn mount(destination: &str, host_source: Option<&str>) -> Mount {
    Mount {
        kind: MountKind::Bind,
        volume: None,
        host_source: host_source.map(PathBuf::from),
        destination: destination.into(),
        rw: true,
    }
}

pub(crate) fn container(mounts: Vec<Mount>) -> OdooContainer {
    let command = CommandLine::parse(&[], &["odoo".into()]);
    let env = BTreeMap::new();
    let conf = OdooConf::merge(ConfSources {
        command: &command,
        env: &env,
        file: None,
        official: None,
        major: None,
        home: "/root".into(),
    });
    OdooContainer {
        id: "1".into(),
        name: "odoo".into(),
        image_id: String::new(),
        image: String::new(),
        running: true,
        restart_policy: "no".into(),
        networks: Vec::new(),
        mounts,
        user: String::new(),
        executable: vec!["odoo".into()],
        conf,
        filestore_root: String::new(),
        owner: None,
        odoo_version: Some("19.0".into()),
        database_container: None,
        database_authorities: None,
        compose: None,
        carrier: false,
        memory_limit: 0,
        nano_cpus: 0,
        env: EnvMap::default(),
        working_dir: String::new(),
    }
}

#[test]
fn the_innermost_mount_gives_the_path_on_the_host() {
    let odoo = container(vec![
        mount("/var/lib/odoo", Some("/srv/odoo")),
        mount("/var/lib/odoo/filestore", Some("/big/files")),
        mount("/var/lib/odoo2", Some("/other")),
    ]);
    let host_path = |inside: &str| odoo.host_path(inside).map(|path| path.display().to_string());
    assert_eq!(host_path("/var/lib/odoo/filestore/acme").as_deref(), Some("/big/files/acme"));
    assert_eq!(host_path("/var/lib/odoo").as_deref(), Some("/srv/odoo"));
    assert_eq!(host_path("/var/lib/odoo/sessions").as_deref(), Some("/srv/odoo/sessions"));
    assert_eq!(host_path("/var/lib"), None);
}

#[test]
fn what_has_no_lasting_directory_on_the_host_has_no_path_there() {
    let odoo = container(vec![mount("/data", Some("/srv/data")), mount("/data/tmp", None)]);
    assert_eq!(odoo.host_path("/data/tmp/x"), None);
    assert_eq!(odoo.host_path("/data/../etc/passwd"), None);
}

#[test]
fn volumes_that_can_be_seen_on_different_disks_share_none() {
    let mut odoo = container(vec![mount("/var/lib/odoo", Some("/tmp"))]);
    odoo.filestore_root = "/var/lib/odoo/filestore".into();
    assert!(!odoo.shares_disk(true), "no container, no disk that is known");
    let mut with_data_at = |path: Option<&str>| {
        odoo.database_container = Some(DatabaseContainer {
            id: "2".into(),
            name: "db".into(),
            image: String::new(),
            image_id: String::new(),
            running: true,
            networks: Vec::new(),
            mounts: vec![mount("/var/lib/postgresql/data", path)],
            data_dir: "/var/lib/postgresql/data".into(),
            disks: Vec::new(),
            pg_major: Some(17),
            admin_user: "postgres".into(),
            admin_password: None,
            memory_limit: 0,
            nano_cpus: 0,
        });
        (odoo.shares_disk(true), odoo.shares_disk(false))
    };
    assert_eq!(with_data_at(Some("/tmp")), (true, true));
    // Of another machine, the same path says nothing.
    assert_eq!(with_data_at(Some("/proc")), (false, true));
    assert_eq!(with_data_at(Some("/not/to/be/seen/from/here")), (true, true));
    assert_eq!(with_data_at(None), (false, false), "a volume whose driver keeps it somewhere");
}

#[test]
fn modules_that_are_mounted_are_custom_and_the_data_are_none() {
    let mut odoo = container(vec![
        mount("/var/lib/odoo", Some("/srv/odoo")),
        mount("/mnt/extra-addons", Some("/srv/addons")),
        mount("/usr/lib/odoo/addons/acme", Some("/srv/acme")),
        mount("/usr/lib/odoo/addons/web/static", Some("/srv/static")),
        mount("/opt/odoo/data", Some("/srv/data")),
    ]);
    odoo.conf.data_dir = "/var/lib/odoo".into();
    odoo.filestore_root = "/var/lib/odoo/filestore".into();
    odoo.working_dir = "/mnt".into();
    let paths = ["extra-addons", "/usr/lib/odoo/addons", "/mnt/extra-addons/", "/var/lib"];
    odoo.conf.addons_path = paths.map(str::to_owned).to_vec();
    let found = odoo.custom_addons();
    assert_eq!(found, ["/mnt/extra-addons", "/usr/lib/odoo/addons/acme", "/var/lib/odoo/addons/19.0"]);
}
