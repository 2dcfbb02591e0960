//! Migrations: files that come in pieces, are read from end to end, restored once, and again only on purpose.

use futures_util::stream;
use tokio_util::sync::CancellationToken;
use undoo_control::{
    Deploy, DeployAction, MigrationFrom, MigrationWish, NewEnvironment, Reconcilers, RestoreWish,
    UploadState, plane::DeployStep,
};
use undoo_core::{
    MigrationId, Problem, TaskId,
    platform::{
        BackupStatus, BackupType, EnvironmentStatus, EnvironmentType, Migration, MigrationSource,
        MigrationStatus, ProjectRole, RestoreStatus, Task, TaskStatus,
    },
};
use undoo_store::{backups, environments, migrations, restore_points, storages, tasks};

use crate::{
    fake_plane::Trip,
    world::{FIRST, World, on_both},
};

on_both!(
    a_file_that_comes_in_pieces_is_read_and_restored_once,
    who_sends_last_sends,
    a_file_that_is_no_backup_is_told_and_stays,
    a_first_restore_that_fails_leaves_the_environment_waiting,
    forcing_takes_a_safety_backup_and_what_fails_changes_nothing,
    a_file_in_a_storage_is_named_and_not_removed,
    an_upload_that_nobody_goes_on_with_is_removed,
    what_is_called_off_or_makes_no_sense,
);

/// A plain dump of some size.
fn dump() -> Vec<u8> {
    let rows: String = (0..20_000).map(|row| format!("{row}\tmodule_{row}\n")).collect();
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.20 (Debian 15.20-1)\n\
         -- Dumped by pg_dump version 15.20\n\nCREATE TABLE public.ir_module_module (\n    id integer,\n    \
         name character varying\n);\n\nCOPY public.ir_module_module (id, name) FROM stdin;\n{rows}\\.\n\n--\n\
         -- PostgreSQL database dump complete\n--\n"
    )
    .into_bytes()
}

fn wish(world: &World, name: &str, from: MigrationFrom) -> MigrationWish {
    MigrationWish {
        project_id: world.project,
        source: MigrationSource::OdooSh,
        from,
        environment: NewEnvironment {
            name: name.into(),
            environment_type: EnvironmentType::Production,
            server_id: world.production.server_id,
            domain: None,
            odoo_image: Some("odoo:19.0".into()),
            deployment: Default::default(),
            addons: Vec::new(),
        },
        limits: [Some(1), Some(1024), Some(5)],
        storage_id: None,
        accept: vec!["server_full".to_owned()],
    }
}

impl World {
    async fn migration(&self, name: &str, size: usize) -> Migration {
        let wish = wish(self, name, MigrationFrom::Upload(size as u64));
        self.control.migration_create(&self.admin, wish, None).await.unwrap()
    }

    async fn send(&self, id: MigrationId, from: usize, pieces: &[&[u8]]) -> Result<UploadState, Problem> {
        let pieces: Vec<Result<Vec<u8>, String>> = pieces.iter().map(|piece| Ok(piece.to_vec())).collect();
        let stop = CancellationToken::new();
        let content = stream::iter(pieces);
        self.control.migration_upload(&self.admin, id, from as u64, content, &stop).await
    }

    async fn arrived(&self, id: MigrationId) -> u64 {
        self.control.migration_upload_state(&self.admin, id).await.unwrap().arrived
    }

    async fn migration_now(&self, id: MigrationId) -> Migration {
        migrations::get(self.control.store(), id).await.unwrap().unwrap()
    }

    /// Everything that waits, done.
    async fn worked_off(&self) {
        let worker = self.worker();
        let filter = tasks::TaskFilter { organisation_id: Some(self.organisation), ..Default::default() };
        let all = tasks::list(self.control.store(), filter, FIRST).await.unwrap();
        for task in all.items {
            self.task_over(task.id).await;
        }
        worker.stop().await;
    }

    /// One whose file was sent and read.
    async fn uploaded(&self, name: &str) -> Migration {
        let dump = dump();
        let migration = self.migration(name, dump.len()).await;
        self.send(migration.id, 0, &[&dump]).await.unwrap();
        self.worked_off().await;
        let migration = self.migration_now(migration.id).await;
        assert_eq!(migration.status, MigrationStatus::Uploaded, "{:?}", migration.error_message);
        migration
    }

