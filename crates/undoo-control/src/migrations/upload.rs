//! The file of a migration on its way into its storage: it may come in pieces, over days, through several control
//! planes. What the storage has confirmed is how far it is.
//!
//! Whoever sends last is the one who sends: a line that broke is often not noticed here before its owner is back.

use std::{fmt::Display, time::Duration};

use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use undoo_core::{
    Kind, MigrationId, Problem, Result,
    platform::{Migration, MigrationStatus, Permission, TaskKind},
};
use undoo_storage::{Options, Storage, Upload};
use undoo_store::migrations;

use super::{locked, not_uploaded};
use crate::{Caller, Control, backups::known, control::invalid, tasks::About};

/// After so many bytes it is looked whether somebody else sends meanwhile.
const LOOK_EVERY: u64 = 32 << 20;
/// A sender that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(120);

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadState {
    /// Bytes of the file.
    pub size: u64,
    /// How many of them, from its beginning, are in the storage.
    pub arrived: u64,
}

/// The right to send, until somebody else takes it.
struct Turn {
    migration: Migration,
    size: u64,
    key: String,
    storage: std::sync::Arc<dyn Storage>,
}

impl Control {
    /// How far the upload of a migration is.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.create`; `nothing_to_upload` (`Conflict`) where its file was in
    /// a storage already; those of the storage.
    pub async fn migration_upload_state(&self, caller: &Caller, id: MigrationId) -> Result<UploadState> {
        let migration = self.migration_for(&self.store, caller, id, Permission::EnvironmentsCreate).await?;
        let size = size_of(&migration)?;
        if !migration.takes_bytes() {
            return Ok(UploadState { size, arrived: if migration.uploaded_at.is_some() { size } else { 0 } });
        }
        if migration.upload.is_none() {
            return Ok(UploadState { size, arrived: 0 });
        }
        let turn = self.turn_of(migration).await?;
        let arrived = match self.go_on(&turn).await? {
            GoOn::Whole => size,
            GoOn::At(upload) => upload.written(),
            GoOn::Lost => 0,
        };
        Ok(UploadState { size, arrived })
    }

    /// Takes bytes of the file of a migration, from this one on. With the last of them it is whole, and is read
    /// from end to end. When it breaks off, what has arrived stays. It is not to be dropped: what is on its way to
    /// the storage would be lost.
    ///
    /// # Errors
    /// As [`Control::migration_upload_state`]; `upload_offset` (`Conflict`) where it goes on at another byte;
    /// `upload_closed`, `upload_taken_over` (`Conflict`); `upload_too_long`, `piece_too_small` (`Invalid`);
    /// `upload_broken_off` (`Unavailable`).
    pub async fn migration_upload<B: AsRef<[u8]>, E: Display>(
        &self,
        caller: &Caller,
        id: MigrationId,
        from: u64,
        content: impl Stream<Item = Result<B, E>> + Unpin,
        stop: &CancellationToken,
    ) -> Result<UploadState> {
        let migration = self.migration_for(&self.store, caller, id, Permission::EnvironmentsCreate).await?;
        let size = size_of(&migration)?;
        if !migration.takes_bytes() {
            let whole = migration.uploaded_at.is_some() && from == size;
            return if whole { Ok(UploadState { size, arrived: size }) } else { Err(closed(&migration)) };
        }
        let turn = self.take_turn(id).await?;
        let mut upload = match self.begin_or_go_on(&turn).await? {
            Some(upload) if upload.written() == from => upload,
            Some(upload) => return Err(offset(from, upload.written())),
            None => return self.whole(caller, &turn).await,
        };
        let received = self.receive(&turn, &mut upload, content, stop).await;
        if received.is_ok() && upload.written() == size {
            self.has_turn(&turn).await?;
            upload.finish().await?;
            return self.whole(caller, &turn).await;
        }
        let (given, least) = (upload.written(), upload.least());
        let arrived = upload.leave().await?;
        received?;
        if arrived == from && given > from {
            let message = format!("of the {} bytes that were sent, the storage keeps none yet", given - from);
            let remedy = format!("Send all that is left, or at least {least} bytes at a time.");
            return Err(invalid("piece_too_small", message, &remedy));
        }
        Ok(UploadState { size, arrived })
    }

    async fn turn_of(&self, migration: Migration) -> Result<Turn> {
        let backup = known(&self.store, migration.backup_id).await?;
        let (config, key) = self.backup_place(&backup).await?;
        let storage = config.storage(&Options::default())?;
        Ok(Turn { size: size_of(&migration)?, migration, key, storage })
    }

    async fn take_turn(&self, id: MigrationId) -> Result<Turn> {
        let tx = self.store.begin().await?;
        let mut migration = locked(&tx, id).await?;
        if !migration.takes_bytes() {
            return Err(closed(&migration));
        }
        migration.upload_epoch += 1;
        migration.upload_at = Some(self.now());
        migration.status = MigrationStatus::Uploading;
        migrations::update(&tx, &migration).await?;
        tx.commit().await?;
        self.turn_of(migration).await
    }

    /// Refuses whoever does not send any more.
    async fn has_turn(&self, turn: &Turn) -> Result<()> {
        let now = migrations::get(&self.store, turn.migration.id).await?;
        is_turn(now.as_ref(), turn)
    }

    /// The upload, begun or gone on with; `None` where it is whole already.
    async fn begin_or_go_on(&self, turn: &Turn) -> Result<Option<Upload>> {
        match self.go_on(turn).await? {
            GoOn::At(upload) => return Ok(Some(*upload)),
            GoOn::Whole => return Ok(None),
            GoOn::Lost => {}
        }
        let mut upload = turn.storage.write(&turn.key, Some(turn.size))?;
        let id = upload.keep().await?;
        let tx = self.store.begin().await?;
        let mut now = locked(&tx, turn.migration.id).await?;
        if let Err(problem) = is_turn(Some(&now), turn) {
            upload.abort().await?;
            return Err(problem);
        }
        now.upload = Some(id);
        migrations::update(&tx, &now).await?;
        tx.commit().await?;
        Ok(Some(upload))
    }

