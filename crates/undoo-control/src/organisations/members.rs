//! Who belongs to an organisation and to its projects. Owners are made and removed by owners, and the last
//! one stays.

use serde_json::json;
use undoo_core::{
    Kind, OrganisationId, Problem, ProjectId, Result, UserId,
    platform::{OrgRole, Permission, ProjectRole, Scope, User},
};
use undoo_store::{
    Connection, Listed, Page, Tx,
    access::{self, LinksOf},
    people,
};

use crate::{Caller, Control, control::Named, identity::by_name};

impl Control {
    /// Who belongs to an organisation.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.view`.
    pub async fn member_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<(User, OrgRole)>> {
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgMembersView, Scope::Organisation(organisation), &named)?;
        people::members_of_org(&self.store, organisation, page).await
    }

    /// Says what somebody is in an organisation; they are added if they were not in it.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.manage`; `owner_needed` (`Denied`); `last_owner` (`Conflict`).
    pub async fn member_set(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        user: UserId,
        role: OrgRole,
    ) -> Result<()> {
        self.org_role_change(caller, organisation, user, Some(role)).await
    }

    /// Takes somebody out of an organisation and of all its projects.
    ///
    /// # Errors
    /// As [`Control::member_set`].
    pub async fn member_remove(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        user: UserId,
    ) -> Result<()> {
        self.org_role_change(caller, organisation, user, None).await
    }

    async fn org_role_change(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        user: UserId,
        role: Option<OrgRole>,
    ) -> Result<()> {
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgMembersManage, Scope::Organisation(organisation), &named)?;
        by_name(caller, Permission::OrgMembersManage)?;
        self.may_give(&self.store, caller, organisation, role).await?;
        let tx = self.store.begin().await?;
        // Of two who remove the last two owners at the same time, one waits here.
        people::organisation_locked(&tx, organisation).await?.ok_or_else(|| named.missing())?;
        let known = people::user(&tx, user).await?.ok_or_else(|| Named("user", user).missing())?;
        let before = role_of(&tx, organisation, user).await?;
        let nothing_to_take = before.is_none() && role.is_none();
        if nothing_to_take || (before.is_none() && !knows_user(&tx, caller, &known).await?) {
            return Err(Named("user", user).missing());
        }
        if before == Some(OrgRole::Owner) && role != Some(OrgRole::Owner) {
            self.may_give(&tx, caller, organisation, before).await?;
            self.another_owner(&tx, organisation, user).await?;
        }
        people::org_role_set(&tx, organisation, user, role).await?;
        // Who made them might not make them any more, now that the account is more.
        access::links_delete_of(&tx, user, LinksOf::Account).await?;
        if role.is_none() {
            people::project_roles_clear(&tx, organisation, user).await?;
            access::sessions_delete_of(&tx, user).await?;
        }
        let data = json!({ "from": before, "to": role });
        self.note(&tx, Some(caller), organisation, "member.changed", user, data).await?;
        tx.commit().await
    }

    /// Refuses to go on where nobody else owns an organisation and can sign in. It has to be locked.
    pub(crate) async fn another_owner(
        &self,
        tx: &Tx,
        organisation: OrganisationId,
        than: UserId,
    ) -> Result<()> {
        if people::owners(tx, organisation).await?.iter().any(|owner| *owner != than) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Conflict,
            "last_owner",
            format!("nobody else who can sign in owns the organisation {organisation}"),
            "Make somebody else an owner first.",
        ))
    }

    /// Whether the caller may make somebody this, or unmake one who is.
    pub(crate) async fn may_give(
        &self,
        on: &impl Connection,
        caller: &Caller,
        organisation: OrganisationId,
        role: Option<OrgRole>,
    ) -> Result<()> {
        if role != Some(OrgRole::Owner) || caller.grants.is_portal_admin() {
            return Ok(());
        }
        if role_of(on, organisation, caller.user.id).await? == Some(OrgRole::Owner) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Denied,
            "owner_needed",
            "owners are made and removed by owners",
            "Ask an owner of the organisation.",
        ))
    }

    /// Who is in a project.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.view`.
    pub async fn project_member_list(
        &self,
        caller: &Caller,
        project: ProjectId,
        page: Page,
    ) -> Result<Listed<(User, ProjectRole)>> {
        let project = self.project_for(&self.store, caller, project, Permission::ProjectView).await?;
        people::members_of_project(&self.store, project.id, page).await
    }

    /// Says what somebody of the organisation is in a project.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.members.manage`; `not_found` for who is not in the organisation.
    pub async fn project_member_set(
        &self,
        caller: &Caller,
        project: ProjectId,
        user: UserId,
        role: ProjectRole,
    ) -> Result<()> {
        self.project_role_change(caller, project, user, Some(role)).await
    }

    /// Takes somebody out of a project.
    ///
    /// # Errors
    /// As [`Control::project_member_set`].
    pub async fn project_member_remove(
        &self,
        caller: &Caller,
        project: ProjectId,
        user: UserId,
    ) -> Result<()> {
        self.project_role_change(caller, project, user, None).await
    }

    async fn project_role_change(
        &self,
        caller: &Caller,
        project: ProjectId,
        user: UserId,
        role: Option<ProjectRole>,
    ) -> Result<()> {
        let tx = self.store.begin().await?;
        let permission = Permission::ProjectMembersManage;
        let project = self.project_for(&tx, caller, project, permission).await?;
        by_name(caller, permission)?;
        let organisation = project.organisation_id;
        if role_of(&tx, organisation, user).await?.is_none() {
            return Err(Named("member of the organisation", user).missing());
        }
        people::project_role_set(&tx, organisation, project.id, user, role).await?;
        let data = json!({ "project": project.id, "to": role });
        self.note(&tx, Some(caller), organisation, "project_member.changed", user, data).await?;
        tx.commit().await
    }
}

async fn role_of(
    on: &impl Connection,
    organisation: OrganisationId,
    user: UserId,
) -> Result<Option<OrgRole>> {
    let membership = people::membership(on, user).await?;
    Ok(membership.organisations.into_iter().find(|(of, _)| *of == organisation).map(|(_, role)| role))
}

/// Whether a user is one that the caller can know of: from an organisation that both are in.
async fn knows_user(on: &impl Connection, caller: &Caller, user: &User) -> Result<bool> {
    let Some(own) = caller.grants.organisations() else { return Ok(true) };
    let theirs = people::membership(on, user.id).await?;
    Ok(theirs.organisations.iter().any(|(organisation, _)| own.contains(organisation)))
}
