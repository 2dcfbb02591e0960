//! The environment's own Odoo, off to the side: same image, same addons, another database.
//!
//! It serves to neutralize a restored database and to prove that it boots. It runs restored, possibly
//! hostile code, so it sees neither the live filestore nor the live configuration, runs no cron and no
//! job queue, sends no mail, and its network leads nowhere but to the database server. Its configuration
//! holds a password: it is written into the container as a file, never into what `docker inspect` shows.

mod network;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, Mount as EngineMount, MountType};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem, Result};

pub(crate) use network::remove_network;
pub use network::{DATABASE_ALIAS, ProofNetwork, proof_network};

use crate::{
    archive,
    docker::Docker,
    labels::{Labels, Role},
    mover::{Bind, ContainerEnd},
    scratch::{self, Cover, Scratch},
    target::{ConfFile, MountKind, OdooContainer, inspect, networks, user_ids},
};

/// Where the private data directory is inside.
pub const DATA_DIR: &str = "/var/lib/undoo-proof";
/// The port that Odoo's web server listens on inside.
pub const HTTP_PORT: u16 = 8069;
/// The generated configuration, inside.
const CONF: &str = "/etc/undoo/odoo.conf";
/// What a root user inside needs to read files of others. Other users get nothing from it.
const CAPABILITIES: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];
/// Variables that may matter for how Odoo runs and never hold secrets.
const HARMLESS_ENV: [&str; 6] = ["LANG", "LANGUAGE", "TZ", "PATH", "PYTHONPATH", "VIRTUAL_ENV"];

/// How to run Odoo off to the side.
#[derive(Debug, Clone)]
pub struct OdooRun<'a> {
    /// The live Odoo whose image, addons and options it takes.
    pub like: &'a OdooContainer,
    /// The one database it works on.
    pub database: String,
    /// The database server as seen from `network`, usually [`DATABASE_ALIAS`].
    pub db_host: String,
    /// Its port.
    pub db_port: u16,
    /// The role to connect as; not a superuser, and not the live Odoo's.
    pub db_user: String,
    /// That role's password.
    pub db_password: SecretString,
    /// The directory on the Docker host that becomes its data directory; the files of the database are
    /// in `filestore/<database>` below it. It must exist and belong to the user that Odoo runs as.
    pub data_dir_on_host: PathBuf,
    /// The network to be in; see [`proof_network`].
    pub network: String,
    /// Whose work this is.
    pub labels: Labels,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
}

/// A booted Odoo. It is removed when this is dropped, if the runtime lives on; better call
/// [`BootedOdoo::remove`].
pub struct BootedOdoo {
    docker: Docker,
    scratch: Scratch,
}

