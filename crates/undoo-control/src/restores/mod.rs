//! Restores: asked for, looked at, called off. What carries them out is in `work`, what comes after in
//! `after`.

mod after;
mod new;
pub(crate) mod wish;

use serde_json::{Value, json};
use undoo_core::{
    EnvironmentId, Finding, Kind, Problem, RestoreId, Result,
    platform::{
        Backup, DeploymentRecord, Environment, Permission, RestoreMode, RestorePoint, RestoreStatus, Scope,
        Task, TaskKind,
    },
};
use undoo_engine::order::{Failure, Intent, Options};
use undoo_store::{
    Connection, Listed, Page, Tx, backups, deployments, environments, restore_points, servers, tasks,
};

use self::wish::{Goal, SafetyBackup, Settled};
pub use self::wish::{NewEnvironment, RestoreWish};
use crate::{
    Caller, Control, Once,
    control::{Named, invalid},
    plane::{RestoreJob, Watch},
    tasks::About,
    work::Payload,
};

/// A restore that was queued.
#[derive(Debug, Clone)]
pub struct Started {
    /// The restore.
    pub restore_point: RestorePoint,
    /// The task that carries it out.
    pub task: Task,
    /// Where it goes.
    pub target_environment: Environment,
}

/// What a restore would do.
#[derive(Debug)]
pub struct RestorePlan {
    /// Where it goes.
    pub target_environment: Environment,
    /// How that was told.
    pub mode: RestoreMode,
    /// What it is for.
    pub intent: Intent,
    /// Whether the restored system is made harmless.
    pub neutralize: bool,
    /// Whether mails and crons that are due are held.
    pub hold_outgoing: bool,
    /// Whether what is live is backed up first.
    pub safety_backup: bool,
    /// How long the replaced pair is kept.
    pub undo_window_hours: u32,
    /// What was found by what is known here; the engine's are in its plan.
    pub findings: Vec<Finding>,
    /// Seconds that the newest restores to the same environment took, shortest first.
    pub took: Vec<i64>,
    /// What the engine says of backup and target.
    /// `None` where the environment is still to be made: what the engine says is then told by the restore itself,
    /// before anything is loaded.
    pub plan: Option<undoo_engine::restore::Plan>,
}

/// So many restores tell how long the next one takes.
const TELLING: Page = Page { page: 1, size: 20 };

/// What a wish came to.
pub(crate) struct Decided {
    pub(crate) mode: RestoreMode,
    pub(crate) backup: Backup,
    pub(crate) target: Environment,
    /// What is to be made for it, where nothing of the target is on a server yet.
    pub(crate) makes: Option<DeploymentRecord>,
    pub(crate) settled: Settled,
    pub(crate) findings: Vec<Finding>,
}

impl Control {
    /// Has a backup restored.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore` on source and target; `Invalid` for a wish that
    /// makes no sense, each with its code; `environment_busy`, `idempotency_key_reused` (`Conflict`).
    pub async fn restore_start(
        &self,
        caller: &Caller,
        mut wish: RestoreWish,
        once: Option<Once>,
    ) -> Result<Started> {
        self.modules_allowed(caller, &mut wish).await?;
        let tx = self.store.begin().await?;
        if let Some(before) = self.once(&tx, caller, once.as_ref()).await? {
            let point = self.restore_for(&tx, caller, before.into(), Permission::BackupsRestore).await?;
            return self.started(&tx, point).await;
        }
        let started = self.restore_begin(&tx, caller, &wish).await?;
        self.done_once(&tx, caller, once.as_ref(), started.restore_point.id.uuid()).await?;
        tx.commit().await?;
        Ok(started)
    }

