//! A platform of this test's own, `undoo serve`, and its first administrator over HTTP.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    undoo::{Run, Running, Undoo},
    wait_for,
    web::RUNTIME,
};

/// How long a backup or a restore of a small Odoo may take here.
const PATIENCE: Duration = Duration::from_secs(300);

/// A platform that runs.
pub(crate) struct Platform {
    process: Running,
    folder: Arc<tempfile::TempDir>,
    /// What is set for every process of it: variables and their values.
    settings: Vec<(String, String)>,
    base: String,
    client: reqwest::Client,
    token: String,
}

/// Events as they come.
pub(crate) struct Events(Arc<Mutex<Vec<(String, Value)>>>);

impl Platform {
    /// Starts one, and sets it up by the link that it prints.
    pub(crate) fn up(undoo: &Undoo) -> Self {
        Self::up_with(undoo, &[])
    }

    /// The same, with settings by their variables.
    pub(crate) fn up_with(undoo: &Undoo, settings: &[(&str, &str)]) -> Self {
        Self::up_at(undoo, "127.0.0.1", settings)
    }

    /// The same, listening on this address of the network that it runs in.
    pub(crate) fn up_at(undoo: &Undoo, address: &str, settings: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let settings = settings.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
        let settings: Vec<_> = settings.collect();
        let listen = format!("{address}:{}", free_port());
        let process = serve(undoo, folder.path(), &listen, &settings, &[]);
        let link = process.line("/setup#token=");
        let (base, link_token) = link.trim().split_once("/setup#token=").unwrap();
        assert_eq!(base, format!("http://{listen}"));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
        let mut platform =
            Self { process, folder, settings, base: base.to_owned(), client, token: String::new() };
        platform.token = platform.set_up(link_token);
        platform
    }

