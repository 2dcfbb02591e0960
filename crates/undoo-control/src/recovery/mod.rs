//! Recovery after a loss: which environments come back where, decided first and then carried out as ordinary
//! restores across servers.
//!
//! Nothing runs for a plan but its restores: how far it is, is read off them. Starting it again begins what
//! was not begun, and what failed.

mod measured;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use undoo_core::{
    EnvironmentId, Finding, Kind, OrganisationId, RecoveryPlanId, Result, ServerId, StorageId,
    platform::{
        Backup, BackupStatus, Environment, EnvironmentType, Permission, RestoreMode, RestoreStatus, Scope,
        Server, ServerStatus,
        recovery::{self, Assigned, Lost, Resources},
        recovery_plan::{Entry, RecoveryPlan, Refused, Targets},
    },
};
use undoo_engine::order::Intent;
use undoo_store::{
    Listed, Page, Tx,
    backups::{self, BackupFilter},
    deployments, environments, recovery_plans, restore_points, servers, storages,
};

pub use self::measured::{MeasuredEntry, RecoveryState, RecoveryStatus};
use crate::{
    Caller, Control, DeploymentWish, NewEnvironment, RestoreWish,
    backups::{Need, all},
    control::{Named, invalid, name_of},
};

/// What is to be recovered, and where to.
#[derive(Debug, Clone)]
pub struct RecoveryWish {
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// Servers that were lost: everything on them is recovered.
    pub lost_servers: Vec<ServerId>,
    /// Environments besides.
    pub environments: Vec<EnvironmentId>,
    /// Servers that may be used; all others that take something new without any.
    pub to: Vec<ServerId>,
    /// Environments whose newest backup is good enough, although it was not read back.
    pub unverified: Vec<EnvironmentId>,
    /// When it happened; `None` for when a lost server stopped to answer, else now.
    pub lost_at: Option<Timestamp>,
    /// What recovery is measured against.
    pub targets: Targets,
}

/// The organisation as a plan is made from it.
struct Around {
    servers: Vec<Server>,
    environments: Vec<Environment>,
    /// Storages that are a folder of a worker's machine.
    local: BTreeSet<StorageId>,
    /// Whether what lies there is lost, too.
    local_lost: bool,
}

