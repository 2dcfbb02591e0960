//! Environments that the platform has made itself: deployed again, started, stopped, and destroyed with all
//! that is in them. They are made around a restore: see `restores` and `work::deploy`.
//!
//! What was adopted is nobody's to stop or to remove here: `not_deployed`.

mod addons;
mod value;

use serde_json::json;
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{
        DeploymentRecord, DeploymentState, Environment, EnvironmentStatus, Permission, Task, TaskKind,
    },
};
use undoo_store::{Connection, Tx, deployments, environments, migrations, tasks};

pub use self::{addons::AddonsSeen, value::DeploymentWish};
use crate::{
    Caller, Control, Once,
    control::{Named, invalid},
    plane::{DeployStep, ServerAccess},
    tasks::About,
};

/// What is to be done with an environment that is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployAction {
    /// Make its containers anew; the data stays.
    Deploy,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Remove it with all its data.
    Destroy,
}

impl DeployAction {
    pub(crate) fn step(self) -> DeployStep {
        match self {
            Self::Deploy => DeployStep::Redeploy,
            Self::Start => DeployStep::Start,
            Self::Stop => DeployStep::Stop,
            Self::Destroy => DeployStep::Destroy,
        }
    }

    pub(crate) fn of(kind: TaskKind) -> Option<Self> {
        match kind {
            TaskKind::Deploy => Some(Self::Deploy),
            TaskKind::Start => Some(Self::Start),
            TaskKind::Stop => Some(Self::Stop),
            TaskKind::Destroy => Some(Self::Destroy),
            _ => None,
        }
    }

    fn kind(self) -> TaskKind {
        match self {
            Self::Deploy => TaskKind::Deploy,
            Self::Start => TaskKind::Start,
            Self::Stop => TaskKind::Stop,
            Self::Destroy => TaskKind::Destroy,
        }
    }

    fn permission(self) -> Permission {
        match self {
            Self::Deploy | Self::Start | Self::Stop => Permission::EnvironmentsUpdate,
            Self::Destroy => Permission::EnvironmentsDelete,
        }
    }
}

impl Control {
    /// Has something done with an environment that the platform has made. `confirmed` is its name as a person
    /// has typed it, without which nothing is destroyed.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.update`, and `project.environments.delete` for what
    /// destroys it; `not_deployed` (`Conflict`) for one that was adopted, or is still being made;
    /// `confirmation_missing` (`Invalid`); `environment_busy`, `idempotency_key_reused` (`Conflict`).
    pub async fn environment_do(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        action: DeployAction,
        confirmed: Option<&str>,
        once: Option<Once>,
    ) -> Result<Task> {
        let tx = self.store.begin().await?;
        let environment = self.environment_locked(&tx, caller, id, action.permission()).await?;
        if let Some(before) = self.once(&tx, caller, once.as_ref()).await? {
            let named = Named("task", before);
            return tasks::get(&tx, before.into()).await?.ok_or_else(|| named.missing());
        }
        let Some(mut record) = deployments::get(&tx, id).await? else {
            self.is_deployed(&tx, &environment).await?;
            return Err(not_deployed(&environment));
        };
        match (action, record.state) {
            (_, DeploymentState::Deployed) | (DeployAction::Destroy, DeploymentState::Removing) => {}
            (_, DeploymentState::Making | DeploymentState::Removing) => {
                return Err(not_there(&environment, record.state));
            }
        }
        if action == DeployAction::Destroy {
            if confirmed != Some(environment.name.as_str()) {
                return Err(invalid(
                    "confirmation_missing",
                    "its database and files would be gone for good, and its name was not confirmed",
                    "Give the environment's name as `confirm`.",
                ));
            }
            let before = record.state;
            record.state = DeploymentState::Removing;
            deployments::update(&tx, &record, before).await?;
            self.migration_over(&tx, id).await?;
        }
        let task = self.enqueue(&tx, action.kind(), About::environment(&environment), caller).await?;
        let word = format!("environment.{}_requested", action.kind());
        let data = json!({ "name": environment.name, "task": task.id });
        self.note(&tx, Some(caller), environment.organisation_id, &word, id, data).await?;
        self.done_once(&tx, caller, once.as_ref(), task.id.uuid()).await?;
        tx.commit().await?;
        Ok(task)
    }

