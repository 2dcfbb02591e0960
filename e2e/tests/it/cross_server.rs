//! An environment with a module of its own comes back on an empty server, from its backup alone: reached by SSH
//! only, while the backup's bytes pass by whoever asked for it.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};
use undoo_testing::{
    greeter::{self, MODULE, WITH_PIP, WORDS},
    weed::{BUCKET, KEY},
};

use crate::support::{
    Instance, Kind, Undoo,
    backup::base64,
    docker::{docker, succeed},
    link::Link,
    noise,
    platform::Platform,
    second::{Second, USER},
    sha1, wait_for,
    web::Web,
};

pub(crate) const ENDED: [&str; 5] = ["completed", "failed", "cancelled", "undone", "stuck"];
const BIG: usize = 6 << 20;
const MANY: u64 = 5;
const PORT: u16 = 18_069;
/// The network that Traefik would be in.
const PUBLIC: &str = "undoo-e2e-public";

/// Gives an Odoo the module, and has it installed; its package gets in as people do that who change containers.
pub(crate) fn install(live: &Instance) {
    let addons = live.data_dir().join("addons/19.0");
    for (path, content) in greeter::files() {
        let path = addons.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let (name, text) = greeter::PACKAGE;
    let write = format!("cat >/usr/lib/python3/dist-packages/{name}");
    let mut exec = Command::new("docker");
    succeed(exec.args(["exec", "-i", "-u", "root", &live.odoo(), "sh", "-c", &write]), text.as_bytes());
    docker(&["restart", &live.odoo()]);
    let web = live.web();
    web.call("ir.module.module", "update_list", json!([]), json!({}));
    let found = web.call("ir.module.module", "search", json!([[["name", "=", MODULE]]]), json!({}));
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    web.call("ir.module.module", "button_immediate_install", json!([found]), json!({}));
    assert_eq!(greeting(&live.web()), WORDS);
}

pub(crate) fn greeting(web: &Web) -> Value {
    web.call("res.partner", "undoo_greet", json!([[]]), json!({}))
}

/// The platform in the counted network, with the second server.
pub(crate) struct There {
    pub(crate) platform: Platform,
    pub(crate) second: Second,
    pub(crate) server: String,
    // The turn ends last.
    pub(crate) undoo: Undoo,
}

impl There {
    pub(crate) fn up() -> Self {
        Self::up_with(&[])
    }

    /// The same, with settings more by their variables.
    pub(crate) fn up_with(more: &[(&str, &str)]) -> Self {
        let mut undoo = Undoo::ready();
        let second = Second::up();
        undoo.moves_to_network_of(second.counted_network());
        let settings = [("UNDOO_DEPLOY_PREFIX", "undoo-test"), ("UNDOO_DEPLOY_NETWORK", PUBLIC)];
        let settings = [&settings[..], more].concat();
        let platform = Platform::up_at(&undoo, second.counted_address(), &settings);
        let login = Self::login(&second, second.host_key(), None);
        let new = json!({ "organization_id": organization(&platform), "name": "Second", "ssh": login });
        let server = platform.post("/servers", new)["id"].as_str().unwrap().to_owned();
        Self { platform, server, second, undoo }
    }

    /// From now on backups go to a storage that both reach, by this way.
    fn share_storage(&self) -> Link {
        let storage = self.second.storage();
        let config = json!({ "provider": "minio", "bucket": BUCKET, "access_key": KEY.0, "secret_key": KEY.1,
                             "endpoint": self.second.endpoint(&storage), "region": "us-east-1" });
        let new = json!({ "organization_id": organization(&self.platform), "name": "Shared", "config": config,
                          "is_default": true });
        self.platform.post("/storages", new);
        storage
    }

    /// How the second server is reached.
    fn login(second: &Second, host_key: &str, password: Option<&str>) -> Value {
        let mut ssh = json!({ "host": second.address(), "user": USER, "host_key": host_key });
        match password {
            Some(password) => ssh["password"] = json!(password),
            None => ssh["private_key"] = json!(fs::read_to_string(second.key_file()).unwrap()),
        }
        ssh
    }

    /// Begins a restore onto the second server: the restore's id and the environment's.
    pub(crate) fn begins(&self, backup: &str, change: impl FnOnce(&mut Value)) -> (String, String) {
        let mut new = json!({ "name": "Recovered", "environment_type": "staging", "server_id": self.server,
                              "http_port": PORT, "odoo_image": WITH_PIP });
        change(&mut new);
        let wish = json!({ "backup_id": backup, "accept": ["server_full"],
                           "target": { "mode": "cross_server", "new_environment": new } });
        let answer = self.platform.post("/backups/restore/v2", wish);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&answer["restore_point"]["id"]), text(&answer["target_environment"]["id"]))
    }

    /// Waits for its end, which has to be a failure for this reason that leaves nothing.
    pub(crate) fn fails(&self, restore: &str, step: &str, code: &str, before: &[String]) {
        let ended = self.platform.ended(&format!("/restore/{restore}"), &ENDED);
        assert_eq!((&ended["status"], &ended["error_step"]), (&json!("failed"), &json!(step)), "{ended}");
        assert!(ended["error_message"].as_str().unwrap().contains(code), "{ended}");
        assert_eq!(self.left(), before);
    }

    /// What the server has, but for undoo's own program and the network that stays for other environments.
    pub(crate) fn left(&self) -> Vec<String> {
        let all = self.second.inventory().into_iter();
        let mut all: Vec<_> = all
            .filter(|thing| !thing.starts_with("volume undoo_bin_") && *thing != format!("network {PUBLIC}"))
            .collect();
        let folders = self.second.engine.path("/opt/undoo-test");
        let folders = fs::read_dir(folders).into_iter().flatten().flatten();
        all.extend(folders.map(|entry| entry.path().display().to_string()));
        all
    }
}