impl OdooRun<'_> {
    /// Runs Odoo once to its end with these arguments, for example `["neutralize"]` or
    /// `["--stop-after-init"]`; a leading word without a dash is Odoo's subcommand. The answer holds the
    /// exit code and the end of the log.
    ///
    /// # Errors
    /// `odoo_timeout` after `patience`, `cancelled`, and those of the engine.
    pub async fn once(
        &self,
        docker: &Docker,
        args: &[&str],
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<ContainerEnd> {
        let scratch = self.create(docker, args).await?;
        scratch.start().await?;
        let outcome = tokio::select! {
            end = scratch.finish() => end,
            () = cancel.cancelled() => {
                Err(Problem::new(Kind::Cancelled, "cancelled", "The work was cancelled.", ""))
            }
            () = tokio::time::sleep(patience) => {
                let log = scratch::log_tail(docker, &scratch.id).await.unwrap_or_default();
                Err(Problem::new(
                    Kind::NotProven,
                    "odoo_timeout",
                    format!(
                        "Odoo did not end within {} s on the database {}; its last line: {}",
                        patience.as_secs(),
                        self.database,
                        log.lines().next_back().unwrap_or("(none)")
                    ),
                    "Look at the load of the server; a longer patience may be needed for many modules.",
                ))
            }
        };
        let removed = scratch.remove().await;
        let end = outcome?;
        removed.map(|()| end)
    }

    /// Starts Odoo and leaves it running. Whether it answers is for the caller to see.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn boot(&self, docker: &Docker) -> Result<BootedOdoo> {
        let scratch = self.create(docker, &[]).await?;
        scratch.start().await?;
        Ok(BootedOdoo { docker: docker.clone(), scratch })
    }

    async fn create(&self, docker: &Docker, args: &[&str]) -> Result<Scratch> {
        let mut mounts = self.mounts();
        let targets: Vec<String> = mounts.iter().filter_map(|mount| mount.target.clone()).collect();
        mounts.extend(
            scratch::cover_image_volumes(docker, &self.like.image_id, &targets, Cover::Writable).await?,
        );
        let mut executable = self.like.executable.iter().cloned();
        let program = executable.next().unwrap_or_else(|| "odoo".into());
        let memory = self.memory_limit.and_then(|limit| i64::try_from(limit).ok());
        let body = ContainerCreateBody {
            image: Some(self.like.image_id.clone()),
            user: Some(self.like.user.clone()),
            working_dir: Some(self.like.working_dir.clone()),
            env: Some(self.env()),
            // Not the image's entrypoint: the official one puts the password on the command line.
            entrypoint: Some(vec![program]),
            cmd: Some(executable.chain(self.arguments(args)).collect()),
            labels: Some(self.labels.to_map(Role::Proof)),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
            stop_signal: Some("SIGTERM".into()),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.clone()),
                mounts: Some(mounts),
                cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
                memory,
                memory_swap: memory,
                ..scratch::hardened()
            }),
            ..Default::default()
        };
        let scratch = Scratch::create(docker, Role::Proof.as_str(), body).await?;
        let owner = user_ids(docker, &scratch.id, &self.like.user).await?;
        let text = self.conf().to_text();
        let file =
            archive::of_file(CONF.trim_start_matches('/'), text.expose_secret().as_bytes(), 0o640, owner)?;
        archive::put(docker, &scratch.id, "/", file).await?;
        Ok(scratch)
    }

    /// The live options with what must differ.
    fn conf(&self) -> ConfFile {
        let mut conf = self.like.conf.all.clone();
        for gone in [
            "logfile",
            "log_db",
            "pidfile",
            "db_replica_host",
            "db_replica_port",
            "smtp_user",
            "smtp_password",
            "smtp_ssl_certificate_filename",
            "smtp_ssl_private_key_filename",
        ] {
            conf.remove(gone);
        }
        for (name, value) in [
            ("db_host", self.db_host.as_str()),
            ("db_port", &self.db_port.to_string()),
            ("db_user", &self.db_user),
            ("db_password", self.db_password.expose_secret()),
            ("db_name", &self.database),
            ("dbfilter", &self.dbfilter()),
            // The server's certificate knows nothing of the alias.
            ("db_sslmode", "prefer"),
            ("data_dir", DATA_DIR),
            ("list_db", "False"),
            ("admin_passwd", &hex::encode(rand::random::<[u8; 24]>())),
            ("max_cron_threads", "0"),
            ("workers", "0"),
            ("http_interface", "0.0.0.0"),
            ("http_port", &HTTP_PORT.to_string()),
            ("proxy_mode", "False"),
            ("syslog", "False"),
            // Port 9 is "discard", and nobody listens there.
            ("smtp_server", "127.0.0.1"),
            ("smtp_port", "9"),
            ("smtp_ssl", "False"),
        ] {
            conf.set(name, value);
        }
        // The job queue that many installations have runs beside cron and is turned off like this.
        conf.set_in("queue_job", "channels", "root:0");
        conf
    }

    /// Since Odoo 19 the image's environment would win over the file; options win over both.
    fn arguments(&self, args: &[&str]) -> Vec<String> {
        let mut words = args.iter().map(|arg| (*arg).to_owned()).peekable();
        let subcommand = words.next_if(|word| !word.starts_with('-'));
        subcommand
            .into_iter()
            .chain([
                format!("--config={CONF}"),
                format!("--database={}", self.database),
                format!("--db_host={}", self.db_host),
                format!("--db_port={}", self.db_port),
                format!("--db_user={}", self.db_user),
                format!("--db-filter={}", self.dbfilter()),
                format!("--data-dir={DATA_DIR}"),
                "--no-database-list".to_owned(),
                "--max-cron-threads=0".to_owned(),
                "--workers=0".to_owned(),
            ])
            .chain(words)
            .collect()
    }

    fn dbfilter(&self) -> String {
        let escaped: String = self
            .database
            .chars()
            .flat_map(|c| {
                let escape = (!c.is_alphanumeric() && c != '_' && c != '-').then_some('\\');
                escape.into_iter().chain([c])
            })
            .collect();
        format!("^{escaped}$")
    }

    fn env(&self) -> Vec<String> {
        let harmless = |name: &str| HARMLESS_ENV.contains(&name) || name.starts_with("LC_");
        let env = self.like.env.0.iter().filter(|(name, _)| harmless(name));
        env.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The live container's mounts, read-only, without those that hold data, configuration or secrets;
    /// and the private data directory.
    fn mounts(&self) -> Vec<EngineMount> {
        let like = self.like;
        let holds = |path: &str, mount: &crate::target::Mount| like.mount_of(path) == Some(mount);
        let is_below = |path: &str, directory: &str| Path::new(path).starts_with(directory);
        let (left_out, kept): (Vec<_>, Vec<_>) = like.mounts.iter().partition(|mount| {
            holds(&like.conf.data_dir, mount)
                || is_below(&mount.destination, &like.conf.data_dir)
                || like.conf.path.as_deref().is_some_and(|path| holds(path, mount))
                || is_below(&mount.destination, "/run/secrets")
                || mount.host_source.as_ref().is_some_and(|path| path.ends_with("docker.sock"))
                || !matches!(mount.kind, MountKind::Bind | MountKind::Volume)
        });
        let mut mounts: Vec<EngineMount> = kept
            .iter()
            .filter_map(|mount| {
                let (typ, source) = match (&mount.volume, &mount.host_source) {
                    (Some(volume), _) => (MountType::VOLUME, volume.clone()),
                    (None, Some(path)) => (MountType::BIND, path.display().to_string()),
                    (None, None) => return None,
                };
                Some(EngineMount {
                    target: Some(mount.destination.clone()),
                    source: Some(source),
                    typ: Some(typ),
                    read_only: Some(true),
                    ..Default::default()
                })
            })
            .collect();
        // Addons may share a mount with what was left out; then they come alone.
        let holds_data = |path: &str| {
            is_below(&like.filestore_root, path)
                || like.conf.path.as_deref().is_some_and(|conf| is_below(conf, path))
        };
        let addons = like.conf.addons_path.iter().filter(|path| {
            like.mount_of(path).is_some_and(|mount| left_out.contains(&mount)) && !holds_data(path)
        });
        mounts.extend(addons.filter_map(|path| {
            let source = like.host_path(path)?.display().to_string();
            Some(scratch::bind(&Bind { source, target: path.clone(), read_only: true }))
        }));
        mounts.push(scratch::bind(&Bind {
            source: self.data_dir_on_host.display().to_string(),
            target: DATA_DIR.into(),
            read_only: false,
        }));
        mounts
    }
}

impl BootedOdoo {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.scratch.id
    }

    /// The container's name, which is also its host name in the network.
    pub fn name(&self) -> &str {
        &self.scratch.name
    }

    /// The container's address, and whether it still runs (`None`: it has ended).
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn address(&self) -> Result<Option<IpAddr>> {
        let found = inspect(&self.docker, &self.scratch.id).await?;
        Ok(networks(&found).into_iter().find_map(|network| network.ip))
    }

    /// The end of Odoo's log.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn log_tail(&self) -> Result<String> {
        scratch::log_tail(&self.docker, &self.scratch.id).await
    }

    /// Stops and removes it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove(self) -> Result<()> {
        self.scratch.remove().await
    }
}

#[cfg(test)]
mod tests;
