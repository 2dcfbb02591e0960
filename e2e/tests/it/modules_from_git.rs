//! The custom modules of a new environment come from a private git repository, with the Python package that they
//! need, and go before those of its backup.

use std::fs;

use serde_json::{Value, json};
use undoo_testing::{
    git::{GitServer, Repository},
    greeter::{self, MODULE, WITH_PIP, WORDS},
};

use crate::{
    cross_server::{ENDED, greeting, install},
    new_environment::{Public, left, url},
    support::{Instance, Kind, Undoo, platform::Platform, web::Web},
};

const BRANCH: &str = "19.0";
const TOKEN: &str = "a-token-that-nobody-sees";
/// What the repository's module answers.
const NEWER: &str = "good evening";

/// The module as it is in a repository, in a folder of it: it says something else than that of the backup.
fn repository(git: &GitServer) -> (Repository, String) {
    let repository = git.repository("acme-addons");
    repository.commit(&[("README.md", "Modules of ACME, on branches.")]);
    repository.git(&["checkout", "-q", "-b", BRANCH]);
    for (path, content) in greeter::files() {
        let path = repository.folder.join("custom").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let init = repository.folder.join(format!("custom/{MODULE}/__init__.py"));
    let text = fs::read_to_string(&init).unwrap();
    let newer =
        text.replace("return undoo_greeting.WORDS", &format!("return undoo_greeting.WORDS and '{NEWER}'"));
    assert_ne!(newer, text);
    fs::write(init, newer).unwrap();
    let commit = repository.commit(&[]);
    repository.git(&["checkout", "-q", "main"]);
    (repository, commit)
}

#[test]
fn modules_of_a_private_repository_go_before_those_of_the_backup() {
    let undoo = Undoo::ready();
    greeter::odoo_with_pip();
    let git = GitServer::private("bot", TOKEN);
    let (repository, commit) = repository(&git);
    let (live, public) = (Instance::up(Kind::ODOO_19), Public::new());
    install(&live);
    assert_eq!(greeting(&live.web()), WORDS);
    let settings = [("UNDOO_DEPLOY_PREFIX", "undoo-test"), ("UNDOO_DEPLOY_NETWORK", public.0.as_str())];
    let platform = Platform::up_with(&undoo, &settings);
    let production = platform.adopt(&live.odoo(), "production");
    let backup = platform.back_up(&production);

    let begins = |token: &str| {
        let addons =
            json!([{ "url": repository.url, "reference": BRANCH, "username": "bot", "token": token }]);
        let new = json!({ "name": "Copy", "environment_type": "staging", "odoo_image": WITH_PIP, "addons": addons });
        let wish = json!({ "backup_id": backup, "accept": ["server_full"],
                           "target": { "mode": "new", "new_environment": new } });
        let answer = platform.post("/backups/restore/v2", wish);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let id = text(&answer["target_environment"]["id"]);
        let ended = platform.ended(&format!("/restore/{}", text(&answer["restore_point"]["id"])), &ENDED);
        (id, ended)
    };
    let (id, ended) = begins("not it");
    assert_eq!((&ended["status"], &ended["error_step"]), (&json!("failed"), &json!("addons")), "{ended}");
    assert!(ended["error_message"].as_str().unwrap().contains(&repository.url), "{ended}");
    assert_eq!(left(&id), [""; 0]);

    let (id, done) = begins(TOKEN);
    assert_eq!(done["status"], "completed", "{done}");
    let web = Web::login(&url(&id, &public.0), &id, "admin", "admin").unwrap();
    assert_eq!(greeting(&web), NEWER);
    let log = platform.get(&format!("/tasks/{}/log", done["task_id"].as_str().unwrap())).to_string();
    assert!(log.contains(&commit) && !log.contains(TOKEN), "{log}");
    let environment = platform.get(&format!("/environments/{id}"));
    let named = json!([{ "url": repository.url, "reference": BRANCH, "folder": null, "username": "bot",
                         "has_token": true }]);
    assert_eq!(environment["addons"], named);
    let task = platform.post(&format!("/environments/{id}/destroy"), json!({ "confirm": "Copy" }));
    let ended = platform.ended(&format!("/tasks/{}", task["id"].as_str().unwrap()), &ENDED);
    assert_eq!((&ended["status"], left(&id)), (&json!("completed"), Vec::new()), "{ended}");
}

#[test]
fn a_plan_without_a_platform_says_what_would_come_from_git() {
    let undoo = Undoo::ready();
    let git = GitServer::private("bot", TOKEN);
    let (repository, commit) = repository(&git);
    let live = Instance::up(Kind::ODOO_19);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let made = undoo.run(&["backup", &live.target(), "--to", &place, "--json"]).ends(0).result();
    let backup = made["address"].as_str().unwrap();
    let credentials = folder.path().join("git-credentials");
    let addons = format!("{}#{BRANCH}", repository.url);
    let plan = |login: &str| {
        fs::write(&credentials, repository.url.replace("http://", &format!("http://{login}@"))).unwrap();
        let file = credentials.display().to_string();
        let words =
            ["restore", backup, "--new", "from-git", "--odoo-image", "odoo:19.0", "--addons", &addons];
        undoo.run(&[&words[..], &["--git-credentials", &file, "--dry-run", "--json", "--yes"]].concat())
    };
    let denied = plan("bot:not-it").ends(6).json();
    assert_eq!(denied["code"], "addons_origin_denied", "{denied}");
    let planned = plan(&format!("bot:{TOKEN}"));
    let fetched = &planned.ends(0).result()["environment"]["fetched"];
    let expected = json!([{ "url": repository.url, "commit": commit, "modules": [MODULE] }]);
    assert_eq!(fetched, &expected);
}
