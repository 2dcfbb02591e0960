//! The backups in a storage: which there are, which are known to be whole, and which go.
//!
//! A backup cannot say of itself that it was read back, so that is said beside it, in an object of a few
//! hundred bytes that is signed by whoever looked. What is under `backups/` and not known to be ours is
//! named, and must never be removed; neither must anything that a rule or a guard keeps.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use undoo_archive::{Backup, manifest::ours::SignatureState, verify::Level};
use undoo_core::{
    BackupId, Finding, Kind, Problem, Result, Signed, Signer,
    retention::{self, Decision, Policy, Reason},
};
use undoo_storage::{BACKUPS, Entry, Storage, backup_parts, backup_prefix};

use crate::{
    encryption::Identities,
    source::{of_object, read_small},
};

/// What the key of a verification ends with, after its backup's.
const VERIFIED: &str = ".verified.json";
/// What precedes a verification where it is signed.
const SIGNED: &[u8] = b"undoo verification 1\n";
/// The form of a [`Verification`].
pub const FORMAT: u32 = 1;
/// Backups that are looked at side by side.
const AT_ONCE: usize = 8;

/// That a backup was read back and found whole, as it is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// [`FORMAT`].
    pub format: u32,
    /// The key of its object: it says nothing of any other.
    pub key: String,
    /// Which backup.
    pub backup_id: BackupId,
    /// When the backup was begun.
    pub created_at: Timestamp,
    /// Bytes of its object.
    pub bytes: u64,
    /// How closely it was looked at.
    pub level: Level,
    /// When.
    pub verified_at: Timestamp,
}

impl Verification {
    /// That a backup of `bytes` was found whole at `now`; `None` for one that is not ours, of which nothing is
    /// kept. The bytes are those of the object that was read, not of what lies at its key by now.
    pub fn of(backup: &Backup, key: String, bytes: u64, level: Level, now: Timestamp) -> Option<Self> {
        let ours = backup.manifest.as_ref()?.undoo.as_deref()?;
        Some(Self {
            format: FORMAT,
            key,
            backup_id: ours.backup_id,
            created_at: ours.created_at,
            bytes,
            level,
            verified_at: now,
        })
    }
}

/// The key of what is kept about a backup's verification.
pub(crate) fn verification_key(key: &str) -> String {
    format!("{key}{VERIFIED}")
}

/// Keeps beside a backup that it was read back and found whole. The one place that writes this: call it
/// after every verification that did.
///
/// # Errors
/// Those of the storage.
pub async fn keep_verification(
    storage: &dyn Storage,
    verification: &Verification,
    signer: &Signer,
) -> Result<()> {
    let signed = Signed::new(SIGNED, verification, signer)?;
    let text = serde_json::to_vec_pretty(&signed).map_err(|error| {
        Problem::new(Kind::Internal, "report", "the verification could not be written", "please report this")
            .caused_by(error)
    })?;
    let mut upload = storage.write(&verification_key(&verification.key), Some(text.len() as u64))?;
    upload.write(&text).await?;
    upload.finish().await?;
    Ok(())
}

/// What is to be looked at, and what is believed.
#[derive(Debug, Default)]
pub struct Query {
    /// One organisation only.
    pub organisation: Option<String>,
    /// One environment only.
    pub environment: Option<String>,
    /// Keys for backups that are encrypted and of which no verification is believed.
    pub identities: Identities,
    /// Public keys whose word for a verification is taken.
    pub trusted: Vec<String>,
    /// Addresses of backups that restores are reading.
    pub in_use: Vec<String>,
}

/// What lies in a storage under `backups/`.
#[derive(Debug, Default, Serialize)]
pub struct Catalog {
    /// By organisation and environment.
    pub environments: Vec<Environment>,
    /// What is not known to be a backup of ours, and stays.
    pub unknown: Vec<Unknown>,
}

/// The backups of an environment and what is to become of them.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Id of its organisation.
    pub organisation: String,
    /// Its id.
    pub environment: String,
    /// Newest first.
    pub backups: Vec<Kept>,
    /// What stands against removing any of them.
    pub findings: Vec<Finding>,
}

