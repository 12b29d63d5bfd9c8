//! One turn of an activation: handle several commands one after the other on the state in memory,
//! and commit them as one. A command that has to wait for something does not make those before it
//! wait: they commit while it runs.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::poll;
use tracing::{Instrument, debug, debug_span, error, warn};

use super::{
    activation::{Core, Memory},
    faults::Point,
    handle::{Handled, UNDECODABLE, decode, guarded, handle},
    journaled::{answer, gone},
    room::Delivery,
    supervisor::Blame,
};
use crate::{
    actor::{Actor, Waits},
    backend::{Commit, Deferral, Done, Outcome, Request, Status},
    context::About,
    durable::{
        drive::{Ended, Host, drive},
        journal::{Journal, MISMATCH},
        undo::NOT_UNDONE,
    },
    envelope::{Envelope, Position},
    error::{Error, Failure},
};

/// Most commands in one commit, and the longest they are gathered.
const COMMANDS: usize = 256;
const GATHER: Duration = Duration::from_millis(2);

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
}

/// A message whose fate is in the group.
pub(super) struct Taken {
    pub(super) delivery: Delivery,
    pub(super) fate: Fate,
    pub(super) seconds: f64,
}

pub(super) enum Fate {
    /// Ended; what whoever waits is told, here or on another node.
    Ended {
        label: &'static str,
        told: Option<Box<Request>>,
    },
    Dead(Failure),
    Deferred,
    /// It waits for something that is not there yet.
    Waits,
    Parked,
    /// It brought something, and nothing else.
    Noted,
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
        while let Some(mut delivery) = self.next() {
            if !delivery.counted && (delivery.suspect || delivery.stored.attempts > 0) {
                if !group.taken.is_empty() {
                    self.put_back(vec![delivery]);
                    break;
                }
                return self.careful(memory, delivery).await;
            }
            if !delivery.counted {
                delivery.stored.attempts += 1;
            }
            match self.one(memory, &mut group, delivery).await {
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
            if group.blocked || single || group.taken.len() >= COMMANDS || begun.elapsed() > GATHER {
                break;
            }
        }
        self.settle(memory, group).await
    }

