//! Hints that there may be something new, so that nobody has to ask all the time.
//!
//! They may be lost, doubled and late: whoever waits for one also looks every few seconds. On PostgreSQL they
//! go through LISTEN and NOTIFY, to all processes alike; on SQLite there is only this one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sea_orm::sqlx::{self, PgPool, postgres::PgListener};
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// What there may be more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Tasks to be claimed, or to be called off.
    Tasks,
    /// Events to be told.
    Events,
}

impl Hint {
    const ALL: [Self; 2] = [Self::Tasks, Self::Events];

    /// The channel of PostgreSQL; channels belong to one database.
    const fn channel(self) -> &'static str {
        match self {
            Self::Tasks => "undoo_tasks",
            Self::Events => "undoo_events",
        }
    }
}

/// The hints that a transaction gives once it is committed.
#[derive(Default)]
pub(crate) struct Pending {
    tasks: AtomicBool,
    events: AtomicBool,
}

impl Pending {
    pub(crate) fn add(&self, hint: Hint) {
        self.of(hint).store(true, Ordering::Relaxed);
    }

    fn of(&self, hint: Hint) -> &AtomicBool {
        match hint {
            Hint::Tasks => &self.tasks,
            Hint::Events => &self.events,
        }
    }

    fn given(&self) -> impl Iterator<Item = Hint> {
        Hint::ALL.into_iter().filter(|hint| self.of(*hint).load(Ordering::Relaxed))
    }
}

/// Where hints come from and go to.
pub(crate) struct Hints {
    here: broadcast::Sender<Hint>,
    /// To the other processes, which is to this one too.
    out: Option<mpsc::UnboundedSender<Hint>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Hints {
    /// Within this process.
    pub(crate) fn here() -> Self {
        Self { here: broadcast::Sender::new(64), out: None, _tasks: Vec::new() }
    }

    /// Through PostgreSQL. Keeps one connection of the pool for itself.
    pub(crate) fn through(pool: PgPool) -> Self {
        let here = broadcast::Sender::new(64);
        let (out, wishes) = mpsc::unbounded_channel();
        let tasks = [tokio::spawn(listen(pool.clone(), here.clone())), tokio::spawn(notify(pool, wishes))];
        Self { here, out: Some(out), _tasks: tasks.map(AbortOnDropHandle::new).into() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.here.subscribe()
    }

    pub(crate) fn send(&self, pending: &Pending) {
        for hint in pending.given() {
            // Nobody may be listening.
            match &self.out {
                Some(out) => drop(out.send(hint)),
                None => drop(self.here.send(hint)),
            }
        }
    }
}

/// Commits with a NOTIFY in them wait for each other, so it has a transaction of its own, and one for all
/// hints that came up while the last was on its way.
async fn notify(pool: PgPool, mut wishes: mpsc::UnboundedReceiver<Hint>) {
    while let Some(first) = wishes.recv().await {
        let pending = Pending::default();
        pending.add(first);
        while let Ok(more) = wishes.try_recv() {
            pending.add(more);
        }
        for hint in pending.given() {
            let sent = sqlx::query("SELECT pg_notify($1, '')").bind(hint.channel()).execute(&pool).await;
            if let Err(error) = sent {
                tracing::debug!(?error, ?hint, "a hint could not be sent");
            }
        }
    }
}

async fn listen(pool: PgPool, here: broadcast::Sender<Hint>) {
    loop {
        if let Err(error) = hear(&pool, &here).await {
            tracing::debug!(?error, "the database is not heard");
        }
        if pool.is_closed() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear(pool: &PgPool, here: &broadcast::Sender<Hint>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all(Hint::ALL.map(Hint::channel)).await?;
    let all = || Hint::ALL.into_iter().for_each(|hint| drop(here.send(hint)));
    // What was sent while nobody listened.
    all();
    loop {
        match listener.try_recv().await? {
            Some(notification) => Hint::ALL
                .into_iter()
                .filter(|hint| hint.channel() == notification.channel())
                .for_each(|hint| drop(here.send(hint))),
            None => all(),
        }
    }
}
