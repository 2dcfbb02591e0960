//! How much waits and for how long, as metrics.

use undoo_core::Result;
use undoo_store::tasks;

use crate::Control;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let depth = tasks::queue_depth(&control.store).await?;
    let counts = [
        ("queued", depth.queued),
        ("running", depth.running),
        ("cancelling", depth.cancelling),
        ("stuck", depth.stuck),
    ];
    for (status, count) in counts {
        metrics::gauge!("undoo_queue_tasks", "status" => status).set(count as f64);
    }
    let age = depth.oldest_queued.map_or(0, |oldest| control.now().as_second() - oldest.as_second());
    metrics::gauge!("undoo_queue_oldest_seconds").set(age.max(0) as f64);
    Ok(())
}
