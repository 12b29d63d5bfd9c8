//! Schedules in a world in which everything goes wrong that can: clocks jump, timers come twice or late,
//! definitions change, runs end when they like. Whatever the order, the same things hold.

mod cases;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    course::{By, Outcome, Run, State},
    decide::{Event, Follow, decide},
    definition::{Definition, MOST_WAITING, Missed, Overlap, Schedule},
    slots::fires,
};

const NAME: &str = "bell";
const SECOND: i64 = 1_000;

/// What surrounds a schedule.
#[derive(Default)]
struct Sim {
    state: State,
    /// The node's clock.
    now: i64,
    /// The latest that it ever showed when something happened.
    latest: i64,
    /// Due times of the timers in the store.
    timers: Vec<i64>,
    /// Slots that began, ever.
    begun: BTreeSet<i64>,
    /// Runs that have not ended.
    open: Vec<Run>,
}

fn definition(schedule: Schedule) -> Definition {
    schedule.define("bell/tower".parse().unwrap(), "1".into(), 5).unwrap()
}

fn every(seconds: i64) -> Schedule {
    Schedule::every(std::time::Duration::from_secs(seconds as u64))
}

impl Sim {
    fn happens(&mut self, event: Event) -> Result<Follow, crate::Error> {
        self.latest = self.latest.max(self.now);
        let before = self.state.clone();
        let follow = decide(&mut self.state, NAME, self.now, event);
        match &follow {
            Ok(follow) => {
                self.timers.extend(follow.arm);
                for run in &follow.begin {
                    self.begins(*run);
                }
            }
            Err(_) => assert_eq!(self.state, before, "nothing changes when nothing is done"),
        }
        self.holds();
        follow
    }

    fn begins(&mut self, run: Run) {
        let Some(course) = &self.state else { return self.open.push(run) };
        if !run.wanted {
            assert!(self.begun.insert(run.slot), "slot {} began twice", run.slot);
            // What waited may begin when the clock has been set back.
            assert!(run.slot <= self.latest, "slot {} began early, at {}", run.slot, self.latest);
        }
        if course.definition.follows() {
            let alone = course.definition.overlap != Overlap::Allow;
            assert!(!alone || self.open.is_empty(), "{run:?} began while {:?} ran", self.open);
            self.open.push(run);
        }
    }

    /// What holds at all times.
    fn holds(&self) {
        let Some(course) = &self.state else { return };
        assert!(course.history.len() <= course.definition.history, "{course:?}");
        assert!(course.waiting.len() <= MOST_WAITING);
        assert!(course.waiting.is_empty() || course.running.is_some(), "what waits is begun some time: {course:?}");
        if course.next.is_some() && !course.paused {
            let armed = course.armed.unwrap_or_else(|| panic!("no timer counts: {course:?}"));
            assert!(self.timers.contains(&armed), "no timer is due at {armed}: {course:?} {:?}", self.timers);
        }
        if let (Some(next), Some(last)) = (course.next, course.last)
            && course.definition.history > 0
        {
            assert!(next > last || course.by == By::Actor, "{course:?}");
        }
    }

    /// Lets the timers come that are due by the node's clock; what comes `twice` is a message that was
    /// handled and whose commit was lost, or the other way round.
    fn timers_come(&mut self, twice: bool) {
        while let Some(index) = self.timers.iter().position(|due| *due <= self.now) {
            let at = self.timers.swap_remove(index);
            self.happens(Event::Tick { at, declared: true }).unwrap();
            if twice {
                self.happens(Event::Tick { at, declared: true }).unwrap();
            }
        }
    }

    fn ends(&mut self, index: usize) {
        if self.open.is_empty() {
            return;
        }
        let run = self.open.swap_remove(index % self.open.len());
        self.happens(Event::Ended { run, outcome: Outcome::Completed, attempts: 1, at: self.now }).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Passes(i64),
    Jumps(i64),
    Ends(usize),
    TimersComeTwice,
    Set(i64, i64),
    Pause,
    Resume,
    Run,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0i64..9_000).prop_map(Step::Passes),
        1 => (-40_000i64..40_000).prop_map(Step::Jumps),
        4 => any::<usize>().prop_map(Step::Ends),
        2 => Just(Step::TimersComeTwice),
        1 => (1i64..8, 0i64..3).prop_map(|(period, jitter)| Step::Set(period, jitter)),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Run),
    ];
    prop::collection::vec(step, 1..80)
}

