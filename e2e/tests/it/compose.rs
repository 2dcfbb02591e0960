//! A project of Docker Compose as a target: its containers carry the labels that compose gives them.

use serde_json::json;

use crate::support::{Instance, Kind, Made, Undoo, docker::docker};

#[test]
fn a_compose_project_is_restored_in_place_and_undone_and_one_with_two_odoos_asks_which() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    live.web().create("res.partner", json!({ "name": "Entered after the backup" }));
    let port = format!("127.0.0.1:{}:8069", live.url.rsplit(':').next().unwrap());
    let conf = format!("{}:/etc/odoo/odoo.conf:ro", live.conf().display());
    docker(&["rm", "-f", &live.odoo()]);
    let odoo = member(&live, &conf, "odoo", "web", "False", &["-p", &port]);
    assert_eq!(odoo, live.odoo());
    // `docker compose run` leaves such ones; they are none of the project's services.
    member(&live, &conf, "oneoff", "web", "True", &[]);
    live.web();
    let target = format!("compose:{}", live.name);

    let plan = undoo.run(&["restore", &backup.zip(), "--into", &target, "--dry-run", "--json"]).ends(0);
    assert!(plan.result()["cluster"]["live"].is_object(), "{}", plan.all());
    let result =
        undoo.run(&["restore", &backup.zip(), "--into", &target, "--yes", "--json"]).ends(0).result();
    assert_eq!(result["intent"], "recover");
    assert!(result["boot"].is_object(), "Odoo was booted on a clone");
    backup.is_live_on(&live, &live.name);
    undoo.run(&["verify", &target]).ends(0);
    // It is the same Odoo under either name.
    let by_container = undoo.run(&["list", &live.target(), "--json"]).ends(0).json();
    assert_eq!(undoo.run(&["list", &target, "--json"]).ends(0).json(), by_container);
    undoo.run(&["undo", &target, "--yes"]).ends(0);
    let replaced = || {
        let web = live.web();
        web.count("res.partner", json!([["name", "=", "Entered after the backup"]])) == 1
            && web.count("res.partner", json!([["name", "=like", "Backed up %"]])) == 0
    };
    assert!(replaced());
    assert_eq!(live.leftovers(), [""; 0]);

    let second = member(&live, &conf, "crons", "crons", "False", &[]);
    for command in [
        &["restore", &backup.zip(), "--into", &target, "--yes", "--json"][..],
        &["undo", &target, "--yes", "--json"],
    ] {
        let refused = undoo.run(command).ends(7).json();
        assert_eq!(refused["code"], "several_odoo_containers");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(&odoo) && message.contains(&second), "{message}");
        assert!(refused["remedy"].as_str().unwrap().contains("docker:CONTAINER"), "{refused}");
    }
    assert!(replaced());
    // Named, it is the target, and the other one is stopped with it.
    let started = |name: &str| docker(&["inspect", "-f", "{{.State.StartedAt}}", name]);
    let before = started(&second);
    undoo.run(&["undo", &live.target(), "--yes"]).ends(0);
    backup.is_live_on(&live, &live.name);
    assert!(Instance::runs(&second) && started(&second) != before);
    let none = undoo.run(&["list", "compose:undoo-e2e-no-such-project", "--json"]).ends(5).json();
    assert_eq!(none["code"], "compose_project_missing");
}

/// Runs an Odoo of the instance as a container of a compose project.
fn member(live: &Instance, conf: &str, suffix: &str, service: &str, oneoff: &str, more: &[&str]) -> String {
    let label = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    let labels = [
        label("project", &live.name),
        label("service", service),
        label("oneoff", oneoff),
        label("container-number", "1"),
        label("version", "2.29.7"),
    ];
    let data = format!("{}_odoo_data:/var/lib/odoo", live.name);
    let (host, password) = (format!("HOST={}", live.db()), format!("PASSWORD={}", live.password()));
    let mut words = vec!["-v", &data, "-v", conf, "-e", &host, "-e", "USER=odoo", "-e", &password];
    words.extend(labels.iter().flat_map(|label| ["--label", label]));
    words.extend(more);
    words.push("odoo:19.0");
    live.run_beside(suffix, &words)
}
