//! Where a backup can be restored to.

use undoo_core::{
    BackupId, OrganisationId, Result,
    platform::{Backup, Decision, Environment, Permission, Scope, Server, ServerStatus, recovery::Resources},
};
use undoo_store::{Connection, Listed, Page, environments, restore_points, servers};

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
    /// Whether it has what the source has, is there, and takes new environments.
    pub recommended: bool,
    /// Whether it has what the source has.
    pub has_sufficient_resources: bool,
    /// What it lacks, or why nothing is to be put on it.
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
        let (organisation, projects) = (Some(backup.organisation_id), [backup.project_id]);
        let of_project = |page| environments::list(&self.store, organisation, Some(&projects[..]), page);
        let environments = all(of_project).await?;
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
        let servers = self.all_servers(&backup).await?;
        self.fits_of(&self.store, backup.organisation_id, servers, &need).await
    }

    /// What one server has left for something.
    pub(crate) async fn fit_of(
        &self,
        on: &impl Connection,
        server: Server,
        need: &Need,
    ) -> Result<CompatibleServer> {
        let (id, organisation) = (server.id, server.organisation_id);
        let fits = self.fits_of(on, organisation, vec![server], need).await?;
        fits.into_iter().next().ok_or_else(|| Named("server", id).missing())
    }

    /// What servers of an organisation have left for something.
    pub(crate) async fn fits_of(
        &self,
        on: &impl Connection,
        organisation: OrganisationId,
        servers: Vec<Server>,
        need: &Need,
    ) -> Result<Vec<CompatibleServer>> {
        let environments = all(|page| environments::list(on, Some(organisation), None, page)).await?;
        let kept = restore_points::kept_on_servers(on, organisation).await?;
        let found = servers.into_iter().map(|server| {
            let kept = kept.iter().filter(|(on, _)| *on == server.id).map(|(_, bytes)| *bytes);
            let kept = kept.fold(0, u64::saturating_add);
            need.against(server, &environments, kept)
        });
        Ok(found.collect())
    }

    async fn all_servers(&self, backup: &Backup) -> Result<Vec<Server>> {
        all(|page| servers::list(&self.store, backup.organisation_id, page)).await
    }
}

