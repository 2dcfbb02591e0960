//! `undoo backup`: what is to be made and where, the signature, and what came of it.
//!
//! The key stays here: the mover sends the manifest, and gets its signature.

use std::{fs, path::Path};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use undoo_archive::{manifest::ours, verify::Level};
use undoo_core::{BackupId, Finding, Kind, Problem, Result, Signer};
use undoo_engine::{
    backup::{AddonsFolder, Assignment, Destination, Made, Unsigned},
    catalog::{self, Verification, keep_verification},
    encryption::{self, Recipients},
    order::Failure,
    orders::Order,
};
use undoo_storage::{Access, Location, Options, StorageOrder, backup_key};

use super::bytes;
use crate::{
    cli::Backup,
    place::Place,
    signature,
    ui::{self, Ui},
};

/// What a program is told at the end.
#[derive(Serialize)]
struct Done<'a> {
    /// What `undoo restore` takes.
    address: &'a str,
    /// The key in the storage.
    key: &'a str,
    #[serde(flatten)]
    made: &'a Made,
    /// What there is to say of where it is, and of who can read it.
    findings: &'a [Finding],
}

pub(super) async fn run(arguments: &Backup, ui: &Ui) -> Result<(), Failure> {
    let storage = storage(&arguments.to)?;
    let recipients = Recipients::parse(&arguments.encrypt_to)?;
    let signer = signature::signer()?;
    let place = Place::find(arguments.target.as_deref(), &arguments.place).await?;
    let target = place.target().clone();
    let (mut environment, mut addons) = place.environment().await?;
    addons.extend(arguments.addons.iter().cloned());
    let (id, created_at) = (BackupId::generate(), Timestamp::now());
    let env = arguments.env.clone().unwrap_or_else(|| plain(&target.database));
    let begun = created_at.strftime("%Y-%m-%d_%H-%M-%S");
    let age = if recipients.is_empty() { "" } else { ".age" };
    // Two systems may have databases of one name and begin in one second.
    let name = format!("{}_{begun}_{}.zip{age}", plain(&target.database), id.short());
    let key = backup_key(&arguments.org, &env, &name)?;
    if let Access::Local { path } = &storage {
        // In a mover the folders would become root's.
        let folder = path.join(&key);
        let folder = folder.parent().unwrap_or(path);
        fs::create_dir_all(folder).map_err(|error| not_made(folder, error))?;
    }
    environment.id = Some(env);
    let mut findings = Vec::from_iter(storage.on_this_server());
    findings.extend((!recipients.is_empty()).then(encryption::finding));
    let object = Destination { place: storage.storage(&Options::default())?.place().to_owned(), key };
    let work = Assignment {
        id,
        created_at,
        target,
        kept: None,
        storage: StorageOrder(storage.clone()),
        recipients,
        object,
        database_only: arguments.database_only,
        level: arguments.compression.level,
        threads: arguments.compression.threads(),
        addons: AddonsFolder::named(addons),
        organisation: arguments.org.clone(),
        environment,
        undoo_version: env!("CARGO_PKG_VERSION").to_owned(),
        public_key: signer.public_key(),
        pg_dump: arguments.pg_dump.clone(),
    };
    let made = make(&place, work, &signer, ui).await;
    let ended = match &made {
        Ok(_) => place.close().await,
        Err(_) => place.call_off().await,
    };
    if let Err(left) = ended.and(place.remove_ended().await) {
        ui.say(&format!("containers of backups stay until a later one removes them: {left}"));
    }
    let made = made?;
    ui.settle();
    if made.verified {
        keep(&storage, &made, created_at, &signer).await;
    }
    let address = address(&arguments.to, &made.object.key);
    if ui.is_json() {
        return ui.done(&Done { address: &address, key: &made.object.key, made: &made, findings: &findings });
    }
    page(&address, &made);
    for finding in &findings {
        println!("{}", ui::finding_lines(finding));
    }
    Ok(())
}

/// Keeps beside the backup that it was read back, for `undoo prune`. The backup stands whether this works or
/// not.
async fn keep(storage: &Access, made: &Made, created_at: Timestamp, signer: &Signer) {
    let verification = Verification {
        format: catalog::FORMAT,
        key: made.object.key.clone(),
        backup_id: made.id,
        created_at,
        bytes: made.bytes,
        level: Level::Checksums,
        verified_at: Timestamp::now(),
    };
    let kept = async {
        let storage = storage.storage(&Options::default())?;
        keep_verification(&*storage, &verification, signer).await
    };
    if let Err(problem) = kept.await {
        ui::complain(&format!("  that it was read back was not kept beside it: {problem}"));
    }
}

