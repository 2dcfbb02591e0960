//! What a restore, a backup and a swap are made of: orders, and in which order they are given.
//!
//! Commands and the platform go through here alike, so that there is one way of doing each. Nothing here
//! shows anything or asks anybody: questions are put between the calls.

pub mod backup;
pub mod report;
pub mod restore;
pub mod stop_first;
pub mod swap;
