//! An environment that is made around a restore: proven before anybody can reach it, whole, and gone again.

use std::{path::Path, process::Command};

use serde_json::json;
use undoo_core::{
    EnvironmentId, Result,
    platform::{Deployment, Names, Passwords, deployment::DATA_DIR},
};
use undoo_hosts::{
    Docker, DockerEndpoint,
    deploy::{self, Done},
};

use crate::support::{
    Instance, Kind, Undoo,
    docker::{docker, docker_maybe, output, psql},
    web::{RUNTIME, Web},
    weed,
};

/// An environment of this test's own, gone when the test ends, however it ends.
struct Environment {
    docker: Docker,
    deployment: Deployment,
}

impl Environment {
    fn new() -> Self {
        // The prefix of what the tests of undoo-hosts deploy, too: its folder stays when all in it are gone.
        let names = Names::new("undoo-test", EnvironmentId::generate());
        let secret = || hex::encode(rand::random::<[u8; 16]>());
        let passwords = Passwords { role: secret().into(), master: secret().into() };
        let mut deployment = Deployment::new(names, "odoo:19.0", "postgres:15", passwords);
        deployment.public_network = format!("undoo-e2e-public-{:08x}", rand::random::<u32>());
        deployment.domain = Some("erp.example.com".into());
        let docker = RUNTIME.block_on(Docker::connect(DockerEndpoint::Local)).unwrap();
        Self { docker, deployment }
    }

    fn names(&self) -> &Names {
        &self.deployment.names
    }

    /// Where its Odoo answers.
    fn url(&self) -> String {
        let network = &self.deployment.public_network;
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        format!("http://{}:8069", docker(&["inspect", "-f", &format, &self.names().odoo()]))
    }

    /// Everything on this server that has the environment's id in its name.
    fn left(&self) -> Vec<String> {
        let id = self.names().environment().to_string();
        let lists = [
            docker(&["ps", "-a", "--format", "{{.Names}}"]),
            docker(&["network", "ls", "--format", "{{.Name}}"]),
            docker(&["volume", "ls", "--format", "{{.Name}}"]),
        ];
        let named = lists.iter().flat_map(|list| list.lines()).filter(|name| name.contains(&id));
        let folder = self.names().folder();
        let folder = Path::new(&folder).exists().then_some(folder);
        named.map(str::to_owned).chain(folder).collect()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if let Err(left) = RUNTIME.block_on(deploy::destroy(&self.docker, self.names())) {
            eprintln!("the environment {} stays: {left}", self.names().environment());
        }
        docker_maybe(&["network", "rm", &self.deployment.public_network]);
    }
}

fn silently(_: &Done) -> Result<()> {
    Ok(())
}

fn login_page(url: &str) -> String {
    let words = ["-s", "-o", "/dev/null", "-m", "60", "--noproxy", "*", "-w", "%{http_code}"];
    let answer = output(Command::new("curl").args(words).arg(format!("{url}/web/login")), b"");
    String::from_utf8(answer.stdout).unwrap()
}

/// Odoo goes on with the filestore that a mover, which is root, has made on a fresh volume.
fn expect_filestore(environment: &Environment, web: &Web) {
    let (odoo, database) = (environment.names().odoo(), &environment.deployment.database);
    let restored = format!("{DATA_DIR}/filestore/{database}");
    let id = web.create("ir.attachment", json!({ "name": "new.txt", "datas": "bmV3IGhlcmU=" }));
    assert_eq!(web.attachment(id), b"new here");
    let sql = format!("SELECT store_fname FROM ir_attachment WHERE id = {id}");
    let file = psql(&environment.names().db(), database, &sql);
    assert_eq!(docker(&["exec", &odoo, "stat", "-c", "%U", &format!("{restored}/{file}")]), "odoo");
    let others = docker(&["exec", &odoo, "find", &restored, "!", "-user", "odoo", "!", "-name", ".undoo*"]);
    assert_eq!(others, "");
}

#[test]
fn a_backup_becomes_an_environment_that_nobody_reaches_before_it_is_proven_and_safe() {
    let undoo = Undoo::ready();
    let (folder, live) = (tempfile::tempdir().unwrap(), Instance::up(Kind::ODOO_19));
    live.web().create("res.partner", json!({ "name": "Deployed elsewhere" }));
    let to = folder.path().display().to_string();
    let made = undoo.run(&["backup", &live.target(), "--to", &to, "--json"]).ends(0).result();
    drop(live);

    let environment = Environment::new();
    let (engine, deployment) = (&environment.docker, &environment.deployment);
    let (odoo, db) = (environment.names().odoo(), environment.names().db());
    RUNTIME.block_on(deploy::infrastructure(engine, deployment, &mut silently)).unwrap();
    let state = || docker(&["inspect", "-f", "{{.State.Status}}", &odoo]);
    assert_eq!((state().as_str(), psql(&db, "postgres", "SHOW fsync").as_str()), ("created", "off"));

    let target = format!("docker:{odoo}");
    // A file of this machine is read through a mount, and what is on its loopback through a relay: also where
    // no container with an address is.
    let backup = made["address"].as_str().unwrap();
    undoo.run(&["restore", backup, "--into", &target, "--dry-run", "--json"]).ends(0);
    weed::put("deployed.zip", &std::fs::read(backup).unwrap());
    let backup = weed::http("deployed.zip");
    let words = ["restore", &backup, "--into", &target, "--intent", "move", "--yes", "--json"];
    let restored = undoo.run(&words).ends(0).result();
    assert!(restored["boot"]["after_ms"].is_number(), "it was proven: {restored}");
    assert_eq!(state(), "created", "the cutover does not start what only carries the restore");

    RUNTIME.block_on(deploy::make_durable(engine, deployment, &mut silently)).unwrap();
    assert_eq!((state().as_str(), psql(&db, "postgres", "SHOW fsync").as_str()), ("created", "on"));
    RUNTIME.block_on(deploy::release(engine, deployment, &mut silently)).unwrap();
    assert!(docker(&["inspect", &odoo]).contains("Host(`erp.example.com`)"));
    let url = environment.url();
    assert_eq!(login_page(&url), "200");
    let web = Web::login(&url, &deployment.database, "admin", "admin").unwrap();
    assert_eq!(web.count("res.partner", json!([["name", "=", "Deployed elsewhere"]])), 1);
    expect_filestore(&environment, &web);

    RUNTIME.block_on(deploy::destroy(engine, environment.names())).unwrap();
    assert_eq!(environment.left(), [""; 0]);
}
