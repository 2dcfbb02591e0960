//! The environment that a restore makes: whether it may, whether there is room, and what it is to be.

use undoo_core::{
    EnvironmentId, Finding, Kind, OrganisationId, Problem, Result, ServerId,
    platform::{
        Backup, DeploymentRecord, Environment, EnvironmentStatus, Names, Permission, RestoreMode, Scope,
        Server, ServerStatus, images,
    },
};
use undoo_store::{Connection, servers};

use super::wish::NewEnvironment;
use crate::{
    Caller, Control,
    backups::Need,
    control::{Named, invalid, name_of},
};

/// Code of the finding that a server has less left than the environment is to have. It can be accepted.
pub(super) const SERVER_FULL: &str = "server_full";

/// An environment that is to be made.
pub(super) struct Made {
    pub environment: Environment,
    pub deployment: DeploymentRecord,
    /// What there is to say of its server.
    pub findings: Vec<Finding>,
}

impl Control {
    /// What a restore would make; nothing is kept of it yet.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore` and `project.environments.create`, and across servers
    /// `org.servers.view`; `not_found` (`Missing`) for a server of another organisation; `no_server`,
    /// `same_server`, `deployment_invalid` (`Invalid`); `server_draining`, `server_full` (`Conflict`).
    pub(super) async fn environment_for_restore(
        &self,
        on: &impl Connection,
        caller: &Caller,
        mode: RestoreMode,
        new: &NewEnvironment,
        accept: &[String],
        (backup, source): (&Backup, &Environment),
    ) -> Result<Made> {
        let (organisation, project) = (source.organisation_id, source.project_id);
        let named = Named("project", project);
        let scope = Scope::Environment(organisation, project, new.environment_type);
        self.allow(caller, Permission::BackupsRestore, scope, &named)?;
        self.allow(caller, Permission::EnvironmentsCreate, Scope::Project(organisation, project), &named)?;
        if mode == RestoreMode::CrossServer || new.server_id.is_some_and(|id| Some(id) != source.server_id) {
            let named = Named("organisation", organisation);
            self.allow(caller, Permission::OrgServersView, Scope::Organisation(organisation), &named)?;
        }
        let server = self.server_for_restore(on, mode, new, source).await?;
        let findings = self.server_fits(on, &server, source, accept).await?;
        let environment = self.environment_like(source, new, backup, &server, caller)?;
        let snapshot = backup.environment_snapshot.as_ref();
        let deployment = self.deployment_new(&environment, &new.deployment, snapshot)?;
        Ok(Made { environment, deployment, findings })
    }

    async fn server_for_restore(
        &self,
        on: &impl Connection,
        mode: RestoreMode,
        new: &NewEnvironment,
        source: &Environment,
    ) -> Result<Server> {
        let id = new.server_id.or(source.server_id).ok_or_else(|| {
            let message = format!("environment \"{}\" has no server, and none is named", source.name);
            invalid("no_server", message, "Name it: `target.new_environment.server_id`.")
        })?;
        let server = self.server_taking(on, source.organisation_id, id).await?;
        if mode == RestoreMode::CrossServer && Some(server.id) == source.server_id {
            return Err(invalid(
                "same_server",
                format!("the backup's environment is on the server \"{}\" already", server.name),
                "Use mode new, or name another server.",
            ));
        }
        Ok(server)
    }

    /// A server of an organisation that takes something new.
    ///
    /// # Errors
    /// `not_found` (`Missing`); `server_draining` (`Conflict`).
    pub(crate) async fn server_taking(
        &self,
        on: &impl Connection,
        organisation: OrganisationId,
        id: ServerId,
    ) -> Result<Server> {
        let server = servers::get(on, id).await?;
        let server = server.filter(|server| server.organisation_id == organisation);
        let server = server.ok_or_else(|| Named("server", id).missing())?;
        if server.draining {
            return Err(Problem::new(
                Kind::Conflict,
                "server_draining",
                format!("the server \"{}\" is draining and takes nothing new", server.name),
                "Choose another server, or end its draining.",
            ));
        }
        Ok(server)
    }

    /// Whether a server has what an environment has; less than that has to be accepted.
    pub(crate) async fn server_fits(
        &self,
        on: &impl Connection,
        server: &Server,
        source: &Environment,
        accept: &[String],
    ) -> Result<Vec<Finding>> {
        let fit = self.fit_of(on, server.clone(), &Need::of(Some(source))).await?;
        let mut findings = Vec::new();
        if !fit.has_sufficient_resources {
            let lacking = fit.incompatibility_reason.unwrap_or_default();
            let message = format!("the server \"{}\" has not enough left: {lacking}", server.name);
            let remedy = "Choose another server (`compatible-servers` lists what each has left), or accept it: limits \
                          are then promised twice.";
            if !accept.iter().any(|code| code == SERVER_FULL) {
                return Err(Problem::new(Kind::Conflict, SERVER_FULL, message, remedy));
            }
            findings.push(Finding::warning(SERVER_FULL, message, remedy));
        }
        if server.status == ServerStatus::Offline {
            findings.push(Finding::warning(
                "server_offline",
                format!("the server \"{}\" did not answer when it was last looked at", server.name),
                "The restore tries, and fails if it still does not.",
            ));
        }
        Ok(findings)
    }

    /// The environment as the source document makes it: resources are the source's.
    fn environment_like(
        &self,
        source: &Environment,
        new: &NewEnvironment,
        backup: &Backup,
        server: &Server,
        caller: &Caller,
    ) -> Result<Environment> {
        let id = EnvironmentId::generate();
        let snapshot = backup.environment_snapshot.as_ref();
        let version = images::odoo_version(snapshot).or_else(|| source.odoo_version.clone());
        Ok(Environment {
            id,
            organisation_id: source.organisation_id,
            project_id: source.project_id,
            name: name_of(&new.name)?,
            environment_type: new.environment_type,
            status: EnvironmentStatus::Pending,
            server_id: Some(server.id),
            container: Some(Names::new(&self.settings.deploy_prefix, id).odoo()),
            database_name: Some(id.to_string()),
            odoo_version: version,
            odoo_image: Some(new.odoo_image.clone().unwrap_or_else(|| images::odoo_image(snapshot))),
            postgres_version: None,
            domain: new.domain.clone(),
            cpu_cores: source.cpu_cores,
            ram_mb: source.ram_mb,
            disk_gb: source.disk_gb,
            storage_id: source.storage_id,
            created_by: Some(caller.user.id),
            created_at: self.now(),
            deleted_at: None,
        })
    }
}
