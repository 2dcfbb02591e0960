//! A real SeaweedFS on loopback, which serves the same files over S3 and plain HTTP.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{docker::succeed, project, wait_for, web};

/// The server; it ends with this.
pub(crate) struct Weed {
    child: Child,
    filer: u16,
    s3: u16,
    _folder: tempfile::TempDir,
}

/// The secret key that may read everything.
pub(crate) const SECRET: &str = "e2e-secret-0b7d5f2c";

impl Weed {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let program =
            String::from_utf8(succeed(&mut Command::new(project().join("dev/seaweedfs")), b"")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let identities = format!(
            r#"{{"identities":[{{"name":"e2e","credentials":[{{"accessKey":"e2e","secretKey":"{SECRET}"}}],"actions":["Admin"]}}]}}"#
        );
        std::fs::write(folder.path().join("s3.json"), identities).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        // Held together, so that they differ.
        let held: Vec<_> = (0..8).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let port = |name: &str, index: usize| format!("-{name}={}", ports[index]);
        let child = Command::new(program.trim())
            .args(["server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"])
            .args([port("master.port", 0), port("master.port.grpc", 1)])
            .args([port("volume.port", 2), port("volume.port.grpc", 3)])
            .args(["-filer".into(), port("filer.port", 4), port("filer.port.grpc", 5)])
            .args(["-s3".into(), port("s3.port", 6), port("s3.port.grpc", 7)])
            .args(["-s3.config=s3.json", "-s3.iam=false", "-master.volumeSizeLimitMB=64"])
            .args(["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let weed = Self { child, filer: ports[4], s3: ports[6], _folder: folder };
        // The first write waits for a volume to be made.
        wait_for("SeaweedFS", Duration::from_secs(60), || {
            weed.try_put("warm", b"x".to_vec()).then_some(()).or_else(|| {
                std::thread::sleep(Duration::from_millis(200));
                None
            })
        });
        weed
    }

    fn try_put(&self, key: &str, content: Vec<u8>) -> bool {
        web::put(&self.http(key), content)
    }

    /// Puts an object into the bucket.
    pub(crate) fn put(&self, key: &str, content: Vec<u8>) {
        assert!(self.try_put(key, content), "{key} was not stored");
    }

    /// An object over plain HTTP.
    pub(crate) fn http(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}/buckets/backups/{key}", self.filer)
    }

    /// The variables that give access over S3.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", "e2e".into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.s3)),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
