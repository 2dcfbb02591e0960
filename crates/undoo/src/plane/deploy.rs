//! Work on environments that the platform makes itself: each step of the port as a call to `undoo_hosts::deploy`.

use undoo_control::plane::{DeployStep, ServerAccess, Watch};
use undoo_core::{Kind, Problem, Result, platform::Deployment};
use undoo_engine::order::Answer;
use undoo_hosts::{
    Docker,
    deploy::{self, Done},
};

use super::found::endpoint;

/// Does a step. Called off, it ends after the thing that it is at, so that whoever takes it back finds all of it.
pub(super) async fn step(
    server: &ServerAccess,
    deployment: &Deployment,
    step: DeployStep,
    watch: &Watch,
) -> Result<()> {
    let docker = Docker::connect(endpoint(server)).await?;
    let mut told = |done: &Done| {
        watch.audience.tell(Answer::Log { message: sentence(done) });
        if watch.stop.is_cancelled() {
            return Err(Problem::new(Kind::Cancelled, "cancelled", "it was called off", ""));
        }
        Ok(())
    };
    match step {
        DeployStep::Infrastructure => deploy::infrastructure(&docker, deployment, &mut told).await,
        DeployStep::MakeDurable => deploy::make_durable(&docker, deployment, &mut told).await,
        DeployStep::Release => deploy::release(&docker, deployment, &mut told).await,
        DeployStep::Redeploy => deploy::redeploy(&docker, deployment, &mut told).await,
        DeployStep::Start => deploy::start(&docker, &deployment.names, &mut told).await,
        DeployStep::Stop => deploy::stop(&docker, &deployment.names, &mut told).await,
        DeployStep::Destroy => {
            for gone in deploy::destroy(&docker, &deployment.names).await? {
                watch.audience.tell(Answer::Log { message: sentence(&gone) });
            }
            Ok(())
        }
    }
}

pub(super) fn sentence(done: &Done) -> String {
    format!("{} {}: {}", done.part.as_str(), done.name, done.did.as_str())
}
