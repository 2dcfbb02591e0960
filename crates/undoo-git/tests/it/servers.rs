//! Servers: who lets whom in, and how they behave on bad days.

use std::{
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::CertifiedKey;
use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use undoo_core::{
    Kind,
    platform::{AddonsOrigin, AddonsSource},
};
use undoo_git::Limits;
use undoo_storage::Reach;
use undoo_testing::git::{GitServer, Manner};

use crate::support::{LIMITS, MANIFEST, fetch, origin, plain};

const TOKEN: &str = "glpat-geheim";

#[test]
fn a_private_repository_opens_with_its_token_which_nothing_keeps() {
    let server = GitServer::private("oauth2", TOKEN);
    let web = server.repository("web");
    web.commit(&[("one/__manifest__.py", MANIFEST)]);
    let got = fetch(origin(&web, None), Some(TOKEN), LIMITS);
    assert_eq!(got.read("one/__manifest__.py"), MANIFEST);
    let config = got.read(".git/config");
    assert!(config.contains(&format!("url = {}", web.url)) && !config.contains(TOKEN), "{config}");
    assert!(!format!("{:?}", got.ok()).contains(TOKEN));
    let expected = Some(format!("oauth2:{TOKEN}"));
    assert!(server.seen().iter().all(|seen| seen.login == expected), "{:?}", server.seen());
}

#[test]
fn a_token_belongs_to_the_user_that_was_named() {
    let server = GitServer::private("ada", TOKEN);
    let web = server.repository("web");
    let commit = web.commit(&[("a", "1")]);
    assert_eq!(fetch(origin(&web, None), Some(TOKEN), LIMITS).code(), "addons_origin_denied");
    let named = AddonsOrigin { username: Some("ada".to_owned()), ..origin(&web, None) };
    assert_eq!(fetch(named, Some(TOKEN), LIMITS).ok().commit, commit);
}

#[test]
fn without_the_right_token_one_is_told_so_and_asked_for_nothing() {
    let server = GitServer::private("oauth2", TOKEN);
    let web = server.repository("web");
    web.commit(&[("a", "1")]);
    let got = plain(&web, None);
    assert_eq!(got.code(), "addons_origin_denied");
    assert!(got.message().contains("none was given"), "{}", got.message());
    assert_eq!(server.seen().len(), 1);
    assert!(server.seen().iter().all(|seen| seen.login.is_none()), "{:?}", server.seen());
    let got = fetch(origin(&web, None), Some("wrong"), LIMITS);
    assert_eq!(got.code(), "addons_origin_denied");
    assert!(got.message().contains("does not take the token"), "{}", got.message());
    server.behave(Manner::Status("403 Forbidden"));
    assert_eq!(plain(&web, None).code(), "addons_origin_denied");
}

#[test]
fn the_machines_own_git_configuration_has_no_say() {
    let home = tempfile::tempdir().unwrap();
    let mark = home.path().join("was-run");
    let touch = format!("touch {}", mark.display());
    let config = format!(
        "[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://127.0.0.1\n[credential]\n\thelper = \"!{touch}\"\n\
         [core]\n\taskPass = \"{touch}\"\n[filter \"lfs\"]\n\tsmudge = \"{touch}\"\n\trequired = true\n"
    );
    // Who reads the second one at all fails.
    let files = [(".gitconfig", config.as_str()), ("broken", "[core")];
    for (name, content) in files {
        std::fs::write(home.path().join(name), content).unwrap();
    }
    let tests = [
        "servers::a_private_repository_opens_with_its_token_which_nothing_keeps",
        "servers::without_the_right_token_one_is_told_so_and_asked_for_nothing",
        "contents::attributes_change_no_byte",
    ];
    for (test, (name, _)) in tests.iter().flat_map(|test| files.iter().map(move |file| (test, file))) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path())
            .env("GIT_CONFIG_GLOBAL", home.path().join(name))
            .env("GIT_DIR", home.path())
            .env("GIT_ASKPASS", &mark)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{test} with {name}: {told}");
    }
    assert!(!mark.exists());
}

#[test]
fn what_is_not_there_is_missing() {
    let server = GitServer::public();
    server.repository("web");
    let origin = AddonsOrigin::parse(&format!("http://127.0.0.1:{}/other.git", server.port));
    for token in [None, Some(TOKEN)] {
        let got = fetch(origin.clone(), token, LIMITS);
        assert_eq!(got.code(), "addons_origin_missing");
        assert_eq!(got.message().contains("token"), token.is_some(), "{}", got.message());
    }
    server.behave(Manner::Status("200 OK"));
    assert_eq!(fetch(origin, None, LIMITS).code(), "addons_origin_missing");
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let (here, there) = (GitServer::public(), GitServer::public());
    let web = here.repository("web");
    web.commit(&[("a", "1")]);
    there.repository("web").commit(&[("a", "2")]);
    here.behave(Manner::Redirect(format!("http://me:geheim@127.0.0.1:{}", there.port)));
    let got = fetch(origin(&web, None), Some(TOKEN), LIMITS);
    assert_eq!(got.code(), "addons_origin_unreachable");
    let target = format!("\"http://127.0.0.1:{}/web.git\"", there.port);
    assert!(got.message().contains(&target) && !got.message().contains("geheim"), "{}", got.message());
    assert_eq!((here.seen().len(), there.seen().len()), (1, 0));
}