/// A backup in a storage.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Bytes of its object.
    pub bytes: u64,
    /// Which one.
    pub backup_id: BackupId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The verification that is believed.
    pub verified: Option<Verification>,
    /// Why it stays; nothing means that it goes.
    pub kept_because: Vec<Reason>,
}

impl Kept {
    /// Whether it stays.
    pub fn is_kept(&self) -> bool {
        !self.kept_because.is_empty()
    }
}

/// Something that stays because nobody knows what it is.
#[derive(Debug, Serialize)]
pub struct Unknown {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why it is not known.
    pub why: String,
}

/// Lists the backups in a storage and decides about them. Of a backup whose verification is believed, only
/// that is read; of any other, the directory and the manifest.
///
/// # Errors
/// When the storage cannot be listed. What cannot be read is unknown, and so stays.
pub async fn plan(storage: &dyn Storage, query: &Query, policy: &Policy, now: Timestamp) -> Result<Catalog> {
    let prefix = match (&query.organisation, &query.environment) {
        (Some(organisation), Some(environment)) => backup_prefix(organisation, environment),
        _ => BACKUPS.to_owned(),
    };
    let mut entries = storage.list(&prefix).await?;
    let differs =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_some_and(|wanted| wanted != found);
    entries.retain(|entry| {
        backup_parts(&entry.name).is_none_or(|(organisation, environment, _)| {
            !differs(&query.organisation, organisation) && !differs(&query.environment, environment)
        })
    });
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    // What is said of a backup goes with it.
    let of_a_backup = |name: &str| name.strip_suffix(VERIFIED).is_some_and(|of| names.contains(of));
    let looks = entries.iter().filter(|entry| !of_a_backup(&entry.name)).map(|entry| {
        let record = verification_key(&entry.name);
        let record = names.contains(record.as_str()).then_some(record);
        look(storage, query, entry, record)
    });
    let looks: Vec<_> = looks.collect();
    let found: Vec<_> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;

    let mut catalog = Catalog::default();
    let mut environments: BTreeMap<(String, String), Vec<Kept>> = BTreeMap::new();
    for found in found {
        match found {
            Err(unknown) => catalog.unknown.push(unknown),
            Ok(kept) => {
                let (organisation, environment, _) = backup_parts(&kept.key).unwrap_or_default();
                environments.entry((organisation.to_owned(), environment.to_owned())).or_default().push(kept);
            }
        }
    }
    for ((organisation, environment), mut backups) in environments {
        decide(storage, query, policy, &mut backups, now).await?;
        let findings = none_verified(&environment, &backups).into_iter().collect();
        catalog.environments.push(Environment { organisation, environment, backups, findings });
    }
    Ok(catalog)
}

/// Removes a backup that a plan does not keep, and then what is said of it.
///
/// # Errors
/// `backup_changed_while_read` when another object lies there by now; `object_locked`; those of the storage.
pub async fn remove(storage: &dyn Storage, backup: &Kept) -> Result<()> {
    match storage.stat(&backup.key).await? {
        Some(found) if found.size != backup.bytes => {
            return Err(Problem::new(
                Kind::Conflict,
                "backup_changed_while_read",
                format!("{} is another object by now", storage.place_of(&backup.key)),
                "Run the command again; nothing was removed there.",
            ));
        }
        Some(_) => storage.delete(&backup.key).await?,
        None => {}
    }
    storage.delete(&verification_key(&backup.key)).await
}

async fn look(
    storage: &dyn Storage,
    query: &Query,
    entry: &Entry,
    record: Option<String>,
) -> Result<Result<Kept, Unknown>> {
    let (key, bytes) = (entry.name.clone(), entry.size);
    let unknown = |why: String| Ok(Err(Unknown { key: key.clone(), bytes, why }));
    if backup_parts(&key).is_none() {
        return unknown("it is no key of a backup: backups/ORGANISATION/ENVIRONMENT/NAME".into());
    }
    if key.ends_with(VERIFIED) {
        return unknown("it tells of the verification of a backup that is not there".into());
    }
    let believed = match record {
        Some(record) => {
            let found = verification(storage, query, &record).await?;
            found.filter(|found| found.key == key && found.bytes == bytes)
        }
        None => None,
    };
    let (backup_id, created_at) = match &believed {
        Some(found) => (found.backup_id, found.created_at),
        None => match manifest(storage, query, &key).await {
            Ok(found) => found,
            Err(problem) if problem.kind == Kind::Cancelled => return Err(problem),
            Err(problem) => return unknown(problem.message),
        },
    };
    Ok(Ok(Kept { key, bytes, backup_id, created_at, verified: believed, kept_because: Vec::new() }))
}

