//! Organisations, their projects and who is in them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{
    OrganisationId, ProjectId, UserId,
    platform::{OrgRole, Organisation, Project, ProjectRole, User},
};
use utoipa::ToSchema;

use crate::bounds;

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrganizationResponse {
    /// Its id.
    pub id: OrganisationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub create_date: Timestamp,
}

impl From<Organisation> for OrganizationResponse {
    fn from(organisation: Organisation) -> Self {
        let Organisation { id, name, created_at } = organisation;
        Self { id, name, create_date: created_at }
    }
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectResponse {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// When it was made.
    pub create_date: Timestamp,
}

impl From<Project> for ProjectResponse {
    fn from(project: Project) -> Self {
        let Project { id, organisation_id, name, created_at } = project;
        Self { id, organization_id: organisation_id, name, create_date: created_at }
    }
}

/// The name of an organisation or a project, new or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// The name.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Acme")]
    pub name: String,
}

/// Somebody who belongs to an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrganizationMember {
    /// Who.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// What they are in it.
    pub role: OrgRole,
}

impl From<(User, OrgRole)> for OrganizationMember {
    fn from((user, role): (User, OrgRole)) -> Self {
        Self { user_id: user.id, email: user.email, name: user.name, role }
    }
}

/// Somebody who belongs to a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectMember {
    /// Who.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// What they are in it.
    pub role: ProjectRole,
}

impl From<(User, ProjectRole)> for ProjectMember {
    fn from((user, role): (User, ProjectRole)) -> Self {
        Self { user_id: user.id, email: user.email, name: user.name, role }
    }
}

/// What somebody becomes in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRoleRequest {
    /// The role.
    pub role: OrgRole,
}

/// What somebody becomes in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRoleRequest {
    /// The role.
    pub role: ProjectRole,
}
