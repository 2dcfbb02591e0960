//! Deploying the environment of a migration: the first time restores it, every other time keeps the data, unless a
//! person asks for what destroys it.

use undoo_core::{
    EnvironmentId, Finding, Kind, Problem, Result,
    platform::{
        Backup, DeploymentState, Environment, EnvironmentType, Migration, MigrationStatus, Permission,
        RestoreMode, RestorePoint, RestoreStatus, Scope, Task, images,
    },
};
use undoo_engine::order::Intent;
use undoo_store::{Tx, deployments, environments, migrations, tasks};

use super::{locked, not_uploaded};
use crate::{
    Caller, Control, DeployAction, DeploymentWish, Once, RestoreWish,
    backups::known,
    control::{Named, invalid},
    deployments::not_there,
    environments::place_of,
    restores::Decided,
};

/// How an environment is to be deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deploy {
    /// Whether the backup of its migration is restored over what is there.
    pub force_restore: bool,
    /// Odoo's image, where the environment is made now; `None` for the one that its record or its backup names.
    pub odoo_image: Option<String>,
    /// Codes of findings that somebody has accepted.
    pub accept: Vec<String>,
}

impl Control {
    /// Deploys an environment that the platform has made, or is to make. One that waits for a migration is made
    /// around the restore of its backup; any other has its containers made anew, and keeps its data.
    ///
    /// With `force_restore` the backup of the environment's migration is restored over what is there, which is backed
    /// up before.
    ///
    /// # Errors
    /// As [`Control::environment_do`]; with `force_restore` also for `project.backups.restore`; `not_uploaded`
    /// (`Conflict`) while the migration's backup is not there; `server_draining` (`Conflict`); `no_migration`,
    /// `odoo_image_needed`, `image_settled` (`Invalid`).
    pub async fn environment_deploy(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        deploy: Deploy,
        once: Option<Once>,
    ) -> Result<Task> {
        let Deploy { force_restore, odoo_image, accept } = deploy;
        let tx = self.store.begin().await?;
        let mut environment =
            self.environment_locked(&tx, caller, id, Permission::EnvironmentsUpdate).await?;
        if let Some(before) = self.once(&tx, caller, once.as_ref()).await? {
            let named = Named("task", before);
            return tasks::get(&tx, before.into()).await?.ok_or_else(|| named.missing());
        }
        let migration = migrations::of_environment(&tx, id).await?.filter(|migration| !migration.is_over());
        let deployment = deployments::get(&tx, id).await?;
        if odoo_image.is_some() && (migration.is_none() || deployment.is_some()) {
            let message = format!("environment \"{}\" is there, with its image", environment.name);
            return Err(invalid("image_settled", message, "Leave the image out."));
        }
        environment.odoo_image = odoo_image.or(environment.odoo_image);
        let migration = match (migration, &deployment) {
            (Some(migration), None) => migration,
            (Some(migration), Some(_)) if force_restore => migration,
            (None, _) if force_restore => {
                let message = format!("environment \"{}\" did not come from a migration", environment.name);
                return Err(invalid("no_migration", message, "Restore one of its backups instead."));
            }
            _ => {
                drop(tx);
                return self.environment_do(caller, id, DeployAction::Deploy, None, once).await;
            }
        };
        if force_restore {
            let scope = Scope::Environment(
                environment.organisation_id,
                environment.project_id,
                environment.environment_type,
            );
            self.allow(caller, Permission::BackupsRestore, scope, &Named("environment", id))?;
        }
        let migration = locked(&tx, migration.id).await?;
        let task = match deployment {
            None => self.restore_first(&tx, caller, environment, migration, accept).await?,
            Some(record) if record.state == DeploymentState::Deployed => {
                self.restore_again(&tx, caller, environment, migration, accept).await?
            }
            Some(record) => return Err(not_there(&environment, record.state)),
        };
        self.done_once(&tx, caller, once.as_ref(), task.id.uuid()).await?;
        tx.commit().await?;
        Ok(task)
    }

    /// Makes the environment around the restore of its migration's backup.
    async fn restore_first(
        &self,
        tx: &Tx,
        caller: &Caller,
        mut environment: Environment,
        mut migration: Migration,
        accept: Vec<String>,
    ) -> Result<Task> {
        if migration.verified_at.is_none() {
            return Err(not_uploaded(&migration));
        }
        let (server, _) = place_of(&environment)?;
        self.server_taking(tx, environment.organisation_id, server).await?;
        let backup = known(tx, migration.backup_id).await?;
        let snapshot = backup.environment_snapshot.as_ref();
        environment.odoo_image = Some(image_of(&environment, &backup)?);
        environment.odoo_version = images::odoo_version(snapshot);
        environments::update(tx, &environment).await?;
        let wish = deployment_wish(&migration)?;
        let record = self.deployment_new(&environment, &wish, snapshot)?;
        deployments::insert(tx, &record).await?;
        let is_production = environment.environment_type == EnvironmentType::Production;
        let wish = RestoreWish {
            create_pre_restore_backup: false,
            intent: Some(if is_production { Intent::Move } else { Intent::Copy }),
            ..again(&environment, &backup, accept)
        };
        let settled = wish.settle(&backup, &environment, &environment)?;
        let decided = Decided {
            mode: RestoreMode::Original,
            backup,
            target: environment,
            makes: Some(record),
            settled,
            findings: Vec::new(),
        };
        self.restoring(tx, &mut migration).await?;
        Ok(self.enter(tx, caller, decided).await?.task)
    }

