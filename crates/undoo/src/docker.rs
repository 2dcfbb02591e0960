//! A target in Docker: orders run in mover containers, the proof in a throw-away Odoo, the cutover in a
//! detached agent.

mod attempt;
mod cutover;
mod environment;
mod movers;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem, RestoreId, Result, Side, pair};
use undoo_engine::{
    health::{Answered, Patience},
    home::Home,
    order::{Failure, Target},
    orders::Order,
    pg::{DatabaseAccess, Tls},
    restore::Assignment,
};
use undoo_hosts::{
    Docker, DockerEndpoint, Labels, Machine, binary, cleanup,
    mover::{MoverSpec, last_lines},
    odoo::{BootedOdoo, DATABASE_ALIAS, HTTP_PORT, OdooRun, proof_network},
    service::{self, Holder},
    target::{self, OdooContainer},
};
use undoo_storage::StorageConfig;

use crate::caller::Caller;
pub use attempt::Attempt;
use movers::Open;

/// Memory that a mover may use. It needs far less; the page cache of what it writes counts too.
const MOVER_MEMORY: u64 = 512 << 20;
/// A login page that failed so often, while it was asked for several times a second, stays so.
const HOPELESS_PAGES: usize = 12;
/// Age from which a binary of another version is taken for forgotten.
const UNUSED_BINARY: Duration = Duration::from_secs(3600);
/// Age from which an ended mover is taken for forgotten: by then, its command has read how it ended.
const FORGOTTEN_MOVER: Duration = Duration::from_secs(2);
/// How long Odoo's own neutralize may take.
const NEUTRALIZE_PATIENCE: Duration = Duration::from_secs(600);

/// An Odoo container, its database and its files.
pub struct DockerPlace {
    docker: Docker,
    odoo: OdooContainer,
    target: Target,
    binary: String,
    image: String,
    processors: Option<usize>,
    /// The mover of the restore that is under way.
    open: Mutex<Option<Open>>,
}

impl DockerPlace {
    /// The Odoo that `name` says, and the database that is meant.
    ///
    /// # Errors
    /// As [`DockerPlace::adopt`], and where no database can be told.
    pub async fn find(
        endpoint: DockerEndpoint,
        name: &str,
        database: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Self> {
        let mut place = Self::adopt(endpoint, name).await?;
        place.target.database = match database {
            Some(name) => name.to_owned(),
            None => place.database(caller).await?,
        };
        Ok(place)
    }

    /// Adopts the Odoo that `name` says: `docker:CONTAINER` or `compose:PROJECT`. No database is meant yet.
    ///
    /// # Errors
    /// When there is none, or what a restore needs of it cannot be found; `server_architecture` where another
    /// machine cannot run this program.
    pub async fn adopt(endpoint: DockerEndpoint, name: &str) -> Result<Self> {
        let docker = Docker::connect(endpoint).await?;
        let processors = match docker.server() {
            Some(server) => Some(fitting(server, docker.machine().await?)?),
            None => None,
        };
        let odoo = odoo_named(&docker, name).await?;
        let image =
            odoo.database_container.as_ref().map_or_else(|| odoo.image_id.clone(), |db| db.image_id.clone());
        let program = std::env::current_exe().map_err(|error| {
            Problem::new(Kind::Internal, "no_program", "the running program cannot be found", "")
                .caused_by(error)
        })?;
        let binary = binary::ensure_binary(&docker, &program, &image).await?;
        let target = describe(name, &docker, &odoo)?;
        Ok(Self { docker, odoo, target, binary, image, processors, open: Mutex::default() })
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The processors of the machine that it is on, where that is another than this one.
    pub fn processors(&self) -> Option<usize> {
        self.processors
    }

    /// The database that is meant where none is named: Odoo's only one, or the only one that its role owns.
    async fn database(&self, caller: Caller<'_>) -> Result<String> {
        let names = self.databases(caller).await?;
        match names.as_slice() {
            [name] => Ok(name.clone()),
            [] => Err(Problem::new(
                Kind::Missing,
                "no_database_named",
                format!("the Odoo in {} has no database yet", self.odoo.name),
                "name the one to make: --database NAME",
            )),
            names => Err(Problem::new(
                Kind::Invalid,
                "which_database",
                format!("the Odoo in {} has several databases: {}", self.odoo.name, names.join(", ")),
                "say which: --database NAME",
            )),
        }
    }

    /// The one database that Odoo is pinned to, or all that its role owns.
    ///
    /// # Errors
    /// Those of asking the server.
    pub async fn databases(&self, caller: Caller<'_>) -> Result<Vec<String>> {
        if let [name] = self.odoo.conf.db_name.as_slice() {
            return Ok(vec![name.clone()]);
        }
        let order = Order::Databases { target: self.target.clone() };
        let names = self.order(order, caller.quietly()).await.map_err(|failure| failure.problem)?;
        Ok(serde_json::from_value(names).unwrap_or_default())
    }

    /// Stops Odoo and what holds sessions or files, for a restore that makes room first.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn stop(&self, caller: Caller<'_>) -> Result<()> {
        // What is noted is started again; a carrier never is.
        let own = (!self.odoo.carrier).then(|| self.odoo.id.clone());
        let mut all: Vec<String> = own.into_iter().collect();
        all.extend(self.holders(caller).await?.into_iter().map(|holder| holder.id));
        // Before: one that does not stop may leave others stopped, and whoever stopped them may be lost.
        let note = Order::NoteStopped { target: self.target.clone(), containers: all.clone() };
        self.order(note, caller.quietly()).await.map_err(|failure| failure.problem)?;
        service::stop(&self.docker, &all, Duration::from_secs(30)).await
    }

    /// Containers that were stopped to make room, by whomever, and not started since.
    ///
    /// # Errors
    /// Those of the order.
    pub async fn stopped(&self, caller: Caller<'_>) -> Result<Vec<String>> {
        let order = Order::Stopped { target: self.target.clone() };
        let stopped = self.order(order, caller.quietly()).await.map_err(|failure| failure.problem)?;
        Ok(serde_json::from_value(stopped).unwrap_or_default())
    }

    /// Starts them again.
    ///
    /// # Errors
    /// Those of the engine and of the orders.
    pub async fn start_again(&self, caller: Caller<'_>) -> Result<()> {
        let stopped = service::still_there(&self.docker, self.stopped(caller).await?).await?;
        service::start(&self.docker, &stopped).await?;
        let order = Order::ForgetStopped { target: self.target.clone() };
        self.order(order, caller.quietly()).await.map(drop).map_err(|failure| failure.problem)
    }

    /// Tasks that have containers or networks on this Odoo. Those of restores that died are found among
    /// them by the target's records; see [`DockerPlace::remove_of`].
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn tasks(&self) -> Result<BTreeSet<String>> {
        let mut tasks = BTreeSet::new();
        for found in cleanup::list(&self.docker, None).await? {
            if found.labels.target.as_ref() == Some(&self.odoo.name) {
                tasks.insert(found.labels.task);
            }
        }
        Ok(tasks)
    }

    /// Removes what a restore that is no more has left; a cutover that is under way stays. Answers whether
    /// there was anything.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove_of(&self, task: &str) -> Result<bool> {
        cleanup::remove(&self.docker, task, u64::MAX).await.map(|removed| !removed.is_empty())
    }

