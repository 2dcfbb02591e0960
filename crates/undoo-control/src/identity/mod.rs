//! Who is who: the first user, signing in, sessions, callers.
//!
//! Passwords and tokens are compared by their hashes. An answer never tells whether an address is known.

mod accept;
mod setup;
mod tokens;
mod users;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use undoo_core::{
    Kind, Problem, Result,
    platform::{ApiToken, Grants, Membership, Permission, User},
};
use undoo_store::{access, people};

pub use self::{
    setup::Setup,
    tokens::NewToken,
    users::{AccountLink, NewUser, UserChange},
};
use crate::{
    Caller, Control, Via,
    secrets::{Opaque, check_password, hash_password, password_holds},
};

/// What a one-time link of an account is for.
const INVITATION: &str = "invitation";
/// A token whose last use is older than this is noted as used again, in seconds.
const USED_AGAIN_AFTER: i64 = 60;
/// The longest address that there is, in bytes (RFC 5321, 4.5.3.1.3): no longer one is remembered for having
/// failed.
const LONGEST_ADDRESS: usize = 254;

impl Control {
    /// Signs somebody in. The answer is the session's secret.
    ///
    /// # Errors
    /// `wrong_login` (`Denied`) for a wrong address or password, or a disabled user; `too_many_attempts`.
    pub async fn sign_in(&self, email: &str, password: SecretString) -> Result<(SecretString, User)> {
        let (email, now) = (email.trim().to_lowercase(), self.now());
        if email.len() > LONGEST_ADDRESS {
            return Err(wrong_login());
        }
        self.throttle.attempt(&email, now)?;
        let found = people::user_by_email(&self.store, &email).await?;
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
        let holds = password_holds(password, hash).await?;
        let Some(user) = user.filter(|user| holds && user.disabled_at.is_none()) else {
            return Err(wrong_login());
        };
        self.throttle.succeeded(&email);
        let session = self.session_open(&user).await?;
        Ok((session, user))
    }

    async fn session_open(&self, user: &User) -> Result<SecretString> {
        let session = Opaque::generate()?;
        let until = self.after_hours(self.settings.session_hours);
        let tx = self.store.begin().await?;
        access::session_insert(&tx, session.hash, user.id, until).await?;
        tx.commit().await?;
        Ok(session.token)
    }

    /// Ends a session; one that does not exist is no error.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_out(&self, session: &SecretString) -> Result<()> {
        let tx = self.store.begin().await?;
        access::session_delete(&tx, Opaque::hash(session.expose_secret())).await?;
        tx.commit().await
    }

    /// Who has this session.
    ///
    /// # Errors
    /// `not_signed_in` (`Denied`).
    pub async fn caller_of_session(&self, session: &str, request_id: &str) -> Result<Caller> {
        let hash = Opaque::hash(session);
        let found = access::session_user(&self.store, hash, self.now()).await?;
        let enabled = |(user, _): &(User, Membership)| user.disabled_at.is_none();
        let (user, membership) = found.filter(enabled).ok_or_else(not_signed_in)?;
        let grants = Grants::new(user.portal_admin, &membership);
        Ok(Caller { user, grants, request_id: request_id.to_owned(), via: Via::Session })
    }

    /// Who has this bearer token, with as much as it allows.
    ///
    /// # Errors
    /// `not_signed_in` (`Denied`) for one that is unknown, over or revoked.
    pub async fn caller_of_token(&self, token: &str, request_id: &str) -> Result<Caller> {
        let now = self.now();
        let found = access::token_by_hash(&self.store, Opaque::hash(token)).await?;
        let valid = |(token, user, _): &(ApiToken, User, Membership)| {
            let works = token.revoked_at.is_none() && token.expires_at.is_none_or(|until| until > now);
            works && user.disabled_at.is_none()
        };
        let (token, user, membership) = found.filter(valid).ok_or_else(not_signed_in)?;
        let grants = Grants::new(user.portal_admin, &membership);
        let grants = grants.limited(token.scopes.as_deref(), token.organisation_id);
        let long_ago = |used: Timestamp| now.as_second() - used.as_second() > USED_AGAIN_AFTER;
        if token.last_used_at.is_none_or(long_ago) {
            let tx = self.store.begin().await?;
            access::token_used(&tx, token.id, now).await?;
            tx.commit().await?;
        }
        Ok(Caller { user, grants, request_id: request_id.to_owned(), via: Via::Token(token.id) })
    }

    /// The caller and all that they belong to.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn me(&self, caller: &Caller) -> Result<(User, Membership)> {
        Ok((caller.user.clone(), people::membership(&self.store, caller.user.id).await?))
    }

    /// Changes the caller's password and ends all of their sessions. The answer is a new one.
    ///
    /// # Errors
    /// `wrong_password` (`Denied`); `password_weak`; `session_needed` (`Denied`) with a token.
    pub async fn password_change(
        &self,
        caller: &Caller,
        old: SecretString,
        new: SecretString,
    ) -> Result<SecretString> {
        signed_in(caller)?;
        check_password(&new)?;
        self.throttle.attempt(&caller.user.email, self.now())?;
        let found = people::user_by_email(&self.store, &caller.user.email).await?;
        if !password_holds(old, found.and_then(|(_, hash)| hash)).await? {
            let message = "the old password is wrong";
            return Err(Problem::new(Kind::Denied, "wrong_password", message, "Check it and try again."));
        }
        self.throttle.succeeded(&caller.user.email);
        let hash = hash_password(new).await?;
        let tx = self.store.begin().await?;
        people::password_set(&tx, caller.user.id, &hash).await?;
        access::sessions_delete_of(&tx, caller.user.id).await?;
        tx.commit().await?;
        self.session_open(&caller.user).await
    }

    /// The moment so many hours from now.
    pub(crate) fn after_hours(&self, hours: u32) -> Timestamp {
        let now = self.now();
        now.checked_add(SignedDuration::from_hours(i64::from(hours))).unwrap_or(Timestamp::MAX)
    }
}

/// Refuses a token where a person has to be there: what a token could make, it could outlive.
fn signed_in(caller: &Caller) -> Result<()> {
    if caller.via == Via::Session {
        return Ok(());
    }
    let message = "passwords and tokens are changed by who is signed in, not with a token";
    Err(Problem::new(Kind::Denied, "session_needed", message, "Sign in with a password."))
}

/// Refuses a token that was not made for a permission by name, where people are changed: whoever holds it could
/// make themselves an account that outlives it.
///
/// # Errors
/// `scope_needed` (`Denied`).
pub(crate) fn by_name(caller: &Caller, permission: Permission) -> Result<()> {
    if caller.via == Via::Session || caller.grants.is_named(permission) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Denied,
        "scope_needed",
        format!("a token changes who belongs here only if its scopes name {permission}"),
        "Sign in with a password, or make a token with that scope.",
    ))
}

fn wrong_login() -> Problem {
    Problem::new(
        Kind::Denied,
        "wrong_login",
        "the address or the password is wrong",
        "Check both; an administrator can send a new invitation.",
    )
}

fn not_signed_in() -> Problem {
    Problem::new(
        Kind::Denied,
        "not_signed_in",
        "nobody is signed in by what was sent",
        "Sign in, or send a valid token: `Authorization: Bearer TOKEN`.",
    )
}

/// An address as it is kept.
fn address(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let plain = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.len() > 1);
    if !plain || email.len() > 254 || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message = format!("\"{email}\" is not an e-mail address");
        return Err(crate::control::invalid("email_invalid", message, "Check it."));
    }
    Ok(email)
}