    /// Restores the migration's backup over what its environment has become.
    async fn restore_again(
        &self,
        tx: &Tx,
        caller: &Caller,
        environment: Environment,
        mut migration: Migration,
        accept: Vec<String>,
    ) -> Result<Task> {
        let backup = known(tx, migration.backup_id).await?;
        let restored = migration.restored_at.map_or_else(String::new, |at| format!(" on {at}"));
        let finding = Finding::warning(
            "force_restore",
            format!("the backup of the migration, restored{restored}, is restored again over what is live"),
            "What was written since is in the safety backup, and in the replaced pair while the undo window is open.",
        );
        tracing::warn!(environment = %environment.id, migration = %migration.id, "{}", finding.message);
        let settled = again(&environment, &backup, accept).settle(&backup, &environment, &environment)?;
        let decided = Decided {
            mode: RestoreMode::Original,
            backup,
            target: environment,
            makes: None,
            settled,
            findings: vec![finding],
        };
        // Nothing says that it is restored until it is.
        migration.restored_at = None;
        self.restoring(tx, &mut migration).await?;
        Ok(self.enter(tx, caller, decided).await?.task)
    }

    async fn restoring(&self, tx: &Tx, migration: &mut Migration) -> Result<()> {
        migration.status = MigrationStatus::Restoring;
        migration.restore_started_at = Some(self.now());
        migrations::update(tx, migration).await
    }

    /// Notes how the restore of a migration's backup ended, in the transaction that ends it. What is live after
    /// one that failed is what was live before.
    pub(crate) async fn migration_settled(&self, tx: &Tx, point: &RestorePoint) -> Result<()> {
        let found = migrations::of_backup(tx, point.backup_id).await?;
        let Some(found) = found.filter(|found| found.environment_id == point.target_environment_id) else {
            return Ok(());
        };
        let mut migration = locked(tx, found.id).await?;
        if migration.status != MigrationStatus::Restoring {
            return Ok(());
        }
        let now = self.now();
        if point.status == RestoreStatus::Completed {
            (migration.restored_at, migration.completed_at) = (Some(now), Some(now));
            (migration.status, migration.error_message) = (MigrationStatus::Completed, None);
        } else {
            migration.restored_at = migration.completed_at;
            migration.status = match (migration.completed_at, point.status) {
                (Some(_), _) => MigrationStatus::Completed,
                (None, RestoreStatus::Cancelled) => MigrationStatus::Uploaded,
                (None, _) => MigrationStatus::Failed,
            };
            if point.status != RestoreStatus::Cancelled {
                migration.failed_at = Some(now);
                migration.error_message.clone_from(&point.error_message);
            }
        }
        migrations::update(tx, &migration).await
    }

    /// Notes that what was begun of an environment is gone from its server. One that waits for its migration waits
    /// on; of any other the record goes, too.
    pub(crate) async fn environment_unmade(&self, tx: &Tx, id: EnvironmentId, why: &str) -> Result<()> {
        let migration = migrations::of_environment(tx, id).await?;
        if !migration.is_some_and(|migration| !migration.is_over() && migration.completed_at.is_none()) {
            return self.environment_gone(tx, id, why).await;
        }
        deployments::delete(tx, id).await
    }
}

/// The restore of a migration's backup to its environment. Where the old system may still run, nothing is sent
/// before somebody lets it go.
fn again(environment: &Environment, backup: &Backup, accept: Vec<String>) -> RestoreWish {
    let is_production = environment.environment_type == EnvironmentType::Production;
    RestoreWish {
        mode: Some(RestoreMode::Original),
        intent: Some(if is_production { Intent::Recover } else { Intent::Copy }),
        neutralize: Some(!is_production),
        hold_outgoing: Some(true),
        accept,
        ..RestoreWish::of(backup.id)
    }
}

fn image_of(environment: &Environment, backup: &Backup) -> Result<String> {
    if let Some(image) = &environment.odoo_image {
        return Ok(image.clone());
    }
    let snapshot = backup.environment_snapshot.as_ref();
    if images::odoo_version(snapshot).is_none() {
        let said = snapshot.and_then(|snapshot| snapshot["odoo_version"].as_str()).unwrap_or("nothing");
        return Err(invalid(
            "odoo_image_needed",
            format!("which Odoo the backup is of cannot be told: it says {said}"),
            "Name the image that is to run it: `undoo env deploy ENVIRONMENT --image IMAGE`.",
        ));
    }
    Ok(images::odoo_image(snapshot))
}

fn deployment_wish(migration: &Migration) -> Result<DeploymentWish> {
    serde_json::from_value(migration.deployment.clone()).map_err(|error| {
        let message = format!("how migration {} is to be deployed cannot be read", migration.id);
        Problem::new(Kind::Internal, "deployment_unreadable", message, "please report this").caused_by(error)
    })
}
