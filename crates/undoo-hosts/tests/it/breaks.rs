//! Work on environments that breaks off at any of its steps, is given up there or gone on with; and many of them.

use bollard::models::VolumeCreateRequest;
use undoo_core::{Kind, Problem, Result};
use undoo_hosts::deploy::{
    Did, Done, LABEL_ENVIRONMENT, LABEL_PART, LABEL_PREFIX, Part, Told, destroy, infrastructure, list,
    make_durable, redeploy, release,
};

use crate::{
    deploy::{Deploying, did, silently},
    support::{self, Sandbox},
};

support::trials![
    an_environment_that_is_given_up_at_any_step_leaves_nothing,
    an_environment_is_whole_in_the_end_however_often_work_on_it_breaks_off,
    a_disk_that_is_full_is_named_and_once_there_is_room_the_next_attempt_works,
];

/// Lets so many steps be, and ends the work at the next one.
fn breaks_off_after(steps: usize) -> impl FnMut(&Done) -> Result<()> + Send {
    let mut told = 0;
    move |_| {
        told += 1;
        if told <= steps {
            return Ok(());
        }
        Err(Problem::new(Kind::Conflict, "lease_lost", "Another worker has it.", ""))
    }
}

async fn an_environment_that_is_given_up_at_any_step_leaves_nothing(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    let (docker, deployment) = (&it.docker, &it.deployment);
    let given_up = async |what: &str, step: usize, ended: Result<()>| {
        assert_eq!(ended.unwrap_err().code, "lease_lost", "{what} after step {step}");
        destroy(docker, &deployment.names).await.unwrap();
        assert_eq!(it.left().await, [""; 0], "{what} after step {step}");
        assert_eq!(it.folder(&sandbox).await, "", "{what} after step {step}");
    };
    // What broke off at this step is gone on with here.
    let durable = async |step: usize| {
        it.infrastructure().await;
        let ended = make_durable(docker, deployment, &mut breaks_off_after(step)).await;
        assert_eq!(ended.unwrap_err().code, "lease_lost", "make_durable after step {step}");
        make_durable(docker, deployment, &mut silently()).await.unwrap();
        it.make_empty_database(&sandbox).await;
    };
    // Fast server stopped; synced; made anew; ready; durable.
    for step in 0..5 {
        it.infrastructure().await;
        let ended = make_durable(docker, deployment, &mut breaks_off_after(step)).await;
        given_up("make_durable", step, ended).await;
    }
    // Network; carrier removed; Odoo made; started.
    for step in 0..4 {
        durable(step).await;
        let ended = release(docker, deployment, &mut breaks_off_after(step)).await;
        given_up("release", step, ended).await;
    }
    // Odoo removed; PostgreSQL removed; made anew.
    for step in 3..6 {
        durable(4).await;
        release(docker, deployment, &mut breaks_off_after(3)).await.unwrap_err();
        // It cannot be asked to end before it has come to listen for that.
        docker.engine().kill_container(&deployment.names.odoo(), None).await.unwrap();
        let ended = redeploy(docker, deployment, &mut breaks_off_after(step)).await;
        given_up("redeploy", step, ended).await;
    }
}

/// Does it again and again, each time a step further, until it is done. Says how many steps there were.
async fn gone_on_with(it: &Deploying, work: impl AsyncFn(Told<'_>) -> Result<()>) -> usize {
    let mut steps = 0;
    loop {
        match work(&mut breaks_off_after(steps)).await {
            Ok(()) => return steps,
            Err(problem) => assert_eq!(problem.code, "lease_lost", "after step {steps}: {problem}"),
        }
        // What there is, is found: so it would go with the environment.
        let found =
            list(&it.docker).await.unwrap().into_iter().find(|found| found.names == it.deployment.names);
        let found: Vec<_> = found.expect("it is there").things.into_iter().map(|thing| thing.name).collect();
        let mut left = it.left().await;
        left.retain(|name| !found.contains(&name.trim_start_matches('/').to_owned()));
        assert_eq!(left, [""; 0], "after step {steps}");
        steps += 1;
    }
}

async fn an_environment_is_whole_in_the_end_however_often_work_on_it_breaks_off(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    let (docker, deployment) = (&it.docker, &it.deployment);
    it.infrastructure().await;
    it.make_database(&sandbox, "base").await;
    let steps = gone_on_with(&it, async |told| make_durable(docker, deployment, told).await).await;
    assert!(steps >= 2, "{steps}");
    let steps = gone_on_with(&it, async |told| release(docker, deployment, told).await).await;
    assert!(steps >= 4, "{steps}");
    let steps = gone_on_with(&it, async |told| redeploy(docker, deployment, told).await).await;
    assert!(steps >= 9, "{steps}");
    // Odoo answered at the end of each; its data are those of the beginning.
    let sql = "SELECT count(*) FROM res_users WHERE login = 'admin'";
    let words = ["psql", "-U", "odoo", "-d", &deployment.database, "-Atc", sql];
    assert_eq!(sandbox.exec(&deployment.names.db(), &words).await, (0, "1\n".to_owned()));
    destroy(docker, &deployment.names).await.unwrap();
    assert_eq!(it.left().await, [""; 0]);
}

async fn a_disk_that_is_full_is_named_and_once_there_is_room_the_next_attempt_works(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    let names = &it.deployment.names;
    let full = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=8m")];
    let request = VolumeCreateRequest {
        name: Some(names.pgdata()),
        labels: support::labels(&[
            (LABEL_ENVIRONMENT, &names.environment().to_string()),
            (LABEL_PREFIX, names.prefix()),
            (LABEL_PART, Part::DatabaseVolume.as_str()),
        ]),
        driver_opts: support::labels(&full),
        ..Default::default()
    };
    it.docker.engine().create_volume(request).await.unwrap();
    let problem = infrastructure(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "no_room"), "{problem}");
    // The volume was there before, so it stays; a server that could not even be made is made anew, with it.
    let again = it.infrastructure().await;
    assert_eq!(did(&again, Part::DatabaseVolume), [Did::Removed, Did::Made]);
}
