//! How many tasks a second are claimed and finished: for `make bench`, which gives it an empty database.
//!
//!     queue DATABASE_URL TASKS WORKERS

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;
use undoo_core::{
    OrganisationId,
    platform::{Organisation, TaskKind, TaskStatus},
};
use undoo_store::{
    Store, people,
    tasks::{self, NewTask, Worker},
};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, count, workers] = arguments.as_slice() else {
        anyhow::bail!("arguments: DATABASE_URL TASKS WORKERS");
    };
    let (count, workers): (u32, u32) = (count.parse().context("TASKS")?, workers.parse().context("WORKERS")?);
    let store = Store::open(url).await?;
    store.migrate().await?;
    fill(&store, count).await?;
    let began = Instant::now();
    let work = (0..workers).map(|number| tokio::spawn(work_off(store.clone(), format!("worker {number}"))));
    let mut done = 0;
    for worker in work.collect::<Vec<_>>() {
        done += worker.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(done == count, "{done} of {count} tasks were done");
    println!("{}", json!({ "tasks": count, "workers": workers, "seconds": seconds }));
    Ok(())
}

async fn fill(store: &Store, count: u32) -> Result<()> {
    let organisation = Organisation {
        id: OrganisationId::generate(),
        name: format!("Queue {}", Timestamp::now()),
        created_at: Timestamp::now(),
    };
    people::organisation_insert(store, &organisation).await?;
    let task = NewTask {
        organisation_id: organisation.id,
        kind: TaskKind::Backup,
        priority: 0,
        environment_id: None,
        server_id: None,
        payload: json!({}),
        max_attempts: 3,
        run_after: None,
        created_by: None,
    };
    let tx = store.begin().await?;
    for _ in 0..count {
        tasks::enqueue(&tx, &task).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn work_off(store: Store, name: String) -> Result<u32> {
    let worker = Worker { name, kinds: vec![TaskKind::Backup], lease: Duration::from_secs(60) };
    let mut done = 0;
    while let Some((_, lease)) = tasks::claim(&store, &worker, Timestamp::now()).await? {
        let tx = store.begin_held(&lease).await?;
        tasks::finish(&tx, &lease, TaskStatus::Completed, None, None).await?;
        tx.commit().await?;
        done += 1;
    }
    Ok(done)
}
