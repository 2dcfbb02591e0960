//! Adopting containers by looking at them. Nothing is started unless a test needs an address.

use bollard::models::{ContainerCreateBody, EndpointSettings, NetworkingConfig};
use secrecy::ExposeSecret as _;
use undoo_hosts::target::{Owner, compose_project, inspect_odoo};

use crate::support::{self, ODOO, POSTGRES, Sandbox};

support::trials![
    a_stopped_compose_stack_is_adopted_without_showing_its_secrets,
    passwords_are_read_from_the_files_that_the_environment_names,
    the_configuration_file_of_the_command_line_is_read_through_links,
    the_authorities_of_odoos_libpq_are_read_where_a_certificate_is_asked_for,
    an_image_that_does_not_say_its_version_is_asked,
    a_database_server_elsewhere_is_no_container,
    a_database_server_is_found_by_its_address,
    the_disks_of_a_database_server_are_found_without_its_files,
    a_project_with_two_odoos_is_a_conflict_that_names_them,
    a_container_that_does_not_exist_is_named,
];

fn service(project: &str, service: &str) -> Option<std::collections::HashMap<String, String>> {
    support::labels(&[("com.docker.compose.project", project), ("com.docker.compose.service", service)])
}

fn alias(network: &str, alias: &str) -> Option<NetworkingConfig> {
    let endpoint = EndpointSettings { aliases: Some(vec![alias.into()]), ..Default::default() };
    Some(NetworkingConfig { endpoints_config: Some([(network.to_owned(), endpoint)].into()) })
}

async fn a_stopped_compose_stack_is_adopted_without_showing_its_secrets(sandbox: Sandbox) {
    let project = sandbox.name("project");
    let network = sandbox.network("default").await;
    let data = sandbox.volume("data").await;
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                env: support::words(&["HOST=database", "USER=acme", "PASSWORD=s3cret-role"]),
                cmd: support::words(&["odoo", "-d", "acme", "--workers=2"]),
                labels: service(&project, "web"),
                host_config: support::host_with(
                    &network,
                    vec![support::volume_mount(&data, "/var/lib/odoo")],
                ),
                ..Default::default()
            },
        )
        .await;
    sandbox
        .put(
            &odoo,
            "/etc/odoo/odoo.conf",
            "[options]\ndata_dir = /var/lib/odoo\nadmin_passwd = s3cret-master\nlist_db = False\nworkers = 9\n",
        )
        .await;
    let database = sandbox
        .create(
            "db",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                env: support::words(&["POSTGRES_USER=admin", "POSTGRES_PASSWORD=s3cret-admin"]),
                labels: service(&project, "db"),
                host_config: support::host_with(&network, vec![]),
                networking_config: alias(&network, "database"),
                ..Default::default()
            },
        )
        .await;

    let found = compose_project(&sandbox.docker, &project).await.unwrap();
    assert_eq!(found.name, odoo);
    assert_eq!((found.image.as_str(), found.running), (ODOO, false));
    assert_eq!(found.odoo_version.as_deref(), Some("19.0"));
    assert_eq!(found.odoo_major(), Some(19));
    assert_eq!(found.executable, ["odoo"]);
    assert_eq!(found.user, "odoo");
    assert_eq!(found.conf.path.as_deref(), Some("/etc/odoo/odoo.conf"));
    assert_eq!(found.conf.db_name, ["acme"]);
    assert_eq!(found.conf.db_user.as_deref(), Some("acme"));
    assert_eq!(found.conf.db_password.as_ref().unwrap().expose_secret(), "s3cret-role");
    assert_eq!((found.conf.workers, found.conf.list_db), (2, false));
    assert_eq!(found.filestore_root, "/var/lib/odoo/filestore");
    assert_eq!(found.owner, Some(Owner { uid: 100, gid: 101 }), "of the image's odoo user");
    let mount = found.mount_of(&found.filestore_root).unwrap();
    assert_eq!(mount.volume.as_deref(), Some(data.as_str()));
    let on_host = found.host_path("/var/lib/odoo/filestore/acme").unwrap();
    assert!(on_host.ends_with(format!("{data}/_data/filestore/acme")), "{on_host:?}");
    assert!(found.networks.iter().any(|own| own.name == network));

    let server = found.database_container.as_ref().unwrap();
    assert_eq!((server.name.as_str(), server.image.as_str()), (database.as_str(), POSTGRES));
    assert_eq!((server.pg_major, server.admin_user.as_str()), (Some(15), "admin"));
    assert_eq!(server.admin_password.as_ref().unwrap().expose_secret(), "s3cret-admin");

    for text in [serde_json::to_string(&found).unwrap(), format!("{found:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

async fn passwords_are_read_from_the_files_that_the_environment_names(sandbox: Sandbox) {
    let network = sandbox.network("net").await;
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                env: support::words(&["HOST=server", "PASSWORD_FILE=/opt/role"]),
                host_config: support::host_with(&network, vec![]),
                ..Default::default()
            },
        )
        .await;
    sandbox.put(&odoo, "/opt/role", "from role file\n").await;
    let database = sandbox
        .create(
            "db",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                env: support::words(&["POSTGRES_PASSWORD_FILE=/opt/admin"]),
                host_config: support::host_with(&network, vec![]),
                networking_config: alias(&network, "server"),
                ..Default::default()
            },
        )
        .await;
    sandbox.put(&database, "/opt/admin", "from admin file\n\n").await;
    let found = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    assert_eq!(found.conf.db_password.as_ref().unwrap().expose_secret(), "from role file");
    let server = found.database_container.unwrap();
    assert_eq!(server.admin_user, "postgres");
    assert_eq!(server.admin_password.unwrap().expose_secret(), "from admin file");
}

