//! Servers: nothing is added that was not reached, what is secret stays so, and none goes with something on it.

use secrecy::SecretString;
use undoo_control::{
    Caller, EnvironmentChange, NewServer, Reconcilers, ServerChange, SshChange, plane::ServerAccess,
};
use undoo_core::{
    ServerId,
    platform::{Capacity, EnvironmentStatus, OrgRole, Server, ServerStatus},
};
use undoo_storage::SshAccess;
use undoo_store::{audit, environments, servers};

use crate::{
    fake_plane::{HOST_KEY, PASSWORD, Trip},
    world::{FIRST, World, caller, on_both},
};

on_both!(
    a_server_is_added_once_its_key_was_confirmed_and_it_was_reached,
    a_test_keeps_nothing_and_shows_the_host_key,
    a_login_is_sealed_and_goes_to_no_other_address,
    a_server_does_not_lead_back_into_the_platforms_own,
    a_server_that_is_silent_is_offline_until_it_answers,
    what_is_wished_of_a_server_survives_a_look,
    a_server_goes_when_nothing_is_on_it,
    an_environment_that_is_being_made_stays_pending,
);

fn ssh(host: &str) -> SshAccess {
    SshAccess {
        host: host.into(),
        port: None,
        user: "root".into(),
        password: Some(PASSWORD.into()),
        private_key: None,
        passphrase: None,
        host_key: Some(HOST_KEY.into()),
    }
}

impl World {
    fn new_server(&self, access: SshAccess) -> NewServer {
        NewServer {
            organisation_id: self.organisation,
            name: format!("Server {}", access.host),
            access: ServerAccess::Ssh(access),
            limit: Capacity::default(),
            task_limit: None,
        }
    }

    async fn refused(&self, by: &Caller, access: SshAccess) -> &'static str {
        self.control.server_add(by, self.new_server(access)).await.unwrap_err().code
    }

    async fn server(&self) -> Server {
        self.control.server_add(&self.admin, self.new_server(ssh("10.0.0.2"))).await.unwrap()
    }

    async fn server_now(&self, id: ServerId) -> Server {
        servers::get(self.control.store(), id).await.unwrap().unwrap()
    }

    async fn audited(&self) -> Vec<(String, String)> {
        let entries = audit::list(self.control.store(), self.organisation, FIRST).await.unwrap().items;
        entries.into_iter().map(|entry| (entry.action, entry.data.to_string())).collect()
    }
}

async fn a_server_is_added_once_its_key_was_confirmed_and_it_was_reached(world: World) {
    let admin = &world.admin;
    let unknown = SshAccess { host_key: None, ..ssh("10.0.0.2") };
    assert_eq!(world.refused(admin, unknown).await, "host_key_unknown");
    let changed = SshAccess { host_key: Some("SHA256:other".into()), ..ssh("10.0.0.2") };
    assert_eq!(world.refused(admin, changed).await, "host_key_changed");
    let wrong = SshAccess { password: Some("other".into()), ..ssh("10.0.0.2") };
    assert_eq!(world.refused(admin, wrong).await, "wrong_login");
    let none = SshAccess { password: None, ..ssh("10.0.0.2") };
    assert_eq!(world.refused(admin, none).await, "login_missing");
    assert_eq!(world.refused(admin, ssh("ssh://10.0.0.2 ")).await, "address_invalid");
    let server = world.server().await;
    assert_eq!(server, world.server_now(server.id).await);
    assert_eq!((server.status, server.docker_version.as_deref()), (ServerStatus::Online, Some("29.0.4")));
    assert_eq!((server.has.cpu_cores, server.free_disk_gb), (Some(8), Some(400)));
    assert_eq!(world.refused(admin, SshAccess { port: Some(22), ..ssh("10.0.0.2") }).await, "server_known");
    let (action, data) = world.audited().await.swap_remove(0);
    assert_eq!(action, "server.added");
    assert!(data.contains("10.0.0.2") && !data.contains(PASSWORD), "{data}");
    let member = world.somebody("maria@example.com", None).await;
    assert_eq!(world.refused(&member, ssh("10.0.0.3")).await, "missing_permission");
}

async fn a_test_keeps_nothing_and_shows_the_host_key(world: World) {
    let before = world.control.server_list(&world.admin, world.organisation, FIRST).await.unwrap().total;
    let test = async |access| {
        let access = ServerAccess::Ssh(access);
        world.control.server_test(&world.admin, world.organisation, &access).await.unwrap()
    };
    let tested = test(SshAccess { host_key: None, ..ssh("10.0.0.2") }).await;
    assert_eq!(tested.found.unwrap_err().code, "host_key_unknown");
    assert_eq!(tested.host_key.as_deref(), Some(HOST_KEY));
    let tested = test(ssh("10.0.0.2")).await;
    assert_eq!(tested.found.unwrap().ports_taken, [80, 443]);
    let after = world.control.server_list(&world.admin, world.organisation, FIRST).await.unwrap().total;
    assert_eq!(before, after);
}

