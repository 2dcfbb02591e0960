//! A restore: look, back up what is live, stage, cut over.
//!
//! Until the cutover, what is live is not touched. A cutover that broke off is finished in the direction in
//! which it was going; whoever calls the restore off, or finds that it failed, gets back what was live.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Finding, Kind, Problem, RestoreId, Result, Side,
    platform::{DeploymentState, EnvironmentStatus, EventKind, RestorePoint, RestoreStatus},
};
use undoo_engine::{
    order::{Failure, Strategy},
    orders::Listed,
    outgoing::HeldOutgoing,
    record::State,
};
use undoo_store::{Tx, backups, deployments, environments, restore_points};

use super::{
    deploy::{Around, BringModules, does},
    driver::{Answers, Cause, Conclude, End, Step, Workflow},
    held::Held,
    progress::{Subject, Teller},
    safety_backup::{NAME as SAFETY_BACKUP, Safety},
    signal::Signal,
};
use crate::{
    control::Named,
    plane::{CutOver, DeployStep, Location, RestoreJob, StagedRestore, Watch},
    restores::{add_finding, ends_of, settled},
    tasks::restore_event,
};

const VALIDATE: &str = "validate";
const STAGE: &str = "stage";
const CUT_OVER: &str = "cut_over";

/// To an environment that is there.
pub(super) fn workflow(held: Arc<Held>, id: RestoreId) -> Workflow {
    let restoring = Restoring::new(held, id, false);
    let shared = || (Arc::clone(&restoring), Arc::clone(&restoring.teller));
    let ((a, b), (c, d), (e, f), (g, h)) = (shared(), shared(), shared(), shared());
    Workflow {
        steps: vec![
            Box::new(Validate(a, b)),
            Box::new(Safety(c, d)),
            Box::new(Stage(e, f)),
            Box::new(SwapIn(g, h)),
        ],
        conclusion: Box::new(Concluded(restoring)),
    }
}

/// To one that is made for it: nothing is live there that could be backed up, and all of it goes if it fails.
pub(super) fn workflow_of_new(held: Arc<Held>, id: RestoreId) -> Workflow {
    let restoring = Restoring::new(held, id, true);
    let shared = || (Arc::clone(&restoring), Arc::clone(&restoring.teller));
    let around = |step| Box::new(Around { restoring: Arc::clone(&restoring), step });
    let ((a, b), (c, d), (e, f)) = (shared(), shared(), shared());
    Workflow {
        steps: vec![
            around(DeployStep::Infrastructure),
            Box::new(BringModules(Arc::clone(&restoring))),
            Box::new(Validate(a, b)),
            Box::new(Stage(c, d)),
            Box::new(SwapIn(e, f)),
            around(DeployStep::MakeDurable),
            around(DeployStep::Release),
        ],
        conclusion: Box::new(Concluded(restoring)),
    }
}

/// What the steps of one restore share.
pub(super) struct Restoring {
    pub(super) held: Arc<Held>,
    id: RestoreId,
    /// Whether the environment that it goes to is made for it.
    makes: bool,
    pub(super) teller: Arc<Teller>,
    /// What this process has staged, and holds the target's lock for.
    staged: Mutex<Option<StagedRestore>>,
}

impl Restoring {
    fn new(held: Arc<Held>, id: RestoreId, makes: bool) -> Arc<Self> {
        let teller = Teller::new(Arc::clone(&held), Subject::Restore(id));
        Arc::new(Self { held, id, makes, teller, staged: Mutex::default() })
    }

    /// The restore point, as it is now.
    pub(super) async fn point(&self) -> Result<RestorePoint> {
        let point = restore_points::get(&self.held.control.store, self.id).await?;
        point.ok_or_else(|| Named("restore", self.id).missing())
    }

    pub(super) async fn job(&self) -> Result<RestoreJob> {
        let point = self.point().await?;
        let (backup, target) = ends_of(&self.held.control.store, &point).await?;
        self.held.control.restore_job(self.id, &settled(&point)?, &backup, &target).await
    }

    async fn at(&self) -> Result<Location> {
        let point = self.point().await?;
        let control = &self.held.control;
        control.location_of(&ends_of(&control.store, &point).await?.1).await
    }

    /// Where the target says that the restore is.
    pub(super) async fn standing(&self) -> Result<Option<Listed>> {
        self.held.control.plane.standing(&self.at().await?, self.id).await
    }

