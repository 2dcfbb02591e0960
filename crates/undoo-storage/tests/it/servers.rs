//! The access to the real file servers of the tests.

use undoo_storage::{Access, FtpAccess, FtpTls, SftpAccess, SshAccess};
pub(crate) use undoo_testing::servers::{PASSWORD, Server, USER};

pub(crate) fn ssh(server: &Server, port: u16) -> SshAccess {
    SshAccess {
        host: "127.0.0.1".into(),
        port: Some(port),
        user: USER.into(),
        password: None,
        private_key: Some(server.key.clone().into()),
        passphrase: None,
        host_key: Some(server.host_key.clone()),
    }
}

pub(crate) fn sftp(server: &Server, port: u16, path: &str) -> SftpAccess {
    SftpAccess { ssh: ssh(server, port), path: path.into() }
}

pub(crate) fn ftp(port: u16, path: &str) -> FtpAccess {
    FtpAccess {
        host: "127.0.0.1".into(),
        port: Some(port),
        user: Some(USER.into()),
        password: Some(PASSWORD.into()),
        path: path.into(),
        tls: FtpTls::Prefer,
    }
}

/// The same as an access.
pub(crate) fn sftp_access(server: &Server, path: &str) -> Access {
    Access::Sftp(sftp(server, server.port, path))
}
