//! Undo, redo and the end of a cutover that broke off: which pair of the newest restore is live.

use undoo_core::{RestoreId, Side};
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

/// Makes a side live.
///
/// # Errors
/// Those of the cutover.
pub async fn swap(place: &Place, id: RestoreId, to: Side, caller: Caller<'_>) -> Result<Record, Failure> {
    place.cut_over(Cutover { id, to, auto_rollback: true, booted_ms: None }, caller).await
}
