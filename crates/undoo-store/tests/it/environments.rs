//! Environments, servers and storages.

use serde_json::json;
use undoo_core::{
    EnvironmentId, OrganisationId, ServerId, StorageId,
    platform::{Environment, EnvironmentStatus, Server, ServerStatus, StorageRecord},
};
use undoo_store::{
    Page, Store, backups, environments, people,
    servers::{self, InUse},
    storages,
    tasks::{self, NewTask},
};

use crate::world::{World, environment, now, on_both, organisation, project, server};

on_both!(
    an_environment_is_read_back_as_written,
    names_and_containers_are_unique_among_those_that_are_not_gone,
    environments_are_listed_by_organisation_and_project,
    a_server_is_read_back_as_written,
    a_server_is_forgotten_once_nothing_is_on_it,
    a_storage_is_read_back_as_written,
    one_storage_is_the_default,
    a_storage_that_is_forgotten_leaves_its_backups,
);

async fn an_environment_is_read_back_as_written(world: World) {
    let store = &world.store;
    let mut one = world.environment.clone();
    assert_eq!(environments::get(store, one.id).await.unwrap(), Some(one.clone()));
    one.status = EnvironmentStatus::Unreachable;
    (one.server_id, one.cpu_cores, one.created_by) = (Some(world.server.id), Some(2), Some(world.user.id));
    (one.container, one.database_name) = (Some("docker:odoo".into()), Some("prod".into()));
    environments::update(store, &one).await.unwrap();
    assert_eq!(environments::get(store, one.id).await.unwrap(), Some(one.clone()));
    let by = async |database| {
        environments::by_container(store, world.organisation.id, world.server.id, "docker:odoo", database)
            .await
    };
    assert_eq!(by("prod").await.unwrap(), Some(one.clone()));
    assert_eq!(by("test").await.unwrap(), None);
    one.deleted_at = Some(now());
    environments::update(store, &one).await.unwrap();
    assert_eq!(by("prod").await.unwrap(), None);
    assert_eq!(environments::get(store, one.id).await.unwrap(), Some(one.clone()));
    let missing = Environment { id: EnvironmentId::generate(), ..one };
    assert_eq!(environments::update(store, &missing).await.unwrap_err().code, "changed_meanwhile");
}

async fn names_and_containers_are_unique_among_those_that_are_not_gone(world: World) {
    let store = &world.store;
    let same = environment(&world.project, "production");
    assert_eq!(environments::insert(store, &same).await.unwrap_err().code, "name_taken");
    let mut first = Environment {
        server_id: Some(world.server.id),
        container: Some("docker:odoo".into()),
        database_name: Some("prod".into()),
        ..environment(&world.project, "first")
    };
    environments::insert(store, &first).await.unwrap();
    let second = Environment { id: EnvironmentId::generate(), name: "second".into(), ..first.clone() };
    assert_eq!(environments::insert(store, &second).await.unwrap_err().code, "already_adopted");
    first.deleted_at = Some(now());
    environments::update(store, &first).await.unwrap();
    environments::insert(store, &Environment { name: "first".into(), ..second }).await.unwrap();
}

async fn environments_are_listed_by_organisation_and_project(world: World) {
    let store = &world.store;
    let other = project(world.organisation.id, "Other");
    people::project_insert(store, &other).await.unwrap();
    let theirs = environment(&other, "theirs");
    environments::insert(store, &theirs).await.unwrap();
    let gone = Environment { deleted_at: Some(now()), ..environment(&other, "gone") };
    environments::insert(store, &gone).await.unwrap();
    let list = async |organisation, projects| {
        environments::list(store, organisation, projects, Page::default()).await.unwrap().items
    };
    let of = [other.id];
    let both = [theirs.clone(), world.environment.clone()];
    assert_eq!(list(None, None).await, both);
    assert_eq!(list(Some(world.organisation.id), None).await, both);
    assert_eq!(list(Some(world.organisation.id), Some(&of)).await, [theirs]);
    assert_eq!(list(Some(OrganisationId::generate()), None).await, []);
}

async fn a_server_is_read_back_as_written(world: World) {
    let store = &world.store;
    let mut one = world.server.clone();
    (one.status, one.ip_address, one.task_limit) = (ServerStatus::Offline, Some("10.0.0.1".into()), 0);
    (one.ssh_port, one.ssh_user, one.host_key) = (Some(2222), Some("root".into()), Some("SHA256:x".into()));
    (one.sealed, one.draining, one.docker_version) = (Some(vec![0, 1, 255]), true, Some("29.0".into()));
    (one.has.disk_gb, one.limit.cpu_cores, one.free_disk_gb) = (Some(100), Some(1), Some(60));
    (one.checked_at, one.unreachable_since, one.last_problem) =
        (Some(now()), Some(now()), Some("it is silent".into()));
    servers::update(store, &one).await.unwrap();
    assert_eq!(servers::get(store, one.id).await.unwrap(), Some(one.clone()));
    let same = server(world.organisation.id, &one.name, 1);
    assert_eq!(servers::insert(store, &same).await.unwrap_err().code, "name_taken");
    let missing = Server { name: "x".into(), id: ServerId::generate(), ..one.clone() };
    assert_eq!(servers::update(store, &missing).await.unwrap_err().code, "changed_meanwhile");
    let listed = servers::list(store, world.organisation.id, Page::default()).await.unwrap();
    assert_eq!(listed.items, [one.clone()]);
    assert_eq!(servers::all(store, Page::default()).await.unwrap().items, [one]);
}

