//! `undoo backup list|create|show|delete|download`: backups of the server.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use undoo_api::{
    backups::{
        BackupDownloadResponse, BackupQuery, BackupResponse, CreateBackupRequest, DownloadQuery, ExpiresIn,
    },
    client::{Download, IdempotencyKey},
    secret::Secret,
};
use undoo_core::{Kind, Problem, Result};
use undoo_engine::order::{Answer, Audience, Failure, Phase};

use super::{Remote, env, first, page, watch};
use crate::{
    cli::remote::{BackupCommand, BackupCreate, BackupDelete, BackupDownload, BackupList, OneBackup, Part},
    commands::{bytes, can_confirm, confirm, print_json},
    ui::Ui,
};

pub(super) async fn run(command: BackupCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        BackupCommand::List(arguments) => list(&arguments).await,
        BackupCommand::Create(arguments) => create(&arguments, ui).await,
        BackupCommand::Show(arguments) => show(&arguments).await,
        BackupCommand::Delete(arguments) => delete(&arguments, ui).await,
        BackupCommand::Download(arguments) => download(&arguments, ui).await,
    }
}

async fn list(arguments: &BackupList) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let backups = match &arguments.environment {
        Some(environment) => {
            let environment = remote.environment(environment).await?.id;
            let query = BackupQuery { status: arguments.status, ..Default::default() };
            remote.client.backups_of(environment, &query)
        }
        None => remote.client.backups(remote.organisation().await?.id),
    };
    let backups = first(backups, arguments.limit).await?;
    if arguments.server.json {
        return print_json(&backups.items);
    }
    if backups.items.is_empty() {
        println!("No backups.");
        return Ok(());
    }
    let mut table = page::table(&["BACKUP", "MADE", "TYPE", "STATUS", "SIZE", "VERIFIED", "DESCRIPTION"]);
    for backup in &backups.items {
        table.add_row([
            backup.id.to_string(),
            page::time(backup.create_date),
            backup.backup_type.to_string(),
            backup.status.to_string(),
            page::size(backup.size_bytes),
            if backup.is_verified { "yes".into() } else { "no".into() },
            backup.description.clone().unwrap_or_default(),
        ]);
    }
    println!("{table}");
    page::more(backups.items.len(), backups.total);
    Ok(())
}

async fn create(arguments: &BackupCreate, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let environment = remote.environment(&arguments.environment).await?;
    let request = CreateBackupRequest {
        description: arguments.description.clone(),
        include_filestore: !arguments.database_only,
        storage_id: env::storage(&remote, environment.organization_id, arguments.storage.as_deref()).await?,
        ..Default::default()
    };
    let backup = remote.client.backup_create(environment.id, &request, &IdempotencyKey::generate()).await?;
    let (true, Some(task)) = (arguments.watch, backup.task_id) else {
        if arguments.server.json {
            return print_json(&backup);
        }
        println!("Backup {} of {} is queued", backup.id, environment.name);
        return Ok(());
    };
    ui.say(&format!("Backup {} of {}", backup.id, environment.name));
    watch::task(&remote, backup.organization_id, task, Some(backup.id.to_string()), ui).await?;
    let backup = remote.client.backup(backup.id).await?;
    if ui.is_json() {
        return ui.done(&backup);
    }
    println!("{}", described(&backup));
    Ok(())
}

async fn show(arguments: &OneBackup) -> Result<(), Failure> {
    let backup = Remote::open(&arguments.server)?.client.backup(arguments.id).await?;
    if arguments.server.json {
        return print_json(&backup);
    }
    println!("{}", described(&backup));
    Ok(())
}

