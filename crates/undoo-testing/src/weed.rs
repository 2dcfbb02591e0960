//! A real SeaweedFS server on loopback, serving the same files over plain HTTP (its filer) and over S3.
//!
//! It takes seconds to start, so all tests share one, also when each runs in a process of its own
//! (nextest). It lives as long as a test process holds a lock on a file, and a few seconds more; the
//! kernel lets go of that lock however a process ends, so the server never stays behind.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::run;

/// The id and the secret of a key that may do all. No other text has this secret in it.
pub const KEY: (&str, &str) = ("undoo", "undoo-secret-0b7d5f2c");

/// A key that is valid but may not read [`BUCKET`].
pub const STRANGER: (&str, &str) = ("stranger", "stranger-secret");

/// The bucket that is there. The filer has it under `/buckets/`.
pub const BUCKET: &str = "backups";

/// Ends the server by its process id as soon as no test process has wanted it for three seconds.
const KEEPER: &str = r#"(
    trap '' INT HUP TERM
    "$@" >weed.log 2>&1 & pid=$!
    while :; do
        flock alive true; sleep 3
        flock -n alive sh -c "kill -9 $pid; rm -rf data ports" && exit
    done) &"#;

/// The server.
pub struct Weed {
    /// The port of plain HTTP.
    pub filer: u16,
    /// The port of S3.
    pub s3: u16,
    /// While this is locked, the server lives.
    _alive: File,
}

impl Weed {
    /// The server, started at the first call. What it needs is kept in `folder`: a test gives its
    /// `CARGO_TARGET_TMPDIR`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn shared(folder: &str) -> &'static Self {
        static WEED: OnceLock<Weed> = OnceLock::new();
        WEED.get_or_init(|| Self::start(Path::new(folder)))
    }

    fn start(folder: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        let folder = folder.join(format!("weed-{:x}", hasher.finish()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name| File::create(folder.join(name)).unwrap();
        let (alive, gate) = (file("alive"), file("gate"));
        // Waits where the keeper is just ending the server; from here on it does not.
        alive.lock_shared().unwrap();
        gate.lock().unwrap();
        let running = std::fs::read_to_string(folder.join("ports")).unwrap_or_default();
        let running =
            running.split_once(' ').and_then(|(filer, s3)| Some((filer.parse().ok()?, s3.parse().ok()?)));
        if let Some((filer, s3)) = running
            && is_ready(filer, s3, Duration::from_secs(5))
        {
            return Self { filer, s3, _alive: alive };
        }
        let program = run(&mut Command::new(crate::script("seaweedfs")));
        let program = String::from_utf8(program).unwrap();
        // A port found free may be taken by another program before the server has it.
        for _ in 0..3 {
            let (filer, s3) = launch(program.trim(), &folder);
            if is_ready(filer, s3, Duration::from_secs(30)) {
                std::fs::write(folder.join("ports"), format!("{filer} {s3}")).unwrap();
                return Self { filer, s3, _alive: alive };
            }
        }
        let log = std::fs::read_to_string(folder.join("weed.log")).unwrap_or_default();
        panic!("{program} did not come up: {log}");
    }

    /// Writes a file; `path` begins with a slash. What lies under `/buckets/NAME/` is in that bucket.
    ///
    /// # Panics
    /// When it is not written.
    pub fn put(&self, path: &str, content: &[u8]) {
        let answer = request(self.filer, "PUT", &path.replace('%', "%25").replace(' ', "%20"), content);
        let answer = answer.unwrap_or_else(|error| panic!("PUT {path}: {error}"));
        assert!(is_success(&answer), "PUT {path}: {answer}");
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
    std::fs::create_dir(folder.join("data")).unwrap();
    std::fs::write(folder.join("s3.json"), identities).unwrap();
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
        .unwrap();
    assert!(started.success(), "the shell: {started}");
    (ports[4], ports[6])
}

fn is_ready(filer: u16, s3: u16, patience: Duration) -> bool {
    let well = |answer: io::Result<String>| answer.is_ok_and(|answer| is_success(&answer));
    let until = Instant::now() + patience;
    while Instant::now() < until {
        // The first write waits for a volume to be made.
        if well(request(filer, "PUT", &format!("/buckets/{BUCKET}/warm"), b"x"))
            && well(request(s3, "GET", "/healthz", b""))
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

/// One request over plain HTTP; answers the first line of the response.
fn request(port: u16, method: &str, path: &str, content: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = content.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(content)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn is_success(answer: &str) -> bool {
    answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2'))
}

fn free_ports() -> Vec<u16> {
    let open = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    // Held together, so that they differ.
    let held: Vec<_> = (0..8).map(|_| open()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
