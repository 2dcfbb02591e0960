//! A restore: staged, neutralized, prepared, proven and accepted; then cut over.
//!
//! What fails before the cutover is taken back here. From the cutover on the record on the target says how far
//! it came, and nothing is discarded.

use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use undoo_core::{Result, Side};
use undoo_engine::{
    files::Added,
    health::Answered,
    order::{Answer, Failure, Intent, Phase},
    orders::Order,
    outgoing::HeldOutgoing,
    record::Record,
    restore::{Assignment, Plan, Preparation, Report},
    source::BackupOrder,
};
use undoo_storage::Access;

use super::report;
use crate::{
    caller::Caller,
    place::{Cutover, Place},
};

/// Code of the problem with which an order ends that was called off.
const CANCELLED: &str = "cancelled";
/// `maintenance_work_mem` of all loading sessions together, in MiB.
const MAINTENANCE_MIB: u32 = 768;

/// A restore and how it is to be done.
pub struct Restore {
    /// The backup, with what it takes to read it.
    pub backup: BackupOrder,
    /// The backup, as the record names it.
    pub name: String,
    /// Which restore, of what, to where.
    pub work: Assignment,
    /// What was asked for; `None` to recover the same instance and copy any other.
    pub intent: Option<Intent>,
    /// Whether a copy is neutralized.
    pub neutralize: bool,
    /// Whether mails and crons that are due are held; `None` for what fits the intent.
    pub hold_outgoing: Option<bool>,
    /// Whether Odoo has to boot on a clone first, where there is an Odoo.
    pub boot: bool,
    /// Whether an unhealthy Odoo makes the cutover swap back.
    pub auto_rollback: bool,
}

/// A restore that is staged, proven and accepted, and waits for its cutover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Staged {
    /// What was loaded, counted and matched.
    pub report: Report,
    /// What it is taken for.
    pub intent: Intent,
    /// Whether it was neutralized.
    pub neutralized: bool,
    /// What it will hold.
    pub held: HeldOutgoing,
    /// How Odoo booted on a clone of it.
    pub boot: Option<Answered>,
}

impl Staged {
    /// What the report says of it, but for the cutover.
    ///
    pub fn known(&self) -> Value {
        json!(self)
    }
}

impl Restore {
    /// What it would do; touches nothing.
    ///
    /// # Errors
    /// Those of the order.
    pub async fn plan(&self, place: &Place, caller: Caller<'_>) -> Result<Plan, Failure> {
        place.order(Order::Plan { backup: self.backup.clone(), work: self.work.clone() }, caller).await
    }

    /// Adds the backup's files to the live ones, for a restore of files alone.
    ///
    /// # Errors
    /// Those of the order.
    pub async fn add_files(&self, place: &Place, caller: Caller<'_>) -> Result<Added, Failure> {
        place.order(Order::AddFiles { backup: self.backup.clone(), work: self.work.clone() }, caller).await
    }

    /// Stages, prepares, proves and accepts. The target's lock is held from then on.
    ///
    /// # Errors
    /// Those of the orders, with everything taken back as far as that was possible.
    pub async fn stage(&self, place: &Place, caller: Caller<'_>) -> Result<Staged, Failure> {
        let dead = place.dead(caller).await?;
        let order =
            Order::Stage { backup: self.backup.clone(), name: self.name.clone(), work: self.work.clone() };
        let report: Report = match place.order(order, caller).await {
            Ok(report) => report,
            Err(failure) => {
                // A mover that was killed or cancelled could not take its own things back.
                if matches!(failure.problem.code, CANCELLED | "mover_died" | "mover_out_of_memory") {
                    self.discard(place, caller).await;
                }
                return Err(failure);
            }
        };
        // Staging has swept their pairs away, so that nothing of them is at work any more.
        if let Err(left) = place.bury(&dead).await {
            caller.say(format!("containers of an earlier run stay: {left}"));
        }
        let proven = self.prove(place, report, caller).await;
        if proven.is_err() {
            self.discard(place, caller).await;
        }
        proven
    }

