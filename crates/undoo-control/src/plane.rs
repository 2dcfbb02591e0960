//! The data plane as the control plane asks for it: the one door to Docker, databases and files.
//!
//! What stands behind it is decided where the program is put together. Nothing here knows how a restore is
//! carried out; what is decided here, nothing behind the door decides again.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use undoo_core::{
    BackupId, Finding, RestoreId, Result, Side, Signer,
    platform::{AddonsSource, Deployment},
};
use undoo_engine::{
    order::{Answer, Audience, Failure, Intent, Options},
    orders::{Listed, UndoPlan},
    outgoing::HeldOutgoing,
    record::Record,
    source::BackupOrder,
};
use undoo_storage::StorageConfig;
pub use undoo_storage::{HostKey, SshAccess};

/// How a server's Docker Engine is reached. Never written down: an `SshAccess` has secrets in it.
#[derive(Debug, Clone)]
pub enum ServerAccess {
    /// It is the machine that the worker runs on.
    Here,
    /// By SSH.
    Ssh(SshAccess),
}

/// A server that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Version of its Docker Engine.
    pub docker_version: String,
    /// Its cores.
    pub cpu_cores: i32,
    /// Its memory, in GiB.
    pub memory_gb: i32,
    /// The disk that its engine keeps everything on, in GiB; `None` where that cannot be seen.
    pub disk_gb: Option<i32>,
    /// What of it is free, in GiB.
    pub free_disk_gb: Option<i32>,
    /// Ports of it that containers have taken, in their order.
    pub ports_taken: Vec<u16>,
}

/// Where an Odoo is.
#[derive(Debug, Clone)]
pub struct Location {
    /// The server that it is on.
    pub server: ServerAccess,
    /// The Odoo, as the command line names a target: `docker:CONTAINER`.
    pub target: String,
    /// Its database; `None` to find it, where there is but one.
    pub database: Option<String>,
}

/// An Odoo that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOdoo {
    /// Its container's name.
    pub container: String,
    /// Its image.
    pub image: String,
    /// Its databases: the one that it is pinned to, or all that its role owns.
    pub databases: Vec<String>,
    /// Its version, such as `19.0`.
    pub odoo_version: Option<String>,
    /// Version of its PostgreSQL.
    pub postgres_version: Option<String>,
    /// The container of its PostgreSQL, where that is on the same Docker Engine.
    pub database_container: Option<String>,
    /// Where its files are, inside its container.
    pub filestore: String,
    /// Whether it runs.
    pub running: bool,
}

/// A part of the work on an environment that the platform makes itself. Each looks first, and may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployStep {
    /// Everything but the Odoo that can be reached: in its place stands a container that carries the restore.
    /// PostgreSQL's settings are fast, and a crash of its server costs all that is in it.
    Infrastructure,
    /// PostgreSQL starts anew, with settings that survive a crash.
    MakeDurable,
    /// The Odoo that can be reached takes the carrier's place, and answers.
    Release,
    /// Both containers are made anew; the data stays.
    Redeploy,
    /// PostgreSQL and Odoo are started.
    Start,
    /// Odoo and PostgreSQL are stopped.
    Stop,
    /// Everything goes, data too. What is not there is gone already.
    Destroy,
}

/// Who listens to a piece of work, and how it is called off.
#[derive(Clone)]
pub struct Watch {
    /// Told of phases and progress.
    pub audience: Arc<dyn Audience>,
    /// Cancelled when the work is to end; it then takes back what it did and answers `cancelled`.
    pub stop: CancellationToken,
}

impl Watch {
    /// Nobody listens, and nothing calls the work off.
    pub(crate) fn silent() -> Self {
        Self { audience: Arc::new(|_: Answer| {}), stop: CancellationToken::new() }
    }
}

/// A restore, as the data plane needs to know it.
#[derive(Clone)]
pub struct RestoreJob {
    /// The restore point's id.
    pub id: RestoreId,
    /// Where it goes.
    pub at: Location,
    /// The backup, with what it takes to read it.
    pub backup: BackupOrder,
    /// The backup, as records and reports name it.
    pub backup_name: String,
    /// What was asked for; `None` to tell by the identities of the two databases.
    pub intent: Option<Intent>,
    /// Whether a copy is neutralized.
    pub neutralize: bool,
    /// Whether mails and crons that are due are held; `None` for what fits the intent.
    pub hold_outgoing: Option<bool>,
    /// Whether an unhealthy Odoo makes the cutover swap back.
    pub auto_rollback: bool,
    /// Parts, strategy, accepted findings, trusted keys, undo window, sessions.
    pub options: Options,
    /// Signs the report.
    pub signer: Arc<Signer>,
}

/// A restore that is staged and proven, and waits for its cutover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StagedRestore {
    /// What it is taken for.
    pub intent: Intent,
    /// Whether it was neutralized.
    pub neutralized: bool,
    /// What it will hold.
    pub held: HeldOutgoing,
    /// Everything found, accepted or harmless.
    pub findings: Vec<Finding>,
    /// How long Odoo took to boot for the proof, in milliseconds.
    pub booted_ms: Option<u64>,
    /// The report, as far as it goes.
    pub report: Value,
}

