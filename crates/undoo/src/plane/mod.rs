//! The platform's data plane: the port of `undoo-control`, carried out as the direct commands do it.
//!
//! Nothing is remembered here but the places of restores between staging and cutover, whose movers hold the
//! targets' locks. Whatever else a call has to know of an earlier one, that was made by a worker which may be
//! dead, it finds on the target and in Docker by the restore's or the backup's id.

mod found;
mod jobs;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_control::plane::{
    BackupJob, CutOver, DeployStep, FetchedAddons, FoundOdoo, Location, MadeBackup, Plane, RestoreJob,
    ServerAccess, ServerFacts, StagedRestore, Watch,
};
use undoo_core::{
    Kind, Problem, RestoreId, Result, Side, Signed, Signer,
    platform::{AddonsSource, Deployment},
};
use undoo_engine::{
    order::{Answer, Failure, Parts},
    orders::{Listed, Order, UndoPlan, ended},
    record::{Record, State},
    restore::Plan,
};
use undoo_hosts::Docker;

use crate::{
    agent::AgentEnd,
    caller::{Caller, Stop},
    docker::{Attempt, DockerPlace},
    place::Place,
    work::{
        checkouts, deploy,
        modules::{self, Trust},
        report,
        restore::Restore,
        stop_first, swap,
    },
};

/// How long the sessions of an attempt whose containers are gone may hold the target's lock: the server
/// notices that their other end is gone when it has done what it is doing.
const LAST_SESSIONS: Duration = Duration::from_secs(90);

/// The Docker Engine of this machine, and what is staged on it.
#[derive(Default)]
pub struct DockerPlane {
    staged: Mutex<HashMap<RestoreId, Arc<Place>>>,
}

/// A target on which somebody begins or goes on.
struct Begun {
    place: Place,
    attempt: Attempt,
}

impl Begun {
    /// Finds a target, and settles what an earlier attempt at the same work has left in Docker.
    async fn on(at: &Location, task: &str, caller: Caller<'_>) -> Result<Self, Failure> {
        let place = docker_place(at, caller).await?;
        let attempt = place.take_over(task, caller).await?;
        Ok(Self { place: Place::Docker(Box::new(place)), attempt })
    }

    /// Has something done that takes the target's lock, and does it again while what an earlier attempt has
    /// left behind holds it.
    async fn patiently<T, W>(&self, work: impl Fn() -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let began = Instant::now();
        loop {
            match work().await {
                Err(busy)
                    if busy.problem.code == "target_busy"
                        && self.attempt.removed
                        && began.elapsed() < LAST_SESSIONS =>
                {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                done => return done,
            }
        }
    }

    /// What the target says of a restore.
    async fn standing(&self, id: RestoreId, caller: Caller<'_>) -> Result<Option<Listed>, Failure> {
        Ok(listed(&self.place, caller).await?.into_iter().find(|listed| listed.record.id == id))
    }
}

impl DockerPlane {
    fn keep(&self, id: RestoreId, place: Place) {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(place));
    }

    fn take(&self, id: RestoreId) -> Option<Arc<Place>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Ends what this process itself keeps of a restore, and with it the target's lock.
    async fn let_go(&self, id: RestoreId) {
        if let Some(place) = self.take(id) {
            close(&place).await;
        }
    }
}

#[async_trait]
impl Plane for DockerPlane {
    async fn look(&self, server: &ServerAccess) -> Result<ServerFacts> {
        found::server(server).await
    }

    async fn deploy(
        &self,
        server: &ServerAccess,
        deployment: &Deployment,
        step: DeployStep,
        watch: &Watch,
    ) -> Result<(), Failure> {
        let stop = Stop::by(watch.stop.clone());
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        let docker = Docker::connect(found::endpoint(server)).await?;
        Ok(deploy::step(&docker, deployment, step, caller).await?)
    }

