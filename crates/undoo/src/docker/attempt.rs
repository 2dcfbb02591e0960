//! An earlier attempt at the same work, whose worker died: its cutover is waited for, the rest is removed.
//!
//! Nobody else's is touched: what belongs to an attempt has its restore's or backup's id as its label.

use undoo_core::Result;
use undoo_engine::order::Failure;
use undoo_hosts::agent as agents;

use super::{DockerPlace, cutover::CUTOVER_GOES_ON};
use crate::{agent::AgentEnd, caller::Caller};

/// What there was of an earlier attempt.
pub struct Attempt {
    /// How its cutover ended, if it had come to one whose end nobody has seen.
    pub cutover: Option<AgentEnd>,
    /// Whether anything of it was removed. The server may hold the sessions of that for a while.
    pub removed: bool,
}

impl DockerPlace {
    /// Waits until no cutover of a task is under way. How it ended is left for [`DockerPlace::take_over`].
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn await_cutover(&self, task: &str) -> Result<()> {
        for agent in agents::find_agents(&self.docker, Some(task)).await? {
            if agent.running {
                agents::follow(&self.docker, &agent.id, |_| {}).await?;
            }
        }
        Ok(())
    }

    /// Waits for the cutover of an earlier attempt, and removes its movers, proof and network.
    ///
    /// # Errors
    /// Those of the engine; `Cancelled` when the cutover was not waited for.
    pub async fn take_over(&self, task: &str, caller: Caller<'_>) -> Result<Attempt, Failure> {
        let mut cutover = None;
        // The newest comes first; those before it had ended when it began.
        for agent in agents::find_agents(&self.docker, Some(task)).await? {
            let was_started = agent.running || agent.exit_code.is_some();
            if was_started && cutover.is_none() {
                cutover = Some(self.listen_to(&agent, caller).await);
            } else {
                agents::remove(&self.docker, &agent.id).await?;
            }
        }
        match cutover {
            Some(Err(left)) if left.problem.code == CUTOVER_GOES_ON => Err(left),
            cutover => Ok(Attempt { cutover, removed: self.remove_of(task).await? }),
        }
    }
}
