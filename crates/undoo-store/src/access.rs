//! What somebody signs in with: sessions, tokens, and links that work once. Only hashes of secrets come here.

use jiff::{Timestamp, ToSpan};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic,
    QueryFilter, QueryOrder, QueryTrait, Related, Select, SelectA, SelectB,
};
use undoo_core::{
    OrganisationId, Result, TokenId, UserId,
    platform::{ApiToken, Membership, OrgRole, User},
};

use crate::{
    Connection, Listed, Page, belongs,
    failure::{changed_meanwhile, failure, misuse},
    page::listed,
    row::{insert, micros, time, word},
    tables::{link, session, token as tokens, user},
};

/// Adds a session.
///
/// # Errors
/// Those of the database.
pub async fn session_insert(
    on: &impl Connection,
    hash: [u8; 32],
    user: UserId,
    expires_at: Timestamp,
) -> Result<()> {
    let row = session::Model { hash: hash.to_vec(), user_id: user.uuid(), expires_at: micros(expires_at) };
    insert(on.writes(), row).await.map_err(failure)
}

/// Whose session this is, if it has not ended, and what they belong to.
///
/// # Errors
/// Those of the database.
pub async fn session_user(
    on: &impl Connection,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<(User, Membership)>> {
    let live = session::Entity::find_by_id(hash.to_vec()).filter(session::Column::ExpiresAt.gt(micros(now)));
    Ok(with_user(on, live).await?.map(|(_, user, membership)| (user, membership)))
}

/// Ends a session.
///
/// # Errors
/// Those of the database.
pub async fn session_delete(on: &impl Connection, hash: [u8; 32]) -> Result<()> {
    session::Entity::delete_by_id(hash.to_vec()).exec(on.writes()).await.map_err(failure).map(drop)
}

/// Ends all sessions of somebody.
///
/// # Errors
/// Those of the database.
pub async fn sessions_delete_of(on: &impl Connection, user: UserId) -> Result<()> {
    let theirs = session::Entity::delete_many().filter(session::Column::UserId.eq(user.uuid()));
    theirs.exec(on.writes()).await.map_err(failure).map(drop)
}

/// Adds a token, by its hash.
///
/// # Errors
/// Those of the database.
pub async fn token_insert(on: &impl Connection, token: &ApiToken, hash: [u8; 32]) -> Result<()> {
    insert(on.writes(), tokens::Model::new(token, &hash)).await.map_err(failure)
}

/// The token with this hash, whether it still works or not, whose it is, and what they belong to.
///
/// # Errors
/// Those of the database.
pub async fn token_by_hash(
    on: &impl Connection,
    hash: [u8; 32],
) -> Result<Option<(ApiToken, User, Membership)>> {
    let found = tokens::Entity::find().filter(tokens::Column::Hash.eq(hash.to_vec()));
    let Some((token, user, membership)) = with_user(on, found).await? else { return Ok(None) };
    Ok(Some((token.try_into()?, user, membership)))
}

/// One of the things that somebody signs in with, who that is, and what they belong to.
async fn with_user<E>(on: &impl Connection, which: Select<E>) -> Result<Option<(E::Model, User, Membership)>>
where
    E: EntityTrait + Related<user::Entity>,
{
    let mut asked = which.find_also_related(user::Entity).into_query();
    belongs::ask(&mut asked);
    let rows = on.reads().query_all(&asked).await.map_err(failure)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let with = E::Model::from_query_result(first, SelectA.as_str()).map_err(failure)?;
    let user = user::Model::from_query_result(first, SelectB.as_str()).map_err(failure)?;
    Ok(Some((with, user.try_into()?, belongs::read(&rows)?)))
}

/// A token.
///
/// # Errors
/// Those of the database.
pub async fn token(on: &impl Connection, id: TokenId) -> Result<Option<ApiToken>> {
    let row = tokens::Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(ApiToken::try_from).transpose()
}

/// Tokens of somebody, also those that do not work any more.
///
/// # Errors
/// Those of the database.
pub async fn tokens_of(on: &impl Connection, user: UserId, page: Page) -> Result<Listed<ApiToken>> {
    let all = tokens::Entity::find()
        .filter(tokens::Column::UserId.eq(user.uuid()))
        .order_by_desc(tokens::Column::CreatedAt)
        .order_by_desc(tokens::Column::Id);
    listed(on.reads(), all, page).await
}

/// From now on a token is not accepted. One that was revoked stays as it is.
///
/// # Errors
/// `changed_meanwhile` if it is not there or was revoked.
pub async fn token_revoke(on: &impl Connection, id: TokenId, at: Timestamp) -> Result<()> {
    let revoked = revoke(on, tokens::Column::Id.eq(id.uuid()), at).await?;
    if revoked == 1 { Ok(()) } else { Err(changed_meanwhile("token")) }
}

/// Revokes all tokens of somebody that are not revoked yet.
///
/// # Errors
/// Those of the database.
pub async fn tokens_revoke_of(on: &impl Connection, user: UserId, at: Timestamp) -> Result<()> {
    revoke(on, tokens::Column::UserId.eq(user.uuid()), at).await.map(drop)
}

/// Revokes those of some tokens that are not revoked yet; answers how many.
async fn revoke(on: &impl Connection, which: sea_orm::sea_query::SimpleExpr, at: Timestamp) -> Result<u64> {
    let revoked = tokens::ActiveModel {
        revoked_at: ActiveValue::Set(Some(micros(at))),
        ..tokens::ActiveModel::default()
    };
    let update = tokens::Entity::update_many().set(revoked).filter(which);
    let done = update.filter(tokens::Column::RevokedAt.is_null()).exec(on.writes()).await;
    done.map(|done| done.rows_affected).map_err(failure)
}

/// Notes that a token was used, once a minute.
///
/// # Errors
/// Those of the database.
pub async fn token_used(on: &impl Connection, id: TokenId, at: Timestamp) -> Result<()> {
    let before = at.checked_sub(1.minute()).map_err(|error| misuse("no such time").caused_by(error))?;
    let used = tokens::ActiveModel {
        last_used_at: ActiveValue::Set(Some(micros(at))),
        ..tokens::ActiveModel::default()
    };
    let is_due = Condition::any()
        .add(tokens::Column::LastUsedAt.is_null())
        .add(tokens::Column::LastUsedAt.lte(micros(before)));
    let update = tokens::Entity::update_many().set(used);
    let update = update.filter(tokens::Column::Id.eq(id.uuid())).filter(is_due);
    update.exec(on.writes()).await.map_err(failure).map(drop)
}

/// A link that works once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What for.
    pub purpose: String,
    /// Whom for, if for somebody.
    pub user_id: Option<UserId>,
    /// What it lets them into, and as what.
    pub joins: Option<(OrganisationId, OrgRole)>,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Link {
    fn of(row: link::Model) -> Result<Self> {
        let role = row.role.as_deref().map(|role| word("role", role)).transpose()?;
        Ok(Self {
            purpose: row.purpose,
            user_id: row.user_id.map(Into::into),
            joins: row.organisation_id.map(Into::into).zip(role),
            expires_at: time("expires_at", row.expires_at)?,
        })
    }
}

/// Which links of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinksOf {
    /// All of them.
    Any,
    /// Those that are for the account, and let nobody in anywhere.
    Account,
    /// Those that let into this organisation.
    Joining(OrganisationId),
}

