//! Drives a workflow to one of its three ends, from wherever its log says that it is.
//!
//! Before a step's work and after it, a line goes into the task's log, so that:
//!
//! - a step that was finished is not done again; one that was begun is, and finds out how far it came;
//! - if a step fails, or the task is called off, every step that was begun is undone, last first, and each of
//!   them tolerates that it never happened;
//! - if that fails too, the task is stuck, and says what an operator can do;
//! - how it ended is written in one transaction with what it was about: there is never one without the other.
//!
//! Nothing is written under a lease that is lost, and nothing on the target is touched any more: whoever took
//! the task over has removed what this held there.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use undoo_core::{
    Finding, Kind, Problem, Result,
    platform::{StepEvent, StepLog, TaskStatus},
};
use undoo_engine::order::Failure;
use undoo_store::{Tx, tasks};

use super::{
    held::Held,
    signal::{Signal, Why},
};

/// How often an undo, or the end, is tried when a server does not answer.
const TRIES: u32 = 4;
/// How often the undo of one step may be begun: one that kills its workers ends.
const MOST_UNDO_BEGUN: usize = 3;

/// A step of a workflow.
#[async_trait]
pub(crate) trait Step: Send + Sync {
    /// Its name, in the log and in errors.
    fn name(&self) -> &'static str;

    /// Does its work, or what is left of it after a crash. Ends soon after `stop` is cancelled, with
    /// `Cancelled`. What it answers is there at the end, whoever comes to it.
    async fn act(&self, signal: &Signal) -> Result<Value, Failure>;

    /// What it answers if its work turns out to be done already. Asked where the work may not be begun again:
    /// what is done needs no more attempts.
    async fn found_done(&self) -> Result<Option<Value>> {
        Ok(None)
    }

    /// Takes its work back, as far as there is any.
    async fn undo(&self) -> Result<()> {
        Ok(())
    }

    /// Lets go what this process holds on the target, for another worker to begin again.
    async fn let_go(&self) {}

    /// Whether it is waited for, whatever happens: it is short, and must not be broken off.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// The finer step that it failed in.
    fn phase(&self) -> Option<String> {
        None
    }
}

/// What is written when a workflow ends.
#[async_trait]
pub(crate) trait Conclude: Send + Sync {
    /// Writes how it ended, in the transaction that ends the task. The answer is the task's result.
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>>;
}

/// What the steps answered, by their names.
pub(crate) type Answers = BTreeMap<String, Value>;

/// Steps, and what is written at their end.
pub(crate) struct Workflow {
    pub steps: Vec<Box<dyn Step>>,
    pub conclusion: Box<dyn Conclude>,
}

/// How a workflow ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// All steps are done.
    Succeeded,
    /// A step failed, and everything is as it was before.
    Failed(Cause),
    /// It was called off, and everything is as it was before.
    Cancelled(Cause),
    /// A step failed, and could not be taken back.
    Stuck(Cause),
}

impl End {
    /// What a task that ended so is.
    pub(crate) fn status(&self) -> TaskStatus {
        match self {
            Self::Succeeded => TaskStatus::Completed,
            Self::Failed(_) => TaskStatus::Failed,
            Self::Cancelled(_) => TaskStatus::Cancelled,
            Self::Stuck(_) => TaskStatus::Stuck,
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Succeeded => None,
            Self::Failed(cause) | Self::Cancelled(cause) | Self::Stuck(cause) => Some(cause),
        }
    }
}

/// Why a workflow did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// The step.
    pub step: String,
    /// The finer step in it.
    pub phase: Option<String>,
    /// What sort of problem it was.
    pub kind: Kind,
    /// Its stable name.
    pub code: String,
    /// Thing and cause.
    pub message: String,
    /// The next step.
    pub remedy: String,
    /// What stood in the way.
    pub findings: Vec<Finding>,
}

