//! How far a piece of work is, from the engine's answers to the database and to followers: at most once a
//! second, and never in the way of the work.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use undoo_core::{
    BackupId, RestoreId, Result,
    platform::{EventKind, RestoreStatus},
    word,
};
use undoo_engine::order::{Answer, Audience, Phase};
use undoo_store::{backups, restore_points, tasks};

use super::held::Held;
use crate::{
    plane::Watch,
    tasks::{backup_event, restore_event},
};

/// Between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// What the work is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// A restore, whose status follows the phases.
    Restore(RestoreId),
    /// A backup.
    Backup(BackupId),
    /// Something that nobody follows but in its task.
    Task,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    phase: Phase,
    done: u64,
    total: Option<u64>,
}

/// Hears the engine, and tells on.
pub(super) struct Teller {
    held: Arc<Held>,
    subject: Subject,
    at: watch::Sender<Option<At>>,
    written: Mutex<Option<At>>,
    unit: Mutex<String>,
}

impl Teller {
    pub(super) fn new(held: Arc<Held>, subject: Subject) -> Arc<Self> {
        Arc::new(Self {
            held,
            subject,
            at: watch::Sender::new(None),
            written: Mutex::default(),
            unit: Mutex::default(),
        })
    }

    /// The phase that was heard of last.
    pub(super) fn phase(&self) -> Option<String> {
        self.at.borrow().map(|at| word(&at.phase))
    }

    /// Does a piece of work, and tells how far it is meanwhile.
    pub(super) async fn during<T, F: Future<Output = T>>(
        self: &Arc<Self>,
        stop: &CancellationToken,
        work: impl FnOnce(Watch) -> F,
    ) -> T {
        self.at.send_replace(None);
        let heard = Arc::clone(self);
        let audience: Arc<dyn Audience> = Arc::new(move |answer: Answer| heard.hear(answer));
        let work = work(Watch { audience, stop: stop.clone() });
        let done = tokio::select! {
            done = work => done,
            () = self.tell() => unreachable!("telling never ends"),
        };
        // How far it came in the end, however quick it was.
        self.write_if_new().await;
        done
    }

    fn hear(&self, answer: Answer) {
        let at = match answer {
            Answer::Phase { phase } => At { phase, done: 0, total: None },
            Answer::Progress { phase, done, total, unit } => {
                *self.unit.lock().unwrap_or_else(PoisonError::into_inner) = unit;
                At { phase, done, total }
            }
            Answer::Log { message } => {
                tracing::info!(task = %self.held.task(), "{message}");
                return;
            }
            _ => return,
        };
        self.at.send_if_modified(|known| known.replace(at) != Some(at));
    }

    async fn tell(&self) {
        let mut heard = self.at.subscribe();
        loop {
            if heard.changed().await.is_err() {
                // Never, since `self` has the sender.
                std::future::pending::<()>().await;
            }
            heard.mark_unchanged();
            if self.write_if_new().await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Writes how far it is; whether there was something to write.
    async fn write_if_new(&self) -> bool {
        let at = *self.at.borrow();
        let known = || self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = at.filter(|at| Some(*at) != *known()) else { return false };
        match self.write(at).await {
            Ok(()) => *known() = Some(at),
            // The work does not depend on it; a lease that is lost is found out elsewhere.
            Err(problem) => {
                tracing::debug!(%problem, task = %self.held.task(), "progress was not written");
            }
        }
        true
    }

    async fn write(&self, at: At) -> Result<()> {
        let Held { control, lease, .. } = &*self.held;
        let unit = self.unit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = json!({ "phase": at.phase, "done": at.done, "total": at.total, "unit": unit });
        tasks::progress(&control.store, lease, &progress).await?;
        let tx = self.held.begin().await?;
        match self.subject {
            Subject::Restore(id) => {
                let Some(mut point) = restore_points::get(&tx, id).await? else { return Ok(()) };
                let before = point.status;
                if before.is_final() {
                    return Ok(());
                }
                point.status = status_of(at.phase);
                point.phase = Some(word(&at.phase));
                point.progress = point.progress.max(percent(at));
                restore_points::update(&tx, &point, before).await?;
                control.tell(&tx, restore_event(&point, EventKind::RestoreProgress, Value::Null)).await?;
            }
            Subject::Backup(id) => {
                let Some(backup) = backups::get(&tx, id).await? else { return Ok(()) };
                let event = backup_event(&backup, EventKind::BackupProgress, progress);
                control.tell(&tx, event).await?;
            }
            Subject::Task => return Ok(()),
        }
        tx.commit().await
    }
}

/// The source document's word for a phase of the engine.
fn status_of(phase: Phase) -> RestoreStatus {
    match phase {
        Phase::Inspect | Phase::Preflight => RestoreStatus::Downloading,
        Phase::Prepare | Phase::Data | Phase::PostData => RestoreStatus::RestoringDb,
        Phase::Filestore => RestoreStatus::RestoringFiles,
        Phase::Verify | Phase::Boot | Phase::Neutralize | Phase::Cutover | Phase::HealthCheck => {
            RestoreStatus::Verifying
        }
        // Of the safety backup.
        Phase::Snapshot | Phase::Dump | Phase::Store | Phase::ReadBack => RestoreStatus::Pending,
    }
}

/// How far a restore is, from 0 to 100, by the shares that its phases usually have.
fn percent(at: At) -> i32 {
    let (from, to) = match at.phase {
        Phase::Snapshot | Phase::Dump | Phase::Store | Phase::ReadBack => (0, 0),
        Phase::Inspect => (1, 3),
        Phase::Preflight => (3, 5),
        Phase::Prepare => (5, 8),
        Phase::Data => (8, 45),
        Phase::PostData => (45, 70),
        Phase::Filestore => (70, 85),
        Phase::Verify => (85, 88),
        Phase::Boot => (88, 94),
        Phase::Neutralize => (94, 95),
        Phase::Cutover => (95, 97),
        Phase::HealthCheck => (97, 99),
    };
    let done = match at.total {
        Some(total) if total > 0 => at.done.min(total) as f64 / total as f64,
        _ => 0.0,
    };
    from + ((f64::from(to - from)) * done) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_in_their_order_never_go_back_and_end_below_the_whole() {
        let order = [
            Phase::Inspect,
            Phase::Preflight,
            Phase::Prepare,
            Phase::Data,
            Phase::PostData,
            Phase::Filestore,
            Phase::Verify,
            Phase::Boot,
            Phase::Neutralize,
            Phase::Cutover,
            Phase::HealthCheck,
        ];
        let mut last = 0;
        for phase in order {
            for done in [0, 50, 100, 200] {
                let now = percent(At { phase, done, total: Some(100) });
                assert!(now >= last && now < 100, "{phase:?} {done}");
                last = now;
            }
        }
    }
}
