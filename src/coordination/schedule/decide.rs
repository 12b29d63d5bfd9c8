//! What a schedule does when something happens to it: a pure function, which the [actor](super::actor)
//! executes and commits as one.
//!
//! Invariant: as long as a schedule that is not paused has a next slot, exactly one timer counts, and it is
//! due when that slot fires or before. A slot is taken by moving `next` past it, together with what it
//! begins: so it is taken once, whoever's clock says what, and however often a timer comes.

use jiff::Timestamp;

use super::{
    course::{By, Course, Outcome, Past, Run, State},
    definition::{Definition, MOST_WAITING, Overlap},
    slots::{Due, due, fires},
    spec::When,
};
use crate::error::{Error, Result};

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// It is to be like this from now on.
    Set(Definition, By),
    /// Its timer of this due time has come. `declared` is whether any node may still declare it.
    Tick { at: i64, declared: bool },
    /// What a run began has ended.
    Ended { run: Run, outcome: Outcome, attempts: u32, at: i64 },
    /// Nothing begins until it is resumed.
    Pause,
    /// It goes on with the next slot.
    Resume,
    /// It runs now, whenever its next slot is.
    Run,
    /// It is no more; by an actor, or by an operator, who may do so with any.
    Remove { by_actor: bool },
}

/// What follows, to be done in one commit with the changed state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Follow {
    /// A timer.
    pub(super) arm: Option<i64>,
    /// Runs that begin, in order.
    pub(super) begin: Vec<Run>,
    /// A run that is to end before its time.
    pub(super) withdraw: Option<Run>,
    /// When the oldest slot among those that begin was to fire.
    pub(super) fired: Option<i64>,
    /// Slots that nobody could take in time.
    pub(super) missed: u64,
    /// Slots that came while an earlier one had not ended.
    pub(super) skipped: u64,
}

/// Decides. Terminal error when it is not to be done, and nothing is changed then.
pub(super) fn decide(state: &mut State, name: &str, now: i64, event: Event) -> Result<Follow> {
    if let Event::Set(definition, by) = event {
        return set(state, name, now, definition, by);
    }
    let Some(course) = state else {
        return match event {
            // Left over from a schedule that is no more.
            Event::Tick { .. } | Event::Ended { .. } | Event::Remove { by_actor: true } => Ok(Follow::default()),
            _ => Err(Error::terminal(format!("there is no schedule {name:?}")).code("unknown_schedule")),
        };
    };
    match event {
        Event::Remove { by_actor: true } if course.by != By::Actor => return Err(declared(name)),
        Event::Remove { .. } => {
            *state = None;
            return Ok(Follow::default());
        }
        Event::Pause => {
            course.paused = true;
            return Ok(Follow::default());
        }
        _ => {}
    }
    // Checked when it was set: only another build can find fault with it, and then another one may not.
    let when = course.definition.when.read().map_err(|error| Error::new(format!("the schedule {name:?}: {error}")))?;
    let mut going = Going { course, when: &when, name, now, follow: Follow::default() };
    match event {
        Event::Tick { at, declared } => going.tick(at, declared),
        Event::Ended { run, outcome, attempts, at } => going.ended(run, outcome, attempts, at),
        Event::Resume => going.resume(),
        Event::Run => going.run()?,
        Event::Set(..) | Event::Pause | Event::Remove { .. } => {}
    }
    let follow = going.follow;
    if course.is_over() {
        *state = None;
    }
    Ok(follow)
}

fn declared(name: &str) -> Error {
    Error::terminal(format!(
        "the schedule {name:?} is declared by a feature: it can be paused, not changed at run time"
    ))
    .code("declared_schedule")
}

