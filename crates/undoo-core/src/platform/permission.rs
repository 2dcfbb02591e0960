//! Who may do what: the one place that decides.
//!
//! The roles, and the codes of the permissions that restoring and downloading take, are those of the source
//! document; its two tables are the test at the end. Whoever carries out a request asks [`Grants::decide`]
//! and does what it says.

use std::collections::{BTreeMap, BTreeSet};

use super::{EnvironmentType, Membership, OrgRole, ProjectRole};
use crate::{
    id::{OrganisationId, ProjectId},
    word::words,
};

words! {
    /// What somebody is allowed to do; the word is its code on the wire and in errors.
    Permission {
        /// Make organisations and users, see all of them.
        PlatformManage = "platform.manage",
        /// See an organisation.
        OrgView = "org.view",
        /// Add and remove people, change their roles.
        OrgMembersManage = "org.members.manage",
        /// See who belongs to an organisation.
        OrgMembersView = "org.members.view",
        /// Make and rename projects.
        OrgProjectsManage = "org.projects.manage",
        /// See its servers.
        OrgServersView = "org.servers.view",
        /// Add and remove servers.
        OrgServersManage = "org.servers.manage",
        /// List all backups of the organisation.
        OrgBackupsList = "org.backups.list",
        /// See how storages are configured; never their secrets.
        OrgStorageView = "org.storage.view",
        /// Configure and test storages.
        OrgStorageManage = "org.storage.manage",
        /// Read the audit log.
        OrgAuditView = "org.audit.view",
        /// See a project.
        ProjectView = "project.view",
        /// Say who is in a project.
        ProjectMembersManage = "project.members.manage",
        /// See environments.
        EnvironmentsView = "project.environments.view",
        /// Adopt or create environments.
        EnvironmentsCreate = "project.environments.create",
        /// Change environments.
        EnvironmentsUpdate = "project.environments.update",
        /// Forget environments.
        EnvironmentsDelete = "project.environments.delete",
        /// See and download backups.
        BackupsView = "project.backups.view",
        /// Make backups.
        BackupsCreate = "project.backups.create",
        /// Delete backups.
        BackupsDelete = "project.backups.delete",
        /// Restore backups, cancel and undo restores, release what they hold.
        BackupsRestore = "project.backups.restore",
    }
}

words! {
    /// The roles of the source document, from the most to the least.
    Role {
        /// Full access to the platform.
        PortalAdmin = "portal_admin",
        /// Owns an organisation.
        OrgOwner = "org_owner",
        /// Administers an organisation.
        OrgAdmin = "org_admin",
        /// Manages a project's environments.
        ProjectAdmin = "project_admin",
        /// Works in a project; production is not theirs to change.
        ProjectMember = "project_member",
        /// Looks.
        Viewer = "viewer",
    }
}

impl Role {
    /// Whether this role has a permission somewhere within what the role is about.
    pub fn has(self, permission: Permission) -> bool {
        use Permission as P;
        let looks = matches!(permission, P::ProjectView | P::EnvironmentsView | P::BackupsView);
        let works = matches!(permission, P::BackupsCreate | P::BackupsRestore);
        match self {
            Self::PortalAdmin => true,
            Self::OrgOwner => permission != P::PlatformManage,
            // Owners are made and removed by owners: `undoo-control` sees to that.
            Self::OrgAdmin => permission != P::PlatformManage,
            Self::ProjectAdmin => {
                looks
                    || works
                    || matches!(
                        permission,
                        P::ProjectMembersManage
                            | P::EnvironmentsCreate
                            | P::EnvironmentsUpdate
                            | P::EnvironmentsDelete
                            | P::BackupsDelete
                    )
            }
            Self::ProjectMember => looks || works,
            Self::Viewer => looks,
        }
    }

    /// Whether this role may use a permission on an environment of this type.
    pub fn has_on(self, permission: Permission, kind: EnvironmentType) -> bool {
        let changes_it = permission == Permission::BackupsRestore;
        self.has(permission)
            && !(self == Self::ProjectMember && changes_it && kind == EnvironmentType::Production)
    }
}

/// What a permission is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The platform itself.
    Platform,
    /// An organisation.
    Organisation(OrganisationId),
    /// A project, and what is in it whatever its environment's type.
    Project(OrganisationId, ProjectId),
    /// An environment that is to be changed.
    Environment(OrganisationId, ProjectId, EnvironmentType),
}

