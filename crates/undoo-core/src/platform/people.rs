//! Organisations, their projects, and the people in them.

use jiff::Timestamp;

use crate::{
    id::{OrganisationId, ProjectId, TokenId, UserId},
    platform::Permission,
    word::words,
};

words! {
    /// What somebody is in an organisation.
    OrgRole {
        /// Owns all its resources.
        Owner = "owner",
        /// Manages its infrastructure and all its projects.
        Admin = "admin",
        /// Belongs to it; what they may do, their projects say.
        Member = "member",
    }
}

words! {
    /// What somebody is in a project.
    ProjectRole {
        /// Manages its environments.
        Admin = "admin",
        /// Works in it; restores to what is not production.
        Member = "member",
        /// Looks.
        Viewer = "viewer",
    }
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its id; the first part of the keys of its backups.
    pub id: OrganisationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Somebody who signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address in lower case, unique; what they sign in with.
    pub email: String,
    /// Their name as shown.
    pub name: String,
    /// Whether they administer the whole platform.
    pub portal_admin: bool,
    /// Since when they may not sign in any more.
    pub disabled_at: Option<Timestamp>,
    /// When they were made.
    pub created_at: Timestamp,
}

/// All that somebody belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Organisations.
    pub organisations: Vec<(OrganisationId, OrgRole)>,
    /// Projects, with the organisation of each.
    pub projects: Vec<(OrganisationId, ProjectId, ProjectRole)>,
}

/// A bearer token. The token itself is shown once; its hash is what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// Whose it is: it can do no more than they can.
    pub user_id: UserId,
    /// What it is for.
    pub name: String,
    /// The only organisation that it works in, if it is bound to one.
    pub organisation_id: Option<OrganisationId>,
    /// The only permissions that it has; `None` for all of its user's.
    pub scopes: Option<Vec<Permission>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Since when it is not accepted any more.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}
