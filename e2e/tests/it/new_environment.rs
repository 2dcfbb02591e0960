//! A backup becomes an environment of the platform's own: proven before anybody reaches it, used, and gone again
//! without a trace, however it ends.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    Instance, Kind, Undoo,
    backup::base64,
    docker::{docker, docker_maybe, output},
    noise,
    platform::Platform,
    sha1,
    web::Web,
};

const ENDED: [&str; 5] = ["completed", "failed", "cancelled", "undone", "stuck"];
const TASK_ENDED: [&str; 4] = ["completed", "failed", "cancelled", "stuck"];

/// The network that Traefik would be in, gone when the test ends.
pub(crate) struct Public(pub(crate) String);

impl Public {
    pub(crate) fn new() -> Self {
        Self(format!("undoo-e2e-public-{:08x}", rand::random::<u32>()))
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        docker_maybe(&["network", "rm", &self.0]);
    }
}

/// Everything on this machine that has the environment's id in its name.
pub(crate) fn left(id: &str) -> Vec<String> {
    let lists = [
        docker(&["ps", "-a", "--format", "{{.Names}}"]),
        docker(&["network", "ls", "--format", "{{.Name}}"]),
        docker(&["volume", "ls", "--format", "{{.Name}}"]),
    ];
    let named = lists.iter().flat_map(|list| list.lines()).filter(|name| name.contains(id));
    let folder = format!("/opt/undoo-test/{id}");
    let folder = Path::new(&folder).exists().then_some(folder);
    named.map(str::to_owned).chain(folder).collect()
}

pub(crate) fn url(id: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    format!("http://{}:8069", docker(&["inspect", "-f", &format, &format!("{id}_odoo")]))
}

fn login_page(url: &str) -> String {
    let words = ["-s", "-o", "/dev/null", "-m", "60", "--noproxy", "*", "-w", "%{http_code}"];
    let answer = output(Command::new("curl").args(words).arg(format!("{url}/web/login")), b"");
    String::from_utf8(answer.stdout).unwrap()
}

fn wish(backup: &str, name: &str) -> Value {
    let new = json!({ "name": name, "environment_type": "staging", "domain": "copy.example.com" });
    json!({
        "backup_id": backup,
        "target": { "mode": "new", "new_environment": new },
        // This machine's cores are promised to the environment that was adopted already, on a small one.
        "accept": ["server_full"],
    })
}

/// Begins a restore to a new environment: the restore's id, and the environment's.
fn begun(platform: &Platform, wish: Value) -> (String, String) {
    let answer = platform.post("/backups/restore/v2", wish);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(answer["target_environment"]["status"], "pending", "{answer}");
    assert_eq!(answer["restore_point"]["is_new_environment"], true, "{answer}");
    (text(&answer["restore_point"]["id"]), text(&answer["target_environment"]["id"]))
}

