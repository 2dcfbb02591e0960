//! Environments. An Odoo that runs already is adopted: it is looked at, what was found is confirmed by a
//! person, and nothing of it is changed.

use serde_json::json;
use undoo_core::{
    EnvironmentId, Kind, OrganisationId, Problem, ProjectId, Result, ServerId, StorageId,
    platform::{Environment, EnvironmentStatus, EnvironmentType, Permission, Scope, Server},
};
use undoo_store::{Connection, Listed, Page, Tx, environments, servers};

use crate::{
    Caller, Control,
    control::{Named, invalid, name_of},
    plane::{FoundOdoo, Location},
    storages::storage_in,
};

/// An Odoo that is to be adopted.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The project that it joins.
    pub project_id: ProjectId,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// The server that it is on.
    pub server_id: ServerId,
    /// Its container.
    pub container: String,
    /// Its database; `None` where it has but one.
    pub database_name: Option<String>,
    /// Where its users find it.
    pub domain: Option<String>,
    /// Where its backups go; `None` for the organisation's default.
    pub storage_id: Option<StorageId>,
}

/// What is to be changed of an environment; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentChange {
    /// What it is called.
    pub name: Option<String>,
    /// What it is for.
    pub environment_type: Option<EnvironmentType>,
    /// Where its users find it.
    pub domain: Option<Option<String>>,
    /// Cores, MiB and GiB that it may use.
    pub cpu_cores: Option<i32>,
    /// Memory that it may use, in MiB.
    pub ram_mb: Option<i32>,
    /// Disk that it may use, in GiB.
    pub disk_gb: Option<i32>,
    /// Where its backups go; `Some(None)` for the organisation's default.
    pub storage_id: Option<Option<StorageId>>,
}

impl Control {
    /// The Odoos that run on a server, adopted or not.
    ///
    /// # Errors
    /// As [`Control::server_get`]; those of the data plane.
    pub async fn environment_discover(&self, caller: &Caller, server: ServerId) -> Result<Vec<FoundOdoo>> {
        let server = self.server_get(caller, server).await?;
        self.plane.discover(&self.server_access(&server)?).await
    }

    /// Looks at one Odoo of a server.
    ///
    /// # Errors
    /// As [`Control::server_get`]; those of the data plane.
    pub async fn environment_inspect(
        &self,
        caller: &Caller,
        server: ServerId,
        container: &str,
        database: Option<&str>,
    ) -> Result<FoundOdoo> {
        let server = self.server_get(caller, server).await?;
        self.plane.inspect(&self.location(&server, container, database)?).await
    }

    /// Adopts an Odoo that runs already. Nothing of it is changed.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.create` and `org.servers.view` (what is adopted can be
    /// overwritten, so the container has to be one that the caller may see); `already_adopted`, `name_taken`
    /// (`Conflict`); `database_missing`, `database_ambiguous` (`Invalid`).
    pub async fn environment_adopt(&self, caller: &Caller, adopt: Adopt) -> Result<Environment> {
        let permission = Permission::EnvironmentsCreate;
        let project = self.project_for(&self.store, caller, adopt.project_id, permission).await?;
        let organisation = project.organisation_id;
        let server = self.server_get(caller, adopt.server_id).await?;
        if server.organisation_id != organisation {
            return Err(Named("server", adopt.server_id).missing());
        }
        let name = name_of(&adopt.name)?;
        // Without the database's name: whether there is one of that name is what is to be found out.
        let found = self.plane.inspect(&self.location(&server, &adopt.container, None)?).await?;
        let database = database_of(&found, adopt.database_name)?;
        let environment = Environment {
            id: EnvironmentId::generate(),
            organisation_id: organisation,
            project_id: project.id,
            name,
            environment_type: adopt.environment_type,
            status: if found.running { EnvironmentStatus::Running } else { EnvironmentStatus::Stopped },
            server_id: Some(server.id),
            container: Some(found.container),
            database_name: Some(database),
            odoo_version: found.odoo_version,
            odoo_image: Some(found.image),
            postgres_version: found.postgres_version,
            domain: adopt.domain,
            cpu_cores: None,
            ram_mb: None,
            disk_gb: None,
            storage_id: adopt.storage_id,
            created_by: Some(caller.user.id),
            created_at: self.now(),
            deleted_at: None,
        };
        let tx = self.store.begin().await?;
        self.storage_fits(&tx, &environment).await?;
        self.not_adopted(&tx, &environment).await?;
        environments::insert(&tx, &environment).await?;
        let data = json!({ "name": environment.name, "container": environment.container });
        self.note(&tx, Some(caller), organisation, "environment.adopted", environment.id, data).await?;
        tx.commit().await?;
        Ok(environment)
    }

