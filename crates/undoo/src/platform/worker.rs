//! `undoo worker`, and the worker inside `undoo serve`.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use undoo_control::{
    Control, Reconcilers,
    work::{Worker, WorkerSettings},
};
use undoo_core::{Kind, Problem, Result};

use super::{
    config::{Config, Database},
    control, keys, store,
};
use crate::interrupt::interrupted;

/// Exit code of what was ended by a second signal.
const ENDED: i32 = 130;

pub(super) async fn run(config: &Config) -> Result<()> {
    if matches!(config.database, Database::Sqlite(_)) {
        return Err(Problem::new(
            Kind::Invalid,
            "worker_needs_postgres",
            "a platform on SQLite is one process, and has its worker inside",
            "run `undoo serve`; for workers of their own give both the same --database-url postgres://…",
        ));
    }
    let keys = keys(config).await?;
    let store = store(config).await?;
    let pending = store.pending_migrations().await?;
    if !pending.is_empty() {
        return Err(Problem::new(
            Kind::Conflict,
            "database_older",
            format!("the database is not of this version: it lacks {}", pending.join(", ")),
            "run `undoo migrate`, or start `undoo serve` of this version, which does it",
        ));
    }
    let control = control(config, store, keys.sealer());
    let stop = CancellationToken::new();
    let listener = match config.worker_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let telling = async {
        let Some(listener) = listener else { return Ok(()) };
        let told = undoo_server::serve(
            listener,
            undoo_server::operations(control.clone(), stop.clone()),
            stop.clone(),
        );
        told.await
    };
    let working = work(config, control.clone(), stop.clone());
    let both = async { tokio::join!(telling, working).0 };
    until_told(both, &stop).await
}

/// An address of this machine, listened on.
///
/// # Errors
/// `address_not_bound`.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Problem::new(
            Kind::Unavailable,
            "address_not_bound",
            format!("nothing can listen on {address}: {error}"),
            "end what listens there, or give another address",
        )
        .caused_by(error)
    })
}

/// Works until `stop`, and hands back then what it has begun. What has to stay true is looked after where there
/// is a worker: it takes the data plane.
pub(super) async fn work(config: &Config, control: Control, stop: CancellationToken) {
    let settings = WorkerSettings {
        concurrency: config.worker_tasks,
        lease: config.lease,
        ..WorkerSettings::named(config.worker_name.clone())
    };
    tracing::info!(name = settings.name, tasks = settings.concurrency, "working");
    tokio::join!(Worker::run(control.clone(), settings, stop.clone()), Reconcilers::run(control, stop));
}

/// Waits for the end of some work, and calls it off at the first signal. At the second one the process ends.
pub(super) async fn until_told(
    work: impl Future<Output = Result<()>>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = interrupted() => tracing::info!("stopping; once more, and it ends at once"),
    }
    stop.cancel();
    tokio::select! {
        ended = work => ended,
        () = interrupted() => std::process::exit(ENDED),
    }
}
