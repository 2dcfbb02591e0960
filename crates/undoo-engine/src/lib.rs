//! The data plane: inspect, plan, load, verify, cut over, undo.
//!
//! The engine knows PostgreSQL and a directory of filestores. It knows no Docker and no HTTP server: what
//! has to be stopped and started is a [`swap::Services`] of its caller. It runs inside a mover container
//! or inside the command itself, with the same orders and answers.

pub mod attachments;
pub mod cluster;
pub mod filestore;
pub mod health;
pub mod home;
pub mod load;
pub mod order;
pub mod outgoing;
pub mod pairs;
pub mod pg;
pub mod record;
pub mod stage;
pub mod swap;
pub mod verify;