#[test]
fn a_silent_server_is_given_up_in_time_and_at_once_when_asked_to() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("a", "1")]);
    server.behave(Manner::Silent);
    let began = Instant::now();
    let limits = Limits { patience: Duration::from_millis(400), ..LIMITS };
    let got = fetch(origin(&web, None), None, limits);
    assert_eq!(got.code(), "addons_origin_timeout");
    assert!(began.elapsed() >= Duration::from_millis(400) && began.elapsed() < Duration::from_secs(5));

    let (stop, folder) = (Arc::new(AtomicBool::new(false)), tempfile::tempdir().unwrap());
    let caller = Arc::clone(&stop);
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        caller.store(true, Ordering::SeqCst);
    });
    let source = AddonsSource { origin: origin(&web, None), token: None, anywhere: true };
    let began = Instant::now();
    let problem = undoo_git::fetch(&source, folder.path(), &stop, LIMITS).unwrap_err();
    later.join().unwrap();
    assert_eq!((problem.code, problem.kind), ("cancelled", Kind::Cancelled));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(!folder.path().join("web").exists());
}

#[test]
fn it_may_be_called_where_a_runtime_lets_one_block() {
    let server = GitServer::public();
    let web = server.repository("web");
    let commit = web.commit(&[("a", "1")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let url = web.url.clone();
    let fetch = move || fetch(AddonsOrigin::parse(&url), None, LIMITS).ok().commit.clone();
    let fetched = runtime.block_on(async { tokio::task::spawn_blocking(fetch).await.unwrap() });
    assert_eq!(fetched, commit);
}

#[test]
fn a_pack_that_breaks_off_leaves_nothing() {
    let server = GitServer::public();
    let web = server.repository("web");
    for number in 0..300 {
        std::fs::write(web.folder.join(format!("file-{number}")), format!("{number}").repeat(50)).unwrap();
    }
    web.commit(&[]);
    server.behave(Manner::Cut(2_000));
    let got = plain(&web, None);
    assert_eq!(got.code(), "addons_origin_unreachable");
    // The references were whole.
    assert_eq!(server.seen().last().unwrap().line, "POST /web.git/git-upload-pack");
    assert!(server.seen().len() >= 3, "{:?}", server.seen());
    server.behave(Manner::Status("503 Busy"));
    let got = plain(&web, None);
    assert_eq!(got.code(), "addons_origin_unreachable");
    assert!(got.message().contains("503"), "{}", got.message());
}

#[test]
fn a_server_that_cannot_be_reached_is_told_with_the_reason() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    for (url, reason) in [
        (format!("http://127.0.0.1:{closed}/web"), "no connection to 127.0.0.1"),
        ("https://git.invalid/web".to_owned(), "git.invalid does not resolve"),
    ] {
        let got = fetch(AddonsOrigin::parse(&url), None, LIMITS);
        assert_eq!(got.code(), "addons_origin_unreachable");
        assert!(got.message().contains(reason), "{}", got.message());
    }
}

#[test]
fn an_address_that_is_not_allowed_sees_no_connection() {
    let server = GitServer::public();
    server.repository("web").commit(&[("a", "1")]);
    let limits = Limits { reach: Reach::Elsewhere, ..LIMITS };
    for host in ["127.0.0.1", "localhost", "0x7f.1", "2130706433"] {
        let origin = AddonsOrigin::parse(&format!("http://{host}:{}/web.git", server.port));
        assert_eq!(fetch(origin, None, limits).code(), "addons_origin_out_of_reach", "{host}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn a_certificate_of_nobody_known_is_refused() {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        // Whether a request came through.
        while connection.is_handshaking() {
            if connection.complete_io(&mut stream).is_err() {
                return false;
            }
        }
        connection.complete_io(&mut stream).is_ok()
    });
    let origin = AddonsOrigin::parse(&format!("https://localhost:{port}/web"));
    let got = fetch(origin, Some(TOKEN), LIMITS);
    assert_eq!(got.code(), "addons_origin_unreachable");
    assert!(got.message().contains("certificate"), "{}", got.message());
    assert!(!server.join().unwrap());
}