fn described(backup: &BackupResponse) -> comfy_table::Table {
    let one = backup.clone();
    let snapshot = one.environment_snapshot.unwrap_or_default();
    let of = |name: &str| page::text(snapshot.get(name).and_then(|value| value.as_str()));
    page::properties([
        ("Backup", one.id.to_string()),
        ("Environment", one.environment_id.to_string()),
        ("Status", one.status.to_string()),
        ("Type", one.backup_type.to_string()),
        ("Description", page::text(one.description)),
        ("Asked for", page::time(one.create_date)),
        ("Complete", page::time_of(one.completed_at)),
        ("Size", page::size(one.size_bytes)),
        ("Database", page::size(one.database_size_bytes)),
        ("Files", page::size(one.filestore_size_bytes)),
        ("Verified", if one.is_verified { "yes".into() } else { "no".into() }),
        ("Odoo", of("odoo_version")),
        ("PostgreSQL", of("postgres_version")),
        ("Key", page::text(one.storage_key)),
        ("Error", page::text(one.error_message)),
    ])
}

async fn delete(arguments: &BackupDelete, ui: &Ui) -> Result<(), Failure> {
    can_confirm(arguments.yes, ui)?;
    let remote = Remote::open(&arguments.one.server)?;
    let backup = remote.client.backup(arguments.one.id).await?;
    let question = format!(
        "Remove the backup of {} ({}) for good?",
        page::time(backup.create_date),
        page::size(backup.size_bytes)
    );
    confirm(&question, arguments.yes, ui).await?;
    let backup = remote.client.backup_delete(backup.id).await?;
    if arguments.one.server.json {
        return print_json(&backup);
    }
    println!("Backup {} is {}", backup.id, backup.status);
    Ok(())
}

async fn download(arguments: &BackupDownload, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.one.server)?;
    let id = arguments.one.id;
    let expires_in = ExpiresIn::try_from(arguments.expires_in).unwrap_or_default();
    let found = remote.client.backup_download(id, &DownloadQuery { expires_in }).await?;
    if arguments.addresses {
        return addresses(&found, arguments);
    }
    let (address, ending) = match arguments.part {
        Part::Zip => (Some(&found.urls.zip), "zip"),
        Part::Database => (Some(&found.urls.database), "sql"),
        Part::Filestore => (found.urls.filestore.as_ref(), "tar.gz"),
    };
    let address = address.ok_or_else(no_files)?;
    let file = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.{ending}")));
    if file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(Problem::new(Kind::Conflict, "file_exists", message, "name another file with -o").into());
    }
    let mut download = remote.client.fetch(address).await?;
    let written = fetch(&mut download, &file, ui).await?;
    ui.settle();
    let done = serde_json::json!({ "backup_id": id, "file": file, "bytes": written });
    if ui.is_json() {
        return ui.done(&done);
    }
    println!("{} in {}", bytes(written), file.display());
    Ok(())
}

fn addresses(found: &BackupDownloadResponse, arguments: &BackupDownload) -> Result<(), Failure> {
    if arguments.one.server.json {
        return print_json(found);
    }
    for (name, address) in [
        ("zip", Some(&found.urls.zip)),
        ("database", Some(&found.urls.database)),
        ("filestore", found.urls.filestore.as_ref()),
    ] {
        println!("{name:10} {}", address.map_or("-", Secret::expose));
    }
    Ok(())
}

fn no_files() -> Problem {
    Problem::new(Kind::Missing, "no_filestore", "this backup has no files", "fetch its zip or its database")
}

/// Written beside and renamed, so that half of a backup never has a backup's name.
async fn fetch(download: &mut Download, file: &Path, ui: &Ui) -> Result<u64> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let unwritable = |error: io::Error| {
        let message = format!("{} cannot be written", beside.display());
        let remedy = "see the folder's rights and room, or name another file with -o";
        Problem::new(Kind::Unavailable, "download_file", message, remedy).caused_by(error)
    };
    let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let mut out = new.map_err(unwritable)?;
    let (phase, total) = (Phase::ReadBack, download.total());
    ui.tell(Answer::Phase { phase });
    let copied = async {
        let mut done = 0;
        while let Some(piece) = download.next().await? {
            out.write_all(&piece).map_err(unwritable)?;
            done += piece.len() as u64;
            ui.tell(Answer::Progress { phase, done, total, unit: "bytes".into() });
        }
        out.sync_all().and_then(|()| fs::rename(&beside, file)).map_err(unwritable)?;
        Ok(done)
    }
    .await;
    if copied.is_err() {
        let _ = fs::remove_file(&beside);
    }
    copied
}
