//! What the test of a storage says when something is wrong with it.

use std::{fs, process::Command};

use undoo_core::Kind;
use undoo_storage::{
    Access, FtpAccess, FtpTls, Location, Options, Outcome, Report, S3Access, SshAccess, StepName,
    StorageConfig, test,
};

use crate::{
    proxy::{Proxy, s3_refusal},
    quick,
    servers::{self, PASSWORD, Server},
    weed,
};

async fn report(access: Access) -> Report {
    let storage = access.storage(&quick()).expect("a storage");
    test(&*storage).await
}

/// The kind and code of the step that failed, which is the first.
async fn cause(access: Access) -> (Kind, &'static str) {
    let report = report(access).await;
    assert!(!report.ok);
    let Outcome::Failed { kind, code, message, .. } = &report.steps[0].outcome else { panic!("{report:?}") };
    assert!(message.starts_with("cannot write"), "{message}");
    assert!(report.steps[1..].iter().all(|step| matches!(step.outcome, Outcome::NotTried)));
    assert_eq!(report.problem().expect("a problem").code, *code);
    (*kind, code)
}

fn s3_of(access: Access) -> S3Access {
    let Access::S3(access) = access else { panic!("not S3") };
    access
}

#[tokio::test]
async fn s3_names_key_bucket_right_and_clock() {
    let weed = weed::weed().await;
    for key in [("undoo", "wrong"), ("nobody", "undoo-secret")] {
        assert_eq!(cause(Access::S3(weed::s3_with(weed.s3, "causes/", key))).await.1, "wrong_key");
    }
    let stranger = report(weed::s3_as_stranger(weed.s3, "causes/")).await.problem().expect("a problem");
    assert_eq!((stranger.kind, stranger.code), (Kind::Denied, "no_permission"));
    assert!(stranger.remedy.contains("s3:PutObject"), "{}", stranger.remedy);
    // SeaweedFS makes a bucket that is written to.
    let missing = Proxy::start(1, Vec::new(), s3_refusal(404, "NoSuchBucket")).await;
    assert_eq!(cause(weed::s3(missing.port, "causes/")).await, (Kind::Missing, "bucket_missing"));
    let skewed = Proxy::start(1, Vec::new(), s3_refusal(403, "RequestTimeTooSkewed")).await;
    assert_eq!(cause(weed::s3(skewed.port, "causes/")).await, (Kind::Denied, "clock_off"));
    assert_eq!(cause(weed::s3(1, "causes/")).await, (Kind::Unavailable, "connection_refused"));
    let nowhere =
        S3Access { endpoint: Some("http://storage.invalid".into()), ..s3_of(weed::s3(weed.s3, "causes/")) };
    assert_eq!(cause(Access::S3(nowhere)).await, (Kind::Unavailable, "name_not_resolved"));
}

