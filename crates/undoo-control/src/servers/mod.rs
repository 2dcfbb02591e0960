//! Servers of an organisation: added once they were reached, changed, drained, and removed when nothing is on
//! them. What is on a server is never touched by any of this.

mod health;
mod login;

use serde_json::{Value, json};
use undoo_core::{
    Kind, OrganisationId, Problem, Result, ServerId,
    platform::{Capacity, Permission, Scope, Server, ServerStatus},
};
use undoo_store::{Connection, Listed, Page, servers};

pub use self::{health::ServerTested, login::SshChange};
use crate::{
    Caller, Control,
    backups::all,
    control::{Named, invalid, name_of},
    plane::ServerAccess,
};

/// A server that is to be added.
#[derive(Debug, Clone)]
pub struct NewServer {
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub access: ServerAccess,
    /// What environments may have of it; what is `None` is all that there is.
    pub limit: Capacity,
    /// Restores and backups that may run on it side by side; `None` for the platform's setting.
    pub task_limit: Option<i32>,
}

/// What is to be changed of a server; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct ServerChange {
    /// Its name.
    pub name: Option<String>,
    /// How it is reached.
    pub ssh: SshChange,
    /// Cores that environments may have of it; `Some(None)` for all that there are.
    pub cpu_cores_limit: Option<Option<i32>>,
    /// Memory that they may have, in GiB.
    pub memory_gb_limit: Option<Option<i32>>,
    /// Disk that they may have, in GiB.
    pub disk_gb_limit: Option<Option<i32>>,
    /// Restores and backups that may run on it side by side.
    pub task_limit: Option<i32>,
    /// Whether nothing new is to be put on it.
    pub draining: Option<bool>,
}

impl Control {
    /// A server.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.view`.
    pub async fn server_get(&self, caller: &Caller, id: ServerId) -> Result<Server> {
        self.server_for(&self.store, caller, id, Permission::OrgServersView).await
    }

