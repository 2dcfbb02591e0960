//! Backups through the use cases: listed, handed out, deleted, and what is sealed about their storages.

use futures_util::StreamExt;
use secrecy::ExposeSecret;
use undoo_control::{BackupQuery, Control, PartLink, Sealer, Settings, StorageChange};
use undoo_core::{
    link::Member,
    platform::{BackupStatus, BackupType, StepEvent, TaskKind, TaskStatus},
};
use undoo_store::tasks;

use crate::world::{FIRST, LEASE, World, on_both};

on_both!(
    a_backup_is_listed_handed_out_and_deleted,
    a_bogus_backup_is_found_out_when_it_is_read,
    a_backup_that_is_being_read_is_not_read_twice,
    a_deletion_that_is_called_off_says_what_is_gone_and_what_is_not,
    secrets_move_to_a_new_key_and_the_old_one_is_not_needed,
    a_storage_stays_as_long_as_backups_lie_in_it,
);

async fn a_storage_stays_as_long_as_backups_lie_in_it(world: World) {
    let (control, admin) = (&world.control, &world.admin);
    let backup = world.backed_up().await;
    let id = control.storage_list(admin, world.organisation, FIRST).await.unwrap().items[0].id;
    assert_eq!(control.storage_delete(admin, id).await.unwrap_err().code, "storage_in_use");
    let elsewhere = serde_json::json!({ "provider": "local", "path": world.folder.path().join("elsewhere") });
    let moved = StorageChange { config: serde_json::from_value(elsewhere).ok(), ..StorageChange::default() };
    let refused = control.storage_update(admin, id, moved.clone()).await;
    assert_eq!(refused.unwrap_err().code, "storage_in_use");
    let renamed = StorageChange { name: Some("Cellar".into()), ..StorageChange::default() };
    assert_eq!(control.storage_update(admin, id, renamed).await.unwrap().name, "Cellar");
    let deleting = control.backup_delete(admin, backup.id).await.unwrap();
    let worker = world.worker();
    world.task_over(deleting.task_id.unwrap()).await;
    worker.stop().await;
    control.storage_update(admin, id, moved).await.unwrap();
    control.storage_delete(admin, id).await.unwrap();
}

async fn a_backup_is_listed_handed_out_and_deleted(world: World) {
    let (control, admin) = (&world.control, &world.admin);
    let backup = world.backed_up().await;
    assert!(backup.is_verified && backup.key.as_ref().unwrap().starts_with("backups/"));
    let query = BackupQuery { backup_type: Some(BackupType::Manual), ..BackupQuery::default() };
    let listed = control.backup_list(admin, world.production.id, query, FIRST).await.unwrap();
    assert_eq!(listed.total, 1);
    let all = control.backup_list_all(admin, world.organisation, None, query, FIRST).await.unwrap();
    assert_eq!(all.total, 1);
    let download = control.backup_download(admin, backup.id, Some(60), "https://undoo.test").await.unwrap();
    let url = download.urls.zip.expose_secret().to_owned();
    let (expires, signature) = url.split_once("expires=").unwrap().1.split_once("&signature=").unwrap();
    let link = PartLink {
        backup_id: backup.id,
        member: Member::Zip,
        expires: expires.parse().unwrap(),
        signature: signature.to_owned(),
    };
    let part = control.backup_part(&link).await.unwrap();
    let bytes: Vec<u8> = part.content.map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat();
    assert_eq!(bytes, b"a backup");
    let longer = PartLink { expires: link.expires + 1, ..link.clone() };
    assert_eq!(control.backup_part(&longer).await.err().unwrap().code, "link_invalid");
    world.later(1);
    assert_eq!(control.backup_part(&link).await.err().unwrap().code, "link_expired");
    let deleting = control.backup_delete(admin, backup.id).await.unwrap();
    assert_eq!(deleting.status, BackupStatus::Deleting);
    let worker = world.worker();
    world.task_over(deleting.task_id.unwrap()).await;
    worker.stop().await;
    assert_eq!((world.backup(backup.id).await.status, world.objects().await), (BackupStatus::Deleted, 0));
}

