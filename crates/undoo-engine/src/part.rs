//! A backup in its storage, for who keeps it and restores nothing: handed out in parts, read from end to end.
//!
//! Bytes go from the storage to whoever asks; nothing is kept on a disk.

use std::{
    io::{self, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
pub use undoo_archive::verify::Report;
use undoo_archive::{
    Backup,
    backup::{FilestoreForm, inspect},
    convert,
    error::problem_of,
    verify::{self, Level},
};
use undoo_core::{Kind, Problem, Result, link::Member};
use undoo_storage::{BlockingObject, CancellationToken, Object, Opened, Options};

use crate::{
    blocking,
    order::{Answer, Audience, Phase},
    source::BackupOrder,
};

/// Members that are read at the same time.
const JOBS: usize = 2;
/// Threads that compress a filestore.
const THREADS: usize = 2;

/// A part that can be written.
pub struct Part(Found);

enum Found {
    Of(Arc<Backup>, Member),
    Whole(Arc<Object>),
}

/// Opens a backup for one of its parts.
///
/// # Errors
/// Those of the storage and of the archive readers.
pub async fn open(order: &BackupOrder, member: Member, options: &Options) -> Result<Part> {
    if member != Member::Zip {
        return Ok(Part(Found::Of(order.open(options).await?, member)));
    }
    match order.storage.access().open(&order.storage.options(options)).await? {
        Opened::File(object) => Ok(Part(Found::Whole(object))),
        Opened::Folder(_) => Err(Problem::new(
            Kind::Invalid,
            "not_one_object",
            format!("{} is a folder and no single object", order.storage.access()),
            "Its database and its filestore can be had by themselves.",
        )),
    }
}

impl Part {
    /// Writes the part, on a thread that may block.
    ///
    /// # Errors
    /// What readers find wrong; `Unavailable` when the storage or the output breaks off.
    pub async fn write<W: Write + Send + 'static>(self, mut out: W) -> Result<()> {
        let runtime = Handle::current();
        blocking(move || match self.0 {
            Found::Of(backup, Member::Filestore) => {
                convert::stream_filestore(&backup, out, THREADS, None).map(drop)
            }
            Found::Of(backup, _) => convert::stream_database(&backup, out).map(drop),
            Found::Whole(object) => {
                let size = object.size();
                let copied = BlockingObject::new(runtime, object)
                    .stream(0, size)
                    .and_then(|mut bytes| io::copy(&mut bytes, &mut out))
                    .and_then(|_| out.flush());
                copied.map_err(problem_of)
            }
        })
        .await
    }
}

/// What a backup says of where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// Versions, as our own backups name them in their manifest. Images are not among them: those that a stranger's
    /// file names are programs.
    pub snapshot: Value,
    /// Whether it has a dump.
    pub has_database: bool,
    /// Whether it has files.
    pub has_filestore: bool,
}

/// Says what a backup is of, after a few ranged reads.
///
/// # Errors
/// Those of the storage and of the archive readers.
pub async fn describe(order: &BackupOrder) -> Result<Described> {
    let backup = order.open(&Options::default()).await?;
    blocking(move || {
        let found = inspect(&backup)?;
        let ours = backup.manifest.as_ref().and_then(|manifest| manifest.undoo.as_ref());
        let ours = ours.map(|ours| &ours.environment);
        let odoo = ours.and_then(|ours| ours.odoo_version.as_deref()).or(found.odoo.version.as_deref());
        let server = found.database.as_ref().and_then(|database| database.server_version.as_deref());
        // Debian's and others' builds say more than the version.
        let server = server.and_then(|version| version.split_whitespace().next());
        let snapshot = json!({ "odoo_version": odoo, "postgres_version": server });
        Ok(Described {
            snapshot,
            has_database: found.database.is_some(),
            has_filestore: found.filestore.form != FilestoreForm::None,
        })
    })
    .await
}

/// Reads a backup to its last byte, as closely as can be, and says what was found.
///
/// # Errors
/// Those of the storage; `Cancelled` when `stop` is. What is wrong with the backup is in the report.
pub async fn verify(
    order: &BackupOrder,
    audience: Arc<dyn Audience>,
    stop: CancellationToken,
) -> Result<Report> {
    let backup = order.open(&Options::default()).await?;
    audience.tell(Answer::Phase { phase: Phase::Verify });
    let progress: verify::Progress = Arc::new(move |done, total| {
        if stop.is_cancelled() {
            let message = "the verification was called off";
            return Err(Problem::new(Kind::Cancelled, "cancelled", message, ""));
        }
        let unit = "bytes".to_owned();
        audience.tell(Answer::Progress { phase: Phase::Verify, done, total: Some(total), unit });
        Ok(())
    });
    let options = verify::Options { level: Level::Deep, jobs: JOBS };
    blocking(move || verify::verify(&backup, &options, progress)).await
}