    /// Removes movers on this Odoo that ended a while ago: their commands died before they could.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove_ended(&self) -> Result<()> {
        cleanup::remove_ended_movers(&self.docker, &self.odoo.name, FORGOTTEN_MOVER).await
    }

    /// Removes volumes with the binaries of other versions that nobody has used for an hour.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove_old_binaries(&self) -> Result<()> {
        binary::remove_unused(&self.docker, &self.binary, UNUSED_BINARY).await.map(|_| ())
    }

    fn labels(&self, task: &str) -> Labels {
        Labels::new(task, 1).on_target(&self.odoo.name)
    }

    fn spec(&self, task: &str, arguments: &[&str]) -> MoverSpec {
        let mut spec = MoverSpec::new(&self.image, arguments, self.labels(task));
        spec.networks = self.odoo.networks.iter().map(|network| network.name.clone()).collect();
        spec.volumes_from = Some(self.odoo.id.clone());
        spec.memory_limit = Some(MOVER_MEMORY);
        spec
    }

    /// This machine's address as the environment's containers see it.
    fn gateway(&self) -> Option<IpAddr> {
        // An Odoo that was never started has no address of its own; its database has one in the same network.
        let database = self.odoo.database_container.iter().flat_map(|database| &database.networks);
        self.odoo.networks.iter().chain(database).find_map(|network| network.gateway)
    }

    fn proof_run(&self, work: &Assignment, database: String, network: String) -> Result<OdooRun<'_>> {
        let user = pair::loader_role(&work.id);
        Ok(OdooRun {
            like: &self.odoo,
            database,
            db_host: if self.odoo.database_container.is_some() {
                DATABASE_ALIAS.to_owned()
            } else {
                self.target.admin.host.clone()
            },
            db_port: self.target.admin.port,
            db_user: user,
            db_password: work.loader_password.clone(),
            data_dir_on_host: self.on_host(&Home::of(&self.target.filestore_root).proof(&work.id))?,
            network,
            labels: self.labels(&work.id.to_string()),
            memory_limit: None,
        })
    }

    fn on_host(&self, inside: &Path) -> Result<PathBuf> {
        self.odoo.host_path(&inside.display().to_string()).ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "filestore_not_mounted",
                format!(
                    "{} is not in a volume: the files of {} die with it",
                    inside.display(),
                    self.odoo.name
                ),
                "mount a volume at Odoo's data directory",
            )
        })
    }

    /// Neutralizes the staged database by Odoo's own command.
    ///
    /// # Errors
    /// `NotProven` with the end of Odoo's log.
    pub async fn neutralize(&self, work: &Assignment, caller: Caller<'_>) -> Result<()> {
        let network = self.network_for_proof(&work.id).await?;
        let staged = pair::parked_database(&work.id, Side::Restored);
        let run = self.proof_run(work, staged, network.name().to_owned())?;
        let cancel = CancellationToken::new();
        let end = {
            let once = run.once(&self.docker, &["neutralize"], NEUTRALIZE_PATIENCE, &cancel);
            let mut once = std::pin::pin!(once);
            tokio::select! {
                end = &mut once => end,
                () = caller.stop.asked() => {
                    cancel.cancel();
                    once.await
                }
            }
        };
        network.remove().await?;
        let end = end?;
        if end.exit_code == 0 {
            return Ok(());
        }
        Err(Problem::new(
            Kind::NotProven,
            "neutralize_failed",
            format!("Odoo's neutralize ended with {}: {}", end.exit_code, end.last_lines()),
            "the live system is untouched; see that the target's addons fit the backup",
        ))
    }

    async fn network_for_proof(&self, id: &RestoreId) -> Result<undoo_hosts::odoo::ProofNetwork> {
        let database = self.odoo.database_container.as_ref().ok_or_else(|| {
            Problem::new(
                Kind::NotProven,
                "database_outside",
                "the database server is no container of this Docker Engine, so no network without a way \
                 out can hold it and the proof",
                "go without the proof (--no-boot)",
            )
        })?;
        proof_network(&self.docker, &self.labels(&id.to_string()), &database.id).await
    }

    /// Boots Odoo on the clone and asks it for its login page.
    ///
    /// # Errors
    /// `NotProven` with the end of Odoo's log.
    pub async fn prove(&self, work: &Assignment, caller: Caller<'_>) -> Result<Answered, Failure> {
        // Of the first press, too, that somebody else hears while the network is made.
        let interrupt = caller.stop.asked();
        let network = self.network_for_proof(&work.id).await?;
        let clone = pair::proof_database(&work.id);
        let run = self.proof_run(work, clone.clone(), network.name().to_owned())?;
        let booted = run.boot(&self.docker).await?;
        let mut spec = self.spec(&work.id.to_string(), &["mover"]);
        spec.networks = vec![network.name().to_owned()];
        spec.volumes_from = None;
        let order = Order::Probe {
            base: format!("http://{}:{HTTP_PORT}", booted.name()),
            database: clone,
            patience: Patience { attempts: 90, interval_ms: 2000 },
        };
        let mut hopeless = None;
        let stop = async {
            tokio::select! {
                problem = gives_up(&booted) => hopeless = Some(problem),
                () = interrupt => {}
            }
        };
        let probed = self.order_to(&spec, &order, caller.audience, stop).await;
        // Why Odoo gave up says more than that its page did not come.
        let outcome = match hopeless {
            Some(problem) => Err(problem.into()),
            None => probed,
        };
        let log = if outcome.is_err() { booted.log_tail().await.ok() } else { None };
        booted.remove().await?;
        network.remove().await?;
        let value = outcome.map_err(|mut failure| {
            if let Some(log) = log {
                failure.problem.message = format!("{}\n{}", failure.problem.message, last_lines(&log));
            }
            failure
        })?;
        serde_json::from_value(value).map_err(|error| {
            Problem::new(Kind::Internal, "answer", "the proof's answer cannot be read", "please report this")
                .caused_by(error)
                .into()
        })
    }

    /// Containers besides Odoo's own that hold sessions on the database or the filestore: they are
    /// stopped for the cutover and started again after it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn holders(&self, caller: Caller<'_>) -> Result<Vec<Holder>> {
        let order = Order::Sessions { target: self.target.clone() };
        let sessions = self.order(order, caller.quietly()).await.map_err(|failure| failure.problem)?;
        let addresses: Vec<IpAddr> = serde_json::from_value(sessions).unwrap_or_default();
        let mut found = service::containers_holding_filestore(&self.docker, &self.odoo).await?;
        found.extend(service::containers_by_ip(&self.docker, &addresses).await?.into_values());
        let database = self.odoo.database_container.as_ref().map(|container| container.id.as_str());
        found.retain(|holder| {
            holder.running && holder.id != self.odoo.id && Some(holder.id.as_str()) != database
        });
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }
}