    /// From the verified staged pair to one that may go live.
    async fn prove(&self, place: &Place, report: Report, caller: Caller<'_>) -> Result<Staged, Failure> {
        let work = &self.work;
        let intent = self.intent.unwrap_or_else(|| told_by_identity(&report));
        let neutralized = intent == Intent::Copy && self.neutralize;
        let by_odoo =
            neutralized && place.has_odoo() && place.target().odoo_major.is_some_and(|major| major >= 16);
        if by_odoo {
            caller.audience.tell(Answer::Phase { phase: Phase::Neutralize });
            place.neutralize(work, caller).await?;
        }
        let boots = place.has_odoo() && self.boot;
        let preparation = Preparation {
            intent,
            renew_identity: intent == Intent::Copy,
            neutralize_in_sql: neutralized && !by_odoo,
            hold_outgoing: self.hold_outgoing.unwrap_or(intent == Intent::Recover),
            clone: boots,
        };
        let order = Order::Prepare { work: work.clone(), preparation };
        let held: HeldOutgoing = place.order(order, caller).await?;
        let boot = if boots {
            caller.audience.tell(Answer::Phase { phase: Phase::Boot });
            let flush = place.order::<()>(Order::Flush { work: work.clone() }, caller.quietly());
            let (boot, flushed) = tokio::join!(place.prove(work, caller), flush);
            let boot = boot?;
            flushed?;
            Some(boot)
        } else {
            None
        };
        place.order::<()>(Order::Accept { work: work.clone() }, caller).await?;
        Ok(Staged { report, intent, neutralized, held, boot })
    }

    /// Swaps the staged pair in, if the record still has this epoch. What its report will say is stored before,
    /// whether that works or not.
    ///
    /// # Errors
    /// Those of the cutover. One that was called off before it began is discarded.
    pub async fn cut_over(
        &self,
        place: &Place,
        staged: &Staged,
        epoch: u64,
        caller: Caller<'_>,
    ) -> Result<Record, Failure> {
        report::draft(place, self.work.id, &staged.known(), caller).await;
        let cutover = Cutover {
            id: self.work.id,
            to: Side::Restored,
            epoch,
            auto_rollback: self.auto_rollback,
            booted_ms: staged.boot.as_ref().map(|answered| answered.after_ms),
        };
        let swapped = place.cut_over(cutover, caller).await;
        if swapped.as_ref().is_err_and(|failure| failure.problem.code == CANCELLED) {
            self.discard(place, caller).await;
        }
        swapped
    }

    /// Takes a staged pair back. What cannot be taken back now, the next run on the target does.
    pub async fn discard(&self, place: &Place, caller: Caller<'_>) {
        let order = Order::Discard { target: place.target().clone(), id: self.work.id };
        if let Err(left) = place.order::<()>(order, caller.quietly()).await {
            caller.say(format!("the staged pair stays until the next run: {}", left.problem));
        }
    }
}

/// The same instance is recovered and any other is copied.
fn told_by_identity(report: &Report) -> Intent {
    let live = report.plan.cluster.live.as_ref().and_then(|live| live.uuid.as_ref());
    let restored = report.counted.as_ref().and_then(|counted| counted.uuid.as_ref());
    if live.is_some() && live == restored { Intent::Recover } else { Intent::Copy }
}

/// Connections that load, and the memory of each for indexes, in MiB. Without a wish as many as there are
/// processors, at most 8; `processors` are those of another machine that works.
pub fn jobs(wished: Option<usize>, processors: Option<usize>) -> (usize, u32) {
    let jobs = wished.unwrap_or_else(|| super::processors(processors)).max(1);
    let mib = MAINTENANCE_MIB / u32::try_from(jobs).unwrap_or(u32::MAX).max(1);
    (jobs, mib.max(64))
}

/// A backup as the record names it. One of this machine from the root: `undoo prune` has to know it, wherever
/// it runs.
pub fn named(backup: &Access) -> String {
    match backup {
        Access::Local { path } => {
            fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        other => other.location().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn a_local_backup_is_named_from_the_root_in_the_record() {
        let relative = Access::Local { path: PathBuf::from("src/../Cargo.toml") };
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(named(&relative), fs::canonicalize(whole).expect("there").display().to_string());
        let gone = Access::Local { path: PathBuf::from("no/such/backup.zip") };
        assert_eq!(named(&gone), "no/such/backup.zip");
    }
}
