//! Encryption on the way to PostgreSQL, with servers that insist on it, refuse it, or are someone else.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use undoo_core::Side;
use undoo_engine::{
    pg::{DatabaseAccess, Tls},
    restore,
};

use crate::{
    server::{PASSWORD, Server, quoted},
    world::{World, accept, cut_over, preparation, prepare, stage},
};

/// A server that listens on the network, with a certificate for `localhost`.
struct TlsServer {
    server: Server,
    authority: CertifiedIssuer<'static, KeyPair>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

impl TlsServer {
    /// Roles are named after the lines of pg_hba.conf that let them in.
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = [format!("port={port}"), "listen_addresses=localhost".to_owned()];
        let server = Server::own_build("17", &settings.each_ref().map(String::as_str));
        let mut hba = "local all all trust\n".to_owned();
        for (kind, role) in [("hostssl", "encrypted"), ("hostnossl", "plain"), ("host", "either")] {
            server.psql(
                "postgres",
                &format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD {}", quoted(PASSWORD)),
            );
            for network in ["127.0.0.1/32", "::1/128"] {
                hba += &format!("{kind} all {role} {network} scram-sha-256\n");
            }
        }
        hba += "hostssl all plain 127.0.0.1/32 reject\nhostssl all plain ::1/128 reject\n";
        hba += "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n";
        fs::write(server.data_file("pg_hba.conf"), hba).unwrap();
        let authority = authority("an authority");
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &authority).unwrap();
        let server = Self { server, authority };
        server.present(&certificate.pem(), &key);
        server
    }

    fn present(&self, certificate: &str, key: &KeyPair) {
        fs::write(self.server.data_file("server.crt"), certificate).unwrap();
        let file = self.server.data_file("server.key");
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.set("ssl", "on");
    }

    fn set(&self, setting: &str, value: &str) {
        self.server.psql("postgres", &format!("ALTER SYSTEM SET {setting} = '{value}'"));
        self.server.psql("postgres", "SELECT pg_reload_conf()");
        // The postmaster takes the new files a moment later.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }

    fn access(&self, role: &str, host: &str, mode: &str, authorities: Option<&str>) -> DatabaseAccess {
        DatabaseAccess {
            host: host.to_owned(),
            port: self.server.port(),
            user: role.to_owned(),
            password: PASSWORD.into(),
            tls: Tls::new(mode, authorities.map(str::to_owned)).unwrap(),
        }
    }

    /// Whether the session is encrypted, or why there is none: the problem's code, message and next step.
    async fn outcome(
        &self,
        role: &str,
        host: &str,
        mode: &str,
        authorities: Option<&str>,
    ) -> Result<bool, (String, String)> {
        let client = match self.access(role, host, mode, authorities).connect("postgres").await {
            Ok(client) => client,
            Err(problem) => {
                assert!(problem.message.contains(host), "the server is not named: {problem}");
                assert!(!problem.remedy.is_empty());
                return Err((problem.code.to_owned(), format!("{} {}", problem.message, problem.remedy)));
            }
        };
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok(client.query_one(sql, &[]).await.unwrap().get(0))
    }
}

fn refused(outcome: Result<bool, (String, String)>, code: &str, says: &[&str]) {
    let (found, text) = outcome.unwrap_err();
    assert_eq!(found, code, "{text}");
    for words in says {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_does_what_libpq_does() {
    let server = TlsServer::start();
    let ours = server.authority.pem();
    let other = authority("another").pem();
    let (ours, other) = (Some(ours.as_str()), Some(other.as_str()));

    assert_eq!(server.outcome("encrypted", "localhost", "require", None).await, Ok(true));
    assert_eq!(server.outcome("encrypted", "127.0.0.1", "require", ours).await, Ok(true));
    let outcome = server.outcome("encrypted", "localhost", "require", other).await;
    refused(outcome, "database_tls_authority", &["sslrootcert"]);

    assert_eq!(server.outcome("encrypted", "127.0.0.1", "verify-ca", ours).await, Ok(true));
    assert_eq!(server.outcome("encrypted", "localhost", "verify-full", ours).await, Ok(true));
    let outcome = server.outcome("encrypted", "127.0.0.1", "verify-full", ours).await;
    refused(outcome, "database_tls_name", &["made out for another host", "verify-ca"]);
    for (mode, authorities) in [("verify-full", other), ("verify-full", None), ("verify-ca", other)] {
        let outcome = server.outcome("encrypted", "localhost", mode, authorities).await;
        refused(outcome, "database_tls_authority", &["no authority that is trusted", "sslrootcert"]);
    }

    let outcome = server.outcome("encrypted", "localhost", "disable", None).await;
    refused(outcome, "database_tls_required", &["encrypted", "sslmode=require"]);
    assert_eq!(server.outcome("either", "localhost", "disable", None).await, Ok(false));
    assert_eq!(server.outcome("either", "localhost", "allow", None).await, Ok(false));
    assert_eq!(server.outcome("encrypted", "localhost", "allow", None).await, Ok(true));
    assert_eq!(server.outcome("either", "localhost", "prefer", None).await, Ok(true));
    assert_eq!(server.outcome("plain", "localhost", "prefer", None).await, Ok(false));
    let outcome = server.outcome("plain", "localhost", "require", None).await;
    refused(outcome, "database_login", &["pg_hba.conf"]);

    server.set("ssl", "off");
    assert_eq!(server.outcome("either", "localhost", "prefer", None).await, Ok(false));
    let outcome = server.outcome("either", "localhost", "require", None).await;
    refused(outcome, "database_tls_missing", &["ssl = on", "prefer"]);
}

/// What PostgreSQL's documentation has people make: one certificate that is its own authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_s_own_certificate_is_taken_where_it_was_given_as_the_authority() {
    let server = TlsServer::start();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = parameters.self_signed(&key).unwrap().pem();
    server.present(&own, &key);
    assert_eq!(server.outcome("encrypted", "127.0.0.1", "verify-ca", Some(&own)).await, Ok(true));
    assert_eq!(server.outcome("encrypted", "localhost", "verify-full", Some(&own)).await, Ok(true));
    let outcome = server.outcome("encrypted", "127.0.0.1", "verify-full", Some(&own)).await;
    refused(outcome, "database_tls_name", &[]);
    let ours = server.authority.pem();
    let (code, text) = server.outcome("encrypted", "localhost", "verify-ca", Some(&ours)).await.unwrap_err();
    assert!(code.starts_with("database_tls_"), "{code} {text}");
}

/// The loader's role, the clone, the cutover: nothing speaks to the server by another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_restore_goes_through_a_server_that_takes_encrypted_sessions_only() {
    let server = TlsServer::start();
    let mut world = World::live(&server.server);
    world.target.admin =
        server.access("encrypted", "localhost", "verify-full", Some(&server.authority.pem()));
    let work = world.work();
    // The order to a mover is JSON.
    let work: restore::Assignment = serde_json::from_value(serde_json::to_value(&work).unwrap()).unwrap();
    stage(&work, &world.backup()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let with_clone = restore::Preparation { clone: true, ..preparation() };
    prepare(&work, &with_clone).await.unwrap();
    accept(&work).await.unwrap();
    cut_over(&world, &work.id, Side::Restored).await;
    cut_over(&world, &work.id, Side::Replaced).await;
}
