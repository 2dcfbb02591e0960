//! A target in Docker: orders run in mover containers, the proof in a throw-away Odoo, the cutover in a
//! detached agent.

use std::{
    collections::BTreeSet,
    future::Future,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem, RestoreId, Result, Side, pair};
use undoo_engine::{
    health::{Answered, Patience},
    home::Home,
    order::{Answer, Audience, Failure, Target},
    orders::Order,
    pg::{DatabaseAccess, Tls},
    record::Record,
    restore::Assignment,
};
use undoo_hosts::{
    Docker, DockerEndpoint, Labels, agent as agents, binary, cleanup,
    mover::{self, Bind, ContainerEnd, MoverSpec},
    odoo::{BootedOdoo, DATABASE_ALIAS, HTTP_PORT, OdooRun, proof_network},
    service::{self, Holder},
    target::{self, OdooContainer},
};
use undoo_storage::{Access, StorageOrder};

use crate::{
    agent::{AgentEnd, AgentOrder},
    cli::TargetArgs,
    place::Cutover,
    relay::Relay,
    ui::Ui,
};

/// Memory that a mover may use. It needs far less; the page cache of what it writes counts too.
const MOVER_MEMORY: u64 = 512 << 20;
/// Where a backup of this machine stands inside a mover.
const BACKUP_INSIDE: &str = "/undoo-backup";
/// A login page that failed so often, while it was asked for several times a second, stays so.
const HOPELESS_PAGES: usize = 12;
/// Age from which a binary of another version is taken for forgotten.
const UNUSED_BINARY: Duration = Duration::from_secs(3600);
/// How long Odoo's own neutralize may take.
const NEUTRALIZE_PATIENCE: Duration = Duration::from_secs(600);

/// An Odoo container, its database and its files.
pub struct DockerPlace {
    docker: Docker,
    odoo: OdooContainer,
    target: Target,
    binary: String,
    image: String,
}

