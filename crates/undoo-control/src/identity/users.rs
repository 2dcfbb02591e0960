//! Making users: by invitation, so that nobody else ever knows their password.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use undoo_core::{
    OrganisationId, Result, UserId,
    platform::{OrgRole, Permission, Scope, User},
};
use undoo_store::{access, people};

use super::{address, hash_password, setup::link_invalid};
use crate::{
    Caller, Control,
    control::{Named, name_of},
    secrets::{Opaque, check_password},
};

/// What a one-time link of an invitation is for.
const INVITATION: &str = "invitation";

/// Somebody who is invited.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// The organisation that they join.
    pub organisation_id: OrganisationId,
    /// What they are in it.
    pub role: OrgRole,
}

impl Control {
    /// Makes a user. The answer has the secret of their invitation, with which they choose a password.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.manage`; `email_taken` (`Conflict`).
    pub async fn user_create(&self, caller: &Caller, new: NewUser) -> Result<(User, SecretString)> {
        let organisation = new.organisation_id;
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgMembersManage, Scope::Organisation(organisation), &named)?;
        self.may_give(&self.store, caller, organisation, Some(new.role)).await?;
        let user = User {
            id: UserId::generate(),
            email: address(&new.email)?,
            name: name_of(&new.name)?,
            portal_admin: false,
            disabled_at: None,
            created_at: self.now(),
        };
        let link = Opaque::generate()?;
        let until = self.after_hours(self.settings.link_hours);
        let tx = self.store.begin().await?;
        people::user_insert(&tx, &user, None).await?;
        people::org_role_set(&tx, organisation, user.id, Some(new.role)).await?;
        access::link_insert(&tx, link.hash, INVITATION, Some(user.id), until).await?;
        let data = json!({ "email": user.email, "role": new.role });
        self.note(&tx, Some(caller), organisation, "user.invited", user.id, data).await?;
        tx.commit().await?;
        Ok((user, link.token))
    }

    /// Accepts an invitation with a password. The answer is a session.
    ///
    /// # Errors
    /// `link_invalid` (`Denied`); `password_weak`.
    pub async fn invitation_accept(
        &self,
        token: &SecretString,
        password: SecretString,
    ) -> Result<(SecretString, User)> {
        check_password(&password)?;
        let hash = hash_password(password).await?;
        let tx = self.store.begin().await?;
        let link = Opaque::hash(token.expose_secret());
        let user = access::link_take(&tx, link, INVITATION, self.now()).await?.flatten();
        let user = match user {
            Some(user) => people::user(&tx, user).await?.filter(|user| user.disabled_at.is_none()),
            None => None,
        };
        let user = user.ok_or_else(link_invalid)?;
        people::password_set(&tx, user.id, &hash).await?;
        access::sessions_delete_of(&tx, user.id).await?;
        tx.commit().await?;
        Ok((self.session_open(&user).await?, user))
    }
}
