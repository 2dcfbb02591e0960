//! `undoo migration`: a backup from elsewhere on its way to the platform, and what came of it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, stream};
use undoo_api::{
    client::IdempotencyKey,
    environments::EnvironmentDetails,
    migrations::{MigrationQuery, MigrationRequest, MigrationResponse, StoredFile},
    restores::NewEnvironment,
};
use undoo_core::{Kind, MigrationId, Problem, Result, platform::MigrationStatus};
use undoo_engine::order::{Answer, Audience, Failure, Phase};

use super::{Remote, env::storage, page, server::server};
use crate::{
    cli::remote::{MigrationCommand, MigrationNew, MigrationResume, OneMigration, ServerArgs},
    commands::{bytes, print_json},
    interrupt::interrupted,
    ui::Ui,
};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;
/// How long a line that is broken is tried again.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two tries, and two looks.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(command: MigrationCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        MigrationCommand::New(arguments) => new(*arguments, ui).await,
        MigrationCommand::Resume(arguments) => resume(&arguments, ui).await,
        MigrationCommand::List(arguments) => list(&arguments).await,
        MigrationCommand::Show(arguments) => show(&arguments).await,
        MigrationCommand::Verify(arguments) => verify(&arguments, ui).await,
    }
}

async fn new(arguments: MigrationNew, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let organisation = remote.organisation().await?.id;
    let project = remote.project(organisation, arguments.project.as_deref()).await?;
    let server = server(&remote, organisation, arguments.on.as_deref(), "--on").await?;
    let storage_id = storage(&remote, organisation, arguments.storage.as_deref()).await?;
    let upload_bytes = arguments.file.as_deref().map(length).transpose()?;
    let stored = arguments.stored.zip(storage_id).map(|(key, storage_id)| StoredFile { storage_id, key });
    let addons = arguments.environment.sources()?.into_iter().map(Into::into).collect();
    let environment = arguments.environment;
    let request = MigrationRequest {
        project_id: project.id,
        source: arguments.source,
        upload_bytes,
        stored,
        environment: NewEnvironment {
            server_id: Some(server.id),
            domain: environment.domain,
            odoo_image: environment.odoo_image,
            postgres_image: environment.postgres_image,
            http_port: environment.http_port,
            odoo_conf: environment.conf.into_iter().collect(),
            addons,
            ..NewEnvironment::new(arguments.name, arguments.environment_type)
        },
        cpu_cores: arguments.cpu_cores,
        ram_mb: arguments.ram_mb,
        disk_gb: arguments.disk_gb,
        storage_id,
        accept: arguments.accept,
    };
    let migration = remote.client.migration_create(&request, &IdempotencyKey::generate()).await?;
    ui.say(&format!("Migration {}", migration.id));
    if let Some(file) = &arguments.file {
        upload(&remote, &migration, file, ui).await?;
    }
    read(&remote, migration.id, arguments.server.json, ui).await
}

async fn resume(arguments: &MigrationResume, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.one.server)?;
    let migration = remote.client.migration(arguments.one.id).await?;
    upload(&remote, &migration, &arguments.file, ui).await?;
    read(&remote, migration.id, arguments.one.server.json, ui).await
}

async fn verify(arguments: &OneMigration, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let migration = remote.client.migration_verify(arguments.id).await?;
    read(&remote, migration.id, arguments.server.json, ui).await
}

fn length(file: &Path) -> Result<u64> {
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(found.len()),
        Ok(_) => Err(Problem::new(
            Kind::Invalid,
            "not_one_file",
            format!("{} is no file", file.display()),
            "pack it first: `undoo convert` makes one file of a folder",
        )),
        Err(error) => Err(unreadable(file).caused_by(error)),
    }
}

fn unreadable(file: &Path) -> Problem {
    let message = format!("{} cannot be read", file.display());
    Problem::new(Kind::Missing, "file_unreadable", message, "check its name and its rights")
}