    /// The same as a part of something: in its transaction, and begun with it or not at all.
    pub(crate) async fn restore_begin(
        &self,
        tx: &Tx,
        caller: &Caller,
        wish: &RestoreWish,
    ) -> Result<Started> {
        if let Some(server) = wish.new_environment.as_ref().and_then(|new| new.server_id) {
            // Two that are asked for at once are not to be promised the same room.
            servers::locked(tx, server).await?;
        }
        let decided = self.decide(tx, caller, wish).await?;
        if let Some(deployment) = &decided.makes {
            environments::insert(tx, &decided.target).await?;
            deployments::insert(tx, deployment).await?;
            if let Some(new) = wish.new_environment.as_ref().filter(|new| !new.addons.is_empty()) {
                self.addons_keep(tx, decided.target.id, &new.addons).await?;
            }
        }
        self.enter(tx, caller, decided).await
    }

    /// Queues a restore that was decided on, to a target whose record is there.
    pub(crate) async fn enter(&self, tx: &Tx, caller: &Caller, decided: Decided) -> Result<Started> {
        let Decided { mode, backup, target, makes, settled, findings } = decided;
        let options = serde_json::to_value(&settled).map_err(unwritable)?;
        let payload = match &makes {
            None => |restore_id| Payload::Restore { restore_id },
            Some(_) => |restore_id| Payload::NewEnvironment { restore_id },
        };
        let mut point = RestorePoint {
            id: RestoreId::generate(),
            organisation_id: target.organisation_id,
            project_id: target.project_id,
            backup_id: backup.id,
            source_environment_id: backup.environment_id,
            target_environment_id: target.id,
            target_server_id: target.server_id,
            mode,
            options,
            status: RestoreStatus::Pending,
            phase: None,
            progress: 0,
            task_id: None,
            pre_restore_backup_id: None,
            started_at: None,
            completed_at: None,
            error_message: None,
            error_step: None,
            findings: json!(findings),
            held: None,
            report: None,
            undo_until: None,
            created_at: self.now(),
            created_by: Some(caller.user.id),
        };
        let about = About::restore(&point, payload(point.id));
        let task = self.enqueue(tx, TaskKind::Restore, about, caller).await?;
        point.task_id = Some(task.id);
        restore_points::insert(tx, &point).await?;
        let data =
            json!({ "backup": backup.id, "target": target.id, "mode": mode, "options": point.options });
        self.note(tx, Some(caller), point.organisation_id, "restore.requested", point.id, data).await?;
        Ok(Started { restore_point: point, task, target_environment: target })
    }

    /// What a restore would do; touches nothing.
    ///
    /// # Errors
    /// As [`Control::restore_start`]; those of the data plane.
    pub async fn restore_plan(&self, caller: &Caller, mut wish: RestoreWish) -> Result<RestorePlan, Failure> {
        self.modules_allowed(caller, &mut wish).await?;
        let decided = self.decide(&self.store, caller, &wish).await?;
        let Decided { mode, backup, target, makes, settled, findings } = &decided;
        let plan = match makes {
            Some(_) => None,
            None => {
                let job = self.restore_job(RestoreId::generate(), settled, backup, target).await?;
                Some(self.plane.plan(&job, &Watch::silent()).await?)
            }
        };
        let completed = Some(RestoreStatus::Completed);
        let before = restore_points::of_environment(&self.store, target.id, completed, TELLING).await?;
        let mut took: Vec<i64> = before.items.iter().filter_map(RestorePoint::duration_seconds).collect();
        took.sort_unstable();
        Ok(RestorePlan {
            target_environment: target.clone(),
            mode: *mode,
            intent: settled.intent,
            neutralize: settled.neutralize,
            hold_outgoing: settled.hold_outgoing,
            safety_backup: settled.safety_backup != SafetyBackup::None,
            undo_window_hours: settled.undo_window_hours,
            findings: findings.clone(),
            took,
            plan,
        })
    }

    /// Whether modules may be fetched from where they are wanted from. Names are looked up for that, which no
    /// transaction is to wait for.
    async fn modules_allowed(&self, caller: &Caller, wish: &mut RestoreWish) -> Result<()> {
        let Some(new) = wish.new_environment.as_mut().filter(|new| !new.addons.is_empty()) else {
            return Ok(());
        };
        self.backup_for(&self.store, caller, wish.backup_id, Permission::BackupsRestore).await?;
        self.addons_allowed(caller, &mut new.addons).await
    }

