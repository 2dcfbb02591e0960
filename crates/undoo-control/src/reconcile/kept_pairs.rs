//! Kept pairs whose undo window is over are removed. Whether one may go is the task's to find out.

use undoo_core::{Result, platform::TaskKind};
use undoo_store::restore_points;

use crate::{Control, tasks::About, work::Payload};

/// Restores that one round looks at.
const AT_A_TIME: u64 = 100;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let expired = restore_points::with_expired_undo(&control.store, control.now(), AT_A_TIME).await?;
    for point in expired {
        let payload = Payload::Purge { restore_id: point.id, accepted: false };
        let tx = control.store.begin().await?;
        let about = About::restore(&point, payload);
        match control.enqueue_for(&tx, TaskKind::Purge, about, None).await {
            Ok(_) => tx.commit().await?,
            // Somebody is at work there; the next round comes.
            Err(problem) if problem.code == "environment_busy" => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}