/// A restore that went live, or was swapped back on purpose.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CutOver {
    /// Its record.
    pub record: Record,
    /// The signed report.
    pub report: Option<Value>,
}

/// A backup, as the data plane needs to know it.
#[derive(Clone)]
pub struct BackupJob {
    /// The backup's id.
    pub id: BackupId,
    /// When it was begun; a second attempt has the same.
    pub created_at: Timestamp,
    /// What is backed up.
    pub at: Location,
    /// The restore whose kept pair is backed up; `None` for the live one.
    pub kept: Option<RestoreId>,
    /// Where it goes.
    pub storage: StorageConfig,
    /// What it becomes there.
    pub key: String,
    /// Whether the files are left out.
    pub database_only: bool,
    /// Whose it is, as its manifest says.
    pub organisation: String,
    /// The environment, as its manifest says.
    pub environment: String,
    /// Signs the manifest.
    pub signer: Arc<Signer>,
}

/// A backup that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MadeBackup {
    /// Bytes of the object.
    pub size_bytes: i64,
    /// Bytes of the dump in it.
    pub database_size_bytes: i64,
    /// Bytes of the files in it; `None` where they were left out.
    pub filestore_size_bytes: Option<i64>,
    /// Whether it was read back and is what was written.
    pub verified: bool,
    /// The environment as its manifest describes it.
    pub environment_snapshot: Value,
}

/// What was fetched of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchedAddons {
    /// Its address.
    pub url: String,
    /// The commit.
    pub commit: String,
    /// Names of the modules that were put.
    pub modules: Vec<String>,
}

/// The data plane. Every call may be repeated after a crash of whoever made it: what an earlier one left is
/// found, and taken further or back.
#[async_trait]
pub trait Plane: Send + Sync {
    /// Looks at a server. One whose host key nobody has confirmed is told nothing and not logged in to: the
    /// problem is then `host_key_unknown`, and [`undoo_storage::host_key_in`] finds the key in it.
    async fn look(&self, server: &ServerAccess) -> Result<ServerFacts>;

    /// Does a part of the work on an environment that the platform makes itself. If `Infrastructure` fails, nothing
    /// of what it made is left.
    async fn deploy(
        &self,
        server: &ServerAccess,
        deployment: &Deployment,
        step: DeployStep,
        watch: &Watch,
    ) -> Result<(), Failure>;

    /// Puts custom modules into an environment whose infrastructure is there, and the Python packages that they ask
    /// for: those of git repositories, and of a job's backup what these do not have. Answers what was fetched.
    async fn put_modules(
        &self,
        job: &RestoreJob,
        deployment: &Deployment,
        sources: &[AddonsSource],
        watch: &Watch,
    ) -> Result<Vec<FetchedAddons>, Failure>;

    /// Odoo containers there are on a server.
    async fn discover(&self, server: &ServerAccess) -> Result<Vec<FoundOdoo>>;

    /// Looks at one. A database that is named is taken at its word: it may still have to be made.
    async fn inspect(&self, at: &Location) -> Result<FoundOdoo>;

    /// What a restore would do; touches nothing. The answer is the engine's plan, with every finding.
    async fn plan(&self, job: &RestoreJob, watch: &Watch) -> Result<undoo_engine::restore::Plan, Failure>;

    /// Stages, prepares and proves. Until [`Plane::cut_over`] or [`Plane::discard`] the target's lock is held.
    /// A pair that an earlier attempt of the same restore left is discarded first.
    async fn stage(&self, job: &RestoreJob, watch: &Watch) -> Result<StagedRestore, Failure>;

    /// Swaps the staged pair in. Cannot be called off once it has begun.
    async fn cut_over(
        &self,
        job: &RestoreJob,
        staged: &StagedRestore,
        watch: &Watch,
    ) -> Result<CutOver, Failure>;

    /// What the target says of a restore; `None` if it knows nothing of it. A cutover of it that is under way is
    /// waited for.
    async fn standing(&self, at: &Location, id: RestoreId) -> Result<Option<Listed>>;

    /// Takes a staged pair back, and whatever else is left of a restore that is not live.
    async fn discard(&self, at: &Location, id: RestoreId) -> Result<()>;

    /// What swapping the newest restore's pairs would do: which side goes live, what was written since.
    async fn undo_plan(&self, at: &Location) -> Result<UndoPlan, Failure>;

    /// Makes a side of a restore live; also finishes a cutover that broke off.
    async fn swap(
        &self,
        at: &Location,
        id: RestoreId,
        to: Side,
        signer: &Signer,
        watch: &Watch,
    ) -> Result<CutOver, Failure>;

    /// Lets held mails and crons of the newest restore go. Answers what was let go.
    async fn release(&self, at: &Location) -> Result<Value>;

    /// Removes the kept pair of a restore.
    async fn purge(&self, at: &Location, id: RestoreId) -> Result<()>;

    /// Makes a backup. What an earlier attempt at the same one left is taken back first.
    async fn back_up(&self, job: &BackupJob, watch: &Watch) -> Result<MadeBackup, Failure>;
}
