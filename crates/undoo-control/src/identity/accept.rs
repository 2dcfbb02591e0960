//! Accepting what a one-time link offers: an account with a password of one's own, or a place in one more
//! organisation.
//!
//! Whoever made a link could use it, too. So it opens nothing that its maker could not: a link into an
//! organisation never changes the password of an account that has one, but asks for it; and the first such
//! link that is accepted decides whose address it is (decision 0023).

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use undoo_core::{
    Kind, OrganisationId, Problem, Result,
    platform::{OrgRole, User},
};
use undoo_store::{
    Tx,
    access::{self, Link, LinksOf},
    people,
};

use super::{INVITATION, hash_password, setup::link_invalid};
use crate::{
    Control,
    secrets::{Opaque, check_password, password_holds},
};

impl Control {
    /// Uses a link up. For an account that has a password, a link into an organisation takes that password;
    /// every other one sets it, and signs the account out everywhere else. The answer is a session.
    ///
    /// # Errors
    /// `link_invalid` (`Denied`), before any work is done for it; `password_weak`; `wrong_password`,
    /// `too_many_attempts` (`Denied`): the link still holds then.
    pub async fn invitation_accept(
        &self,
        token: &SecretString,
        password: SecretString,
    ) -> Result<(SecretString, User)> {
        let (secret, now) = (Opaque::hash(token.expose_secret()), self.now());
        let link = access::link(&self.store, secret, INVITATION, now).await?.ok_or_else(link_invalid)?;
        let id = link.user_id.ok_or_else(link_invalid)?;
        let known = people::user(&self.store, id).await?.filter(|user| user.disabled_at.is_none());
        let known = known.ok_or_else(link_invalid)?;
        let before = people::user_by_email(&self.store, &known.email).await?.and_then(|(_, hash)| hash);
        let is_new = link.joins.is_none() || before.is_none();
        let hash = if is_new {
            check_password(&password)?;
            Some(hash_password(password).await?)
        } else {
            self.throttle.attempt(&known.email, now)?;
            if !password_holds(password, before.clone()).await? {
                return Err(wrong_password());
            }
            None
        };
        self.throttle.succeeded(&known.email);
        let tx = self.store.begin().await?;
        let taken = access::link_take(&tx, secret, INVITATION, now).await?;
        // What was found before must still be so.
        let locked = people::user_locked(&tx, id).await?;
        let (user, _) = locked
            .filter(|(user, hash)| user.disabled_at.is_none() && *hash == before)
            .filter(|_| taken.as_ref() == Some(&link))
            .ok_or_else(link_invalid)?;
        if let Some(hash) = hash {
            people::password_set(&tx, id, &hash).await?;
            access::sessions_delete_of(&tx, id).await?;
        }
        // They were made by who administered less than the account is from now on.
        access::links_delete_of(&tx, id, LinksOf::Account).await?;
        self.let_in(&tx, &user, &link, before.is_none()).await?;
        tx.commit().await?;
        Ok((self.session_open(&user).await?, user))
    }

    /// What a link changes of where somebody belongs.
    async fn let_in(&self, tx: &Tx, user: &User, link: &Link, is_first: bool) -> Result<()> {
        let mut theirs = people::membership(tx, user.id).await?.organisations;
        theirs.sort_unstable_by_key(|(organisation, _)| *organisation);
        let Some((organisation, role)) = link.joins else {
            for (organisation, _) in theirs {
                self.tell_of(tx, user, organisation, "user.password_set").await?;
            }
            return Ok(());
        };
        if !theirs.iter().any(|(of, _)| *of == organisation) {
            people::org_role_set(tx, organisation, user.id, Some(role)).await?;
            theirs.push((organisation, role));
            theirs.sort_unstable_by_key(|(organisation, _)| *organisation);
        }
        // Others have invited the same address, and nobody has come with their link: whether it is the same
        // person is not known, and theirs to say with that link.
        for (other, _) in theirs {
            if other == organisation {
                self.tell_of(tx, user, organisation, "user.joined").await?;
            } else if is_first {
                people::org_role_set(tx, other, user.id, None::<OrgRole>).await?;
                people::project_roles_clear(tx, other, user.id).await?;
                self.tell_of(tx, user, other, "user.joined_elsewhere").await?;
            }
        }
        Ok(())
    }

    async fn tell_of(&self, tx: &Tx, user: &User, of: OrganisationId, action: &str) -> Result<()> {
        self.note_of(tx, Some(user.id), of, action, user.id, json!({ "email": user.email })).await
    }
}

fn wrong_password() -> Problem {
    Problem::new(
        Kind::Denied,
        "wrong_password",
        "there is an account with this address already, and this is not its password",
        "Give the password that you sign in with; an administrator can make a link for a new one.",
    )
}
