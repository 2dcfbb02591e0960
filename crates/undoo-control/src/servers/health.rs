//! Looking at servers: what comes of it is answered, and noted with the server.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use undoo_core::{
    Kind, OrganisationId, Problem, Result, ServerId,
    platform::{Capacity, Permission, Server, ServerStatus},
};
use undoo_storage::host_key_in;
use undoo_store::servers;

use super::login;
use crate::{
    Caller, Control,
    plane::{ServerAccess, ServerFacts},
};

/// How long looking at a server may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the test of a server came to.
#[derive(Debug)]
pub struct ServerTested {
    /// What it has, or why that could not be seen.
    pub found: Result<ServerFacts>,
    /// The fingerprint of its host key, where that is what a person has to confirm.
    pub host_key: Option<String>,
}

impl Control {
    /// Reaches a server, and keeps nothing of how.
    ///
    /// # Errors
    /// As [`Control::server_add`], but for those of the data plane, which are in the answer.
    pub async fn server_test(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        access: &ServerAccess,
    ) -> Result<ServerTested> {
        self.servers_of(caller, organisation, Permission::OrgServersManage)?;
        self.may_reach(caller, access).await?;
        let found = self.look_by(access).await;
        let host_key = found.as_ref().err().and_then(host_key_in).map(|key| key.fingerprint.clone());
        Ok(ServerTested { found, host_key })
    }

    /// Looks at a server now. That it does not answer is in what is answered of it.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.manage`.
    pub async fn server_verify(&self, caller: &Caller, id: ServerId) -> Result<Server> {
        let server = self.server_for(&self.store, caller, id, Permission::OrgServersManage).await?;
        let found = self.look_at(&server).await;
        match self.server_observed(&server, &found, Some(caller)).await? {
            Some(server) => Ok(server),
            // It was removed, or is reached in another way since.
            None => self.server_get(caller, id).await,
        }
    }

    /// Looks at a server as it is kept.
    pub(crate) async fn look_at(&self, server: &Server) -> Result<ServerFacts> {
        self.look_by(&self.server_access(server)?).await
    }

    pub(super) async fn look_by(&self, access: &ServerAccess) -> Result<ServerFacts> {
        match tokio::time::timeout(PATIENCE, self.plane.look(access)).await {
            Ok(found) => found,
            Err(_) => Err(Problem::new(
                Kind::Unavailable,
                "server_silent",
                format!("the server did not say within {} seconds how it is", PATIENCE.as_secs()),
                "Look at its load, and at its Docker Engine: does `docker info` answer there?",
            )),
        }
    }

    /// Notes what was seen of a server, if it is still there and reached as it was then. What others want of it
    /// meanwhile stays. Answers it as it now is.
    pub(crate) async fn server_observed(
        &self,
        seen: &Server,
        found: &Result<ServerFacts>,
        by: Option<&Caller>,
    ) -> Result<Option<Server>> {
        let tx = self.store.begin().await?;
        let now = servers::locked(&tx, seen.id).await?;
        let Some(mut server) = now.filter(|now| login::is_same(seen, now)) else { return Ok(None) };
        let before = server.status;
        observe(&mut server, found, self.now());
        servers::update(&tx, &server).await?;
        if by.is_some() || server.status != before {
            let data = json!({ "status": server.status, "problem": server.last_problem });
            let action = match by {
                Some(_) => "server.verified".to_owned(),
                None => format!("server.{}", server.status),
            };
            self.note(&tx, by, server.organisation_id, &action, server.id, data).await?;
        }
        tx.commit().await?;
        Ok(Some(server))
    }
}

/// Writes into a server what was seen of it.
pub(super) fn observe(server: &mut Server, found: &Result<ServerFacts>, now: Timestamp) {
    server.checked_at = Some(now);
    match found {
        Ok(found) => {
            server.status = ServerStatus::Online;
            (server.unreachable_since, server.last_problem) = (None, None);
            server.docker_version = Some(found.docker_version.clone());
            server.has = Capacity {
                cpu_cores: Some(found.cpu_cores),
                memory_gb: Some(found.memory_gb),
                disk_gb: found.disk_gb.or(server.has.disk_gb),
            };
            server.free_disk_gb = found.free_disk_gb.or(server.free_disk_gb);
        }
        Err(problem) => {
            server.status = ServerStatus::Offline;
            server.unreachable_since.get_or_insert(now);
            server.last_problem = Some(sentence(problem));
        }
    }
}

/// What went wrong and what can be done about it.
fn sentence(problem: &Problem) -> String {
    let (said, next) = (problem.message.trim_end_matches('.'), problem.next_step());
    if next.is_empty() { format!("{said}.") } else { format!("{said}. {next}") }
}
