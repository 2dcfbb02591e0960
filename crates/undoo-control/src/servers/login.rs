//! How a server is reached: what is kept of it, its secrets sealed, and what somebody may have it changed to.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use undoo_core::{
    Kind, Problem, Result, ServerId,
    platform::{Permission, Scope, Server},
};
use undoo_storage::SshAccess;
use undoo_store::{Page, servers};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Caller, Control,
    control::{Named, invalid},
    plane::ServerAccess,
    storages::host_refused,
};

/// What is to be changed of how a server is reached; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct SshChange {
    /// Its name or address.
    pub host: Option<String>,
    /// The port of its SSH server.
    pub port: Option<u16>,
    /// Who logs in there.
    pub user: Option<String>,
    /// The password to log in with. With it or a key, everything that was there to log in with is replaced.
    pub password: Option<SecretString>,
    /// The private key to log in with.
    pub private_key: Option<SecretString>,
    /// What that key is encrypted with.
    pub passphrase: Option<SecretString>,
    /// The host key that a person has confirmed.
    pub host_key: Option<String>,
}

impl SshChange {
    /// The way to reach a server as it is to become; `None` where that stays as it is.
    ///
    /// What there is to log in with is kept only for the place and user that it was given for: nobody is to
    /// have it sent elsewhere without knowing it.
    pub(super) fn applied(&self, now: ServerAccess) -> Result<Option<ServerAccess>> {
        let Self { host, port, user, password, private_key, passphrase, host_key } = self;
        let credentials = password.is_some() || private_key.is_some() || passphrase.is_some();
        if !credentials && host.is_none() && port.is_none() && user.is_none() && host_key.is_none() {
            return Ok(None);
        }
        let ServerAccess::Ssh(now) = now else {
            let message = "this server is the machine that the workers run on, and nobody logs in to it";
            return Err(invalid("server_is_here", message, "Leave the address and the login out."));
        };
        let mut access = now.clone();
        access.host = host.clone().unwrap_or(access.host);
        access.port = port.or(access.port);
        access.user = user.clone().unwrap_or(access.user);
        let place = |access: &SshAccess| (access.host.clone(), access.port.unwrap_or(22));
        let moved = place(&access) != place(&now);
        if moved {
            access.host_key = None;
        }
        access.host_key = host_key.clone().or(access.host_key);
        if credentials {
            access.password = password.clone();
            access.private_key = private_key.clone();
            access.passphrase = passphrase.clone();
        } else if moved || access.user != now.user {
            return Err(login_missing(
                "for another address or user, what to log in with has to be given again",
            ));
        }
        Ok(Some(ServerAccess::Ssh(access)))
    }
}

/// What of a login is secret, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<String>,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        for secret in [&mut self.password, &mut self.private_key, &mut self.passphrase] {
            secret.zeroize();
        }
    }
}

fn about(id: ServerId) -> String {
    format!("server {id}")
}

impl Control {
    /// How a server is reached, with its secrets.
    pub(crate) fn server_access(&self, server: &Server) -> Result<ServerAccess> {
        let Some(host) = server.ip_address.clone() else { return Ok(ServerAccess::Here) };
        let mut secrets = match &server.sealed {
            None => Secrets { password: None, private_key: None, passphrase: None },
            Some(sealed) => {
                let plain = self.sealer.open(&about(server.id), sealed)?;
                serde_json::from_slice(&plain).map_err(|error| unreadable(server.id).caused_by(error))?
            }
        };
        let port = server.ssh_port.map(u16::try_from).transpose();
        Ok(ServerAccess::Ssh(SshAccess {
            host,
            port: port.map_err(|error| unreadable(server.id).caused_by(error))?,
            user: server.ssh_user.clone().unwrap_or_default(),
            password: secrets.password.take().map(SecretString::from),
            private_key: secrets.private_key.take().map(SecretString::from),
            passphrase: secrets.passphrase.take().map(SecretString::from),
            host_key: server.host_key.clone(),
        }))
    }