/// Sends what is left of the file, again and again where the line breaks, as long as it comes further.
async fn upload(remote: &Remote, migration: &MigrationResponse, file: &Path, ui: &Ui) -> Result<(), Failure> {
    let (id, size) = (migration.id, length(file)?);
    if migration.upload_bytes.and_then(|announced| u64::try_from(announced).ok()) != Some(size) {
        let announced =
            migration.upload_bytes.map_or_else(|| "nothing".into(), |bytes| format!("{bytes} bytes"));
        let message = format!("{} has {size} bytes, and {announced} is to be uploaded", file.display());
        return Err(
            Problem::new(Kind::Invalid, "another_file", message, "name the same file as before").into()
        );
    }
    ui.tell(Answer::Phase { phase: Phase::Store });
    let (mut furthest, mut since) = (0, tokio::time::Instant::now());
    loop {
        let went = tokio::select! {
            went = send(remote, id, file, size, ui) => went,
            () = interrupted() => return Err(left(id, file).into()),
        };
        let problem = match went {
            Ok(arrived) if arrived >= size => return Ok(()),
            Ok(_) => None,
            Err(problem) if problem.is_permanent() && problem.code != "upload_offset" => {
                return Err(problem.into());
            }
            Err(problem) => Some(problem),
        };
        let arrived = remote.client.migration_uploaded(id).await.unwrap_or(furthest);
        if arrived > furthest {
            (furthest, since) = (arrived, tokio::time::Instant::now());
        } else if since.elapsed() > PATIENCE {
            let gone = problem.unwrap_or_else(|| left(id, file));
            let remedy =
                format!("{} Go on later: `undoo migration resume {id} {}`.", gone.remedy, file.display());
            return Err(
                Problem::new(gone.kind, gone.code, gone.message, remedy.trim_start().to_owned()).into()
            );
        }
        if let Some(problem) = problem {
            tracing::debug!(%problem, "an upload broke off; it goes on");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn send(remote: &Remote, id: MigrationId, file: &Path, size: u64, ui: &Ui) -> Result<u64> {
    let from = remote.client.migration_uploaded(id).await?;
    if from >= size {
        // The last request may have arrived whole without being answered; asking again finishes it.
        return remote.client.migration_upload(id, from, stream::empty()).await;
    }
    let sent = Arc::new(AtomicU64::new(from));
    let content = content_of(file, from, Arc::clone(&sent))?;
    let mut sending = std::pin::pin!(remote.client.migration_upload(id, from, content));
    loop {
        tokio::select! {
            arrived = &mut sending => return arrived,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let done = sent.load(Ordering::Relaxed);
                let unit = "bytes".to_owned();
                ui.tell(Answer::Progress { phase: Phase::Store, done, total: Some(size), unit });
            }
        }
    }
}

/// The rest of a file; `sent` counts what was taken of it.
fn content_of(
    file: &Path,
    from: u64,
    sent: Arc<AtomicU64>,
) -> Result<impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static> {
    let opened = File::open(file).and_then(|mut opened| opened.seek(SeekFrom::Start(from)).map(|_| opened));
    let opened = opened.map_err(|error| unreadable(file).caused_by(error))?;
    let read = move |mut file: File| {
        let sent = Arc::clone(&sent);
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let read = file.read(&mut piece)?;
                piece.truncate(read);
                io::Result::Ok((piece, file))
            });
            let (piece, file) = read.await.map_err(io::Error::other)??;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok((!piece.is_empty()).then_some((piece, file)))
        }
    };
    Ok(stream::try_unfold(opened, read))
}

fn left(id: MigrationId, file: &Path) -> Problem {
    let message = "the upload was left; what has arrived stays for a week";
    let remedy = format!("go on with it: `undoo migration resume {id} {}`", file.display());
    Problem::new(Kind::Cancelled, "cancelled", message, remedy)
}

/// Waits until the platform has read the file, and says what comes next.
async fn read(remote: &Remote, id: MigrationId, json: bool, ui: &Ui) -> Result<(), Failure> {
    ui.tell(Answer::Phase { phase: Phase::Verify });
    let migration = loop {
        let migration = remote.client.migration(id).await?;
        if migration.status != MigrationStatus::Verifying {
            break migration;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = interrupted() => {
                let message = "the platform goes on reading the backup";
                let remedy = format!("`undoo migration show {id}` says how far it is");
                return Err(Problem::new(Kind::Cancelled, "cancelled", message, remedy).into());
            }
        }
    };
    ui.settle();
    if migration.status == MigrationStatus::Failed {
        let message = migration.error_message.unwrap_or_default();
        let remedy =
            format!("`undoo migration verify {id}` reads it again; else begin anew with another backup");
        return Err(Problem::new(Kind::NotProven, "backup_unreadable", message, remedy).into());
    }
    if ui.is_json() {
        return ui.done(&migration);
    }
    if json {
        return print_json(&migration);
    }
    let environment = remote.client.environment(migration.environment_id).await?;
    println!("{}", described(&migration, &environment));
    if migration.status == MigrationStatus::Uploaded {
        println!("It is whole. Make the environment: undoo env deploy {} --watch", migration.environment_id);
    }
    Ok(())
}

async fn show(arguments: &OneMigration) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let migration = remote.client.migration(arguments.id).await?;
    if arguments.server.json {
        return print_json(&migration);
    }
    let environment = remote.client.environment(migration.environment_id).await?;
    println!("{}", described(&migration, &environment));
    Ok(())
}

fn described(migration: &MigrationResponse, environment: &EnvironmentDetails) -> comfy_table::Table {
    page::properties([
        ("Migration", migration.id.to_string()),
        ("From", migration.source.to_string()),
        ("Status", migration.status.to_string()),
        ("Environment", environment.environment.name.clone()),
        ("Environment's id", migration.environment_id.to_string()),
        ("Backup", migration.backup_id.to_string()),
        ("Upload", page::text(migration.upload_bytes.map(|size| bytes(size.unsigned_abs())))),
        ("Begun", page::time(migration.create_date)),
        ("Uploaded", page::text(migration.uploaded_at.map(page::time))),
        ("Read", page::text(migration.verified_at.map(page::time))),
        ("Restored", page::text(environment.migration_restore_completed_at.map(page::time))),
        ("Failed", page::text(migration.failed_at.map(page::time))),
        ("Error", page::text(migration.error_message.clone())),
    ])
}

async fn list(arguments: &ServerArgs) -> Result<(), Failure> {
    let remote = Remote::open(arguments)?;
    let mut migrations = Vec::new();
    for organisation in remote.organisations().await? {
        let query = MigrationQuery { organization_id: Some(organisation.id), ..Default::default() };
        migrations.extend(remote.client.migrations(&query).all().await?);
    }
    if arguments.json {
        return print_json(&migrations);
    }
    if migrations.is_empty() {
        println!("No migrations. `undoo migration new` begins one.");
        return Ok(());
    }
    let mut table = page::table(&["MIGRATION", "FROM", "STATUS", "BEGUN", "RESTORED", "ENVIRONMENT"]);
    for migration in migrations {
        table.add_row([
            migration.id.to_string(),
            migration.source.to_string(),
            migration.status.to_string(),
            page::time(migration.create_date),
            page::text(migration.completed_at.map(page::time)),
            migration.environment_id.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}