pub(crate) fn organization(platform: &Platform) -> Value {
    platform.get("/organizations")[0]["id"].clone()
}

#[test]
fn an_environment_with_a_module_of_its_own_comes_back_on_an_empty_server_from_its_backup_alone() {
    let there = There::up();
    let (platform, second) = (&there.platform, &there.second);
    greeter::odoo_with_pip();
    second.has_image(WITH_PIP);
    let _storage = there.share_storage();

    let live = Instance::up(Kind::ODOO_19);
    install(&live);
    let web = live.web();
    let attachment = |index: u64| {
        let values = json!({ "name": format!("big-{index}.bin"), "datas": base64(&noise(index, BIG)) });
        web.create("ir.attachment", values)
    };
    let attachments: Vec<i64> = (0..MANY).map(attachment).collect();
    web.create("res.partner", json!({ "name": "Seen on the other server" }));
    let production = platform.adopt(&live.odoo(), "production");
    let backup = platform.back_up(&production);
    let size = platform.get(&format!("/backups/{backup}"))["size_bytes"].as_u64().unwrap();
    drop(live);
    let before = there.left();

    // What stands in the way is told, and leaves nothing.
    let (restore, _) = there.begins(&backup, |new| new["odoo_image"] = json!("undoo.example/no-such-odoo:1"));
    there.fails(&restore, "infrastructure", "no-such-odoo", &before);
    let taken = second.engine.docker(&[
        "run",
        "-d",
        "--rm",
        "-p",
        &format!("{PORT}:80"),
        "--entrypoint",
        "sleep",
        WITH_PIP,
        "600",
    ]);
    let with_it = there.left();
    let (restore, _) = there.begins(&backup, |_| {});
    there.fails(&restore, "release", "port", &with_it);
    second.engine.docker(&["rm", "-fv", &taken]);

    let counted = second.counted();
    let (restore, id) = there.begins(&backup, |_| {});
    let done = platform.ended(&format!("/restore/{restore}"), &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    let counted = second.counted() - counted;
    println!("{counted} bytes passed the platform while {size} were restored on another server");
    assert!(size > 25 << 20 && counted < size / 20, "{counted} of {size}");

    let url = format!("http://{}:{PORT}", second.address());
    let web = Web::login(&url, &id, "admin", "admin").unwrap();
    assert_eq!(greeting(&web), WORDS);
    assert_eq!(web.count("res.partner", json!([["name", "=", "Seen on the other server"]])), 1);
    for (index, id) in attachments.iter().enumerate() {
        assert_eq!(sha1(&web.attachment(*id)), sha1(&noise(index as u64, BIG)), "attachment {id}");
    }

    let task = platform.post(&format!("/environments/{id}/destroy"), json!({ "confirm": "Recovered" }));
    let ended = platform.ended(&format!("/tasks/{}", task["id"].as_str().unwrap()), &ENDED);
    assert_eq!((&ended["status"], there.left()), (&json!("completed"), before), "{ended}");
}

#[test]
fn a_server_whose_way_is_cut_while_it_is_restored_to_is_tidied_up_and_takes_what_is_recovered() {
    let mut there = There::up();
    let tested = |login: Value| {
        let asked = json!({ "organization_id": organization(&there.platform), "ssh": login });
        there.platform.post("/servers/test", asked)["code"].clone()
    };
    let (second, host_key) = (&there.second, there.second.host_key());
    assert_eq!(tested(There::login(second, host_key, Some("not it"))), "wrong_login");
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(tested(There::login(second, other, None)), "host_key_changed");

    let live = Instance::up(Kind::ODOO_19);
    live.web().create("res.partner", json!({ "name": "Not to be lost" }));
    let production = there.platform.adopt(&live.odoo(), "production");
    // It lies in the platform's own folder.
    let backup = there.platform.back_up(&production);
    let before = there.left();
    let plain = |new: &mut Value| new["odoo_image"] = json!("odoo:19.0");

    let (restore, _) = there.begins(&backup, plain);
    wait_for("the load", Duration::from_secs(120), || {
        let now = there.platform.get(&format!("/restore/{restore}"));
        assert_eq!(now["error_message"], Value::Null, "{now}");
        (now["status"] == "restoring_db").then_some(())
    });
    there.second.cut();
    let ended = there.platform.ended(&format!("/restore/{restore}"), &ENDED);
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended["error_message"].as_str().unwrap().contains("SSH connection"), "{ended}");
    assert_eq!(there.left(), before);

    // Then all of this machine is lost, and comes back over there.
    let plan = json!({ "organization_id": organization(&there.platform), "environment_ids": [production] });
    let plan = there.platform.post("/recovery-plans", plan);
    assert_eq!(plan["entries"][0]["server_id"], there.server.as_str(), "{plan}");
    let path = format!("/recovery-plans/{}", plan["id"].as_str().unwrap());
    there.platform.post(&format!("{path}/start"), json!({}));
    drop(live);
    let done = there.platform.ended(&path, &["completed", "incomplete"]);
    assert_eq!(
        (&done["status"], &done["entries"][0]["targets_met"]),
        (&json!("completed"), &json!(true)),
        "{done}"
    );
    let id = done["entries"][0]["new_environment_id"].as_str().unwrap();
    let successor = there.platform.get(&format!("/environments/{id}"));
    assert_eq!(
        (&successor["environment_type"], &successor["status"]),
        (&json!("production"), &json!("running"))
    );
    let url = there.second.door(&format!("{id}_odoo"), PUBLIC);
    let web = Web::login(&url, id, "admin", "admin").unwrap();
    assert_eq!(web.count("res.partner", json!([["name", "=", "Not to be lost"]])), 1);
    let report: Value = serde_json::from_str(done["report"]["report"].as_str().unwrap()).unwrap();
    println!("recovered in {} s by its report", report["environments"][0]["recovery_seconds"]);
}
