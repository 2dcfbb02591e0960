//! The data plane: inspect, plan, load, verify, cut over, undo; and back up.
//!
//! The engine knows PostgreSQL and a directory of filestores. It knows no Docker and no HTTP server: what
//! has to be stopped and started is a [`swap::Services`] of its caller. It runs inside a mover container
//! or inside the command itself, with the same orders and answers.

pub mod attachments;
pub mod backup;
pub mod catalog;
pub mod cluster;
pub mod encryption;
pub mod files;
pub mod filestore;
pub mod health;
pub mod home;
pub mod live;
pub mod load;
pub mod lock;
pub mod order;
pub mod orders;
pub mod outgoing;
pub mod pairs;
pub mod part;
pub mod pg;
pub mod preflight;
pub mod properties;
pub mod record;
pub mod restore;
pub mod room;
pub mod source;
pub mod stage;
pub mod swap;
pub mod trust;
pub mod verify;

use undoo_core::{Kind, Problem, Result};

/// Runs work that blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Problem::new(Kind::Internal, "work_broke_down", "a working thread broke down", "please report this")
            .caused_by(error)
    })?
}
