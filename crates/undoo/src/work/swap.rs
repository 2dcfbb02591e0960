//! Undo, redo and the end of a cutover that broke off: which pair of the newest restore is live.

use undoo_core::Side;
use undoo_engine::{
    order::Failure,
    orders::{Order, UndoPlan},
    record::Record,
};

use crate::{
    caller::Caller,
    place::{Cutover, Place},
};

/// What swapping the newest restore's pairs would do.
///
/// # Errors
/// Those of the order.
pub async fn plan(place: &Place, caller: Caller<'_>) -> Result<UndoPlan, Failure> {
    place.order(Order::PlanUndo { target: place.target().clone() }, caller).await
}

/// Makes a side of the restore live whose record this is.
///
/// # Errors
/// Those of the cutover; `fenced` when its pairs were swapped since the record was read.
pub async fn swap(place: &Place, record: &Record, to: Side, caller: Caller<'_>) -> Result<Record, Failure> {
    let Record { id, epoch, .. } = *record;
    place.cut_over(Cutover { id, to, epoch, auto_rollback: true, booted_ms: None }, caller).await
}
