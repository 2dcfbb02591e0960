//! How the tables come to be, version after version.
//!
//! A migration that was published is never changed: what is to be different is a new one. All of them run in
//! one transaction, so that a database has all tables of a version or those of the one before.

mod m0001_platform;
mod m0002_invitations;
mod m0003_servers;
mod m0004_deployments;
mod m0005_recovery_plans;
mod m0006_migrations;
mod m0007_addons;
mod words;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use undoo_core::{Kind, Problem, Result};

use crate::failure::failure;

/// All of them, oldest first.
struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_platform::Migration),
            Box::new(m0002_invitations::Migration),
            Box::new(m0003_servers::Migration),
            Box::new(m0004_deployments::Migration),
            Box::new(m0005_recovery_plans::Migration),
            Box::new(m0006_migrations::Migration),
            Box::new(m0007_addons::Migration),
        ]
    }
}

/// Applies what is missing; answers the names. Several processes may do so at once: on PostgreSQL one waits
/// for another on an advisory lock, on SQLite there is only one.
pub(crate) async fn apply(tx: &DatabaseTransaction) -> Result<Vec<String>> {
    if tx.get_database_backend() == DbBackend::Postgres {
        // The key is "undoo" in ASCII.
        let alone = "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(504363249519)";
        tx.execute_unprepared(alone).await.map_err(failure)?;
    }
    let missing = pending(tx).await?;
    Migrations::up(tx, None).await.map_err(failure)?;
    Ok(missing)
}

/// Names of those that were not applied yet; reads only.
pub(crate) async fn pending(on: &impl ConnectionTrait) -> Result<Vec<String>> {
    let pending = Migrations::get_pending_migrations_read_only(on).await.map_err(|error| match error {
        // Its only error of its own: one was applied that is not among ours.
        DbErr::Custom(_) => Problem::new(
            Kind::Conflict,
            "database_newer",
            "the database was written by a newer version of Undoo",
            "start that version. To go back, restore a copy of the database from before its upgrade",
        )
        .caused_by(error),
        other => failure(other),
    })?;
    Ok(pending.iter().map(|migration| migration.name().to_owned()).collect())
}
