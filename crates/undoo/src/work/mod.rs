//! What a restore, a backup and a swap are made of: orders, and in which order they are given.
//!
//! Commands and the platform go through here alike, so that there is one way of doing each. Nothing here
//! shows anything or asks anybody: questions are put between the calls.

pub mod backup;
pub mod checkouts;
pub mod deploy;
pub mod modules;
pub mod new;
pub mod report;
pub mod restore;
pub mod stop_first;
pub mod swap;

/// How many things are done at a time where nothing was said: as many as there are processors, at most 8. `there`
/// are those of the machine that works, where that is another than this one.
fn processors(there: Option<usize>) -> usize {
    there.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from)).min(8)
}
