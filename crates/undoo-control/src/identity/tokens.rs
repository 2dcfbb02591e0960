//! Bearer tokens of programs: shown once, kept as a hash, never able to do more than their owner.

use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::json;
use undoo_core::{
    OrganisationId, Result, TokenId,
    platform::{ApiToken, Permission, Scope},
};
use undoo_store::{Listed, Page, access};

use super::signed_in;
use crate::{
    Caller, Control, Via,
    control::{Named, invalid, name_of},
    secrets::Opaque,
};

/// The longest that a token may hold, in days.
const MOST_DAYS: u32 = 3650;

/// A token that is asked for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// The only organisation that it works in, if it is bound to one.
    pub organisation_id: Option<OrganisationId>,
    /// The only permissions that it has; `None` for all of its owner's.
    pub scopes: Option<Vec<Permission>>,
    /// How long it holds; `None` until it is revoked.
    pub expires_in_days: Option<u32>,
}

impl Control {
    /// Makes a token of the caller's. The answer has its secret, which is never shown again.
    ///
    /// # Errors
    /// `session_needed` (`Denied`) with a token; `not_found` for an organisation that is not the caller's.
    pub async fn token_create(&self, caller: &Caller, new: NewToken) -> Result<(ApiToken, SecretString)> {
        signed_in(caller)?;
        if let Some(organisation) = new.organisation_id {
            let named = Named("organisation", organisation);
            self.allow(caller, Permission::OrgView, Scope::Organisation(organisation), &named)?;
        }
        let now = self.now();
        let expires_at = match new.expires_in_days {
            None => None,
            Some(days) if (1..=MOST_DAYS).contains(&days) => {
                now.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()
            }
            Some(days) => {
                let message = format!("a token cannot hold for {days} days");
                return Err(invalid("expires_in_days", message, "Ask for 1 to 3650 days, or for no end."));
            }
        };
        let secret = Opaque::generate()?;
        let token = ApiToken {
            id: TokenId::generate(),
            user_id: caller.user.id,
            name: name_of(&new.name)?,
            organisation_id: new.organisation_id,
            scopes: new.scopes,
            created_at: now,
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let tx = self.store.begin().await?;
        access::token_insert(&tx, &token, secret.hash).await?;
        if let Some(organisation) = token.organisation_id {
            let data = json!({ "name": token.name, "scopes": token.scopes });
            self.note(&tx, Some(caller), organisation, "token.created", token.id, data).await?;
        }
        tx.commit().await?;
        Ok((token, secret.token))
    }

    /// The caller's tokens; for who comes with one, that one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn token_list(&self, caller: &Caller, page: Page) -> Result<Listed<ApiToken>> {
        let Via::Token(own) = caller.via else {
            return access::tokens_of(&self.store, caller.user.id, page).await;
        };
        let items = access::token(&self.store, own).await?.filter(|_| page.page == 1);
        Ok(Listed { items: items.into_iter().collect(), total: 1 })
    }

    /// Ends a token of the caller's: at once, and for good. A token ends itself and no other.
    ///
    /// # Errors
    /// `not_found` (`Missing`) for one that is not theirs; `session_needed` (`Denied`).
    pub async fn token_revoke(&self, caller: &Caller, id: TokenId) -> Result<ApiToken> {
        if caller.via != Via::Token(id) {
            signed_in(caller)?;
        }
        let tx = self.store.begin().await?;
        let token = access::token(&tx, id).await?.filter(|token| token.user_id == caller.user.id);
        let mut token = token.ok_or_else(|| Named("token", id).missing())?;
        if token.revoked_at.is_none() {
            let now = self.now();
            access::token_revoke(&tx, id, now).await?;
            token.revoked_at = Some(now);
            if let Some(organisation) = token.organisation_id {
                self.note(&tx, Some(caller), organisation, "token.revoked", id, json!({})).await?;
            }
        }
        tx.commit().await?;
        Ok(token)
    }
}