impl Cause {
    /// Of a step that failed, with what stood in its way.
    pub(crate) fn of_failure(step: &str, phase: Option<String>, failure: &Failure) -> Self {
        let Failure { problem, findings } = failure;
        Self {
            step: step.to_owned(),
            phase,
            kind: problem.kind,
            code: problem.code.to_owned(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
            findings: findings.clone(),
        }
    }

    /// Of a problem.
    pub(crate) fn plain(step: &str, problem: Problem) -> Self {
        Self::of_failure(step, None, &problem.into())
    }

    fn cancelled(step: &str) -> Self {
        Self::plain(step, Problem::new(Kind::Cancelled, "cancelled", "it was called off", ""))
    }

    /// The same, for a step that could not be taken back.
    fn stuck(&self, step: &str, undo: &Problem) -> Self {
        Self {
            message: format!("{}; taking back {step} failed: {}", self.message, undo.message),
            remedy: undo.remedy.clone(),
            kind: Kind::Stuck,
            ..self.clone()
        }
    }

    /// The finest step that it is known by.
    pub(crate) fn place(&self) -> &str {
        self.phase.as_deref().unwrap_or(&self.step)
    }

    /// Thing, cause and next step, as one text.
    pub(crate) fn text(&self) -> String {
        let message = self.message.trim_end_matches('.');
        match self.remedy.as_str() {
            "" => format!("{message}."),
            remedy => format!("{message}. {remedy}"),
        }
    }
}

/// What the log says.
#[derive(Default)]
struct Past {
    begun: Vec<String>,
    answers: Answers,
    failed: Option<Cause>,
    undo_begun: BTreeMap<String, usize>,
}

impl Past {
    fn of(log: Vec<StepLog>) -> Self {
        let mut past = Self::default();
        for line in log {
            match line.event {
                StepEvent::DoStarted => {
                    past.begun.retain(|step| *step != line.step);
                    past.begun.push(line.step);
                }
                StepEvent::DoFinished => drop(past.answers.insert(line.step, line.data)),
                StepEvent::DoFailed => past.failed = serde_json::from_value(line.data).ok(),
                StepEvent::UndoStarted => *past.undo_begun.entry(line.step).or_default() += 1,
                StepEvent::UndoFinished => past.begun.retain(|step| *step != line.step),
                StepEvent::UndoFailed => {}
            }
        }
        past
    }
}

/// Where the way forward led.
enum Way {
    /// To the end.
    Through,
    /// To something that has to be taken back.
    Back(End),
    /// Nowhere: another worker is to go on.
    Away,
}

/// Drives a workflow until it has ended, or another worker is to go on. The answer is how it ended.
///
/// # Errors
/// `lease_lost`, and those of the store: then it has not ended here.
pub(crate) async fn drive(
    workflow: &Workflow,
    held: &Held,
    signal: &Signal,
    grace: Duration,
) -> Result<Option<End>> {
    let drive = Drive { workflow, held, signal, grace };
    let driven = drive.to_an_end().await;
    let lost = |problem: &Problem| problem.code == "lease_lost" || drive.is_lost();
    if driven.as_ref().is_err_and(|problem| !lost(problem)) {
        drive.let_go().await;
    }
    driven
}

struct Drive<'a> {
    workflow: &'a Workflow,
    held: &'a Held,
    signal: &'a Signal,
    grace: Duration,
}