    fn staged(&self) -> std::sync::MutexGuard<'_, Option<StagedRestore>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stage(&self, job: &RestoreJob, watch: &Watch) -> Result<StagedRestore, Failure> {
        if self.makes {
            // Its server may have been restarted since: what was fast is then made anew.
            let environment = self.point().await?.target_environment_id;
            does(&self.held, environment, DeployStep::Infrastructure, watch).await?;
        }
        let staged = self.held.control.plane.stage(job, watch).await?;
        *self.staged() = Some(staged.clone());
        Ok(staged)
    }
}

/// Asks once more whether the restore makes sense, and the target whether it can work.
struct Validate(Arc<Restoring>, Arc<Teller>);

#[async_trait]
impl Step for Validate {
    fn name(&self) -> &'static str {
        VALIDATE
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let Restoring { held, .. } = &*self.0;
        self.started().await?;
        let point = self.0.point().await?;
        let (backup, target) = ends_of(&held.control.store, &point).await?;
        crate::backups::completed(&backup)?;
        if target.deleted_at.is_some() {
            return Err(Named("environment", target.id).missing().into());
        }
        let job = self.0.job().await?;
        let work = |watch: Watch| async move {
            let plan = held.control.plane.plan(&job, &watch).await?;
            match Failure::of(&plan.findings, &job.options.accept) {
                Some(failure) => Err(failure),
                None => Ok(plan.findings.len()),
            }
        };
        let findings = self.1.during(signal.stop(), work).await?;
        Ok(json!({ "findings": findings }))
    }

    fn phase(&self) -> Option<String> {
        self.1.phase()
    }
}

impl Validate {
    /// Notes when the work began, once.
    async fn started(&self) -> Result<()> {
        let Restoring { held, .. } = &*self.0;
        let mut point = self.0.point().await?;
        if point.started_at.is_some() {
            return Ok(());
        }
        point.started_at = Some(held.control.now());
        let tx = held.begin().await?;
        restore_points::update(&tx, &point, point.status).await?;
        held.control.tell(&tx, restore_event(&point, EventKind::RestoreStarted, Value::Null)).await?;
        tx.commit().await
    }
}

/// Makes the pair that is to go live, beside the one that is.
struct Stage(Arc<Restoring>, Arc<Teller>);

#[async_trait]
impl Step for Stage {
    fn name(&self) -> &'static str {
        STAGE
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let job = self.0.job().await?;
        let staged =
            self.1.during(signal.stop(), |watch| async move { self.0.stage(&job, &watch).await }).await?;
        Ok(json!({ "booted_ms": staged.booted_ms, "findings": staged.findings.len() }))
    }

    async fn undo(&self) -> Result<()> {
        if self.0.makes {
            // All of the environment goes; what this process holds of it is let go first.
            self.let_go().await;
            return Ok(());
        }
        let (plane, at) = (&self.0.held.control.plane, self.0.at().await?);
        *self.0.staged() = None;
        match self.0.standing().await?.map(|listed| listed.record.state) {
            None => match plane.discard(&at, self.0.id).await {
                // Somebody else is at work there, and this has left nothing that the next sweep would not find.
                Err(problem) if problem.code == "target_busy" => Ok(()),
                discarded => discarded,
            },
            Some(State::Staging | State::Staged) => plane.discard(&at, self.0.id).await,
            // It went live, was swapped back, and waits where the replaced one would: nobody asked for it.
            Some(State::Live { side: Side::Replaced }) => plane.purge(&at, self.0.id).await,
            Some(State::Purged) => Ok(()),
            Some(State::Swapping { .. } | State::Live { side: Side::Restored }) => {
                Err(half_way(self.0.id, &at, "its cutover was not taken back"))
            }
        }
    }

    async fn let_go(&self) {
        if self.0.staged().take().is_none() {
            return;
        }
        let discarded = async { self.0.held.control.plane.discard(&self.0.at().await?, self.0.id).await };
        if let Err(problem) = discarded.await {
            // The target's own lock and record keep what another worker has begun.
            tracing::warn!(%problem, restore = %self.0.id, "what was staged is left for the next worker");
        }
    }

    fn phase(&self) -> Option<String> {
        self.1.phase()
    }
}

/// Swaps the staged pair in.
struct SwapIn(Arc<Restoring>, Arc<Teller>);