    async fn server_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: ServerId,
        permission: Permission,
    ) -> Result<Server> {
        let named = Named("server", id);
        let server = servers::get(on, id).await?.ok_or_else(|| named.missing())?;
        self.allow(caller, permission, Scope::Organisation(server.organisation_id), &named)?;
        Ok(server)
    }

    /// An organisation's servers.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.view`.
    pub async fn server_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<Server>> {
        self.servers_of(caller, organisation, Permission::OrgServersView)?;
        servers::list(&self.store, organisation, page).await
    }

    fn servers_of(&self, caller: &Caller, id: OrganisationId, permission: Permission) -> Result<()> {
        self.allow(caller, permission, Scope::Organisation(id), &Named("organisation", id))
    }

    /// Adds a server that was just reached.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.manage`, and `platform.manage` for the machine that the workers
    /// run on; `server_host_refused` (`Denied`); `login_missing`, `limit_invalid` (`Invalid`); `name_taken`,
    /// `server_known` (`Conflict`); those of the data plane, `host_key_unknown` first of all.
    pub async fn server_add(&self, caller: &Caller, new: NewServer) -> Result<Server> {
        let organisation = new.organisation_id;
        self.servers_of(caller, organisation, Permission::OrgServersManage)?;
        let (now, id) = (self.now(), ServerId::generate());
        let mut server = Server {
            id,
            organisation_id: organisation,
            name: name_of(&new.name)?,
            ip_address: None,
            ssh_port: None,
            ssh_user: None,
            host_key: None,
            sealed: None,
            has: Capacity::default(),
            limit: new.limit,
            free_disk_gb: None,
            docker_version: None,
            status: ServerStatus::Online,
            checked_at: None,
            unreachable_since: None,
            last_problem: None,
            draining: false,
            task_limit: new.task_limit.unwrap_or(self.settings.server_task_limit),
            created_at: now,
        };
        limits_fit(&server)?;
        self.may_reach(caller, &new.access).await?;
        self.login_keep(&mut server, &new.access)?;
        self.not_known(&self.store, &server).await?;
        let found = self.look_by(&new.access).await?;
        login::is_pinned(&new.access)?;
        health::observe(&mut server, &Ok(found), now);
        let tx = self.store.begin().await?;
        self.not_known(&tx, &server).await?;
        servers::insert(&tx, &server).await?;
        self.note(&tx, Some(caller), organisation, "server.added", id, noted(&server)).await?;
        tx.commit().await?;
        Ok(server)
    }

    /// Changes a server. Where it is reached in another way, it is reached that way first.
    ///
    /// # Errors
    /// As [`Control::server_add`]; `login_missing` (`Invalid`) for another address or user without what to log
    /// in with there; `server_is_here` (`Invalid`) for a login to the machine that the workers run on.
    pub async fn server_update(&self, caller: &Caller, id: ServerId, change: ServerChange) -> Result<Server> {
        let seen = self.server_for(&self.store, caller, id, Permission::OrgServersManage).await?;
        let access = change.ssh.applied(self.server_access(&seen)?)?;
        let found = match &access {
            None => None,
            Some(access) => {
                self.may_reach(caller, access).await?;
                let found = self.look_by(access).await?;
                login::is_pinned(access)?;
                Some(found)
            }
        };
        let tx = self.store.begin().await?;
        servers::locked(&tx, id).await?;
        let mut server = self.server_for(&tx, caller, id, Permission::OrgServersManage).await?;
        if let Some(name) = &change.name {
            server.name = name_of(name)?;
        }
        if let Some(access) = &access {
            if !login::is_same(&seen, &server) {
                return Err(changed_meanwhile());
            }
            self.login_keep(&mut server, access)?;
            self.not_known(&tx, &server).await?;
        }
        if let Some(found) = found {
            health::observe(&mut server, &Ok(found), self.now());
        }
        let limit = &mut server.limit;
        limit.cpu_cores = change.cpu_cores_limit.unwrap_or(limit.cpu_cores);
        limit.memory_gb = change.memory_gb_limit.unwrap_or(limit.memory_gb);
        limit.disk_gb = change.disk_gb_limit.unwrap_or(limit.disk_gb);
        server.task_limit = change.task_limit.unwrap_or(server.task_limit);
        server.draining = change.draining.unwrap_or(server.draining);
        limits_fit(&server)?;
        servers::update(&tx, &server).await?;
        self.note(&tx, Some(caller), server.organisation_id, "server.changed", id, noted(&server)).await?;
        tx.commit().await?;
        Ok(server)
    }

    /// Forgets a server that nothing is on any more. The server itself is not touched.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.manage`; `server_in_use` (`Conflict`).
    pub async fn server_remove(&self, caller: &Caller, id: ServerId) -> Result<()> {
        let tx = self.store.begin().await?;
        servers::locked(&tx, id).await?;
        let server = self.server_for(&tx, caller, id, Permission::OrgServersManage).await?;
        let used = servers::in_use(&tx, id).await?;
        let by = match used {
            servers::InUse { environment: Some(name), .. } => Some(format!("environment \"{name}\" is")),
            servers::InUse { kept_pair: Some(id), .. } => {
                Some(format!("the pair that restore {id} keeps is"))
            }
            servers::InUse { task: Some(id), .. } => Some(format!("task {id} is at work")),
            servers::InUse { environment: None, kept_pair: None, task: None } => None,
        };
        if let Some(by) = by {
            return Err(Problem::new(
                Kind::Conflict,
                "server_in_use",
                format!("{by} on the server \"{}\"", server.name),
                "Move its environments, or delete them one by one, and let undo windows end; `draining` keeps new \
                 ones away meanwhile.",
            ));
        }
        servers::delete(&tx, id).await?;
        self.note(&tx, Some(caller), server.organisation_id, "server.removed", id, noted(&server)).await?;
        tx.commit().await
    }

    /// One machine is one server of an organisation: its capacity is there once.
    async fn not_known(&self, on: &impl Connection, new: &Server) -> Result<()> {
        let known = all(|page| servers::list(on, new.organisation_id, page)).await?;
        let port = |server: &Server| server.ssh_port.unwrap_or(22);
        let same = known.iter().find(|known| {
            known.id != new.id && known.ip_address == new.ip_address && port(known) == port(new)
        });
        match same {
            None => Ok(()),
            Some(same) => Err(Problem::new(
                Kind::Conflict,
                "server_known",
                format!("the server \"{}\" has the same address", same.name),
                "Use that one, or change it.",
            )),
        }
    }
}

fn limits_fit(server: &Server) -> Result<()> {
    let Capacity { cpu_cores, memory_gb, disk_gb } = server.limit;
    if [cpu_cores, memory_gb, disk_gb].iter().flatten().any(|limit| *limit < 1) || server.task_limit < 0 {
        let message = "a limit is at least 1, and tasks side by side are at least 0";
        return Err(invalid("limit_invalid", message, "Give another number."));
    }
    Ok(())
}

fn changed_meanwhile() -> Problem {
    let message = "how the server is reached was changed by somebody else at the same time";
    Problem::new(Kind::Conflict, "changed_meanwhile", message, "Look at it again, then decide.")
}

/// What the audit log has of a server: nothing that is secret.
fn noted(server: &Server) -> Value {
    json!({
        "name": server.name,
        "ip_address": server.ip_address,
        "ssh_port": server.ssh_port,
        "ssh_user": server.ssh_user,
        "host_key": server.host_key,
        "draining": server.draining,
    })
}