    /// One database has one environment: two would restore over each other.
    async fn not_adopted(&self, on: &impl Connection, new: &Environment) -> Result<()> {
        let (Some(server), Some(container), Some(database)) =
            (new.server_id, new.container.as_deref(), new.database_name.as_deref())
        else {
            return Ok(());
        };
        let organisation = new.organisation_id;
        match environments::by_container(on, organisation, server, container, database).await? {
            None => Ok(()),
            Some(other) => Err(Problem::new(
                Kind::Conflict,
                "already_adopted",
                format!("database \"{database}\" of {container} is environment \"{}\" already", other.name),
                "Use that one, or delete it first; its data stays.",
            )),
        }
    }

    async fn storage_fits(&self, on: &impl Connection, environment: &Environment) -> Result<()> {
        let Some(id) = environment.storage_id else { return Ok(()) };
        storage_in(on, environment.organisation_id, id).await.map(drop)
    }

    /// An environment.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.view`.
    pub async fn environment_get(&self, caller: &Caller, id: EnvironmentId) -> Result<Environment> {
        self.environment_for(&self.store, caller, id, Permission::EnvironmentsView).await
    }

    /// An environment, for a caller who has a permission on its project. One that was deleted is there still:
    /// what belongs to it can be seen.
    pub(crate) async fn environment_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: EnvironmentId,
        permission: Permission,
    ) -> Result<Environment> {
        let named = Named("environment", id);
        let environment = environments::get(on, id).await?.ok_or_else(|| named.missing())?;
        let scope = Scope::Project(environment.organisation_id, environment.project_id);
        self.allow(caller, permission, scope, &named)?;
        Ok(environment)
    }

    /// The same for one that is itself changed: nobody else changes it before the transaction ends.
    pub(crate) async fn environment_locked(
        &self,
        tx: &Tx,
        caller: &Caller,
        id: EnvironmentId,
        permission: Permission,
    ) -> Result<Environment> {
        environments::locked(tx, id).await?;
        self.environment_to_change(tx, caller, id, permission).await
    }

    /// The same for one that is going to be changed: its type counts, and it must not be deleted.
    pub(crate) async fn environment_to_change(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: EnvironmentId,
        permission: Permission,
    ) -> Result<Environment> {
        let environment = self.environment_for(on, caller, id, permission).await?;
        let kind = environment.environment_type;
        let scope = Scope::Environment(environment.organisation_id, environment.project_id, kind);
        let named = Named("environment", id);
        self.allow(caller, permission, scope, &named)?;
        if environment.deleted_at.is_some() {
            return Err(named.missing());
        }
        Ok(environment)
    }

    /// Environments that the caller may see: of one organisation, or of all of theirs.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn environment_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        page: Page,
    ) -> Result<Listed<Environment>> {
        let permission = Permission::EnvironmentsView;
        let projects = self.projects_seen(caller, organisation, project, permission).await?;
        environments::list(&self.store, Some(organisation), projects.as_deref(), page).await
    }

    /// The projects of an organisation that a list for this caller is about; `None` for all. The permission is
    /// what seeing one of its entries takes.
    pub(crate) async fn projects_seen(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        permission: Permission,
    ) -> Result<Option<Vec<ProjectId>>> {
        if let Some(project) = project {
            let project = self.project_for(&self.store, caller, project, permission).await?;
            if project.organisation_id != organisation {
                return Err(Named("project", project.id).missing());
            }
            return Ok(Some(vec![project.id]));
        }
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgView, Scope::Organisation(organisation), &named)?;
        self.in_scope(caller, permission)?;
        Ok(caller.grants.projects(organisation))
    }

    /// Changes what is known of an environment; its Odoo is not touched.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.update`; `name_taken` (`Conflict`).
    pub async fn environment_update(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        change: EnvironmentChange,
    ) -> Result<Environment> {
        let tx = self.store.begin().await?;
        let permission = Permission::EnvironmentsUpdate;
        let mut environment = self.environment_locked(&tx, caller, id, permission).await?;
        if let Some(name) = &change.name {
            environment.name = name_of(name)?;
        }
        environment.environment_type = change.environment_type.unwrap_or(environment.environment_type);
        environment.domain = change.domain.unwrap_or(environment.domain);
        environment.storage_id = change.storage_id.unwrap_or(environment.storage_id);
        for (limit, wanted) in [
            (&mut environment.cpu_cores, change.cpu_cores),
            (&mut environment.ram_mb, change.ram_mb),
            (&mut environment.disk_gb, change.disk_gb),
        ] {
            if wanted.is_some_and(|wanted| wanted < 1) {
                return Err(invalid("limit_invalid", "a limit is at least 1", "Give another number."));
            }
            *limit = wanted.or(*limit);
        }
        self.storage_fits(&tx, &environment).await?;
        environments::update(&tx, &environment).await?;
        let data = json!({ "name": environment.name, "environment_type": environment.environment_type });
        self.note(&tx, Some(caller), environment.organisation_id, "environment.changed", id, data).await?;
        tx.commit().await?;
        Ok(environment)
    }

    /// Forgets an environment. Its Odoo, its data and its backups stay where they are.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.delete`; `environment_busy` (`Conflict`).
    pub async fn environment_delete(&self, caller: &Caller, id: EnvironmentId) -> Result<()> {
        let tx = self.store.begin().await?;
        let permission = Permission::EnvironmentsDelete;
        let mut environment = self.environment_locked(&tx, caller, id, permission).await?;
        self.not_busy(&tx, &environment).await?;
        environment.deleted_at = Some(self.now());
        environments::update(&tx, &environment).await?;
        self.migration_over(&tx, id).await?;
        let data = json!({ "name": environment.name });
        self.note(&tx, Some(caller), environment.organisation_id, "environment.deleted", id, data).await?;
        tx.commit().await
    }

    /// A container of a server, as the data plane finds it.
    fn location(&self, server: &Server, container: &str, database: Option<&str>) -> Result<Location> {
        Ok(Location {
            target: target_of(container)?,
            server: self.server_access(server)?,
            database: database.map(str::to_owned),
        })
    }

    /// Where an environment is.
    pub(crate) async fn location_of(&self, environment: &Environment) -> Result<Location> {
        let (id, container) = place_of(environment)?;
        let server = servers::get(&self.store, id).await?.ok_or_else(|| Named("server", id).missing())?;
        self.location(&server, container, environment.database_name.as_deref())
    }
}

