//! Git repositories of custom modules: named by whoever has an environment made, with tokens that nobody sees again.

use undoo_control::{Control, MigrationFrom, MigrationWish, NewEnvironment, RestoreWish, Sealer, Settings};
use undoo_core::{
    EnvironmentId,
    platform::{
        AddonsOrigin, AddonsSource, Backup, EnvironmentType, MigrationSource, OrgRole, ProjectRole,
        RestoreMode, TaskStatus,
    },
};
use undoo_store::{Page, addons, audit, tasks};

use crate::world::{World, caller, on_both};

on_both!(
    modules_of_git_repositories_are_fetched_with_the_token_that_was_named,
    a_repository_does_not_lead_back_into_the_platforms_server,
    those_of_an_environment_that_waits_can_be_named_anew_until_it_is_deployed,
    tokens_move_to_a_new_key_and_the_old_one_is_not_needed,
);

const TOKEN: &str = "ghp_geheim";

fn source(text: &str, token: Option<&str>) -> AddonsSource {
    AddonsSource { origin: AddonsOrigin::parse(text), token: token.map(Into::into), anywhere: false }
}

fn to_new(backup: &Backup, addons: Vec<AddonsSource>) -> RestoreWish {
    RestoreWish {
        mode: Some(RestoreMode::New),
        new_environment: Some(NewEnvironment {
            name: "copy".into(),
            environment_type: EnvironmentType::Staging,
            server_id: None,
            domain: None,
            odoo_image: None,
            deployment: Default::default(),
            addons,
        }),
        accept: vec!["server_full".to_owned()],
        ..RestoreWish::of(backup.id)
    }
}

impl World {
    /// An environment that waits for a file of ten bytes.
    async fn waiting(&self, addons: Vec<AddonsSource>) -> EnvironmentId {
        let backup = self.backed_up().await;
        let environment = to_new(&backup, addons).new_environment.unwrap();
        let wish = MigrationWish {
            project_id: self.project,
            source: MigrationSource::OdooSh,
            from: MigrationFrom::Upload(10),
            environment: NewEnvironment { server_id: self.production.server_id, ..environment },
            limits: [None; 3],
            storage_id: None,
            accept: vec!["server_full".to_owned()],
        };
        self.control.migration_create(&self.admin, wish, None).await.unwrap().environment_id
    }
}

async fn modules_of_git_repositories_are_fetched_with_the_token_that_was_named(world: World) {
    let backup = world.backed_up().await;
    let sources = vec![
        source("https://git.example/acme/addons.git#19.0", Some(TOKEN)),
        source("https://git.example/oca/web.git", None),
    ];
    let point = world.restore_as(to_new(&backup, sources.clone())).await;
    let worker = world.worker();
    let task = world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    assert_eq!(task.status, TaskStatus::Completed);
    let id = point.target_environment_id;
    // Whoever administers the platform may have it reach everything.
    let sources: Vec<_> =
        sources.into_iter().map(|source| AddonsSource { anywhere: true, ..source }).collect();
    assert_eq!(world.plane.addons(id), sources);
    let seen = world.control.environment_addons(&world.admin, id).await.unwrap();
    assert_eq!(seen.iter().map(|(_, has_token)| *has_token).collect::<Vec<_>>(), [true, false]);
    // What was fetched is kept with the task, and the token nowhere but sealed.
    let log = tasks::log(world.control.store(), task.id).await.unwrap();
    let log: String = log.iter().map(|step| step.data.to_string()).collect();
    let commit = "0".repeat(40);
    assert!(log.contains(&commit) && log.contains("https://git.example/oca/web.git"), "{log}");
    let page = Page { page: 1, size: 100 };
    let audited = audit::list(world.control.store(), world.organisation, page).await.unwrap();
    let kept = addons::get(world.control.store(), id).await.unwrap().unwrap();
    let all = format!("{log}{task:?}{audited:?}{kept:?}{}", String::from_utf8_lossy(&kept.sealed));
    assert!(!all.contains(TOKEN), "{all}");
}