    /// Who may, what exists, what makes sense: in this order.
    async fn decide(&self, on: &impl Connection, caller: &Caller, wish: &RestoreWish) -> Result<Decided> {
        let permission = Permission::BackupsRestore;
        let backup = self.backup_for(on, caller, wish.backup_id, permission).await?;
        let (mode, goal) = wish.goal(&backup)?;
        let source = environments::get(on, backup.environment_id).await?;
        let source = source.ok_or_else(|| Named("environment", backup.environment_id).missing())?;
        let (target, makes, of_server) = match goal {
            Goal::There(target) => {
                let named = Named("environment", target);
                let target = environments::get(on, target).await?.ok_or_else(|| named.missing())?;
                let kind = target.environment_type;
                let scope = Scope::Environment(target.organisation_id, target.project_id, kind);
                self.allow(caller, permission, scope, &named)?;
                self.is_deployed(on, &target).await?;
                (target, None, Vec::new())
            }
            Goal::New(new) => {
                let of = (&backup, &source);
                let made = self.environment_for_restore(on, caller, mode, &new, &wish.accept, of).await?;
                (made.environment, Some(made.deployment), made.findings)
            }
        };
        let settled = wish.settle(&backup, &source, &target)?;
        let findings = [of_server, wish::findings(&backup, &target, &settled)].concat();
        Ok(Decided { mode, backup, target, makes, settled, findings })
    }

    /// A restore as the data plane needs to know it.
    pub(crate) async fn restore_job(
        &self,
        id: RestoreId,
        settled: &Settled,
        backup: &Backup,
        target: &Environment,
    ) -> Result<RestoreJob> {
        let signer = self.signer(target.organisation_id).await?;
        Ok(RestoreJob {
            id,
            at: self.location_of(target).await?,
            backup: self.backup_order(backup).await?,
            backup_name: backup.id.to_string(),
            intent: Some(settled.intent),
            neutralize: settled.neutralize,
            hold_outgoing: Some(settled.hold_outgoing),
            auto_rollback: settled.auto_rollback,
            options: Options {
                parts: settled.parts,
                strategy: settled.strategy.clone(),
                accept: settled.accept.clone(),
                trusted_keys: vec![signer.public_key()],
                trust_size: false,
                undo_window_hours: settled.undo_window_hours,
                jobs: self.settings.restore_jobs,
                maintenance_mib: self.settings.restore_maintenance_mib,
            },
            signer,
        })
    }

    async fn started(&self, on: &impl Connection, point: RestorePoint) -> Result<Started> {
        let task = match point.task_id {
            Some(task) => tasks::get(on, task).await?,
            None => None,
        };
        let task = task.ok_or_else(|| Named("task of restore", point.id).missing())?;
        let target = environments::get(on, point.target_environment_id).await?;
        let target_environment =
            target.ok_or_else(|| Named("environment", point.target_environment_id).missing())?;
        Ok(Started { restore_point: point, task, target_environment })
    }

    /// A restore.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.view`.
    pub async fn restore_get(&self, caller: &Caller, id: RestoreId) -> Result<RestorePoint> {
        self.restore_for(&self.store, caller, id, Permission::BackupsView).await
    }

