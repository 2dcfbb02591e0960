//! Nothing is left of uploads that nobody goes on with.

use jiff::SignedDuration;
use undoo_core::Result;
use undoo_store::migrations;

use crate::Control;

/// An upload to which nothing came for so long is not gone on with any more.
const IDLE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Uploads that one round looks at.
const AT_A_TIME: u64 = 20;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    for idle in migrations::abandoned(&control.store, control.now() - IDLE, AT_A_TIME).await? {
        let id = idle.id;
        if let Err(problem) = control.upload_abandoned(idle).await {
            tracing::debug!(%problem, migration = %id, "what is left of an upload stays for now");
        }
    }
    Ok(())
}