    async fn deploy(&self, migration: &Migration, force_restore: bool) -> Result<Task, Problem> {
        let deploy = Deploy { force_restore, ..Deploy::default() };
        self.control.environment_deploy(&self.admin, migration.environment_id, deploy, None).await
    }

    async fn deployed_by(&self, task: TaskId) -> TaskStatus {
        let worker = self.worker();
        let status = self.task_over(task).await.status;
        worker.stop().await;
        status
    }

    async fn restores_of(&self, migration: &Migration) -> usize {
        let (store, id) = (self.control.store(), migration.environment_id);
        restore_points::of_environment(store, id, None, FIRST).await.unwrap().items.len()
    }
}

async fn a_file_that_comes_in_pieces_is_read_and_restored_once(world: World) {
    let dump = dump();
    let migration = world.migration("acme", dump.len()).await;
    let id = migration.id;
    assert_eq!(migration.status, MigrationStatus::Pending);
    let environment = world.control.environment_get(&world.admin, migration.environment_id).await.unwrap();
    assert_eq!(environment.status, EnvironmentStatus::Pending);
    assert_eq!(world.deploy(&migration, false).await.unwrap_err().code, "not_uploaded");
    let (first, rest) = dump.split_at(100_000);
    let state = world.send(id, 0, &[&first[..10], &first[10..]]).await.unwrap();
    assert_eq!((state.arrived, state.size), (100_000, dump.len() as u64));
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Uploading);
    assert_eq!(world.arrived(id).await, 100_000);
    let elsewhere = world.send(id, 0, &[first]).await.unwrap_err();
    assert_eq!(elsewhere.code, "upload_offset");
    assert!(elsewhere.message.contains("100000 bytes have arrived"), "{elsewhere}");
    let more = [rest, b"more".as_slice()].concat();
    assert_eq!(world.send(id, 100_000, &[&more]).await.unwrap_err().code, "upload_too_long");
    let at = usize::try_from(world.arrived(id).await).unwrap();
    let state = world.send(id, at, &[&dump[at..]]).await.unwrap();
    assert_eq!(state.arrived, state.size);
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Verifying);
    // An answer that was lost: the same once more.
    assert_eq!(world.send(id, dump.len(), &[]).await.unwrap(), state);
    assert_eq!(world.send(id, 0, &[&dump]).await.unwrap_err().code, "upload_closed");
    assert_eq!(world.arrived(id).await, dump.len() as u64);
    assert_eq!(world.deploy(&migration, false).await.unwrap_err().code, "not_uploaded");
    world.worked_off().await;
    let migration = world.migration_now(id).await;
    assert_eq!(migration.status, MigrationStatus::Uploaded, "{:?}", migration.error_message);
    let backup = world.backup(migration.backup_id).await;
    assert_eq!((backup.status, backup.backup_type), (BackupStatus::Completed, BackupType::Migration));
    assert!(backup.is_verified && !backup.include_filestore);
    assert_eq!(backup.environment_snapshot.as_ref().unwrap()["postgres_version"], "15.20");
    let task = world.deploy(&migration, false).await.unwrap();
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Restoring);
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    let (migration, environment) = (world.migration_now(id).await, migration.environment_id);
    assert_eq!(migration.status, MigrationStatus::Completed);
    assert!(migration.restored_at.is_some() && migration.completed_at == migration.restored_at);
    assert_eq!(world.plane.deployed(environment), Some(DeployStep::Release));
    let found = world.control.environment_get(&world.admin, environment).await.unwrap();
    assert_eq!(found.status, EnvironmentStatus::Running);
    // Later deployments never restore it.
    let task = world.deploy(&migration, false).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    assert_eq!(world.plane.deployed(environment), Some(DeployStep::Redeploy));
    assert_eq!(world.restores_of(&migration).await, 1);
    assert_eq!(world.migration_now(id).await.restored_at, migration.restored_at);
}