    /// Handles a message whose attempts must be counted before they run: a retry, or one that was
    /// in memory when the process died (G6).
    async fn careful(self: &Rc<Self>, memory: &mut Memory<A::State>, mut delivery: Delivery) -> bool {
        let shared = self.room.shared.clone();
        let stored = &delivery.stored;
        // About to begin: it can be cancelled no more.
        self.room.running.borrow_mut().insert(stored.position, stored.attempts);
        let crashes = stored.attempts.saturating_sub(stored.failures.len() as u32);
        let mut group = self.group();
        if crashes >= shared.settings.crash_limit {
            let error = Error::new(format!("the process died {crashes} times while handling this")).code("crash");
            self.bury(&mut group, delivery, error.failure(crashes, shared.clock.now()), 0.0);
            return self.settle(memory, group).await;
        }
        // One that died before runs alone on the node, so that only the guilty one is counted again.
        let _alone = if crashes > 0 { Some(shared.alone.lock().await) } else { None };
        let (position, home) = (stored.position, stored.home);
        let attempts = loop {
            if self.room.stopping() {
                self.forget_running(position);
                self.put_back(vec![delivery]);
                return false;
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
            self.room.let_go(position, delivery.stored.size);
            self.finished(1);
            return true;
        }
        shared.faults.at(Point::Counted).await;
        delivery.stored.attempts = attempts;
        delivery.counted = true;
        match self.one(memory, &mut group, delivery).await {
            Went::Stop => false,
            _ => self.settle(memory, group).await,
        }
    }

    /// Handles one message and adds its fate to the group.
    async fn one(
        self: &Rc<Self>,
        memory: &mut Memory<A::State>,
        group: &mut Group<A::State>,
        delivery: Delivery,
    ) -> Went {
        let shared = self.room.shared.clone();
        let stored = &delivery.stored;
        let (position, attempt) = (stored.position, stored.attempts);
        let Ok(envelope) = stored.envelope.clone() else {
            // The partition buries these; none reaches an activation.
            return Went::On;
        };
        let journaled = self.room.is_journaled(position);
        let alone = match decode::<A>(&envelope).and_then(|command| guarded(|| Ok(A::waits(&command)))) {
            Ok(waits) => waits == Waits::Alone,
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
            self.run_apart(delivery, about, journal, before);
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
            let command = match decode::<A>(&envelope) {
                Ok(command) => command,
                Err(error) => break (Ended::Broken(error), None),
            };
            let ran = {
                let run = handle(&*self.actor, &mut memory.state, command, about.clone(), journal.clone());
                let mut run = std::pin::pin!(Blame::new(&self.room.beat, position, run.instrument(span.clone())));
                match poll!(&mut run) {
                    // One that waits for nothing is not harmed by a signal that came for it.
                    std::task::Poll::Ready(handled) if !journal.has_untold() => (Ended::Done(handled), None),
                    std::task::Poll::Ready(_) => {
                        let error = "the journal has the end of an operation that this build does not begin";
                        (Ended::Broken(journal.mismatch(error)), None)
                    }
                    std::task::Poll::Pending => {
                        let finished = std::mem::replace(group, self.group());
                        if finished.taken.is_empty() {
                            journal.open();
                            (drive(&host, &journal, run.as_mut()).await, None)
                        } else {
                            // Those before it commit while it runs.
                            match self.send(memory.rev, memory.saved, &before, finished) {
                                Ok(sending) => {
                                    let conclude = async {
                                        let concluded = self.conclude(sending.await).await;
                                        self.concluded(&host, &journal, &concluded);
                                        concluded
                                    };
                                    let (ended, concluded) =
                                        tokio::join!(drive(&host, &journal, run.as_mut()), conclude);
                                    (ended, Some(concluded))
                                }
                                Err(refused) => {
                                    *group = refused.0;
                                    (Ended::Stopped, None)
                                }
                            }
                        }
                    }
                }
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
        if !matches!(ended, Ended::Done(Handled { reply: Ok(_), .. })) {
            memory.state = before.clone();
        } else if group.base.is_none() {
            group.base = Some(before);
        }
        self.ended(group, delivery, &host, &journal, ended, seconds)
    }

    /// What follows from how a command's run ended.
    pub(super) fn ended(
        self: &Rc<Self>,
        group: &mut Group<A::State>,
        delivery: Delivery,
        host: &Host,
        journal: &Rc<Journal>,
        ended: Ended<Handled>,
        seconds: f64,
    ) -> Went {
        let checked = |handled: Handled| match journal.check_end() {
            Ok(()) => handled,
            Err(error) => Handled::failed(error),
        };
        match ended {
            Ended::Done(handled) => {
                let handled = checked(handled);
                self.end_notes(group, journal);
                match handled.reply {
                    Ok(reply) => self.complete(group, delivery, reply, handled.sent, handled.continues, seconds),
                    Err(error) => {
                        group.commit.outbox.extend(handled.sent);
                        self.fail(group, delivery, error, seconds, journal.alone);
                    }
                }
            }
            Ended::Waits(due) => self.wait(group, delivery, host, journal, due, seconds),
            Ended::Broken(error) => {
                self.end_notes(group, journal);
                self.fail(group, delivery, error, seconds, journal.alone);
            }
            Ended::Late => {
                self.end_notes(group, journal);
                self.fail(group, delivery, timeout(host.limit), seconds, journal.alone);
            }
            Ended::Gone => {
                self.take_back(journal);
                self.forget_running(delivery.stored.position);
                self.room.let_go(delivery.stored.position, delivery.stored.size);
                self.finished(1);
            }
            Ended::Lost => {
                self.room.lose();
                return Went::Stop;
            }
            Ended::Stopped | Ended::Again => {
                self.take_back(journal);
                self.again(vec![Taken { delivery, fate: Fate::Deferred, seconds: 0.0 }]);
                return if self.room.stopping() { Went::Stop } else { Went::On };
            }
        }
        Went::On
    }

    pub(super) fn group(&self) -> Group<A::State> {
        let commit = Commit::of(self.address.clone(), self.room.shared.clock.now());
        Group { commit, taken: Vec::new(), base: None, changed: false, blocked: false }
    }

    pub(super) fn forget_running(&self, position: Position) {
        self.room.running.borrow_mut().remove(&position);
    }

    fn complete(
        &self,
        group: &mut Group<A::State>,
        delivery: Delivery,
        reply: Box<serde_json::value::RawValue>,
        sent: Vec<crate::backend::Sent>,
        continues: bool,
        seconds: f64,
    ) {
        let stored = &delivery.stored;
        let envelope = stored.envelope.as_ref().ok();
        let awaited = !continues && envelope.is_some_and(|envelope| self.awaited(envelope));
        let told = awaited.then(|| {
            Box::new(Request {
                status: Status::Completed,
                reply: Some(reply.clone()),
                error: None,
                attempts: stored.attempts,
                ended: group.commit.at,
            })
        });
        if !continues {
            group.commit.outbox.extend(answer(stored, Ok(&reply), group.commit.at));
        }
        let journal = self.room.is_journaled(stored.position);
        group.commit.done.push(Done {
            position: stored.position,
            home: stored.home,
            outcome: Outcome::Completed(reply),
            size: stored.size,
            attempts: stored.attempts,
            // Whoever looks at the journal of who asked for it wants to follow the call.
            keep: envelope.is_some_and(|envelope| envelope.request || (journal && envelope.asked.is_some())),
            journal,
        });
        group.commit.outbox.extend(sent);
        group.changed = true;
        group.taken.push(Taken { delivery, fate: Fate::Ended { label: "completed", told }, seconds });
    }

    fn awaited(&self, envelope: &Envelope) -> bool {
        envelope.reply.is_some_and(|reply| self.room.shared.awaits(reply))
    }

    /// A handler failed: nothing of it remains but the record. `blocks` says whether the key waits for
    /// another attempt.
    pub(super) fn fail(
        &self,
        group: &mut Group<A::State>,
        delivery: Delivery,
        error: Error,
        seconds: f64,
        blocks: bool,
    ) {
        let shared = &self.room.shared;
        let now = shared.clock.now();
        let stored = &delivery.stored;
        let failure = error.failure(stored.attempts, now);
        let trace = stored.envelope.as_ref().ok().and_then(|e| e.trace).map(|t| t.id());
        // Another build, or whoever looks at it, can do better.
        if [UNDECODABLE, MISMATCH, NOT_UNDONE].contains(&&*failure.code) {
            return self.bury(group, delivery, failure, seconds);
        }
        if error.is_terminal() {
            debug!(address = %self.address, position = %stored.position, trace, %error, "failed");
            let awaited = stored.envelope.as_ref().is_ok_and(|e| self.awaited(e));
            let journal = self.room.is_journaled(stored.position);
            let cancelled = journal && error.has_code("cancelled");
            let (status, label) = if cancelled { (Status::Cancelled, "cancelled") } else { (Status::Failed, "failed") };
            let told = awaited.then(|| {
                let error = (!cancelled).then(|| failure.clone());
                Box::new(Request { status, reply: None, error, attempts: stored.attempts, ended: now })
            });
            group.commit.outbox.extend(answer(stored, Err(&failure), now));
            group.commit.done.push(Done {
                position: stored.position,
                home: stored.home,
                outcome: if cancelled { Outcome::Cancelled } else { Outcome::Failed(failure) },
                size: stored.size,
                attempts: stored.attempts,
                keep: true,
                journal,
            });
            group.taken.push(Taken { delivery, fate: Fate::Ended { label, told }, seconds });
            return;
        }
        let retry = self.actor.retry();
        let failures = stored.failures.len() as u32 + 1;
        if failures >= retry.limit() {
            return self.bury(group, delivery, failure, seconds);
        }
        let jitter = shared.jitter(stored.position, failures);
        let wait = retry.wait(failures, jitter).max(error.wait().unwrap_or_default());
        warn!(address = %self.address, position = %stored.position, attempt = stored.attempts, trace, %error, wait_ms = wait.as_millis() as u64, "will be tried again");
        shared.metrics.retried(A::KIND);
        group.commit.deferred.push(Deferral {
            position: stored.position,
            home: stored.home,
            due: now.saturating_add(wait.as_millis().min(i64::MAX as u128) as i64).max(now + 1),
            attempts: stored.attempts,
            failures: stored.failures.iter().cloned().chain([failure]).collect(),
            blocks,
        });
        group.taken.push(Taken { delivery, fate: Fate::Deferred, seconds });
        if blocks {
            self.block(group);
        }
    }

    /// The key waits: what is queued behind goes back to the store with the same commit.
    pub(super) fn block(&self, group: &mut Group<A::State>) {
        group.blocked = true;
        self.behind.set(true);
        for waiting in self.queue.borrow_mut().drain(..) {
            if self.room.was_cancelled(waiting.stored.position) {
                self.room.let_go(waiting.stored.position, waiting.stored.size);
                self.finished(1);
                continue;
            }
            group.commit.parked.push((waiting.stored.position, waiting.stored.home));
            group.taken.push(Taken { delivery: waiting, fate: Fate::Parked, seconds: 0.0 });
        }
    }

    /// Gives a message up.
    fn bury(&self, group: &mut Group<A::State>, delivery: Delivery, failure: Failure, seconds: f64) {
        let stored = &delivery.stored;
        let trace = stored.envelope.as_ref().ok().and_then(|e| e.trace).map(|t| t.id());
        error!(address = %self.address, position = %stored.position, attempts = stored.attempts, trace, code = failure.code, "dead letter: {}", failure.message);
        group.commit.outbox.extend(answer(stored, Err(&failure), group.commit.at));
        group.commit.done.push(Done {
            position: stored.position,
            home: stored.home,
            outcome: Outcome::Dead(stored.failures.iter().cloned().chain([failure.clone()]).collect()),
            size: stored.size,
            attempts: stored.attempts,
            keep: false,
            journal: self.room.is_journaled(stored.position),
        });
        self.room.shared.metrics.dead_lettered(A::KIND);
        group.taken.push(Taken { delivery, fate: Fate::Dead(failure), seconds });
    }
}

fn timeout(limit: Duration) -> Error {
    Error::new(format!("the handler took longer than its time limit of {limit:?}")).code("timeout")
}
