//! The cutover: bringing one side of a restore to life, whatever the state things are found in.
//!
//! Cutover, undo, redo, swap back and resumption are this one function. It looks where both sides are,
//! lets [`undoo_core::pair::moves`] say what is missing, and takes the moves one by one, each noted in
//! the journal before it is taken. Its caller holds the target's lock; it parses nothing that came out of a
//! backup.

mod databases;
mod directories;

pub(crate) use databases::close_database;

use std::{future::Future, time::Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use undoo_core::{Kind, Move, Observed, Place, Problem, Result, Side, pair};

use crate::{
    home::Home,
    lock::Locked,
    order::{Answer, Audience, Phase, Target},
    properties::Properties,
    record::{Record, State},
};

/// What runs on the database and the filestore: containers, or a service that commands control.
pub trait Services: Send + Sync {
    /// Stops everything; what is stopped already stays so.
    fn stop(&self) -> impl Future<Output = Result<()>> + Send;
    /// Starts everything that was running before the first stop.
    fn start(&self) -> impl Future<Output = Result<()>> + Send;
    /// Waits until Odoo answers.
    fn await_health(&self) -> impl Future<Output = Result<()>> + Send;
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
    epoch: u64,
    to: Side,
    step: Move,
    done: bool,
}

/// Where tests break a cutover off; called before and after each move.
pub type Checkpoint<'a> = &'a (dyn Fn(Move, bool) -> Result<()> + Send + Sync);

/// A cutover of one restore.
pub struct Swap<'a, S> {
    /// The target.
    pub target: &'a Target,
    /// Its home.
    pub home: &'a Home,
    /// What to stop and start.
    pub services: &'a S,
    /// Who hears of it.
    pub audience: &'a dyn Audience,
    /// Whether an unhealthy Odoo makes it swap back by itself.
    pub auto_rollback: bool,
    /// See [`Checkpoint`].
    pub checkpoint: Checkpoint<'a>,
}

