//! The steps by which an environment is made around a restore, or taken away: each a call to `undoo_hosts::deploy`,
//! told of as it goes.
//!
//! In which order they go is the platform's workflow, which can be taken up by another worker at each of them, and
//! [`super::new`] for a command, which does them at one go.

use futures_util::FutureExt as _;
use undoo_control::plane::DeployStep;
use undoo_core::{Result, platform::Deployment};
use undoo_hosts::{
    Docker,
    deploy::{self, Done},
};

use crate::{caller::Caller, interrupt::cancelled};

/// Does a step. Called off, it ends after the thing that it is at, so that whoever takes it back finds all of it.
///
/// # Errors
/// Those of the step; `cancelled`.
pub async fn step(
    docker: &Docker,
    deployment: &Deployment,
    step: DeployStep,
    caller: Caller<'_>,
) -> Result<()> {
    let mut asked = caller.stop.asked().fuse();
    let mut told = |done: &Done| {
        caller.say(sentence(done));
        if (&mut asked).now_or_never().is_some() { Err(cancelled()) } else { Ok(()) }
    };
    match step {
        DeployStep::Infrastructure => deploy::infrastructure(docker, deployment, &mut told).await,
        DeployStep::MakeDurable => deploy::make_durable(docker, deployment, &mut told).await,
        DeployStep::Release => deploy::release(docker, deployment, &mut told).await,
        DeployStep::Redeploy => deploy::redeploy(docker, deployment, &mut told).await,
        DeployStep::Start => deploy::start(docker, &deployment.names, &mut told).await,
        DeployStep::Stop => deploy::stop(docker, &deployment.names, &mut told).await,
        DeployStep::Destroy => {
            for gone in deploy::destroy(docker, &deployment.names).await? {
                caller.say(sentence(&gone));
            }
            Ok(())
        }
    }
}

/// What was done to a part, for a log.
pub(super) fn sentence(done: &Done) -> String {
    format!("{} {}: {}", done.part.as_str(), done.name, done.did.as_str())
}
