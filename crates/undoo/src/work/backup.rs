//! A backup: made up to its manifest, signed, sealed and read back.
//!
//! The key stays here: the mover sends the manifest, and gets its signature. Whatever ends a backup before
//! it is sealed is waited for until everything is taken back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::Value;
use undoo_archive::{manifest::ours, verify::Level};
use undoo_core::{BackupId, Kind, Problem, RestoreId, Result, Signer};
use undoo_engine::{
    backup::{AddonsFolder, Assignment, Destination, Made, Unsigned},
    catalog::{self, Verification, keep_verification},
    encryption::Recipients,
    order::Failure,
    orders::Order,
};
use undoo_storage::{Access, Options, StorageConfig};

use crate::{caller::Caller, place::Place};

/// A backup and how it is to be made.
pub struct Backup {
    /// The backup.
    pub id: BackupId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The restore whose kept pair is backed up; `None` for the live one.
    pub kept: Option<RestoreId>,
    /// Where it goes. A folder of this machine is named from the root.
    pub storage: StorageConfig,
    /// What it becomes there.
    pub key: String,
    /// Whom it is encrypted to.
    pub recipients: Recipients,
    /// Whether the files are left out.
    pub database_only: bool,
    /// Compression, from 1 to 9; 0 stores everything as it is.
    pub level: u8,
    /// Threads that compress.
    pub threads: usize,
    /// Folders of custom modules, besides those that are found.
    pub addons: Vec<PathBuf>,
    /// Whose it is, as its manifest says.
    pub organisation: String,
    /// The environment, as its manifest says.
    pub environment: String,
    /// The `pg_dump` to use, where one is named.
    pub pg_dump: Option<PathBuf>,
}

/// A backup that stands in its storage.
pub struct Kept {
    /// What was made.
    pub made: Made,
    /// Its manifest, as it was signed.
    pub manifest: Value,
}

/// A usual compression.
pub const LEVEL: u8 = 6;

/// Threads that compress: the processors there are, at most 8; `processors` are those of another machine that
/// works.
pub fn threads(processors: Option<usize>) -> usize {
    super::processors(processors)
}

impl Backup {
    /// Makes it, and keeps beside it that it was read back.
    ///
    /// # Errors
    /// Those of the orders, with everything taken back.
    pub async fn make(&self, place: &Place, signer: &Signer, caller: Caller<'_>) -> Result<Kept, Failure> {
        let work = self.assignment(place, signer).await?;
        let kept = self.order(place, work, signer, caller).await;
        let ended = match &kept {
            Ok(_) => place.close().await,
            Err(_) => place.call_off().await,
        };
        if let Err(left) = ended.and(place.remove_ended().await) {
            caller.say(format!("containers of backups stay until a later one removes them: {left}"));
        }
        let kept = kept?;
        if kept.made.verified
            && let Err(problem) = self.keep_verification(&kept.made, signer).await
        {
            caller.say(format!("that it was read back was not kept beside it: {problem}"));
        }
        Ok(kept)
    }

    /// Takes back what an earlier attempt at this very backup has left in the storage. Nobody may be at work on
    /// it any more.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn take_back(&self) -> Result<()> {
        let storage = self.storage.storage(&Options::default())?;
        if storage.stat(&self.key).await?.is_some() {
            storage.delete(&self.key).await?;
        }
        Ok(())
    }

    async fn assignment(&self, place: &Place, signer: &Signer) -> Result<Assignment> {
        let (mut environment, mut addons) = place.environment().await?;
        addons.extend(self.addons.iter().cloned());
        if let Access::Local { path } = self.storage.access() {
            // In a mover the folders would become root's.
            let folder = path.join(&self.key);
            let folder = folder.parent().unwrap_or(path);
            fs::create_dir_all(folder).map_err(|error| not_made(folder, error))?;
        }
        environment.id = Some(self.environment.clone());
        let place_of_it = self.storage.storage(&Options::default())?.place().to_owned();
        Ok(Assignment {
            id: self.id,
            created_at: self.created_at,
            kept: self.kept,
            target: place.target().clone(),
            storage: self.storage.clone(),
            recipients: self.recipients.clone(),
            object: Destination { place: place_of_it, key: self.key.clone() },
            database_only: self.database_only,
            level: self.level,
            threads: self.threads,
            addons: AddonsFolder::named(addons),
            organisation: self.organisation.clone(),
            environment,
            undoo_version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: signer.public_key(),
            pg_dump: self.pg_dump.clone(),
        })
    }

    async fn order(
        &self,
        place: &Place,
        work: Assignment,
        signer: &Signer,
        caller: Caller<'_>,
    ) -> Result<Kept, Failure> {
        let id = work.id;
        let unsigned: Unsigned = place.order(Order::Backup { work: Box::new(work) }, caller).await?;
        let manifest = manifest(&unsigned.text, id)?;
        let signature = signer.sign(unsigned.text.as_bytes());
        let made = place.order(Order::Seal { id, signature }, caller).await?;
        Ok(Kept { made, manifest })
    }

    /// Keeps beside the backup that it was read back, for `undoo prune`. The backup stands whether this works
    /// or not.
    async fn keep_verification(&self, made: &Made, signer: &Signer) -> Result<()> {
        let verification = Verification {
            format: catalog::FORMAT,
            key: made.object.key.clone(),
            backup_id: made.id,
            created_at: self.created_at,
            bytes: made.bytes,
            level: Level::Checksums,
            verified_at: Timestamp::now(),
        };
        let storage = self.storage.storage(&Options::default())?;
        keep_verification(&*storage, &verification, signer).await
    }
}

/// The manifest in a text that is to be signed: of this very backup, and nothing else.
fn manifest(text: &str, id: BackupId) -> Result<Value> {
    let manifest = text.as_bytes().strip_prefix(ours::SIGNED);
    let manifest: Option<Value> = manifest.and_then(|manifest| serde_json::from_slice(manifest).ok());
    manifest.filter(|manifest| manifest["undoo"]["backup_id"] == id.to_string()).ok_or_else(|| {
        Problem::new(
            Kind::Invalid,
            "not_to_be_signed",
            "what came to be signed is no manifest of this backup",
            "see that both sides are the same version of undoo",
        )
    })
}

/// What a folder of this machine that cannot be made comes to.
pub fn not_made(path: &Path, error: io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "folder_not_made",
        format!("the folder {} is not there and cannot be made: {error}", path.display()),
        "make it, or name another one",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_this_backups_manifest_is_signed() {
        let id = BackupId::generate();
        let text = |id: &str| format!("undoo manifest 1\n{{\"undoo\": {{\"backup_id\": \"{id}\"}}}}");
        assert!(manifest(&text(&id.to_string()), id).is_ok());
        for other in [text(&BackupId::generate().to_string()), "{}".into(), "undoo manifest 1\n".into()] {
            assert_eq!(manifest(&other, id).expect_err("refused").code, "not_to_be_signed");
        }
    }
}
