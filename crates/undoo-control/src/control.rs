//! The one thing that use cases are methods of, who calls them, and the one place that asks whether they may.

use std::{fmt::Display, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use undoo_core::{
    Kind, OrganisationId, Problem, Result, TokenId, UserId,
    platform::{Decision, Grants, NewEvent, Permission, Scope, User, deployment, images},
};
use undoo_store::{Store, Tx, audit::NewAudit};

use crate::{backups::MOST_PARTS, plane::Plane, secrets::Sealer, throttle::Throttle};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What is set for the whole platform.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long somebody stays signed in, in hours.
    pub session_hours: u32,
    /// How long a one-time link holds, in hours.
    pub link_hours: u32,
    /// The folder of the storage that every organisation begins with.
    pub local_storage: PathBuf,
    /// Restores and backups that may run on a new server side by side.
    pub server_task_limit: i32,
    /// How often a worker may take a task.
    pub task_attempts: i32,
    /// How long the answer to a cancellation waits for the worker's.
    pub cancel_wait: Duration,
    /// Connections that load a database.
    pub restore_jobs: usize,
    /// `maintenance_work_mem` of each, in MiB.
    pub restore_maintenance_mib: u32,
    /// How long events are kept, in days.
    pub event_days: u32,
    /// Servers that everybody may have a storage on, although they lead back to this machine.
    pub storage_hosts: Vec<String>,
    /// What names on servers begin with, of what is deployed from now on.
    pub deploy_prefix: String,
    /// The network of servers that Traefik is in.
    pub deploy_network: String,
    /// PostgreSQL's image for new environments; `{major}` stands for the major version of the backup's.
    pub postgres_image: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_hours: 12,
            link_hours: 72,
            local_storage: "/var/lib/undoo/backups".into(),
            server_task_limit: 2,
            task_attempts: 3,
            cancel_wait: Duration::from_secs(5),
            restore_jobs: 2,
            restore_maintenance_mib: 256,
            event_days: 30,
            storage_hosts: Vec::new(),
            deploy_prefix: deployment::PREFIX.into(),
            deploy_network: deployment::PUBLIC_NETWORK.into(),
            postgres_image: images::POSTGRES.into(),
        }
    }
}

/// How a caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Signed in.
    Session,
    /// With a bearer token.
    Token(TokenId),
}

/// Somebody who asks for something.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub user: User,
    /// What they may do.
    pub grants: Grants,
    /// The request that this is about, for logs.
    pub request_id: String,
    /// How they came in.
    pub via: Via,
}

/// A request that is carried out once however often it comes: `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key that the caller chose.
    pub key: String,
    /// Hash of what was asked for: the same key with something else is refused.
    pub request_hash: [u8; 32],
}

/// The platform. Clones are the same one.
#[derive(Clone)]
pub struct Control {
    pub(crate) store: Store,
    pub(crate) plane: Arc<dyn Plane>,
    pub(crate) sealer: Sealer,
    pub(crate) settings: Arc<Settings>,
    pub(crate) throttle: Arc<Throttle>,
    /// Turns for handing out parts of backups.
    pub(crate) parts: Arc<Semaphore>,
    clock: Clock,
}

/// The name of something that may not be there, or not for the caller: both sound the same.
pub(crate) struct Named<I>(pub &'static str, pub I);

impl<I: Display> Named<I> {
    /// The problem of what is not there, for this caller.
    pub(crate) fn missing(&self) -> Problem {
        Problem::new(
            Kind::Missing,
            "not_found",
            format!("there is no {} {}", self.0, self.1),
            "Check the id; what belongs to another organisation cannot be seen.",
        )
    }
}

impl Control {
    /// Puts the platform together.
    pub fn new(store: Store, plane: Arc<dyn Plane>, sealer: Sealer, settings: Settings) -> Self {
        Self::with_clock(store, plane, sealer, settings, Arc::new(Timestamp::now))
    }

    /// The same with another clock.
    pub fn with_clock(
        store: Store,
        plane: Arc<dyn Plane>,
        sealer: Sealer,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let parts = Arc::new(Semaphore::new(MOST_PARTS));
        Self { store, plane, sealer, settings: Arc::new(settings), throttle: Arc::default(), parts, clock }
    }

    /// Where its state is.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        // Databases keep microseconds: what is answered is what will be read.
        let now = (self.clock)();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Whether the caller may do something, to something that is there. The one place that asks.
    ///
    /// # Errors
    /// `not_found` (`Missing`) where it is another organisation's; `missing_permission` (`Denied`).
    pub(crate) fn allow<I: Display>(
        &self,
        caller: &Caller,
        permission: Permission,
        scope: Scope,
        what: &Named<I>,
    ) -> Result<()> {
        match caller.grants.decide(permission, scope) {
            Decision::Granted => Ok(()),
            Decision::Unseen => Err(what.missing()),
            Decision::Denied(permission) => Err(Problem::new(
                Kind::Denied,
                "missing_permission",
                format!("this takes the permission {permission} on {} {}", what.0, what.1),
                "Ask an administrator of the organisation for a role that has it.",
            )),
        }
    }

    /// Refuses a token whose scopes leave out what a list shows.
    ///
    /// # Errors
    /// `missing_permission` (`Denied`).
    pub(crate) fn in_scope(&self, caller: &Caller, permission: Permission) -> Result<()> {
        if caller.grants.in_scope(permission) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Denied,
            "missing_permission",
            format!("the token's scopes leave out {permission}, which this list shows"),
            "Use a token that has it.",
        ))
    }

    /// Notes for ever who did what, in the transaction that does it.
    pub(crate) async fn note(
        &self,
        tx: &Tx,
        by: Option<&Caller>,
        organisation_id: OrganisationId,
        action: &str,
        object: impl Display,
        data: Value,
    ) -> Result<()> {
        self.note_of(tx, by.map(|caller| caller.user.id), organisation_id, action, object, data).await
    }

    /// The same for somebody who was not signed in.
    pub(crate) async fn note_of(
        &self,
        tx: &Tx,
        actor: Option<UserId>,
        organisation_id: OrganisationId,
        action: &str,
        object: impl Display,
        data: Value,
    ) -> Result<()> {
        let entry =
            NewAudit { organisation_id, actor, action: action.to_owned(), object: object.to_string(), data };
        undoo_store::audit::append(tx, &entry).await?;
        Ok(())
    }

    /// Tells an organisation's followers, in the transaction of what it is about.
    pub(crate) async fn tell(&self, tx: &Tx, event: NewEvent) -> Result<()> {
        undoo_store::events::append(tx, &event).await?;
        Ok(())
    }
}

/// A problem of what was asked for.
pub(crate) fn invalid(code: &'static str, message: impl Into<String>, remedy: &str) -> Problem {
    Problem::new(Kind::Invalid, code, message, remedy)
}

/// A name as somebody gave it: without space around it, and neither empty nor endless.
pub(crate) fn name_of(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        let message = "a name has 1 to 200 characters, and no control characters";
        return Err(invalid("name_invalid", message, "Choose another name."));
    }
    Ok(name.to_owned())
}