    /// A restore, for a caller who has a permission on its target.
    async fn restore_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: RestoreId,
        permission: Permission,
    ) -> Result<RestorePoint> {
        let named = Named("restore", id);
        let point = restore_points::get(on, id).await?.ok_or_else(|| named.missing())?;
        let project = Scope::Project(point.organisation_id, point.project_id);
        self.allow(caller, permission, project, &named)?;
        if permission == Permission::BackupsRestore {
            let target = environments::get(on, point.target_environment_id).await?;
            let target = target.ok_or_else(|| named.missing())?;
            let kind = target.environment_type;
            let scope = Scope::Environment(point.organisation_id, point.project_id, kind);
            self.allow(caller, permission, scope, &named)?;
            // Its Odoo may be another environment's by now.
            if target.deleted_at.is_some() {
                return Err(Problem::new(
                    Kind::Conflict,
                    "environment_deleted",
                    format!(
                        "environment \"{}\" was deleted, and its restores are not touched any more",
                        target.name
                    ),
                    "On its server `undoo list`, `undoo undo` and `undoo purge` still know them.",
                ));
            }
        }
        Ok(point)
    }

    /// Restores to an environment, newest first.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.view`.
    pub async fn restore_list(
        &self,
        caller: &Caller,
        environment: EnvironmentId,
        status: Option<RestoreStatus>,
        page: Page,
    ) -> Result<Listed<RestorePoint>> {
        let environment =
            self.environment_for(&self.store, caller, environment, Permission::BackupsView).await?;
        restore_points::of_environment(&self.store, environment.id, status, page).await
    }

    /// Calls a restore off. What is live stays live; what was staged is taken back.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.backups.restore`; `not_cancellable` (`Invalid`) for one that is over.
    pub async fn restore_cancel(&self, caller: &Caller, id: RestoreId) -> Result<RestorePoint> {
        let tx = self.store.begin().await?;
        let point = self.restore_for(&tx, caller, id, Permission::BackupsRestore).await?;
        let over = || {
            let message = format!("restore {id} is {} and cannot be cancelled", point.status);
            invalid(
                "not_cancellable",
                message,
                "A completed one can be undone while its undo window is open.",
            )
        };
        let task = match point.task_id.filter(|_| !point.status.is_final()) {
            Some(task) => tasks::get(&tx, task).await?,
            None => None,
        };
        let task = task.ok_or_else(over)?;
        self.cancel(&tx, caller, &task).await?;
        tx.commit().await?;
        self.task_settled(task.id).await?;
        // The environment that it was making may be gone by now.
        restore_points::get(&self.store, id).await?.ok_or_else(|| Named("restore", id).missing())
    }

    /// The newest restore of an environment that is not over, or can be swapped; locked in a transaction.
    async fn newest_live(&self, tx: &Tx, point: &RestorePoint) -> Result<()> {
        let newest = restore_points::newest_live_of(tx, point.target_environment_id).await?;
        if newest.as_ref().map(|newest| newest.id) == Some(point.id) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Conflict,
            "not_the_newest",
            format!("restore {} is not the newest of its environment", point.id),
            "Undo the newest one; older states come back from backups.",
        ))
    }
}

/// What a restore point keeps as its options.
pub(crate) fn settled(point: &RestorePoint) -> Result<Settled> {
    serde_json::from_value(point.options.clone()).map_err(|error| {
        let message = format!("the options of restore {} cannot be read", point.id);
        Problem::new(Kind::Internal, "options_unreadable", message, "please report this").caused_by(error)
    })
}

/// The backup and the target of a restore, as they are now.
pub(crate) async fn ends_of(on: &impl Connection, point: &RestorePoint) -> Result<(Backup, Environment)> {
    let backup = backups::get(on, point.backup_id).await?;
    let backup = backup.ok_or_else(|| Named("backup", point.backup_id).missing())?;
    let target = environments::get(on, point.target_environment_id).await?;
    let target = target.ok_or_else(|| Named("environment", point.target_environment_id).missing())?;
    Ok((backup, target))
}

fn unwritable(error: serde_json::Error) -> Problem {
    let message = "the restore's options could not be written";
    Problem::new(Kind::Internal, "options_unwritable", message, "please report this").caused_by(error)
}

/// A finding added to those of a restore point, once.
pub(crate) fn add_finding(point: &mut RestorePoint, finding: &Finding) {
    let mut findings: Vec<Finding> = serde_json::from_value(point.findings.take()).unwrap_or_default();
    findings.retain(|known| known.code != finding.code);
    findings.push(finding.clone());
    point.findings = json!(findings);
}

/// What a restore point holds, as JSON that says whether it was let go.
pub(crate) fn is_released(held: &Value) -> bool {
    held.get("released_at").is_some_and(|at| !at.is_null())
}