async fn the_configuration_file_of_the_command_line_is_read_through_links(sandbox: Sandbox) {
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                entrypoint: support::words(&["python3", "/usr/bin/odoo"]),
                cmd: support::words(&["--config", "/opt/link/odoo.conf"]),
                ..Default::default()
            },
        )
        .await;
    sandbox.put(&odoo, "/opt/real.conf", "[options]\ndata_dir = /srv/x/\ndb_host = 192.0.2.1\n").await;
    sandbox.put_link(&odoo, "/opt/link/odoo.conf", "../real.conf").await;
    let found = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    assert_eq!(found.executable, ["python3", "/usr/bin/odoo"]);
    assert_eq!(found.conf.data_dir, "/srv/x");
    assert_eq!(found.owner, None, "there is no such directory yet");
    assert!(found.database_container.is_none());
}

async fn the_authorities_of_odoos_libpq_are_read_where_a_certificate_is_asked_for(sandbox: Sandbox) {
    for (name, mode, variable, path, found) in [
        ("full", "verify-full", "A=b", "/srv/home/.postgresql/root.crt", Some("authority")),
        ("elsewhere", "require", "PGSSLROOTCERT=/srv/ca.pem", "/srv/ca.pem", Some("authority")),
        ("system", "verify-full", "PGSSLROOTCERT=system", "/srv/home/.postgresql/root.crt", None),
        ("weaker", "prefer", "A=b", "/srv/home/.postgresql/root.crt", None),
    ] {
        let container = sandbox
            .create(
                name,
                ContainerCreateBody {
                    image: Some(ODOO.into()),
                    env: support::words(&["HOME=/srv/home", variable]),
                    cmd: support::words(&["odoo", &format!("--db_sslmode={mode}")]),
                    ..Default::default()
                },
            )
            .await;
        sandbox.put(&container, path, "authority").await;
        let odoo = inspect_odoo(&sandbox.docker, &container).await.unwrap();
        assert_eq!(odoo.conf.db_sslmode, mode);
        assert_eq!(odoo.database_authorities.as_deref(), found, "{name}");
    }
}

async fn an_image_that_does_not_say_its_version_is_asked(sandbox: Sandbox) {
    let image = sandbox.docker.engine().inspect_image(ODOO).await.unwrap().id.unwrap();
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(image),
                env: support::words(&["ODOO_VERSION="]),
                ..Default::default()
            },
        )
        .await;
    let found = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    assert_eq!(found.odoo_version.as_deref(), Some("19.0"));
}

async fn a_database_server_elsewhere_is_no_container(sandbox: Sandbox) {
    let network = sandbox.network("net").await;
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                env: support::words(&["HOST=db.example.com"]),
                host_config: support::host_with(&network, vec![]),
                ..Default::default()
            },
        )
        .await;
    sandbox
        .create(
            "db",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                host_config: support::host_with(&network, vec![]),
                ..Default::default()
            },
        )
        .await;
    assert!(inspect_odoo(&sandbox.docker, &odoo).await.unwrap().database_container.is_none());
}

