//! Accounts: inviting, letting in, disabling. Nobody but its owner ever knows an account's password: whoever
//! administers one makes a link that works once.
//!
//! Who may do so is decision 0023: an account is administered by who administers every organisation that it is
//! in; an owner's by owners, a portal admin's by portal admins, and one's own by somebody else.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use undoo_core::{
    Kind, OrganisationId, Problem, Result, UserId,
    platform::{Decision, Membership, OrgRole, Permission, Scope, User},
};
use undoo_store::{
    Connection, Listed, Page, Tx,
    access::{self, Link, LinksOf},
    people,
};

use super::{INVITATION, address, by_name};
use crate::{
    Caller, Control,
    control::{Named, name_of},
    secrets::Opaque,
};

/// Somebody who is invited.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Their address.
    pub email: String,
    /// Their name, if they are new here.
    pub name: String,
    /// The organisation that they join.
    pub organisation_id: OrganisationId,
    /// What they are in it.
    pub role: OrgRole,
}

/// An account's one-time link.
#[derive(Debug)]
pub struct AccountLink {
    /// The account; `None` where it is one that the caller knows nothing of but its address.
    pub user: Option<User>,
    /// Its address.
    pub email: String,
    /// The secret of the link.
    pub token: SecretString,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// What is to be changed of an account; `None` leaves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserChange {
    /// Whether it is kept from signing in.
    pub disabled: Option<bool>,
    /// Whether it administers the platform.
    pub portal_admin: Option<bool>,
}

