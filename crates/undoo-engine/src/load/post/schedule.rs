//! Which job may run next beside those that are running.
//!
//! PostgreSQL would make a statement wait for a lock that another session's statement holds, and an
//! idle session is an idle processor. So jobs say which tables they keep to themselves and what has to
//! be over before, and a session is given only what can run at once. This knows no SQL and no sessions.

use std::collections::HashSet;

/// What a job locks: a large table, or all small ones together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// All tables that are not worth a job of their own.
    Small,
    /// A large table, by its number.
    Large(usize),
}

/// What a job does, in the order in which jobs of one table have to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Primary keys, unique, check and exclusion constraints, unique indexes: what keys refer to.
    Key,
    /// All other indexes.
    Index,
    /// Indexes of partitions into those of their table.
    Attach,
    /// Foreign keys.
    ForeignKey,
    /// Validation of foreign keys of large tables.
    Validation,
    /// `ANALYZE`.
    Statistics,
}

/// A job as the schedule sees it.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    /// See [`Step`].
    pub step: Step,
    /// The table whose rows it goes through.
    pub place: Place,
    /// What nothing else may be at meanwhile; jobs at `place` that do not have it here share it.
    pub alone: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Over,
}

/// What a session is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Run the job with this number.
    Job(usize),
    /// Nothing can run beside what is running; ask again when something is over.
    Wait,
    /// Nothing is left.
    Over,
}

/// The jobs, most urgent first, and what has become of them.
pub(super) struct Schedule {
    jobs: Vec<(Demand, State)>,
}

impl Schedule {
    /// Of jobs that are named by their number in this list, the most urgent first.
    pub fn new(jobs: impl IntoIterator<Item = Demand>) -> Self {
        Self { jobs: jobs.into_iter().map(|job| (job, State::Waiting)).collect() }
    }

    /// Hands out the most urgent job that can run now.
    ///
    /// A job that waits for nothing but a place keeps less urgent ones from taking that place, so that it
    /// gets its turn.
    pub fn next(&mut self) -> Next {
        let mut reserved = HashSet::new();
        let mut left = false;
        for number in 0..self.jobs.len() {
            let (job, state) = &self.jobs[number];
            left |= *state != State::Over;
            if *state != State::Waiting || !self.may_begin(job) {
                continue;
            }
            let wanted = || job.alone.iter().chain([&job.place]);
            if self.has_room(job) && !wanted().any(|place| reserved.contains(place)) {
                self.jobs[number].1 = State::Running;
                return Next::Job(number);
            }
            reserved.extend(job.alone.iter().copied());
        }
        if left { Next::Wait } else { Next::Over }
    }

    /// Takes back a job that was handed out.
    pub fn over(&mut self, number: usize) {
        self.jobs[number].1 = State::Over;
    }

    /// Whether nothing is left to hand out.
    pub fn is_over(&self) -> bool {
        self.jobs.iter().all(|(_, state)| *state != State::Waiting)
    }

    /// Whether all that has to come first is over.
    fn may_begin(&self, job: &Demand) -> bool {
        let touches = |other: &Demand| other.place == job.place || job.alone.contains(&other.place);
        !self.jobs.iter().any(|(other, state)| {
            *state != State::Over
                && match job.step {
                    Step::Key => false,
                    Step::Attach => other.step < Step::Attach,
                    // A key may refer to any table; of indexes, those in its way are awaited.
                    Step::ForeignKey => match other.step {
                        Step::Key | Step::Attach => true,
                        Step::Index => touches(other),
                        _ => false,
                    },
                    Step::Index | Step::Validation => other.step < job.step && other.place == job.place,
                    Step::Statistics => other.step <= Step::Index && other.place == job.place,
                }
        })
    }