#[async_trait]
impl Step for SwapIn {
    fn name(&self) -> &'static str {
        CUT_OVER
    }

    async fn act(&self, signal: &Signal) -> Result<Value, Failure> {
        let job = self.0.job().await?;
        let staged = self.0.staged().clone();
        let over = self.1.during(signal.stop(), |watch| async move {
            match staged {
                Some(staged) => self.swap_in(&job, &staged, &watch).await,
                None => self.take_up(&job, &watch, signal).await,
            }
        });
        let over = over.await?;
        // What was staged is live, and its lock is let go.
        *self.0.staged() = None;
        Ok(json!(over))
    }

    async fn found_done(&self) -> Result<Option<Value>> {
        let live = self
            .0
            .standing()
            .await?
            .filter(|listed| listed.record.state == State::Live { side: Side::Restored });
        Ok(live.map(|Listed { record, held, .. }| {
            json!(Ended { over: CutOver { record, report: None }, held, findings: Vec::new() })
        }))
    }

    async fn undo(&self) -> Result<()> {
        let (control, at) = (&self.0.held.control, self.0.at().await?);
        if self.0.makes {
            return Ok(());
        }
        let state = self.0.standing().await?.map(|listed| listed.record.state);
        if !matches!(state, Some(State::Swapping { .. } | State::Live { side: Side::Restored })) {
            return Ok(());
        }
        let point = self.0.point().await?;
        if !settled(&point)?.auto_rollback && !self.0.held.is_cancelling().await? {
            return Err(half_way(self.0.id, &at, "it was asked not to swap back by itself"));
        }
        let signer = control.signer(point.organisation_id).await?;
        let swapped = control.plane.swap(&at, self.0.id, Side::Replaced, &signer, &Watch::silent()).await;
        swapped.map(drop).map_err(|failure| failure.problem)
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn phase(&self) -> Option<String> {
        self.1.phase()
    }
}

impl SwapIn {
    async fn swap_in(
        &self,
        job: &RestoreJob,
        staged: &StagedRestore,
        watch: &Watch,
    ) -> Result<Ended, Failure> {
        let over = self.0.held.control.plane.cut_over(job, staged, watch).await?;
        Ok(Ended { over, held: staged.held.clone(), findings: staged.findings.clone() })
    }

    /// Goes on where another worker was lost: as the target says.
    async fn take_up(&self, job: &RestoreJob, watch: &Watch, signal: &Signal) -> Result<Ended, Failure> {
        let Some(Listed { record, held, .. }) = self.0.standing().await? else {
            return self.begin_again(job, watch, signal).await;
        };
        let ended = |over| Ended { over, held, findings: Vec::new() };
        match record.state {
            State::Live { side: Side::Replaced } => Err(swapped_back().into()),
            // Where it is live already, this signs the report that nobody has signed yet.
            State::Live { side: to } | State::Swapping { to } => {
                let plane = &self.0.held.control.plane;
                let over = plane.swap(&job.at, self.0.id, to, &job.signer, watch).await?;
                match to {
                    Side::Restored => Ok(ended(over)),
                    Side::Replaced => Err(swapped_back().into()),
                }
            }
            State::Staging | State::Staged => self.begin_again(job, watch, signal).await,
            State::Purged => Err(half_way(self.0.id, &job.at, "its pairs were removed meanwhile").into()),
        }
    }

    /// Nothing was swapped. What the lost worker had staged, nobody holds any more.
    async fn begin_again(&self, job: &RestoreJob, watch: &Watch, signal: &Signal) -> Result<Ended, Failure> {
        let staged = self.0.stage(job, watch).await?;
        if signal.why().is_some() {
            let message = "it was called off before its cutover";
            return Err(Problem::new(Kind::Cancelled, "cancelled", message, "").into());
        }
        self.swap_in(job, &staged, watch).await
    }
}

/// What a cutover that ended well leaves for the end.
#[derive(serde::Serialize, serde::Deserialize)]
struct Ended {
    over: CutOver,
    held: HeldOutgoing,
    findings: Vec<Finding>,
}

