//! Real file servers: OpenSSH's sshd and vsftpd, each on a port of the loopback and with one user.
//!
//! They start in a fraction of a second, so each test has its own. They see users, passwords and `/srv`
//! of their own in a mount namespace, and live in a process namespace that ends with the test, however it
//! ends: their keeper waits for the end of its standard input.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use russh::keys::{Algorithm, HashAlg, PrivateKey, key::safe_rng, ssh_key::LineEnding};

/// The one user.
pub const USER: &str = "undoo";
/// Their password.
pub const PASSWORD: &str = "undoo-secret";
const HASH: &str =
    "$6$undoo$EgbM8srqlPlbw3N9KilKdVH5t6Z0Z1.trGrIXeWE3qx8MAXAKAkMZ9qVZJeyzggbiIebpVRp8vlGBsB9IDPn71";
const UID: u32 = 64_242;

const KEEPER: &str = r#"
    unshare --mount --mount-proc --pid --fork --kill-child sh -e "$1/start" "$1" >"$1/log" 2>&1 & pid=$!
    cat >/dev/null
    kill -9 $pid"#;

/// What both need before they start; `$1` is the server's folder.
const NAMESPACE: &str = r#"
    for file in passwd group shadow pam.d; do
        [ -e /etc/$file ] || continue
        mount --bind "$1/$file" /etc/$file
    done
    mount --bind "$1/data" /srv
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -m 755 /run/sshd /run/vsftpd
    ln -s /srv/docker.sock /run/docker.sock
    mount -t tmpfs -o size=64k,mode=777 tmpfs /srv/home/full
    mount -t tmpfs -o ro tmpfs /srv/home/read-only
"#;

/// A server, which ends when this is dropped.
pub struct Server {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    folder: tempfile::TempDir,
    keeper: Child,
    /// Of the user who may log in without a password, for SSH.
    pub key: String,
    /// The fingerprint of the host key, for SSH.
    pub host_key: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

impl Server {
    /// The user's folder, as this process sees it; the server has it as `/srv/home`.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("data/home")
    }

    /// The folder that the server has as `/srv`, as this process sees it.
    pub fn srv(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a file below the user's folder, owned by the user.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.home().join(name);
        let mut made = Vec::new();
        let mut folder = path.parent().expect("a folder");
        while !folder.exists() {
            made.push(folder);
            folder = folder.parent().expect("a folder");
        }
        for folder in made.into_iter().rev() {
            fs::create_dir(folder).expect("a folder");
            own(folder);
        }
        fs::write(&path, content).expect("written");
        own(&path);
    }

    /// An sshd of which nothing but SFTP can be had.
    pub fn sshd() -> Self {
        Self::sshd_with("KbdInteractiveAuthentication no\nForceCommand internal-sftp\n")
    }

    /// An sshd that runs commands and forwards sockets, unless `settings` say otherwise. It has `/srv/docker.sock`
    /// where a Docker Engine's socket usually is.
    pub fn sshd_with(settings: &str) -> Self {
        let new_key = || PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).expect("a key");
        let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).expect("a key").to_string();
        let (host, user) = (new_key(), new_key());
        let mut server = Self::start(|folder, port| {
            fs::write(folder.join("host"), text(&host)).expect("written");
            private(&folder.join("host"));
            let public = user.public_key().to_openssh().expect("a key");
            fs::write(folder.join("authorized"), public).expect("written");
            let config = format!(
                "{settings}\nListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
                 PasswordAuthentication yes\nUsePAM no\nStrictModes no\n\
                 PidFile none\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
                at = folder.display()
            );
            fs::write(folder.join("config"), config).expect("written");
            format!("{} -D -e -f \"$1/config\"", program("sshd"))
        });
        server.host_key = host.public_key().fingerprint(HashAlg::Sha256).to_string();
        server.key = text(&user);
        server
    }

    /// `tls` is a certificate and its key.
    pub fn vsftpd(settings: &str, tls: Option<(&str, &str)>) -> Self {
        Self::start(|folder, port| {
            let mut config = format!(
                "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
                 anonymous_enable=NO\nlocal_enable=YES\nwrite_enable=YES\nlocal_umask=022\n\
                 chroot_local_user=YES\nallow_writeable_chroot=YES\nsecure_chroot_dir=/run/vsftpd\n\
                 pam_service_name=vsftpd\nseccomp_sandbox=NO\ndelay_failed_login=0\n{settings}\n"
            );
            if let Some((certificate, key)) = tls {
                fs::write(folder.join("tls"), format!("{certificate}{key}")).expect("written");
                config.push_str(&format!(
                    "ssl_enable=YES\nrsa_cert_file={at}/tls\nrequire_ssl_reuse=YES\nssl_ciphers=HIGH\n\
                     force_local_logins_ssl=YES\nforce_local_data_ssl=YES\n",
                    at = folder.display()
                ));
            }
            fs::write(folder.join("config"), config).expect("written");
            format!("{} \"$1/config\"", program("vsftpd"))
        })
    }

    fn start(configure: impl Fn(&Path, u16) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("undoo-server-").tempdir().expect("a folder");
        let at = folder.path();
        for name in ["data/home/full", "data/home/read-only", "data/home/locked"] {
            fs::create_dir_all(at.join(name)).expect("a folder");
        }
        own(&at.join("data/home"));
        let file = |name: &str, content: String| fs::write(at.join(name), content).expect("written");
        file(
            "passwd",
            format!(
                "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n\
                 sshd:x:64241:65534::/run/sshd:/bin/false\nftp:x:64240:65534::/srv:/bin/false\n\
                 {USER}:x:{UID}:{UID}::/srv/home:/bin/sh\n"
            ),
        );
        file("group", format!("root:x:0:\nnogroup:x:65534:\n{USER}:x:{UID}:\n"));
        file("shadow", format!("root:*:19000::::::\n{USER}:{HASH}:19000::::::\n"));
        fs::create_dir(at.join("pam.d")).expect("a folder");
        file(
            "pam.d/vsftpd",
            "auth required pam_unix.so nodelay\naccount required pam_permit.so\n".to_owned(),
        );
        // A port found free may be taken by another program before the server has it.
        for _ in 0..3 {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let port = listener.local_addr().expect("its address").port();
            drop(listener);
            // Not in place of the shell: the first process of a namespace inherits children that servers do
            // not expect.
            file("start", format!("{NAMESPACE}{} & wait $!\n", configure(at, port)));
            let mut keeper = Command::new("sh")
                .args(["-c", KEEPER, "sh"])
                .arg(at)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("a shell");
            if greets(port) {
                let (key, host_key) = (String::new(), String::new());
                return Self { port, folder, keeper, key, host_key };
            }
            drop(keeper.stdin.take());
            keeper.wait().ok();
        }
        panic!("the server did not come up: {}", fs::read_to_string(at.join("log")).unwrap_or_default());
    }
}

/// Whether a server says anything within some seconds.
fn greets(port: u16) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
            if stream.read(&mut [0; 4]).is_ok_and(|read| read > 0) {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn own(path: &Path) {
    chown(path, Some(UID), Some(UID)).expect("run as root, as dev/setup does");
}

fn private(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).expect("changed");
}

/// The path of a server, which the project's script unpacks once.
fn program(name: &str) -> String {
    let script = crate::script(name);
    let output =
        Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}
