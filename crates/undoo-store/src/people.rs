//! Organisations, their projects, and the people in them.

use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
    sea_query::{LockType, OnConflict},
};
use undoo_core::{
    OrganisationId, ProjectId, Result, UserId,
    platform::{Membership, OrgRole, Organisation, Project, ProjectRole, User},
};

use crate::{
    Connection, Listed, Page, Tx, belongs,
    failure::{changed_meanwhile, failure, failure_or_taken, name_taken},
    page::{listed, listed_rows},
    row::{insert, word},
    tables::{
        organisation as organisations_, organisation_member, project as projects_, project_member,
        user as users,
    },
};

/// Adds somebody. Without the hash of a password they cannot sign in with one.
///
/// # Errors
/// `email_taken`.
pub async fn user_insert(on: &impl Connection, user: &User, password_hash: Option<&str>) -> Result<()> {
    let row = users::Model::new(user, password_hash);
    insert(on.writes(), row).await.map_err(|error| failure_or_taken(error, || email_taken(user)))
}

/// Somebody.
///
/// # Errors
/// Those of the database.
pub async fn user(on: &impl Connection, id: UserId) -> Result<Option<User>> {
    let row = users::Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(User::try_from).transpose()
}

/// Somebody and the hash of their password, by their address in lower case.
///
/// # Errors
/// Those of the database.
pub async fn user_by_email(on: &impl Connection, email: &str) -> Result<Option<(User, Option<String>)>> {
    let found = users::Entity::find().filter(users::Column::Email.eq(email));
    let Some(row) = found.one(on.reads()).await.map_err(failure)? else { return Ok(None) };
    let hash = row.password_hash.clone();
    Ok(Some((row.try_into()?, hash)))
}

/// Somebody whom nobody else changes before this transaction ends, and the hash of their password.
///
/// # Errors
/// Those of the database.
pub async fn user_locked(tx: &Tx, id: UserId) -> Result<Option<(User, Option<String>)>> {
    let row = users::Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    let Some(row) = row.map_err(failure)? else { return Ok(None) };
    let hash = row.password_hash.clone();
    Ok(Some((row.try_into()?, hash)))
}

/// Who administers the platform and may sign in. Of two who ask in order to change that, one waits until the
/// transaction of the other is over.
///
/// # Errors
/// Those of the database.
pub async fn portal_admins_locked(tx: &Tx) -> Result<Vec<UserId>> {
    let all = users::Entity::find()
        .filter(users::Column::PortalAdmin.eq(true))
        .filter(users::Column::DisabledAt.is_null())
        .order_by_asc(users::Column::Id)
        .lock(LockType::NoKeyUpdate);
    let rows = all.all(tx.raw()).await.map_err(failure)?;
    Ok(rows.into_iter().map(|row| row.id.into()).collect())
}

/// Owners of an organisation who may sign in.
///
/// # Errors
/// Those of the database.
pub async fn owners(on: &impl Connection, organisation: OrganisationId) -> Result<Vec<UserId>> {
    use organisation_member::{Column, Entity};
    let owners = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .filter(Column::Role.eq(OrgRole::Owner.as_str()));
    let rows = owners.all(on.reads()).await.map_err(failure)?;
    let able = users::Entity::find()
        .filter(users::Column::Id.is_in(rows.iter().map(|row| row.user_id)))
        .filter(users::Column::DisabledAt.is_null());
    Ok(able.all(on.reads()).await.map_err(failure)?.into_iter().map(|row| row.id.into()).collect())
}

/// Whether there is anybody.
///
/// # Errors
/// Those of the database.
pub async fn users_exist(on: &impl Connection) -> Result<bool> {
    Ok(users::Entity::find().one(on.reads()).await.map_err(failure)?.is_some())
}

/// Everybody, newest first.
///
/// # Errors
/// Those of the database.
pub async fn users(on: &impl Connection, page: Page) -> Result<Listed<User>> {
    listed(on.reads(), users::Entity::find().order_by_desc(users::Column::Id), page).await
}

/// Writes somebody's particulars; their password stays.
///
/// # Errors
/// `email_taken`; `changed_meanwhile` if they are not there.
pub async fn user_update(on: &impl Connection, user: &User) -> Result<()> {
    let mut row = users::Model::new(user, None).into_active_model();
    row = sea_orm::ActiveModelTrait::reset_all(row);
    row.password_hash = ActiveValue::NotSet;
    let update = users::Entity::update_many().set(row).filter(users::Column::Id.eq(user.id.uuid()));
    let done =
        update.exec(on.writes()).await.map_err(|error| failure_or_taken(error, || email_taken(user)))?;
    if done.rows_affected == 1 { Ok(()) } else { Err(changed_meanwhile("user")) }
}

