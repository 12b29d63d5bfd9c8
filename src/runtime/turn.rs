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
    handle::{Handled, UNDECODABLE, guarded, handle},
    room::Delivery,
    supervisor::Blame,
};
use crate::{
    actor::Actor,
    backend::{Commit, Deferral, Done, Outcome, Request, Status},
    context::About,
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
    Parked,
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
            if !self.one(memory, &mut group, delivery).await {
                return false;
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
        self.one(memory, &mut group, delivery).await && self.settle(memory, group).await
    }

    /// Handles one message and adds its fate to the group; `false` when everything was given up.
    async fn one(
        self: &Rc<Self>,
        memory: &mut Memory<A::State>,
        group: &mut Group<A::State>,
        delivery: Delivery,
    ) -> bool {
        let shared = self.room.shared.clone();
        let stored = &delivery.stored;
        let (position, attempt) = (stored.position, stored.attempts);
        let Ok(envelope) = stored.envelope.clone() else {
            // The partition buries these; none reaches an activation.
            return true;
        };
        let now = shared.clock.now();
        self.room.running.borrow_mut().insert(position, attempt);
        let before = match guarded(|| Ok(memory.state.clone())) {
            Ok(before) => before,
            Err(error) => return self.fail(memory, group, delivery, None, error, 0.0),
        };
        shared.changed(position);
        self.slot.since.set(now);
        let begun = Instant::now();
        let about = About {
            address: self.address.clone(),
            position,
            attempt,
            accepted: envelope.accepted,
            now,
            trace: envelope.trace,
        };
        let trace = envelope.trace.map(|t| t.id());
        let span = debug_span!("handle", address = %self.address, position = %position, attempt, trace);
        let limit = self.actor.time_limit();
        if shared.faults.replays() {
            // What a crash just before the commit would do; only tests ask for it.
            let mut state = before.clone();
            let rehearsal = handle(&*self.actor, &mut state, &envelope, about.clone());
            let _ = shared.clock.limit(limit, rehearsal).await;
        }
        let (result, concluded) = {
            let mut run = {
                let run = handle(&*self.actor, &mut memory.state, &envelope, about).instrument(span);
                std::pin::pin!(Blame::new(&self.room.beat, position, run))
            };
            match poll!(&mut run) {
                std::task::Poll::Ready(result) => (result, None),
                std::task::Poll::Pending => {
                    let run = async { shared.clock.limit(limit, run).await.unwrap_or_else(|| Err(timeout(limit))) };
                    let finished = std::mem::replace(group, self.group());
                    if finished.taken.is_empty() {
                        (run.await, None)
                    } else {
                        // Those before it commit while it runs.
                        match self.send(memory.rev, memory.saved, &before, finished) {
                            Ok(sending) => {
                                let conclude = async { self.conclude(sending.await).await };
                                let (result, concluded) = tokio::join!(run, conclude);
                                (result, Some(concluded))
                            }
                            Err(refused) => {
                                *group = refused.0;
                                (run.await, None)
                            }
                        }
                    }
                }
            }
        };
        self.slot.since.set(0);
        if let Some(concluded) = concluded
            && !self.adopt(memory, concluded)
        {
            self.again(vec![Taken { delivery, fate: Fate::Deferred, seconds: 0.0 }]);
            return !self.room.stopping();
        }
        shared.faults.at(Point::Handled).await;
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(handled) => {
                group.base.get_or_insert(before);
                self.complete(group, delivery, &envelope, handled, seconds);
                true
            }
            Err(error) => self.fail(memory, group, delivery, Some(before), error, seconds),
        }
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
        envelope: &Envelope,
        handled: Handled,
        seconds: f64,
    ) {
        let stored = &delivery.stored;
        let awaited = self.awaited(envelope);
        let told = awaited.then(|| {
            Box::new(Request {
                status: Status::Completed,
                reply: Some(handled.reply.clone()),
                error: None,
                attempts: stored.attempts,
                ended: group.commit.at,
            })
        });
        group.commit.done.push(Done {
            position: stored.position,
            home: stored.home,
            outcome: Outcome::Completed(handled.reply),
            size: stored.size,
            attempts: stored.attempts,
            keep: envelope.request,
            journal: false,
        });
        group.commit.outbox.extend(handled.sent);
        group.changed = true;
        group.taken.push(Taken { delivery, fate: Fate::Ended { label: "completed", told }, seconds });
    }

    fn awaited(&self, envelope: &Envelope) -> bool {
        envelope.reply.is_some_and(|reply| self.room.shared.awaits(reply))
    }

    /// A handler failed: nothing of it remains but the record.
    pub(super) fn fail(
        &self,
        memory: &mut Memory<A::State>,
        group: &mut Group<A::State>,
        delivery: Delivery,
        before: Option<A::State>,
        error: Error,
        seconds: f64,
    ) -> bool {
        let shared = &self.room.shared;
        let now = shared.clock.now();
        if let Some(before) = before {
            memory.state = before;
        }
        let stored = &delivery.stored;
        let failure = error.failure(stored.attempts, now);
        let trace = stored.envelope.as_ref().ok().and_then(|e| e.trace).map(|t| t.id());
        if failure.code == UNDECODABLE {
            self.bury(group, delivery, failure, seconds);
            return true;
        }
        if error.is_terminal() {
            debug!(address = %self.address, position = %stored.position, trace, %error, "failed");
            let awaited = stored.envelope.as_ref().is_ok_and(|e| self.awaited(e));
            let told = awaited.then(|| {
                Box::new(Request {
                    status: Status::Failed,
                    reply: None,
                    error: Some(failure.clone()),
                    attempts: stored.attempts,
                    ended: now,
                })
            });
            group.commit.done.push(Done {
                position: stored.position,
                home: stored.home,
                outcome: Outcome::Failed(failure),
                size: stored.size,
                attempts: stored.attempts,
                keep: true,
                journal: false,
            });
            group.taken.push(Taken { delivery, fate: Fate::Ended { label: "failed", told }, seconds });
            return true;
        }
        let retry = self.actor.retry();
        let failures = stored.failures.len() as u32 + 1;
        if failures >= retry.limit() {
            self.bury(group, delivery, failure, seconds);
            return true;
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
            blocks: true,
        });
        group.taken.push(Taken { delivery, fate: Fate::Deferred, seconds });
        // The key waits: what is queued behind goes back to the store with the same commit.
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
        true
    }

    /// Gives a message up.
    fn bury(&self, group: &mut Group<A::State>, delivery: Delivery, failure: Failure, seconds: f64) {
        let stored = &delivery.stored;
        let trace = stored.envelope.as_ref().ok().and_then(|e| e.trace).map(|t| t.id());
        error!(address = %self.address, position = %stored.position, attempts = stored.attempts, trace, code = failure.code, "dead letter: {}", failure.message);
        group.commit.done.push(Done {
            position: stored.position,
            home: stored.home,
            outcome: Outcome::Dead(stored.failures.iter().cloned().chain([failure.clone()]).collect()),
            size: stored.size,
            attempts: stored.attempts,
            keep: false,
            journal: false,
        });
        self.room.shared.metrics.dead_lettered(A::KIND);
        group.taken.push(Taken { delivery, fate: Fate::Dead(failure), seconds });
    }
}

fn timeout(limit: Duration) -> Error {
    Error::new(format!("the handler took longer than its time limit of {limit:?}")).code("timeout")
}