async fn who_sends_last_sends(world: World) {
    let dump = dump();
    let id = world.migration("acme", dump.len()).await.id;
    world.send(id, 0, &[&dump[..1000]]).await.unwrap();
    // The first sender's line hangs; the second goes on from where the storage is, and ends it.
    let (pieces, hanging) = tokio::sync::mpsc::unbounded_channel::<Result<Vec<u8>, String>>();
    pieces.send(Ok(dump[1000..2000].to_vec())).unwrap();
    let (control, admin) = (world.control.clone(), world.admin.clone());
    let first = tokio::spawn(async move {
        let content =
            stream::unfold(hanging, |mut hanging| async move { Some((hanging.recv().await?, hanging)) });
        let stop = CancellationToken::new();
        control.migration_upload(&admin, id, 1000, Box::pin(content), &stop).await
    });
    while world.migration_now(id).await.upload_epoch < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let at = usize::try_from(world.arrived(id).await).unwrap();
    world.send(id, at, &[&dump[at..]]).await.unwrap();
    drop(pieces);
    let left = first.await.unwrap();
    assert!(left.is_ok() || left.as_ref().is_err_and(|it| it.code == "upload_taken_over"), "{left:?}");
    world.worked_off().await;
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Uploaded);
}

async fn a_file_that_is_no_backup_is_told_and_stays(world: World) {
    let junk = b"PK\x03\x04 but not really".repeat(100);
    let migration = world.migration("junk", junk.len()).await;
    world.send(migration.id, 0, &[&junk]).await.unwrap();
    world.worked_off().await;
    let failed = world.migration_now(migration.id).await;
    assert_eq!(failed.status, MigrationStatus::Failed);
    assert!(failed.failed_at.is_some() && failed.error_message.is_some());
    let refused = world.deploy(&migration, false).await.unwrap_err();
    assert_eq!(refused.code, "not_uploaded");
    assert!(refused.remedy.contains("undoo migration verify"), "{refused}");
    assert_eq!(world.objects().await, 1, "nothing that was uploaded is lost");
    // The storage was at fault: the file is there as it should be, and is read again.
    let backup = world.backup(migration.backup_id).await;
    let file = world.folder.path().join("backups").join(world.organisation.to_string());
    let file = [
        file.join(backup.key.as_deref().unwrap()),
        world.folder.path().join("backups").join(backup.key.unwrap()),
    ]
    .into_iter()
    .find(|file| file.exists())
    .unwrap();
    std::fs::write(file, dump()).unwrap();
    let again = world.control.migration_verify(&world.admin, migration.id).await.unwrap();
    assert_eq!(again.status, MigrationStatus::Verifying);
    world.worked_off().await;
    assert_eq!(world.migration_now(migration.id).await.status, MigrationStatus::Uploaded);
}

async fn a_first_restore_that_fails_leaves_the_environment_waiting(world: World) {
    let migration = world.uploaded("acme").await;
    let (id, environment) = (migration.id, migration.environment_id);
    for call in ["infrastructure", "addons", "stage", "cut_over", "make_durable", "let_out"] {
        world.plane.trip(call, Trip::Fails, 1);
        let task = world.deploy(&migration, false).await.unwrap();
        assert_eq!(world.deployed_by(task.id).await, TaskStatus::Failed, "{call}");
        assert_eq!(world.plane.deployed(environment), None, "{call}");
        let found = environments::get(world.control.store(), environment).await.unwrap().unwrap();
        assert_eq!((found.status, found.deleted_at), (EnvironmentStatus::Pending, None), "{call}");
        let now = world.migration_now(id).await;
        assert_eq!((now.status, now.restored_at), (MigrationStatus::Failed, None), "{call}");
        assert!(now.error_message.is_some(), "{call}");
        Reconcilers::round(&world.control).await.unwrap();
    }
    // Called off, it is as if nobody had asked.
    let task = world.deploy(&migration, false).await.unwrap();
    world.control.task_cancel(&world.admin, task.id).await.unwrap();
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Uploaded);
    // One whose server kept silent is cleaned up, and waits as well.
    world.plane.trip("stage", Trip::Fails, 1);
    world.plane.trip("destroy", Trip::Fails, 5);
    let task = world.deploy(&migration, false).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Stuck);
    world.plane.trip("destroy", Trip::Fails, 0);
    Reconcilers::round(&world.control).await.unwrap();
    assert_eq!(world.plane.deployed(environment), None);
    let task = world.deploy(&migration, false).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    assert_eq!(world.migration_now(id).await.status, MigrationStatus::Completed);
}