    /// Whether no running job is where it wants to be.
    fn has_room(&self, job: &Demand) -> bool {
        self.jobs.iter().filter(|(_, state)| *state == State::Running).all(|(other, _)| {
            let met = |at: &Demand, alone: &Demand| {
                alone.alone.iter().any(|place| *place == at.place || at.alone.contains(place))
            };
            !met(other, job) && !met(job, other)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(step: Step, place: Place, alone: &[Place]) -> Demand {
        Demand { step, place, alone: alone.to_vec() }
    }

    const SMALL: Place = Place::Small;
    const BIG: Place = Place::Large(0);

    #[test]
    fn indexes_of_one_table_are_built_side_by_side_but_not_before_its_key() {
        let index = || demand(Step::Index, BIG, &[]);
        let mut schedule = Schedule::new([demand(Step::Key, BIG, &[BIG]), index(), index()]);
        assert_eq!(schedule.next(), Next::Job(0));
        assert_eq!(schedule.next(), Next::Wait);
        schedule.over(0);
        assert_eq!((schedule.next(), schedule.next()), (Next::Job(1), Next::Job(2)));
    }

    #[test]
    fn validations_of_one_table_take_turns_while_others_work_elsewhere() {
        let validation = || demand(Step::Validation, BIG, &[BIG]);
        let mut schedule =
            Schedule::new([validation(), validation(), demand(Step::ForeignKey, SMALL, &[SMALL])]);
        assert_eq!((schedule.next(), schedule.next()), (Next::Job(0), Next::Job(2)));
        assert_eq!(schedule.next(), Next::Wait);
        schedule.over(0);
        assert_eq!(schedule.next(), Next::Job(1));
    }

    #[test]
    fn a_job_that_needs_a_place_for_itself_is_not_overtaken_there_for_ever() {
        let shared = || demand(Step::Statistics, SMALL, &[]);
        let mut schedule = Schedule::new([demand(Step::ForeignKey, BIG, &[BIG, SMALL]), shared(), shared()]);
        schedule.jobs[1].1 = State::Running;
        assert_eq!(schedule.next(), Next::Wait);
        schedule.over(1);
        assert_eq!(schedule.next(), Next::Job(0));
    }

    const STEPS: &[Step] =
        &[Step::Key, Step::Index, Step::Attach, Step::ForeignKey, Step::Validation, Step::Statistics];

    fn any_place() -> impl Strategy<Value = Place> {
        prop_oneof![Just(SMALL), (0..3_usize).prop_map(Place::Large)]
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        let alone = prop::collection::vec(any_place(), 0..3);
        (prop::sample::select(STEPS), any_place(), alone).prop_map(|(step, place, alone)| Demand {
            step,
            place,
            alone,
        })
    }

    proptest! {
        #[test]
        fn every_job_runs_once_and_never_beside_one_that_is_in_its_way(
            jobs in prop::collection::vec(any_demand(), 0..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 200),
            sessions in 1..6_usize,
        ) {
            let mut schedule = Schedule::new(jobs.clone());
            let (mut running, mut ran) = (Vec::<usize>::new(), 0);
            for pick in picks {
                while running.len() < sessions {
                    match schedule.next() {
                        Next::Job(number) => {
                            for other in &running {
                                let (a, b) = (&jobs[number], &jobs[*other]);
                                let hits = |a: &Demand, b: &Demand| {
                                    a.alone.iter().any(|place| *place == b.place || b.alone.contains(place))
                                };
                                prop_assert!(!hits(a, b) && !hits(b, a));
                            }
                            running.push(number);
                            ran += 1;
                        }
                        Next::Wait => {
                            prop_assert!(!running.is_empty(), "nothing runs and nothing may begin");
                            break;
                        }
                        Next::Over => break,
                    }
                }
                if running.is_empty() {
                    break;
                }
                schedule.over(running.swap_remove(pick.index(running.len())));
            }
            prop_assert_eq!(ran, jobs.len());
            prop_assert_eq!(schedule.next(), Next::Over);
        }
    }
}
