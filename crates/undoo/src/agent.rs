//! The cutover in a container of its own: it stops, renames and starts, whoever ordered it lives or not.
//!
//! It has Docker's socket, so it reads nothing but its order, the target's own record and the answers of
//! PostgreSQL, Docker and Odoo. It must never open a backup.

use std::{process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{Kind, Problem, RestoreId, Result, Side};
use undoo_engine::{
    health::{self, Patience},
    home::Home,
    lock::{Locked, Work},
    order::{Answer, Audience, Failure, Target},
    record::{Record, State},
    swap::{Services, Swap},
};
use undoo_hosts::{Docker, DockerEndpoint, agent::SOCKET, service, target};

use crate::{hold::Hold, mover, ui::Ui};

/// How long a container may take to stop before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// File of the restore's directory that says how its cutover was begun.
const CUTOVER: &str = "cutover.json";

/// What an agent's run comes to.
pub type AgentEnd = std::result::Result<Value, Failure>;

/// What an agent is told to do.
#[derive(Serialize, Deserialize)]
pub struct AgentOrder {
    /// The target.
    pub target: Target,
    /// The restore.
    pub id: RestoreId,
    /// The side to bring to life.
    pub to: Side,
    /// Epoch of the restore's record when that was decided.
    pub epoch: u64,
    /// Whether an unhealthy Odoo makes it swap back.
    pub auto_rollback: bool,
    /// Whether the restore's mover holds the target's lock and hands it over to us.
    pub handed_over: bool,
    /// The Odoo container.
    pub odoo: String,
    /// The port that Odoo listens on in it.
    pub http_port: u16,
    /// Whether it only stands for an environment that is being deployed, and is not to be started.
    #[serde(default)]
    pub carrier: bool,
    /// Other running containers with sessions or files open.
    pub holders: Vec<String>,
    /// How long Odoo took to boot for the proof, in milliseconds.
    pub booted_ms: Option<u64>,
    /// Where tests hold it.
    #[serde(default)]
    pub hold: Hold,
}

/// How a cutover was begun, so that one that goes on with it starts what ran before, and waits for Odoo and
/// swaps back as it was asked to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Begun {
    holders: Vec<String>,
    auto_rollback: bool,
    booted_ms: Option<u64>,
}

struct Containers {
    docker: Docker,
    odoo: String,
    http_port: u16,
    carrier: bool,
    database: String,
    others: Vec<String>,
    patience: Patience,
}

/// Reads the order and carries it out.
pub async fn run() -> ExitCode {
    let ui = Ui::new(true);
    match cut_over(&ui).await {
        Ok(record) => {
            let result = serde_json::to_value(record).unwrap_or(Value::Null);
            ui.tell(Answer::Done { result });
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let code = problem.exit_code();
            ui.tell(Answer::failed(problem.into()));
            ExitCode::from(code)
        }
    }
}

async fn cut_over(ui: &Ui) -> Result<Record> {
    let order: AgentOrder = mover::read_order().await?;
    // Before anything else: whoever hands it over waits for that.
    let locked = if order.handed_over {
        Locked::take_over(&order.target, order.id).await?
    } else {
        Locked::take(&order.target, Work::Cutover(order.id)).await?
    };
    let home = Home::of(&order.target.filestore_root);
    let mut record = Record::read(&home, &order.id)?.ok_or_else(|| {
        Problem::new(
            Kind::Missing,
            "restore_missing",
            format!("the target knows no restore {}", order.id),
            "`undoo list` shows what there is",
        )
    })?;
    record.refuse_decision_of(order.epoch)?;
    let docker = Docker::connect(DockerEndpoint::Socket(SOCKET.into())).await?;
    let broke_off: Option<Begun> = home.read(&order.id, CUTOVER)?;
    let begun = match (broke_off, record.state) {
        // The same way: as it was asked. Back: as it is asked now. What it stopped is started in any case.
        (Some(begun), State::Swapping { to }) if to == order.to => begun,
        (Some(Begun { holders, .. }), State::Swapping { .. }) => Begun { holders, ..Begun::as_told(&order) },
        _ => {
            let mut begun = Begun::as_told(&order);
            // What was stopped to make room has to be started, too.
            let stopped = home.read_stopped(&order.target.database)?;
            begun.holders.extend(service::still_there(&docker, stopped).await?);
            begun
        }
    };
    home.write(&order.id, CUTOVER, &begun)?;
    let services = Containers {
        docker,
        others: begun.holders.into_iter().filter(|id| *id != order.odoo).collect(),
        odoo: order.odoo,
        http_port: order.http_port,
        carrier: order.carrier,
        database: order.target.database.clone(),
        patience: patience(begun.booted_ms),
    };
    let swap = Swap {
        target: &order.target,
        home: &home,
        services: &services,
        audience: ui,
        auto_rollback: begun.auto_rollback,
        checkpoint: &|step, done| {
            order.hold.checkpoint(step, done, ui);
            Ok(())
        },
    };
    swap.make_live(&locked, &mut record, order.to).await?;
    home.forget_stopped(&order.target.database)?;
    Ok(record)
}

impl Begun {
    fn as_told(order: &AgentOrder) -> Self {
        Self {
            holders: order.holders.clone(),
            auto_rollback: order.auto_rollback,
            booted_ms: order.booted_ms,
        }
    }
}

/// 30 attempts two seconds apart, or three times the measured boot if that is longer.
fn patience(booted_ms: Option<u64>) -> Patience {
    let usual = Patience::default();
    let attempts = booted_ms.unwrap_or(0).saturating_mul(3) / usual.interval_ms;
    Patience { attempts: usual.attempts.max(u32::try_from(attempts).unwrap_or(u32::MAX)), ..usual }
}

impl Services for Containers {
    async fn stop(&self) -> Result<()> {
        let mut all = vec![self.odoo.clone()];
        all.extend(self.others.iter().cloned());
        service::stop(&self.docker, &all, STOP_GRACE).await
    }

    async fn start(&self) -> Result<()> {
        let mut all = if self.carrier { Vec::new() } else { vec![self.odoo.clone()] };
        all.extend(self.others.iter().cloned());
        service::start(&self.docker, &all).await
    }

    async fn await_health(&self) -> Result<()> {
        // Whoever deploys asks the Odoo that takes its place.
        if self.carrier {
            return Ok(());
        }
        let address = target::address(&self.docker, &self.odoo).await?.ok_or_else(|| {
            Problem::new(
                Kind::NotProven,
                "odoo_ended",
                "Odoo's container ended right after its start",
                "see its log: `docker logs`",
            )
        })?;
        let base = match address {
            std::net::IpAddr::V4(address) => format!("http://{address}:{}", self.http_port),
            std::net::IpAddr::V6(address) => format!("http://[{address}]:{}", self.http_port),
        };
        tokio::select! {
            answered = health::login_page(&base, &self.database, self.patience) => answered.map(|_| ()),
            ended = self.end() => Err(ended),
        }
    }
}

impl Containers {
    /// Ends when Odoo's container does, so that nobody waits for the dead.
    async fn end(&self) -> Problem {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Ok(None) = target::address(&self.docker, &self.odoo).await {
                return Problem::new(
                    Kind::NotProven,
                    "odoo_ended",
                    "Odoo's container ended after its start",
                    "see its log: `docker logs`",
                );
            }
        }
    }
}