async fn forcing_takes_a_safety_backup_and_what_fails_changes_nothing(world: World) {
    let migration = world.uploaded("acme").await;
    let environment = migration.environment_id;
    let task = world.deploy(&migration, false).await.unwrap();
    world.deployed_by(task.id).await;
    let before = world.migration_now(migration.id).await;
    world.plane.trip("stage", Trip::Fails, 1);
    let task = world.deploy(&migration, true).await.unwrap();
    let asked = world.migration_now(migration.id).await;
    assert_eq!(
        (asked.status, asked.restored_at),
        (MigrationStatus::Restoring, None),
        "the flags are cleared"
    );
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Failed);
    let failed = world.migration_now(migration.id).await;
    assert_eq!((failed.status, failed.restored_at), (MigrationStatus::Completed, before.restored_at));
    assert!(failed.error_message.is_some());
    assert_eq!(world.plane.deployed(environment), Some(DeployStep::Release), "what is live is not touched");
    world.later(1);
    let task = world.deploy(&migration, true).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    let points =
        restore_points::of_environment(world.control.store(), environment, None, FIRST).await.unwrap();
    let newest = &points.items[0];
    assert_eq!(newest.status, RestoreStatus::Completed);
    assert!(newest.findings.to_string().contains("force_restore"), "{}", newest.findings);
    let safety = world.backup(newest.pre_restore_backup_id.unwrap()).await;
    assert_eq!((safety.status, safety.backup_type), (BackupStatus::Completed, BackupType::PreRestore));
    let again = world.migration_now(migration.id).await;
    assert!(again.restored_at > before.restored_at && again.error_message.is_none());
    // Who may deploy, but not restore, cannot.
    let member = world.somebody("member@example.com", Some(ProjectRole::Member)).await;
    let deploy = Deploy { force_restore: true, ..Deploy::default() };
    let denied = world.control.environment_deploy(&member, environment, deploy.clone(), None).await;
    assert_eq!(denied.unwrap_err().code, "missing_permission");
    let program = world.program(&[undoo_core::platform::Permission::EnvironmentsUpdate]).await;
    let denied = world.control.environment_deploy(&program, environment, deploy.clone(), None).await;
    assert!(denied.unwrap_err().message.contains("project.backups.restore"));
    let other = world.control.environment_deploy(&world.admin, world.staging.id, deploy, None).await;
    assert_eq!(other.unwrap_err().code, "no_migration");
}

async fn a_file_in_a_storage_is_named_and_not_removed(world: World) {
    let storage = storages::default_of(world.control.store(), world.organisation).await.unwrap().unwrap();
    // Where the storage's own folder is, a backup tells.
    let ours = world.backed_up().await;
    let key = ours.key.unwrap();
    let root = [
        world.folder.path().join("backups"),
        world.folder.path().join("backups").join(world.organisation.to_string()),
    ]
    .into_iter()
    .find(|root| root.join(&key).exists())
    .unwrap();
    std::fs::create_dir_all(root.join("from elsewhere")).unwrap();
    std::fs::write(root.join("from elsewhere/acme.sql"), dump()).unwrap();
    let stored = |key: &str| MigrationFrom::Stored(storage.id, key.to_owned());
    let missing = wish(&world, "acme", stored("from elsewhere/other.sql"));
    let missing = world.control.migration_create(&world.admin, missing, None).await.unwrap_err();
    assert_eq!(missing.code, "object_missing");
    let wish = wish(&world, "acme", stored("from elsewhere/acme.sql"));
    let migration = world.control.migration_create(&world.admin, wish, None).await.unwrap();
    assert_eq!(migration.status, MigrationStatus::Verifying);
    let nothing = world.control.migration_upload_state(&world.admin, migration.id).await.unwrap_err();
    assert_eq!(nothing.code, "nothing_to_upload");
    world.worked_off().await;
    let task = world.deploy(&migration, false).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    let backup = world.control.backup_delete(&world.admin, migration.backup_id).await.unwrap();
    world.worked_off().await;
    assert_eq!(world.backup(backup.id).await.status, BackupStatus::Deleted);
    assert!(root.join("from elsewhere/acme.sql").exists(), "what is not ours stays");
}