#[test]
fn a_backup_becomes_a_new_environment_that_is_used_stopped_deployed_again_and_destroyed() {
    let undoo = Undoo::ready();
    let (live, public) = (Instance::up(Kind::ODOO_19), Public::new());
    let settings = [("UNDOO_DEPLOY_PREFIX", "undoo-test"), ("UNDOO_DEPLOY_NETWORK", public.0.as_str())];
    let mut platform = Platform::up_with(&undoo, &settings);
    let production = platform.adopt(&live.odoo(), "production");
    let content = noise(11, 40_000);
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": "Seen in the copy" }));
    let values = json!({ "name": "copied.bin", "res_model": "res.partner", "res_id": partner,
                         "datas": base64(&content) });
    let attachment = web.create("ir.attachment", values);
    let backup = platform.back_up(&production);

    // Called off in the middle: nothing is left, and the name is free again.
    let go_on = platform.folder().join("go-on").display().to_string();
    let until = [("UNDOO_HOLD_AT", "stage:do_started:after"), ("UNDOO_HOLD_UNTIL", go_on.as_str())];
    platform.kill();
    platform.start(&undoo, &until);
    let (restore, id) = begun(&platform, wish(&backup, "Copy"));
    platform.process().hears("held at");
    assert!(!left(&id).is_empty());
    platform.post(&format!("/restore/{restore}/cancel"), json!({}));
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(platform.ended(&format!("/restore/{restore}"), &ENDED)["status"], "cancelled");
    assert_eq!(left(&id), [""; 0]);

    // An image that nobody has.
    let mut unknown = wish(&backup, "Copy");
    unknown["target"]["new_environment"]["odoo_image"] = json!("undoo.example/no-such-odoo:1");
    let (restore, id) = begun(&platform, unknown);
    let failed = platform.ended(&format!("/restore/{restore}"), &ENDED);
    assert_eq!((&failed["status"], &failed["error_step"]), (&json!("failed"), &json!("infrastructure")));
    assert!(failed["error_message"].as_str().unwrap().contains("no-such-odoo"), "{failed}");
    assert_eq!(left(&id), [""; 0]);

    // Its platform is killed when the backup is loaded and proven.
    platform.kill();
    platform.start(&undoo, &[("UNDOO_HOLD_AT", "stage:do_finished:before")]);
    let (restore, id) = begun(&platform, wish(&backup, "Copy"));
    platform.process().hears("held at");
    let state = || docker(&["inspect", "-f", "{{.State.Status}}", &format!("{id}_odoo")]);
    assert_eq!(state(), "created", "nobody reaches it before it is proven");
    platform.kill_and_start(&undoo);
    let done = platform.ended(&format!("/restore/{restore}"), &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    let environment = platform.get(&format!("/environments/{id}"));
    assert_eq!(environment["status"], "running", "{environment}");

    let at = url(&id, &public.0);
    assert_eq!(login_page(&at), "200");
    let seen = |at: &str| {
        let web = Web::login(at, &id, "admin", "admin").unwrap();
        assert_eq!(web.count("res.partner", json!([["name", "=", "Seen in the copy"]])), 1);
        assert_eq!(sha1(&web.attachment(attachment)), sha1(&content));
        web
    };
    let copy = seen(&at);
    let neutral = json!([["key", "=", "database.is_neutralized"], ["value", "in", ["true", "True"]]]);
    assert_eq!(copy.count("ir.config_parameter", neutral), 1);
    // Files that Odoo writes itself.
    let new = noise(12, 30_000);
    let values = json!({ "name": "new.bin", "datas": base64(&new) });
    let written = copy.create("ir.attachment", values);

    let act = |action: &str, body: Value| {
        let task = platform.post(&format!("/environments/{id}/{action}"), body);
        let task = task["id"].as_str().unwrap().to_owned();
        let ended = platform.ended(&format!("/tasks/{task}"), &TASK_ENDED);
        assert_eq!(ended["status"], "completed", "{action}: {ended}");
    };
    act("stop", json!({}));
    assert_eq!(state(), "exited");
    act("start", json!({}));
    assert_eq!(login_page(&url(&id, &public.0)), "200");
    act("deploy", json!({}));
    let again = seen(&url(&id, &public.0));
    assert_eq!(sha1(&again.attachment(written)), sha1(&new));

    // It is backed up like any other.
    let own = platform.back_up(&id);
    let (restore, second) = begun(&platform, wish(&own, "Copy of the copy"));
    assert_eq!(platform.ended(&format!("/restore/{restore}"), &ENDED)["status"], "completed");
    let web = Web::login(&url(&second, &public.0), &second, "admin", "admin").unwrap();
    assert_eq!(sha1(&web.attachment(written)), sha1(&new));

    let (status, refused) =
        platform.send("POST", &format!("/environments/{id}/destroy"), Some(json!({ "confirm": "copy" })));
    assert_eq!((status, &refused["code"]), (400, &json!("confirmation_missing")), "{refused}");
    act("destroy", json!({ "confirm": "Copy" }));
    assert_eq!(left(&id), [""; 0]);
    let task =
        platform.post(&format!("/environments/{second}/destroy"), json!({ "confirm": "Copy of the copy" }));
    platform.ended(&format!("/tasks/{}", task["id"].as_str().unwrap()), &TASK_ENDED);
    assert_eq!(left(&second), [""; 0]);
    assert_eq!(live.web().count("res.partner", json!([["name", "=", "Seen in the copy"]])), 1);
    assert_eq!(platform.terminate().code, 0);
}