fn overlaps() -> impl Strategy<Value = Overlap> {
    prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Cancel), Just(Overlap::Allow)]
}

fn misses() -> impl Strategy<Value = Missed> {
    prop_oneof![Just(Missed::Once), Just(Missed::Skip), (1u32..5).prop_map(|most| Missed::All { most })]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_slot_begins_twice_or_early_and_a_timer_always_counts(
        steps in steps(), overlap in overlaps(), missed in misses(), jitter in 0u64..4
    ) {
        let like = |period: i64, jitter: i64| {
            let jitter = std::time::Duration::from_secs(jitter as u64);
            definition(every(period).overlap(overlap).missed(missed).jitter(jitter))
        };
        let mut sim = Sim { now: 1_000_000, ..Sim::default() };
        sim.happens(Event::Set(like(3, jitter as i64), By::Feature)).unwrap();
        for step in steps {
            match step {
                Step::Passes(time) => {
                    sim.now += time;
                    sim.timers_come(false);
                }
                Step::Jumps(time) => sim.now += time,
                Step::Ends(index) => sim.ends(index),
                Step::TimersComeTwice => sim.timers_come(true),
                Step::Set(period, jitter) => {
                    sim.happens(Event::Set(like(period, jitter), By::Feature)).unwrap();
                }
                Step::Pause => { sim.happens(Event::Pause).unwrap(); }
                Step::Resume => { sim.happens(Event::Resume).unwrap(); }
                Step::Run => { let _ = sim.happens(Event::Run); }
            }
        }
        // What is left over goes by itself, and one timer is left at the most.
        sim.now = sim.latest + 100 * SECOND;
        sim.timers_come(false);
        prop_assert!(sim.timers.len() <= 1, "{:?}", sim.timers);
    }

    #[test]
    fn every_slot_is_accounted_for(
        steps in steps(), overlap in overlaps(), missed in misses(), period in 1i64..8
    ) {
        let mut sim = Sim { now: 1_000_000, ..Sim::default() };
        let made = sim.now;
        sim.happens(Event::Set(definition(every(period).overlap(overlap).missed(missed)), By::Feature)).unwrap();
        for step in steps {
            match step {
                Step::Passes(time) => {
                    sim.now += time;
                    sim.timers_come(false);
                }
                Step::Jumps(time) => sim.now += time,
                Step::Ends(index) => sim.ends(index),
                _ => sim.timers_come(true),
            }
        }
        let course = sim.state.as_ref().unwrap();
        if let Some(last) = course.last {
            let all = (made + 1..=last).filter(|at| at % (period * SECOND) == 0).count() as i64;
            let known = course.taken + course.left_out + course.waiting.len() as i64;
            prop_assert_eq!(all, known, "{:?}", course);
        }
    }

    #[test]
    fn whoever_wants_all_gets_all(steps in steps(), queue in any::<bool>(), period in 1i64..8, jitter in 0u64..3) {
        let overlap = if queue { Overlap::Queue } else { Overlap::Allow };
        let jitter = std::time::Duration::from_secs(jitter);
        let all = every(period).overlap(overlap).missed(Missed::All { most: 1_000 }).jitter(jitter);
        let mut sim = Sim { now: 1_000_000, ..Sim::default() };
        let made = sim.now;
        sim.happens(Event::Set(definition(all), By::Feature)).unwrap();
        for step in steps {
            match step {
                Step::Passes(time) => {
                    sim.now += time;
                    sim.timers_come(false);
                }
                Step::Jumps(time) => sim.now += time,
                Step::Ends(index) => sim.ends(index),
                _ => sim.timers_come(true),
            }
        }
        while !sim.open.is_empty() {
            sim.ends(0);
        }
        let last = sim.state.as_ref().unwrap().last.unwrap_or(made);
        let slots: BTreeSet<i64> = (made + 1..=last).filter(|at| at % (period * SECOND) == 0).collect();
        prop_assert_eq!(sim.begun, slots);
    }
}

fn world(schedule: Schedule, by: By) -> Sim {
    let mut sim = Sim { now: 1_000_000, ..Sim::default() };
    sim.happens(Event::Set(definition(schedule), by)).unwrap();
    sim
}

fn passes(sim: &mut Sim, seconds: i64) {
    sim.now += seconds * SECOND;
    sim.timers_come(false);
}
