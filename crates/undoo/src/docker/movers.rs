//! Orders to movers: one mover for a whole restore, which holds the target's lock between its orders, and
//! short ones for whoever only looks.

use std::{
    future::Future,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde_json::Value;
use undoo_core::{Kind, Problem, Result};
use undoo_engine::{
    order::{Answer, Audience, Failure},
    orders::Order,
};
use undoo_hosts::{
    mover::{Bind, Mover, MoverSpec},
    target::OdooContainer,
};
use undoo_storage::Access;

use super::{DockerPlace, written};
use crate::{
    caller::Caller,
    interrupt::cancelled,
    relay::{self, Far, Relay, Use},
};

/// Where a backup of this machine stands inside a mover.
const BACKUP_INSIDE: &str = "/undoo-backup";
/// Where directories on the disks of the database server stand inside a mover.
const DISKS_INSIDE: &str = "/undoo-database-disks";
/// What a database server takes for its buffers and sessions, by PostgreSQL's defaults, in MiB.
const SERVER_MIB: u64 = 256;
/// Sorting wants that much in any case, in MiB.
const LEAST_MAINTENANCE_MIB: u32 = 8;
/// The task of a mover that is no restore's.
const LOOK: &str = "look";

/// A mover that is kept for the orders of one restore.
pub(super) struct Open {
    mover: Mover,
    /// The restore.
    pub(super) task: String,
    /// The backup of this machine that it can read, or the folder that it can write to.
    local: Option<Local>,
    /// The way to loopback storage; the mover may read from it until it ends.
    relay: Option<Relay>,
    /// The file of this machine that it reads from another server.
    far: Option<Far>,
}

impl DockerPlace {
    /// Has an order carried out: by the mover of its restore, which is started with the first one; by a
    /// mover of its own where there is none to ask. The stop of its caller
    /// cancels it, and ends that mover.
    ///
    /// # Errors
    /// Those of the order, and of the engine.
    pub async fn order(&self, order: Order, caller: Caller<'_>) -> Result<Value, Failure> {
        self.order_until(order, caller.audience, caller.stop.asked()).await
    }

    /// As [`DockerPlace::order`], cancelled by `stop` and by nothing else.
    pub(super) async fn order_until(
        &self,
        mut order: Order,
        audience: &dyn Audience,
        stop: impl Future<Output = ()>,
    ) -> Result<Value, Failure> {
        let task = task_of(&order);
        let used = if matches!(order, Order::Backup { .. }) { Use::Write } else { Use::Read };
        if let (Some(server), Some(storage)) = (self.docker.server(), storage_of(&mut order)) {
            relay::refuse_from(server, storage, used)?;
        }
        if let (Order::Stage { work, .. }, Some(database)) = (&mut order, &self.odoo.database_container)
            && let Some(most) = most_maintenance(database.memory_limit, work.options.jobs)
        {
            work.options.maintenance_mib = work.options.maintenance_mib.min(most);
        }
        // Taken out while it works: if this is dropped, so is the mover, and with it what it did.
        let mut kept = self.open.lock().await;
        let local = local_storage(&mut order)?;
        let (local, brought) = if self.docker.server().is_some() { (None, local) } else { (local, None) };
        let fits = |open: &Open| {
            task.as_ref().is_none_or(|task| *task == open.task) && (local.is_none() || open.local == local)
        };
        let mut open = match kept.take() {
            Some(open) if fits(&open) => open,
            other => {
                if let Some(other) = other {
                    other.mover.close().await?;
                }
                self.start_mover(task.as_deref().unwrap_or(LOOK), local).await?
            }
        };
        if let Some(storage) = storage_of(&mut order)
            && let Some(relay) = Relay::for_access(storage, self.gateway()).await?
        {
            open.relay = Some(relay);
        }
        if let (Some(Local { path, .. }), Some(storage)) = (brought, storage_of(&mut order)) {
            let far = match open.far.take().filter(|far| far.is(&path)) {
                Some(far) => far,
                None => Far::open(&mut open.mover, &path).await?,
            };
            *storage = far.access();
            open.far = Some(far);
        }
        let (outcome, mover) = give(open.mover, &order, audience, stop).await;
        if let Some(mover) = mover {
            let open = Open { mover, ..open };
            if open.task == LOOK {
                open.mover.close().await?;
            } else {
                *kept = Some(open);
            }
        }
        outcome
    }

    /// Whether the mover of this restore is kept, and with it the target's lock.
    pub(super) async fn is_kept(&self, task: &str) -> bool {
        self.open.lock().await.as_ref().is_some_and(|open| open.task == task)
    }

    /// Ends the mover that is kept.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn close(&self) -> Result<()> {
        match self.open.lock().await.take() {
            Some(open) => open.mover.close().await,
            None => Ok(()),
        }
    }

    /// Ends the mover that is kept, once it has taken back what it has open.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn call_off(&self) -> Result<()> {
        match self.open.lock().await.take() {
            Some(open) => cancel(open.mover).await,
            None => Ok(()),
        }
    }

    async fn start_mover(&self, task: &str, local: Option<Local>) -> Result<Open> {
        let mut spec = self.spec(task, &["mover"]);
        if let Some(Local { path, read_only }) = &local {
            spec.binds.push(Bind {
                source: path.display().to_string(),
                target: inside(path).display().to_string(),
                read_only: *read_only,
            });
        }
        spec.binds.extend(database_disks(&self.odoo));
        let mover = Mover::start(&self.docker, &spec, &self.binary).await?;
        Ok(Open { mover, task: task.to_owned(), local, relay: None, far: None })
    }

    /// Runs a mover for one order; `stop` cancels it.
    pub(super) async fn order_to(
        &self,
        spec: &MoverSpec,
        order: &Order,
        audience: &dyn Audience,
        stop: impl Future<Output = ()>,
    ) -> Result<Value, Failure> {
        let mover = Mover::start(&self.docker, spec, &self.binary).await?;
        let (outcome, mover) = give(mover, order, audience, stop).await;
        if let Some(mover) = mover {
            mover.close().await?;
        }
        outcome
    }
}

