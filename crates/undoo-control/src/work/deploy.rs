//! Environments that the platform makes: the steps around a restore that makes one, and the tasks about one
//! that is there.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{EnvironmentId, Result, platform::EnvironmentStatus};
use undoo_engine::order::Failure;
use undoo_store::{Tx, environments};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    restore::Restoring,
    signal::Signal,
};
use crate::{
    deployments::DeployAction,
    plane::{DeployStep, Watch},
};

/// One of the steps around a restore: before it, the infrastructure; after it, what lets people in.
pub(super) struct Around {
    pub restoring: Arc<Restoring>,
    pub step: DeployStep,
}

#[async_trait]
impl Step for Around {
    fn name(&self) -> &'static str {
        name(self.step)
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let environment = self.restoring.point().await?.target_environment_id;
        let held = &self.restoring.held;
        let teller = &self.restoring.teller;
        teller
            .during(signal.stop(), |watch| async move { does(held, environment, self.step, &watch).await })
            .await
    }

    /// The infrastructure is undone last, and everything else is in it.
    async fn undo(&self) -> Result<()> {
        if self.step != DeployStep::Infrastructure {
            return Ok(());
        }
        // A cutover cannot be broken off, and ends by itself.
        if let Err(problem) = self.restoring.standing().await {
            tracing::debug!(%problem, "how far the restore came cannot be seen");
        }
        let environment = self.restoring.point().await?.target_environment_id;
        let destroyed = does(&self.restoring.held, environment, DeployStep::Destroy, &Watch::silent()).await;
        destroyed.map(drop).map_err(|failure| failure.problem)
    }

    fn phase(&self) -> Option<String> {
        self.restoring.teller.phase()
    }
}

/// Brings the custom modules of git repositories and of the backup, before anything looks at what the environment
/// can run.
pub(super) struct BringModules(pub(super) Arc<Restoring>);

#[async_trait]
impl Step for BringModules {
    fn name(&self) -> &'static str {
        "addons"
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let Restoring { held, teller, .. } = &*self.0;
        let job = self.0.job().await?;
        let environment = self.0.point().await?.target_environment_id;
        let (_, deployment) = held.control.deployment_at(environment).await?;
        let sources = held.control.addons_of(&held.control.store, environment).await?;
        let put =
            |watch| async move { held.control.plane.put_modules(&job, &deployment, &sources, &watch).await };
        let fetched = teller.during(signal.stop(), put).await?;
        Ok(json!({ "fetched": fetched }))
    }

    fn phase(&self) -> Option<String> {
        self.0.teller.phase()
    }
}

/// Does a step on an environment, as it is kept now.
pub(super) async fn does(
    held: &Held,
    environment: EnvironmentId,
    step: DeployStep,
    watch: &Watch,
) -> Result<Value, Failure> {
    let (server, deployment) = held.control.deployment_at(environment).await?;
    held.control.plane.deploy(&server, &deployment, step, watch).await?;
    Ok(Value::Null)
}

fn name(step: DeployStep) -> &'static str {
    match step {
        DeployStep::Infrastructure => "infrastructure",
        DeployStep::MakeDurable => "make_durable",
        DeployStep::Release => "release",
        DeployStep::Redeploy => "deploy",
        DeployStep::Start => "start",
        DeployStep::Stop => "stop",
        DeployStep::Destroy => "destroy",
    }
}

/// The workflow of a task about an environment that is there.
pub(super) fn workflow(held: Arc<Held>, id: EnvironmentId, action: DeployAction) -> Workflow {
    let teller = Teller::new(Arc::clone(&held), Subject::Task);
    let acting = Acting { held: Arc::clone(&held), teller, id, action };
    Workflow { steps: vec![Box::new(acting)], conclusion: Box::new(Concluded { held, id, action }) }
}

struct Acting {
    held: Arc<Held>,
    teller: Arc<Teller>,
    id: EnvironmentId,
    action: DeployAction,
}

#[async_trait]
impl Step for Acting {
    fn name(&self) -> &'static str {
        name(self.action.step())
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let step = self.action.step();
        self.teller
            .during(signal.stop(), |watch| async move { does(&self.held, self.id, step, &watch).await })
            .await
    }

    /// What is half removed, or stopped and not made again, is finished.
    fn is_waited_for(&self) -> bool {
        matches!(self.action, DeployAction::Deploy | DeployAction::Destroy)
    }
}

struct Concluded {
    held: Arc<Held>,
    id: EnvironmentId,
    action: DeployAction,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, _: &Answers) -> Result<Option<Value>> {
        let control = &self.held.control;
        if *end != End::Succeeded {
            // What is to be removed is found by the reconciler; how the others are is looked at each minute.
            return Ok(None);
        }
        let status = match self.action {
            DeployAction::Destroy => {
                control.environment_gone(tx, self.id, "it was asked for").await?;
                return Ok(Some(json!({ "environment_id": self.id })));
            }
            DeployAction::Stop => EnvironmentStatus::Stopped,
            DeployAction::Start | DeployAction::Deploy => EnvironmentStatus::Running,
        };
        if let Some(mut environment) = environments::locked(tx, self.id).await? {
            environment.status = status;
            environments::update(tx, &environment).await?;
            let action = match self.action {
                DeployAction::Deploy => "environment.deployed",
                DeployAction::Start => "environment.started",
                DeployAction::Stop | DeployAction::Destroy => "environment.stopped",
            };
            let data = json!({ "name": environment.name });
            control.note(tx, None, environment.organisation_id, action, self.id, data).await?;
        }
        Ok(Some(json!({ "environment_id": self.id })))
    }
}
