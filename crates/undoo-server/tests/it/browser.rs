//! The page that deploys, in a real browser: what a person sees, types and clicks, and what the platform has of it.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use undoo_core::{
    EnvironmentId,
    platform::{DeploymentState, EnvironmentType, Role, User},
};

use crate::{place::Place, platform::Platform};

const PASSWORD: &str = "correct horse battery staple";
/// What W3C's WebDriver calls the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const ENTER: &str = "\u{e007}";
/// Something is to be seen within.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// A Chromium with a profile of its own, moved by WebDriver (<https://www.w3.org/TR/webdriver2/>).
struct Browser {
    driver: Child,
    /// Held, so that the driver may go on writing.
    _said: BufReader<ChildStdout>,
    port: u16,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: `dev/setup test` installs it");
        let mut said = BufReader::new(driver.stdout.take().unwrap());
        let port = std::iter::from_fn(|| {
            let mut line = String::new();
            (said.read_line(&mut line).unwrap() > 0).then_some(line)
        })
        .find_map(|line| line.trim().strip_suffix('.')?.split_once("successfully on port ")?.1.parse().ok())
        .expect("chromedriver ended before it listened");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let session = String::new();
        let mut browser = Self { driver, _said: said, port, session, http, _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-proxy-server",
            "--disable-dev-shm-usage",
        ];
        let arguments: Vec<&str> = arguments.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" } });
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let made = browser.ask(Method::POST, "/session".into(), Some(body)).await.unwrap();
        made["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    /// What the driver answers, or why it does not.
    async fn ask(&self, method: Method, path: String, body: Option<Value>) -> Result<Value, Value> {
        let request = self.http.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        let request = request.timeout(Duration::from_secs(60));
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let held = answer.status().is_success();
        let mut said: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let said = said["value"].take();
        if held { Ok(said) } else { Err(said) }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        self.ask(Method::POST, path, Some(body)).await.unwrap()
    }

    async fn open(&self, url: &str) {
        // From a page to itself with another fragment, nothing would be loaded.
        self.post("url", json!({ "url": "about:blank" })).await;
        self.post("url", json!({ "url": url })).await;
    }

    /// What a script of the page answers.
    async fn run(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn element(&self, id: &str) -> String {
        let found = self.post("element", json!({ "using": "css selector", "value": format!("#{id}") })).await;
        format!("element/{}", found[ELEMENT].as_str().unwrap())
    }

    async fn click(&self, id: &str) {
        let element = self.element(id).await;
        self.post(&format!("{element}/click"), json!({})).await;
    }

    async fn type_into(&self, id: &str, text: &str) {
        let element = self.element(id).await;
        self.post(&format!("{element}/clear"), json!({})).await;
        self.post(&format!("{element}/value"), json!({ "text": text })).await;
    }

    /// What is to be read of an element: nothing where it is hidden, or its page is being left.
    async fn reads(&self, id: &str) -> String {
        let script = format!(
            "const element = document.getElementById('{id}');
             return element?.checkVisibility() ? element.innerText : ''"
        );
        let path = format!("/session/{}/execute/sync", self.session);
        let read = self.ask(Method::POST, path, Some(json!({ "script": script, "args": [] }))).await;
        read.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    async fn shows(&self, id: &str) -> bool {
        self.run(&format!("return document.getElementById('{id}').checkVisibility()")).await == true
    }

    async fn can_click(&self, id: &str) -> bool {
        self.run(&format!("return !document.getElementById('{id}').disabled")).await == true
    }

    /// Waits until an element has this in it.
    async fn sees(&self, id: &str, part: &str) {
        let seen = tokio::time::timeout(SEEN_WITHIN, async {
            while !self.reads(id).await.contains(part) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if seen.await.is_err() {
            let page = self.run("return document.body.innerText").await;
            panic!("#{id} does not say {part:?}:\n{}", page.as_str().unwrap_or_default());
        }
    }

    async fn sign_in(&self, user: &User, password: &str) {
        self.sees("title", "Sign in").await;
        self.type_into("email", &user.email).await;
        self.type_into("password", password).await;
        self.click("sign-in").await;
    }

    async fn sign_out(&self) {
        self.click("sign-out").await;
        self.sees("title", "Sign in").await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Chromium is the driver's to end, and this answers once it has.
            let ended = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut driver| {
                driver.set_read_timeout(Some(Duration::from_secs(10)))?;
                let path = format!("/session/{}", self.session);
                write!(driver, "DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
                BufReader::new(driver).read_line(&mut String::new())
            });
            if let Err(error) = ended {
                eprintln!("Chromium was not ended: {error}");
            }
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

struct World {
    platform: Platform,
    place: Place,
    base: String,
    owner: User,
    token: String,
}

impl World {
    async fn new() -> Self {
        let platform = Platform::on_sqlite().await;
        let place = platform.place(EnvironmentType::Staging).await;
        let owner = platform.with_role(Role::OrgOwner, &place).await;
        let token = platform.token(&owner, None).await;
        let base = platform.listen().await;
        let world = Self { platform, place, base, owner, token };
        world.password(&world.owner).await;
        world
    }

    /// Lets somebody sign in with the password.
    async fn password(&self, user: &User) {
        let link = self.platform.control.user_invite_here(&user.email).await.unwrap();
        let accept = json!({ "token": link.token.expose_secret(), "password": PASSWORD });
        let accepted = self.platform.post("/api/v1/auth/invitations/accept", "", accept).await;
        assert!(accepted.status.is_success(), "{}", accepted.json());
    }

    fn page(&self, id: EnvironmentId) -> String {
        format!("{}/deploy#{id}", self.base)
    }

    /// Tasks about an environment, newest first.
    async fn tasks(&self, id: EnvironmentId) -> Vec<Value> {
        let organisation = self.place.organisation.id;
        let path = format!("/api/v1/tasks?organization_id={organisation}&environment_id={id}");
        self.platform.get(&path, &self.token).await.json().as_array().unwrap().clone()
    }

    async fn cancel(&self, task: &Value) {
        let path = format!("/api/v1/tasks/{}/cancel", task["id"].as_str().unwrap());
        let answered = self.platform.post(&path, &self.token, json!({})).await;
        assert_eq!(answered.json()["status"], "cancelled", "{}", answered.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_is_replaced_only_after_the_word_was_typed() {
    let world = World::new().await;
    let live = world.platform.migrated(&world.place).await;
    let browser = Browser::start().await;
    let narrow = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    let narrow = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": narrow });
    browser.post("goog/cdp/execute", narrow).await;

    browser.open(&world.page(live.id)).await;
    browser.sign_in(&world.owner, "wrong").await;
    browser.sees("problem", "password").await;
    assert!(!browser.shows("environment").await);
    browser.sign_in(&world.owner, PASSWORD).await;
    browser.sees("title", &live.name).await;
    assert!(!browser.shows("problem").await && !browser.shows("login").await);
    browser.sees("production", "Production").await;
    browser.sees("migration", "Restored on ").await;
    browser.sees("danger-says", &live.name).await;
    browser.sees("danger-says", "safety backup").await;
    let width = browser.run("return document.documentElement.scrollWidth").await;
    assert_eq!(width, 360, "it does not fit a small screen");

    assert!(!browser.can_click("danger-button").await);
    for typed in ["restore", "Restore", "RESTORE ", "RESTOR"] {
        browser.type_into("word", typed).await;
        assert!(!browser.can_click("danger-button").await, "{typed:?}");
        browser.click("danger-button").await;
        browser.type_into("word", &format!("{typed}{ENTER}")).await;
        // Not even for a script that sends the form off.
        browser.run("document.getElementById('danger').requestSubmit(null)").await;
        assert_eq!(browser.run("return document.getElementById('word').value").await, "", "{typed:?}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.tasks(live.id).await, Vec::<Value>::new());

    browser.type_into("word", "RESTORE").await;
    assert!(browser.can_click("danger-button").await);
    browser.click("danger-button").await;
    browser.sees("progress", "The restore is queued").await;
    assert!(!browser.shows("danger").await && !browser.shows("deploy").await);
    let tasks = world.tasks(live.id).await;
    assert_eq!((tasks.len(), &tasks[0]["task_type"]), (1, &json!("restore")), "{tasks:?}");
    assert_eq!(browser.reads("task-id").await, tasks[0]["id"].as_str().unwrap());

    // A page that is opened meanwhile follows the same.
    browser.open(&world.page(live.id)).await;
    browser.sees("progress", "The restore is queued").await;
    assert!(!browser.shows("danger").await && !browser.shows("deploy").await);
    world.cancel(&tasks[0]).await;
    browser.sees("progress", "It was cancelled").await;
    browser.sees("danger-says", &live.name).await;
    assert_eq!(browser.run("return document.getElementById('word').value").await, "");
    assert!(!browser.can_click("danger-button").await);

    let viewer = world.platform.with_role(Role::Viewer, &world.place).await;
    world.password(&viewer).await;
    browser.sign_out().await;
    browser.sign_in(&viewer, PASSWORD).await;
    browser.sees("title", &live.name).await;
    browser.type_into("word", "RESTORE").await;
    browser.click("danger-button").await;
    browser.sees("problem", "project.environments.update").await;
    assert_eq!(world.tasks(live.id).await.len(), 1);
    assert!(!browser.can_click("danger-button").await, "the word is needed each time");

    let log = browser.post("se/log", json!({ "type": "browser" })).await.to_string();
    assert!(log.contains("403") && !log.contains("Content Security Policy"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_deployed_has_a_button_and_what_cannot_says_why() {
    let world = World::new().await;
    let (waiting, _) = world.platform.uploaded(&world.place).await;
    let other = world.platform.place_in(world.place.organisation.clone(), EnvironmentType::Staging).await;
    let live = world.platform.migrated(&other).await;
    let place = &world.place;
    let adopted =
        world.platform.environment(&place.project, Some(&place.server), None, EnvironmentType::Staging).await;
    let making = world.platform.deployed(place, DeploymentState::Making).await;
    let unsent = world.platform.place_in(place.organisation.clone(), EnvironmentType::Staging).await;
    let unsent =
        undoo_store::migrations::get(&world.platform.store, unsent.migration).await.unwrap().unwrap();

    let browser = Browser::start().await;
    browser.open(&world.page(adopted.id)).await;
    browser.sign_in(&world.owner, PASSWORD).await;
    browser.sees("title", &adopted.name).await;
    for (id, part, why) in [
        (adopted.id, "deployment", "It was adopted"),
        (making.id, "deployment", "still being made"),
        (unsent.environment_id, "migration", "Nothing of its backup was uploaded"),
    ] {
        browser.open(&world.page(id)).await;
        browser.sees(part, why).await;
        assert!(browser.shows("environment").await, "{why}");
        for shown in ["deploy", "danger", "production"] {
            assert!(!browser.shows(shown).await, "{why}: {shown}");
        }
    }

    browser.open(&world.page(waiting.id)).await;
    browser.sees("deployment", "It waits for its migration").await;
    assert!(!browser.shows("danger").await);
    assert_eq!(browser.reads("deploy-button").await, "Deploy");
    browser.click("deploy-button").await;
    browser.sees("progress", "The restore is queued").await;
    assert_eq!(world.tasks(waiting.id).await.len(), 1);

    browser.open(&world.page(live.id)).await;
    browser.sees("deploy-button", "Deploy again").await;
    let twice = "const button = document.getElementById('deploy-button'); button.click(); button.click()";
    browser.run(twice).await;
    browser.sees("deploy-says", "Click once more").await;
    assert_eq!(world.tasks(live.id).await, Vec::<Value>::new(), "a double click is one");
    tokio::time::sleep(Duration::from_millis(700)).await;
    browser.click("deploy-button").await;
    browser.sees("progress", "The deploy is queued").await;
    assert_eq!(world.tasks(live.id).await[0]["task_type"], "deploy");

    browser.open(&world.page(EnvironmentId::generate())).await;
    browser.sees("problem", "environment").await;
    assert!(!browser.shows("environment").await);
}