    async fn put_modules(
        &self,
        job: &RestoreJob,
        deployment: &Deployment,
        sources: &[AddonsSource],
        watch: &Watch,
    ) -> Result<Vec<FetchedAddons>, Failure> {
        let stop = Stop::by(watch.stop.clone());
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        let checkouts = checkouts::fetch(sources, caller).await?;
        let trust = Trust { keys: &job.options.trusted_keys, accept: &job.options.accept };
        let docker = Docker::connect(found::endpoint(&job.at.server)).await?;
        modules::put(&docker, deployment, &checkouts, &job.backup, trust, caller).await?;
        Ok(checkouts.fetched().to_vec())
    }

    async fn discover(&self, server: &ServerAccess) -> Result<Vec<FoundOdoo>> {
        found::all(server).await
    }

    async fn inspect(&self, at: &Location) -> Result<FoundOdoo> {
        found::look(at).await
    }

    async fn plan(&self, job: &RestoreJob, watch: &Watch) -> Result<Plan, Failure> {
        let stop = Stop::by(watch.stop.clone());
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        let place = find(&job.at, caller).await?;
        let plan = jobs::restore(job, &place)?.plan(&place, caller).await;
        close(&place).await;
        plan
    }

    async fn stage(&self, job: &RestoreJob, watch: &Watch) -> Result<StagedRestore, Failure> {
        let stop = Stop::by(watch.stop.clone());
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        self.let_go(job.id).await;
        let begun = Begun::on(&job.at, &job.id.to_string(), caller).await?;
        if let Some(listed) = begun.standing(job.id, caller).await?
            && !matches!(listed.record.state, State::Staging | State::Staged)
        {
            return Err(gone_live(job.id).into());
        }
        let restore = jobs::restore(job, &begun.place)?;
        let staged = stage(&restore, &begun, caller).await;
        match &staged {
            Ok(_) => self.keep(job.id, begun.place),
            Err(_) => close(&begun.place).await,
        }
        staged
    }

    async fn cut_over(
        &self,
        job: &RestoreJob,
        staged: &StagedRestore,
        watch: &Watch,
    ) -> Result<CutOver, Failure> {
        let stop = Stop::never();
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        if let Some(place) = self.take(job.id) {
            let cut_over = cut_over(job, staged, Record::STAGED, &place, caller).await;
            close(&place).await;
            return cut_over;
        }
        let begun = Begun::on(&job.at, &job.id.to_string(), caller).await?;
        let cut_over = go_on(job, staged, &begun, caller).await;
        close(&begun.place).await;
        cut_over
    }

    async fn standing(&self, at: &Location, id: RestoreId) -> Result<Option<Listed>> {
        let stop = Stop::never();
        let caller = nobody(&stop);
        let place = docker_place(at, caller).await?;
        place.await_cutover(&id.to_string()).await?;
        let place = Place::Docker(Box::new(place));
        let listed = listed(&place, caller).await.map_err(problem)?;
        Ok(listed.into_iter().find(|listed| listed.record.id == id))
    }

    async fn discard(&self, at: &Location, id: RestoreId) -> Result<()> {
        let stop = Stop::never();
        let caller = nobody(&stop);
        self.let_go(id).await;
        let begun = Begun::on(at, &id.to_string(), caller).await.map_err(problem)?;
        let place = &begun.place;
        let order = || Order::Discard { target: place.target().clone(), id };
        let discarded = async {
            begun.patiently(|| place.order::<()>(order(), caller)).await?;
            stop_first::start_if_whole(place, caller).await
        };
        let discarded = discarded.await;
        close(place).await;
        discarded.map_err(problem)
    }

    async fn undo_plan(&self, at: &Location) -> Result<UndoPlan, Failure> {
        let stop = Stop::never();
        let caller = nobody(&stop);
        swap::plan(&find(at, caller).await?, caller).await
    }

    async fn swap(
        &self,
        at: &Location,
        id: RestoreId,
        to: Side,
        signer: &Signer,
        watch: &Watch,
    ) -> Result<CutOver, Failure> {
        let stop = Stop::never();
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        let begun = Begun::on(at, &id.to_string(), caller).await?;
        let swapped = make_live(id, to, signer, &begun, caller).await;
        close(&begun.place).await;
        swapped
    }

