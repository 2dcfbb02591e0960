//! Recovery plans.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};
use undoo_core::{OrganisationId, RecoveryPlanId, Result, platform::recovery_plan::RecoveryPlan};

use crate::{
    Connection, Listed, Page, Tx,
    failure::{changed_meanwhile, failure},
    page::listed,
    row,
    tables::recovery_plan::{Column, Entity, Model},
};

/// Adds one.
///
/// # Errors
/// `gone_meanwhile` if its organisation is not there.
pub async fn insert(on: &impl Connection, plan: &RecoveryPlan) -> Result<()> {
    row::insert(on.writes(), Model::from(plan)).await.map_err(failure)
}

/// One.
///
/// # Errors
/// Those of the database.
pub async fn get(on: &impl Connection, id: RecoveryPlanId) -> Result<Option<RecoveryPlan>> {
    let row = Entity::find_by_id(id.uuid()).one(on.reads()).await.map_err(failure)?;
    row.map(RecoveryPlan::try_from).transpose()
}

/// The same, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn locked(tx: &Tx, id: RecoveryPlanId) -> Result<Option<RecoveryPlan>> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(tx.raw()).await;
    row.map_err(failure)?.map(RecoveryPlan::try_from).transpose()
}

/// Writes one as it now is.
///
/// # Errors
/// `changed_meanwhile` if it is not there.
pub async fn update(on: &impl Connection, plan: &RecoveryPlan) -> Result<()> {
    if row::overwrite(on.writes(), Model::from(plan), Condition::all()).await.map_err(failure)? {
        Ok(())
    } else {
        Err(changed_meanwhile("recovery plan"))
    }
}

/// Those of an organisation, newest first.
///
/// # Errors
/// Those of the database.
pub async fn list(
    on: &impl Connection,
    organisation: OrganisationId,
    page: Page,
) -> Result<Listed<RecoveryPlan>> {
    let all = Entity::find()
        .filter(Column::OrganisationId.eq(organisation.uuid()))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id);
    listed(on.reads(), all, page).await
}