/// A container, as the data plane names it.
fn target_of(container: &str) -> Result<String> {
    let container = container.trim().trim_start_matches("docker:");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if container.is_empty() || !container.chars().all(plain) {
        let message = format!("\"{container}\" is not the name of a container");
        return Err(invalid("container_invalid", message, "Give one that discovery found."));
    }
    Ok(format!("docker:{container}"))
}

/// The server that an environment is on, and its container there.
pub(crate) fn place_of(environment: &Environment) -> Result<(ServerId, &str)> {
    let place = environment.server_id.zip(environment.container.as_deref());
    place.ok_or_else(|| {
        let message = format!("environment \"{}\" has no server assigned", environment.name);
        invalid("no_server", message, "Choose an environment that is on a server.")
    })
}

/// Which database of an Odoo is meant. One that has none yet is taken at its word: a restore makes it.
fn database_of(found: &FoundOdoo, wanted: Option<String>) -> Result<String> {
    let names = found.databases.join(", ");
    match (wanted, found.databases.as_slice()) {
        (Some(wanted), databases) if databases.is_empty() || databases.contains(&wanted) => Ok(wanted),
        (Some(wanted), _) => Err(invalid(
            "database_missing",
            format!("{} has no database \"{wanted}\"; it has: {names}", found.container),
            "Give one of those.",
        )),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(invalid(
            "database_ambiguous",
            format!("{} has no database yet, and what it is to be called was not said", found.container),
            "Give a name as `database_name`.",
        )),
        (None, _) => Err(invalid(
            "database_ambiguous",
            format!("which database of {} it is was not said; it has: {names}", found.container),
            "Give one of those as `database_name`.",
        )),
    }
}