async fn a_repository_does_not_lead_back_into_the_platforms_server(world: World) {
    let backup = world.backed_up().await;
    let (session, _) = world.member("adam@example.com", OrgRole::Admin).await;
    let adam = caller(&world.control, &session).await;
    for url in
        ["http://localhost:3000/a", "https://127.0.0.1/a", "https://[::1]/a", "https://169.254.169.254/a"]
    {
        let wish = to_new(&backup, vec![source(url, None)]);
        let planned = world.control.restore_plan(&adam, wish.clone()).await.unwrap_err();
        assert_eq!(planned.problem.code, "addons_host_refused", "{url}");
        let refused = world.control.restore_start(&adam, wish, None).await.unwrap_err();
        assert_eq!(refused.code, "addons_host_refused", "{url}");
    }
    for url in ["git@git.example:a/b", "https://me:geheim@git.example/a", "https://git.example/a#--x"] {
        let refused =
            world.control.restore_start(&adam, to_new(&backup, vec![source(url, None)]), None).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "addons_origin", "{url}");
        assert!(!refused.message.contains("geheim"), "{refused}");
    }
    // What leads elsewhere when it is named must not lead back when it is fetched.
    let elsewhere = vec![source("https://10.255.255.1/a", None)];
    let point =
        world.control.restore_start(&adam, to_new(&backup, elsewhere), None).await.unwrap().restore_point;
    let worker = world.worker();
    world.task_over(point.task_id.unwrap()).await;
    worker.stop().await;
    assert!(!world.plane.addons(point.target_environment_id)[0].anywhere);
    // Who may not restore is told nothing of names.
    let eve = world.somebody("eve@example.com", Some(ProjectRole::Viewer)).await;
    let wish = to_new(&backup, vec![source("http://localhost:3000/a", None)]);
    let refused = world.control.restore_start(&eve, wish.clone(), None).await.unwrap_err();
    assert_eq!(refused.code, "missing_permission");
    // Whoever administers the platform may.
    assert!(world.control.restore_plan(&world.admin, wish).await.is_ok());
}

async fn those_of_an_environment_that_waits_can_be_named_anew_until_it_is_deployed(world: World) {
    let control = &world.control;
    let id = world.waiting(vec![source("https://git.example/acme/addons.git", Some(TOKEN))]).await;
    let origin = AddonsOrigin {
        folder: Some("custom".into()),
        ..AddonsOrigin::parse("https://git.example/oca/web#18.0")
    };
    let sources = vec![
        // Its token stays; another repository does not get it.
        source("https://git.example/acme/addons.git#19.0", None),
        AddonsSource { origin, token: None, anywhere: false },
    ];
    let seen = control.environment_addons_set(&world.admin, id, sources).await.unwrap();
    assert_eq!(seen, control.environment_addons(&world.admin, id).await.unwrap());
    assert_eq!(seen.iter().map(|(_, has_token)| *has_token).collect::<Vec<_>>(), [true, false]);
    assert_eq!(seen[0].0.reference.as_deref(), Some("19.0"));
    assert_eq!(seen[1].0.folder.as_deref(), Some("custom"));
    let twice = vec![source("https://git.example/a", None), source("https://git.example/a#x", None)];
    let refused = control.environment_addons_set(&world.admin, id, twice).await.unwrap_err();
    assert_eq!(refused.code, "addons_origin");
    assert_eq!(seen, control.environment_addons(&world.admin, id).await.unwrap(), "they stay as they were");
    // In place of a token, another one.
    let again = vec![source("https://git.example/oca/web", Some("another"))];
    assert_eq!(control.environment_addons_set(&world.admin, id, again).await.unwrap().len(), 1);
    assert!(control.environment_addons_set(&world.admin, id, Vec::new()).await.unwrap().is_empty());
    let eve = world.somebody("eve@example.com", Some(ProjectRole::Viewer)).await;
    let refused = control.environment_addons_set(&eve, id, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code, "missing_permission");
    // One that is there has its modules.
    let there = world.production.id;
    let refused = control.environment_addons_set(&world.admin, there, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code, "addons_settled");
}

async fn tokens_move_to_a_new_key_and_the_old_one_is_not_needed(world: World) {
    let id = world.waiting(vec![source("https://git.example/acme/addons.git", Some(TOKEN))]).await;
    let with = |sealer| {
        Control::new(world.control.store().clone(), world.plane.clone(), sealer, Settings::default())
    };
    let both = with(Sealer::new(&[8; 32], &[[7; 32].into()]));
    assert_eq!(both.secrets_rotate().await.unwrap().addons, 1);
    assert_eq!(both.secrets_rotate().await.unwrap().addons, 0);
    let seen = with(Sealer::new(&[8; 32], &[])).environment_addons(&world.admin, id).await.unwrap();
    assert!(seen[0].1);
    assert!(world.control.environment_addons(&world.admin, id).await.is_err(), "by the old key alone");
}