/// The Odoo that `name` says, `docker:CONTAINER` or `compose:PROJECT`, by looking.
///
/// # Errors
/// When there is none.
pub async fn odoo_named(docker: &Docker, name: &str) -> Result<OdooContainer> {
    match name.split_once(':') {
        Some(("docker", container)) => target::inspect_odoo(docker, container).await,
        Some(("compose", project)) => target::compose_project(docker, project).await,
        _ => Err(Problem::new(
            Kind::Invalid,
            "target",
            format!("\"{name}\" names no target"),
            "write docker:CONTAINER or compose:PROJECT, or use --database-url with --filestore",
        )),
    }
}

/// Ends when a booting Odoo will not answer any more, so that nobody waits for the page of an Odoo that
/// has said it cannot load its database.
async fn gives_up(booted: &BootedOdoo) -> Problem {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (code, what) = match (booted.address().await, booted.log_tail().await) {
            (Ok(None), _) => ("odoo_ended", "Odoo ended instead of booting on the restored database"),
            // odoo/service/server.py, preload_registries, in every version from 8 on.
            (_, Ok(log)) if log.contains("Failed to initialize database") => {
                ("odoo_cannot_load", "Odoo cannot load the restored database")
            }
            (_, Ok(log)) if failed_pages(&log) >= HOPELESS_PAGES => {
                ("odoo_page_fails", "Odoo fails to make its login page on the restored database")
            }
            _ => continue,
        };
        return Problem::new(
            Kind::NotProven,
            code,
            what,
            "the live system is untouched; see that the target's Odoo and addons fit the backup",
        );
    }
}