/// Writes how it ended.
struct Concluded(Arc<Restoring>);

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        let control = &self.0.held.control;
        let Some(mut point) = restore_points::get(tx, self.0.id).await? else { return Ok(None) };
        let before = point.status;
        point.completed_at = Some(control.now());
        let (kind, more) = match end {
            End::Succeeded => {
                let ended = answers.get(CUT_OVER).cloned().unwrap_or_default();
                let ended: Ended = serde_json::from_value(ended).map_err(|error| {
                    let message = format!("what came of restore {} cannot be read", self.0.id);
                    Problem::new(Kind::Internal, "answer_unreadable", message, "please report this")
                        .caused_by(error)
                })?;
                complete(&mut point, ended);
                if self.0.makes {
                    point.undo_until = None;
                    self.made(tx, &point).await?;
                }
                if let Some(bytes) =
                    backups::get(tx, point.backup_id).await?.and_then(|backup| backup.size_bytes)
                {
                    metrics::counter!("undoo_restore_bytes_total").increment(bytes.unsigned_abs());
                }
                (EventKind::RestoreCompleted, json!({ "duration_seconds": point.duration_seconds() }))
            }
            End::Cancelled(cause) => {
                // Without a live database, what the end has left is to be known.
                if matches!(settled(&point)?.strategy, Strategy::StopFirst { .. }) {
                    self.failed(tx, &mut point, cause).await?;
                }
                point.status = RestoreStatus::Cancelled;
                (EventKind::RestoreCancelled, Value::Null)
            }
            End::Failed(cause) => {
                self.failed(tx, &mut point, cause).await?;
                point.status = RestoreStatus::Failed;
                (EventKind::RestoreFailed, told(&point))
            }
            End::Stuck(cause) => {
                self.failed(tx, &mut point, cause).await?;
                point.status = RestoreStatus::Stuck;
                (EventKind::RestoreStuck, told(&point))
            }
        };
        if self.0.makes {
            let environment = point.target_environment_id;
            match end {
                End::Succeeded => {}
                End::Failed(_) | End::Cancelled(_) => {
                    control.environment_unmade(tx, environment, "its restore did not succeed").await?;
                }
                End::Stuck(_) => control.environment_to_remove(tx, environment).await?,
            }
        }
        restore_points::update(tx, &point, before).await?;
        control.migration_settled(tx, &point).await?;
        control.tell(tx, restore_event(&point, kind, more)).await?;
        Ok(Some(json!({ "restore_id": point.id, "status": point.status })))
    }
}

impl Concluded {
    /// The environment is there, and serves.
    async fn made(&self, tx: &Tx, point: &RestorePoint) -> Result<()> {
        let id = point.target_environment_id;
        if let Some(mut environment) = environments::locked(tx, id).await? {
            environment.status = EnvironmentStatus::Running;
            environments::update(tx, &environment).await?;
        }
        if let Some(mut record) = deployments::get(tx, id).await? {
            let before = record.state;
            record.state = DeploymentState::Deployed;
            deployments::update(tx, &record, before).await?;
        }
        Ok(())
    }

    async fn failed(&self, tx: &Tx, point: &mut RestorePoint, cause: &Cause) -> Result<()> {
        let mut text = cause.text();
        let safety = match point.pre_restore_backup_id.filter(|_| cause.step != SAFETY_BACKUP) {
            Some(id) => backups::get(tx, id).await?,
            None => None,
        };
        if let Some(safety) = safety.filter(|safety| safety.completed_at.is_some()) {
            text += &format!(" What was live before is also in the safety backup {}.", safety.id);
        }
        point.error_message = Some(text);
        point.error_step = Some(cause.place().to_owned());
        for finding in &cause.findings {
            add_finding(point, finding);
        }
        Ok(())
    }
}

fn told(point: &RestorePoint) -> Value {
    json!({
        "error_step": point.error_step,
        "error_message": point.error_message,
        "duration_seconds": point.duration_seconds(),
        "pre_restore_backup_id": point.pre_restore_backup_id,
    })
}

fn complete(point: &mut RestorePoint, ended: Ended) {
    let Ended { over, held, findings } = ended;
    point.status = RestoreStatus::Completed;
    point.progress = 100;
    // What stop_first dropped does not come back; a restore of files alone puts nothing aside.
    point.undo_until = over.record.undo_until.filter(|_| over.record.replaced_oid.is_some());
    point.held = (!held.is_empty()).then(|| json!(held));
    point.report = over.report;
    for finding in &findings {
        add_finding(point, finding);
    }
}

fn swapped_back() -> Problem {
    Problem::new(
        Kind::NotProven,
        "health_check",
        "Odoo did not answer on the restored pair, and what was live before was brought back",
        "Look at the Odoo container's log for what it says at start; restore to another environment to look closer.",
    )
}

pub(super) fn half_way(id: RestoreId, at: &Location, why: &str) -> Problem {
    Problem::new(
        Kind::Stuck,
        "half_way",
        format!("restore {id} stands half-way: {why}"),
        format!(
            "On the server, `undoo list {0}` shows where it stands; `undoo resume {0}` finishes the cutover, and \
             `undoo undo {0}` brings back what was live before.",
            at.target
        ),
    )
}
