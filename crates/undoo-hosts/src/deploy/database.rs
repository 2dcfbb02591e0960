//! PostgreSQL of an environment: fast while a backup is loaded, durable from then on.
//!
//! Fast, it has no restart policy: after a crash of the server its data cannot be trusted, and nothing may
//! start it as if nothing had been.

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use secrecy::ExposeSecret as _;
use undoo_core::{
    Kind, Problem, Result,
    platform::{
        Deployment, Names,
        deployment::{FIRST_DATABASE, PASSWORD_FILE, PGDATA, ROLE},
    },
};

use super::{
    Did, Done, Image, Part, exec,
    look::{self, Found},
    things::{self, labels},
};
use crate::{
    archive,
    docker::Docker,
    scratch::{self, Scratch},
    service,
    target::user_ids,
};

/// How often, and how many seconds apart, a server that starts is asked.
pub(super) const ATTEMPTS: u32 = 30;
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// PostgreSQL has the same minute, and is asked more often: most are there after two seconds.
const READY_ATTEMPTS: u32 = 120;
const READY_INTERVAL: Duration = Duration::from_millis(500);
/// A server that stops writes what it has in memory first.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(300);
/// What sessions that build an index together share; Docker's own default is too little for two of them.
const SHARED_MEMORY: i64 = 256 << 20;

impl Found {
    /// Whether it is a server that forgets everything in a crash.
    pub(super) fn is_fast(&self) -> bool {
        self.command().iter().any(|word| word == "fsync=off")
    }
}

/// Whether there is a fast server that something else has stopped.
pub(super) async fn is_lost(docker: &Docker, names: &Names) -> Result<bool> {
    let found = look::container(docker, names, &names.db()).await?;
    Ok(found.is_some_and(|found| found.is_fast() && found.started && !found.running))
}

/// Removes a server that is lost with its data, and with what was to be restored on it.
pub(super) async fn forget(docker: &Docker, names: &Names) -> Result<Vec<Done>> {
    let mut removed = Vec::new();
    let gone = [Part::Carrier, Part::Database, Part::DatabaseVolume, Part::OdooVolume];
    for thing in things::of(docker, names).await?.into_iter().filter(|thing| gone.contains(&thing.part)) {
        match thing.kind {
            things::ThingKind::Container => things::remove_container(docker, &thing.name).await?,
            _ => things::remove_volume(docker, &thing.name).await?,
        }
        removed.push(Done { part: thing.part, name: thing.name, did: Did::Removed });
    }
    Ok(removed)
}

/// A fast server that runs; or the durable one of an environment that is done.
pub(super) async fn ensure_fast(docker: &Docker, deployment: &Deployment, image: &Image) -> Result<Done> {
    let names = &deployment.names;
    let done = |did| Done { part: Part::Database, name: names.db(), did };
    match look::container(docker, names, &names.db()).await? {
        Some(found) if found.running => return Ok(done(Did::Found)),
        Some(found) if !found.is_fast() => {
            service::start(docker, &[found.id]).await?;
            return Ok(done(Did::Started));
        }
        // Whoever created it died before it had its password, perhaps.
        Some(found) => things::remove_container(docker, &found.id).await?,
        None => {}
    }
    create(docker, deployment, image, true).await?;
    service::start(docker, &[names.db()]).await?;
    Ok(done(Did::Made))
}

/// Creates the container, and puts the password into it.
pub(super) async fn create(
    docker: &Docker,
    deployment: &Deployment,
    image: &Image,
    fast: bool,
) -> Result<()> {
    let names = &deployment.names;
    let memory = deployment.database_memory(fast).and_then(|bytes| i64::try_from(bytes).ok());
    let policy = if fast { RestartPolicyNameEnum::NO } else { RestartPolicyNameEnum::UNLESS_STOPPED };
    let mut labels = labels(names, Part::Database);
    labels.insert("traefik.enable".into(), "false".into());
    let body = ContainerCreateBody {
        image: Some(image.name.clone()),
        env: Some(pairs(&deployment.database_variables())),
        cmd: Some(deployment.database_command(fast)),
        labels: Some(labels),
        stop_timeout: i64::try_from(STOP_GRACE.as_secs()).ok(),
        host_config: Some(HostConfig {
            network_mode: Some(names.network()),
            mounts: Some(vec![data(names)]),
            restart_policy: Some(RestartPolicy { name: Some(policy), maximum_retry_count: None }),
            shm_size: Some(SHARED_MEMORY),
            memory,
            memory_swap: memory,
            nano_cpus: nano_cpus(deployment),
            ..Default::default()
        }),
        ..Default::default()
    };
    let created = Scratch::create_named(docker, names.db(), body).await?;
    // The entrypoint reads it as the server's own user.
    let owner = user_ids(docker, &created.id, "postgres").await?;
    let password = deployment.passwords.role.expose_secret();
    let file = archive::of_file(PASSWORD_FILE.trim_start_matches('/'), password.as_bytes(), 0o400, owner)?;
    archive::put(docker, &created.id, "/", file).await?;
    created.keep();
    Ok(())
}

/// The mount of the volume with the server's data.
pub(super) fn data(names: &Names) -> Mount {
    Mount {
        target: Some(PGDATA.into()),
        source: Some(names.pgdata()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    }
}

pub(super) fn nano_cpus(deployment: &Deployment) -> Option<i64> {
    deployment.limits.cpu_cores.map(|cores| i64::from(cores).saturating_mul(1_000_000_000))
}

/// Variables as the engine wants them.
pub(super) fn pairs(variables: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Waits until the server takes connections.
///
/// # Errors
/// `database_not_ready` with the end of its log.
pub(super) async fn await_ready(docker: &Docker, names: &Names) -> Result<Done> {
    let name = names.db();
    // Over TCP: the server that makes the cluster at a first start listens on its socket alone, and goes again.
    let words = ["pg_isready", "-q", "-h", "127.0.0.1", "-U", ROLE, "-d", FIRST_DATABASE];
    let mut state = "it did not take connections in time";
    for attempt in 0..READY_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(READY_INTERVAL).await;
        }
        let found = look::expect(docker, names, &name).await?;
        if !found.running {
            state = "it ended";
            break;
        }
        // One that ends between the two questions is seen in the next turn.
        if matches!(exec::run(docker, &found.id, None, &words).await, Ok((0, _))) {
            return Ok(Done { part: Part::Database, name, did: Did::Answered });
        }
    }
    let log = scratch::log_tail(docker, &name).await.unwrap_or_default();
    Err(Problem::new(
        Kind::Unavailable,
        "database_not_ready",
        format!("PostgreSQL in {name} did not start: {state}.\n{}", scratch::last_lines(&log)),
        "See its log for the cause; memory and disk of the server are the usual ones.",
    ))
}

/// The answer to a statement, without decoration.
///
/// # Errors
/// `database_refused` with the server's words.
pub(super) async fn ask(docker: &Docker, names: &Names, sql: &str) -> Result<String> {
    let words = ["psql", "-X", "-q", "-A", "-t", "-U", ROLE, "-d", FIRST_DATABASE, "-c", sql];
    let (code, said) = exec::run(docker, &names.db(), None, &words).await?;
    if code == 0 {
        return Ok(said.trim().to_owned());
    }
    Err(Problem::new(
        Kind::Unavailable,
        "database_refused",
        format!("PostgreSQL in {} did not answer a question: {}", names.db(), said.trim()),
        "See its log for the cause.",
    ))
}
