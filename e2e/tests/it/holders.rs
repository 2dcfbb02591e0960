//! Everything that holds the database or the filestore is found, stopped for the cutover, and started
//! again: a second Odoo, PgBouncer, an exporter.

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, docker_maybe, succeed},
    wait_for,
};
use std::{process::Command, time::Duration};

const PGBOUNCER: &str = "undoo-e2e-pgbouncer:15";

#[test]
fn a_second_odoo_pgbouncer_and_an_exporter_are_stopped_for_the_cutover_and_started_again() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let password = live.password();
    let (host, secret) = (format!("HOST={}", live.db()), format!("PASSWORD={password}"));
    let (data, conf) = (
        format!("{}_odoo_data:/var/lib/odoo", live.name),
        format!("{}:/etc/odoo/odoo.conf:ro", live.conf().display()),
    );
    let words = ["-v", &data, "-v", &conf, "-e", &host, "-e", "USER=odoo", "-e", &secret, "odoo:19.0"];
    let second = live.run_beside("second", &words);
    let bouncer = pgbouncer(&live, &password);
    let exporter = {
        let (host, secret) = (format!("PGHOST={}", live.db()), format!("PGPASSWORD={password}"));
        let database = format!("PGDATABASE={}", live.name);
        let words = [
            "--init",
            "-e",
            &host,
            "-e",
            &secret,
            "-e",
            &database,
            "-e",
            "PGUSER=odoo",
            "--entrypoint",
            "psql",
            "postgres:15",
            "-c",
            "SELECT pg_sleep(900)",
        ];
        live.run_beside("exporter", &words)
    };
    let through = format!("postgresql://odoo@{bouncer}:6432/{}", live.name);
    let ask = || docker_maybe(&["exec", "-u", "postgres", &live.db(), "psql", "-AtXc", "SELECT 1", &through]);
    wait_for("PgBouncer", Duration::from_secs(20), || ask().filter(|answer| answer == "1"));
    let sessions = || {
        let sql = format!(
            "SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE datname = '{}' ORDER BY 1",
            live.name
        );
        live.sql_in("postgres", &sql).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for container in [&bouncer, &exporter] {
        let address = live.address(container);
        wait_for("its session", Duration::from_secs(20), || sessions().contains(&address).then_some(()));
    }

    let all = [&live.odoo(), &second, &bouncer, &exporter].map(|name| (name.to_owned(), started(name)));
    let server = started(&live.db());
    undoo.run(&["restore", &backup.zip(), "--into", &live.target(), "--yes"]).ends(0);
    backup.is_live_on(&live, &live.name);
    for (name, before) in &all {
        assert!(Instance::runs(name), "{name} runs again");
        assert_ne!(started(name), *before, "{name} was stopped for the cutover");
    }
    wait_for("PgBouncer on the restored database", Duration::from_secs(20), ask);
    assert_eq!(started(&live.db()), server, "the database server is not touched");
}

fn started(container: &str) -> String {
    docker(&["inspect", "-f", "{{.State.StartedAt}}", container])
}

/// Debian's PgBouncer, in an image that is made once.
fn pgbouncer(live: &Instance, password: &str) -> String {
    if docker_maybe(&["image", "inspect", PGBOUNCER]).is_none() {
        let recipe = "FROM postgres:15\nRUN apt-get update -q && apt-get install -qy --no-install-recommends pgbouncer\n";
        succeed(Command::new("docker").args(["build", "-q", "-t", PGBOUNCER, "-"]), recipe.as_bytes());
    }
    let settings = format!(
        "[databases]\n* = host={} user=odoo password={password}\n[pgbouncer]\nlisten_addr = *\nlisten_port = 6432\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\nserver_tls_sslmode = prefer\n",
        live.db()
    );
    let start = format!("printf '%s' '{settings}' >/tmp/pgbouncer.ini; exec pgbouncer /tmp/pgbouncer.ini");
    live.run_beside("pgbouncer", &["-u", "postgres", "--entrypoint", "sh", PGBOUNCER, "-c", &start])
}