/// What shows a mover the room on the database server's disks; the data's comes first.
pub(super) fn database_disks(odoo: &OdooContainer) -> Vec<Bind> {
    let disks = odoo.database_container.iter().flat_map(|database| &database.disks).enumerate();
    disks
        .map(|(number, source)| Bind {
            source: source.display().to_string(),
            target: format!("{DISKS_INSIDE}/{number}"),
            read_only: true,
        })
        .collect()
}

/// Gives a mover an order; gives it back if it can take another one.
async fn give(
    mut mover: Mover,
    order: &Order,
    audience: &dyn Audience,
    stop: impl Future<Output = ()>,
) -> (Result<Value, Failure>, Option<Mover>) {
    let bytes = match written(order) {
        Ok(bytes) => bytes,
        Err(problem) => return (Err(problem.into()), Some(mover)),
    };
    let mut outcome = None;
    let mut listen = |line: &str| {
        match serde_json::from_str::<Answer>(line) {
            Ok(answer @ (Answer::Done { .. } | Answer::Failed { .. })) => {
                outcome = answer.outcome();
                return ControlFlow::Break(());
            }
            Ok(answer) => audience.tell(answer),
            Err(_) => tracing::warn!(line, "a mover said something that is no answer"),
        }
        ControlFlow::Continue(())
    };
    let answered = tokio::select! {
        answered = mover.order(&bytes, &mut listen) => Some(answered),
        () = stop => None,
    };
    let problem = match answered {
        Some(Ok(())) => match outcome {
            Some(outcome) => return (outcome, Some(mover)),
            None => cancelled(),
        },
        Some(Err(problem)) => problem,
        None => cancelled(),
    };
    // What it still has to say is that it was cancelled; a container that has ended already is removed.
    if let Err(left) = cancel(mover).await {
        tracing::warn!(%left, "a mover could not be ended");
    }
    (Err(problem.into()), None)
}

async fn cancel(mover: Mover) -> Result<()> {
    mover.cancel(|line| tracing::debug!(line, "a mover's last words")).await
}

/// The storage that an order reads from or writes to.
fn storage_of(order: &mut Order) -> Option<&mut Access> {
    match order {
        Order::Backup { work } => Some(&mut work.storage.order.0),
        Order::Plan { backup, .. } | Order::Stage { backup, .. } | Order::AddFiles { backup, .. } => {
            Some(&mut backup.storage.order.0)
        }
        _ => None,
    }
}

/// `maintenance_work_mem` that each of so many sessions may have on a server with this memory limit, in MiB;
/// `None` where there is no limit. A server that is killed for its memory takes the load with it, and where
/// there is a live database everybody's sessions.
fn most_maintenance(limit: i64, jobs: usize) -> Option<u32> {
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0)?;
    let each = (limit >> 20).saturating_sub(SERVER_MIB) / 2 / u64::try_from(jobs).ok()?.max(1);
    Some(u32::try_from(each).unwrap_or(u32::MAX).max(LEAST_MAINTENANCE_MIB))
}

/// A file or folder of this machine in a mover.
#[derive(PartialEq, Eq)]
struct Local {
    path: PathBuf,
    read_only: bool,
}

/// The place of a storage on this machine; in the order it becomes the place inside a mover.
fn local_storage(order: &mut Order) -> Result<Option<Local>> {
    let read_only = !matches!(order, Order::Backup { .. });
    let Some(Access::Local { path }) = storage_of(order) else { return Ok(None) };
    let source = std::fs::canonicalize(&*path).map_err(|error| missing_backup(path, error))?;
    *path = inside(&source);
    Ok(Some(Local { path: source, read_only }))
}

fn inside(source: &Path) -> PathBuf {
    Path::new(BACKUP_INSIDE).join(source.file_name().unwrap_or_default())
}

/// The restore that an order belongs to; `None` for those that any mover can carry out.
fn task_of(order: &Order) -> Option<String> {
    match order {
        Order::Plan { work, .. }
        | Order::Stage { work, .. }
        | Order::AddFiles { work, .. }
        | Order::Prepare { work, .. }
        | Order::Flush { work }
        | Order::Accept { work } => Some(work.id.to_string()),
        Order::Discard { id, .. } | Order::HandOver { id, .. } | Order::DraftReport { id, .. } => {
            Some(id.to_string())
        }
        Order::Backup { work } => Some(work.id.to_string()),
        Order::Seal { id, .. } => Some(id.to_string()),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::most_maintenance;

    #[test]
    fn loading_sessions_leave_a_limited_server_what_it_works_with() {
        assert_eq!(most_maintenance(0, 2), None);
        // While a fresh environment is loaded, its server has room for what is usual.
        assert_eq!(most_maintenance(2048 << 20, 2), Some(448));
        assert_eq!(most_maintenance(1024 << 20, 4), Some(96));
        assert_eq!(most_maintenance(256 << 20, 2), Some(8));
    }
}