/// Gives somebody another password, by its hash.
///
/// # Errors
/// `changed_meanwhile` if they are not there.
pub async fn password_set(on: &impl Connection, id: UserId, hash: &str) -> Result<()> {
    let password = users::ActiveModel {
        password_hash: ActiveValue::Set(Some(hash.to_owned())),
        ..users::ActiveModel::default()
    };
    let update = users::Entity::update_many().set(password).filter(users::Column::Id.eq(id.uuid()));
    let done = update.exec(on.writes()).await.map_err(failure)?;
    if done.rows_affected == 1 { Ok(()) } else { Err(changed_meanwhile("user")) }
}

fn email_taken(user: &User) -> undoo_core::Problem {
    undoo_core::Problem::new(
        undoo_core::Kind::Conflict,
        "email_taken",
        format!("somebody with the address {} is there already", user.email),
        "give that user a role instead of making a new one",
    )
}

/// All that somebody belongs to.
///
/// # Errors
/// Those of the database.
pub async fn membership(on: &impl Connection, user: UserId) -> Result<Membership> {
    let mut asked = users::Entity::find_by_id(user.uuid()).select_only().into_query();
    belongs::ask(&mut asked);
    belongs::read(&on.reads().query_all(&asked).await.map_err(failure)?)
}

/// Makes somebody something in an organisation, or nothing at all.
///
/// # Errors
/// `gone_meanwhile` if one of them is not there.
pub async fn org_role_set(
    on: &impl Connection,
    organisation: OrganisationId,
    user: UserId,
    role: Option<OrgRole>,
) -> Result<()> {
    use organisation_member::{ActiveModel, Column, Entity};
    let Some(role) = role else {
        let removal = Entity::delete_by_id((organisation.uuid(), user.uuid()));
        return removal.exec(on.writes()).await.map_err(failure).map(drop);
    };
    let row = ActiveModel {
        organisation_id: ActiveValue::Set(organisation.uuid()),
        user_id: ActiveValue::Set(user.uuid()),
        role: ActiveValue::Set(role.to_string()),
    };
    let other =
        OnConflict::columns([Column::OrganisationId, Column::UserId]).update_column(Column::Role).to_owned();
    Entity::insert(row)
        .on_conflict(other)
        .exec_without_returning(on.writes())
        .await
        .map_err(failure)
        .map(drop)
}

/// Makes somebody something in a project, or nothing at all.
///
/// # Errors
/// `gone_meanwhile` if one of them is not there.
pub async fn project_role_set(
    on: &impl Connection,
    organisation: OrganisationId,
    project: ProjectId,
    user: UserId,
    role: Option<ProjectRole>,
) -> Result<()> {
    use project_member::{ActiveModel, Column, Entity};
    let Some(role) = role else {
        let removal = Entity::delete_by_id((project.uuid(), user.uuid()));
        return removal.exec(on.writes()).await.map_err(failure).map(drop);
    };
    let row = ActiveModel {
        organisation_id: ActiveValue::Set(organisation.uuid()),
        project_id: ActiveValue::Set(project.uuid()),
        user_id: ActiveValue::Set(user.uuid()),
        role: ActiveValue::Set(role.to_string()),
    };
    let other =
        OnConflict::columns([Column::ProjectId, Column::UserId]).update_column(Column::Role).to_owned();
    Entity::insert(row)
        .on_conflict(other)
        .exec_without_returning(on.writes())
        .await
        .map_err(failure)
        .map(drop)
}

/// Takes somebody out of all projects of an organisation.
///
/// # Errors
/// Those of the database.
pub async fn project_roles_clear(
    on: &impl Connection,
    organisation: OrganisationId,
    user: UserId,
) -> Result<()> {
    use project_member::{Column, Entity};
    let theirs = Entity::delete_many()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .filter(Column::UserId.eq(user.uuid()));
    theirs.exec(on.writes()).await.map_err(failure).map(drop)
}

/// Who belongs to an organisation, the newest users first.
///
/// # Errors
/// Those of the database.
pub async fn members_of_org(
    on: &impl Connection,
    organisation: OrganisationId,
    page: Page,
) -> Result<Listed<(User, OrgRole)>> {
    use organisation_member::{Column, Entity};
    let all =
        Entity::find().filter(Column::OrganisationId.eq(organisation.uuid())).order_by_desc(Column::UserId);
    let rows = listed_rows(on.reads(), all, page).await?;
    let members = rows.try_map(|row| Ok((row.user_id.into(), word("role", &row.role)?)))?;
    with_users(on, members).await
}

/// Who is in a project, the newest users first.
///
/// # Errors
/// Those of the database.
pub async fn members_of_project(
    on: &impl Connection,
    project: ProjectId,
    page: Page,
) -> Result<Listed<(User, ProjectRole)>> {
    use project_member::{Column, Entity};
    let all = Entity::find().filter(Column::ProjectId.eq(project.uuid())).order_by_desc(Column::UserId);
    let rows = listed_rows(on.reads(), all, page).await?;
    let members = rows.try_map(|row| Ok((row.user_id.into(), word("role", &row.role)?)))?;
    with_users(on, members).await
}

