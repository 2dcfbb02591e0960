//! The cutover in a detached agent: started, followed, and left to itself where nobody follows any more.

use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem};
use undoo_engine::{
    order::{Answer, Failure},
    orders::Order,
    record::Record,
};
use undoo_hosts::{
    agent::{self as agents, Agent},
    cleanup::{self, LeftoverKind},
    mover::ContainerEnd,
};

use super::{DockerPlace, written};
use crate::{
    agent::{AgentEnd, AgentOrder},
    caller::Caller,
    hold::Hold,
    place::Cutover,
};

impl DockerPlace {
    /// Cuts over in an agent, and follows it.
    ///
    /// The mover of the restore, if it is kept, hands the target's lock over to the agent: it is told so
    /// before there is an agent, and goes on with that even if this process dies.
    ///
    /// # Errors
    /// Those of the cutover. When following breaks off, the agent goes on; `Cancelled` with code
    /// `cutover_goes_on` when that was by Ctrl-C.
    pub async fn cut_over(&self, cutover: Cutover, caller: Caller<'_>) -> Result<Record, Failure> {
        let handed_over = self.is_kept(&cutover.id.to_string()).await;
        let holders = self.holders(caller).await?.into_iter().map(|holder| holder.id).collect();
        let order = AgentOrder {
            target: self.target.clone(),
            id: cutover.id,
            to: cutover.to,
            epoch: cutover.epoch,
            auto_rollback: cutover.auto_rollback,
            handed_over,
            odoo: self.odoo.id.clone(),
            http_port: self.odoo.conf.http_port,
            carrier: self.odoo.carrier,
            holders,
            booted_ms: cutover.booted_ms,
            hold: Hold::asked(),
        };
        let ended = CancellationToken::new();
        let hand_over = async {
            if handed_over {
                let order = Order::HandOver { target: self.target.clone(), id: cutover.id };
                let handed = self.order_until(order, caller.quietly().audience, ended.cancelled()).await;
                // The agent says what came of it.
                if let Err(failure) = handed {
                    tracing::debug!(error = %failure.problem, "the lock was not handed over");
                }
            }
        };
        let follow = async {
            let value = self.follow_agent(&order, caller).await;
            // An agent that goes on still needs the lock.
            if !matches!(&value, Err(failure) if failure.problem.code == CUTOVER_GOES_ON) {
                ended.cancel();
            }
            value
        };
        let ((), value) = tokio::join!(hand_over, follow);
        serde_json::from_value(value?).map_err(|error| {
            Problem::new(Kind::Internal, "answer", "the agent's answer cannot be read", "please report this")
                .caused_by(error)
                .into()
        })
    }

    /// Starts an agent and follows it to its end.
    async fn follow_agent(&self, order: &AgentOrder, caller: Caller<'_>) -> AgentEnd {
        for dead in agents::find_agents_on(&self.docker, &self.odoo.name).await? {
            if !dead.running {
                agents::remove(&self.docker, &dead.id).await?;
            }
        }
        // The mover of a command that was killed when there was a cutover already.
        for dead in cleanup::list(&self.docker, Some(&order.id.to_string())).await? {
            if dead.kind == LeftoverKind::Container && !dead.running {
                agents::remove(&self.docker, &dead.id).await?;
            }
        }
        let spec = self.spec(&order.id.to_string(), &["cutover-agent"]);
        let agent = agents::start(&self.docker, &spec, &self.binary, &written(order)?).await?;
        self.listen_to(&agent, caller).await
    }

    /// Follows an agent to its end and removes it.
    pub(super) async fn listen_to(&self, agent: &Agent, caller: Caller<'_>) -> AgentEnd {
        let mut outcome: Option<AgentEnd> = None;
        let listen = |line: &str| match serde_json::from_str::<Answer>(line) {
            Ok(answer @ (Answer::Done { .. } | Answer::Failed { .. })) => outcome = answer.outcome(),
            Ok(answer) => caller.audience.tell(answer),
            Err(_) => tracing::warn!(line, "an agent said something that is no answer"),
        };
        let end = tokio::select! {
            end = agents::follow(&self.docker, &agent.id, listen) => end?,
            () = caller.stop.asked() => return Err(goes_on(&agent.name, &self.target.name).into()),
        };
        agents::remove(&self.docker, &agent.id).await?;
        outcome.unwrap_or_else(|| Err(agent_died(&end, &self.target.name).into()))
    }
}

/// Code of the problem with which following a cutover ends at Ctrl-C.
pub(super) const CUTOVER_GOES_ON: &str = "cutover_goes_on";

fn goes_on(agent: &str, target: &str) -> Problem {
    Problem::new(
        Kind::Cancelled,
        CUTOVER_GOES_ON,
        format!("the cutover goes on by itself, in the container {agent}; nobody watches it any more"),
        format!(
            "follow it with `docker logs --follow {agent}`; `undoo list {target}` shows where it stands, \
             `undoo undo {target}` goes back once it is done, `undoo resume {target}` finishes it if it breaks off"
        ),
    )
}

fn agent_died(end: &ContainerEnd, target: &str) -> Problem {
    Problem::new(
        Kind::Stuck,
        "agent_died",
        format!("the cutover ended with {} before it was complete: {}", end.exit_code, end.last_lines()),
        format!("run `undoo resume {target}` to finish it, or `undoo undo {target}` to go back"),
    )
}
