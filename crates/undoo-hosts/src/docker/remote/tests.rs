//! Against a real sshd, behind whose `/var/run/docker.sock` something answers as an engine would.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use bollard::{container::LogOutput, query_parameters::AttachContainerOptionsBuilder};
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use undoo_testing::servers::{Server, USER};

use super::*;
use crate::docker::{Docker, DockerEndpoint};

/// Where there is no docker program, whatever this machine has.
const BARE: &str = "SetEnv PATH=/srv/bin";

fn access(server: &Server) -> SshAccess {
    SshAccess {
        host: "127.0.0.1".into(),
        port: Some(server.port),
        user: USER.into(),
        password: None,
        private_key: Some(server.key.clone().into()),
        passphrase: None,
        host_key: Some(server.host_key.clone()),
    }
}

fn sshd(settings: &str) -> Server {
    let server = Server::sshd_with(settings);
    let programs = server.srv().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink("/bin/sh", programs.join("sh")).unwrap();
    server
}

/// An engine that knows its version, and a container that says what it is told.
fn engine(server: &Server, mode: u32) {
    let path = server.srv().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
}

async fn answer(mut stream: UnixStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.lines().any(|line| line.to_ascii_lowercase().starts_with("host: ")), "{head}");
    if head.contains("/attach?") {
        let upgraded = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        stream.write_all(upgraded.as_bytes()).await.unwrap();
        let mut said = [0; 1024];
        while let Ok(len @ 1..) = stream.read(&mut said).await {
            let frame =
                [&[1, 0, 0, 0], &u32::try_from(len).unwrap().to_be_bytes()[..], &said[..len]].concat();
            stream.write_all(&frame).await.unwrap();
        }
        return;
    }
    let body =
        r#"{"Version":"28.0.0","ApiVersion":"1.47","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.47\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.ok();
}

async fn connect(server: &Server) -> Docker {
    Docker::connect(DockerEndpoint::Ssh(access(server))).await.unwrap()
}

async fn refusal(server: &Server) -> Problem {
    Docker::connect(DockerEndpoint::Ssh(access(server))).await.unwrap_err()
}

/// A container that is attached to takes input and gives output while other requests are answered.
async fn works(docker: &Docker) {
    assert!(docker.is_remote());
    assert_eq!(docker.engine().version().await.unwrap().version.as_deref(), Some("28.0.0"));
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).build();
    let mut attached = docker.engine().attach_container("echo", Some(options)).await.unwrap();
    for words in ["one", "two"] {
        attached.input.write_all(words.as_bytes()).await.unwrap();
        attached.input.flush().await.unwrap();
        let Some(Ok(LogOutput::StdOut { message })) = attached.output.next().await else {
            panic!("it says nothing");
        };
        assert_eq!(message, words.as_bytes());
        docker.engine().ping().await.unwrap();
    }
    attached.input.shutdown().await.unwrap();
    assert!(attached.output.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_spoken_to_through_its_forwarded_socket() {
    let server = sshd(BARE);
    engine(&server, 0o666);
    let docker = connect(&server).await;
    works(&docker).await;
    assert_eq!(docker.socket_on_host(), Path::new(USUAL_SOCKET));
    assert_eq!(docker.server(), Some(&*format!("ssh://{USER}@127.0.0.1:{}", server.port)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_socket_is_forwarded_dockers_own_program_carries_the_requests() {
    let server = sshd("AllowStreamLocalForwarding no\nMaxSessions 2");
    engine(&server, 0o666);
    let docker = connect(&server).await;
    works(&docker).await;
    // More than one connection may carry at a time.
    let options = || AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).build();
    let mut many = Vec::new();
    for _ in 0..5 {
        many.push(docker.engine().attach_container("echo", Some(options())).await.unwrap());
    }
    works(&docker).await;
    fs::remove_file(server.srv().join("docker.sock")).unwrap();
    let error = docker.engine().ping().await.unwrap_err();
    let problem = crate::docker::problem(error, || "asking".into());
    assert_eq!(problem.code, "docker_unavailable", "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_ends_its_streams_with_an_error_and_the_next_request_makes_another() {
    let server = sshd("");
    engine(&server, 0o666);
    let docker = connect(&server).await;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).build();
    let mut attached = docker.engine().attach_container("echo", Some(options)).await.unwrap();
    // Everything that the user has there but this, the processes of connections among it.
    let other = Connection::open(&access(&server), &Options::default()).await.unwrap();
    other.run("kill -9 -1", 1).await.ok();
    let cut = tokio::time::timeout(Duration::from_secs(10), attached.output.next()).await.unwrap();
    assert!(matches!(cut, Some(Err(_))), "{cut:?}");
    works(&docker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_no_engine_answers_is_told() {
    let server = sshd(BARE);
    let missing = refusal(&server).await;
    assert_eq!((missing.kind, missing.code), (Kind::Missing, "docker_missing"));
    engine(&server, 0o600);
    let denied = refusal(&server).await;
    assert_eq!((denied.kind, denied.code), (Kind::Denied, "docker_denied"));
    assert!(denied.remedy.contains(USER), "{}", denied.remedy);

    let stopped = sshd("");
    let unavailable = refusal(&stopped).await;
    assert_eq!((unavailable.kind, unavailable.code), (Kind::Unavailable, "docker_unavailable"));
    // Nobody listens on a socket that an engine left behind.
    drop(std::os::unix::net::UnixListener::bind(stopped.srv().join("docker.sock")).unwrap());
    fs::set_permissions(stopped.srv().join("docker.sock"), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(refusal(&stopped).await.code, "docker_unavailable");

    assert_eq!(refusal(&Server::sshd()).await.code, CHANNEL_REFUSED);
    let unknown = SshAccess { host_key: None, ..access(&server) };
    let problem = Docker::connect(DockerEndpoint::Ssh(unknown)).await.unwrap_err();
    assert_eq!(problem.code, "host_key_unknown");
    let found = undoo_storage::host_key_in(&problem).unwrap();
    assert_eq!(found.fingerprint, server.host_key);
}