async fn a_bogus_backup_is_found_out_when_it_is_read(world: World) {
    let backup = world.backed_up().await;
    world.control.backup_verify(&world.admin, backup.id, None).await.unwrap();
    let listed = world.control.task_list(&world.admin, world.organisation, None, None, None, FIRST).await;
    let task = listed.unwrap().items.remove(0);
    let worker = world.worker();
    let task = world.task_over(task.id).await;
    worker.stop().await;
    assert_eq!(task.status, TaskStatus::Failed, "eight bytes are no backup");
}

async fn a_backup_that_is_being_read_is_not_read_twice(world: World) {
    let (control, admin) = (&world.control, &world.admin);
    let (one, other) = (world.backed_up().await, world.backed_up().await);
    let many = (0..5).map(|_| control.backup_verify(admin, one.id, None));
    futures_util::future::try_join_all(many).await.unwrap();
    control.backup_verify(admin, other.id, None).await.unwrap();
    let queued = Some(TaskStatus::Queued);
    let tasks = control.task_list(admin, world.organisation, None, None, queued, FIRST).await.unwrap();
    assert_eq!(tasks.total, 2, "one for each backup");
    let worker = world.worker();
    for task in tasks.items {
        world.task_over(task.id).await;
    }
    worker.stop().await;
    control.backup_verify(admin, one.id, None).await.unwrap();
    let tasks = control.task_list(admin, world.organisation, None, None, queued, FIRST).await.unwrap();
    assert_eq!(tasks.total, 1, "what is over can be asked for again");
}

async fn a_deletion_that_is_called_off_says_what_is_gone_and_what_is_not(world: World) {
    let (control, admin) = (&world.control, &world.admin);
    for (is_gone, expected) in [(true, BackupStatus::Deleted), (false, BackupStatus::Completed)] {
        let backup = world.backed_up().await;
        let task = control.backup_delete(admin, backup.id).await.unwrap().task_id.unwrap();
        // A worker that dies in the middle of it.
        let dying = tasks::Worker { name: "dying".into(), kinds: vec![TaskKind::DeleteBackup], lease: LEASE };
        let store = control.store();
        let (_, lease) = tasks::claim(store, &dying, jiff::Timestamp::now()).await.unwrap().unwrap();
        let tx = store.begin_held(&lease).await.unwrap();
        tasks::log_append(&tx, &lease, "remove", StepEvent::DoStarted, &serde_json::Value::Null)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        if is_gone {
            std::fs::remove_file(world.folder.path().join("backups").join(backup.key.unwrap())).unwrap();
        }
        control.task_cancel(admin, task).await.unwrap();
        let worker = world.worker();
        assert_eq!(world.task_over(task).await.status, TaskStatus::Cancelled);
        worker.stop().await;
        assert_eq!(world.backup(backup.id).await.status, expected);
    }
}

async fn secrets_move_to_a_new_key_and_the_old_one_is_not_needed(world: World) {
    let backup = world.backed_up().await;
    let with = |sealer| {
        Control::new(world.control.store().clone(), world.plane.clone(), sealer, Settings::default())
    };
    let both = with(Sealer::new(&[8; 32], &[[7; 32].into()]));
    let rotated = both.secrets_rotate().await.unwrap();
    assert_eq!((rotated.storages, rotated.signing_keys), (1, 1));
    assert_eq!(both.secrets_rotate().await.unwrap().storages, 0);
    let download = with(Sealer::new(&[8; 32], &[])).backup_download(&world.admin, backup.id, None, "").await;
    assert!(download.is_ok());
    let old = world.control.backup_download(&world.admin, backup.id, None, "").await.err().unwrap();
    assert_eq!(old.code, "sealing_key_missing");
}
