//! Workers: they take tasks, show that they live, and stop in order.
//!
//! A worker holds a task by its lease. It renews it well before its end; if it cannot, it takes the task as
//! lost in time, since by then another may have it. What the answers of the database say counts, not what this
//! process remembers.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use undoo_core::platform::{Task, TaskKind, TaskStatus};
use undoo_store::{
    Hint,
    tasks::{self, Heartbeat, Lease},
};

use super::{
    driver::{End, drive},
    held::Held,
    signal::{Signal, Why},
    workflow,
};
use crate::Control;

/// A heartbeat that a hint asked for comes no sooner than this after the last.
const SOONEST: Duration = Duration::from_millis(300);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its name, unique among those that run.
    pub name: String,
    /// Tasks that it does at the same time.
    pub concurrency: usize,
    /// How long it may be silent before another takes its tasks.
    pub lease: Duration,
    /// What it does.
    pub kinds: Vec<TaskKind>,
    /// How often it looks for tasks without a hint.
    pub poll: Duration,
    /// How long a step may take to end after it was told to.
    pub grace: Duration,
}

impl WorkerSettings {
    /// A worker that does everything.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            concurrency: 2,
            lease: Duration::from_secs(60),
            kinds: TaskKind::ALL.to_vec(),
            poll: Duration::from_secs(2),
            grace: Duration::from_secs(30),
        }
    }
}

/// Takes tasks and carries them out.
pub struct Worker {
    control: Control,
    settings: WorkerSettings,
    /// Cancelled when the worker is to stop.
    stop: CancellationToken,
}

impl Worker {
    /// Works until `stop` is cancelled; then hands back what it can, waits for what it must, and returns.
    /// Dropped instead, it is as if it had been killed.
    pub async fn run(control: Control, settings: WorkerSettings, stop: CancellationToken) {
        let worker = Arc::new(Self { control, settings, stop });
        let mut hints = worker.control.store.hints();
        let mut running = JoinSet::new();
        while !worker.stop.is_cancelled() {
            while running.len() < worker.settings.concurrency {
                let Some((task, lease)) = worker.claim().await else { break };
                let worker = Arc::clone(&worker);
                running.spawn(async move { worker.carry_out(task, lease).await });
            }
            let full = running.len() >= worker.settings.concurrency;
            tokio::select! {
                () = worker.stop.cancelled() => {}
                Some(ended) = running.join_next() => report(ended),
                () = next_look(&mut hints, worker.settings.poll), if !full => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            report(ended);
        }
    }

    async fn claim(&self) -> Option<(Task, Lease)> {
        let worker = tasks::Worker {
            name: self.settings.name.clone(),
            kinds: self.settings.kinds.clone(),
            lease: self.settings.lease,
        };
        match tasks::claim(&self.control.store, &worker, Timestamp::now()).await {
            Ok(claimed) => claimed,
            Err(problem) => {
                tracing::warn!(%problem, "no task could be taken; looking again");
                None
            }
        }
    }

    async fn carry_out(&self, task: Task, lease: Lease) {
        let begun = Instant::now();
        tracing::info!(task = %task.id, kind = %task.kind, attempt = task.attempts, "task taken");
        let signal = Signal::default();
        if task.status == TaskStatus::Cancelling {
            signal.raise(Why::Cancelled);
        }
        let held = Arc::new(Held { control: self.control.clone(), lease });
        let driven = async {
            match workflow(&held, &task) {
                Ok(workflow) => drive(&workflow, &held, &signal, self.settings.grace).await,
                Err(problem) => held.fail(&problem).await.map(|()| None),
            }
        };
        let driven = tokio::select! {
            driven = driven => driven,
            () = self.show_life(&held.lease, &signal) => unreachable!("showing life never ends"),
        };
        let kind = task.kind.as_str();
        let how = match &driven {
            Ok(Some(end)) => end.status().as_str(),
            Ok(None) => "left",
            Err(_) => "lost",
        };
        metrics::counter!("undoo_tasks_total", "kind" => kind, "end" => how).increment(1);
        metrics::histogram!("undoo_task_duration_seconds", "kind" => kind)
            .record(begun.elapsed().as_secs_f64());
        match driven {
            Ok(Some(End::Succeeded)) => tracing::info!(task = %task.id, kind, "task completed"),
            Ok(Some(End::Failed(cause) | End::Stuck(cause) | End::Cancelled(cause))) => {
                let step = cause.place().to_owned();
                tracing::warn!(task = %task.id, kind, end = how, step, cause = cause.text(), "task ended");
                metrics::counter!("undoo_step_failures_total", "kind" => kind, "step" => step, "end" => how)
                    .increment(1);
            }
            Ok(None) => tracing::info!(task = %task.id, kind, "task left to another worker"),
            Err(problem) => tracing::warn!(task = %task.id, kind, %problem, "task lost"),
        }
    }

    /// Renews the lease for ever, and raises the signal when something is to be known.
    async fn show_life(&self, lease: &Lease, signal: &Signal) {
        let length = self.settings.lease;
        let mut until = lease.until;
        let mut hints = self.control.store.hints();
        let mut last = Instant::now();
        loop {
            let told_to_stop = signal.why() >= Some(Why::ShuttingDown);
            tokio::select! {
                () = next_look(&mut hints, length / 3) => {}
                () = self.stop.cancelled(), if !told_to_stop => {
                    signal.raise(Why::ShuttingDown);
                    continue;
                }
            }
            if last.elapsed() < SOONEST {
                tokio::time::sleep(SOONEST - last.elapsed()).await;
            }
            last = Instant::now();
            let beat = tokio::time::timeout(length / 3, tasks::heartbeat(&self.control.store, lease, length));
            match beat.await {
                Ok(Ok(Heartbeat::Held { cancelling, until: longer })) => {
                    until = longer;
                    if cancelling {
                        signal.raise(Why::Cancelled);
                    }
                }
                Ok(Ok(Heartbeat::Lost)) => signal.raise(Why::Lost),
                Ok(Err(problem)) => tracing::warn!(%problem, task = %lease.task_id, "no sign of life"),
                Err(_) => tracing::warn!(task = %lease.task_id, "the database takes too long"),
            }
            // Before another may take it, not after.
            let margin = SignedDuration::try_from(length / 6).unwrap_or(SignedDuration::ZERO);
            if Timestamp::now() >= until.checked_sub(margin).unwrap_or(until) {
                signal.raise(Why::Lost);
            }
        }
    }
}

/// Until there may be something new, or it is time to look anyway.
async fn next_look(hints: &mut tokio::sync::broadcast::Receiver<Hint>, at_most: Duration) {
    let hinted = async {
        loop {
            match hints.recv().await {
                Ok(Hint::Tasks) | Err(RecvError::Lagged(_)) => return,
                Ok(_) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    drop(tokio::time::timeout(at_most, hinted).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // Its lease ends by itself; the attempt is counted.
        tracing::error!(%error, "a task broke down");
    }
}