async fn a_database_server_is_found_by_its_address(sandbox: Sandbox) {
    let network = sandbox.network("net").await;
    let database = sandbox
        .idle(
            "db",
            ContainerCreateBody { host_config: support::host_with(&network, vec![]), ..Default::default() },
        )
        .await;
    let found = sandbox.docker.engine().inspect_container(&database, None).await.unwrap();
    let ip = found.network_settings.unwrap().networks.unwrap()[&network].ip_address.clone().unwrap();
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                env: Some(vec![format!("HOST={ip}")]),
                host_config: support::host_with(&network, vec![]),
                ..Default::default()
            },
        )
        .await;
    let odoo = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    assert_eq!(odoo.database_container.map(|found| found.name), Some(database));
}

async fn a_project_with_two_odoos_is_a_conflict_that_names_them(sandbox: Sandbox) {
    let project = sandbox.name("project");
    let missing = compose_project(&sandbox.docker, &project).await.unwrap_err();
    assert_eq!(missing.code, "compose_project_missing");
    let member = |image: &str, name: &str| ContainerCreateBody {
        image: Some(image.into()),
        labels: service(&project, name),
        ..Default::default()
    };
    let database = sandbox.create("db", member(POSTGRES, "db")).await;
    let none = compose_project(&sandbox.docker, &project).await.unwrap_err();
    assert_eq!(none.code, "odoo_container_missing");
    assert!(none.message.contains(&database), "{}", none.message);
    let one = sandbox.create("one", member(ODOO, "one")).await;
    let two = sandbox.create("two", member(ODOO, "two")).await;
    let several = compose_project(&sandbox.docker, &project).await.unwrap_err();
    assert_eq!(several.code, "several_odoo_containers");
    assert!(several.message.contains(&one) && several.message.contains(&two), "{}", several.message);
}

async fn a_container_that_does_not_exist_is_named(sandbox: Sandbox) {
    let problem = inspect_odoo(&sandbox.docker, &sandbox.name("nobody")).await.unwrap_err();
    assert_eq!(problem.code, "container_missing");
    assert!(problem.message.contains(&sandbox.name("nobody")));
}

async fn the_disks_of_a_database_server_are_found_without_its_files(sandbox: Sandbox) {
    let network = sandbox.network("net").await;
    let (data, log) = (sandbox.volume("data").await, sandbox.volume("log").await);
    let pair = async |name: &str| {
        let odoo = ContainerCreateBody {
            image: Some(ODOO.into()),
            env: support::words(&[&format!("HOST={name}")]),
            host_config: support::host_with(&network, vec![]),
            ..Default::default()
        };
        let mounts = vec![support::volume_mount(&data, "/pg"), support::volume_mount(&log, "/log")];
        let database = ContainerCreateBody {
            image: Some(POSTGRES.into()),
            env: support::words(&[&format!("PGDATA=/pg/{name}")]),
            host_config: support::host_with(&network, mounts),
            networking_config: alias(&network, name),
            ..Default::default()
        };
        let odoo = sandbox.create(&format!("odoo-{name}"), odoo).await;
        (odoo, sandbox.create(&format!("db-{name}"), database).await)
    };
    let disks = async |odoo: &str| {
        inspect_odoo(&sandbox.docker, odoo).await.unwrap().database_container.unwrap().disks
    };
    let (odoo, database) = pair("plain").await;
    assert!(disks(&odoo).await.is_empty(), "a server that was never started has none to see");
    sandbox.put(&database, "/pg/plain/pg_snapshots/x", "").await;
    sandbox.put(&database, "/pg/plain/pg_wal/archive_status/x", "").await;
    let found = disks(&odoo).await;
    assert!(found[0].ends_with(format!("{data}/_data/plain/pg_snapshots")), "{found:?}");
    assert!(found[1].ends_with(format!("{data}/_data/plain/pg_wal/archive_status")), "{found:?}");

    // The log may be on a disk of its own, by a link.
    let (odoo, database) = pair("linked").await;
    sandbox.put(&database, "/pg/linked/pg_snapshots/x", "").await;
    sandbox.put(&database, "/log/of/acme/archive_status/x", "").await;
    sandbox.put_link(&database, "/pg/linked/pg_wal", "../../log/of/acme").await;
    let found = disks(&odoo).await;
    assert!(found[0].ends_with(format!("{data}/_data/linked/pg_snapshots")), "{found:?}");
    assert!(found[1].ends_with(format!("{log}/_data/of/acme/archive_status")), "{found:?}");
}
