//! Watching a task of the server to its end, with the bars that work on this machine has.
//!
//! Events say when to look and how far it is; the task itself says whether it is over, so that an event that
//! is missed costs a moment and no more.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};
use undoo_api::{client::Event, events::PhaseProgress, tasks::TaskResponse};
use undoo_core::{
    Finding, Kind, OrganisationId, Problem, Result, TaskId,
    platform::{StepEvent, TaskKind, TaskStatus},
};
use undoo_engine::order::{Answer, Audience, Failure};

use super::Remote;
use crate::{interrupt::interrupted, ui::Ui};

/// Without an event, it is looked this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A server that is gone for longer is not waited for.
const GONE: Duration = Duration::from_secs(600);

/// Shows a task until it is over. `about` is the id of the backup or restore that its events name.
///
/// # Errors
/// What the task ended with, if that is not what was asked for; `Cancelled` at Ctrl-C, and the task goes on.
pub(super) async fn task(
    remote: &Remote,
    organisation: OrganisationId,
    id: TaskId,
    about: Option<String>,
    ui: &Ui,
) -> Result<TaskResponse, Failure> {
    let client = &remote.client;
    let mut events = Some(client.events(Some(organisation), None));
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut waits, mut seen) = (false, Instant::now());
    loop {
        let event = async {
            match &mut events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = interrupted() => return Err(goes_on(id).into()),
            event = event => match event {
                Some(Ok(event)) if concerns(&event, about.as_deref()) => show(&event.data, ui),
                Some(Ok(_)) => continue,
                // Looking is enough.
                Some(Err(_)) | None => {
                    events = None;
                    continue;
                }
            },
            _ = look.tick() => {}
        }
        let task = match client.task(id).await {
            Ok(task) => task,
            Err(problem) if problem.is_permanent() || seen.elapsed() > GONE => return Err(problem.into()),
            Err(_) => continue,
        };
        seen = Instant::now();
        if task.status.is_final() {
            ui.settle();
            return ended(remote, task).await;
        }
        if task.status == TaskStatus::Queued && !std::mem::replace(&mut waits, true) {
            ui.say("Waiting for a worker");
        }
        task.progress.iter().for_each(|progress| show(progress, ui));
    }
}

/// Whether an event is about that.
fn concerns(event: &Event, about: Option<&str>) -> bool {
    let ids = ["restore_id", "backup_id"];
    about.is_some_and(|about| ids.iter().any(|id| event.data.get(id).is_some_and(|id| id == about)))
}

fn show(progress: &Value, ui: &Ui) {
    let Ok(PhaseProgress { phase: Some(phase), done, total, unit }) = PhaseProgress::deserialize(progress)
    else {
        return;
    };
    // A phase that this program does not know, it cannot name.
    let Ok(phase) = serde_json::from_value(Value::String(phase)) else { return };
    ui.tell(Answer::Phase { phase });
    if let (Some(done), Some(unit)) = (done, unit) {
        ui.tell(Answer::Progress { phase, done, total, unit });
    }
}

fn goes_on(id: TaskId) -> Problem {
    Problem::new(
        Kind::Cancelled,
        "not_watched",
        "it goes on on the server, and is not watched any more",
        format!("`undoo task show {id} --watch` watches it again, `undoo task cancel {id}` calls it off"),
    )
}

/// Why a step failed, as the task's log has it.
#[derive(Deserialize)]
struct Cause {
    kind: Kind,
    code: String,
    message: String,
    #[serde(default)]
    remedy: String,
    #[serde(default)]
    findings: Vec<Finding>,
}

/// A task that is over, as the work itself would have ended here.
async fn ended(remote: &Remote, task: TaskResponse) -> Result<TaskResponse, Failure> {
    let message =
        || task.error_message.clone().unwrap_or_else(|| format!("the task {} {}", task.id, task.status));
    match task.status {
        TaskStatus::Completed => Ok(task),
        TaskStatus::Cancelled => {
            let message = "it was called off; what it did is taken back";
            Err(Problem::new(Kind::Cancelled, "cancelled", message, "").into())
        }
        TaskStatus::Stuck => {
            let remedy = format!("`undoo task show {}` shows what its steps did", task.id);
            Err(Problem::new(Kind::Stuck, "task_stuck", message(), remedy).into())
        }
        _ => {
            let log = remote.client.task_log(task.id).await.unwrap_or_default();
            let failed = log.into_iter().rev().filter(|line| line.event == StepEvent::DoFailed);
            let cause = failed.filter_map(|line| serde_json::from_value::<Cause>(line.data).ok()).next();
            Err(cause.map_or_else(
                || Problem::new(usual(task.task_type), "task_failed", message(), "").into(),
                |cause| Failure {
                    problem: Problem::from_wire(cause.kind, &cause.code, cause.message, cause.remedy),
                    findings: cause.findings,
                },
            ))
        }
    }
}

/// What sort of problem a task has that failed and does not say why.
fn usual(kind: TaskKind) -> Kind {
    match kind {
        TaskKind::Restore | TaskKind::Undo => Kind::NotProven,
        _ => Kind::Unavailable,
    }
}

#[cfg(test)]
mod tests;
