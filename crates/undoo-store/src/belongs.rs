//! What somebody belongs to, asked in the same statement as who they are: with every request, both are.

use sea_orm::{
    JoinType, QueryResult,
    prelude::Uuid,
    sea_query::{Alias, Condition, Expr, ExprTrait, Query, SelectStatement, UnionType},
};
use undoo_core::{Result, platform::Membership};

use crate::{
    failure::failure,
    row::word,
    tables::{organisation_member, project_member, user},
};

/// 0 in the rows of organisations, 1 in those of projects.
const WHICH: &str = "which";

/// Has a statement about one of `users` answer with a row for each organisation and for each project that this
/// user belongs to, and two at the least.
pub(crate) fn ask(about: &mut SelectStatement) {
    use organisation_member::Column as OfOrganisation;
    use project_member::Column as OfProject;
    let both = Query::select()
        .expr_as(Expr::val(0), WHICH)
        .union(UnionType::All, Query::select().expr_as(Expr::val(1), WHICH).to_owned())
        .to_owned();
    let which = || Expr::col((Alias::new(WHICH), Alias::new(WHICH)));
    let user = || Expr::col((user::Entity, user::Column::Id));
    let in_organisation = Condition::all()
        .add(which().eq(0))
        .add(Expr::col((organisation_member::Entity, OfOrganisation::UserId)).eq(user()));
    let in_project = Condition::all()
        .add(which().eq(1))
        .add(Expr::col((project_member::Entity, OfProject::UserId)).eq(user()));
    about
        .join_subquery(JoinType::InnerJoin, both, WHICH, Condition::all())
        .join(JoinType::LeftJoin, organisation_member::Entity, in_organisation)
        .join(JoinType::LeftJoin, project_member::Entity, in_project)
        .expr_as(Expr::col((organisation_member::Entity, OfOrganisation::OrganisationId)), "organisation")
        .expr_as(Expr::col((organisation_member::Entity, OfOrganisation::Role)), "organisation_role")
        .expr_as(Expr::col((project_member::Entity, OfProject::OrganisationId)), "project_of")
        .expr_as(Expr::col((project_member::Entity, OfProject::ProjectId)), "project")
        .expr_as(Expr::col((project_member::Entity, OfProject::Role)), "project_role");
}

/// What the rows of such a statement tell.
///
/// # Errors
/// Those of the database, and of what cannot be a role.
pub(crate) fn read(rows: &[QueryResult]) -> Result<Membership> {
    let mut membership = Membership::default();
    for row in rows {
        let id = |name| row.try_get::<Option<Uuid>>("", name).map_err(failure);
        let role = |name| row.try_get::<String>("", name).map_err(failure);
        if let Some(organisation) = id("organisation")? {
            let role = word("role", &role("organisation_role")?)?;
            membership.organisations.push((organisation.into(), role));
        }
        if let (Some(of), Some(project)) = (id("project_of")?, id("project")?) {
            membership.projects.push((of.into(), project.into(), word("role", &role("project_role")?)?));
        }
    }
    membership.organisations.sort_by_key(|(organisation, _)| *organisation);
    membership.projects.sort_by_key(|(_, project, _)| *project);
    Ok(membership)
}