/// A verification that can be read and is believed.
async fn verification(storage: &dyn Storage, query: &Query, key: &str) -> Result<Option<Verification>> {
    let text = match read_small(storage, key).await {
        Ok(text) => text,
        Err(problem) if problem.kind == Kind::Cancelled => return Err(problem),
        Err(problem) => {
            tracing::warn!(key, %problem, "a verification cannot be read");
            return Ok(None);
        }
    };
    let signed = serde_json::from_slice::<Signed>(&text).ok();
    let believed = signed.filter(|signed| query.trusted.contains(&signed.public_key) && signed.holds(SIGNED));
    let found = believed.and_then(|signed| serde_json::from_str::<Verification>(&signed.report).ok());
    Ok(found.filter(|found| found.format == FORMAT))
}

/// Which backup it is and when it was begun, as its own manifest says.
async fn manifest(storage: &dyn Storage, query: &Query, key: &str) -> Result<(BackupId, Timestamp)> {
    let object = storage.open(key).await?;
    let (runtime, place, identities) = (Handle::current(), storage.place_of(key), query.identities.clone());
    let backup = crate::blocking(move || of_object(runtime, object, &place, &identities)).await?;
    let foreign = |why: &str| {
        let message = format!("{} is no backup of Undoo's: {why}", storage.place_of(key));
        Problem::new(Kind::Invalid, "not_ours", message, "It stays.")
    };
    let manifest = backup.manifest.as_ref().ok_or_else(|| foreign("it has no manifest"))?;
    let ours = manifest.undoo.as_deref().ok_or_else(|| foreign("its manifest is another program's"))?;
    if manifest.signature == SignatureState::Invalid {
        return Err(foreign("its manifest is not what was signed"));
    }
    Ok((ours.backup_id, ours.created_at))
}

async fn decide(
    storage: &dyn Storage,
    query: &Query,
    policy: &Policy,
    backups: &mut [Kept],
    now: Timestamp,
) -> Result<()> {
    let mut known: Vec<retention::Backup> = backups
        .iter()
        .map(|backup| retention::Backup {
            id: backup.backup_id,
            time: backup.created_at,
            verified: backup.verified.is_some(),
            // Addresses are written in many ways; all of them end in the key.
            in_use: query.in_use.iter().any(|address| address.ends_with(&backup.key)),
            pinned: false,
            locked_until: None,
        })
        .collect();
    let decided = |known: &[retention::Backup]| -> BTreeMap<BackupId, Decision> {
        let decisions = retention::decide(policy, known, now);
        decisions.into_iter().map(|decision| (decision.id, decision)).collect()
    };
    let first = decided(&known);
    // Only of what would go it is asked whether it can.
    for (backup, known) in backups.iter().zip(&mut known) {
        if !first.get(&backup.backup_id).is_some_and(Decision::is_kept) {
            let until = storage.locked_until(&backup.key).await?;
            known.locked_until = until.map(|until| Timestamp::try_from(until).unwrap_or(Timestamp::MAX));
        }
    }
    let decisions = decided(&known);
    for backup in &mut *backups {
        let decision = decisions.get(&backup.backup_id);
        backup.kept_because = decision.map(|decision| decision.reasons.clone()).unwrap_or_default();
    }
    backups.sort_by_key(|backup| std::cmp::Reverse((backup.created_at, backup.backup_id)));
    Ok(())
}

/// Without a verified backup, the guard that keeps the newest of them keeps nothing.
fn none_verified(environment: &str, backups: &[Kept]) -> Option<Finding> {
    let goes = backups.iter().any(|backup| !backup.is_kept());
    let verified = backups.iter().any(|backup| backup.verified.is_some());
    (goes && !verified).then(|| {
        Finding::needs_acceptance(
            "none_verified",
            format!("no backup of {environment} is known to be whole, and some of them would be removed"),
            "Verify one first, on this machine: `undoo verify BACKUP`. Or believe the key of the machine that \
             did: --trust-key KEY.",
        )
    })
}
