//! What is done to a live system outside of a restore: held mail and crons let go, attachments matched.
//!
//! Nothing here stops, renames or loads anything.

use undoo_core::{Kind, Problem, Result, Side};

use crate::{
    attachments::{self, Reconciliation},
    blocking, filestore,
    home::Home,
    order::Target,
    outgoing::{self, HeldOutgoing},
    pg,
    record::{Record, State},
    restore::{FILE_THREADS, HELD},
};

/// Releases what a restore holds.
///
/// # Errors
/// `Missing` when it holds nothing.
pub async fn release(target: &Target, record: &Record) -> Result<(u64, u64)> {
    let home = Home::of(&target.filestore_root);
    let held: HeldOutgoing = home.read(&record.id, HELD)?.unwrap_or_default();
    if record.state != (State::Live { side: Side::Restored }) {
        return Err(Problem::new(
            Kind::Conflict,
            "not_live",
            format!("what restore {} holds is in its restored pair, which is not live", record.id),
            "bring that pair back first (`undoo undo`), or leave it held",
        ));
    }
    if held.is_empty() {
        return Err(Problem::new(
            Kind::Missing,
            "nothing_held",
            format!("restore {} holds no mail and no cron", record.id),
            "there is nothing to release",
        ));
    }
    let mut client = target.admin.connect(&target.database).await?;
    let released = outgoing::release(&mut client, &held).await?;
    home.write(&record.id, HELD, &HeldOutgoing::default())?;
    Ok(released)
}

/// Matches a live system's attachments with its files.
///
/// # Errors
/// When database or filestore cannot be read.
pub async fn verify(target: &Target) -> Result<Reconciliation> {
    let live = target.filestore_root.join(&target.database);
    let (files, corrupt) = blocking(move || filestore::examine(&live, FILE_THREADS)).await?;
    let client = target.admin.connect(&target.database).await?;
    client
        .batch_execute("SET default_transaction_read_only = on")
        .await
        .map_err(pg::failed("reading the live database"))?;
    attachments::reconcile(&client, &files, corrupt, &mut |_| Ok(false)).await
}
