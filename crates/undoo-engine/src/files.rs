//! A filestore-only restore: files added to the live filestore, nothing newer removed.
//!
//! A file is named by the SHA-1 of its content, so adding one can overwrite nothing but a file that is not
//! what its name says. That one is kept beside, in the restore's own directory.

use std::{fs, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use undoo_archive::backup::Backup;
use undoo_core::{Kind, Problem, Result};

use crate::{
    blocking,
    filestore::{self, CorruptFile, Stage, store_fname},
    home::{Home, at, sync_directory},
    lock::Locked,
    order::{Audience, Failure},
    restore::{self, Assignment},
};

/// Directory in the restore's own for files on their way.
pub const STAGING: &str = "files";
/// Directory in the restore's own for files that were not what their names say.
pub const ASIDE: &str = "aside";

/// What was added.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Files that were not there.
    pub added: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that were there and hold.
    pub present: u64,
    /// Files that were there, were not what their names say, and were replaced.
    pub replaced: Vec<String>,
    /// Where those are that were replaced.
    pub kept: Option<PathBuf>,
    /// Files of the backup that are not what their names say; they were left out.
    pub corrupt: Vec<CorruptFile>,
}

/// Adds a backup's files to the live filestore.
///
/// # Errors
/// Those of the backup and of the file system. Files that were added before stay; they are whole.
pub async fn add(
    _locked: &Locked,
    work: &Assignment,
    backup: Arc<Backup>,
    audience: &dyn Audience,
) -> Result<Added, Failure> {
    let target = &work.target;
    let home = Home::of(&target.filestore_root);
    let plan = restore::plan(work, &backup, audience).await?;
    if let Some(failure) = Failure::of(&plan.findings, &work.options.accept) {
        return Err(failure);
    }
    home.create(&work.id, &target.database)?;
    let live = target.filestore_root.join(&target.database);
    let staging = home.restore(&work.id).join(STAGING);
    let stage = Arc::new(Stage::create(&staging, &live, target.files_owner, work.options.trust_size)?);
    restore::fill(backup, Arc::clone(&stage), work.options.parts).await?;
    let stage = Arc::into_inner(stage).ok_or_else(|| {
        Problem::new(
            Kind::Internal,
            "stage_shared",
            "the staged files are still in use",
            "please report this",
        )
    })?;
    let (staged, files) = stage.finish()?;
    let aside = home.restore(&work.id).join(ASIDE);
    let id = work.id;
    let added = blocking(move || {
        let mut added = Added { corrupt: staged.corrupt, ..Added::default() };
        if !live.exists() {
            fs::create_dir_all(&live).map_err(at("create", &live))?;
            filestore::dress_like(&live, &staging)?;
        }
        for (hash, size) in files {
            let name = store_fname(&hash);
            let (from, to) = (staging.join(&name), live.join(&name));
            let folder = live.join(&name[..2]);
            if !folder.exists() {
                fs::create_dir_all(&folder).map_err(at("create", &folder))?;
                filestore::dress_like(&folder, &staging.join(&name[..2]))?;
            }
            if staged.live_corrupt.contains(&name) {
                let kept = aside.join(&name);
                fs::create_dir_all(aside.join(&name[..2])).map_err(at("create", &kept))?;
                fs::rename(&to, &kept).map_err(at("move aside", &to))?;
                added.replaced.push(name);
            } else if to.exists() {
                added.present += 1;
                continue;
            } else {
                added.added += 1;
                added.bytes += size;
            }
            fs::rename(&from, &to).map_err(at("place", &to))?;
        }
        sync_directory(&live).map_err(at("sync", &live))?;
        added.replaced.sort();
        // An attempt before this one may have moved some aside.
        if !aside.exists() {
            home.remove(&id)?;
        } else {
            crate::home::remove_tree(&staging)?;
            added.kept = Some(aside);
        }
        Ok(added)
    })
    .await?;
    Ok(added)
}
