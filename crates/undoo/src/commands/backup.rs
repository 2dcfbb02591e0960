//! `undoo backup`: what is to be made and where, and what came of it.

use std::fs;

use jiff::Timestamp;
use serde::Serialize;
use undoo_core::{BackupId, Finding, Result};
use undoo_engine::{
    backup::Made,
    encryption::{self, Recipients},
    order::Failure,
};
use undoo_storage::{Access, Location, backup_key};

use super::bytes;
use crate::{
    caller::Caller,
    cli::Backup as Arguments,
    place::Place,
    relay, signature,
    ui::{self, Ui},
    work::backup::{Backup, not_made},
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

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<(), Failure> {
    let storage = storage(arguments.to(), arguments.place.ssh.server.as_deref())?;
    let recipients = Recipients::parse(&arguments.encrypt_to)?;
    let signer = signature::signer()?;
    let caller = Caller::at(ui);
    let place = Place::find(arguments.target.as_deref(), &arguments.place, caller).await?;
    let database = &place.target().database;
    let (id, created_at) = (BackupId::generate(), Timestamp::now());
    let env = arguments.env.clone().unwrap_or_else(|| plain(database));
    let begun = created_at.strftime("%Y-%m-%d_%H-%M-%S");
    let age = if recipients.is_empty() { "" } else { ".age" };
    // Two systems may have databases of one name and begin in one second.
    let name = format!("{}_{begun}_{}.zip{age}", plain(database), id.short());
    let key = backup_key(&arguments.org, &env, &name)?;
    let mut findings = Vec::from_iter(storage.on_this_server());
    findings.extend((!recipients.is_empty()).then(encryption::finding));
    let backup = Backup {
        id,
        created_at,
        kept: arguments.kept,
        storage: storage.into(),
        key,
        recipients,
        database_only: arguments.database_only,
        level: arguments.compression.level,
        threads: arguments.compression.threads(place.processors()),
        addons: arguments.addons.clone(),
        organisation: arguments.org.clone(),
        environment: env,
        pg_dump: arguments.pg_dump.clone(),
    };
    let made = backup.make(&place, &signer, caller).await?.made;
    ui.settle();
    let address = address(arguments.to(), &made.object.key);
    if ui.is_json() {
        return ui.done(&Done { address: &address, key: &made.object.key, made: &made, findings: &findings });
    }
    page(&address, &made);
    for finding in &findings {
        println!("{}", ui::finding_lines(finding));
    }
    Ok(())
}

/// The storage of an address. A folder of this machine is there then, and named from the root; to another
/// `server` it is of no use.
fn storage(address: &str, server: Option<&str>) -> Result<Access> {
    let access = Location::parse(address)?.with_environment()?;
    if let Some(server) = server {
        relay::refuse_from(server, &access, relay::Use::Write)?;
    }
    let Access::Local { path } = access else { return Ok(access) };
    fs::create_dir_all(&path).map_err(|error| not_made(&path, error))?;
    let path = fs::canonicalize(&path).map_err(|error| not_made(&path, error))?;
    Ok(Access::Local { path })
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
}
