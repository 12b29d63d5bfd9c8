//! One turn of an activation: handle several commands one after the other on the state in memory,
//! and commit them as one. A command that has to wait for something does not make those before it
//! wait: they commit while it runs.

use std::{
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::poll;
use tracing::{Instrument, debug_span, warn};

use super::{
    activation::{Core, Memory},
    alone::Right,
    broadcast::Cast,
    fate::{Fate, Taken, is_of_another_build},
    faults::Point,
    handle::{Handled, decode, guarded, handle},
    journaled::gone,
    room::Delivery,
    settle::Concluded,
    shared::Shared,
    supervisor::Blame,
    turnstile,
};
use crate::{
    actor::{Actor, Waits},
    backend::Commit,
    context::About,
    coordination::limit::gate::Pass,
    durable::{
        drive::{Ended, Host, drive},
        journal::Journal,
    },
    envelope::Position,
    error::Error,
};

/// Most commands in one commit, and the longest they are gathered.
const COMMANDS: usize = 256;
const GATHER: Duration = Duration::from_millis(2);
/// And while several tenants take turns at the store.
const FEW: (usize, Duration) = (turnstile::GROUP, Duration::from_micros(300));

/// Commands handled and not committed.
pub(super) struct Group<S> {
    pub(super) commit: Commit,
    pub(super) taken: Vec<Taken>,
    /// The state before the first of them.
    pub(super) base: Option<S>,
    /// Whether some command succeeded, so that the state may have changed.
    pub(super) changed: bool,
    /// Whether the key waits for a retry.
    pub(super) blocked: bool,
    /// Whether the last of them left nothing behind.
    pub(super) bare: bool,
    /// What is said to all nodes once it is committed.
    pub(super) casts: Vec<Cast>,
}

impl<S> Group<S> {
    /// Whether a message ends with it.
    pub(super) fn ends(&self, position: Position) -> bool {
        let ended = |taken: &Taken| matches!(taken.fate, Fate::Ended { .. } | Fate::Dead(_));
        self.taken.iter().any(|taken| taken.delivery.stored.position == position && ended(taken))
    }
}

/// The state before a command, and what is saved of it.
struct Before<'a, S> {
    rev: u64,
    saved: u64,
    state: &'a S,
}

/// How a command went.
pub(super) enum Went {
    /// Its fate is in the group.
    On,
    /// It must not be in a group with others.
    Apart(Delivery),
    /// Everything was given up.
    Stop,
}

impl<A: Actor> Core<A> {
    /// Handles what waits, until a commit is due; whether to go on.
    pub(crate) async fn turn(self: &Rc<Self>, memory: &mut Memory<A::State>) -> bool {
        let mut group = self.group();
        let begun = Instant::now();
        let (most, gather) = if self.room.shared.company.is_several() { FEW } else { (COMMANDS, GATHER) };
        while let Some((mut delivery, pass)) = self.admitted(&mut group).await {
            if !delivery.counted && (delivery.suspect || delivery.stored.attempts > 0) {
                if !group.taken.is_empty() {
                    self.put_back(vec![delivery]);
                    break;
                }
                return self.careful(memory, delivery, pass).await;
            }
            if !delivery.counted {
                delivery.stored.attempts += 1;
            }
            match self.one(memory, &mut group, delivery, pass).await {
                Went::On => {}
                Went::Apart(mut delivery) => {
                    if !delivery.counted {
                        delivery.stored.attempts -= 1;
                    }
                    self.put_back(vec![delivery]);
                    break;
                }
                Went::Stop => return false,
            }
            let single = self.single.get() > 0;
            if single {
                self.single.set(self.single.get() - 1);
            }
            if group.blocked || single || group.taken.len() >= most || begun.elapsed() > gather {
                break;
            }
        }
        self.settle(memory, group).await
    }

