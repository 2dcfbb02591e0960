//! Two control planes and three workers on one PostgreSQL: a long queue is shared, and each task done once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use undoo_core::{
    BackupId, EnvironmentId, StorageId,
    platform::{
        Backup, BackupStatus, BackupType, Environment, EnvironmentStatus, EnvironmentType, StepEvent,
        TaskStatus,
    },
};
use undoo_store::{Store, backups, environments, tasks};

use crate::support::{
    Undoo,
    platform::Platform,
    site::{held_at, shared_platform},
    undoo::Running,
    wait_for,
    web::RUNTIME,
};

const TASKS: usize = 200;

#[test]
fn two_control_planes_and_three_workers_do_each_of_200_tasks_once() {
    let undoo = Undoo::ready();
    let (platform, database) = shared_platform(&undoo, &[]);
    let other = platform.beside(&undoo);
    let (ids, files) = backed_up(&platform, &database);
    assert_eq!(files.iter().filter(|file| file.exists()).count(), TASKS);
    let planes = [&platform, &other];
    for (number, id) in ids.iter().enumerate() {
        planes[number % 2].call("DELETE", &format!("/backups/{id}"), None);
    }

    // Each is held with its first task, so that none has done half of them before the last one is there.
    let (at, until) = ("remove:do_started:before", platform.folder().join("all-are-there"));
    let hold = [("UNDOO_HOLD_AT", at), ("UNDOO_HOLD_UNTIL", until.to_str().unwrap())];
    let workers: Vec<Running> =
        ["one", "two", "three"].iter().map(|name| platform.worker(&undoo, name, &hold)).collect();
    for worker in &workers {
        worker.line(&held_at(at));
    }
    let begun = Instant::now();
    fs::File::create(until).unwrap();
    let all = RUNTIME.block_on(async { Store::open(&database).await.unwrap() });
    let depth = || RUNTIME.block_on(tasks::queue_depth(&all)).unwrap();
    wait_for("the end of the queue", Duration::from_secs(60), || {
        let depth = depth();
        (depth.queued + depth.running == 0).then_some(())
    });
    eprintln!("{TASKS} tasks took three workers {:?}", begun.elapsed());

    let mut taken = BTreeMap::<String, usize>::new();
    for worker in &workers {
        let lines = worker.heard("\"message\":\"task taken\"");
        assert!(lines.len() >= TASKS / 10, "each has its share: {}", lines.len());
        for line in lines {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            *taken.entry(line["task"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(taken.len(), TASKS);
    assert!(taken.values().all(|times| *times == 1), "{taken:?}");
    assert_eq!(files.iter().filter(|file| file.exists()).count(), 0);
    RUNTIME.block_on(async {
        let mut removed = BTreeSet::new();
        for task in taken.keys() {
            let task = tasks::get(&all, task.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((task.status, task.attempts, task.epoch), (TaskStatus::Completed, 1, 1));
            let log = tasks::log(&all, task.id).await.unwrap();
            let log: Vec<_> = log.iter().map(|line| (&*line.step, line.event)).collect();
            assert_eq!(log, [("remove", StepEvent::DoStarted), ("remove", StepEvent::DoFinished)]);
            removed.insert(task.payload["backup_id"].as_str().unwrap().to_owned());
        }
        assert_eq!(removed.len(), TASKS);
        for id in &ids {
            let backup = backups::get(&all, *id).await.unwrap().unwrap();
            assert_eq!(backup.status, BackupStatus::Deleted);
        }
    });
}

/// Backups of an environment that was, in the storage that the organisation began with.
fn backed_up(platform: &Platform, database: &str) -> (Vec<BackupId>, Vec<std::path::PathBuf>) {
    let id = |path: String| platform.get(&path)[0]["id"].as_str().unwrap().to_owned();
    let organization = id("/organizations".to_owned());
    let project = id(format!("/organizations/{organization}/projects"));
    let storage: StorageId = id(format!("/storages?organization_id={organization}")).parse().unwrap();
    let now = Timestamp::now();
    let environment = Environment {
        id: EnvironmentId::generate(),
        organisation_id: organization.parse().unwrap(),
        project_id: project.parse().unwrap(),
        name: "production".to_owned(),
        environment_type: EnvironmentType::Production,
        status: EnvironmentStatus::Pending,
        server_id: None,
        container: None,
        database_name: None,
        odoo_version: None,
        odoo_image: None,
        postgres_version: None,
        domain: None,
        cpu_cores: None,
        ram_mb: None,
        disk_gb: None,
        storage_id: None,
        created_by: None,
        created_at: now,
        deleted_at: None,
    };
    let backup = |number: usize| Backup {
        id: BackupId::generate(),
        organisation_id: environment.organisation_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        storage_id: Some(storage),
        key: Some(format!("backups/{organization}/{}/odoo_{number:03}.zip", environment.id)),
        status: BackupStatus::Completed,
        backup_type: BackupType::Manual,
        description: None,
        include_filestore: true,
        size_bytes: Some(6),
        database_size_bytes: None,
        filestore_size_bytes: None,
        is_verified: true,
        environment_snapshot: None,
        error_message: None,
        task_id: None,
        created_by: None,
        created_at: now,
        completed_at: Some(now),
    };
    let backups: Vec<Backup> = (0..TASKS).map(backup).collect();
    RUNTIME.block_on(async {
        let store = Store::open(database).await.unwrap();
        environments::insert(&store, &environment).await.unwrap();
        for backup in &backups {
            backups::insert(&store, backup).await.unwrap();
        }
    });
    let place = |backup: &Backup| platform.folder().join("backups").join(backup.key.as_ref().unwrap());
    let files: Vec<_> = backups.iter().map(place).collect();
    for file in &files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, b"backup").unwrap();
    }
    (backups.iter().map(|backup| backup.id).collect(), files)
}
