//! What is only kept for a while is forgotten: events, idempotency keys, sessions and links that have ended.

use jiff::SignedDuration;
use undoo_core::Result;
use undoo_store::{access, events, idempotency};

use crate::Control;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let now = control.now();
    let kept = SignedDuration::from_hours(24 * i64::from(control.settings.event_days));
    if let Ok(oldest) = now.checked_sub(kept) {
        events::prune(&control.store, oldest).await?;
    }
    idempotency::prune(&control.store, now).await?;
    access::prune(&control.store, now).await
}