    /// Handles a message whose attempts must be counted before they run: a retry, or one that was
    /// in memory when the process died (G6).
    async fn careful(
        self: &Rc<Self>,
        memory: &mut Memory<A::State>,
        mut delivery: Delivery,
        pass: Option<Box<Pass>>,
    ) -> bool {
        let shared = self.room.shared.clone();
        let stored = &delivery.stored;
        let decoded = stored.envelope.as_ref().map(|envelope| decode::<A>(envelope));
        if let Ok(Err(error)) = decoded
            && is_of_another_build(&error)
            && self.room.leaves(&self.address).await
        {
            let (mut group, attempts) = (self.group(), stored.attempts);
            self.leave(&mut group, delivery, attempts);
            return self.settle(memory, group).await;
        }
        // About to begin: it can be cancelled no more.
        self.room.running.borrow_mut().insert(stored.position, stored.attempts);
        let ended = stored.failures.len() as u32 + shared.begun.of(stored.position);
        let crashes = stored.attempts.saturating_sub(ended);
        let mut group = self.group();
        if crashes >= shared.settings.crash_limit {
            let error = Error::new(format!("the process died {crashes} times while handling this")).code("crash");
            self.bury(&mut group, delivery, error.failure(crashes, shared.clock.now()), 0.0);
            return self.settle(memory, group).await;
        }
        // One that died before runs alone on the node, so that only the guilty one is counted again.
        let _alone = if crashes > 0 { self.alone(&shared).await } else { None };
        let (position, home) = (stored.position, stored.home);
        let attempts = loop {
            if self.room.stopping() || self.room.is_paused(&self.address) {
                self.forget_running(position);
                self.put_back(vec![delivery]);
                return !self.room.stopping();
            }
            match shared.backend.begin(self.room.lease, vec![(position, home)]).await {
                Ok(counts) => break counts.first().copied().unwrap_or(0),
                Err(error) if error.is_terminal() => {
                    self.room.lose();
                    return false;
                }
                Err(error) => {
                    warn!(position = %position, %error, "an attempt could not be counted, trying again");
                    shared.clock.sleep(Duration::from_millis(200)).await;
                }
            }
        };
        if attempts == 0 {
            // It was cancelled.
            self.forget_running(position);
            self.room.let_go(position);
            self.finished(1);
            return true;
        }
        shared.begun.counted(position);
        shared.faults.at(Point::Counted).await;
        delivery.stored.attempts = attempts;
        delivery.counted = true;
        match self.one(memory, &mut group, delivery, pass).await {
            Went::Stop => false,
            _ => self.settle(memory, group).await,
        }
    }