async fn make(place: &Place, work: Assignment, signer: &Signer, ui: &Ui) -> Result<Made, Failure> {
    let id = work.id;
    let unsigned: Unsigned = place.order(Order::Backup { work: Box::new(work) }, ui).await?;
    let signature = sign(&unsigned.text, id, signer)?;
    place.order(Order::Seal { id, signature }, ui).await
}

/// Signs a manifest of this very backup, and nothing else.
fn sign(text: &str, id: BackupId, signer: &Signer) -> Result<String> {
    let manifest = text.as_bytes().strip_prefix(ours::SIGNED);
    let manifest: Option<Value> = manifest.and_then(|manifest| serde_json::from_slice(manifest).ok());
    let is_ours = manifest.is_some_and(|manifest| manifest["undoo"]["backup_id"] == id.to_string());
    if is_ours {
        return Ok(signer.sign(text.as_bytes()));
    }
    Err(Problem::new(
        Kind::Invalid,
        "not_to_be_signed",
        "what came to be signed is no manifest of this backup",
        "see that both sides are the same version of undoo",
    ))
}

/// The storage of an address. A folder of this machine is there then, and named from the root.
fn storage(address: &str) -> Result<Access> {
    let access = Location::parse(address)?.with_environment()?;
    let Access::Local { path } = access else { return Ok(access) };
    fs::create_dir_all(&path).map_err(|error| not_made(&path, error))?;
    let path = fs::canonicalize(&path).map_err(|error| not_made(&path, error))?;
    Ok(Access::Local { path })
}

fn not_made(path: &Path, error: std::io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "folder_not_made",
        format!("the folder {} is not there and cannot be made: {error}", path.display()),
        "make it, or name another one",
    )
    .caused_by(error)
}

/// A name as it can be a part of a key.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect()
}

/// The address of an object in a storage, as it can be typed again: with the settings of the storage's own
/// address, and without its password.
fn address(storage: &str, key: &str) -> String {
    let Some((scheme, rest)) = storage.split_once("://") else {
        let path = fs::canonicalize(storage).unwrap_or_else(|_| storage.into());
        return path.join(key).display().to_string();
    };
    let (rest, settings) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    format!("{scheme}://{authority}{path}/{key}{settings}")
}

fn page(address: &str, made: &Made) {
    println!("{address}");
    println!("  size        {}", bytes(made.bytes));
    let rows = made.rows.map_or_else(|| "not counted".to_owned(), |rows| format!("{rows} rows"));
    println!("  database    {}, {rows}", bytes(made.dump_bytes));
    println!("  files       {}, {}", made.files, bytes(made.files_bytes));
    println!("  addons      {} files", made.addons);
    println!("  read back   {}", if made.verified { "yes, as it was written" } else { "no" });
    println!("  took        {:.1} s", made.seconds);
    for warning in &made.warnings {
        println!("  warning     {} [{}]", warning.message, warning.code);
    }
    println!("  restore     undoo restore '{address}' --into TARGET");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_can_be_typed_again_and_has_no_password() {
        let of = |storage: &str| address(storage, "backups/o/e/b.zip");
        assert_eq!(of("s3://bucket"), "s3://bucket/backups/o/e/b.zip");
        assert_eq!(of("r2://bucket/odoo/?account=12"), "r2://bucket/odoo/backups/o/e/b.zip?account=12");
        assert_eq!(of("sftp://u:geheim@h:22//srv/b"), "sftp://u@h:22//srv/b/backups/o/e/b.zip");
        assert_eq!(of("sftp://u@h//"), "sftp://u@h//backups/o/e/b.zip");
        assert_eq!(of("/no/such/folder"), "/no/such/folder/backups/o/e/b.zip");
    }

    #[test]
    fn nothing_but_this_backups_manifest_is_signed() {
        let (signer, id) = (Signer::from_seed(&[7; 32]), BackupId::generate());
        let text = |id: &str| format!("undoo manifest 1\n{{\"undoo\": {{\"backup_id\": \"{id}\"}}}}");
        assert!(sign(&text(&id.to_string()), id, &signer).is_ok());
        for other in [text(&BackupId::generate().to_string()), "{}".into(), "undoo manifest 1\n".into()] {
            assert_eq!(sign(&other, id, &signer).expect_err("refused").code, "not_to_be_signed");
        }
    }
}
