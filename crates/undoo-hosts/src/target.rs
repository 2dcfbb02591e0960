//! Adopting an Odoo that runs already: everything about it is found by looking.
//!
//! Inspection reads what the engine knows and files through the archive endpoint, so it works on a
//! stopped container and runs nothing inside a live one. Passwords that it comes across stay in
//! [`SecretString`]s; an [`OdooContainer`] can be printed and serialised.

mod command;
pub mod conf;
mod database;
mod find;
mod origin;
mod version;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
};

use bollard::models::ContainerInspectResponse;
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

pub use crate::archive::Owner;
pub use conf::{ConfFile, OdooConf};
pub use database::DatabaseContainer;
pub(crate) use database::all_containers;
pub use find::{compose_project, odoo_containers};
pub use origin::image_digest;

use crate::{
    archive, deploy,
    docker::{Docker, problem},
};
use command::CommandLine;
use conf::{ConfSources, OfficialEntrypoint};

/// No configuration file, password file or `passwd` is larger.
const LARGEST_FILE: usize = 1024 * 1024;
/// Where the official image and Debian's package keep the file.
const USUAL_CONF: &str = "/etc/odoo/odoo.conf";

/// A container that runs Odoo, and what a restore needs to know about it.
#[derive(Debug, Clone, Serialize)]
pub struct OdooContainer {
    /// The engine's id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Id of the image.
    pub image_id: String,
    /// The image as it was asked for, for example `odoo:19.0`.
    pub image: String,
    /// Whether it runs now.
    pub running: bool,
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub restart_policy: String,
    /// The networks it is in.
    pub networks: Vec<Network>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// The user it runs as, as configured (a name, an id, or `uid:gid`); empty is root.
    pub user: String,
    /// How Odoo is called in it: `["odoo"]`, `["python3", "/opt/odoo/odoo-bin"]`.
    pub executable: Vec<String>,
    /// The configuration in force.
    pub conf: OdooConf,
    /// Where the filestores of all databases are, as a path inside the container.
    pub filestore_root: String,
    /// Who owns the filestore, else the data directory; `None` if neither exists yet.
    pub owner: Option<Owner>,
    /// Odoo's version such as `19.0`; `None` if the image would not tell.
    pub odoo_version: Option<String>,
    /// The container of the database server; `None` if the server is elsewhere.
    pub database_container: Option<DatabaseContainer>,
    /// The authorities that Odoo's libpq would trust (`PGSSLROOTCERT`, else `~/.postgresql/root.crt`), as
    /// PEM, where `db_sslmode` asks for a certificate.
    #[serde(skip)]
    pub database_authorities: Option<String>,
    /// The compose project and service it belongs to.
    pub compose: Option<ComposeService>,
    /// Whether it carries the restore of an environment that is being deployed ([`crate::deploy`]). Nobody is to
    /// start it on a way back: without its database, Odoo makes an empty one.
    pub carrier: bool,
    /// Memory limit in bytes; 0 is none.
    pub memory_limit: i64,
    /// Limit of processors in billionths of one; 0 is none.
    pub nano_cpus: i64,
    /// Variables that were given to the container or its image; may hold secrets.
    #[serde(skip)]
    pub(crate) env: EnvMap,
    /// Working directory for the command.
    pub working_dir: String,
}

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Name of the network.
    pub name: String,
    /// Id of the network; empty where the container has never been started.
    pub id: String,
    /// The container's address in it; `None` while it is stopped.
    pub ip: Option<IpAddr>,
    /// The Docker host's address in it; `None` while the container is stopped.
    pub gateway: Option<IpAddr>,
    /// Names by which others find the container there.
    pub aliases: Vec<String>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// What sort of mount.
    pub kind: MountKind,
    /// Name of the volume; `None` for others.
    pub volume: Option<String>,
    /// The directory on the Docker host that is behind it; `None` where there is none that stays when
    /// the container stops (tmpfs, volumes on a network file system or of a plugin).
    pub host_source: Option<PathBuf>,
    /// Path inside the container.
    pub destination: String,
    /// Whether the container may write to it.
    pub rw: bool,
}

/// Docker's kinds of mounts, as far as they matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A directory or file of the host.
    Bind,
    /// A volume, named or anonymous.
    Volume,
    /// Memory.
    Tmpfs,
    /// Anything newer.
    Other,
}

