//! A backup of a live pair: linked, dumped, written to a storage in one stream, and read back.
//!
//! Two orders make one. The first goes up to the manifest, which whoever gave it signs: the key never
//! comes here. The second seals the backup and reads it back. In between, and whatever ends it, nothing
//! stands under the key that the backup will have, and nothing live was changed.

mod addons;
mod dump;
pub(crate) mod kept;
mod make;
mod snapshot;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use undoo_archive::manifest::ours::{Environment, Warning};
use undoo_core::{BackupId, Kind, Problem, RestoreId, Result};
use undoo_storage::{CancellationToken, StorageConfig};

pub use addons::{Addons, AddonsFolder, collect};
pub use snapshot::Destination;

use kept::Kept;

use crate::{
    encryption::Recipients,
    order::{Answer, Audience, Target},
};

/// Who backs up what to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The backup.
    pub id: BackupId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// What is backed up.
    pub target: Target,
    /// The restore whose kept pair is backed up; `None` for the live one.
    #[serde(default)]
    pub kept: Option<RestoreId>,
    /// The storage.
    pub storage: StorageConfig,
    /// What the backup becomes there. The place is the storage's address as the person sees it.
    pub object: Destination,
    /// Whom it is encrypted to.
    #[serde(default)]
    pub recipients: Recipients,
    /// Whether the files are left out.
    pub database_only: bool,
    /// Compression, from 1 to 9; 0 stores everything as it is.
    pub level: u8,
    /// Threads that compress.
    pub threads: usize,
    /// Folders of custom modules.
    pub addons: Vec<AddonsFolder>,
    /// Whose backup it is.
    pub organisation: String,
    /// What is known of the system by whoever gives the order; the rest is found here.
    pub environment: Environment,
    /// Version of the program that gives the order.
    pub undoo_version: String,
    /// Public half of the key that will sign.
    pub public_key: String,
    /// The `pg_dump` to use, where one is named.
    pub pg_dump: Option<PathBuf>,
}

/// A backup that waits for its signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unsigned {
    /// The text to sign: what precedes a manifest where it is signed, and the manifest.
    pub text: String,
}

/// A backup that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// The backup.
    pub id: BackupId,
    /// Where it is.
    pub object: Destination,
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes of the dump.
    pub dump_bytes: u64,
    /// Rows of all tables, where the dump was understood.
    pub rows: Option<u64>,
    /// Files of the filestore.
    pub files: u64,
    /// Bytes of them.
    pub files_bytes: u64,
    /// Files of custom modules.
    pub addons: u64,
    /// What was found on the way; it is in the manifest too.
    pub warnings: Vec<Warning>,
    /// Whether it was read back and is what was written.
    pub verified: bool,
    /// Seconds from the first step to here.
    pub seconds: f64,
}

/// How far a backup has come.
pub(crate) enum Step {
    /// The database is in: what happens on the target does not concern it any more.
    Dumped,
    /// The manifest waits for its signature.
    Unsigned(Unsigned),
    /// It is done.
    Made(Box<Made>),
}

/// What the thread that makes a backup tells.
enum Event {
    Tell(Answer),
    Dumped,
    Unsigned(String),
}

/// A backup that is being made, by a thread of its own. It goes on between orders.
pub(crate) struct Open {
    /// Which one.
    pub(crate) id: BackupId,
    cancel: CancellationToken,
    events: mpsc::UnboundedReceiver<Event>,
    signature: Option<oneshot::Sender<String>>,
    work: Option<JoinHandle<Result<Made>>>,
}

impl Open {
    /// Begins one, of the kept pair that was opened for it, else of the live one. The caller holds the
    /// target's lock until [`Step::Dumped`].
    pub(crate) fn begin(work: Assignment, kept: Option<&Kept>) -> Self {
        let cancel = CancellationToken::new();
        let (tell, events) = mpsc::unbounded_channel();
        let (signature, signed) = oneshot::channel();
        let id = work.id;
        let maker = make::Maker::new(work, kept, cancel.clone(), tell, signed);
        let work = tokio::task::spawn_blocking(move || maker.make());
        Self { id, cancel, events, signature: Some(signature), work: Some(work) }
    }

    /// Gives the signature that it waits for.
    pub(crate) fn sign(&mut self, signature: String) {
        if let Some(waiting) = self.signature.take() {
            // If nobody waits any more, its end says why.
            let _ = waiting.send(signature);
        }
    }

    /// Passes on what it tells until it has come a step further.
    ///
    /// # Errors
    /// What it failed with; everything is taken back then.
    pub(crate) async fn next(&mut self, audience: &dyn Audience) -> Result<Step> {
        loop {
            match self.events.recv().await {
                Some(Event::Tell(answer)) => audience.tell(answer),
                Some(Event::Dumped) => return Ok(Step::Dumped),
                Some(Event::Unsigned(text)) => return Ok(Step::Unsigned(Unsigned { text })),
                None => return self.ended().await.map(|made| Step::Made(Box::new(made))),
            }
        }
    }

    async fn ended(&mut self) -> Result<Made> {
        let broke_down = || {
            Problem::new(
                Kind::Internal,
                "backup_broke_down",
                "the backup's thread broke down",
                "please report this",
            )
        };
        match self.work.take() {
            Some(work) => work.await.map_err(|error| broke_down().caused_by(error))?,
            None => Err(broke_down()),
        }
    }

    /// Ends it, if it is not done, and waits until everything is taken back.
    pub(crate) async fn cancel(mut self) {
        self.cancel.cancel();
        self.signature = None;
        if let Some(work) = self.work.take() {
            match work.await {
                Ok(Err(problem)) => tracing::debug!(%problem, "a backup was ended"),
                Ok(Ok(_)) => {}
                Err(error) => tracing::warn!(%error, "a backup's thread broke down"),
            }
        }
    }
}

fn cancelled() -> Problem {
    Problem::new(Kind::Cancelled, "cancelled", "the work was cancelled", "")
}
