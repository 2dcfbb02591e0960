//! Organisations and their projects.

mod members;

use serde_json::json;
use undoo_core::{
    OrganisationId, ProjectId, Result,
    platform::{OrgRole, Organisation, Permission, Project, Scope},
};
use undoo_store::{Connection, Listed, Page, people};

use crate::{
    Caller, Control,
    control::{Named, name_of},
};

impl Control {
    /// Makes an organisation. Its first owner is the caller.
    ///
    /// # Errors
    /// As [`Control::allow`], for `platform.manage`; `name_taken` (`Conflict`).
    pub async fn organisation_create(&self, caller: &Caller, name: &str) -> Result<Organisation> {
        self.allow(caller, Permission::PlatformManage, Scope::Platform, &Named("platform", "itself"))?;
        let now = self.now();
        let organisation =
            Organisation { id: OrganisationId::generate(), name: name_of(name)?, created_at: now };
        let tx = self.store.begin().await?;
        self.organisation_begin(&tx, &organisation, now).await?;
        people::org_role_set(&tx, organisation.id, caller.user.id, Some(OrgRole::Owner)).await?;
        let data = json!({ "name": organisation.name });
        self.note(&tx, Some(caller), organisation.id, "organisation.created", organisation.id, data).await?;
        tx.commit().await?;
        Ok(organisation)
    }

    /// An organisation.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn organisation_get(&self, caller: &Caller, id: OrganisationId) -> Result<Organisation> {
        let named = Named("organisation", id);
        self.allow(caller, Permission::OrgView, Scope::Organisation(id), &named)?;
        people::organisation(&self.store, id).await?.ok_or_else(|| named.missing())
    }

    /// Organisations that the caller belongs to.
    ///
    /// # Errors
    /// `missing_permission` (`Denied`) with a token that leaves out `org.view`.
    pub async fn organisation_list(&self, caller: &Caller, page: Page) -> Result<Listed<Organisation>> {
        self.in_scope(caller, Permission::OrgView)?;
        let own = caller.grants.organisations();
        people::organisations(&self.store, own.as_deref(), page).await
    }

    /// Gives an organisation another name.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.manage`; `name_taken` (`Conflict`).
    pub async fn organisation_rename(
        &self,
        caller: &Caller,
        id: OrganisationId,
        name: &str,
    ) -> Result<Organisation> {
        let named = Named("organisation", id);
        self.allow(caller, Permission::OrgMembersManage, Scope::Organisation(id), &named)?;
        let name = name_of(name)?;
        let tx = self.store.begin().await?;
        let mut organisation = people::organisation(&tx, id).await?.ok_or_else(|| named.missing())?;
        people::organisation_rename(&tx, id, &name).await?;
        let data = json!({ "from": organisation.name, "to": name });
        self.note(&tx, Some(caller), id, "organisation.renamed", id, data).await?;
        tx.commit().await?;
        organisation.name = name;
        Ok(organisation)
    }

    /// Makes a project.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.projects.manage`; `name_taken` (`Conflict`).
    pub async fn project_create(
        &self,
        caller: &Caller,
        organisation_id: OrganisationId,
        name: &str,
    ) -> Result<Project> {
        let named = Named("organisation", organisation_id);
        self.allow(caller, Permission::OrgProjectsManage, Scope::Organisation(organisation_id), &named)?;
        let (id, name) = (ProjectId::generate(), name_of(name)?);
        let project = Project { id, organisation_id, name, created_at: self.now() };
        let tx = self.store.begin().await?;
        people::project_insert(&tx, &project).await?;
        let data = json!({ "name": project.name });
        self.note(&tx, Some(caller), organisation_id, "project.created", project.id, data).await?;
        tx.commit().await?;
        Ok(project)
    }

    /// A project.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.view`.
    pub async fn project_get(&self, caller: &Caller, id: ProjectId) -> Result<Project> {
        self.project_for(&self.store, caller, id, Permission::ProjectView).await
    }

    /// A project, for a caller who has a permission on it.
    pub(crate) async fn project_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: ProjectId,
        permission: Permission,
    ) -> Result<Project> {
        let named = Named("project", id);
        let project = people::project(on, id).await?.ok_or_else(|| named.missing())?;
        self.allow(caller, permission, Scope::Project(project.organisation_id, id), &named)?;
        Ok(project)
    }

    /// Projects of an organisation that the caller may look into.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn project_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<Project>> {
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgView, Scope::Organisation(organisation), &named)?;
        self.in_scope(caller, Permission::ProjectView)?;
        let visible = caller.grants.projects(organisation);
        people::projects(&self.store, organisation, visible.as_deref(), page).await
    }

    /// Gives a project another name.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.projects.manage`; `name_taken` (`Conflict`).
    pub async fn project_rename(&self, caller: &Caller, id: ProjectId, name: &str) -> Result<Project> {
        let name = name_of(name)?;
        let permission = Permission::OrgProjectsManage;
        let mut project = self.project_for(&self.store, caller, id, permission).await?;
        let organisation = project.organisation_id;
        let tx = self.store.begin().await?;
        people::project_rename(&tx, id, &name).await?;
        let data = json!({ "from": project.name, "to": name });
        self.note(&tx, Some(caller), organisation, "project.renamed", id, data).await?;
        tx.commit().await?;
        project.name = name;
        Ok(project)
    }
}
