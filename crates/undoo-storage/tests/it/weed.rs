//! A real SeaweedFS server, shared by all tests of the process, serving the same files over plain HTTP
//! (its filer) and over S3.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use undoo_storage::{Access, HttpAccess, S3Access, S3Credentials};

const KEY: (&str, &str) = ("undoo", "undoo-secret");
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
    /// Its standard input tells the shell that the test process lives; see [`Weed::try_start`].
    _shell: Child,
}

impl Weed {
    fn start() -> Self {
        let program = program();
        // A port found free may be taken by another test process before the server has it.
        for _ in 0..3 {
            if let Some(weed) = Self::try_start(&program) {
                return weed;
            }
        }
        panic!("SeaweedFS ({program}) did not come up");
    }

    fn try_start(program: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder for the server").keep();
        let credentials =
            |(id, secret): (&str, &str)| format!(r#"[{{"accessKey":"{id}","secretKey":"{secret}"}}]"#);
        let identities = format!(
            r#"{{"identities":[{{"name":"undoo","credentials":{},"actions":["Admin"]}},
                {{"name":"stranger","credentials":{},"actions":["Read:other","List:other"]}}]}}"#,
            credentials(KEY),
            credentials(STRANGER)
        );
        std::fs::write(folder.join("s3.json"), identities).expect("the server's settings");
        let ports = free_ports();
        let port = |name: &str, index: usize| format!("-{name}={}", ports[index]);
        // The shell ends the server by its process id, and removes its folder, when its own input ends:
        // at the end of the test process, however it ends, a panic or a kill included.
        let script = r#"trap '' INT HUP TERM
            "$@" >weed.log 2>&1 <&- & pid=$!
            cat >/dev/null; kill -9 $pid; wait; rm -rf "$PWD""#;
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([program, "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"])
            .args([port("master.port", 0), port("master.port.grpc", 1)])
            .args([port("volume.port", 2), port("volume.port.grpc", 3)])
            .args(["-filer".into(), port("filer.port", 4), port("filer.port.grpc", 5)])
            .args(["-s3".into(), port("s3.port", 6), port("s3.port.grpc", 7)])
            .args(["-s3.config=s3.json", "-s3.iam=false", "-master.volumeSizeLimitMB=64"])
            .args(["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (filer, s3) = (ports[4], ports[6]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ready = async {
            let client = reqwest::Client::new();
            let warm = format!("http://127.0.0.1:{filer}/buckets/{BUCKET}/warm");
            let health = format!("http://127.0.0.1:{s3}/healthz");
            let well =
                |answer: reqwest::Result<reqwest::Response>| answer.is_ok_and(|a| a.status().is_success());
            let until = Instant::now() + Duration::from_secs(30);
            while Instant::now() < until {
                // The first write waits for a volume to be made.
                if well(client.put(&warm).body("x").send().await) && well(client.get(&health).send().await) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            false
        };
        if runtime.block_on(ready) {
            return Some(Self { filer, s3, _shell: shell });
        }
        eprintln!("{}", std::fs::read_to_string(folder.join("weed.log")).unwrap_or_default());
        drop(shell.stdin.take());
        shell.wait().ok();
        None
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