/// Adds a link.
///
/// # Errors
/// Those of the database.
pub async fn link_insert(on: &impl Connection, hash: [u8; 32], link: &Link) -> Result<()> {
    let row = link::Model {
        hash: hash.to_vec(),
        purpose: link.purpose.clone(),
        user_id: link.user_id.map(|user| user.uuid()),
        expires_at: micros(link.expires_at),
        organisation_id: link.joins.map(|(organisation, _)| organisation.uuid()),
        role: link.joins.map(|(_, role)| role.to_string()),
    };
    insert(on.writes(), row).await.map_err(failure)
}

/// The link with this hash, if there is one for this purpose that still holds. It can be used afterwards.
///
/// # Errors
/// Those of the database.
pub async fn link(
    on: &impl Connection,
    hash: [u8; 32],
    purpose: &str,
    now: Timestamp,
) -> Result<Option<Link>> {
    let found = link::Entity::find().filter(holding(hash, purpose, now));
    found.one(on.reads()).await.map_err(failure)?.map(Link::of).transpose()
}

/// Uses a link up. `None` if there is no such link, or not any more.
///
/// # Errors
/// Those of the database.
pub async fn link_take(
    on: &impl Connection,
    hash: [u8; 32],
    purpose: &str,
    now: Timestamp,
) -> Result<Option<Link>> {
    let taken = link::Entity::delete_many().filter(holding(hash, purpose, now));
    let rows = taken.exec_with_returning(on.writes()).await.map_err(failure)?;
    rows.into_iter().next().map(Link::of).transpose()
}

fn holding(hash: [u8; 32], purpose: &str, now: Timestamp) -> Condition {
    Condition::all()
        .add(link::Column::Hash.eq(hash.to_vec()))
        .add(link::Column::Purpose.eq(purpose))
        .add(link::Column::ExpiresAt.gt(micros(now)))
}

/// Voids links of somebody.
///
/// # Errors
/// Those of the database.
pub async fn links_delete_of(on: &impl Connection, user: UserId, which: LinksOf) -> Result<()> {
    let theirs = link::Entity::delete_many().filter(link::Column::UserId.eq(user.uuid()));
    let which = match which {
        LinksOf::Any => theirs,
        LinksOf::Account => theirs.filter(link::Column::OrganisationId.is_null()),
        LinksOf::Joining(organisation) => theirs.filter(link::Column::OrganisationId.eq(organisation.uuid())),
    };
    which.exec(on.writes()).await.map_err(failure).map(drop)
}

/// Removes all links of a purpose.
///
/// # Errors
/// Those of the database.
pub async fn links_delete_for(on: &impl Connection, purpose: &str) -> Result<()> {
    let all = link::Entity::delete_many().filter(link::Column::Purpose.eq(purpose));
    all.exec(on.writes()).await.map_err(failure).map(drop)
}

/// Removes sessions and links that have ended.
///
/// # Errors
/// Those of the database.
pub async fn prune(on: &impl Connection, now: Timestamp) -> Result<()> {
    let sessions = session::Entity::delete_many().filter(session::Column::ExpiresAt.lte(micros(now)));
    sessions.exec(on.writes()).await.map_err(failure)?;
    let links = link::Entity::delete_many().filter(link::Column::ExpiresAt.lte(micros(now)));
    links.exec(on.writes()).await.map_err(failure).map(drop)
}