async fn a_server_is_forgotten_once_nothing_is_on_it(world: World) {
    let (store, id) = (&world.store, world.server.id);
    assert_eq!(servers::in_use(store, id).await.unwrap(), InUse::default());
    let mut on_it = Environment { server_id: Some(id), ..world.environment.clone() };
    environments::update(store, &on_it).await.unwrap();
    let task = NewTask { server_id: Some(id), environment_id: None, ..world.task() };
    let tx = store.begin().await.unwrap();
    let task = tasks::enqueue(&tx, &task).await.unwrap();
    tx.commit().await.unwrap();
    let used = servers::in_use(store, id).await.unwrap();
    assert_eq!((used.environment, used.task), (Some("production".into()), Some(task.id)));
    let forgotten = async || {
        let tx = store.begin().await.unwrap();
        servers::delete(&tx, id).await?;
        tx.commit().await
    };
    assert_eq!(forgotten().await.unwrap_err().code, "gone_meanwhile");
    on_it.deleted_at = Some(now());
    environments::update(store, &on_it).await.unwrap();
    assert_eq!(forgotten().await.unwrap_err().code, "gone_meanwhile", "a task waits");
    let tx = store.begin().await.unwrap();
    tasks::cancel(&tx, task.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(servers::in_use(store, id).await.unwrap(), InUse::default());
    forgotten().await.unwrap();
    assert_eq!(servers::get(store, id).await.unwrap(), None);
    assert_eq!(environments::get(store, on_it.id).await.unwrap().unwrap().server_id, None);
    assert_eq!(tasks::get(store, task.id).await.unwrap().unwrap().server_id, None);
}

fn storage(organisation_id: OrganisationId, name: &str, is_default: bool) -> StorageRecord {
    StorageRecord {
        id: StorageId::generate(),
        organisation_id,
        name: name.into(),
        provider: "s3".into(),
        shown: json!({ "bucket": "b" }),
        sealed: vec![0, 1, 255],
        is_default,
        created_at: now(),
    }
}

async fn inserted(store: &Store, storage: &StorageRecord) -> undoo_core::Result<()> {
    let tx = store.begin().await.unwrap();
    storages::insert(&tx, storage).await?;
    tx.commit().await
}

async fn updated(store: &Store, storage: &StorageRecord) -> undoo_core::Result<()> {
    let tx = store.begin().await.unwrap();
    storages::update(&tx, storage).await?;
    tx.commit().await
}

async fn a_storage_is_read_back_as_written(world: World) {
    let (store, organisation) = (&world.store, world.organisation.id);
    let mut one = storage(organisation, "one", false);
    inserted(store, &one).await.unwrap();
    one.sealed = vec![9; 5000];
    updated(store, &one).await.unwrap();
    assert_eq!(storages::get(store, one.id).await.unwrap(), Some(one.clone()));
    let same = storage(organisation, "one", false);
    assert_eq!(inserted(store, &same).await.unwrap_err().code, "name_taken");
    assert_eq!(
        updated(store, &storage(organisation, "x", false)).await.unwrap_err().code,
        "changed_meanwhile"
    );
    assert_eq!(storages::list(store, organisation, Page::default()).await.unwrap().items, [one]);
}

async fn one_storage_is_the_default(world: World) {
    let (store, organisation_id) = (&world.store, world.organisation.id);
    let other = organisation("Other");
    people::organisation_insert(store, &other).await.unwrap();
    let elsewhere = storage(other.id, "theirs", true);
    inserted(store, &elsewhere).await.unwrap();
    assert_eq!(storages::default_of(store, organisation_id).await.unwrap(), None);
    let mut one = storage(organisation_id, "one", true);
    inserted(store, &one).await.unwrap();
    let two = storage(organisation_id, "two", true);
    inserted(store, &two).await.unwrap();
    assert_eq!(storages::default_of(store, organisation_id).await.unwrap(), Some(two.clone()));
    updated(store, &one).await.unwrap();
    assert_eq!(storages::default_of(store, organisation_id).await.unwrap(), Some(one.clone()));
    one.is_default = false;
    updated(store, &one).await.unwrap();
    assert_eq!(storages::default_of(store, organisation_id).await.unwrap(), None);
    assert_eq!(storages::default_of(store, other.id).await.unwrap(), Some(elsewhere));
    assert_eq!(storages::all(store, Page::default()).await.unwrap().total, 3);
}

async fn a_storage_that_is_forgotten_leaves_its_backups(world: World) {
    let store = &world.store;
    let one = storage(world.organisation.id, "one", false);
    inserted(store, &one).await.unwrap();
    let mut backup = world.backup();
    backup.storage_id = Some(one.id);
    backups::insert(store, &backup).await.unwrap();
    environments::update(store, &Environment { storage_id: Some(one.id), ..world.environment.clone() })
        .await
        .unwrap();
    storages::delete(store, one.id).await.unwrap();
    assert_eq!(storages::get(store, one.id).await.unwrap(), None);
    assert_eq!(backups::get(store, backup.id).await.unwrap().unwrap().storage_id, None);
    assert_eq!(environments::get(store, world.environment.id).await.unwrap(), Some(world.environment));
}