    /// Waits until no other that died before runs; `None` when nothing may begin here any more.
    async fn alone<'a>(&self, shared: &'a Shared) -> Option<Right<'a>> {
        let halted = self.room.halted.notified();
        if self.room.stopping() {
            return None;
        }
        tokio::select! {
            right = shared.alone.enter(&self.room.beat) => Some(right),
            () = halted => None,
        }
    }

    /// Handles one message and adds its fate to the group. What it passed the gate of its kind with is held
    /// until its handler has ended.
    async fn one(
        self: &Rc<Self>,
        memory: &mut Memory<A::State>,
        group: &mut Group<A::State>,
        delivery: Delivery,
        pass: Option<Box<Pass>>,
    ) -> Went {
        let shared = self.room.shared.clone();
        let stored = &delivery.stored;
        let (position, attempt) = (stored.position, stored.attempts);
        let Ok(envelope) = stored.envelope.clone() else {
            // The partition buries these; none reaches an activation.
            return Went::On;
        };
        if let Some(error) = self.unsavable.borrow_mut().remove(&position) {
            self.fail(group, delivery, error, 0.0, true);
            return Went::On;
        }
        let journaled = self.room.is_journaled(position);
        let decoded = decode::<A>(&envelope).and_then(|command| guarded(|| Ok((A::waits(&command), command))));
        let (alone, mut command) = match decoded {
            Ok((waits, command)) => (waits == Waits::Alone, Some(command)),
            Err(error) if is_of_another_build(&error) && self.room.leaves(&self.address).await => {
                self.leave(group, delivery, attempt.saturating_sub(1));
                return Went::On;
            }
            Err(error) => {
                self.fail(group, delivery, error, 0.0, true);
                return Went::On;
            }
        };
        if (journaled || !alone) && !group.taken.is_empty() {
            return Went::Apart(delivery);
        }
        let now = shared.clock.now();
        self.room.running.borrow_mut().insert(position, attempt);
        let before = match guarded(|| Ok(memory.state.clone())) {
            Ok(before) => before,
            Err(error) => {
                self.fail(group, delivery, error, 0.0, true);
                return Went::On;
            }
        };
        let journal = Journal::new(shared.clone(), alone);
        self.live.borrow_mut().insert(position, journal.clone());
        if journaled && !self.load_journal(position, &journal).await {
            self.live.borrow_mut().remove(&position);
            self.again(vec![Taken { delivery, fate: Fate::Deferred, seconds: 0.0 }]);
            return Went::Stop;
        }
        if journal.ended_before_it_began() {
            self.live.borrow_mut().remove(&position);
            self.end_notes(group, &journal);
            self.fail(group, delivery, gone(), 0.0, alone);
            return Went::On;
        }
        shared.changed(position);
        self.slot.since.set(now);
        let begun = Instant::now();
        let about = About { address: self.address.clone(), position, attempt, now, envelope: envelope.clone() };
        if !alone {
            self.run_apart(delivery, about, journal, before, pass);
            self.slot.since.set(0);
            return Went::On;
        }
        let trace = envelope.trace.map(|t| t.id());
        let span = debug_span!("handle", address = %self.address, position = %position, attempt, trace);
        if shared.faults.replays() && !journaled {
            self.rehearse(&before, &about).await;
        }
        let host = self.host(position, Some(memory.rev), None);
        let (ended, concluded) = loop {
            let command = match command.take().map_or_else(|| decode::<A>(&envelope), Ok) {
                Ok(command) => command,
                Err(error) => break (Ended::Broken(error), None),
            };
            let ran = {
                let run = handle(&*self.actor, &mut memory.state, command, about.clone(), journal.clone());
                let run = Blame::new(&self.room.beat, position, run.instrument(span.clone()));
                let before = Before { rev: memory.rev, saved: memory.saved, state: &before };
                self.run(run, &host, &journal, group, before).await
            };
            if !matches!(ran.0, Ended::Again) || ran.1.is_some() {
                break ran;
            }
            // Only tests ask for it: what a crash here would do.
            memory.state = before.clone();
            journal.rewind();
        };
        self.slot.since.set(0);
        self.live.borrow_mut().remove(&position);
        if let Some(concluded) = concluded
            && !self.adopt(memory, concluded)
        {
            self.take_back(&journal);
            self.again(vec![Taken { delivery, fate: Fate::Deferred, seconds: 0.0 }]);
            return if self.room.stopping() { Went::Stop } else { Went::On };
        }
        shared.faults.at(Point::Handled).await;
        let seconds = begun.elapsed().as_secs_f64();
        match &ended {
            Ended::Done(Handled { reply: Ok(_), effects }) if journal.check_end().is_ok() => {
                group.bare = effects.forgets;
                if effects.forgets {
                    memory.state = A::State::default();
                }
                group.base.get_or_insert(before);
            }
            _ => memory.state = before.clone(),
        }
        self.ended(group, delivery, &host, &journal, ended, seconds).await
    }

    /// Runs a handler. When it has to wait, those before it commit meanwhile: what became of them.
    async fn run<F: Future<Output = Handled>>(
        self: &Rc<Self>,
        run: F,
        host: &Host,
        journal: &Rc<Journal>,
        group: &mut Group<A::State>,
        before: Before<'_, A::State>,
    ) -> (Ended<Handled>, Option<Concluded<A::State>>) {
        let mut run = std::pin::pin!(run);
        if let Poll::Ready(handled) = poll!(&mut run) {
            return (Ended::Done(handled), None);
        }
        let finished = std::mem::replace(group, self.group());
        if finished.taken.is_empty() {
            journal.open();
            return (drive(host, journal, run).await, None);
        }
        match self.send(before.rev, before.saved, before.state, finished) {
            Ok(sending) => {
                let conclude = async {
                    let concluded = self.conclude(sending.await).await;
                    self.concluded(host, journal, &concluded);
                    concluded
                };
                let (ended, concluded) = tokio::join!(drive(host, journal, run), conclude);
                (ended, Some(concluded))
            }
            Err(refused) => {
                *group = refused.0;
                (Ended::Stopped, None)
            }
        }
    }

    pub(super) fn group(&self) -> Group<A::State> {
        let commit = Commit::of(self.address.clone(), self.room.shared.clock.now());
        Group { commit, taken: Vec::new(), base: None, changed: false, blocked: false, bare: false, casts: Vec::new() }
    }

    pub(super) fn forget_running(&self, position: Position) {
        self.room.running.borrow_mut().remove(&position);
    }
}
