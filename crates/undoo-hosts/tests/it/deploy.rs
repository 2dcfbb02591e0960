//! Environments made and destroyed on a real engine, with the real images.

use std::collections::BTreeMap;

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
        WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use undoo_core::{
    EnvironmentId, Kind, Problem, Result,
    platform::{Deployment, Limits, Names, Passwords},
};
use undoo_hosts::{
    Docker, Role, cleanup,
    deploy::{
        self, Did, Done, LABEL_ENVIRONMENT, Part, destroy, ensure_image, infrastructure, list, make_durable,
        redeploy, release,
    },
    target::{Owner, inspect_odoo},
};

use crate::support::{self, ODOO, POSTGRES, Sandbox};

support::trials![
    an_environment_is_made_released_and_gone_again,
    work_that_ends_at_any_step_leaves_nothing_and_the_next_attempt_finds_what_a_dead_one_left,
    what_is_somebody_elses_is_neither_used_nor_removed,
    a_port_that_is_taken_is_named_and_no_container_stays,
    a_fast_server_that_something_else_stopped_is_made_anew_and_never_made_durable,
    an_image_that_nobody_has_is_named_with_both_ways_to_get_it,
];

/// A deployment of this test's, destroyed at its end however it ends.
pub(crate) struct Deploying {
    pub(crate) docker: Docker,
    pub(crate) deployment: Deployment,
}

impl Deploying {
    pub(crate) async fn new(sandbox: &Sandbox) -> Self {
        let public = sandbox.network("public").await;
        Self::in_network(sandbox, &public)
    }

    /// With the network that others are in, too.
    pub(crate) fn in_network(sandbox: &Sandbox, public: &str) -> Self {
        // One folder for all tests on the server: what is in it goes, itself stays.
        let names = Names::new("undoo-test", EnvironmentId::generate());
        let passwords =
            Passwords { role: "s3cret-role".to_owned().into(), master: "s3cret-master".to_owned().into() };
        let mut deployment = Deployment::new(names, ODOO, POSTGRES, passwords);
        deployment.public_network = public.into();
        deployment.odoo_version = Some("19.0".into());
        deployment.domain = Some("erp.example.com".into());
        deployment.limits = Limits { cpu_cores: Some(2), ram_mb: Some(2048) };
        Self { docker: sandbox.docker.clone(), deployment }
    }

    pub(crate) async fn infrastructure(&self) -> Vec<Done> {
        let mut all = Vec::new();
        infrastructure(&self.docker, &self.deployment, &mut note(&mut all)).await.unwrap();
        all
    }