async fn with_users<R>(on: &impl Connection, members: Listed<(UserId, R)>) -> Result<Listed<(User, R)>> {
    let ids = members.items.iter().map(|(id, _)| id.uuid());
    let rows = users::Entity::find().filter(users::Column::Id.is_in(ids)).all(on.reads()).await;
    let mut found = std::collections::HashMap::new();
    for row in rows.map_err(failure)? {
        found.insert(row.id, User::try_from(row)?);
    }
    // One that was removed between the two questions is left out.
    let with_user = |(id, role): (UserId, R)| found.remove(&id.uuid()).map(|user| (user, role));
    Ok(Listed { items: members.items.into_iter().filter_map(with_user).collect(), total: members.total })
}

/// Adds an organisation.
///
/// # Errors
/// `name_taken`.
pub async fn organisation_insert(on: &impl Connection, organisation: &Organisation) -> Result<()> {
    let taken = || name_taken("an organisation", &organisation.name);
    let row = organisations_::Model::from(organisation);
    insert(on.writes(), row).await.map_err(|error| failure_or_taken(error, taken))
}

/// An organisation.
///
/// # Errors
/// Those of the database.
pub async fn organisation(on: &impl Connection, id: OrganisationId) -> Result<Option<Organisation>> {
    let row = organisations_::Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Organisation::try_from).transpose()
}

/// The same, for decisions about all that is in it (that its last owner stays, say): whoever asks so waits
/// until the transaction of another who did is over.
///
/// # Errors
/// Those of the database.
pub async fn organisation_locked(tx: &Tx, id: OrganisationId) -> Result<Option<Organisation>> {
    let row = organisations_::Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(Organisation::try_from).transpose()
}

/// Gives an organisation another name.
///
/// # Errors
/// `name_taken`; `changed_meanwhile` if it is not there.
pub async fn organisation_rename(on: &impl Connection, id: OrganisationId, name: &str) -> Result<()> {
    use organisations_::{ActiveModel, Column, Entity};
    let named = ActiveModel { name: ActiveValue::Set(name.to_owned()), ..ActiveModel::default() };
    let update = Entity::update_many().set(named).filter(Column::Id.eq(id.uuid())).exec(on.writes()).await;
    let done = update.map_err(|error| failure_or_taken(error, || name_taken("an organisation", name)))?;
    if done.rows_affected == 1 { Ok(()) } else { Err(changed_meanwhile("organisation")) }
}

/// Organisations: all, or those of these that are there.
///
/// # Errors
/// Those of the database.
pub async fn organisations(
    on: &impl Connection,
    of: Option<&[OrganisationId]>,
    page: Page,
) -> Result<Listed<Organisation>> {
    use organisations_::{Column, Entity};
    let mut all = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    if let Some(of) = of {
        all = all.filter(Column::Id.is_in(of.iter().map(|id| id.uuid())));
    }
    listed(on.reads(), all, page).await
}

/// Adds a project.
///
/// # Errors
/// `name_taken`; `gone_meanwhile` if its organisation is not there.
pub async fn project_insert(on: &impl Connection, project: &Project) -> Result<()> {
    let taken = || name_taken("a project", &project.name);
    let row = projects_::Model::from(project);
    insert(on.writes(), row).await.map_err(|error| failure_or_taken(error, taken))
}

/// A project.
///
/// # Errors
/// Those of the database.
pub async fn project(on: &impl Connection, id: ProjectId) -> Result<Option<Project>> {
    let row = projects_::Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(Project::try_from).transpose()
}

/// Gives a project another name.
///
/// # Errors
/// `name_taken`; `changed_meanwhile` if it is not there.
pub async fn project_rename(on: &impl Connection, id: ProjectId, name: &str) -> Result<()> {
    use projects_::{ActiveModel, Column, Entity};
    let named = ActiveModel { name: ActiveValue::Set(name.to_owned()), ..ActiveModel::default() };
    let update = Entity::update_many().set(named).filter(Column::Id.eq(id.uuid())).exec(on.writes()).await;
    let done = update.map_err(|error| failure_or_taken(error, || name_taken("a project", name)))?;
    if done.rows_affected == 1 { Ok(()) } else { Err(changed_meanwhile("project")) }
}

/// Projects of an organisation: all, or those of these that are there.
///
/// # Errors
/// Those of the database.
pub async fn projects(
    on: &impl Connection,
    organisation: OrganisationId,
    of: Option<&[ProjectId]>,
    page: Page,
) -> Result<Listed<Project>> {
    use projects_::{Column, Entity};
    let mut all = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    if let Some(of) = of {
        all = all.filter(Column::Id.is_in(of.iter().map(|id| id.uuid())));
    }
    listed(on.reads(), all, page).await
}
