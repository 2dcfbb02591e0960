//! Giving way to a live Odoo.
//!
//! A load on every processor makes the users of other databases on the same server wait. So the load
//! looks, once a second, whether any of them is being used, and as long as one is, works on one session
//! only.

use std::{
    collections::HashMap,
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
    /// Watches the databases of the target's server, but the staged one, until this is dropped.
    pub async fn watch(target: &Target, staged: &str) -> Self {
        // A load that cannot see the others' use is no worse than one that does not look.
        let Ok(client) = target.admin.connect("postgres").await else { return Self::default() };
        let busy = Arc::new(AtomicBool::new(false));
        let (seen, staged) = (Arc::clone(&busy), staged.to_owned());
        let watch = tokio::spawn(async move { look(&client, &staged, &seen).await });
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

async fn look(client: &Client, staged: &str, busy: &AtomicBool) {
    // Autovacuum's transactions count too, but have no client behind them. What a client does only a role
    // that may read all statistics sees; for others, one that is connected will do.
    let count = "SELECT datname::text, xact_commit + xact_rollback FROM pg_stat_database d \
                 WHERE datname NOT IN ($1, 'postgres') AND EXISTS (SELECT FROM pg_stat_activity a \
                 WHERE a.datid = d.datid AND coalesce(a.backend_type, 'client backend') = 'client backend' \
                 AND coalesce(a.state_change > now() - interval '2 s', true))";
    let mut last: Option<(HashMap<String, i64>, Instant)> = None;
    let mut used: Option<Instant> = None;
    loop {
        let Ok(rows) = client.query(count, &[&staged]).await else { return };
        let now = Instant::now();
        let transactions: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if let Some((before, then)) = &last {
            let seconds = now.duration_since(*then).as_secs_f64();
            let since = |(database, count): (&String, &i64)| {
                before.get(database).map_or(0.0, |before| (count - before) as f64 / seconds)
            };
            if transactions.iter().map(since).any(|rate| rate >= IN_USE) {
                used = Some(now);
            }
        }
        last = Some((transactions, now));
        busy.store(used.is_some_and(|used| used.elapsed() < LINGER), Ordering::Relaxed);
        tokio::time::sleep(LOOK).await;
    }
}