impl Control {
    /// Says what would come back where. Nothing is touched.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.manage`; `not_found` (`Missing`) for what is not the organisation's;
    /// `nothing_lost`, `lost_at_invalid` (`Invalid`).
    pub async fn recovery_plan(&self, caller: &Caller, wish: RecoveryWish) -> Result<RecoveryState> {
        let organisation = wish.organisation_id;
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgServersManage, Scope::Organisation(organisation), &named)?;
        let mut around = self.around(organisation).await?;
        let of_lost: Vec<&Server> = find(&around.servers, &wish.lost_servers, "server", |one| one.id)?;
        let lost_at = self.lost_at(&wish, &of_lost)?;
        let (lost, back) = self.lost(&wish, &around).await?;
        let mut findings = answering(&around.servers, &wish, &lost);
        if !back.is_empty() {
            let message = format!("recovered already, and left out: {}", back.join(", "));
            findings.push(Finding::info("recovered_already", message, "Their successors are there."));
        }
        if lost.is_empty() {
            let message = "no environment of these servers, and none that was named, is to be recovered";
            return Err(invalid("nothing_lost", message, "Name servers or environments that were lost."));
        }
        let to: Vec<Server> = usable(&wish, &around.servers, &lost)?.into_iter().cloned().collect();
        around.local_lost = of_lost.iter().any(|server| server.ip_address.is_none());
        let room = self.fits_of(&self.store, organisation, to, &Need::of(None)).await?;
        let room: Vec<(ServerId, Resources)> = room
            .into_iter()
            .map(|fit| {
                let (cpu_cores, ram_mb, disk_gb) =
                    (fit.available_cpu, fit.available_ram_mb, fit.available_disk_gb);
                (fit.server.id, Resources { cpu_cores, ram_mb, disk_gb })
            })
            .collect();
        let mut candidates = Vec::new();
        for environment in &lost {
            candidates.push(self.candidate(environment, &wish, &around).await?);
        }
        let plan = RecoveryPlan {
            id: RecoveryPlanId::generate(),
            organisation_id: organisation,
            lost_servers: wish.lost_servers,
            lost_at,
            targets: wish.targets,
            entries: recovery::plan(candidates, lost_at, &room)
                .into_iter()
                .filter_map(|recovery| {
                    let of = lost.iter().find(|one| one.id == recovery.environment)?;
                    let (name, environment_type) = (of.name.clone(), of.environment_type);
                    Some(Entry { recovery, name, environment_type, restore: None, refused: None })
                })
                .collect(),
            findings,
            created_at: self.now(),
            created_by: Some(caller.user.id),
            started_at: None,
        };
        let tx = self.store.begin().await?;
        recovery_plans::insert(&tx, &plan).await?;
        let data = json!({ "lost_servers": plan.lost_servers, "environments": plan.entries.len() });
        self.note(&tx, Some(caller), organisation, "recovery.planned", plan.id, data).await?;
        tx.commit().await?;
        self.recovery_state(plan).await
    }

    async fn around(&self, organisation: OrganisationId) -> Result<Around> {
        let of_organisation = Some(organisation);
        let storages = all(|page| storages::list(&self.store, organisation, page)).await?;
        let local =
            storages.into_iter().filter(|storage| storage.provider == "local").map(|storage| storage.id);
        Ok(Around {
            servers: all(|page| servers::list(&self.store, organisation, page)).await?,
            environments: all(|page| environments::list(&self.store, of_organisation, None, page)).await?,
            local: local.collect(),
            local_lost: false,
        })
    }

    fn lost_at(&self, wish: &RecoveryWish, servers: &[&Server]) -> Result<Timestamp> {
        let now = self.now();
        match wish.lost_at {
            Some(at) if at > now => {
                let message = format!("{at} is yet to come");
                Err(invalid("lost_at_invalid", message, "Say when the servers were lost."))
            }
            // As databases keep it.
            Some(at) => Ok(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)),
            None => Ok(servers.iter().filter_map(|server| server.unreachable_since).min().unwrap_or(now)),
        }
    }

    /// What was lost, and the names of what an earlier plan has brought back.
    async fn lost(&self, wish: &RecoveryWish, around: &Around) -> Result<(Vec<Environment>, Vec<String>)> {
        let named = find(&around.environments, &wish.environments, "environment", |one| one.id)?;
        let on_lost = |one: &&Environment| one.server_id.is_some_and(|id| wish.lost_servers.contains(&id));
        let mut lost: Vec<Environment> = around.environments.iter().filter(on_lost).cloned().collect();
        for one in named {
            if !lost.iter().any(|other| other.id == one.id) {
                lost.push(one.clone());
            }
        }
        let back = self.brought_back(wish.organisation_id, &around.environments).await?;
        let (again, lost): (Vec<_>, Vec<_>) = lost.into_iter().partition(|one| back.contains(&one.id));
        Ok((lost, again.into_iter().map(|one| one.name).collect()))
    }

    /// Environments whose successors are there.
    async fn brought_back(
        &self,
        organisation: OrganisationId,
        there: &[Environment],
    ) -> Result<BTreeSet<EnvironmentId>> {
        let mut back = BTreeSet::new();
        for plan in all(|page| recovery_plans::list(&self.store, organisation, page)).await? {
            for entry in plan.entries {
                let Some(restore) = entry.restore else { continue };
                let Some(point) = restore_points::get(&self.store, restore).await? else { continue };
                let stays = there.iter().any(|one| one.id == point.target_environment_id);
                if stays && !ended_badly(point.status) {
                    back.insert(entry.recovery.environment);
                }
            }
        }
        Ok(back)
    }

    /// What it takes to bring an environment back.
    async fn candidate(&self, of: &Environment, wish: &RecoveryWish, around: &Around) -> Result<Lost> {
        let backups = self.newest_backups(of.id).await?;
        let lost_too = |backup: &&Backup| {
            let is_local = backup.storage_id.is_none_or(|id| around.local.contains(&id));
            is_local && around.local_lost
        };
        let candidate = |backup: &Backup| recovery::Candidate {
            backup: backup.id,
            taken_at: backup.created_at,
            lost_too: lost_too(&backup),
        };
        let newest_of = |accepts: &dyn Fn(&Backup) -> bool| {
            let found = || backups.iter().filter(|backup| accepts(backup));
            let reached = found().find(|backup| !lost_too(backup));
            reached.or_else(|| found().next()).map(candidate)
        };
        let newest = newest_of(&|_| true);
        let verified = match wish.unverified.contains(&of.id) {
            true => newest,
            false => newest_of(&|backup| backup.is_verified),
        };
        let size = verified.and_then(|one| backups.iter().find(|backup| backup.id == one.backup)?.size_bytes);
        let need = Need::of(Some(of));
        Ok(Lost {
            environment: of.id,
            environment_type: of.environment_type,
            takes: need.resources(),
            verified,
            newest,
            estimate: self.estimate(of.organisation_id, size).await?,
        })
    }

    async fn newest_backups(&self, of: EnvironmentId) -> Result<Vec<Backup>> {
        let completed = BackupFilter { status: Some(BackupStatus::Completed), ..Default::default() };
        let page = Page { page: 1, size: 100 };
        Ok(backups::of_environment(&self.store, of, completed, page).await?.items)
    }

    /// How long a backup of this size takes, by how long the organisation's newest restores took.
    async fn estimate(
        &self,
        organisation: OrganisationId,
        size: Option<i64>,
    ) -> Result<Option<SignedDuration>> {
        let took = restore_points::newest_took(&self.store, organisation, 20).await?;
        let Some(shortest) = took.iter().map(|(seconds, _)| *seconds).min() else { return Ok(None) };
        let size = size.unwrap_or(0).max(0);
        let mut by_rate: Vec<i64> = took
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(seconds, bytes)| {
                let scaled = i128::from(*seconds) * i128::from(size) / i128::from(*bytes);
                i64::try_from(scaled).unwrap_or(i64::MAX)
            })
            .collect();
        by_rate.sort_unstable();
        let median = by_rate.get(by_rate.len() / 2).copied().unwrap_or(shortest);
        Ok(Some(SignedDuration::from_secs(median.max(shortest))))
    }

    /// Carries a plan out: begins the restores that were not begun or have failed, in the plan's order. One that
    /// cannot be begun says why, and does not hold up the others.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.manage`. What each restore takes is asked for each.
    pub async fn recovery_start(&self, caller: &Caller, id: RecoveryPlanId) -> Result<RecoveryState> {
        let plan = self.recovery_for(caller, id, Permission::OrgServersManage).await?;
        for at in 0..plan.entries.len() {
            let Err(problem) = self.recover(caller, id, at).await else { continue };
            if problem.kind == Kind::Internal {
                return Err(problem);
            }
            let tx = self.store.begin().await?;
            let mut plan = locked(&tx, id).await?;
            if let Some(entry) = plan.entries.get_mut(at) {
                let message = format!("{} {}", problem.message, problem.remedy);
                entry.refused = Some(Refused { code: problem.code.to_owned(), message });
                recovery_plans::update(&tx, &plan).await?;
            }
            tx.commit().await?;
        }
        let tx = self.store.begin().await?;
        let mut plan = locked(&tx, id).await?;
        plan.started_at.get_or_insert(self.now());
        recovery_plans::update(&tx, &plan).await?;
        self.note(&tx, Some(caller), plan.organisation_id, "recovery.started", id, json!({})).await?;
        tx.commit().await?;
        self.recovery_state(plan).await
    }

    /// Begins the restore of one environment, if it is due.
    async fn recover(&self, caller: &Caller, id: RecoveryPlanId, at: usize) -> Result<()> {
        let tx = self.store.begin().await?;
        let mut plan = locked(&tx, id).await?;
        let Some(entry) = plan.entries.get_mut(at) else { return Ok(()) };
        let Ok(assigned) = entry.recovery.outcome.clone() else { return Ok(()) };
        if let Some(before) = entry.restore {
            let point = restore_points::get(&tx, before).await?;
            if point.is_some_and(|point| !ended_badly(point.status)) {
                return Ok(());
            }
        }
        let lost = entry.recovery.environment;
        self.step_aside(&tx, caller, lost, &entry.name, plan.lost_at).await?;
        let deployment = deployments::get(&tx, lost).await?;
        let source = environments::get(&tx, lost).await?;
        let source = source.ok_or_else(|| Named("environment", lost).missing())?;
        let wish = wish_for(
            entry,
            &assigned,
            &source,
            deployment.map(|record| DeploymentWish {
                postgres_image: None,
                http_port: record.http_port,
                odoo_conf: record.odoo_conf,
            }),
        );
        let started = self.restore_begin(&tx, caller, &wish).await?;
        entry.restore = Some(started.restore_point.id);
        entry.refused = None;
        plan.started_at.get_or_insert(self.now());
        recovery_plans::update(&tx, &plan).await?;
        tx.commit().await
    }

    /// Gives the name of an environment that was lost to the one that takes its place.
    async fn step_aside(
        &self,
        tx: &Tx,
        caller: &Caller,
        id: EnvironmentId,
        name: &str,
        lost_at: Timestamp,
    ) -> Result<()> {
        let found = environments::locked(tx, id).await?.filter(|found| found.deleted_at.is_none());
        let Some(mut environment) = found.filter(|found| found.name == name) else { return Ok(()) };
        let (organisation, project) = (environment.organisation_id, environment.project_id);
        let scope = Scope::Environment(organisation, project, environment.environment_type);
        self.allow(caller, Permission::EnvironmentsUpdate, scope, &Named("environment", id))?;
        environment.name = lost_name(name, lost_at)?;
        environments::update(tx, &environment).await?;
        let data = json!({ "name": environment.name, "before": name });
        self.note(tx, Some(caller), organisation, "environment.lost", id, data).await
    }

    /// A plan, and how far it is.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.view`.
    pub async fn recovery_get(&self, caller: &Caller, id: RecoveryPlanId) -> Result<RecoveryState> {
        let plan = self.recovery_for(caller, id, Permission::OrgServersView).await?;
        self.recovery_state(plan).await
    }

    /// Plans of an organisation, newest first.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.servers.view`.
    pub async fn recovery_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<RecoveryState>> {
        let named = Named("organisation", organisation);
        self.allow(caller, Permission::OrgServersView, Scope::Organisation(organisation), &named)?;
        let listed = recovery_plans::list(&self.store, organisation, page).await?;
        let mut items = Vec::new();
        for plan in listed.items {
            items.push(self.recovery_state(plan).await?);
        }
        Ok(Listed { items, total: listed.total })
    }

    async fn recovery_for(
        &self,
        caller: &Caller,
        id: RecoveryPlanId,
        permission: Permission,
    ) -> Result<RecoveryPlan> {
        let named = Named("recovery plan", id);
        let plan = recovery_plans::get(&self.store, id).await?.ok_or_else(|| named.missing())?;
        self.allow(caller, permission, Scope::Organisation(plan.organisation_id), &named)?;
        Ok(plan)
    }
}