    /// Writes into a server how it is reached.
    pub(super) fn login_keep(&self, server: &mut Server, access: &ServerAccess) -> Result<()> {
        let ServerAccess::Ssh(ssh) = access else { return Ok(()) };
        let text =
            |secret: &Option<SecretString>| secret.as_ref().map(|text| text.expose_secret().to_owned());
        let secrets = Secrets {
            password: text(&ssh.password),
            private_key: text(&ssh.private_key),
            passphrase: text(&ssh.passphrase),
        };
        let plain = serde_json::to_vec(&secrets).map(Zeroizing::new).map_err(|error| {
            let message = "what to log in with could not be written";
            Problem::new(Kind::Internal, "login_unwritable", message, "please report this").caused_by(error)
        })?;
        server.sealed = Some(self.sealer.seal(&about(server.id), &plain)?);
        server.ip_address = Some(ssh.host.clone());
        server.ssh_port = ssh.port.map(i32::from);
        server.ssh_user = Some(ssh.user.clone());
        server.host_key = ssh.host_key.as_deref().map(|key| key.trim().to_owned());
        Ok(())
    }

    /// Refuses what somebody may not have reached: the machine that the workers run on, and what leads back to
    /// it, are for who administers the platform.
    pub(super) async fn may_reach(&self, caller: &Caller, access: &ServerAccess) -> Result<()> {
        let ServerAccess::Ssh(ssh) = access else {
            let named = Named("platform", "itself (the machine that its workers run on)");
            return self.allow(caller, Permission::PlatformManage, Scope::Platform, &named);
        };
        if ssh.host.is_empty() || !ssh.host.chars().all(|c| c.is_ascii_graphic()) {
            let message = format!("\"{}\" is not the name or address of a server", ssh.host.escape_debug());
            return Err(invalid("address_invalid", message, "Give it without a scheme, user or port."));
        }
        if ssh.password.is_none() && ssh.private_key.is_none() {
            return Err(login_missing("there is neither a password nor a private key to log in with"));
        }
        let reach = self.reach_to(caller, &ssh.host).await;
        reach.map(drop).ok_or_else(|| host_refused("server_host_refused", &ssh.host))
    }

    /// Seals with the key of now what an older one has sealed. Answers how many there were.
    pub(crate) async fn servers_rotate(&self) -> Result<u64> {
        let (mut rotated, mut page) = (0, Page { page: 1, size: 100 });
        loop {
            let listed = servers::all(&self.store, page).await?;
            for server in &listed.items {
                rotated += u64::from(self.server_rotate(server.id).await?);
            }
            if (listed.items.len() as u64) < page.size {
                return Ok(rotated);
            }
            page.page += 1;
        }
    }

    async fn server_rotate(&self, id: ServerId) -> Result<bool> {
        let tx = self.store.begin().await?;
        let Some(mut server) = servers::locked(&tx, id).await? else { return Ok(false) };
        let Some(sealed) = &server.sealed else { return Ok(false) };
        let Some(renewed) = self.sealer.renewed(&about(id), sealed)? else { return Ok(false) };
        server.sealed = Some(renewed);
        servers::update(&tx, &server).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Whether a server is reached in the same way as before.
pub(super) fn is_same(before: &Server, now: &Server) -> bool {
    let way = |server: &Server| {
        let Server { ip_address, ssh_port, ssh_user, host_key, sealed, .. } = server.clone();
        (ip_address, ssh_port, ssh_user, host_key, sealed)
    };
    way(before) == way(now)
}

/// Refuses what would be reached without knowing that it is the right machine.
pub(super) fn is_pinned(access: &ServerAccess) -> Result<()> {
    match access {
        ServerAccess::Ssh(SshAccess { host_key: None, host, .. }) => Err(Problem::new(
            Kind::Denied,
            "host_key_unknown",
            format!("nobody has confirmed that the host key of {host} is the right one"),
            "Test the server, compare the key that it shows with the server's own, and send it along.",
        )),
        _ => Ok(()),
    }
}

fn login_missing(message: &str) -> Problem {
    invalid("login_missing", message, "Give a password or a private key.")
}

fn unreadable(id: ServerId) -> Problem {
    let message = format!("how server {id} is reached cannot be read");
    Problem::new(Kind::Internal, "login_unreadable", message, "give its address and login again")
}
