//! Handing out a backup: signed addresses of its storage where that can sign, of our own where it cannot and
//! for the parts that are no objects.

use std::{io::Write, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use secrecy::SecretString;
use serde_json::json;
use tokio::{runtime::Handle, sync::mpsc};
use undoo_core::{
    BackupId, Kind, Problem, Result,
    link::{Link, MOST_EXPIRES_IN, Member},
    platform::Permission,
    word,
};
use undoo_engine::part;
use undoo_storage::Options;
use undoo_store::backups;

use super::completed;
use crate::{
    Caller, Control,
    control::{Named, invalid},
};

/// Addresses of a backup, which anybody who has them can use.
#[derive(Debug)]
pub struct Download {
    /// How long they hold, in seconds.
    pub expires_in: u32,
    /// Them.
    pub urls: Urls,
}

/// Addresses of a backup and of its parts.
#[derive(Debug)]
pub struct Urls {
    /// The dump.
    pub database: SecretString,
    /// The filestore as a `.tar.gz`; `None` where the backup has none.
    pub filestore: Option<SecretString>,
    /// The backup as it lies in its storage.
    pub zip: SecretString,
}

/// A link of ours, as it came back.
#[derive(Debug, Clone)]
pub struct PartLink {
    /// The backup.
    pub backup_id: BackupId,
    /// Which part of it.
    pub member: Member,
    /// When it ends, in whole seconds since 1970.
    pub expires: i64,
    /// The signature, hexadecimal.
    pub signature: String,
}

/// A part that is being handed out.
pub struct Part<S> {
    /// What it is to be called.
    pub file_name: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes. An error among them means that what came so far is not whole.
    pub content: S,
}

impl Control {
    /// Addresses by which anybody can fetch the backup until they expire. `base_url` is where this platform
    /// is reached, without a slash at its end.
    ///
    /// # Errors
    /// As [`Control::backup_get`]; `backup_not_completed`, `link_expires_in` (`Invalid`).
    pub async fn backup_download(
        &self,
        caller: &Caller,
        id: BackupId,
        expires_in: Option<u32>,
        base_url: &str,
    ) -> Result<Download> {
        let backup = self.backup_for(&self.store, caller, id, Permission::BackupsView).await?;
        completed(&backup)?;
        let (signer, now) = (self.signer(backup.organisation_id).await?, self.now());
        let ours = |member| -> Result<SecretString> {
            let link = Link::new(backup.organisation_id.to_string(), id, member, expires_in, now)?;
            let (expires, signature) = (link.expires, link.sign(&signer));
            let query = format!("expires={expires}&signature={signature}");
            Ok(format!("{base_url}/api/v1/backups/{id}/parts/{}?{query}", word(&member)).into())
        };
        let database = ours(Member::Database)?;
        let has_files = backup.include_filestore && backup.filestore_size_bytes != Some(0);
        let filestore = has_files.then(|| ours(Member::Filestore)).transpose()?;
        let expires_in = expires_in.unwrap_or(undoo_core::link::EXPIRES_IN).min(MOST_EXPIRES_IN);
        let (config, key) = self.backup_place(&backup).await?;
        let storage = config.storage(&Options::default())?;
        let zip = match storage.presign(&key, Duration::from_secs(expires_in.into())).await? {
            Some(address) => address,
            None => ours(Member::Zip)?,
        };
        let tx = self.store.begin().await?;
        let data = json!({ "expires_in": expires_in });
        self.note(&tx, Some(caller), backup.organisation_id, "backup.download", id, data).await?;
        tx.commit().await?;
        Ok(Download { expires_in, urls: Urls { database, filestore, zip } })
    }

    /// What a link of ours leads to, as it is read from the storage.
    ///
    /// # Errors
    /// `link_invalid`, `link_expired` (`Denied`); `not_found`; those of the storage.
    pub async fn backup_part(
        &self,
        link: &PartLink,
    ) -> Result<Part<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static>> {
        let named = Named("backup", link.backup_id);
        let backup = backups::get(&self.store, link.backup_id).await?.ok_or_else(|| named.missing())?;
        let signed = Link {
            organisation: backup.organisation_id.to_string(),
            backup: link.backup_id,
            member: link.member,
            expires: link.expires,
        };
        let key = self.signer(backup.organisation_id).await?.public_key();
        signed.check(&link.signature, &key, self.now())?;
        completed(&backup)?;
        let order = self.backup_order(&backup).await?;
        let (sender, receiver) = mpsc::channel(4);
        let member = link.member;
        if member == Member::Filestore && !backup.include_filestore {
            let message = format!("backup {} has no filestore", backup.id);
            return Err(invalid("no_filestore", message, "Its database can be had by itself."));
        }
        let turn = Arc::clone(&self.parts).try_acquire_owned().map_err(|_| busy())?;
        let opened = part::open(&order, member, &Options::default()).await?;
        let runtime = Handle::current();
        tokio::spawn(async move {
            let _turn = turn;
            let failed = sender.clone();
            if let Err(problem) = opened.write(Pieces { sender, runtime }).await {
                tracing::warn!(%problem, "a part of a backup was not handed out whole");
                let error = std::io::Error::other(problem.message);
                drop(failed.send(Err(error)).await);
            }
        });
        let content = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let (suffix, media_type) = match member {
            Member::Database => ("dump.sql", "application/sql"),
            Member::Filestore => ("filestore.tar.gz", "application/gzip"),
            Member::Zip => ("backup.zip", "application/zip"),
        };
        Ok(Part { file_name: format!("{}_{suffix}", backup.id.short()), media_type, content })
    }
}

/// Parts that are handed out at the same time: each keeps a thread.
pub(crate) const MOST_PARTS: usize = 16;
/// How long a piece waits to be fetched; whoever does not read for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(60);

fn busy() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "downloads_busy",
        format!("{MOST_PARTS} downloads are under way already"),
        "Try again in a while; the link holds until it expires.",
    )
}

/// Hands what a thread writes to whoever listens, a little ahead.
struct Pieces {
    sender: mpsc::Sender<std::io::Result<Vec<u8>>>,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = self.sender.send_timeout(Ok(bytes.to_vec()), PATIENCE);
        // Nobody listens any more, or reads: the work is broken off.
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.runtime.block_on(piece).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
