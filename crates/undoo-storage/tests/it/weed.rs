//! A real SeaweedFS server, serving the same files over plain HTTP (its filer) and over S3.
//!
//! It takes seconds to start, so all tests share one, also when each runs in a process of its own
//! (nextest). It lives as long as a test process holds a lock on a file, and a few seconds more; the
//! kernel lets go of that lock however a process ends, so the server never stays behind.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use undoo_storage::{Access, HttpAccess, Provider, S3Access, S3Credentials};

pub(crate) const KEY: (&str, &str) = ("undoo", "undoo-secret");
/// A key that is valid but may not read [`BUCKET`].
const STRANGER: (&str, &str) = ("stranger", "stranger-secret");
pub(crate) const BUCKET: &str = "backups";

static WEED: LazyLock<Weed> = LazyLock::new(Weed::start);

/// The server, started at the first call.
pub(crate) async fn weed() -> &'static Weed {
    tokio::task::spawn_blocking(|| &*WEED).await.expect("SeaweedFS starts")
}

pub(crate) struct Weed {
    pub(crate) filer: u16,
    pub(crate) s3: u16,
    /// While this is locked, the server lives.
    _alive: File,
}

/// Ends the server by its process id as soon as no test process has wanted it for three seconds.
const KEEPER: &str = r#"(
    trap '' INT HUP TERM
    "$@" >weed.log 2>&1 & pid=$!
    while :; do
        flock alive true; sleep 3
        flock -n alive sh -c "kill -9 $pid; rm -rf data ports" && exit
    done) &"#;

impl Weed {
    fn start() -> Self {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        let name = format!("weed-{:x}", hasher.finish());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let file = |name| File::create(folder.join(name)).expect("a file to lock");
        let (alive, gate) = (file("alive"), file("gate"));
        // Waits where the keeper is just ending the server; from here on it does not.
        alive.lock_shared().expect("locked");
        gate.lock().expect("locked");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let running = std::fs::read_to_string(folder.join("ports")).unwrap_or_default();
        let running =
            running.split_once(' ').and_then(|(filer, s3)| Some((filer.parse().ok()?, s3.parse().ok()?)));
        if let Some((filer, s3)) = running
            && runtime.block_on(is_ready(filer, s3, Duration::from_secs(5)))
        {
            return Self { filer, s3, _alive: alive };
        }
        let program = program();
        // A port found free may be taken by another program before the server has it.
        for _ in 0..3 {
            let (filer, s3) = launch(&program, &folder);
            if runtime.block_on(is_ready(filer, s3, Duration::from_secs(30))) {
                std::fs::write(folder.join("ports"), format!("{filer} {s3}")).expect("written");
                return Self { filer, s3, _alive: alive };
            }
        }
        let log = std::fs::read_to_string(folder.join("weed.log")).unwrap_or_default();
        panic!("{program} did not come up: {log}");
    }

    /// Writes a file; `path` begins with a slash. What lies under `/buckets/NAME/` is in that bucket.
    pub(crate) async fn put(&self, path: &str, content: Vec<u8>) {
        let url = format!("http://127.0.0.1:{}{}", self.filer, path.replace('%', "%25"));
        let answer = reqwest::Client::new().put(&url).body(content).send().await.expect("the filer answers");
        assert!(answer.status().is_success(), "PUT {path}: {}", answer.status());
    }
}

/// A file under `/buckets` or elsewhere, over plain HTTP through `port`.
pub(crate) fn http(port: u16, path: &str) -> Access {
    Access::Http(HttpAccess { url: format!("http://127.0.0.1:{port}{path}").into() })
}

/// An object or folder of [`BUCKET`] through `port`.
pub(crate) fn s3(port: u16, key: &str) -> Access {
    Access::S3(s3_with(port, key, KEY))
}

/// The same with a key that has no right to it.
pub(crate) fn s3_as_stranger(port: u16, key: &str) -> Access {
    Access::S3(s3_with(port, key, STRANGER))
}

pub(crate) fn s3_with(port: u16, key: &str, (id, secret): (&str, &str)) -> S3Access {
    S3Access {
        provider: Provider::Aws,
        path_style: None,
        lock: None,
        bucket: BUCKET.into(),
        key: key.into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: None,
        credentials: S3Credentials {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: None,
        },
    }
}

/// Starts a server and answers the ports of its filer and of its S3 gateway.
fn launch(program: &str, folder: &Path) -> (u16, u16) {
    let credentials =
        |(id, secret): (&str, &str)| format!(r#"[{{"accessKey":"{id}","secretKey":"{secret}"}}]"#);
    let identities = format!(
        r#"{{"identities":[{{"name":"undoo","credentials":{},"actions":["Admin"]}},
            {{"name":"stranger","credentials":{},"actions":["Read:other","List:other"]}}]}}"#,
        credentials(KEY),
        credentials(STRANGER)
    );
    std::fs::remove_dir_all(folder.join("data")).ok();
    std::fs::create_dir(folder.join("data")).expect("a folder for its data");
    std::fs::write(folder.join("s3.json"), identities).expect("the server's settings");
    let ports = free_ports();
    let port = |name: &str, index: usize| format!("-{name}={}", ports[index]);
    let started = Command::new("sh")
        .args(["-c", KEEPER, "sh"])
        .args([program, "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"])
        .args([port("master.port", 0), port("master.port.grpc", 1)])
        .args([port("volume.port", 2), port("volume.port.grpc", 3)])
        .args(["-filer".into(), port("filer.port", 4), port("filer.port.grpc", 5)])
        .args(["-s3".into(), port("s3.port", 6), port("s3.port.grpc", 7)])
        .args(["-s3.config=s3.json", "-s3.iam=false", "-master.volumeSizeLimitMB=64"])
        .args(["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a shell");
    assert!(started.success(), "the shell: {started}");
    (ports[4], ports[6])
}

async fn is_ready(filer: u16, s3: u16, patience: Duration) -> bool {
    let client = reqwest::Client::new();
    let warm = format!("http://127.0.0.1:{filer}/buckets/{BUCKET}/warm");
    let health = format!("http://127.0.0.1:{s3}/healthz");
    let well =
        |answer: reqwest::Result<reqwest::Response>| answer.is_ok_and(|answer| answer.status().is_success());
    let until = Instant::now() + patience;
    while Instant::now() < until {
        // The first write waits for a volume to be made.
        if well(client.put(&warm).body("x").send().await) && well(client.get(&health).send().await) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn free_ports() -> Vec<u16> {
    let open = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    // Held together, so that they differ.
    let held: Vec<_> = (0..8).map(|_| open()).collect();
    held.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}

/// The path of `weed`, which the project's script fetches once.
fn program() -> String {
    if let Ok(program) = std::env::var("UNDOO_WEED") {
        return program;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/seaweedfs");
    let output =
        Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}