async fn an_upload_that_nobody_goes_on_with_is_removed(world: World) {
    let dump = dump();
    let old = world.migration("old", dump.len()).await;
    let young = world.migration("young", dump.len()).await;
    let unwanted = world.migration("unwanted", dump.len()).await;
    world.send(old.id, 0, &[&dump[..1000]]).await.unwrap();
    world.send(unwanted.id, 0, &[&dump[..1000]]).await.unwrap();
    world.control.environment_delete(&world.admin, unwanted.environment_id).await.unwrap();
    world.later(6 * 24);
    world.send(young.id, 0, &[&dump[..1000]]).await.unwrap();
    assert_eq!(world.objects().await, 3);
    world.later(2 * 24);
    Reconcilers::round(&world.control).await.unwrap();
    assert_eq!(world.objects().await, 1);
    for gone in [&old, &unwanted] {
        assert_eq!(world.migration_now(gone.id).await.status, MigrationStatus::Cancelled);
        let late = world.send(gone.id, 1000, &[&dump[1000..]]).await.unwrap_err();
        assert_eq!(late.code, "not_uploaded");
    }
    world.send(young.id, 1000, &[&dump[1000..]]).await.unwrap();
    world.worked_off().await;
    assert_eq!(world.migration_now(young.id).await.status, MigrationStatus::Uploaded);
}

async fn what_is_called_off_or_makes_no_sense(world: World) {
    let refused = async |wish: MigrationWish| {
        world.control.migration_create(&world.admin, wish, None).await.unwrap_err().code
    };
    let upload = |size| wish(&world, "acme", MigrationFrom::Upload(size));
    assert_eq!(refused(upload(0)).await, "upload_size_invalid");
    assert_eq!(refused(upload(1 << 43)).await, "upload_size_invalid");
    let mut nowhere = upload(1000);
    nowhere.environment.server_id = None;
    assert_eq!(refused(nowhere).await, "server_needed");
    let mut odd = upload(1000);
    odd.environment.domain = Some("no host name".into());
    assert_eq!(refused(odd).await, "deployment_invalid");
    let mut taken = upload(1000);
    taken.environment.name = world.staging.name.clone();
    assert_eq!(refused(taken).await, "name_taken");
    let migration = world.uploaded("acme").await;
    let id = migration.environment_id;
    // Nothing of it is there to be restored to, stopped or backed up.
    let restore = RestoreWish::of(migration.backup_id);
    let early = world.control.restore_start(&world.admin, restore, None).await.unwrap_err();
    assert_eq!(early.code, "not_deployed");
    let early = world.control.environment_do(&world.admin, id, DeployAction::Stop, None, None).await;
    assert!(early.unwrap_err().message.contains("waits for its migration"));
    // Which Odoo it is cannot be told of a dump alone.
    let mut found = environments::get(world.control.store(), id).await.unwrap().unwrap();
    found.odoo_image = None;
    environments::update(world.control.store(), &found).await.unwrap();
    assert_eq!(world.deploy(&migration, false).await.unwrap_err().code, "odoo_image_needed");
    let deploy = Deploy { odoo_image: Some("odoo:18.0".into()), ..Deploy::default() };
    let task = world.control.environment_deploy(&world.admin, id, deploy.clone(), None).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    let found = world.control.environment_get(&world.admin, id).await.unwrap();
    assert_eq!(found.odoo_image.as_deref(), Some("odoo:18.0"));
    let settled = world.control.environment_deploy(&world.admin, id, deploy, None).await.unwrap_err();
    assert_eq!(settled.code, "image_settled");
    // Destroyed, nothing comes of it any more; its backup stays.
    let destroy = DeployAction::Destroy;
    let task = world.control.environment_do(&world.admin, id, destroy, Some("acme"), None).await.unwrap();
    assert_eq!(world.deployed_by(task.id).await, TaskStatus::Completed);
    let backup = backups::get(world.control.store(), migration.backup_id).await.unwrap().unwrap();
    assert_eq!(backup.status, BackupStatus::Completed);
}