/// Where a container belongs in Docker Compose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComposeService {
    /// The project.
    pub project: String,
    /// The service within it.
    pub service: String,
}

/// Environment variables. Their values are not shown.
#[derive(Clone, Default)]
pub(crate) struct EnvMap(pub(crate) BTreeMap<String, String>);

impl std::fmt::Debug for EnvMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl EnvMap {
    pub(crate) fn parse(env: Option<&Vec<String>>) -> Self {
        let pairs = env.into_iter().flatten().filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl OdooContainer {
    /// The mount that a path inside the container lies on; `None`: on the container's own layer.
    pub fn mount_of(&self, path_inside: &str) -> Option<&Mount> {
        mount_of(&self.mounts, path_inside)
    }

    /// The path on the Docker host of a path inside the container.
    pub fn host_path(&self, path_inside: &str) -> Option<PathBuf> {
        host_path(&self.mounts, path_inside)
    }

    /// Whether the database lies on the disk of the filestore, as far as can be seen from here. Volumes of
    /// one Docker Engine do, unless someone took pains: by a driver or its options, or where both can be
    /// looked at, which takes an engine of this machine.
    pub fn shares_disk_with_database(&self, docker: &Docker) -> bool {
        self.shares_disk(!docker.is_remote())
    }

    /// `here`: whether the paths on the Docker host are paths of this machine.
    fn shares_disk(&self, here: bool) -> bool {
        let Some(database) = &self.database_container else { return false };
        let device = |mount: Option<&Mount>| {
            let path = mount?.host_source.as_ref().filter(|_| here)?;
            std::fs::metadata(path).ok().map(|metadata| std::os::unix::fs::MetadataExt::dev(&metadata))
        };
        let data = mount_of(&database.mounts, &database.data_dir);
        if data.is_some_and(|mount| mount.host_source.is_none()) {
            return false;
        }
        let files = device(self.mount_of(&self.filestore_root));
        files.zip(device(data)).is_none_or(|(files, data)| files == data)
    }

    /// The first number of Odoo's version.
    pub fn odoo_major(&self) -> Option<u32> {
        self.odoo_version.as_deref().and_then(version::major)
    }
}

fn host_path(mounts: &[Mount], path_inside: &str) -> Option<PathBuf> {
    let mount = mount_of(mounts, path_inside)?;
    let below = Path::new(path_inside).strip_prefix(&mount.destination).ok()?;
    // A path that climbs out of its mount is somewhere else than it seems.
    let climbs = below.components().any(|part| matches!(part, std::path::Component::ParentDir));
    let source = mount.host_source.as_ref().filter(|_| !climbs)?;
    Some(if below.as_os_str().is_empty() { source.clone() } else { source.join(below) })
}

fn mount_of<'a>(mounts: &'a [Mount], path_inside: &str) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| Path::new(path_inside).starts_with(&mount.destination))
        .max_by_key(|mount| Path::new(&mount.destination).components().count())
}

