//! Odoo off to the side of a live one, with a real database server.

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use undoo_core::Kind;
use undoo_hosts::{
    Labels,
    odoo::{DATABASE_ALIAS, HTTP_PORT, OdooRun, ProofNetwork, proof_network},
    target::{OdooContainer, inspect_odoo},
};

use crate::support::{self, ODOO, POSTGRES, Sandbox};

support::trials![odoo_runs_beside_the_live_one_on_another_database];

const PATIENCE: Duration = Duration::from_secs(120);

/// A database server, and an Odoo that was never started.
async fn environment(sandbox: &Sandbox) -> (OdooContainer, ProofNetwork) {
    let network = sandbox.network("net").await;
    let database = sandbox
        .create(
            "db",
            ContainerCreateBody {
                image: Some(POSTGRES.into()),
                env: support::words(&["POSTGRES_PASSWORD=admin"]),
                host_config: support::host_with(&network, vec![]),
                ..Default::default()
            },
        )
        .await;
    sandbox.start(&database).await;
    let data = sandbox.volume("data").await;
    let odoo = sandbox
        .create(
            "odoo",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                env: Some(vec![format!("HOST={database}")]),
                host_config: support::host_with(
                    &network,
                    vec![support::volume_mount(&data, "/var/lib/odoo")],
                ),
                ..Default::default()
            },
        )
        .await;
    let sql = "CREATE ROLE proof LOGIN PASSWORD 's3cret-word'; CREATE DATABASE \"acme.copy\" OWNER proof";
    for statement in sql.split("; ") {
        let mut answer = (1, String::new());
        for _ in 0..100 {
            // Over TCP: the server that the entrypoint runs at first listens on its socket only.
            let words =
                ["env", "PGPASSWORD=admin", "psql", "-h", "127.0.0.1", "-U", "postgres", "-c", statement];
            answer = sandbox.exec(&database, &words).await;
            if answer.0 == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(answer.0, 0, "{}", answer.1);
    }
    let tables = "CREATE TABLE ir_module_module (name text, state text); \
                  INSERT INTO ir_module_module VALUES ('base', 'installed'); \
                  ALTER TABLE ir_module_module OWNER TO proof";
    let words = ["psql", "-U", "postgres", "-d", "acme.copy", "-c", tables];
    let (code, text) = sandbox.exec(&database, &words).await;
    assert_eq!(code, 0, "{text}");
    let odoo = inspect_odoo(&sandbox.docker, &odoo).await.unwrap();
    let network = proof_network(&sandbox.docker, &Labels::new(sandbox.task(), 1), &database).await.unwrap();
    (odoo, network)
}

async fn odoo_runs_beside_the_live_one_on_another_database(sandbox: Sandbox) {
    let docker = &sandbox.docker;
    let (odoo, network) = environment(&sandbox).await;
    let private = sandbox.volume("private").await;
    let keeper = sandbox
        .create(
            "keeper",
            ContainerCreateBody {
                image: Some(ODOO.into()),
                host_config: support::host_with(
                    "none",
                    vec![support::volume_mount(&private, "/var/lib/odoo")],
                ),
                ..Default::default()
            },
        )
        .await;
    let private = inspect_odoo(docker, &keeper).await.unwrap().host_path("/var/lib/odoo").unwrap();
    let run = OdooRun {
        like: &odoo,
        database: "acme.copy".into(),
        db_host: DATABASE_ALIAS.into(),
        db_port: 5432,
        db_user: "proof".into(),
        db_password: "s3cret-word".to_owned().into(),
        data_dir_on_host: private,
        network: network.name().to_owned(),
        labels: Labels::new(sandbox.task(), 1),
        memory_limit: Some(1 << 30),
    };
    let cancel = CancellationToken::new();

    let end = run.once(docker, &["neutralize", "--stdout"], PATIENCE, &cancel).await.unwrap();
    assert_eq!(end.exit_code, 0, "{}", end.output);
    assert!(end.output.contains("database.is_neutralized"), "{}", end.output);

    let slow = run.once(docker, &[], Duration::from_secs(1), &cancel).await.unwrap_err();
    assert_eq!((slow.kind, slow.code), (Kind::NotProven, "odoo_timeout"));

    let booted = run.boot(docker).await.unwrap();
    let text = sandbox.inspect_text(booted.id()).await;
    assert!(!text.contains("s3cret-word"), "{text}");
    assert!(text.contains("sh.undoo.task"));
    let address = booted.address().await.unwrap().unwrap();
    let mut answer = String::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(mut stream) = tokio::net::TcpStream::connect((address, HTTP_PORT)).await else { continue };
        stream.write_all(b"GET /web/health HTTP/1.0\r\nHost: odoo\r\n\r\n").await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        break;
    }
    assert!(answer.contains("200 OK"), "{answer}\n{}", booted.log_tail().await.unwrap());
    let (_, seen) = sandbox
        .exec(
            booted.id(),
            &["sh", "-c", "ls -ld /var/lib/odoo /etc/undoo/odoo.conf; grep /var/lib /proc/mounts"],
        )
        .await;
    assert!(seen.contains("/etc/undoo/odoo.conf") && seen.contains("-rw-r-----"), "{seen}");
    assert!(seen.contains("tmpfs /var/lib/odoo"), "the live data are not there: {seen}");
    let id = booted.id().to_owned();
    booted.remove().await.unwrap();
    assert!(docker.engine().inspect_container(&id, None).await.is_err());
    network.remove().await.unwrap();
}
