//! The database server's container: which one `db_host` means, and the credentials that it was made with.

use std::{collections::HashMap, net::IpAddr, path::PathBuf};

use bollard::{models::ContainerInspectResponse, query_parameters::ListContainersOptionsBuilder};
use secrecy::SecretString;
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

use super::{
    EnvMap, Mount, Network, OdooConf, compose_service, host_path, is_running, mounts, name, networks,
};
use crate::{
    archive,
    docker::{Docker, problem},
};

/// No password is longer.
const LONGEST_SECRET: usize = 64 * 1024;

/// The container that Odoo's `db_host` leads to.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseContainer {
    /// The engine's id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// The image as it was asked for, for example `postgres:15`.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// Whether it runs now.
    pub running: bool,
    /// The networks it is in.
    pub networks: Vec<Network>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Where the server keeps its data, as a path inside the container (`PGDATA`).
    pub data_dir: String,
    /// Directories of the Docker host, one on the disk of the data and one on that of the write-ahead log,
    /// where these are mounts: empty ones, or nearly. A mover measures the room that is left in them, and
    /// sees nothing of any database.
    pub disks: Vec<PathBuf>,
    /// The major version of a PostgreSQL image; `None`: this is perhaps no PostgreSQL but a pooler.
    pub pg_major: Option<u32>,
    /// The superuser that the official image made.
    pub admin_user: String,
    /// That superuser's password, from the environment or from the file that it names.
    #[serde(skip)]
    pub admin_password: Option<SecretString>,
    /// Memory limit in bytes; 0 is none.
    pub memory_limit: i64,
    /// Limit of processors in billionths of one; 0 is none.
    pub nano_cpus: i64,
}

/// Looks for the container that `db_host` resolves to in the networks of the Odoo container.
pub(super) async fn find(
    docker: &Docker,
    odoo_id: &str,
    odoo_networks: &[Network],
    links: &[String],
    odoo_labels: &HashMap<String, String>,
    conf: &OdooConf,
) -> Result<Option<DatabaseContainer>> {
    let Some(host) = conf.db_host.as_deref().filter(|host| !host.starts_with('/')) else {
        return Ok(None);
    };
    let mut matches = Vec::new();
    for candidate in all_containers(docker).await? {
        if candidate == odoo_id {
            continue;
        }
        // A container may go away between the two questions.
        let Ok(found) = docker.engine().inspect_container(&candidate, None).await else { continue };
        if answers_to(&found, host, odoo_networks, links, odoo_labels) {
            matches.push(found);
        }
    }
    let (running, stopped): (Vec<_>, Vec<_>) = matches.into_iter().partition(is_running);
    let mut matches = if running.is_empty() { stopped } else { running };
    if matches.len() > 1 {
        let names: Vec<String> = matches.iter().map(name).collect();
        return Err(Problem::new(
            Kind::Conflict,
            "several_database_containers",
            format!("The database host {host:?} could be any of the containers {}.", names.join(", ")),
            "Give each container a name of its own in that network, or name the right one in db_host.",
        ));
    }
    match matches.pop() {
        Some(found) => describe(docker, found).await.map(Some),
        None => Ok(None),
    }
}

pub(crate) async fn all_containers(docker: &Docker) -> Result<Vec<String>> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let found = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || "listing containers".into()))?;
    Ok(found.into_iter().filter_map(|summary| summary.id).collect())
}

fn answers_to(
    found: &ContainerInspectResponse,
    host: &str,
    odoo_networks: &[Network],
    links: &[String],
    odoo_labels: &HashMap<String, String>,
) -> bool {
    let own_name = name(found);
    // Links are written "/target:/odoo/alias".
    let linked = links.iter().any(|link| {
        link.split_once(':').is_some_and(|(target, alias)| {
            target.trim_start_matches('/') == own_name && alias.rsplit('/').next() == Some(host)
        })
    });
    if linked {
        return true;
    }
    let ip: Option<IpAddr> = host.parse().ok();
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let same_service = labels.and_then(compose_service).is_some_and(|service| {
        compose_service(odoo_labels).is_some_and(|own| own.project == service.project)
            && service.service == host
    });
    networks(found).iter().any(|network| {
        let shared = odoo_networks.iter().any(|own| own.name == network.name);
        // The bridge that everyone is in without asking has no names, only addresses.
        let named = network.name != "bridge"
            && (own_name.eq_ignore_ascii_case(host)
                || same_service
                || network.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(host)));
        shared && (named || (ip.is_some() && network.ip == ip))
    })
}

async fn describe(docker: &Docker, found: ContainerInspectResponse) -> Result<DatabaseContainer> {
    let id = found.id.clone().unwrap_or_default();
    let config = found.config.clone().unwrap_or_default();
    let host = found.host_config.clone().unwrap_or_default();
    let env = EnvMap::parse(config.env.as_ref());
    let from_file = |variable: &str| env.get(variable).map(str::to_owned);
    let admin_user = match from_file("POSTGRES_USER_FILE") {
        Some(path) => read_text(docker, &id, &path).await?,
        None => None,
    };
    let admin_password = match from_file("POSTGRES_PASSWORD_FILE") {
        Some(path) => read_secret(docker, &id, &path).await?,
        None => env.get("POSTGRES_PASSWORD").map(SecretString::from),
    };
    let mounts = mounts(docker, &found).await?;
    let data_dir = env.get("PGDATA").unwrap_or("/var/lib/postgresql/data").to_owned();
    Ok(DatabaseContainer {
        disks: disks(docker, &id, &mounts, &data_dir).await,
        name: name(&found),
        image: config.image.unwrap_or_default(),
        image_id: found.image.clone().unwrap_or_default(),
        running: is_running(&found),
        networks: networks(&found),
        mounts,
        data_dir,
        pg_major: env.get("PG_MAJOR").and_then(|major| major.parse().ok()),
        admin_user: admin_user
            .or_else(|| env.get("POSTGRES_USER").map(str::to_owned))
            .unwrap_or_else(|| "postgres".into()),
        admin_password,
        memory_limit: host.memory.unwrap_or(0),
        nano_cpus: host.nano_cpus.unwrap_or(0),
        id,
    })
}

/// See [`DatabaseContainer::disks`].
async fn disks(docker: &Docker, id: &str, mounts: &[Mount], data_dir: &str) -> Vec<PathBuf> {
    // What cannot be looked at cannot be measured either; that is said where it matters.
    let stat = async |path: &str| archive::stat(docker, id, path).await.ok().flatten();
    // The log's directory may be a link that leads to another mount (`initdb --waldir`).
    let log = format!("{data_dir}/pg_wal");
    let log = stat(&log).await.and_then(|found| found.link).unwrap_or(log);
    let mut disks = Vec::new();
    // Ids of exported transactions; names of segments that wait to be archived.
    for inside in [format!("{data_dir}/pg_snapshots"), format!("{log}/archive_status")] {
        let (Some(on_host), Some(_)) = (host_path(mounts, &inside), stat(&inside).await) else { break };
        disks.push(on_host);
    }
    disks
}

/// A secret out of a file, read as a shell's `$(<file)` does: without the newlines at its end.
pub(super) async fn read_secret(
    docker: &Docker,
    container: &str,
    path: &str,
) -> Result<Option<SecretString>> {
    Ok(read_text(docker, container, path).await?.map(SecretString::from))
}

async fn read_text(docker: &Docker, container: &str, path: &str) -> Result<Option<String>> {
    let bytes = archive::read_file(docker, container, path, LONGEST_SECRET).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned()))
}