/// Finds out everything about the container of this name or id.
///
/// # Errors
/// `container_missing` where there is none, `odoo_conf_invalid` where Odoo's configuration is broken.
pub async fn inspect_odoo(docker: &Docker, container: &str) -> Result<OdooContainer> {
    let found = inspect(docker, container).await?;
    let config = found.config.clone().unwrap_or_default();
    let host = found.host_config.clone().unwrap_or_default();
    let id = found.id.clone().unwrap_or_default();
    let env = EnvMap::parse(config.env.as_ref());
    let labels = config.labels.clone().unwrap_or_default();
    let entrypoint = config.entrypoint.clone().unwrap_or_default();
    let command = CommandLine::parse(&entrypoint, config.cmd.as_deref().unwrap_or_default());
    let image_id = found.image.clone().unwrap_or_default();
    let image = config.image.clone().unwrap_or_default();

    let user = config.user.clone().unwrap_or_default();
    let odoo_version = version::find(docker, &image, &image_id, &env, &labels, &command).await?;
    let conf_path = command
        .config_path()
        .or_else(|| env.get("ODOO_RC").map(str::to_owned))
        .unwrap_or_else(|| USUAL_CONF.to_owned());
    let file = read_conf(docker, &id, &conf_path).await?;
    let words: Vec<String> = entrypoint.iter().chain(config.cmd.iter().flatten()).cloned().collect();
    let official = official_entrypoint(docker, &id, &words, &env).await?;
    let home = home(docker, &id, &env, &user).await?;
    let authorities = env
        .get("PGSSLROOTCERT")
        .map_or_else(|| format!("{}/.postgresql/root.crt", home.trim_end_matches('/')), str::to_owned);
    let conf = OdooConf::merge(ConfSources {
        command: &command,
        env: &env.0,
        file: file.map(|file| (conf_path, file)),
        official,
        major: odoo_version.as_deref().and_then(version::major),
        home,
    });
    let database_authorities = database_authorities(docker, &id, &conf, &authorities).await?;

    let filestore_root = conf.filestore_root();
    let owner = match archive::owner(docker, &id, &filestore_root).await? {
        Some(owner) => Some(owner),
        None => archive::owner(docker, &id, &conf.data_dir).await?,
    };
    let networks = networks(&found);
    let database_container =
        database::find(docker, &id, &networks, host.links.as_deref().unwrap_or_default(), &labels, &conf)
            .await?;
    Ok(OdooContainer {
        name: name(&found),
        image_id,
        image,
        running: is_running(&found),
        restart_policy: host
            .restart_policy
            .and_then(|policy| policy.name)
            .map(|name| name.to_string())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "no".into()),
        mounts: mounts(docker, &found).await?,
        networks,
        user,
        executable: command.executable.clone(),
        filestore_root,
        owner,
        odoo_version,
        database_container,
        database_authorities,
        compose: compose_service(&labels),
        carrier: deploy::is_carrier(&labels),
        memory_limit: host.memory.unwrap_or(0),
        nano_cpus: host.nano_cpus.unwrap_or(0),
        working_dir: config.working_dir.unwrap_or_default(),
        env,
        conf,
        id,
    })
}

/// What the engine knows about a container.
pub(crate) async fn inspect(docker: &Docker, container: &str) -> Result<ContainerInspectResponse> {
    docker.engine().inspect_container(container, None).await.map_err(|error| {
        if crate::docker::is_missing(&error) {
            return Problem::new(
                Kind::Missing,
                "container_missing",
                format!("There is no container {container:?} on this Docker Engine."),
                "See \"docker ps --all\" for the names of all containers.",
            )
            .caused_by(error);
        }
        problem(error, || format!("inspecting the container {container}"))
    })
}

pub(crate) fn name(found: &ContainerInspectResponse) -> String {
    found.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned()
}

pub(crate) fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

pub(crate) fn compose_service(labels: &HashMap<String, String>) -> Option<ComposeService> {
    Some(ComposeService {
        project: labels.get("com.docker.compose.project")?.clone(),
        service: labels.get("com.docker.compose.service")?.clone(),
    })
}

/// The address of a running container in the first of its networks; `None` while it is stopped.
///
/// # Errors
/// Those of the engine.
pub async fn address(docker: &Docker, container: &str) -> Result<Option<IpAddr>> {
    let found = inspect(docker, container).await?;
    Ok(if is_running(&found) { networks(&found).into_iter().find_map(|network| network.ip) } else { None })
}

pub(crate) fn networks(found: &ContainerInspectResponse) -> Vec<Network> {
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let mut networks: Vec<Network> = networks
        .into_iter()
        .flatten()
        .map(|(name, endpoint)| Network {
            name: name.clone(),
            id: endpoint.network_id.clone().unwrap_or_default(),
            ip: endpoint.ip_address.as_deref().and_then(|ip| ip.parse().ok()),
            gateway: endpoint.gateway.as_deref().and_then(|ip| ip.parse().ok()),
            aliases: endpoint.aliases.clone().unwrap_or_default(),
        })
        .collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    networks
}

pub(crate) async fn mounts(docker: &Docker, found: &ContainerInspectResponse) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for point in found.mounts.iter().flatten() {
        let volume = point.name.clone().filter(|name| !name.is_empty());
        let (kind, host_source) = match point.typ.as_deref() {
            Some("bind") => (MountKind::Bind, point.source.clone().map(PathBuf::from)),
            Some("volume") => (MountKind::Volume, volume_on_host(docker, volume.as_deref()).await?),
            Some("tmpfs") => (MountKind::Tmpfs, None),
            _ => (MountKind::Other, None),
        };
        let destination = point.destination.clone().unwrap_or_default();
        mounts.push(Mount { kind, volume, host_source, destination, rw: point.rw.unwrap_or(false) });
    }
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    Ok(mounts)
}