#[tokio::test]
async fn a_server_whose_clock_is_off_is_told_by_its_date() {
    let refusal = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let act = crate::proxy::answer(403, "Date: Sun, 22 Nov 2020 10:00:00 GMT\r\n", refusal);
    let proxy = Proxy::start(1, Vec::new(), act).await;
    assert_eq!(cause(weed::s3(proxy.port, "causes/")).await, (Kind::Denied, "clock_off"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_not_writable() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), b"x").expect("written");
    let access = Access::Local { path: folder.path().join("file/backups") };
    assert_eq!(cause(access).await, (Kind::Denied, "path_not_writable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_names_host_key_login_folder_and_disk() {
    let server = Server::sshd();
    let access = |path: &str| servers::sftp(&server, server.port, path);

    let by = |change: &dyn Fn(&mut SshAccess)| {
        let mut access = access("root");
        change(&mut access.ssh);
        Access::Sftp(access)
    };
    let first = report(by(&|ssh| ssh.host_key = None)).await;
    let Outcome::Failed { code, host_key, .. } = &first.steps[0].outcome else { panic!("{first:?}") };
    assert_eq!((*code, host_key.as_deref()), ("host_key_unknown", Some(&*server.host_key)));
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let changed = cause(by(&|ssh| ssh.host_key = Some(other.into()))).await;
    assert_eq!(changed, (Kind::Denied, "host_key_changed"));

    let with = |password: &str| {
        by(&|ssh| {
            ssh.password = Some(password.into());
            ssh.private_key = None;
        })
    };
    assert_eq!(cause(with("wrong")).await, (Kind::Denied, "wrong_login"));
    assert!(report(with(PASSWORD)).await.ok, "a password opens too");
    let broken = by(&|ssh| ssh.private_key = Some("no key".into()));
    assert_eq!(cause(broken).await, (Kind::Denied, "private_key_unreadable"));

    for (path, expected) in [
        ("full", (Kind::Unavailable, "disk_full")),
        ("read-only", (Kind::Denied, "read_only")),
        ("locked", (Kind::Denied, "path_not_writable")),
        ("locked/further/down", (Kind::Denied, "path_not_writable")),
        ("/etc/undoo", (Kind::Denied, "path_not_writable")),
    ] {
        assert_eq!(cause(Access::Sftp(access(path))).await, expected, "{path}");
    }
    assert!(report(Access::Sftp(access("/srv/home/by/its/root"))).await.ok);
    assert!(server.home().join("by/its/root").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftp_names_login_tls_folder_and_disk() {
    let server = Server::vsftpd("", None);
    let access = |path: &str| servers::ftp(server.port, path);
    let wrong = FtpAccess { password: Some("wrong".into()), ..access("root") };
    assert_eq!(cause(Access::Ftp(wrong)).await, (Kind::Denied, "wrong_login"));
    let secure = FtpAccess { tls: FtpTls::Require, ..access("root") };
    assert_eq!(cause(Access::Ftp(secure)).await, (Kind::Denied, "tls_not_offered"));
    for (path, expected) in [
        ("full", (Kind::Unavailable, "disk_full")),
        ("locked", (Kind::Denied, "path_not_writable")),
        ("locked/further/down", (Kind::Denied, "path_not_writable")),
        // The server does not tell why.
        ("read-only", (Kind::Denied, "path_not_writable")),
    ] {
        assert_eq!(cause(Access::Ftp(access(path))).await, expected, "{path}");
    }
    assert!(report(Access::Ftp(access(""))).await.ok, "the folder of the login");
}

#[tokio::test]
async fn servers_that_are_not_there_are_told() {
    for address in ["ftp://storage.invalid/x", "sftp://u:p@storage.invalid/x"] {
        let access = Location::parse(address).and_then(Location::with_environment).expect("an address");
        assert_eq!(cause(access).await, (Kind::Unavailable, "name_not_resolved"), "{address}");
    }
    for address in ["ftp://127.0.0.1:1/x", "sftp://u:p@127.0.0.1:1/x"] {
        let access = Location::parse(address).and_then(Location::with_environment).expect("an address");
        assert_eq!(cause(access).await, (Kind::Unavailable, "connection_refused"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftp_is_encrypted_where_that_is_offered_and_refused_where_it_is_not_trusted() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let server = Server::vsftpd("", Some((&certificate, &key)));
    for tls in [FtpTls::Prefer, FtpTls::Require] {
        let access = FtpAccess { tls, ..servers::ftp(server.port, "root") };
        assert_eq!(cause(Access::Ftp(access)).await, (Kind::Denied, "tls_failed"));
    }
    let plain = FtpAccess { tls: FtpTls::Off, ..servers::ftp(server.port, "root") };
    assert_eq!(cause(Access::Ftp(plain)).await.0, Kind::Denied);

    // Which authorities are trusted is read from the environment, so a process of its own.
    let trusted = tempfile::NamedTempFile::new().expect("a file");
    fs::write(trusted.path(), &certificate).expect("written");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "causes::the_storage_that_the_environment_names_is_sound"])
        .env("UNDOO_TEST_ADDRESS", format!("ftps://undoo:{PASSWORD}@127.0.0.1:{}/root", server.port))
        .env("SSL_CERT_FILE", trusted.path())
        .output()
        .expect("this test runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(server.home().join("root").is_dir(), "it has been there");
}

/// Without an address, a folder of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_that_the_environment_names_is_sound() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = std::env::var("UNDOO_TEST_ADDRESS").unwrap_or(folder.path().display().to_string());
    let access = Location::parse(&address).and_then(Location::with_environment).expect("an address");
    let options = Options { part_size: 1024 * 1024, ..Options::default() };
    let storage = access.storage(&options).expect("a storage");
    let report = test(&*storage).await;
    assert!(report.ok, "{report:?}");
    // Several transfers, each of which resumes the session of its control connection.
    let mut upload = storage.write("large", None).expect("a key");
    for _ in 0..6 {
        upload.write(&crate::sample(1024 * 1024)).await.expect("writes");
    }
    upload.finish().await.expect("is finished");
    storage.delete("large").await.expect("is removed");
}

#[tokio::test]
async fn the_report_has_no_secret_and_the_names_of_its_steps() {
    let text = format!(
        r#"{{"provider": "ftp", "host": "127.0.0.1", "port": 1, "username": "u", "password": "geheim",
            "path": "x", "attempts": {}}}"#,
        1
    );
    let config: StorageConfig = serde_json::from_str(&text).expect("a configuration");
    let storage = config.storage(&quick()).expect("a storage");
    let report = serde_json::to_value(test(&*storage).await).expect("serialisable");
    assert_eq!(report["storage"], "ftp://u@127.0.0.1:1/x/");
    assert_eq!(report["steps"][0]["name"], serde_json::json!(StepName::Write));
    assert_eq!(report["steps"][0]["outcome"], "failed");
    assert_eq!(report["steps"][0]["code"], "connection_refused");
    assert_eq!(report["steps"][5]["outcome"], "not_tried");
    assert!(!report.to_string().contains("geheim"));
}