/// Every page of a list, one after another.
pub(crate) async fn all<T, F: Future<Output = Result<Listed<T>>>>(
    list: impl Fn(Page) -> F,
) -> Result<Vec<T>> {
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
pub(crate) struct Need {
    cpu: i32,
    ram_mb: i32,
    disk_gb: i32,
}

impl Need {
    pub(crate) fn of(source: Option<&Environment>) -> Self {
        Self {
            cpu: source.and_then(|source| source.cpu_cores).unwrap_or(2),
            ram_mb: source.and_then(|source| source.ram_mb).unwrap_or(2048),
            disk_gb: source.and_then(|source| source.disk_gb).unwrap_or(10),
        }
    }

    /// The same, to be taken off what a server has.
    pub(crate) fn resources(&self) -> Resources {
        Resources { cpu_cores: self.cpu, ram_mb: self.ram_mb, disk_gb: self.disk_gb }
    }

    /// `kept` is about how many bytes kept pairs have on the server's disk: they are promised to nobody and there
    /// all the same.
    fn against(&self, server: Server, environments: &[Environment], kept: u64) -> CompatibleServer {
        let on_it = || environments.iter().filter(|environment| environment.server_id == Some(server.id));
        let left = |has: Option<i32>, used: fn(&Environment) -> Option<i32>| {
            let used = on_it().fold(0i32, |sum, one| sum.saturating_add(used(one).unwrap_or(0)));
            has.unwrap_or(0).saturating_sub(used).max(0)
        };
        let capacity = server.capacity();
        let available_cpu = left(capacity.cpu_cores, |one| one.cpu_cores);
        let memory = capacity.memory_gb.map(|gb| gb.saturating_mul(1024));
        let available_ram_mb = left(memory, |one| one.ram_mb);
        let kept_gb = i32::try_from(kept.div_ceil(1 << 30)).unwrap_or(i32::MAX);
        let available_disk_gb = left(capacity.disk_gb, |one| one.disk_gb).saturating_sub(kept_gb).max(0);
        let lacks = |what: &str, available: i32, required: i32| {
            let sentence = format!("Insufficient {what} (available: {available}, required: {required})");
            (available < required).then_some(sentence)
        };
        let lacking = lacks("CPU", available_cpu, self.cpu)
            .or_else(|| lacks("RAM", available_ram_mb, self.ram_mb))
            .or_else(|| lacks("disk", available_disk_gb, self.disk_gb));
        let has_sufficient_resources = lacking.is_none();
        let unfit = match (server.draining, server.status) {
            (true, _) => Some("Server is draining"),
            (false, ServerStatus::Offline) => Some("Server is offline"),
            (false, ServerStatus::Online) => None,
        };
        let incompatibility_reason = lacking.or_else(|| unfit.map(str::to_owned));
        CompatibleServer {
            available_cpu,
            available_ram_mb,
            available_disk_gb,
            current_environments: on_it().count() as u64,
            recommended: incompatibility_reason.is_none(),
            has_sufficient_resources,
            incompatibility_reason,
            server,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use undoo_core::{OrganisationId, ServerId, platform::Capacity};

    use super::*;

    fn server() -> Server {
        Server {
            id: ServerId::generate(),
            organisation_id: OrganisationId::generate(),
            name: "s".into(),
            ip_address: None,
            ssh_port: None,
            ssh_user: None,
            host_key: None,
            sealed: None,
            has: Capacity { cpu_cores: Some(2), memory_gb: Some(8), disk_gb: Some(100) },
            limit: Capacity::default(),
            free_disk_gb: None,
            docker_version: None,
            status: ServerStatus::Online,
            checked_at: None,
            unreachable_since: None,
            last_problem: None,
            draining: false,
            task_limit: 1,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    const NEED: Need = Need { cpu: 2, ram_mb: 2048, disk_gb: 10 };

    #[test]
    fn a_server_that_lacks_something_says_what_and_how_much() {
        let found = Need { cpu: 4, ..NEED }.against(server(), &[], 0);
        let reason = "Insufficient CPU (available: 2, required: 4)";
        assert_eq!(found.incompatibility_reason.as_deref(), Some(reason));
        assert!(!found.recommended);
        let found = NEED.against(server(), &[], 0);
        assert!(found.recommended && found.available_ram_mb == 8192);
        let limit = Capacity { memory_gb: Some(1), ..Capacity::default() };
        let found = NEED.against(Server { limit, ..server() }, &[], 0);
        let reason = "Insufficient RAM (available: 1024, required: 2048)";
        assert_eq!(found.incompatibility_reason.as_deref(), Some(reason));
    }

    #[test]
    fn kept_pairs_take_disk() {
        let found = NEED.against(server(), &[], (90 << 30) + 1);
        assert_eq!(found.available_disk_gb, 9);
        let reason = "Insufficient disk (available: 9, required: 10)";
        assert_eq!(found.incompatibility_reason.as_deref(), Some(reason));
    }

    #[test]
    fn a_server_that_drains_or_is_silent_is_not_recommended_and_says_why() {
        let draining = NEED.against(Server { draining: true, ..server() }, &[], 0);
        assert!(draining.has_sufficient_resources && !draining.recommended);
        assert_eq!(draining.incompatibility_reason.as_deref(), Some("Server is draining"));
        let silent = NEED.against(Server { status: ServerStatus::Offline, ..server() }, &[], 0);
        assert!(silent.has_sufficient_resources && !silent.recommended);
        assert_eq!(silent.incompatibility_reason.as_deref(), Some("Server is offline"));
    }
}
