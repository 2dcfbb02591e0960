//! Making room before a restore, for a disk that cannot hold two databases: Odoo is stopped, and what is live
//! is dropped by the order that stages.
//!
//! It is never come to by itself: a person has typed the database's name. What is to be seen before the drop
//! is seen before Odoo is stopped.

use undoo_core::Result;
use undoo_engine::{
    order::{Failure, Strategy},
    orders::Order,
};

use super::restore::Restore;
use crate::{caller::Caller, place::Place};

/// Whether Odoo has to be stopped for this restore: it makes room first, nothing stands in its way, and the
/// name that was typed is the database's.
///
/// # Errors
/// Those of the plan, and its findings that nobody accepted.
pub async fn is_due(restore: &Restore, place: &Place, caller: Caller<'_>) -> Result<bool, Failure> {
    let Strategy::StopFirst { confirmed } = &restore.work.options.strategy else { return Ok(false) };
    let plan = restore.plan(place, caller).await?;
    if let Some(failure) = Failure::of(&plan.findings, &restore.work.options.accept) {
        return Err(failure);
    }
    // Another name is refused by the order that stages.
    Ok(*confirmed == place.target().database)
}

/// Stops Odoo.
///
/// # Errors
/// Those of stopping it; then it runs again, or the message says why not.
pub async fn stop(place: &Place, caller: Caller<'_>) -> Result<(), Failure> {
    match place.stop(caller).await {
        Ok(()) => Ok(()),
        Err(problem) => Err(with_odoo_stopped(place, problem.into(), caller).await),
    }
}

/// A failure after Odoo was stopped to make room: where nothing was dropped it is started again, else it
/// has to be said that it stays stopped, and why.
pub async fn with_odoo_stopped(place: &Place, mut failure: Failure, caller: Caller<'_>) -> Failure {
    let database = &place.target().database;
    let said = match is_whole(place, caller).await {
        Ok(true) => match place.start_again(caller).await {
            Ok(()) => {
                format!("Odoo was stopped to make room, and runs again on \"{database}\", which is whole")
            }
            Err(problem) => format!(
                "Odoo was stopped to make room and could not be started again ({problem}); start it: \
                 \"{database}\" is whole"
            ),
        },
        Ok(false) => format!(
            "Odoo is stopped, because its database \"{database}\" was dropped to make room, as confirmed: it \
             has none until a restore succeeds, which starts it and gives the database its settings and \
             grants back"
        ),
        Err(_) => format!(
            "Odoo is stopped, to make room; whether its database \"{database}\" was dropped could not be seen"
        ),
    };
    failure.problem.message = format!("{}. {said}", failure.problem.message);
    failure
}

/// Starts Odoo again where an attempt that is no more has stopped it to make room, and dropped nothing.
///
/// # Errors
/// Those of Docker and of the orders.
pub async fn start_if_whole(place: &Place, caller: Caller<'_>) -> Result<(), Failure> {
    if place.is_stopped(caller).await? && is_whole(place, caller).await? {
        place.start_again(caller).await?;
    }
    Ok(())
}

/// Whether the live database is there.
async fn is_whole(place: &Place, caller: Caller<'_>) -> Result<bool, Failure> {
    let target = place.target();
    let order = Order::Databases { target: target.clone() };
    let names: Vec<String> = place.order(order, caller.quietly()).await?;
    Ok(names.contains(&target.database))
}