    async fn release(&self, at: &Location) -> Result<Value> {
        let stop = Stop::never();
        let caller = nobody(&stop);
        let place = find(at, caller).await.map_err(problem)?;
        place.order(Order::Release { target: place.target().clone() }, caller).await.map_err(problem)
    }

    async fn purge(&self, at: &Location, id: RestoreId) -> Result<()> {
        let stop = Stop::never();
        let caller = nobody(&stop);
        let place = find(at, caller).await.map_err(problem)?;
        let order = Order::Purge { target: place.target().clone(), id: Some(id) };
        let purged: Vec<RestoreId> = place.order(order, caller).await.map_err(problem)?;
        tracing::debug!(?purged, "kept pairs were removed");
        Ok(())
    }

    async fn back_up(&self, job: &BackupJob, watch: &Watch) -> Result<MadeBackup, Failure> {
        let stop = Stop::by(watch.stop.clone());
        let caller = Caller { audience: &*watch.audience, stop: &stop };
        let begun = Begun::on(&job.at, &job.id.to_string(), caller).await?;
        let backup = jobs::backup(job)?;
        backup.take_back().await?;
        let kept = begun.patiently(|| backup.make(&begun.place, &job.signer, caller)).await?;
        Ok(jobs::made(job, kept))
    }
}

/// Stages a restore; one of files alone is only looked at, since nothing of it can be taken back.
async fn stage(restore: &Restore, begun: &Begun, caller: Caller<'_>) -> Result<StagedRestore, Failure> {
    let place = &begun.place;
    if restore.work.options.parts == Parts::Filestore {
        let plan = restore.plan(place, caller).await?;
        return match Failure::of(&plan.findings, &restore.work.options.accept) {
            Some(failure) => Err(failure),
            None => Ok(jobs::planned(restore, plan)),
        };
    }
    let stopped = begun.patiently(|| stop_first::is_due(restore, place, caller)).await?;
    if stopped {
        stop_first::stop(place, caller).await?;
    }
    match begun.patiently(|| restore.stage(place, caller)).await {
        Ok(staged) => Ok(jobs::staged(&staged)),
        Err(failure) if stopped => Err(stop_first::with_odoo_stopped(place, failure, caller).await),
        Err(failure) => Err(failure),
    }
}

/// Cuts a restore over that is staged, if its record still has this epoch.
async fn cut_over(
    job: &RestoreJob,
    staged: &StagedRestore,
    epoch: u64,
    place: &Place,
    caller: Caller<'_>,
) -> Result<CutOver, Failure> {
    let restore = jobs::restore(job, place)?;
    if restore.work.options.parts == Parts::Filestore {
        let added = restore.add_files(place, caller).await?;
        return Ok(CutOver { record: jobs::of_files(&restore, staged.intent), report: Some(json!(added)) });
    }
    let known = jobs::known(staged)?;
    let record = restore.cut_over(place, &known, epoch, caller).await?;
    let report = ended(known.known(), &record);
    let report = report::keep(place, job.id, &report, &job.signer, caller).await;
    Ok(CutOver { record, report: written(report) })
}

/// Goes on with a cutover that another worker has begun, or is about to.
async fn go_on(
    job: &RestoreJob,
    staged: &StagedRestore,
    begun: &Begun,
    caller: Caller<'_>,
) -> Result<CutOver, Failure> {
    if job.options.parts == Parts::Filestore {
        return begun.patiently(|| cut_over(job, staged, Record::STAGED, &begun.place, caller)).await;
    }
    let Some(Listed { record, .. }) = begun.standing(job.id, caller).await? else {
        return Err(staged_pair_gone(job.id).into());
    };
    match record.state {
        State::Live { side: Side::Restored } => {
            let report = ended(jobs::known(staged)?.known(), &record);
            let report = report::keep(&begun.place, job.id, &report, &job.signer, caller).await;
            Ok(CutOver { record, report: written(report) })
        }
        State::Live { side: Side::Replaced } => Err(swapped_back(begun, job.id)),
        State::Staged | State::Swapping { .. } => {
            begun.patiently(|| cut_over(job, staged, record.epoch, &begun.place, caller)).await
        }
        State::Staging | State::Purged => Err(staged_pair_gone(job.id).into()),
    }
}

