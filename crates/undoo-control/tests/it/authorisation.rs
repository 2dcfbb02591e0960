//! Who may do what, through the use cases: the source document's table, other projects and other organisations.

use undoo_control::{BackupQuery, NewBackup, RestoreWish};
use undoo_core::{
    Result,
    platform::{Backup, OrgRole, Permission, ProjectRole},
};

use crate::world::{FIRST, World, caller, on_both};

on_both!(
    members_restore_to_what_is_not_production_and_viewers_nowhere,
    another_organisation_sees_nothing,
    another_project_is_denied,
    lists_show_no_more_than_a_tokens_scopes,
    a_follower_hears_what_they_may_see,
);

fn code<T>(result: Result<T>) -> &'static str {
    result.map_or_else(|problem| problem.code, |_| "fine")
}

async fn members_restore_to_what_is_not_production_and_viewers_nowhere(world: World) {
    let backup = world.backed_up().await;
    let to_staging =
        || RestoreWish { target_environment_id: Some(world.staging.id), ..RestoreWish::of(backup.id) };
    let control = &world.control;
    let viewer = world.somebody("viewer@example.com", Some(ProjectRole::Viewer)).await;
    assert_eq!(code(control.backup_get(&viewer, backup.id).await), "fine");
    assert_eq!(code(control.restore_start(&viewer, to_staging(), None).await), "missing_permission");
    let new = NewBackup::default();
    let made = control.backup_create(&viewer, world.staging.id, new, None).await;
    assert_eq!(code(made), "missing_permission");
    let member = world.somebody("member@example.com", Some(ProjectRole::Member)).await;
    let in_place = control.restore_start(&member, RestoreWish::of(backup.id), None).await.unwrap_err();
    assert_eq!(in_place.code, "missing_permission");
    assert!(in_place.message.contains("project.backups.restore"), "{}", in_place.message);
    let started = control.restore_start(&member, to_staging(), None).await.unwrap();
    assert_eq!(code(control.restore_cancel(&viewer, started.restore_point.id).await), "missing_permission");
    assert_eq!(code(control.restore_cancel(&member, started.restore_point.id).await), "fine");
    assert_eq!(code(control.backup_delete(&member, backup.id).await), "missing_permission");
    let admin = world.somebody("admin@example.com", Some(ProjectRole::Admin)).await;
    assert_eq!(code(control.restore_start(&admin, RestoreWish::of(backup.id), None).await), "fine");
}

async fn another_organisation_sees_nothing(world: World) {
    let backup = world.backed_up().await;
    let point = world.restore(&backup).await;
    let control = &world.control;
    let other = control.organisation_create(&world.admin, "Other").await.unwrap();
    let new = undoo_control::NewUser {
        email: "eve@example.com".into(),
        name: "Eve".into(),
        organisation_id: other.id,
        role: OrgRole::Owner,
    };
    let invited = control.user_create(&world.admin, new).await.unwrap();
    let (session, _) = control.invitation_accept(&invited.token, "correct horse".into()).await.unwrap();
    let eve = caller(control, &session).await;
    let task = point.task_id.unwrap();
    let codes = [
        code(control.backup_get(&eve, backup.id).await),
        code(control.backup_delete(&eve, backup.id).await),
        code(control.restore_get(&eve, point.id).await),
        code(control.restore_cancel(&eve, point.id).await),
        code(control.restore_undo(&eve, point.id, None).await),
        code(control.restore_start(&eve, RestoreWish::of(backup.id), None).await),
        code(control.environment_get(&eve, world.production.id).await),
        code(control.environment_delete(&eve, world.production.id).await),
        code(control.backup_list(&eve, world.production.id, BackupQuery::default(), FIRST).await),
        code(control.task_get(&eve, task).await),
        code(control.task_cancel(&eve, task).await),
        code(control.organisation_get(&eve, world.organisation).await),
        code(control.storage_list(&eve, world.organisation, FIRST).await),
        code(control.audit_list(&eve, world.organisation, FIRST).await),
    ];
    assert_eq!(codes, ["not_found"; 14]);
    assert_eq!(control.organisation_list(&eve, FIRST).await.unwrap().total, 1);
    // What is there and what is not sound the same.
    let there = control.backup_get(&eve, backup.id).await.unwrap_err().message;
    let id = undoo_core::BackupId::generate();
    let not_there = control.backup_get(&eve, id).await.unwrap_err().message;
    assert_eq!(there.replace(&backup.id.to_string(), ""), not_there.replace(&id.to_string(), ""));
}

async fn another_project_is_denied(world: World) {
    let backup = world.backed_up().await;
    let control = &world.control;
    let nobody = world.somebody("nobody@example.com", None).await;
    assert_eq!(code(control.backup_get(&nobody, backup.id).await), "missing_permission");
    assert_eq!(code(control.environment_get(&nobody, world.production.id).await), "missing_permission");
    let none = control.environment_list(&nobody, world.organisation, None, FIRST).await.unwrap();
    assert_eq!(none.total, 0);
    let none = control.task_list(&nobody, world.organisation, None, None, None, FIRST).await.unwrap();
    assert_eq!(none.total, 0);
}

async fn lists_show_no_more_than_a_tokens_scopes(world: World) {
    let backup = world.backed_up().await;
    let (control, organisation) = (&world.control, world.organisation);
    let lists = async |scopes: &[Permission]| {
        let program = world.program(scopes).await;
        let query = BackupQuery::default();
        let (environment, project) = (world.production.id, Some(world.project));
        [
            code(control.environment_list(&program, organisation, None, FIRST).await),
            code(control.environment_list(&program, organisation, project, FIRST).await),
            code(control.task_list(&program, organisation, None, None, None, FIRST).await),
            code(control.backup_list_all(&program, organisation, None, query, FIRST).await),
            code(control.backup_list(&program, environment, query, FIRST).await),
            code(control.restore_list(&program, environment, None, FIRST).await),
            code(control.project_list(&program, organisation, FIRST).await),
            code(control.organisation_list(&program, FIRST).await),
        ]
    };
    let (no, ok) = ("missing_permission", "fine");
    assert_eq!(lists(&[]).await, [no; 8]);
    assert_eq!(lists(&[Permission::OrgView]).await, [no, no, no, no, no, no, no, ok]);
    let looks = [Permission::OrgView, Permission::EnvironmentsView];
    assert_eq!(lists(&looks).await, [ok, ok, ok, no, no, no, no, ok]);
    let reads = [Permission::OrgView, Permission::BackupsView, Permission::ProjectView];
    assert_eq!(lists(&reads).await, [no, no, no, ok, ok, ok, ok, ok]);
    let lister = world.program(&[Permission::OrgView, Permission::OrgBackupsList]).await;
    let all = control.backup_list_all(&lister, organisation, None, BackupQuery::default(), FIRST).await;
    assert_eq!(all.unwrap().items[..], [Backup { environment_snapshot: None, ..backup }]);
}

async fn a_follower_hears_what_they_may_see(world: World) {
    let viewer = world.somebody("viewer@example.com", Some(ProjectRole::Viewer)).await;
    let nobody = world.somebody("nobody@example.com", None).await;
    let last = world.control.events_last(world.organisation).await.unwrap();
    let mut hints = world.control.event_hints();
    world.backed_up().await;
    tokio::time::timeout(crate::fake_plane::SOON, hints.recv()).await.unwrap().unwrap();
    let events = world.control.events_after(&[(world.organisation, last)], 100).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.event.kind.as_str()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("backup.started", "backup.completed"));
    for event in &events {
        assert!(viewer.may_hear(event) && !nobody.may_hear(event));
    }
}