impl DockerPlace {
    /// Adopts the Odoo that `name` says: `docker:CONTAINER` or `compose:PROJECT`.
    ///
    /// # Errors
    /// When there is none, or what a restore needs of it cannot be found.
    pub async fn find(name: &str, args: &TargetArgs) -> Result<Self> {
        let docker = Docker::connect(DockerEndpoint::Local).await?;
        let odoo = match name.split_once(':') {
            Some(("docker", container)) => target::inspect_odoo(&docker, container).await?,
            Some(("compose", project)) => target::compose_project(&docker, project).await?,
            _ => {
                return Err(Problem::new(
                    Kind::Invalid,
                    "target",
                    format!("\"{name}\" names no target"),
                    "write docker:CONTAINER or compose:PROJECT, or use --database-url with --filestore",
                ));
            }
        };
        let image =
            odoo.database_container.as_ref().map_or_else(|| odoo.image_id.clone(), |db| db.image_id.clone());
        let program = std::env::current_exe().map_err(|error| {
            Problem::new(Kind::Internal, "no_program", "the running program cannot be found", "")
                .caused_by(error)
        })?;
        let binary = binary::ensure_binary(&docker, &program, &image).await?;
        let target = describe(name, &odoo)?;
        let mut place = Self { docker, odoo, target, binary, image };
        place.target.database = place.database(args).await?;
        Ok(place)
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The database that is meant: the one named, Odoo's only one, or the only one that its role owns.
    async fn database(&self, args: &TargetArgs) -> Result<String> {
        if let Some(name) = &args.database {
            return Ok(name.clone());
        }
        if let [name] = self.odoo.conf.db_name.as_slice() {
            return Ok(name.clone());
        }
        let order = Order::Databases { target: self.target.clone() };
        let value = self.order(order, &Ui::quiet()).await.map_err(|failure| failure.problem)?;
        let names: Vec<String> = serde_json::from_value(value).unwrap_or_default();
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

    /// Stops Odoo and what holds sessions or files, for a restore that makes room first.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn stop(&self) -> Result<()> {
        let mut all = vec![self.odoo.id.clone()];
        all.extend(self.holders().await?.into_iter().map(|holder| holder.id));
        service::stop(&self.docker, &all, Duration::from_secs(30)).await
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

    /// Removes what a restore that is no more has left; a cutover that is under way stays.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove_of(&self, task: &str) -> Result<()> {
        cleanup::remove(&self.docker, task, u64::MAX).await.map(|_| ())
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

    /// Has an order carried out in a mover.
    ///
    /// # Errors
    /// Those of the order, and of the engine.
    pub async fn order(&self, order: Order, ui: &Ui) -> Result<Value, Failure> {
        let mut spec = self.spec(&task_of(&order), &["mover"]);
        let (order, _relay) = self.bring_backup(order, &mut spec).await?;
        self.run(&spec, &order, ui).await
    }

    async fn run(&self, spec: &MoverSpec, order: &Order, ui: &Ui) -> Result<Value, Failure> {
        self.run_until(spec, order, ui, std::future::pending()).await
    }

    /// Runs a mover; it is asked to end when `enough` is ready, or the person interrupts.
    async fn run_until(
        &self,
        spec: &MoverSpec,
        order: &Order,
        ui: &Ui,
        enough: impl Future<Output = ()>,
    ) -> Result<Value, Failure> {
        let bytes = written(order)?;
        let cancel = CancellationToken::new();
        let mut outcome = None;
        let listen = |line: &str| match serde_json::from_str::<Answer>(line) {
            Ok(answer @ (Answer::Done { .. } | Answer::Failed { .. })) => outcome = answer.outcome(),
            Ok(answer) => ui.tell(answer),
            Err(_) => tracing::warn!(line, "a mover said something that is no answer"),
        };
        let end = {
            let mut mover =
                std::pin::pin!(mover::run(&self.docker, spec, &self.binary, &bytes, listen, &cancel));
            tokio::select! {
                end = &mut mover => end,
                () = async { tokio::select! { () = enough => {}, () = interrupted() => {} } } => {
                    cancel.cancel();
                    mover.await
                }
            }
        };
        let end = end?;
        outcome.unwrap_or_else(|| Err(died(&end).into()))
    }

    /// Makes a backup that lies on this machine reachable from inside a mover.
    async fn bring_backup(&self, mut order: Order, spec: &mut MoverSpec) -> Result<(Order, Option<Relay>)> {
        let (Order::Plan { backup, .. } | Order::Stage { backup, .. } | Order::AddFiles { backup, .. }) =
            &mut order
        else {
            return Ok((order, None));
        };
        if let Access::Local { path } = &mut backup.0 {
            let source = std::fs::canonicalize(&*path).map_err(|error| missing_backup(path, error))?;
            let inside = Path::new(BACKUP_INSIDE).join(source.file_name().unwrap_or_default());
            spec.binds.push(Bind {
                source: source.display().to_string(),
                target: inside.display().to_string(),
                read_only: true,
            });
            *path = inside;
            return Ok((order, None));
        }
        let relay = Relay::for_access(&mut backup.0, self.gateway()).await?;
        Ok((order, relay))
    }

    /// This machine's address as the environment's containers see it.
    fn gateway(&self) -> Option<IpAddr> {
        self.odoo.networks.iter().find_map(|network| network.gateway)
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
    pub async fn neutralize(&self, work: &Assignment) -> Result<()> {
        let network = self.network_for_proof(&work.id).await?;
        let staged = pair::parked_database(&work.id, Side::Restored);
        let run = self.proof_run(work, staged, network.name().to_owned())?;
        let end =
            run.once(&self.docker, &["neutralize"], NEUTRALIZE_PATIENCE, &CancellationToken::new()).await;
        network.remove().await?;
        let end = end?;
        if end.exit_code == 0 {
            return Ok(());
        }
        Err(Problem::new(
            Kind::NotProven,
            "neutralize_failed",
            format!("Odoo's neutralize ended with {}: {}", end.exit_code, last_lines(&end.output)),
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
    pub async fn prove(&self, work: &Assignment, ui: &Ui) -> Result<Answered, Failure> {
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
        let probed = self.run_until(&spec, &order, ui, async { hopeless = Some(gives_up(&booted).await) });
        let probed = probed.await;
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

    /// Cuts over in an agent, and follows it.
    ///
    /// # Errors
    /// Those of the cutover. When following breaks off, the agent goes on.
    pub async fn cut_over(&self, cutover: Cutover, ui: &Ui) -> Result<Record, Failure> {
        let order = AgentOrder {
            target: self.target.clone(),
            id: cutover.id,
            to: cutover.to,
            auto_rollback: cutover.auto_rollback,
            odoo: self.odoo.id.clone(),
            http_port: self.odoo.conf.http_port,
            holders: self.holders().await?.into_iter().map(|holder| holder.id).collect(),
            booted_ms: cutover.booted_ms,
        };
        let bytes = written(&order)?;
        for dead in agents::find_agents_on(&self.docker, &self.odoo.name).await? {
            if !dead.running {
                agents::remove(&self.docker, &dead.id).await?;
            }
        }
        let spec = self.spec(&cutover.id.to_string(), &["cutover-agent"]);
        let agent = agents::start(&self.docker, &spec, &self.binary, &bytes).await?;
        let mut outcome: Option<AgentEnd> = None;
        let listen = |line: &str| match serde_json::from_str::<Answer>(line) {
            Ok(answer @ (Answer::Done { .. } | Answer::Failed { .. })) => outcome = answer.outcome(),
            Ok(answer) => ui.tell(answer),
            Err(_) => tracing::warn!(line, "an agent said something that is no answer"),
        };
        let end = agents::follow(&self.docker, &agent.id, listen).await?;
        agents::remove(&self.docker, &agent.id).await?;
        let value = outcome.unwrap_or_else(|| Err(agent_died(&end, &self.target.name).into()))?;
        serde_json::from_value(value).map_err(|error| {
            Problem::new(Kind::Internal, "answer", "the agent's answer cannot be read", "please report this")
                .caused_by(error)
                .into()
        })
    }

    /// Containers besides Odoo's own that hold sessions on the database or the filestore: they are
    /// stopped for the cutover and started again after it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn holders(&self) -> Result<Vec<Holder>> {
        let order = Order::Sessions { target: self.target.clone() };
        let sessions = self.order(order, &Ui::quiet()).await.map_err(|failure| failure.problem)?;
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

/// Ends when the person interrupts.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
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

fn describe(name: &str, odoo: &OdooContainer) -> Result<Target> {
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
        shares_disk: odoo.shares_disk_with_database(),
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

fn task_of(order: &Order) -> String {
    match order {
        Order::Plan { work, .. }
        | Order::Stage { work, .. }
        | Order::AddFiles { work, .. }
        | Order::Prepare { work, .. }
        | Order::Accept { work } => work.id.to_string(),
        Order::Discard { id, .. } => id.to_string(),
        _ => "look".to_owned(),
    }
}

fn missing_backup(path: &Path, error: std::io::Error) -> Problem {
    Problem::new(
        Kind::Missing,
        "backup_missing",
        format!("there is no backup at {}", path.display()),
        "check the path",
    )
    .caused_by(error)
}

fn died(end: &ContainerEnd) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "mover_died",
        format!(
            "the mover ended with {} before its work was done: {}",
            end.exit_code,
            last_lines(&end.output)
        ),
        "the live system is untouched; run it again",
    )
}

fn agent_died(end: &ContainerEnd, target: &str) -> Problem {
    Problem::new(
        Kind::Stuck,
        "agent_died",
        format!(
            "the cutover ended with {} before it was complete: {}",
            end.exit_code,
            last_lines(&end.output)
        ),
        format!("run `undoo resume {target}` to finish it, or `undoo undo {target}` to go back"),
    )
}

/// The end of a log, for a message.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A storage order for a backup as it is named on the command line.
///
/// # Errors
/// Those of the address.
pub fn storage(backup: &str) -> Result<StorageOrder> {
    Ok(StorageOrder(undoo_storage::Location::parse(backup)?.with_environment()?))
}