    async fn go_on(&self, turn: &Turn) -> Result<GoOn> {
        let Some(id) = &turn.migration.upload else { return Ok(GoOn::Lost) };
        match turn.storage.resume(&turn.key, id, Some(turn.size)).await {
            // What a broken line has doubled is of no use.
            Ok(upload) if upload.written() > turn.size => upload.abort().await.map(|()| GoOn::Lost),
            Ok(upload) => Ok(GoOn::At(Box::new(upload))),
            Err(problem) if problem.code == "upload_gone" => {
                let there = turn.storage.stat(&turn.key).await?;
                let whole = there.is_some_and(|there| there.size == turn.size);
                Ok(if whole { GoOn::Whole } else { GoOn::Lost })
            }
            Err(problem) => Err(problem),
        }
    }

    async fn receive<B: AsRef<[u8]>, E: Display>(
        &self,
        turn: &Turn,
        upload: &mut Upload,
        mut content: impl Stream<Item = Result<B, E>> + Unpin,
        stop: &CancellationToken,
    ) -> Result<()> {
        let mut looked = upload.written();
        loop {
            let next = tokio::select! {
                next = timeout(SILENCE, content.next()) => next,
                () = stop.cancelled() => return Err(broken_off("this server is stopping")),
            };
            let piece = match next {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return Err(broken_off(&error.to_string())),
                Err(_) => return Err(broken_off("nothing came any more")),
            };
            let piece = piece.as_ref();
            if upload.written() + piece.len() as u64 > turn.size {
                let message = format!("more than the {} bytes that were announced were sent", turn.size);
                return Err(invalid("upload_too_long", message, "Begin another migration for another file."));
            }
            upload.write(piece).await?;
            if upload.written() - looked >= LOOK_EVERY {
                looked = upload.written();
                self.has_turn(turn).await?;
            }
        }
    }

    /// Notes that all of it is there, and has it read.
    async fn whole(&self, caller: &Caller, turn: &Turn) -> Result<UploadState> {
        let tx = self.store.begin().await?;
        let mut migration = locked(&tx, turn.migration.id).await?;
        if migration.takes_bytes() {
            migration.status = MigrationStatus::Verifying;
            migration.uploaded_at = Some(self.now());
            migration.upload = None;
            migrations::update(&tx, &migration).await?;
            self.enqueue(&tx, TaskKind::VerifyBackup, About::migration(&migration), caller).await?;
            let data = json!({ "bytes": turn.size });
            let organisation = migration.organisation_id;
            self.note(&tx, Some(caller), organisation, "migration.uploaded", migration.id, data).await?;
            tx.commit().await?;
        }
        Ok(UploadState { size: turn.size, arrived: turn.size })
    }

    /// Removes what has arrived of an upload that nobody goes on with.
    pub(crate) async fn upload_abandoned(&self, idle: Migration) -> Result<()> {
        let (id, upload) = (idle.id, idle.upload.clone());
        let turn = self.turn_of(idle).await?;
        let tx = self.store.begin().await?;
        let mut now = locked(&tx, id).await?;
        if now.upload != upload || now.upload_epoch != turn.migration.upload_epoch {
            return Ok(());
        }
        now.status = MigrationStatus::Cancelled;
        now.upload_epoch += 1;
        migrations::update(&tx, &now).await?;
        tx.commit().await?;
        if let Some(upload) = upload {
            let left = undoo_storage::Unfinished { key: turn.key, id: upload, started: None };
            turn.storage.discard(&left).await?;
        }
        let tx = self.store.begin().await?;
        let mut now = locked(&tx, id).await?;
        now.upload = None;
        migrations::update(&tx, &now).await?;
        let data =
            json!({ "why": "nobody went on with its upload, or its environment is not wanted any more" });
        self.note(&tx, None, now.organisation_id, "migration.cancelled", id, data).await?;
        tx.commit().await
    }
}

/// What there is of an upload.
enum GoOn {
    At(Box<Upload>),
    Whole,
    Lost,
}

fn is_turn(now: Option<&Migration>, turn: &Turn) -> Result<()> {
    if now.is_some_and(|now| now.takes_bytes() && now.upload_epoch == turn.migration.upload_epoch) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Conflict,
        "upload_taken_over",
        format!("somebody else goes on with the upload of migration {}", turn.migration.id),
        "Only one can send at a time: ask how far it is, and go on from there.",
    ))
}

fn size_of(migration: &Migration) -> Result<u64> {
    migration.upload_bytes.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "nothing_to_upload",
            format!("the file of migration {} lay in its storage already", migration.id),
            "Begin another migration to upload a file.",
        )
    })
}

fn closed(migration: &Migration) -> Problem {
    if migration.uploaded_at.is_none() {
        return not_uploaded(migration);
    }
    let message = format!("the file of migration {} is whole, and nothing is added to it", migration.id);
    Problem::new(Kind::Conflict, "upload_closed", message, "Begin another migration for another file.")
}

fn offset(asked: u64, at: u64) -> Problem {
    let message = format!("{at} bytes have arrived, and byte {asked} is not the next one");
    Problem::new(Kind::Conflict, "upload_offset", message, "Ask how far it is (HEAD), and go on from there.")
}

fn broken_off(why: &str) -> Problem {
    let message = format!("the upload broke off: {why}");
    Problem::new(Kind::Unavailable, "upload_broken_off", message, "Ask how far it is, and go on from there.")
}