impl<S: Services> Swap<'_, S> {
    /// Makes `to` live.
    ///
    /// # Errors
    /// `NotProven` with code `health_check` when Odoo did not answer and the other side was brought back;
    /// `Stuck` when that did not work either. After any other error the journal stands and the same call,
    /// or one for the other side, goes on from there.
    pub async fn make_live(&self, locked: &Locked, record: &mut Record, to: Side) -> Result<()> {
        let server = locked.server();
        self.refuse_the_impossible(server, record, to).await?;
        match self.drive(server, record, to).await {
            Ok(()) => Ok(()),
            Err(problem)
                if problem.code == "health_check" && self.auto_rollback && self.has_way_back(record)? =>
            {
                self.audience.tell(Answer::Log {
                    message: format!("Odoo does not answer on the {} pair; swapping back", to.word()),
                });
                self.drive(server, record, to.other()).await.map_err(|second| {
                    Problem::new(
                        Kind::Stuck,
                        "swap_back_failed",
                        format!("Odoo did not answer, and swapping back failed: {second}"),
                        format!("mend the cause, then run `undoo undo {}`", self.target.name),
                    )
                    .caused_by(second)
                })?;
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Nothing has been touched yet: what cannot end in a whole pair is not begun. Then the live directory
    /// is marked as the side that it is.
    async fn refuse_the_impossible(&self, server: &Client, record: &Record, to: Side) -> Result<()> {
        // Before the lock was taken, the caller's record may have become an old one.
        record.refuse_if_fenced(self.home)?;
        let side_now = match record.state {
            State::Staged => Some(Side::Replaced),
            State::Live { side } => Some(side),
            State::Swapping { .. } => None,
            State::Staging | State::Purged => {
                return Err(Problem::new(
                    Kind::Conflict,
                    "no_pair",
                    format!("restore {} of \"{}\" has no two pairs to swap", record.id, record.database),
                    "`undoo list` shows which restores can go either way",
                ));
            }
        };
        if to == Side::Replaced && !self.has_way_back(record)? {
            return Err(Problem::new(
                Kind::Conflict,
                "no_way_back",
                format!("the database that restore {} replaced was dropped first, as confirmed", record.id),
                "restore another backup instead",
            ));
        }
        let places = databases::places(server, record).await?;
        let of = |side| if side == Side::Restored { places.0 } else { places.1 };
        if databases::oid(record, to).is_some() && of(to) == Place::Absent {
            return Err(Problem::new(
                Kind::Missing,
                "pair_missing",
                format!("the {} database of restore {} does not exist any more", to.word(), record.id),
                "someone dropped it; restore a backup instead",
            ));
        }
        let Some(side) = side_now else { return Ok(()) };
        databases::expect_live(server, record, side).await?;
        if to == Side::Restored {
            let kept = self.home.read(&record.id, PROPERTIES)?;
            databases::expect_settable(server, record, kept, &self.left_out(record)?).await?;
        }
        directories::claim_live(self.target, record, side)
    }

    /// Whether the side that was live before still exists: not where it was dropped to make room.
    fn has_way_back(&self, record: &Record) -> Result<bool> {
        Ok(self.home.read::<Properties>(&record.id, PROPERTIES)?.is_none())
    }

    fn left_out(&self, record: &Record) -> Result<Vec<String>> {
        Ok(self.home.read(&record.id, LEFT_OUT)?.unwrap_or_default())
    }

    async fn drive(&self, server: &Client, record: &mut Record, to: Side) -> Result<()> {
        record.epoch += 1;
        record.advance(self.home, State::Swapping { to })?;
        let observed = self.observe(server, record).await?;
        let began = Instant::now();
        for step in pair::moves(&observed, to) {
            if let Err(problem) = self.step(server, record, step, to).await {
                return Err(match problem.code {
                    "disk_full" => self.run_meanwhile(server, record, problem).await,
                    _ => problem,
                });
            }
        }
        record.downtime_ms = u64::try_from(began.elapsed().as_millis()).ok();
        record.went_live(to);
        record.write(self.home)?;
        // Whatever is live now has its properties, or came with others.
        self.home.forget_dropped(&record.database)
    }

    async fn step(&self, server: &Client, record: &Record, step: Move, to: Side) -> Result<()> {
        record.refuse_if_fenced(self.home)?;
        self.note(record, to, step, false)?;
        (self.checkpoint)(step, false)?;
        self.take(server, record, step, to).await?;
        (self.checkpoint)(step, true)?;
        self.note(record, to, step, true)
    }

    /// A full disk ends a cutover until somebody makes room. Where a pair stands whole, Odoo runs on it till
    /// then; not where the live database was dropped to make room, since an Odoo that is started without its
    /// database makes an empty one of that name. Nothing is noted of that: the cutover is still under way, and whoever finishes it or goes back
    /// begins by stopping Odoo.
    async fn run_meanwhile(&self, server: &Client, record: &Record, problem: Problem) -> Problem {
        let started = async {
            record.refuse_if_fenced(self.home)?;
            let observed = self.observe(server, record).await?;
            let way_back = self.has_way_back(record)?;
            let whole = [Side::Replaced, Side::Restored]
                .into_iter()
                .find(|side| observed.is_live(*side) && (*side == Side::Restored || way_back));
            if let Some(side) = whole {
                // It may never have been closed, and PostgreSQL's disk be the full one.
                if let Err(closed) = databases::open(server, record, side).await {
                    self.audience.tell(Answer::Log { message: closed.to_string() });
                }
                self.services.start().await?;
            }
            Ok::<_, Problem>(whole)
        };
        match started.await {
            Ok(Some(side)) => {
                let on = match databases::oid(record, side) {
                    Some(_) => format!("on the {} pair", side.word()),
                    None => "without it".to_owned(),
                };
                let message = format!("{}; meanwhile Odoo runs {on}", problem.message);
                Problem { message, ..problem }
            }
            Ok(None) => problem,
            Err(cause) => {
                self.audience.tell(Answer::Log { message: format!("Odoo could not be started: {cause}") });
                problem
            }
        }
    }

    fn note(&self, record: &Record, to: Side, step: Move, done: bool) -> Result<()> {
        let entry = Entry { at: Timestamp::now(), epoch: record.epoch, to, step, done };
        self.home.journal(&record.id, &entry)
    }

    async fn take(&self, server: &Client, record: &Record, step: Move, to: Side) -> Result<()> {
        let phase = if step == Move::AwaitHealth { Phase::HealthCheck } else { Phase::Cutover };
        self.audience.tell(Answer::Phase { phase });
        match step {
            Move::StopServices => self.services.stop().await,
            Move::CloseDatabases => databases::close(server, record).await,
            Move::RenameDatabases => {
                let kept = self.home.read(&record.id, PROPERTIES)?;
                databases::rename(server, record, to, kept, &self.left_out(record)?).await
            }
            Move::ParkDirectory => directories::park(self.target, self.home, record, to.other()),
            Move::PlaceDirectory => directories::place(self.target, self.home, record, to),
            Move::OpenDatabase => databases::open(server, record, to).await,
            Move::StartServices => self.services.start().await,
            // The restore made a new database: the way back leaves nothing that could answer.
            Move::AwaitHealth if to == Side::Replaced && record.replaced_oid.is_none() => Ok(()),
            Move::AwaitHealth => self.services.await_health().await.map_err(|problem| {
                Problem::new(
                    Kind::NotProven,
                    "health_check",
                    format!("Odoo does not answer on the {} pair: {problem}", to.word()),
                    "see Odoo's log; the other pair is whole",
                )
                .caused_by(problem)
            }),
        }
    }

    async fn observe(&self, server: &Client, record: &Record) -> Result<Observed> {
        let (restored_database, replaced_database) = databases::places(server, record).await?;
        let (restored_directory, replaced_directory) = directories::places(self.target, self.home, record);
        Ok(Observed { restored_database, replaced_database, restored_directory, replaced_directory })
    }
}

/// File of the restore's directory with the properties of a live database that was dropped first.
pub const PROPERTIES: &str = "properties.json";

/// File of the restore's directory with the codes that someone accepted: settings among them are not
/// copied.
pub const LEFT_OUT: &str = "left_out.json";

/// Statements that give the restore's parked database the settings, grants, limit and comment of the live
/// one, for when the live one will be gone; `None` where there is none.
///
/// # Errors
/// When the server does not answer.
pub async fn properties_of_live(target: &Target) -> Result<Properties> {
    let server = target.admin.connect("postgres").await?;
    Properties::of(&server, &target.database, &target.owner).await
}
