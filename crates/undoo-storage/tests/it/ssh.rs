//! What a connection to a server promises: commands and sockets through it, and causes that a person can act
//! on when none comes about.

use std::{io, os::unix::fs::PermissionsExt, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};
use undoo_core::{Kind, Problem};
use undoo_storage::{
    Options, SshAccess, host_key_in,
    ssh::{CHANNEL_REFUSED, Connection},
};

use crate::servers::{PASSWORD, Server, ssh};

fn server() -> Server {
    Server::sshd_with("")
}

async fn open(server: &Server) -> Connection {
    Connection::open(&ssh(server, server.port), &Options::default()).await.expect("a connection")
}

async fn refusal(access: &SshAccess) -> Problem {
    let problem = Connection::open(access, &Options::default()).await.expect_err("no connection");
    let sentences = format!("{} {}", problem.message, problem.remedy);
    assert!(problem.message.starts_with("cannot connect to the server ssh://undoo@"), "{sentences}");
    assert!(!sentences.contains("storage") && !sentences.contains("SFTP"), "{sentences}");
    problem
}

/// A socket on the server to which whatever is said comes back.
fn echo(server: &Server) {
    let path = server.srv().join("docker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("changed");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_take_input_and_tell_output_words_and_status() {
    let server = server();
    let connection = open(&server).await;
    let output = connection.run("echo out; echo err >&2; exit 7", 1024).await.expect("it runs");
    assert_eq!((output.stdout.as_slice(), &*output.ending.stderr), (&b"out\n"[..], "err"));
    assert_eq!(output.ending.exit_status, Some(7));
    let hasty = Options { stall_timeout: Duration::from_secs(2), ..Options::default() };
    let hasty = Connection::open(&ssh(&server, server.port), &hasty).await.expect("a connection");
    assert_eq!(hasty.run("sleep 9", 100).await.expect_err("too slow").code, "server_timed_out");

    let mut stream = connection.command("tr a-z A-Z").await.expect("a command");
    stream.write_all(b"hello").await.expect("written");
    stream.shutdown().await.expect("shut");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("read");
    assert_eq!(said, "HELLO");
    assert_eq!(stream.ending().await.expect("ended").exit_status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_socket_go_side_by_side_and_one_that_nobody_reads_holds_up_no_other() {
    let server = server();
    echo(&server);
    let connection = open(&server).await;
    let mut unread = connection.unix_stream("/var/run/docker.sock").await.expect("a stream");
    // Many small messages: as many as the library would keep, and more.
    for _ in 0..500 {
        unread.write_all(b"line\n").await.expect("written");
        unread.flush().await.expect("flushed");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let sample = crate::sample(3 * 1024 * 1024);
    let stream = connection.unix_stream("/var/run/docker.sock").await.expect("a stream");
    let (mut read, mut write) = tokio::io::split(stream);
    let (sent, mut back) = (sample.clone(), Vec::new());
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.expect("written");
        write.shutdown().await.expect("shut");
    });
    let reading = tokio::time::timeout(Duration::from_secs(20), read.read_to_end(&mut back));
    reading.await.expect("in time").expect("read");
    writing.await.expect("done");
    assert!(back == sample, "{} bytes came back", back.len());
    unread.shutdown().await.expect("shut");
    let mut lines = String::new();
    unread.read_to_string(&mut lines).await.expect("read");
    assert_eq!(lines.len(), 500 * 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_not_there_or_not_forwarded_is_refused_and_the_connection_goes_on() {
    let server = server();
    let connection = open(&server).await;
    let problem = connection.unix_stream("/var/run/docker.sock").await.err().expect("no socket");
    assert_eq!((problem.kind, problem.code), (Kind::Denied, CHANNEL_REFUSED));
    assert_eq!(connection.run("echo here", 100).await.expect("it runs").stdout, b"here\n");

    let closed = Server::sshd_with("AllowStreamLocalForwarding no");
    echo(&closed);
    let problem = open(&closed).await.unix_stream("/var/run/docker.sock").await.err().expect("refused");
    assert_eq!(problem.code, CHANNEL_REFUSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_key_login_and_key_are_told_apart() {
    let server = server();
    let access = ssh(&server, server.port);
    let unknown = refusal(&SshAccess { host_key: None, ..access.clone() }).await;
    assert_eq!((unknown.kind, unknown.code), (Kind::Denied, "host_key_unknown"));
    let found = host_key_in(&unknown).expect("the key");
    assert_eq!((&*found.fingerprint, &*found.algorithm), (&*server.host_key, "ssh-ed25519"));
    assert!(unknown.remedy.contains(&server.host_key), "{}", unknown.remedy);

    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let changed = refusal(&SshAccess { host_key: Some(other.into()), ..access.clone() }).await;
    assert_eq!((changed.kind, changed.code), (Kind::Denied, "host_key_changed"));
    assert_eq!(host_key_in(&changed).map(|key| &*key.fingerprint), Some(&*server.host_key));

    let with =
        |password: &str| SshAccess { private_key: None, password: Some(password.into()), ..access.clone() };
    assert_eq!(refusal(&with("wrong")).await.code, "wrong_login");
    let opened = Connection::open(&with(PASSWORD), &Options::default()).await;
    assert!(opened.is_ok(), "a password opens too");
    let broken = SshAccess { private_key: Some("no key".into()), ..access.clone() };
    assert_eq!(refusal(&broken).await.code, "private_key_unreadable");
    assert_eq!(refusal(&SshAccess { port: Some(1), ..access.clone() }).await.code, "connection_refused");
    let nowhere = SshAccess { host: "server.invalid".into(), ..access };
    assert_eq!(refusal(&nowhere).await.code, "name_not_resolved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_noticed_and_no_stream_ends_as_if_it_were_whole() {
    let server = server();
    echo(&server);
    let connection = open(&server).await;
    let mut stream = connection.unix_stream("/var/run/docker.sock").await.expect("a stream");
    stream.write_all(b"half").await.expect("written");
    let mut half = [0; 4];
    stream.read_exact(&mut half).await.expect("read");
    assert!(!connection.is_closed());
    drop(server);
    let mut rest = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    let error = cut.await.expect("in time").expect_err("it did not end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(connection.is_closed());
    let gone = connection.run("true", 1).await.expect_err("gone");
    assert_eq!((gone.kind, gone.code), (Kind::Unavailable, "connection_broken"));
}