/// Makes a side of the newest restore live, if it is not.
async fn make_live(
    id: RestoreId,
    to: Side,
    signer: &Signer,
    begun: &Begun,
    caller: Caller<'_>,
) -> Result<CutOver, Failure> {
    let place = &begun.place;
    let mut known = listed(place, caller).await?.into_iter().map(|listed| listed.record);
    let newest = known.rfind(|record| !matches!(record.state, State::Staging | State::Staged));
    let Some(record) = newest.filter(|record| record.id == id && record.state != State::Purged) else {
        return Err(not_the_newest(id, &place.target().database).into());
    };
    let record = match (record.state, &begun.attempt.cutover) {
        (State::Live { side }, _) if side == to => record,
        // It was tried, and Odoo did not answer.
        (State::Live { .. }, Some(Err(_))) => return Err(swapped_back(begun, id)),
        _ => begun.patiently(|| swap::swap(place, &record, to, caller)).await?,
    };
    let report = report::keep_drafted(place, id, signer, caller).await;
    Ok(CutOver { record, report: written(report) })
}

async fn listed(place: &Place, caller: Caller<'_>) -> Result<Vec<Listed>, Failure> {
    place.order(Order::List { target: place.target().clone() }, caller.quietly()).await
}

async fn find(at: &Location, caller: Caller<'_>) -> Result<Place, Failure> {
    Ok(Place::Docker(Box::new(docker_place(at, caller).await?)))
}

async fn docker_place(at: &Location, caller: Caller<'_>) -> Result<DockerPlace> {
    DockerPlace::find(found::endpoint(&at.server), &at.target, at.database.as_deref(), caller).await
}

/// A caller who does not listen.
fn nobody(stop: &Stop) -> Caller<'_> {
    Caller { audience: &|_: Answer| {}, stop }
}

/// Ends what is kept of a place. What stays is found by whoever works there next.
async fn close(place: &Place) {
    if let Err(left) = place.close().await {
        tracing::warn!(%left, "a mover could not be ended");
    }
}

fn problem(failure: Failure) -> Problem {
    failure.problem
}

fn written(report: Option<Signed>) -> Option<Value> {
    report.map(|signed| json!(signed))
}

fn gone_live(id: RestoreId) -> Problem {
    Problem::new(
        Kind::Conflict,
        "not_staged",
        format!("restore {id} has gone live, and is not staged again"),
        "undo it, or restore the backup once more",
    )
}

fn staged_pair_gone(id: RestoreId) -> Problem {
    Problem::new(
        Kind::Conflict,
        "staged_pair_gone",
        format!("the staged pair of restore {id} was taken back by another run of undoo"),
        "the live system is untouched; restore the backup once more",
    )
}

fn not_the_newest(id: RestoreId, database: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        "not_the_newest",
        format!("restore {id} is not the newest one of \"{database}\" whose replaced pair is kept"),
        "only the newest restore can be undone or redone; to go further back, restore a backup",
    )
}

/// Why an earlier attempt's cutover has brought the other side back.
fn swapped_back(begun: &Begun, id: RestoreId) -> Failure {
    match &begun.attempt.cutover {
        Some(AgentEnd::Err(failure)) => {
            let problem = &failure.problem;
            let told = (problem.kind, problem.code, problem.message.clone(), problem.remedy.clone());
            Problem::new(told.0, told.1, told.2, told.3).into()
        }
        _ => Problem::new(
            Kind::NotProven,
            "health_check",
            format!("restore {id} went live and was swapped back"),
            "see Odoo's log for why it did not answer on the restored database; it runs on the one of before",
        )
        .into(),
    }
}