async fn locked(tx: &Tx, id: RecoveryPlanId) -> Result<RecoveryPlan> {
    recovery_plans::locked(tx, id).await?.ok_or_else(|| Named("recovery plan", id).missing())
}

/// Whether a restore has left nothing, so that another one may be tried.
fn ended_badly(status: RestoreStatus) -> bool {
    matches!(status, RestoreStatus::Failed | RestoreStatus::Cancelled | RestoreStatus::Undone)
}

/// Those of a list that are named, all of which have to be there.
fn find<'a, T, I: Copy + PartialEq + std::fmt::Display>(
    among: &'a [T],
    named: &[I],
    what: &'static str,
    id: impl Fn(&T) -> I,
) -> Result<Vec<&'a T>> {
    let find = |wanted: &I| among.iter().find(|one| id(one) == *wanted);
    named.iter().map(|wanted| find(wanted).ok_or_else(|| Named(what, *wanted).missing())).collect()
}

/// Two systems that both take themselves for one are worse than none.
fn answering(servers: &[Server], wish: &RecoveryWish, lost: &[Environment]) -> Vec<Finding> {
    let is_left = |server: &&Server| {
        wish.lost_servers.contains(&server.id) || lost.iter().any(|one| one.server_id == Some(server.id))
    };
    let answering = servers.iter().filter(is_left).filter(|server| server.status == ServerStatus::Online);
    answering
        .map(|server| {
            Finding::warning(
                "server_answers",
                format!("the server \"{}\" answered when it was last looked at", server.name),
                "See that what is on it is stopped for good before its successors send mail and take orders.",
            )
        })
        .collect()
}

