//! Signing in: people, sessions and tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{
    OrganisationId, ProjectId, TokenId, UserId,
    platform::{ApiToken, Membership, OrgRole, Permission, ProjectRole, User},
};
use utoipa::ToSchema;

use crate::{bounds, secret::Secret};

/// The first admin of a new platform.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The one-time token that the server printed when it first started.
    pub token: Secret,
    /// What the admin signs in with.
    #[schema(format = "email", example = "admin@example.com")]
    pub email: String,
    /// Their name.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name)]
    pub name: String,
    /// Their password.
    #[schema(value_type = bounds::NewPassword)]
    pub password: Secret,
    /// The name of the first organisation.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Acme")]
    pub organization_name: String,
}

/// Signing in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The address, in any case.
    #[schema(format = "email", example = "admin@example.com")]
    pub email: String,
    /// The password.
    pub password: Secret,
}

/// Changing one's own password; every other session of the same user ends.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password until now.
    pub current_password: Secret,
    /// The new one.
    #[schema(value_type = bounds::NewPassword)]
    pub new_password: Secret,
}

/// Accepting an invitation, or choosing a password anew.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    /// The token of the link, which works once.
    pub token: Secret,
    /// The password to sign in with from now on. For an invitation to who has an account already, the one that
    /// they sign in with.
    #[schema(value_type = bounds::NewPassword)]
    pub password: Secret,
}

/// Somebody who signs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserResponse {
    /// Their id.
    pub id: UserId,
    /// Their address in lower case.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Whether they administer the whole platform.
    pub is_portal_admin: bool,
    /// Since when they may not sign in any more.
    pub disabled_at: Option<Timestamp>,
    /// When they were made.
    pub create_date: Timestamp,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        let User { id, email, name, portal_admin, disabled_at, created_at } = user;
        Self { id, email, name, is_portal_admin: portal_admin, disabled_at, create_date: created_at }
    }
}

/// Inviting somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// What they will sign in with.
    #[schema(format = "email", example = "maria@example.com")]
    pub email: String,
    /// Their name.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name)]
    pub name: String,
    /// The organisation that they will belong to.
    pub organization_id: OrganisationId,
    /// What they will be in it.
    pub role: OrgRole,
}

/// A one-time link of an account, and whose it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateUserResponse {
    /// Who. `null` for an address that has an account already: it belongs to the organisation when they accept,
    /// with their own password.
    pub user: Option<UserResponse>,
    /// The address.
    pub email: String,
    /// The token of the link, for `POST /api/v1/auth/invitations/accept`. It is shown this once.
    pub invitation: Secret,
    /// The page that does the same: hand it to them. It is shown this once.
    #[schema(value_type = String, format = "uri")]
    pub url: Secret,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// Changes to an account. What is left out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// `true` keeps them from signing in: their sessions end, their tokens and links are void for good. `false`
    /// lets them sign in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Whether they administer the whole platform; for portal admins to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_portal_admin: Option<bool>,
}

/// Who one is, and where one belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeResponse {
    /// Who.
    pub user: UserResponse,
    /// The organisations.
    pub organizations: Vec<MyOrganization>,
    /// The projects that name one, besides those that come with an organisation's role.
    pub projects: Vec<MyProject>,
}

/// What one is in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MyOrganization {
    /// The organisation.
    pub organization_id: OrganisationId,
    /// The role in it.
    pub role: OrgRole,
}

/// What one is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MyProject {
    /// Its organisation.
    pub organization_id: OrganisationId,
    /// The project.
    pub project_id: ProjectId,
    /// The role in it.
    pub role: ProjectRole,
}

impl From<(User, Membership)> for MeResponse {
    fn from((user, membership): (User, Membership)) -> Self {
        let organizations = membership.organisations.into_iter();
        let projects = membership.projects.into_iter();
        Self {
            user: user.into(),
            organizations: organizations
                .map(|(organization_id, role)| MyOrganization { organization_id, role })
                .collect(),
            projects: projects
                .map(|(organization_id, project_id, role)| MyProject { organization_id, project_id, role })
                .collect(),
        }
    }
}

/// A bearer token, without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    /// Its id.
    pub id: TokenId,
    /// Whose it is: it can do no more than they can.
    pub user_id: UserId,
    /// What it is for.
    pub name: String,
    /// The only organisation that it works in, if it is bound to one.
    pub organization_id: Option<OrganisationId>,
    /// The only permissions that it has; `null` for all of its user's.
    pub scopes: Option<Vec<Permission>>,
    /// When it was made.
    pub create_date: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Since when it is not accepted any more.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl From<ApiToken> for TokenResponse {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id,
            user_id: token.user_id,
            name: token.name,
            organization_id: token.organisation_id,
            scopes: token.scopes,
            create_date: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// Making a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    /// What it is for.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "nightly restores to staging")]
    pub name: String,
    /// The only organisation that it is to work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganisationId>,
    /// The only permissions that it is to have. Without them it has all of its user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Permission>>,
    /// Days until it ends. Without them it holds until it is revoked.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 3650>"
    )]
    #[schema(minimum = 1, maximum = 3650)]
    pub expires_in_days: Option<u32>,
}

/// A token that was made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateTokenResponse {
    /// What it is.
    #[serde(flatten)]
    pub details: TokenResponse,
    /// The token, for `Authorization: Bearer`. It is shown this once.
    pub token: Secret,
}