    /// Makes the database as Odoo itself does, in the carrier's place: not what these tests are about, and
    /// quicker than a restore.
    pub(crate) async fn make_database(&self, sandbox: &Sandbox, modules: &str) {
        let names = &self.deployment.names;
        let carrier = self.docker.engine().inspect_container(&names.odoo(), None).await.unwrap();
        let body = ContainerCreateBody {
            image: Some(self.deployment.odoo_image.clone()),
            env: carrier.config.unwrap().env,
            cmd: support::words(&["odoo", "-i", modules, "--without-demo=all", "--stop-after-init"]),
            host_config: Some(HostConfig {
                network_mode: Some(names.network()),
                volumes_from: Some(vec![names.odoo()]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let one_off = sandbox.create("init", body).await;
        sandbox.start(&one_off).await;
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let ended: Vec<_> = self.docker.engine().wait_container(&one_off, Some(options)).collect().await;
        assert!(ended.iter().all(|end| end.is_ok()), "{ended:?}");
        // While it is there, it holds the volumes.
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        self.docker.engine().remove_container(&one_off, Some(options)).await.unwrap();
    }

    /// What there is of the environment, by any means.
    pub(crate) async fn left(&self) -> Vec<String> {
        let names = &self.deployment.names;
        let engine = self.docker.engine();
        let mut left = Vec::new();
        if let Some(found) = list(&self.docker).await.unwrap().into_iter().find(|it| it.names == *names) {
            left.extend(found.things.into_iter().map(|thing| thing.name));
        }
        let filters = [("name".to_owned(), vec![names.environment().to_string()])].into();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = engine.list_containers(Some(options)).await.unwrap();
        left.extend(containers.into_iter().flat_map(|found| found.names.unwrap_or_default()));
        for volume in [names.pgdata(), names.data()] {
            left.extend(engine.inspect_volume(&volume).await.is_ok().then_some(volume));
        }
        left.extend(engine.inspect_network(&names.network(), None).await.is_ok().then(|| names.network()));
        let workers = cleanup::list(&self.docker, Some(&names.environment().to_string())).await.unwrap();
        left.extend(workers.into_iter().map(|worker| worker.name));
        left
    }

    /// Makes a database that Odoo would start with, and nothing in it.
    pub(crate) async fn make_empty_database(&self, sandbox: &Sandbox) {
        let sql = format!("CREATE DATABASE \"{}\"", self.deployment.database);
        let words = ["psql", "-U", "odoo", "-d", "postgres", "-c", &sql];
        let (code, said) = sandbox.exec(&self.deployment.names.db(), &words).await;
        assert_eq!(code, 0, "{said}");
    }

    /// What the server has in the environment's folder, one path a line.
    pub(crate) async fn folder(&self, sandbox: &Sandbox) -> String {
        let names = &self.deployment.names;
        let body = ContainerCreateBody {
            user: Some("0:0".into()),
            host_config: Some(HostConfig {
                binds: Some(vec![format!("{}:/look", names.folders())]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let suffix = format!("look-{:08x}", rand::random::<u32>());
        let looker = sandbox.idle(&suffix, body).await;
        let path = format!("/look/{}", names.environment());
        sandbox.exec(&looker, &["sh", "-c", &format!("ls -lnR {path} 2>/dev/null || true")]).await.1
    }
}

impl Drop for Deploying {
    fn drop(&mut self) {
        let (docker, names) = (self.docker.clone(), self.deployment.names.clone());
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(destroy(&docker, &names));
        });
        let _ = cleaning.join();
    }
}

pub(crate) fn note(all: &mut Vec<Done>) -> impl FnMut(&Done) -> Result<()> + Send {
    move |done| {
        all.push(done.clone());
        Ok(())
    }
}

pub(crate) fn silently() -> impl FnMut(&Done) -> Result<()> + Send {
    |_| Ok(())
}

pub(crate) fn did(all: &[Done], part: Part) -> Vec<Did> {
    all.iter().filter(|done| done.part == part).map(|done| done.did).collect()
}

async fn an_environment_is_made_released_and_gone_again(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    let (docker, deployment) = (&it.docker, &it.deployment);
    let names = &deployment.names;

    let made = it.infrastructure().await;
    for part in [Part::Network, Part::DatabaseVolume, Part::OdooVolume, Part::Folder, Part::Carrier] {
        assert_eq!(did(&made, part), [Did::Made], "{part:?}");
    }
    assert_eq!(did(&made, Part::Database), [Did::Made, Did::Answered]);
    let again = it.infrastructure().await;
    assert!(again.iter().all(|done| matches!(done.did, Did::Found | Did::Answered)), "{again:?}");

    // To a restore, the carrier is an Odoo that is stopped and whose database is to be made.
    let carrier = inspect_odoo(docker, &names.odoo()).await.unwrap();
    assert!(carrier.carrier && !carrier.running);
    assert_eq!(carrier.conf.db_name, std::slice::from_ref(&deployment.database));
    assert_eq!(carrier.owner, Some(Owner { uid: 100, gid: 101 }), "a mover must not make it root's");
    assert_eq!(carrier.networks.len(), 1, "{:?}", carrier.networks);
    let server = carrier.database_container.as_ref().expect("found by its name in the network");
    assert_eq!((server.admin_user.as_str(), server.running), ("odoo", true));
    assert_eq!(secrecy_of(&server.admin_password), "s3cret-role");
    let (_, fast) =
        sandbox.exec(&names.db(), &["psql", "-U", "odoo", "-d", "postgres", "-Atc", "SHOW fsync"]).await;
    assert_eq!(fast.trim(), "off");
    for container in [names.db(), names.odoo()] {
        let text = sandbox.inspect_text(&container).await;
        assert!(!text.contains("s3cret"), "{text}");
    }
    let files = it.folder(&sandbox).await;
    let conf = files.lines().find(|line| line.ends_with("odoo.conf")).expect("odoo.conf is there");
    assert!(conf.starts_with("-rw-r-----") && conf.contains(" 100 "), "{conf}");

    // Nothing is let out that is not durable, or has no database.
    let early = release(docker, deployment, &mut silently()).await.unwrap_err();
    assert_eq!(early.code, "not_durable");
    make_durable(docker, deployment, &mut silently()).await.unwrap();
    let empty = release(docker, deployment, &mut silently()).await.unwrap_err();
    assert_eq!(empty.code, "database_missing");
    for setting in Deployment::durable_settings() {
        let sql = format!("SHOW {setting}");
        let (_, shown) =
            sandbox.exec(&names.db(), &["psql", "-U", "odoo", "-d", "postgres", "-Atc", &sql]).await;
        assert_eq!(shown.trim(), "on", "{setting}");
    }

    it.make_database(&sandbox, "base").await;
    let mut all = Vec::new();
    release(docker, deployment, &mut note(&mut all)).await.unwrap();
    assert_eq!(did(&all, Part::Carrier), [Did::Removed]);
    assert_eq!(did(&all, Part::Odoo), [Did::Made, Did::Started, Did::Answered]);
    let odoo = inspect_odoo(docker, &names.odoo()).await.unwrap();
    let mut networks: Vec<_> = odoo.networks.iter().map(|network| network.name.clone()).collect();
    networks.sort();
    let mut expected = vec![names.network(), deployment.public_network.clone()];
    expected.sort();
    assert_eq!(networks, expected);
    assert_eq!((odoo.running, odoo.carrier, odoo.restart_policy.as_str()), (true, false, "unless-stopped"));
    assert!(!odoo.conf.list_db);
    let mut all = Vec::new();
    release(docker, deployment, &mut note(&mut all)).await.unwrap();
    assert_eq!(did(&all, Part::Odoo)[0], Did::Found, "a second time finds it");

    deploy::stop(docker, names, &mut silently()).await.unwrap();
    let found = list(docker).await.unwrap().into_iter().find(|found| found.names == *names).unwrap();
    assert!(found.things.iter().all(|thing| !thing.running), "{found:?}");
    deploy::start(docker, names, &mut silently()).await.unwrap();

    // Made anew from a value that has changed, around the same data.
    let mut changed = deployment.clone();
    changed.odoo_conf = BTreeMap::from([("limit_time_real".to_owned(), "240".to_owned())]);
    redeploy(docker, &changed, &mut silently()).await.unwrap();
    let odoo = inspect_odoo(docker, &names.odoo()).await.unwrap();
    assert_eq!(odoo.conf.all.get("limit_time_real"), Some("240"));
    assert!(odoo.running);

    let removed = destroy(docker, names).await.unwrap();
    for part in
        [Part::Odoo, Part::Database, Part::DatabaseVolume, Part::OdooVolume, Part::Network, Part::Folder]
    {
        assert_eq!(did(&removed, part), [Did::Removed], "{part:?}");
    }
    assert_eq!(it.left().await, Vec::<String>::new());
    assert_eq!(it.folder(&sandbox).await, "");
    assert_eq!(destroy(docker, names).await.unwrap(), []);
    docker
        .engine()
        .inspect_network(&deployment.public_network, None)
        .await
        .expect("it is everybody's, and stays");
}

fn secrecy_of(password: &Option<secrecy::SecretString>) -> &str {
    use secrecy::ExposeSecret as _;
    password.as_ref().map(|password| password.expose_secret()).unwrap_or_default()
}

async fn work_that_ends_at_any_step_leaves_nothing_and_the_next_attempt_finds_what_a_dead_one_left(
    sandbox: Sandbox,
) {
    let it = Deploying::new(&sandbox).await;
    let steps = it.infrastructure().await.len();
    destroy(&it.docker, &it.deployment.names).await.unwrap();
    for step in 0..steps {
        let mut told = 0;
        let mut fail = |_: &Done| {
            told += 1;
            if told > step {
                return Err(Problem::new(Kind::Conflict, "lease_lost", "Another worker has it.", ""));
            }
            Ok(())
        };
        let problem = infrastructure(&it.docker, &it.deployment, &mut fail).await.unwrap_err();
        assert_eq!(problem.code, "lease_lost");
        assert_eq!(it.left().await, Vec::<String>::new(), "after step {step}");
    }
    assert_eq!(it.folder(&sandbox).await, "");

    // A worker that dies takes nothing back.
    for step in [2, 5, 7] {
        {
            let mut told = 0;
            let mut stop = |_: &Done| {
                told += 1;
                if told > step { Err(Problem::new(Kind::Internal, "died", "", "")) } else { Ok(()) }
            };
            // With something of it there, a failure leaves the rest to the next attempt.
            it.docker
                .engine()
                .create_volume(bollard::models::VolumeCreateRequest {
                    name: Some(it.deployment.names.data()),
                    labels: support::labels(&[
                        (LABEL_ENVIRONMENT, &it.deployment.names.environment().to_string()),
                        (deploy::LABEL_PREFIX, it.deployment.names.prefix()),
                        (deploy::LABEL_PART, "odoo-volume"),
                    ]),
                    ..Default::default()
                })
                .await
                .unwrap();
            infrastructure(&it.docker, &it.deployment, &mut stop).await.unwrap_err();
        }
        let found = it.infrastructure().await;
        assert_eq!(did(&found, Part::OdooVolume), [Did::Found]);
        destroy(&it.docker, &it.deployment.names).await.unwrap();
        assert_eq!(it.left().await, Vec::<String>::new(), "after step {step}");
    }
}

async fn what_is_somebody_elses_is_neither_used_nor_removed(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    let names = it.deployment.names.clone();
    let engine = it.docker.engine();
    let body = || ContainerCreateBody { image: Some(POSTGRES.into()), ..Default::default() };
    // Somebody restores into their Odoo, which has that name.
    let at_work = support::labels(&[
        (undoo_hosts::LABEL_TASK, &sandbox.task()),
        (undoo_hosts::LABEL_EPOCH, "1"),
        (undoo_hosts::LABEL_ROLE, Role::Mover.as_str()),
        (undoo_hosts::LABEL_TARGET, &names.odoo()),
    ]);
    let mover = sandbox.idle("theirs", ContainerCreateBody { labels: at_work, ..body() }).await;
    for name in [names.db(), names.odoo()] {
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = engine.create_container(Some(options), body()).await.unwrap().id;
        let problem = infrastructure(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
        assert_eq!(problem.code, "name_taken");
        assert!(problem.message.contains(&name), "{}", problem.message);
        assert_eq!(destroy(&it.docker, &names).await.unwrap(), []);
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        engine.remove_container(&id, Some(options)).await.expect("it is still there");
    }
    let workers = cleanup::list(&it.docker, Some(&sandbox.task())).await.unwrap();
    assert_eq!(
        workers.iter().map(|worker| &worker.name).collect::<Vec<_>>(),
        [&mover],
        "their mover works on"
    );
    let request = bollard::models::VolumeCreateRequest { name: Some(names.pgdata()), ..Default::default() };
    engine.create_volume(request).await.unwrap();
    let problem = infrastructure(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
    assert_eq!(problem.code, "name_taken");
    assert_eq!(destroy(&it.docker, &names).await.unwrap(), []);
    let options = bollard::query_parameters::RemoveVolumeOptionsBuilder::new().build();
    engine.remove_volume(&names.pgdata(), Some(options)).await.expect("it is still there");
    let request = bollard::models::NetworkCreateRequest { name: names.network(), ..Default::default() };
    engine.create_network(request).await.unwrap();
    let problem = infrastructure(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
    assert_eq!(problem.code, "name_taken");
    engine.remove_network(&names.network()).await.expect("it is still there");
}

async fn a_port_that_is_taken_is_named_and_no_container_stays(sandbox: Sandbox) {
    let mut it = Deploying::new(&sandbox).await;
    // This machine's engine publishes ports here.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    it.deployment.http_port = Some(listener.local_addr().unwrap().port());
    it.infrastructure().await;
    make_durable(&it.docker, &it.deployment, &mut silently()).await.unwrap();
    let names = &it.deployment.names;
    it.make_empty_database(&sandbox).await;
    let problem = release(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Conflict, "port_taken"), "{problem}");
    assert_eq!(inspect_odoo(&it.docker, &names.odoo()).await.unwrap_err().code, "container_missing");
}

async fn a_fast_server_that_something_else_stopped_is_made_anew_and_never_made_durable(sandbox: Sandbox) {
    let it = Deploying::new(&sandbox).await;
    it.infrastructure().await;
    let names = &it.deployment.names;
    let sql = "CREATE DATABASE kept";
    let (code, said) = sandbox.exec(&names.db(), &["psql", "-U", "odoo", "-d", "postgres", "-c", sql]).await;
    assert_eq!(code, 0, "{said}");
    undoo_hosts::service::stop(&it.docker, &[names.db()], std::time::Duration::from_secs(60)).await.unwrap();
    // However cleanly: what is not on disk is not known.
    let problem = make_durable(&it.docker, &it.deployment, &mut silently()).await.unwrap_err();
    assert_eq!(problem.code, "cluster_lost");
    let found = it.infrastructure().await;
    assert_eq!(did(&found, Part::DatabaseVolume), [Did::Removed, Did::Made]);
    let count = "SELECT count(*) FROM pg_database WHERE datname = 'kept'";
    let (_, left) = sandbox.exec(&names.db(), &["psql", "-U", "odoo", "-d", "postgres", "-Atc", count]).await;
    assert_eq!(left.trim(), "0");
}

async fn an_image_that_nobody_has_is_named_with_both_ways_to_get_it(sandbox: Sandbox) {
    let name = "localhost:1/undoo/no-such-image:1";
    let problem = ensure_image(&sandbox.docker, name).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Missing, "image_missing"));
    assert!(problem.message.contains(name), "{}", problem.message);
    assert!(problem.remedy.contains("docker pull") && problem.remedy.contains("docker load"));
    let found = ensure_image(&sandbox.docker, POSTGRES).await.unwrap();
    assert!(found.id.starts_with("sha256:"));
}