    /// Sets it up, which signs in by cookie, and makes a token.
    fn set_up(&self, link_token: &str) -> String {
        let admin = json!({
            "token": link_token,
            "email": "admin@example.com",
            "name": "Admin",
            "password": "correct horse battery",
            "organization_name": "Acme",
        });
        let cookie = RUNTIME.block_on(async {
            let request = self.client.post(format!("{}/api/v1/auth/setup", self.base));
            let request = request.header("content-type", "application/json").body(admin.to_string());
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 201);
            let cookie = response.headers().get("set-cookie").unwrap().to_str().unwrap();
            cookie.split(';').next().unwrap().to_owned()
        });
        let made = RUNTIME.block_on(async {
            let request = self.client.post(format!("{}/api/v1/tokens", self.base));
            let request = request.header("cookie", cookie).header("origin", &self.base);
            let request = request.header("content-type", "application/json");
            let response = request.body(json!({ "name": "tests" }).to_string()).send().await.unwrap();
            assert_eq!(response.status(), 201);
            response.text().await.unwrap()
        });
        serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// Where it listens.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What its administrator is known by.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A request, which must succeed.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.send(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A request, whatever comes of it.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        RUNTIME.block_on(async {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = self.client.request(method, format!("{}/api/v1{path}", self.base));
            request = request.bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", path, Some(body))
    }

    /// Adopts an Odoo as an environment of the first project; gives its id.
    pub(crate) fn adopt(&self, container: &str, kind: &str) -> String {
        let organization = text(&self.get("/organizations")[0]["id"]);
        let project = text(&self.get(&format!("/organizations/{organization}/projects"))[0]["id"]);
        let servers = self.get(&format!("/servers?organization_id={organization}"));
        let here = servers.as_array().unwrap().iter().find(|server| server["ip_address"].is_null());
        let server = text(&here.unwrap()["id"]);
        let found = self.get(&format!("/servers/{server}/containers"));
        let found = found.as_array().unwrap().iter().find(|odoo| odoo["container"] == container);
        let found = found.unwrap_or_else(|| panic!("{container} was not found"));
        let adopted = self.post(
            "/environments",
            json!({
                "project_id": project,
                "name": container,
                "environment_type": kind,
                "server_id": server,
                "container": container,
                "database_name": found["databases"][0],
            }),
        );
        text(&adopted["id"])
    }

    /// Makes a backup of an environment; gives its id once it is complete.
    pub(crate) fn back_up(&self, environment: &str) -> String {
        let backup = text(&self.post(&format!("/environments/{environment}/backups"), json!({}))["id"]);
        let made = self.ended(&format!("/backups/{backup}"), &["completed", "failed", "cancelled"]);
        assert_eq!(made["status"], "completed", "{made}");
        assert_eq!(made["is_verified"], true, "{made}");
        backup
    }

    /// Begins a restore; gives its id.
    pub(crate) fn restore(&self, request: Value) -> String {
        text(&self.post("/backups/restore/v2", request)["restore_point"]["id"])
    }

    /// Waits until something has one of these statuses.
    pub(crate) fn ended(&self, path: &str, statuses: &[&str]) -> Value {
        wait_for(path, PATIENCE, || {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.get(path);
            statuses.iter().any(|status| now["status"] == *status).then_some(now)
        })
    }

    /// Follows the events from now on.
    pub(crate) fn events(&self) -> Events {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let events = Events(Arc::clone(&heard));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("{}/api/v1/events/stream", self.base)).bearer_auth(&self.token);
        let (connected, is_connected) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                connected.send(()).unwrap();
                let mut text = String::new();
                while let Ok(Some(chunk)) = response.chunk().await {
                    text.push_str(&String::from_utf8_lossy(&chunk));
                    while let Some((event, rest)) = text.split_once("\n\n") {
                        let field = |name: &str| {
                            event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                        };
                        if let Some((name, data)) = field("event:").zip(field("data:")) {
                            let data = serde_json::from_str(data).unwrap();
                            heard.lock().unwrap().push((name.to_owned(), data));
                        }
                        text = rest.to_owned();
                    }
                }
            });
        });
        is_connected.recv().unwrap();
        events
    }

    /// SIGTERM, and what the process came to.
    pub(crate) fn terminate(self) -> Run {
        self.process.signal("-TERM");
        self.process.finish()
    }

    /// SIGKILL; then it is started again with its own files.
    pub(crate) fn kill_and_start(&mut self, undoo: &Undoo) {
        self.kill();
        self.start(undoo, &[]);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed, with its own files and some variables more.
    pub(crate) fn start(&mut self, undoo: &Undoo, more: &[(&str, &str)]) {
        let listen = self.base.trim_start_matches("http://").to_owned();
        self.process = serve(undoo, self.folder.path(), &listen, &self.settings, more);
        self.is_ready();
    }

    /// One more control plane on the same database.
    pub(crate) fn beside(&self, undoo: &Undoo) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let process = serve(undoo, self.folder.path(), &listen, &self.settings, &[]);
        let beside = Self {
            process,
            folder: Arc::clone(&self.folder),
            settings: self.settings.clone(),
            base: format!("http://{listen}"),
            client: self.client.clone(),
            token: self.token.clone(),
        };
        beside.is_ready();
        beside
    }

    /// A worker of this platform, in a process of its own.
    pub(crate) fn worker(&self, undoo: &Undoo, name: &str, more: &[(&str, &str)]) -> Running {
        let words = ["worker", "--name", name, "--data-dir", self.folder.path().to_str().unwrap()];
        let worker = undoo.start(&[&words[..], &LOG].concat(), &variables(&self.settings, more));
        worker.hears("\"message\":\"working\"");
        worker
    }

    /// The process of its control plane.
    pub(crate) fn process(&self) -> &Running {
        &self.process
    }

    /// The platform's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn is_ready(&self) {
        wait_for("the platform's answer", Duration::from_secs(60), || {
            let ready = self.client.get(format!("{}/readyz", self.base));
            RUNTIME.block_on(async { ready.send().await.ok() }).filter(|answer| answer.status() == 200)
        });
    }

    /// The bytes of every file of its own.
    pub(crate) fn files(&self) -> Vec<(std::path::PathBuf, u32)> {
        use std::os::unix::fs::PermissionsExt as _;
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.path(), entry.metadata().unwrap().permissions().mode() & 0o777)).collect()
    }
}

impl Events {
    /// Names and data of the events about a restore, in the order in which they came.
    pub(crate) fn of_restore(&self, restore: &str) -> Vec<(String, Value)> {
        let heard = self.0.lock().unwrap();
        heard.iter().filter(|(_, data)| data["restore_id"] == restore).cloned().collect()
    }
}

/// For programs, and without colours.
const LOG: [&str; 2] = ["--log-format", "json"];

fn serve(
    undoo: &Undoo,
    folder: &Path,
    listen: &str,
    settings: &[(String, String)],
    more: &[(&str, &str)],
) -> Running {
    let words = ["serve", "--listen", listen, "--data-dir", folder.to_str().unwrap()];
    undoo.start(&[&words[..], &LOG].concat(), &variables(settings, more))
}

fn variables<'a>(settings: &'a [(String, String)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (&**name, &**value)).chain(more.iter().copied()).collect()
}

/// Free now, and nobody else asks for ports by number.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