/// Makes a schedule, or changes one. Whatever was due by the old definition is settled by it, whatever is due
/// from now on by the new one.
fn set(state: &mut State, name: &str, now: i64, definition: Definition, by: By) -> Result<Follow> {
    let when = definition.when.read()?;
    let Some(course) = state else {
        let mut course = Course::new(definition, by);
        course.next = match (by, &when) {
            // What is to be told to somebody at a time that has passed is told late.
            (By::Actor, When::Once(at)) => Some(*at),
            _ => when.next(now),
        };
        let mut going = Going { course: &mut course, when: &when, name, now, follow: Follow::default() };
        going.arm();
        let follow = going.follow;
        *state = Some(course);
        return Ok(follow);
    };
    match (course.by, by) {
        (By::Feature, By::Actor) => return Err(declared(name)),
        (before, by) if before == by && course.definition == definition => return Ok(Follow::default()),
        _ => {}
    }
    let was = std::mem::replace(&mut course.by, by);
    let old = course.definition.when.read().unwrap_or_else(|_| when.clone());
    let moved = course.definition.when != definition.when || was == By::Orphan;
    let mut going = Going { course, when: &old, name, now, follow: Follow::default() };
    if moved && was != By::Orphan && !going.course.paused {
        going.settle(Jitter::Over);
    }
    going.when = &when;
    going.course.definition = definition;
    if moved {
        going.course.next = match (by, &when) {
            (By::Actor, When::Once(at)) => Some(*at).filter(|at| going.course.last != Some(*at)),
            _ => going.after_now(),
        };
    }
    going.arm();
    Ok(going.follow)
}

/// What is done with a slot whose time has come and whose jitter has not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jitter {
    /// It waits.
    Waits,
    /// It does not matter any more.
    Over,
}

/// A schedule in the middle of a decision.
struct Going<'a> {
    course: &'a mut Course,
    when: &'a When,
    name: &'a str,
    now: i64,
    follow: Follow,
}

