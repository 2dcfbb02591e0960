//! A restore that is stuck was left to a person, who ends it on the server: how it came out is read off the
//! target. Which pair is live there is the truth; nothing is swapped or removed here.

use serde_json::{Value, json};
use undoo_core::{
    Result, Side,
    platform::{EventKind, RestorePoint, RestoreStatus},
};
use undoo_engine::record::{Record, State};
use undoo_store::restore_points;

use crate::{Control, restores::ends_of, tasks::restore_event};

/// Restores that one round looks at.
const AT_A_TIME: u64 = 20;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    for point in restore_points::stuck(&control.store, AT_A_TIME).await? {
        let id = point.id;
        if let Err(problem) = look(control, point).await {
            tracing::debug!(%problem, restore = %id, "where a stuck restore stands could not be seen");
        }
    }
    Ok(())
}

async fn look(control: &Control, mut point: RestorePoint) -> Result<()> {
    let (_, target) = ends_of(&control.store, &point).await?;
    let at = control.location_of(&target).await?;
    let record = control.plane.standing(&at, point.id).await?.map(|listed| listed.record);
    let Some(kind) = settle(&mut point, record.as_ref()) else { return Ok(()) };
    let tx = control.store.begin().await?;
    restore_points::update(&tx, &point, RestoreStatus::Stuck).await?;
    control.tell(&tx, restore_event(&point, kind, Value::Null)).await?;
    let data = json!({ "status": point.status });
    control.note(&tx, None, point.organisation_id, "restore.settled", point.id, data).await?;
    tx.commit().await
}

/// What has become of it; `None` while it is not decided. Once a kept pair was removed, the record no longer
/// says which one is live.
fn settle(point: &mut RestorePoint, record: Option<&Record>) -> Option<EventKind> {
    let (status, kind) = match record.map(|record| record.state) {
        Some(State::Live { side: Side::Restored }) => (RestoreStatus::Completed, EventKind::RestoreCompleted),
        Some(State::Live { side: Side::Replaced }) => (RestoreStatus::Undone, EventKind::RestoreUndone),
        None => (RestoreStatus::Failed, EventKind::RestoreFailed),
        Some(State::Staging | State::Staged | State::Swapping { .. } | State::Purged) => return None,
    };
    point.status = status;
    point.undo_until =
        record.filter(|record| record.replaced_oid.is_some()).and_then(|record| record.undo_until);
    if status == RestoreStatus::Completed {
        point.progress = 100;
    }
    Some(kind)
}