impl Control {
    /// Invites somebody into an organisation. Who is new here is listed there at once; who has an account
    /// already belongs to it when they accept, with their own password.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.manage`; `scope_needed`, `owner_needed` (`Denied`);
    /// `email_taken` (`Conflict`) for who is in the organisation.
    pub async fn user_create(&self, caller: &Caller, new: NewUser) -> Result<AccountLink> {
        let (organisation, role) = (new.organisation_id, new.role);
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgMembersManage, Scope::Organisation(organisation), &named)?;
        by_name(caller, Permission::OrgMembersManage)?;
        self.may_give(&self.store, caller, organisation, Some(role)).await?;
        let (email, name) = (address(&new.email)?, name_of(&new.name)?);
        let tx = self.store.begin().await?;
        let (id, user) = match people::user_by_email(&tx, &email).await? {
            Some((known, _)) => {
                let theirs = people::membership(&tx, known.id).await?;
                if theirs.organisations.iter().any(|(of, _)| *of == organisation) {
                    return Err(is_member(&email));
                }
                access::links_delete_of(&tx, known.id, LinksOf::Joining(organisation)).await?;
                (known.id, None)
            }
            None => {
                let id = UserId::generate();
                let user = User {
                    id,
                    email: email.clone(),
                    name,
                    portal_admin: false,
                    disabled_at: None,
                    created_at: self.now(),
                };
                people::user_insert(&tx, &user, None).await?;
                people::org_role_set(&tx, organisation, id, Some(role)).await?;
                (id, Some(user))
            }
        };
        let (token, expires_at) = self.link_made(&tx, id, Some((organisation, role))).await?;
        // An account that is somebody's is known by its address alone.
        let object = user.as_ref().map_or_else(|| email.clone(), |user| user.id.to_string());
        let data = json!({ "email": email, "role": role });
        self.note(&tx, Some(caller), organisation, "user.invited", object, data).await?;
        tx.commit().await?;
        Ok(AccountLink { user, email, token, expires_at })
    }

    /// Makes a link with which somebody chooses a password anew, or for the first time. Those that were made
    /// before hold no longer; the password of now does, until the link is used.
    ///
    /// # Errors
    /// As [`Control::user_update`]; `user_disabled` (`Conflict`).
    pub async fn user_invite(&self, caller: &Caller, id: UserId) -> Result<AccountLink> {
        by_name(caller, Permission::OrgMembersManage)?;
        let tx = self.store.begin().await?;
        let (user, theirs) = self.account_for(&tx, caller, id).await?;
        let link = self.account_link(&tx, Some(caller), user, &theirs).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// The same for who has the platform's database in their hands, by address.
    ///
    /// # Errors
    /// `not_found` (`Missing`); `user_disabled` (`Conflict`).
    pub async fn user_invite_here(&self, email: &str) -> Result<AccountLink> {
        let email = address(email)?;
        let tx = self.store.begin().await?;
        let found = people::user_by_email(&tx, &email).await?;
        let (user, _) = found.ok_or_else(|| {
            let message = format!("nobody here has the address {email}");
            Problem::new(Kind::Missing, "not_found", message, "Check how it is written.")
        })?;
        let theirs = people::membership(&tx, user.id).await?;
        let link = self.account_link(&tx, None, user, &theirs).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn account_link(
        &self,
        tx: &Tx,
        caller: Option<&Caller>,
        user: User,
        theirs: &Membership,
    ) -> Result<AccountLink> {
        if user.disabled_at.is_some() {
            let message = format!("{} is disabled, and could not use a link", user.email);
            return Err(Problem::new(Kind::Conflict, "user_disabled", message, "Enable them first."));
        }
        access::links_delete_of(tx, user.id, LinksOf::Account).await?;
        let (token, expires_at) = self.link_made(tx, user.id, None).await?;
        for (organisation, _) in &theirs.organisations {
            let data = json!({ "email": user.email });
            self.note(tx, caller, *organisation, "user.link_made", user.id, data).await?;
        }
        Ok(AccountLink { email: user.email.clone(), user: Some(user), token, expires_at })
    }

    async fn link_made(
        &self,
        tx: &Tx,
        user: UserId,
        joins: Option<(OrganisationId, OrgRole)>,
    ) -> Result<(SecretString, Timestamp)> {
        let secret = Opaque::generate()?;
        let expires_at = self.after_hours(self.settings.link_hours);
        let link = Link { purpose: INVITATION.to_owned(), user_id: Some(user), joins, expires_at };
        access::link_insert(tx, secret.hash, &link).await?;
        Ok((secret.token, expires_at))
    }

    /// Changes what an account may do. One that is disabled is signed out everywhere, and its tokens and links
    /// are void for good.
    ///
    /// # Errors
    /// `not_found` for who is in none of the caller's organisations; as [`Control::allow`], for
    /// `org.members.manage` in every organisation of theirs, and `platform.manage` to make portal admins;
    /// `account_elsewhere`, `own_account`, `owner_needed`, `portal_admin_needed`, `scope_needed` (`Denied`);
    /// `last_owner`, `last_portal_admin` (`Conflict`).
    pub async fn user_update(&self, caller: &Caller, id: UserId, change: UserChange) -> Result<User> {
        by_name(caller, Permission::OrgMembersManage)?;
        let tx = self.store.begin().await?;
        let (_, theirs) = self.account_for(&tx, caller, id).await?;
        if change.portal_admin.is_some() {
            by_name(caller, Permission::PlatformManage)?;
            let named = Named("platform", "itself");
            self.allow(caller, Permission::PlatformManage, Scope::Platform, &named)?;
        }
        if change.disabled == Some(true) {
            self.not_last_owner(&tx, id, &theirs).await?;
        }
        if change.disabled == Some(true) || change.portal_admin == Some(false) {
            not_last_portal_admin(&tx, id).await?;
        }
        let (mut user, _) = people::user_locked(&tx, id).await?.ok_or_else(|| Named("user", id).missing())?;
        let before = user.clone();
        user.portal_admin = change.portal_admin.unwrap_or(user.portal_admin);
        match change.disabled {
            Some(true) if user.disabled_at.is_none() => {
                let now = self.now();
                user.disabled_at = Some(now);
                access::sessions_delete_of(&tx, id).await?;
                access::tokens_revoke_of(&tx, id, now).await?;
                access::links_delete_of(&tx, id, LinksOf::Any).await?;
            }
            Some(false) => user.disabled_at = None,
            _ => {}
        }
        if user != before {
            people::user_update(&tx, &user).await?;
            access::links_delete_of(&tx, id, LinksOf::Account).await?;
            let data = json!({
                "email": user.email,
                "disabled": user.disabled_at.is_some(),
                "is_portal_admin": user.portal_admin,
            });
            for (organisation, _) in &theirs.organisations {
                self.note(&tx, Some(caller), *organisation, "user.changed", id, data.clone()).await?;
            }
        }
        tx.commit().await?;
        Ok(user)
    }

    /// Somebody.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.members.view` in an organisation of theirs.
    pub async fn user_get(&self, caller: &Caller, id: UserId) -> Result<User> {
        let named = Named("user", id);
        let user = people::user(&self.store, id).await?.ok_or_else(|| named.missing())?;
        let theirs = people::membership(&self.store, id).await?;
        let mut seen = None;
        for (organisation, _) in theirs.organisations {
            let scope = Scope::Organisation(organisation);
            match self.allow(caller, Permission::OrgMembersView, scope, &named) {
                Ok(()) => return Ok(user),
                Err(problem) if problem.kind == Kind::Denied => seen = Some(problem),
                Err(_) => {}
            }
        }
        match self.allow(caller, Permission::PlatformManage, Scope::Platform, &named) {
            Ok(()) => Ok(user),
            Err(_) => Err(seen.unwrap_or_else(|| named.missing())),
        }
    }

    /// Everybody, newest first.
    ///
    /// # Errors
    /// As [`Control::allow`], for `platform.manage`.
    pub async fn user_list(&self, caller: &Caller, page: Page) -> Result<Listed<User>> {
        self.allow(caller, Permission::PlatformManage, Scope::Platform, &Named("platform", "itself"))?;
        people::users(&self.store, page).await
    }

    /// An account that the caller administers; see the head of this file.
    async fn account_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: UserId,
    ) -> Result<(User, Membership)> {
        let (named, permission) = (Named("user", id), Permission::OrgMembersManage);
        let user = people::user(on, id).await?.ok_or_else(|| named.missing())?;
        let theirs = people::membership(on, id).await?;
        let scopes =
            || theirs.organisations.iter().map(|(organisation, _)| Scope::Organisation(*organisation));
        let is_seen = |scope| caller.grants.decide(permission, scope) != Decision::Unseen;
        if !scopes().any(is_seen) && !caller.grants.is_portal_admin() {
            return Err(named.missing());
        }
        if theirs.organisations.is_empty() {
            self.allow(caller, Permission::PlatformManage, Scope::Platform, &named)?;
        }
        for scope in scopes().filter(|scope| is_seen(*scope)) {
            self.allow(caller, permission, scope, &named)?;
        }
        if user.portal_admin && !caller.grants.is_portal_admin() {
            let message = "the account is a portal admin's, which only portal admins change";
            return Err(denied("portal_admin_needed", message, "Ask a portal admin."));
        }
        if !scopes().all(is_seen) {
            return Err(denied(
                "account_elsewhere",
                "the account is in an organisation that you do not administer, too",
                "Ask a portal admin; you can take it out of your own organisation.",
            ));
        }
        for (organisation, role) in &theirs.organisations {
            self.may_give(on, caller, *organisation, Some(*role)).await?;
        }
        if id == caller.user.id {
            let message = "one's own account is disabled and let in again by somebody else";
            return Err(denied("own_account", message, "To change your password, give the one of now."));
        }
        Ok((user, theirs))
    }

    /// Refuses what would leave an organisation without an owner who can sign in.
    async fn not_last_owner(&self, tx: &Tx, id: UserId, theirs: &Membership) -> Result<()> {
        for (organisation, role) in &theirs.organisations {
            if *role == OrgRole::Owner {
                // Of two who disable the last two owners at the same time, one waits here.
                people::organisation_locked(tx, *organisation).await?;
                self.another_owner(tx, *organisation, id).await?;
            }
        }
        Ok(())
    }
}

async fn not_last_portal_admin(tx: &Tx, id: UserId) -> Result<()> {
    if people::portal_admins_locked(tx).await? != [id] {
        return Ok(());
    }
    let message = "this is the last portal admin, and there would be nobody to make another";
    Err(Problem::new(Kind::Conflict, "last_portal_admin", message, "Make somebody else one first."))
}

fn denied(code: &'static str, message: &str, remedy: &str) -> Problem {
    Problem::new(Kind::Denied, code, message, remedy)
}

fn is_member(email: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        "email_taken",
        format!("{email} is in the organisation already"),
        "Give them another role, or a new link: POST /api/v1/users/USER_ID/invitation.",
    )
}