    /// How an environment is deployed; `None` for one that was adopted.
    ///
    /// # Errors
    /// As [`Control::environment_get`].
    pub async fn environment_deployment(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Option<DeploymentRecord>> {
        let environment = self.environment_get(caller, id).await?;
        deployments::get(&self.store, environment.id).await
    }

    /// The server of an environment that the platform makes, and the environment as it is to be there.
    pub(crate) async fn deployment_at(
        &self,
        id: EnvironmentId,
    ) -> Result<(ServerAccess, undoo_core::platform::Deployment)> {
        let named = Named("environment", id);
        let environment = environments::get(&self.store, id).await?.ok_or_else(|| named.missing())?;
        let record = deployments::get(&self.store, id).await?.ok_or_else(|| not_deployed(&environment))?;
        let server = self.location_of(&environment).await?.server;
        Ok((server, self.deployment_of(&environment, &record)?))
    }

    /// Refuses an environment of which nothing is on its server, because it waits for its migration.
    pub(crate) async fn is_deployed(&self, on: &impl Connection, environment: &Environment) -> Result<()> {
        let waits = environment.status == EnvironmentStatus::Pending
            && deployments::get(on, environment.id).await?.is_none()
            && migrations::of_environment(on, environment.id).await?.is_some();
        if !waits {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Conflict,
            "not_deployed",
            format!(
                "environment \"{}\" waits for its migration: nothing of it is on its server yet",
                environment.name
            ),
            "Deploy it; delete it if it is not wanted any more.",
        ))
    }

    /// Notes that nothing of an environment is on its server any more: its record goes, and with it what it takes
    /// of the server.
    pub(crate) async fn environment_gone(&self, tx: &Tx, id: EnvironmentId, why: &str) -> Result<()> {
        deployments::delete(tx, id).await?;
        let found = environments::locked(tx, id).await?;
        let Some(mut environment) = found.filter(|found| found.deleted_at.is_none()) else { return Ok(()) };
        environment.deleted_at = Some(self.now());
        environments::update(tx, &environment).await?;
        let data = json!({ "name": environment.name, "why": why });
        self.note(tx, None, environment.organisation_id, "environment.destroyed", id, data).await
    }

    /// Notes that an environment is to be removed as soon as that can be.
    pub(crate) async fn environment_to_remove(&self, tx: &Tx, id: EnvironmentId) -> Result<()> {
        let found = deployments::get(tx, id).await?;
        let Some(mut record) = found.filter(|it| it.state.may_become(DeploymentState::Removing)) else {
            return Ok(());
        };
        let before = record.state;
        record.state = DeploymentState::Removing;
        deployments::update(tx, &record, before).await
    }
}

fn not_deployed(environment: &Environment) -> Problem {
    Problem::new(
        Kind::Conflict,
        "not_deployed",
        format!("environment \"{}\" was adopted: its containers are somebody else's", environment.name),
        "Start, stop and remove it with what made it, such as Docker Compose.",
    )
}

pub(crate) fn not_there(environment: &Environment, state: DeploymentState) -> Problem {
    let (how, remedy) = match state {
        DeploymentState::Removing => ("being removed", "Restore a backup to a new environment."),
        DeploymentState::Making | DeploymentState::Deployed => {
            ("still being made", "Wait for its restore to end, or cancel that.")
        }
    };
    let message = format!("environment \"{}\" is {how}", environment.name);
    Problem::new(Kind::Conflict, "not_deployed", message, remedy)
}