/// Where a volume's files are on the host, also while no container runs with it.
async fn volume_on_host(docker: &Docker, volume: Option<&str>) -> Result<Option<PathBuf>> {
    let Some(volume) = volume else { return Ok(None) };
    let found = docker
        .engine()
        .inspect_volume(volume)
        .await
        .map_err(|error| problem(error, || format!("inspecting the volume {volume}")))?;
    if found.driver != "local" {
        return Ok(None);
    }
    if found.options.is_empty() {
        return Ok(Some(PathBuf::from(found.mountpoint)));
    }
    // A local volume with options is a mount that is there only while a container uses it, except that
    // one made with "o=bind" is a plain directory of the host.
    let is_bind =
        found.options.get("o").is_some_and(|o| o.split(',').any(|part| part == "bind" || part == "rbind"));
    Ok(found.options.get("device").filter(|_| is_bind).map(PathBuf::from))
}

async fn read_conf(docker: &Docker, container: &str, path: &str) -> Result<Option<ConfFile>> {
    match archive::read_file(docker, container, path, LARGEST_FILE).await? {
        Some(bytes) => ConfFile::parse(&String::from_utf8_lossy(&bytes)).map(Some),
        None => Ok(None),
    }
}

/// The file of authorities that libpq reads in this container.
async fn database_authorities(
    docker: &Docker,
    container: &str,
    conf: &OdooConf,
    path: &str,
) -> Result<Option<String>> {
    // The weaker modes have no use for it, and "system" is what stands in for no file.
    if !["require", "verify-ca", "verify-full"].contains(&conf.db_sslmode.as_str()) || path == "system" {
        return Ok(None);
    }
    let bytes = archive::read_file(docker, container, path, LARGEST_FILE).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The official entrypoint is known by what it does, since other images name theirs the same.
async fn official_entrypoint(
    docker: &Docker,
    container: &str,
    words: &[String],
    env: &EnvMap,
) -> Result<Option<OfficialEntrypoint>> {
    let Some((path, command)) = words.split_first() else { return Ok(None) };
    if !path.ends_with("entrypoint.sh") || !OfficialEntrypoint::adds_to(command) {
        return Ok(None);
    }
    let script = archive::read_file(docker, container, path, LARGEST_FILE).await?.unwrap_or_default();
    if !String::from_utf8_lossy(&script).contains("DB_ARGS") {
        return Ok(None);
    }
    let odoo_rc = env.get("ODOO_RC").unwrap_or(USUAL_CONF);
    Ok(Some(OfficialEntrypoint {
        odoo_rc: read_conf(docker, container, odoo_rc).await?.unwrap_or_default(),
        password_file: match env.get("PASSWORD_FILE") {
            Some(path) => database::read_secret(docker, container, path).await?,
            None => None,
        },
    }))
}

/// The home directory of the user that the container runs as, which Odoo's default data directory is in.
async fn home(docker: &Docker, container: &str, env: &EnvMap, user: &str) -> Result<String> {
    if let Some(home) = env.get("HOME") {
        return Ok(home.to_owned());
    }
    Ok(passwd_entry(docker, container, user).await?.map_or_else(|| "/".into(), |(_, home)| home))
}

/// The numeric ids behind a container's user setting (`odoo`, `100`, `100:101`, `odoo:odoo`, or nothing
/// for root). A group's name is not looked up: the user's own group stands for it.
pub(crate) async fn user_ids(docker: &Docker, container: &str, user: &str) -> Result<Owner> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let known = passwd_entry(docker, container, name).await?.map(|(owner, _)| owner);
    let uid = match (known, name.parse()) {
        (Some(owner), _) => owner.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => 0,
    };
    let gid = group.parse().unwrap_or_else(|_| known.map_or(0, |owner| owner.gid));
    Ok(Owner { uid, gid })
}

/// The ids and the home directory of a user by name or number.
async fn passwd_entry(docker: &Docker, container: &str, user: &str) -> Result<Option<(Owner, String)>> {
    let passwd =
        archive::read_file(docker, container, "/etc/passwd", LARGEST_FILE).await?.unwrap_or_default();
    let user = user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
    Ok(String::from_utf8_lossy(&passwd).lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        let owner = Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
        (*name == user || *uid == user).then(|| (owner, (*home).to_owned()))
    }))
}

#[cfg(test)]
pub(crate) mod tests;