/// Servers that something may be put on.
fn usable<'a>(wish: &RecoveryWish, servers: &'a [Server], lost: &[Environment]) -> Result<Vec<&'a Server>> {
    let named = find(servers, &wish.to, "server", |one| one.id)?;
    let from: BTreeSet<ServerId> = lost.iter().filter_map(|one| one.server_id).collect();
    let takes = |server: &&Server| {
        let is_gone = wish.lost_servers.contains(&server.id) || from.contains(&server.id);
        !is_gone && !server.draining && server.status == ServerStatus::Online
    };
    let among = if wish.to.is_empty() { servers.iter().collect() } else { named };
    Ok(among.into_iter().filter(takes).collect())
}

/// The restore that brings an environment back as what it was, with what is due to be sent held.
fn wish_for(
    entry: &Entry,
    assigned: &Assigned,
    source: &Environment,
    deployment: Option<DeploymentWish>,
) -> RestoreWish {
    let is_production = entry.environment_type == EnvironmentType::Production;
    RestoreWish {
        mode: Some(RestoreMode::CrossServer),
        new_environment: Some(NewEnvironment {
            name: entry.name.clone(),
            environment_type: entry.environment_type,
            server_id: Some(assigned.server),
            domain: source.domain.clone(),
            odoo_image: None,
            deployment: deployment.unwrap_or_default(),
            // What it had is in its backup.
            addons: Vec::new(),
        }),
        intent: Some(Intent::Move),
        neutralize: Some(false),
        hold_outgoing: Some(is_production),
        ..RestoreWish::of(assigned.backup)
    }
}

/// What an environment is called that was lost.
fn lost_name(name: &str, lost_at: Timestamp) -> Result<String> {
    let suffix = format!(" (lost {})", lost_at.strftime("%Y-%m-%d %H:%M"));
    let kept: String = name.chars().take(200 - suffix.len()).collect();
    name_of(&format!("{kept}{suffix}"))
}
