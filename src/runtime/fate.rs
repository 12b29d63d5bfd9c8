//! What becomes of a message: completed, failed, given up, tried again, waiting. Each adds its part to
//! the group that commits it.
//!
//! Invariant: whoever asked for a command is answered by the commit that ends it.

use std::{rc::Rc, time::Duration};

use serde_json::value::RawValue;
use tracing::{debug, error, warn};

use super::{
    activation::Core,
    handle::{Handled, UNDECODABLE},
    room::Delivery,
    told::{How, answer},
    turn::{Group, Went},
};
use crate::{
    actor::Actor,
    backend::{Deferral, Done, Outcome, Request, Status},
    context::Effects,
    durable::{
        drive::{Ended, Host},
        journal::{Journal, MISMATCH},
        undo::NOT_UNDONE,
    },
    envelope::{Envelope, Position},
    error::{Error, Failure},
};

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
    /// It waits for the limits of its kind, or for another build.
    Held,
    /// It brought something, and nothing else.
    Noted,
}

impl<A: Actor> Core<A> {
    /// What follows from how a command's run ended.
    pub(super) async fn ended(
        self: &Rc<Self>,
        group: &mut Group<A::State>,
        delivery: Delivery,
        host: &Host,
        journal: &Rc<Journal>,
        ended: Ended<Handled>,
        seconds: f64,
    ) -> Went {
        let position = delivery.stored.position;
        let checked = |handled: Handled| match journal.check_end() {
            Ok(()) => handled,
            Err(error) => Handled::failed(error),
        };
        let ended = match ended {
            Ended::Done(handled) => Ended::Done(checked(handled)),
            ended => ended,
        };
        let error = match &ended {
            Ended::Done(handled) => handled.reply.as_ref().err(),
            Ended::Broken(error) => Some(error),
            _ => None,
        };
        if error.is_some_and(is_of_another_build) && self.room.leaves(&self.address).await {
            self.take_back(journal);
            let attempts = delivery.stored.attempts.saturating_sub(1);
            self.leave(group, delivery, attempts);
            return Went::On;
        }
        match ended {
            Ended::Done(handled) => {
                self.end_notes(group, journal);
                match handled.reply {
                    Ok(reply) => self.complete(group, delivery, reply, handled.effects, seconds),
                    Err(error) => {
                        group.commit.outbox.extend(handled.effects.sent);
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
                self.room.let_go(delivery.stored.position);
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
        if journal.in_use() && group.ends(position) {
            group.commit.outbox.extend(journal.lets_go(position, group.commit.at));
        }
        Went::On
    }

    fn complete(
        &self,
        group: &mut Group<A::State>,
        delivery: Delivery,
        reply: Box<RawValue>,
        effects: Effects,
        seconds: f64,
    ) {
        let stored = &delivery.stored;
        let envelope = stored.envelope.as_ref().ok();
        let awaited = !effects.continues && envelope.is_some_and(|envelope| self.awaited(stored.position, envelope));
        let told = awaited.then(|| {
            Box::new(Request {
                status: Status::Completed,
                reply: Some(reply.clone()),
                error: None,
                attempts: stored.attempts,
                ended: group.commit.at,
            })
        });
        if !effects.continues {
            let how = if effects.later { How::Later(&reply) } else { How::Completed(&reply) };
            group.commit.outbox.extend(answer(stored, how, group.commit.at));
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
        group.commit.outbox.extend(effects.sent);
        group.casts.extend(effects.casts);
        group.changed = true;
        group.taken.push(Taken { delivery, fate: Fate::Ended { label: "completed", told }, seconds });
    }

    /// Whether somebody waits for the end of a message or follows it.
    fn awaited(&self, position: Position, envelope: &Envelope) -> bool {
        let shared = &self.room.shared;
        envelope.reply.is_some_and(|reply| shared.awaits(reply)) || shared.waiting.follows(position)
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
            let awaited = stored.envelope.as_ref().is_ok_and(|e| self.awaited(stored.position, e));
            let journal = self.room.is_journaled(stored.position);
            let cancelled = journal && error.has_code("cancelled");
            let (status, label) = if cancelled { (Status::Cancelled, "cancelled") } else { (Status::Failed, "failed") };
            let told = awaited.then(|| {
                let error = (!cancelled).then(|| failure.clone());
                Box::new(Request { status, reply: None, error, attempts: stored.attempts, ended: now })
            });
            let how = if cancelled { How::Cancelled(&failure) } else { How::Failed(&failure) };
            group.commit.outbox.extend(answer(stored, how, now));
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

    /// Leaves a message to another build: it waits in its order as if this attempt had never been.
    pub(super) fn leave(&self, group: &mut Group<A::State>, delivery: Delivery, attempts: u32) {
        let stored = &delivery.stored;
        group.commit.deferred.push(Deferral {
            position: stored.position,
            home: stored.home,
            due: group.commit.at + 1,
            attempts,
            failures: stored.failures.clone(),
            blocks: true,
        });
        group.taken.push(Taken { delivery, fate: Fate::Held, seconds: 0.0 });
        self.block(group);
    }

    /// The key waits: what is queued behind goes back to the store with the same commit.
    pub(super) fn block(&self, group: &mut Group<A::State>) {
        group.blocked = true;
        self.behind.set(true);
        for waiting in self.queue.borrow_mut().drain(..) {
            if self.room.was_cancelled(waiting.stored.position) {
                self.room.let_go(waiting.stored.position);
                self.finished(1);
                continue;
            }
            group.commit.parked.push((waiting.stored.position, waiting.stored.home));
            group.taken.push(Taken { delivery: waiting, fate: Fate::Parked, seconds: 0.0 });
        }
    }

    /// Gives a message up.
    pub(super) fn bury(&self, group: &mut Group<A::State>, delivery: Delivery, failure: Failure, seconds: f64) {
        let stored = &delivery.stored;
        let trace = stored.envelope.as_ref().ok().and_then(|e| e.trace).map(|t| t.id());
        error!(address = %self.address, position = %stored.position, attempts = stored.attempts, trace, code = failure.code, "dead letter: {}", failure.message);
        group.commit.outbox.extend(answer(stored, How::Dead(&failure), group.commit.at));
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

/// Whether another build may read what this one cannot: a command, or a journal.
pub(super) fn is_of_another_build(error: &Error) -> bool {
    error.has_code(UNDECODABLE) || error.has_code(MISMATCH)
}

fn timeout(limit: Duration) -> Error {
    Error::new(format!("the handler took longer than its time limit of {limit:?}")).code("timeout")
}