impl Drive<'_> {
    async fn to_an_end(&self) -> Result<Option<End>> {
        let mut past = Past::of(self.held.log().await?);
        let through = self.workflow.steps.iter().all(|step| past.answers.contains_key(step.name()));
        let way = match past.failed.take() {
            Some(cause) if cause.kind == Kind::Cancelled => Way::Back(End::Cancelled(cause)),
            Some(cause) => Way::Back(End::Failed(cause)),
            None if self.held.lease.exhausted && !through && !self.last_is_done(&mut past).await? => {
                Way::Back(End::Failed(self.exhausted(&past)))
            }
            None => self.forward(&mut past).await?,
        };
        let end = match way {
            Way::Through => End::Succeeded,
            Way::Back(end) => self.back(end, &past).await?,
            Way::Away => match self.away().await? {
                Some(cause) => self.back(End::Cancelled(cause), &past).await?,
                None => return Ok(None),
            },
        };
        self.conclude(&end, &past.answers).await?;
        Ok(Some(end))
    }

    async fn forward(&self, past: &mut Past) -> Result<Way> {
        for step in &self.workflow.steps {
            let (step, name) = (&**step, step.name());
            if past.answers.contains_key(name) {
                continue;
            }
            match self.signal.why() {
                None => {}
                Some(Why::Cancelled) => return Ok(Way::Back(End::Cancelled(Cause::cancelled(name)))),
                Some(Why::ShuttingDown | Why::Lost) => return Ok(Way::Away),
            }
            self.held.append(name, StepEvent::DoStarted, &Value::Null).await?;
            past.begun.retain(|begun| begun != name);
            past.begun.push(name.to_owned());
            match self.act(step).await {
                Ok(answer) => {
                    self.held.append(name, StepEvent::DoFinished, &answer).await?;
                    past.answers.insert(name.to_owned(), answer);
                }
                Err(failure) => return self.failed(step, failure).await,
            }
        }
        Ok(Way::Through)
    }

    /// The step's work; broken off when it does not end although it was told to.
    async fn act(&self, step: &dyn Step) -> Result<Value, Failure> {
        let too_long = async {
            self.signal.stop().cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        tokio::select! {
            biased;
            done = step.act(self.signal) => done,
            () = too_long, if !step.is_waited_for() => {
                let message = "it was called off, did not end by itself, and was broken off";
                Err(Problem::new(Kind::Cancelled, "cancelled", message, "").into())
            }
        }
    }

    async fn failed(&self, step: &dyn Step, failure: Failure) -> Result<Way> {
        let (called_off, why) = (failure.problem.kind == Kind::Cancelled, self.signal.why());
        if failure.problem.code == "lease_lost" || why == Some(Why::Lost) {
            return Ok(Way::Away);
        }
        if called_off && why == Some(Why::ShuttingDown) {
            return Ok(Way::Away);
        }
        let cause = Cause::of_failure(step.name(), step.phase(), &failure);
        let data = serde_json::to_value(&cause).unwrap_or_else(|_| json!({}));
        self.held.append(step.name(), StepEvent::DoFailed, &data).await?;
        let end = if called_off { End::Cancelled(cause) } else { End::Failed(cause) };
        Ok(Way::Back(end))
    }

    /// Whether the last step was begun by a worker that is lost, and is done all the same.
    async fn last_is_done(&self, past: &mut Past) -> Result<bool> {
        let Some(last) = self.workflow.steps.last() else { return Ok(false) };
        if !past.begun.iter().any(|begun| begun == last.name()) {
            return Ok(false);
        }
        let answer = match insist(|| last.found_done()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(false),
            // Nor will it be seen the next time.
            Err(problem) if problem.is_permanent() => return Ok(false),
            Err(problem) => return Err(problem),
        };
        self.held.append(last.name(), StepEvent::DoFinished, &answer).await?;
        past.answers.insert(last.name().to_owned(), answer);
        Ok(true)
    }

    /// Why a task ends that was taken too often: it was at this step when its last worker was heard of.
    fn exhausted(&self, past: &Past) -> Cause {
        let first = self.workflow.steps.first().map_or("", |step| step.name());
        let step = past.begun.last().map_or(first, String::as_str);
        let message = format!("every worker that took it was lost, the last one at the step {step}");
        let remedy = "Look into the workers' logs for what ends them: memory, disk, a kill.";
        Cause::plain(step, Problem::new(Kind::Internal, "attempts_used_up", message, remedy))
    }

    /// Undoes every step that was begun, last first.
    async fn back(&self, end: End, past: &Past) -> Result<End> {
        let Some(cause) = end.cause() else { return Ok(end) };
        for step in self.workflow.steps.iter().rev() {
            let name = step.name();
            if !past.begun.iter().any(|begun| begun == name) {
                continue;
            }
            if past.undo_begun.get(name).is_some_and(|times| *times >= MOST_UNDO_BEGUN) {
                let message = "every worker that tried was lost";
                let remedy =
                    "Look into the workers' logs, and at the target: `undoo list` and `undoo resume`.";
                let problem = Problem::new(Kind::Stuck, "undo_lost", message, remedy);
                return Ok(End::Stuck(cause.stuck(name, &problem)));
            }
            self.held.append(name, StepEvent::UndoStarted, &Value::Null).await?;
            match insist(|| step.undo()).await {
                Ok(()) => self.held.append(name, StepEvent::UndoFinished, &Value::Null).await?,
                Err(problem) if problem.code == "lease_lost" => return Err(problem),
                Err(problem) => {
                    let data = json!({ "code": problem.code, "message": problem.message });
                    self.held.append(name, StepEvent::UndoFailed, &data).await?;
                    return Ok(End::Stuck(cause.stuck(name, &problem)));
                }
            }
        }
        Ok(end)
    }

    /// Leaves the task to another worker. If it was called off in this very moment, it is taken back instead.
    async fn away(&self) -> Result<Option<Cause>> {
        if self.is_lost() {
            return Ok(None);
        }
        self.let_go().await;
        if self.signal.why() != Some(Why::ShuttingDown) {
            return Ok(None);
        }
        let tx = self.held.begin().await?;
        match tasks::hand_back(&tx, &self.held.lease).await {
            Ok(()) => tx.commit().await.map(|()| None),
            Err(problem) if problem.code == "task_cancelling" => {
                let first = self.workflow.steps.first().map_or("", |step| step.name());
                Ok(Some(Cause::cancelled(first)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// Whether another worker has the task. What it has begun has the same name on the target, and is not to be
    /// taken for what this one holds there.
    fn is_lost(&self) -> bool {
        self.signal.why() == Some(Why::Lost)
    }

    async fn let_go(&self) {
        for step in self.workflow.steps.iter().rev() {
            step.let_go().await;
        }
    }

    async fn conclude(&self, end: &End, answers: &Answers) -> Result<()> {
        let concluded = insist(|| async {
            let tx = self.held.begin().await?;
            let result = self.workflow.conclusion.conclude(&tx, end, answers).await?;
            let error = end.cause().map(Cause::text);
            tasks::finish(&tx, &self.held.lease, end.status(), result.as_ref(), error.as_deref()).await?;
            tx.commit().await
        });
        match concluded.await {
            // What cannot be concluded by anybody must not come back for ever.
            Err(problem)
                if self.held.lease.exhausted && problem.is_permanent() && problem.code != "lease_lost" =>
            {
                tracing::error!(%problem, task = %self.held.task(), "a task could not be concluded");
                self.held.fail(&problem).await
            }
            concluded => concluded,
        }
    }
}

/// Tries again where that may help.
async fn insist<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<T> {
    let mut tried = 0;
    loop {
        match work().await {
            Err(problem) if !problem.is_permanent() && tried + 1 < TRIES => {
                tracing::warn!(%problem, "trying again");
                tokio::time::sleep(Duration::from_millis(250 << tried)).await;
                tried += 1;
            }
            done => return done,
        }
    }
}