/// How often a log says that the login page ended in a server error.
fn failed_pages(log: &str) -> usize {
    log.lines().filter(|line| line.contains("\"GET /web/login") && line.contains("\" 500 ")).count()
}

/// The processors of another machine, if it can run this program.
///
/// # Errors
/// `server_architecture`.
pub fn fitting(server: &str, machine: Machine) -> Result<usize> {
    let own = std::env::consts::ARCH;
    if machine.architecture == own {
        return Ok(machine.processors);
    }
    Err(Problem::new(
        Kind::Invalid,
        "server_architecture",
        format!("the processors of {server} are {}, and this program is for {own}", machine.architecture),
        format!("run the undoo for {} on a machine of its kind", machine.architecture),
    ))
}

fn describe(name: &str, docker: &Docker, odoo: &OdooContainer) -> Result<Target> {
    let missing = |what: &str| {
        Problem::new(
            Kind::Missing,
            "odoo_conf",
            format!(
                "{what} of the Odoo in {} was not found in its command, environment or odoo.conf",
                odoo.name
            ),
            "set it there, or use --database-url with --filestore",
        )
    };
    let conf = &odoo.conf;
    let host = conf.db_host.clone().ok_or_else(|| missing("the database host"))?;
    let owner = conf.db_user.clone().ok_or_else(|| missing("the database user"))?;
    let own_password = conf.db_password.clone().unwrap_or_else(|| SecretString::from(String::new()));
    // The server's own administrator, where the container tells; Odoo's role otherwise.
    let administrator = odoo
        .database_container
        .as_ref()
        .and_then(|container| Some((container.admin_user.clone(), container.admin_password.clone()?)));
    let (user, password) = administrator.unwrap_or_else(|| (owner.clone(), own_password));
    Ok(Target {
        admin: DatabaseAccess {
            host,
            port: conf.db_port,
            user,
            password,
            tls: Tls::new(&conf.db_sslmode, odoo.database_authorities.clone())?,
        },
        owner,
        owner_assumed: false,
        database: String::new(),
        filestore_root: odoo.filestore_root.clone().into(),
        files_owner: odoo.owner.map(|owner| (owner.uid, owner.gid)),
        shares_disk: odoo.shares_disk_with_database(docker),
        database_disks: movers::database_disks(odoo).into_iter().map(|bind| bind.target.into()).collect(),
        database_pinned: !conf.db_name.is_empty(),
        name: name.to_owned(),
        odoo_major: odoo.odoo_major(),
    })
}

/// An order as it goes into a container.
fn written(order: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(order).map_err(|error| {
        Problem::new(Kind::Internal, "order", "an order could not be written", "please report this")
            .caused_by(error)
    })
}

/// The storage of a backup as it is named on the command line.
///
/// # Errors
/// Those of the address.
pub fn storage(backup: &str) -> Result<StorageConfig> {
    Ok(undoo_storage::Location::parse(backup)?.with_environment()?.into())
}