impl Scope {
    fn organisation(self) -> Option<OrganisationId> {
        match self {
            Self::Platform => None,
            Self::Organisation(organisation)
            | Self::Project(organisation, _)
            | Self::Environment(organisation, _, _) => Some(organisation),
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Granted,
    /// The thing may be known of, and this permission is missing: 403.
    Denied(Permission),
    /// The thing belongs to others, and is not there for the caller: 404.
    Unseen,
}

/// All that a caller has been given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    portal_admin: bool,
    organisations: BTreeMap<OrganisationId, OrgRole>,
    projects: BTreeMap<ProjectId, (OrganisationId, ProjectRole)>,
    /// The only permissions of the token that was shown, if it has less than its user.
    only: Option<BTreeSet<Permission>>,
    /// The only organisation of the token that was shown.
    bound_to: Option<OrganisationId>,
}

impl Grants {
    /// What somebody has been given.
    pub fn new(portal_admin: bool, membership: &Membership) -> Self {
        Self {
            portal_admin,
            organisations: membership.organisations.iter().copied().collect(),
            projects: membership
                .projects
                .iter()
                .map(|&(org, project, role)| (project, (org, role)))
                .collect(),
            only: None,
            bound_to: None,
        }
    }

    /// The same, as far as a token goes.
    #[must_use]
    pub fn limited(mut self, only: Option<&[Permission]>, bound_to: Option<OrganisationId>) -> Self {
        self.only = only.map(|only| only.iter().copied().collect());
        self.bound_to = bound_to;
        self
    }

    /// Whether the caller administers the platform.
    pub fn is_portal_admin(&self) -> bool {
        self.portal_admin && self.bound_to.is_none()
    }

    /// Whether a permission is not among those that the token that was shown leaves out.
    pub fn in_scope(&self, permission: Permission) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&permission))
    }

    /// Whether the token that was shown was made for this permission by name.
    pub fn is_named(&self, permission: Permission) -> bool {
        self.only.as_ref().is_some_and(|only| only.contains(&permission))
    }

    /// Organisations that the caller belongs to; `None` for all there are.
    pub fn organisations(&self) -> Option<Vec<OrganisationId>> {
        match self.bound_to {
            Some(bound) => Some(Vec::from_iter(self.knows(bound).then_some(bound))),
            None if self.portal_admin => None,
            None => {
                let own = self.organisations.keys().copied();
                let through = self.projects.values().map(|(organisation, _)| *organisation);
                Some(own.chain(through).collect::<BTreeSet<_>>().into_iter().collect())
            }
        }
    }

    /// Projects of an organisation that the caller may look into; `None` for all of them.
    pub fn projects(&self, organisation: OrganisationId) -> Option<Vec<ProjectId>> {
        if self.knows(organisation) && self.role_in(organisation).is_some() {
            return None;
        }
        let of_it = self.projects.iter().filter(|(_, (of, _))| *of == organisation);
        Some(of_it.map(|(project, _)| *project).collect())
    }

    /// Whether a permission is the caller's on something.
    pub fn decide(&self, permission: Permission, scope: Scope) -> Decision {
        if scope.organisation().is_some_and(|organisation| !self.knows(organisation)) {
            return Decision::Unseen;
        }
        let granted = match scope {
            Scope::Platform => self.is_portal_admin(),
            Scope::Organisation(organisation) => {
                self.role_in(organisation).is_some_and(|role| role.has(permission))
                    || (permission == Permission::OrgView && self.knows(organisation))
            }
            Scope::Project(organisation, project) => {
                self.role_on(organisation, project).is_some_and(|role| role.has(permission))
            }
            Scope::Environment(organisation, project, kind) => {
                self.role_on(organisation, project).is_some_and(|role| role.has_on(permission, kind))
            }
        };
        if granted && self.in_scope(permission) { Decision::Granted } else { Decision::Denied(permission) }
    }

    fn knows(&self, organisation: OrganisationId) -> bool {
        self.bound_to.is_none_or(|bound| bound == organisation)
            && (self.portal_admin
                || self.organisations.contains_key(&organisation)
                || self.projects.values().any(|(of, _)| *of == organisation))
    }

    /// The caller's role over a whole organisation.
    fn role_in(&self, organisation: OrganisationId) -> Option<Role> {
        if self.portal_admin {
            return Some(Role::PortalAdmin);
        }
        match self.organisations.get(&organisation)? {
            OrgRole::Owner => Some(Role::OrgOwner),
            OrgRole::Admin => Some(Role::OrgAdmin),
            OrgRole::Member => None,
        }
    }

    /// The caller's role in a project: that over its organisation, if there is one, is never less.
    fn role_on(&self, organisation: OrganisationId, project: ProjectId) -> Option<Role> {
        self.role_in(organisation).or_else(|| {
            let (of, role) = self.projects.get(&project)?;
            (*of == organisation).then_some(match role {
                ProjectRole::Admin => Role::ProjectAdmin,
                ProjectRole::Member => Role::ProjectMember,
                ProjectRole::Viewer => Role::Viewer,
            })
        })
    }
}

#[cfg(test)]
mod tests;
