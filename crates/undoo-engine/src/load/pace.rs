//! Giving way to a live Odoo.
//!
//! A load on every processor makes the users of the live database on the same server wait. So the load
//! looks, once a second, whether the live database is being used, and as long as it is, works on one
//! session only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::order::Target;

/// Time between two looks; PostgreSQL publishes its counts about as often.
const LOOK: Duration = Duration::from_secs(1);
/// How long the load stays modest after the last use that was seen.
const LINGER: Duration = Duration::from_secs(5);
/// Transactions a second that count as use. An idle Odoo's crons poll far less often than that.
const IN_USE: f64 = 2.0;

/// Whether the live database is in use right now.
#[derive(Debug, Default)]
pub struct Pace {
    busy: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Pace {
    /// Watches the target's live database until this is dropped.
    pub async fn watch(target: &Target) -> Self {
        // A load that cannot see the live database's use is no worse than one that does not look.
        let Ok(client) = target.admin.connect("postgres").await else { return Self::default() };
        let busy = Arc::new(AtomicBool::new(false));
        let (seen, database) = (Arc::clone(&busy), target.database.clone());
        let watch = tokio::spawn(async move { look(&client, &database, &seen).await });
        Self { busy, watch: Some(watch) }
    }

    /// How many of `sessions` may work now.
    pub fn allowed(&self, sessions: usize) -> usize {
        if self.busy.load(Ordering::Relaxed) { sessions.min(1) } else { sessions }
    }

    /// Whether the session with this index has to wait; a moment has passed then.
    pub async fn gave_way(&self, index: usize) -> bool {
        if self.allowed(index + 1) > index {
            return false;
        }
        tokio::time::sleep(LOOK / 4).await;
        true
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }
}

async fn look(client: &Client, database: &str, busy: &AtomicBool) {
    let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    let mut last: Option<(i64, Instant)> = None;
    let mut used: Option<Instant> = None;
    loop {
        let Ok(Some(row)) = client.query_opt(count, &[&database]).await else { return };
        let (transactions, now): (i64, _) = (row.get(0), Instant::now());
        if let Some((before, then)) = last {
            let rate = (transactions - before) as f64 / now.duration_since(then).as_secs_f64();
            if rate >= IN_USE {
                used = Some(now);
            }
        }
        last = Some((transactions, now));
        busy.store(used.is_some_and(|used| used.elapsed() < LINGER), Ordering::Relaxed);
        tokio::time::sleep(LOOK).await;
    }
}