async fn a_login_is_sealed_and_goes_to_no_other_address(world: World) {
    let server = world.server().await;
    let sealed = server.sealed.clone().unwrap();
    assert!(!sealed.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    assert!(!format!("{server:?}{:?}", ServerAccess::Ssh(ssh("h"))).contains(PASSWORD));
    let update = async |ssh: SshChange| {
        let change = ServerChange { ssh, ..ServerChange::default() };
        world.control.server_update(&world.admin, server.id, change).await.map_err(|problem| problem.code)
    };
    let elsewhere = SshChange { host: Some("10.0.0.9".into()), ..SshChange::default() };
    assert_eq!(update(elsewhere.clone()).await, Err("login_missing"));
    let other_user = SshChange { user: Some("odoo".into()), ..SshChange::default() };
    assert_eq!(update(other_user).await, Err("login_missing"));
    // Another machine has another host key, until somebody says otherwise.
    let password = Some(SecretString::from(PASSWORD));
    let elsewhere = SshChange { password, ..elsewhere };
    assert_eq!(update(elsewhere.clone()).await, Err("host_key_unknown"));
    let moved = update(SshChange { host_key: Some(HOST_KEY.into()), ..elsewhere }).await.unwrap();
    assert_eq!(moved.ip_address.as_deref(), Some("10.0.0.9"));
    // A new host key is pinned without giving the login again.
    let pinned = SshChange { host_key: Some(format!("{HOST_KEY} ")), ..SshChange::default() };
    assert_eq!(update(pinned).await.unwrap_err(), "host_key_changed");
    let wrong = SshChange { password: Some("other".into()), ..SshChange::default() };
    assert_eq!(update(wrong).await, Err("wrong_login"));
    assert_eq!(world.server_now(server.id).await, moved, "what does not work is not kept");
    let here = world.production.server_id.unwrap();
    let change = SshChange { user: Some("root".into()), ..SshChange::default() };
    let change = ServerChange { ssh: change, ..ServerChange::default() };
    let refused = world.control.server_update(&world.admin, here, change).await.unwrap_err();
    assert_eq!(refused.code, "server_is_here");
}

async fn a_server_does_not_lead_back_into_the_platforms_own(world: World) {
    let (session, _) = world.member("adam@example.com", OrgRole::Admin).await;
    let adam = caller(&world.control, &session).await;
    for host in ["127.0.0.1", "localhost", "::1", "169.254.169.254"] {
        assert_eq!(world.refused(&adam, ssh(host)).await, "server_host_refused", "{host}");
    }
    let here = NewServer { access: ServerAccess::Here, ..world.new_server(ssh("x")) };
    let refused = world.control.server_add(&adam, here.clone()).await.unwrap_err();
    assert_eq!(refused.code, "missing_permission");
    world.control.server_add(&world.admin, world.new_server(ssh("127.0.0.1"))).await.unwrap();
    let known = world.control.server_add(&world.admin, here).await.unwrap_err();
    assert_eq!(known.code, "server_known", "this machine is one already");
}

async fn a_server_that_is_silent_is_offline_until_it_answers(world: World) {
    let server = world.server().await;
    let verify = async || world.control.server_verify(&world.admin, server.id).await.unwrap();
    world.plane.trip("look", Trip::Fails, 2);
    let lost = verify().await;
    assert_eq!(lost.status, ServerStatus::Offline);
    let said = lost.last_problem.as_deref();
    assert_eq!(said, Some("look was told to fail. Do not tell it to."));
    assert_eq!(lost.docker_version.as_deref(), Some("29.0.4"), "what was seen before stays");
    world.later(1);
    let still = verify().await;
    assert_eq!(still.unreachable_since, lost.unreachable_since);
    assert!(still.checked_at > lost.checked_at);
    Reconcilers::round(&world.control).await.unwrap();
    let back = world.server_now(server.id).await;
    assert_eq!((back.status, back.unreachable_since, back.last_problem), (ServerStatus::Online, None, None));
    let actions: Vec<String> = world.audited().await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions[..3], ["server.online", "server.verified", "server.verified"]);
}

async fn what_is_wished_of_a_server_survives_a_look(world: World) {
    let server = world.server().await;
    let change = ServerChange {
        draining: Some(true),
        cpu_cores_limit: Some(Some(2)),
        task_limit: Some(0),
        ..ServerChange::default()
    };
    let changed = world.control.server_update(&world.admin, server.id, change).await.unwrap();
    Reconcilers::round(&world.control).await.unwrap();
    let now = world.server_now(server.id).await;
    assert_eq!((now.draining, now.capacity().cpu_cores, now.task_limit), (true, Some(2), 0));
    assert!(now.checked_at > changed.checked_at);
    let none = ServerChange { cpu_cores_limit: Some(None), ..ServerChange::default() };
    let now = world.control.server_update(&world.admin, server.id, none).await.unwrap();
    assert_eq!(now.capacity().cpu_cores, Some(8));
    let wrong = ServerChange { disk_gb_limit: Some(Some(0)), ..ServerChange::default() };
    let refused = world.control.server_update(&world.admin, server.id, wrong).await.unwrap_err();
    assert_eq!(refused.code, "limit_invalid");
}

async fn a_server_goes_when_nothing_is_on_it(world: World) {
    let here = world.production.server_id.unwrap();
    let used = world.control.server_remove(&world.admin, here).await.unwrap_err();
    assert_eq!(used.code, "server_in_use");
    assert!(used.message.contains("environment \""), "{}", used.message);
    for environment in [world.production.id, world.staging.id] {
        world.control.environment_delete(&world.admin, environment).await.unwrap();
    }
    world.control.server_remove(&world.admin, here).await.unwrap();
    assert_eq!(servers::get(world.control.store(), here).await.unwrap(), None);
    let production = environments::get(world.control.store(), world.production.id).await.unwrap().unwrap();
    assert_eq!(production.server_id, None);
    assert_eq!(world.audited().await[0].0, "server.removed");
}

async fn an_environment_that_is_being_made_stays_pending(world: World) {
    let mut staging = world.staging.clone();
    staging.status = EnvironmentStatus::Pending;
    environments::update(world.control.store(), &staging).await.unwrap();
    Reconcilers::round(&world.control).await.unwrap();
    let change = EnvironmentChange::default();
    let now = world.control.environment_update(&world.admin, staging.id, change).await.unwrap();
    assert_eq!(now.status, EnvironmentStatus::Pending);
}