impl Going<'_> {
    fn tick(&mut self, at: i64, declared: bool) {
        if self.course.armed != Some(at) {
            return;
        }
        self.course.armed = None;
        if self.course.by == By::Feature && !declared {
            (self.course.by, self.course.next) = (By::Orphan, None);
        }
        if !self.course.paused {
            self.settle(Jitter::Waits);
        }
        self.arm();
    }

    /// The first slot that is neither settled nor past.
    fn after_now(&self) -> Option<i64> {
        // The clock may have gone back behind what is settled.
        self.when.next(self.course.last.map_or(self.now, |last| last.max(self.now)))
    }

    /// Lets a timer come when the next slot fires. One that comes before that sets the next, so a schedule
    /// that is put off again and again does not leave a timer behind each time.
    fn arm(&mut self) {
        let Some(next) = self.course.next.filter(|_| !self.course.paused) else { return };
        let fires = self.fires(next);
        if self.course.armed.is_none_or(|armed| armed > fires) {
            self.course.armed = Some(fires);
            self.follow.arm = Some(fires);
        }
    }

    fn fires(&self, slot: i64) -> i64 {
        match self.course.definition.jitter {
            0 => slot,
            jitter => fires(self.name, slot, self.when.next(slot), jitter),
        }
    }

    /// Takes the slots that have fired, and lets each run or not as the policies say.
    fn settle(&mut self, jitter: Jitter) {
        let Some(first) = self.course.next else { return };
        let most = self.course.definition.most();
        // One more than may run names the newest that does not; and the newest of all may not have fired yet.
        let Due { mut newest, mut count } = due(self.when, first, self.now, most + 2);
        let waits = newest.pop_if(|slot| jitter == Jitter::Waits && self.fires(*slot) > self.now);
        count -= u64::from(waits.is_some());
        let Some(last) = newest.last().copied() else { return };
        self.course.next = waits.or_else(|| self.when.next(last));
        self.course.last = Some(last);
        let late = self.course.definition.lateness();
        let in_time = |slot: &&i64| self.now.saturating_sub(self.fires(**slot)) <= late;
        let running = newest.iter().rev().take(most).take_while(in_time).count();
        let run = newest.split_off(newest.len() - running);
        let missed = count - run.len() as u64;
        if missed > 0 {
            self.follow.missed += missed;
            let slot = newest.last().copied().unwrap_or(last);
            self.leave_out(Run { slot, wanted: false }, Outcome::Missed, missed);
        }
        self.follow.fired = run.first().map(|oldest| self.fires(*oldest).min(self.now)).or(self.follow.fired);
        let overlap = match self.course.definition.overlap {
            // Those that are made up wait for each other, whatever is to happen with one that comes meanwhile.
            Overlap::Skip | Overlap::Cancel if run.len() > 1 => Overlap::Queue,
            overlap => overlap,
        };
        run.into_iter().for_each(|slot| self.take(Run { slot, wanted: false }, overlap));
    }

    /// Lets a run begin, if what runs lets it.
    fn take(&mut self, run: Run, overlap: Overlap) {
        let busy = self.course.running.is_some();
        match overlap {
            _ if !busy => self.begin(run),
            Overlap::Allow => self.begin(run),
            Overlap::Queue if self.course.waiting.len() < MOST_WAITING => self.course.waiting.push(run),
            Overlap::Cancel => {
                for older in std::mem::take(&mut self.course.waiting) {
                    self.skip(older);
                }
                self.follow.withdraw = self.course.running;
                self.course.waiting.push(run);
            }
            Overlap::Skip | Overlap::Queue => self.skip(run),
        }
    }

    fn skip(&mut self, run: Run) {
        self.follow.skipped += 1;
        self.leave_out(run, Outcome::Skipped, 1);
    }

    /// Remembers that slots do not run: together with those just before, if it was for the same reason.
    fn leave_out(&mut self, run: Run, outcome: Outcome, number: u64) {
        let number = number as i64;
        self.course.left_out += number;
        match self.course.history.last_mut() {
            Some(past) if past.outcome == outcome => {
                past.run = run;
                past.number += number;
            }
            _ => self.course.remember(Past { run, outcome, begun: 0, ended: 0, number }),
        }
    }

    fn begin(&mut self, run: Run) {
        self.course.taken += 1;
        self.follow.begin.push(run);
        if self.course.definition.overlap != Overlap::Allow && self.course.definition.follows() {
            self.course.running = Some(run);
        }
        self.course.remember(Past { run, outcome: Outcome::Begun, begun: self.now, ended: 0, number: 0 });
    }

    fn ended(&mut self, run: Run, outcome: Outcome, attempts: u32, at: i64) {
        // Also of a dead letter that was put back and ended again.
        if let Some(past) = self.course.history.iter_mut().rev().find(|past| past.run == run && past.begun > 0) {
            (past.outcome, past.ended, past.number) = (outcome, at, attempts.into());
        }
        self.course.running.take_if(|running| *running == run);
        while self.course.running.is_none() && !self.course.waiting.is_empty() {
            let next = self.course.waiting.remove(0);
            self.begin(next);
        }
    }

    fn resume(&mut self) {
        if !std::mem::take(&mut self.course.paused) {
            return;
        }
        // Slots that passed meanwhile were not meant to run; what is told once, was.
        if !self.when.is_once() && self.course.next.is_some() {
            self.course.next = self.after_now();
        }
        self.arm();
    }

    fn run(&mut self) -> Result<()> {
        let mut run = Run { slot: self.now, wanted: true };
        let taken = |run: &Run| {
            let past = self.course.history.iter().map(|past| past.run);
            past.chain(self.course.running).chain(self.course.waiting.iter().copied()).any(|other| other == *run)
        };
        while taken(&run) {
            run.slot += 1;
        }
        match (self.course.running, self.course.definition.overlap) {
            (Some(running), Overlap::Skip) => {
                let of = Timestamp::from_millisecond(running.slot)
                    .map_or_else(|_| running.slot.to_string(), |t| t.to_string());
                Err(Error::terminal(format!("the run of {of} has not ended, and runs must not overlap"))
                    .code("still_running"))
            }
            (_, overlap) => {
                self.take(run, overlap);
                Ok(())
            }
        }
    }
}

impl Course {
    /// Whether nothing can follow any more, and nobody wants to see it.
    fn is_over(&self) -> bool {
        self.by == By::Actor && self.next.is_none() && self.running.is_none() && self.waiting.is_empty()
    }
}
