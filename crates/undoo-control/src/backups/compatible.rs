//! Where a backup can be restored to.

use undoo_core::{
    BackupId, Result,
    platform::{Backup, Decision, Environment, Permission, Scope, Server, ServerStatus},
};
use undoo_store::{Listed, Page, environments, servers};

use crate::{Caller, Control, control::Named};

/// An environment that a backup can be restored to.
#[derive(Debug, Clone)]
pub struct CompatibleEnvironment {
    /// It.
    pub environment: Environment,
    /// The server that it is on.
    pub server_name: String,
}

/// A server that a backup could be restored to as a new environment, and what it has left.
#[derive(Debug, Clone)]
pub struct CompatibleServer {
    /// It.
    pub server: Server,
    /// Cores that are not promised to an environment.
    pub available_cpu: i32,
    /// MiB of memory that are not.
    pub available_ram_mb: i32,
    /// GiB of disk that are not.
    pub available_disk_gb: i32,
    /// Environments on it.
    pub current_environments: u64,
    /// Whether it has what the source has, and is there.
    pub recommended: bool,
    /// Whether it has what the source has.
    pub has_sufficient_resources: bool,
    /// What it lacks.
    pub incompatibility_reason: Option<String>,
}

impl Control {
    /// Environments of the backup's project that are on a server and that the caller may see.
    ///
    /// # Errors
    /// As [`Control::backup_get`].
    pub async fn compatible_environments(
        &self,
        caller: &Caller,
        id: BackupId,
    ) -> Result<Vec<CompatibleEnvironment>> {
        let backup = self.backup_get(caller, id).await?;
        let scope = Scope::Project(backup.organisation_id, backup.project_id);
        self.allow(caller, Permission::EnvironmentsView, scope, &Named("backup", id))?;
        let servers = self.all_servers(&backup).await?;
        let environments = self.all_environments(&backup, true).await?;
        let on_one = environments.into_iter().filter_map(|environment| {
            let server = servers.iter().find(|server| Some(server.id) == environment.server_id)?;
            let server_name = server.name.clone();
            Some(CompatibleEnvironment { environment, server_name })
        });
        Ok(on_one.collect())
    }

    /// The organisation's servers, with what each has left for another environment like the backup's.
    ///
    /// # Errors
    /// As [`Control::backup_get`] and [`Control::allow`], for `org.servers.view`.
    pub async fn compatible_servers(&self, caller: &Caller, id: BackupId) -> Result<Vec<CompatibleServer>> {
        let backup = self.backup_get(caller, id).await?;
        let organisation = Scope::Organisation(backup.organisation_id);
        if caller.grants.decide(Permission::OrgServersView, organisation) != Decision::Granted {
            self.allow(caller, Permission::OrgServersView, organisation, &Named("backup", id))?;
        }
        let source = environments::get(&self.store, backup.environment_id).await?;
        let need = Need::of(source.as_ref());
        let environments = self.all_environments(&backup, false).await?;
        let servers = self.all_servers(&backup).await?;
        Ok(servers.into_iter().map(|server| need.against(server, &environments)).collect())
    }

    async fn all_servers(&self, backup: &Backup) -> Result<Vec<Server>> {
        all(|page| servers::list(&self.store, backup.organisation_id, page)).await
    }

    async fn all_environments(&self, backup: &Backup, of_project: bool) -> Result<Vec<Environment>> {
        let project = [backup.project_id];
        let projects = of_project.then_some(&project[..]);
        let organisation = Some(backup.organisation_id);
        all(|page| environments::list(&self.store, organisation, projects, page)).await
    }
}

/// Every page of a list, one after another.
async fn all<T, F: Future<Output = Result<Listed<T>>>>(list: impl Fn(Page) -> F) -> Result<Vec<T>> {
    let mut page = Page { page: 1, size: 100 };
    let mut all = Vec::new();
    loop {
        let listed = list(page).await?;
        let full = listed.items.len() as u64 >= page.size;
        all.extend(listed.items);
        if !full {
            return Ok(all);
        }
        page.page += 1;
    }
}

/// What an environment takes; what is not known is assumed as the source document does.
struct Need {
    cpu: i32,
    ram_mb: i32,
    disk_gb: i32,
}

impl Need {
    fn of(source: Option<&Environment>) -> Self {
        Self {
            cpu: source.and_then(|source| source.cpu_cores).unwrap_or(2),
            ram_mb: source.and_then(|source| source.ram_mb).unwrap_or(2048),
            disk_gb: source.and_then(|source| source.disk_gb).unwrap_or(10),
        }
    }

    fn against(&self, server: Server, environments: &[Environment]) -> CompatibleServer {
        let on_it = || environments.iter().filter(|environment| environment.server_id == Some(server.id));
        let left = |has: Option<i32>, used: fn(&Environment) -> Option<i32>| {
            let used = on_it().fold(0i32, |sum, one| sum.saturating_add(used(one).unwrap_or(0)));
            has.unwrap_or(0).saturating_sub(used).max(0)
        };
        let available_cpu = left(server.cpu_cores, |one| one.cpu_cores);
        let memory = server.memory_gb.map(|gb| gb.saturating_mul(1024));
        let available_ram_mb = left(memory, |one| one.ram_mb);
        let available_disk_gb = left(server.disk_gb, |one| one.disk_gb);
        let lacks = |what: &str, available: i32, required: i32| {
            let sentence = format!("Insufficient {what} (available: {available}, required: {required})");
            (available < required).then_some(sentence)
        };
        let incompatibility_reason = lacks("CPU", available_cpu, self.cpu)
            .or_else(|| lacks("RAM", available_ram_mb, self.ram_mb))
            .or_else(|| lacks("disk", available_disk_gb, self.disk_gb));
        let has_sufficient_resources = incompatibility_reason.is_none();
        CompatibleServer {
            available_cpu,
            available_ram_mb,
            available_disk_gb,
            current_environments: on_it().count() as u64,
            recommended: has_sufficient_resources && server.status == ServerStatus::Online,
            has_sufficient_resources,
            incompatibility_reason,
            server,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use undoo_core::{OrganisationId, ServerId};

    use super::*;

    #[test]
    fn a_server_that_lacks_something_says_what_and_how_much() {
        let server = Server {
            id: ServerId::generate(),
            organisation_id: OrganisationId::generate(),
            name: "s".into(),
            ip_address: None,
            cpu_cores: Some(2),
            memory_gb: Some(8),
            disk_gb: Some(100),
            status: ServerStatus::Online,
            task_limit: 1,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let found = Need { cpu: 4, ram_mb: 2048, disk_gb: 10 }.against(server.clone(), &[]);
        let reason = "Insufficient CPU (available: 2, required: 4)";
        assert_eq!(found.incompatibility_reason.as_deref(), Some(reason));
        assert!(!found.recommended);
        let found = Need { cpu: 2, ram_mb: 2048, disk_gb: 10 }.against(server, &[]);
        assert!(found.recommended && found.available_ram_mb == 8192);
    }
}
