//! What a handler may do besides changing its state: see who and when it is, send, and do durable
//! things (those are in `durable`).

mod durable;
mod limits;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use serde_json::value::to_raw_value;

use crate::{
    actor::Actor,
    address::{Address, At},
    backend::Sent,
    clock::Clock,
    durable::{journal::Journal, undo::Undo},
    envelope::{Envelope, Position},
    error::{Error, Result},
    retry::Retry,
    trace::Trace,
};

/// The handler's view of the command it is handling.
///
/// Everything [told](Context::tell) leaves with the commit: if the handler fails, nothing was sent. What
/// is [run](Context::run), [asked](Context::ask), [slept](Context::sleep) or [waited
/// for](Context::signal) is written into the command's journal before the handler goes on, and not
/// repeated when it is run again after a crash.
///
/// A handler that uses the journal is run again from its start, so between those calls it must do the same
/// each time: decide by the command, the state and what these calls answer, by [`now`](Context::now) and
/// [`random`](Context::random) instead of the system's, and await nothing else.
pub struct Context<A: Actor> {
    pub(crate) me: At<A>,
    pub(crate) about: About,
    journal: Rc<Journal>,
    retry: Retry,
    time_limit: Duration,
    outbox: RefCell<Outbox>,
    undos: RefCell<Vec<(Box<str>, Undo<A>)>>,
    again: RefCell<Option<Envelope>>,
}

/// What is known of the command being handled.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) address: Address,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) now: i64,
    pub(crate) envelope: Arc<Envelope>,
}

#[derive(Default)]
struct Outbox {
    sent: Vec<Sent>,
    /// The first send that could not be made; it fails the command.
    error: Option<Error>,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(me: At<A>, about: About, journal: Rc<Journal>, actor: &A) -> Self {
        Self {
            me,
            about,
            journal,
            retry: actor.retry(),
            time_limit: actor.time_limit(),
            outbox: RefCell::default(),
            undos: RefCell::default(),
            again: RefCell::default(),
        }
    }

    /// What was sent, or the first mistake in sending.
    pub(crate) fn take_sent(&self) -> Result<Vec<Sent>> {
        let outbox = self.outbox.take();
        outbox.error.map_or(Ok(outbox.sent), Err)
    }

    pub(crate) fn take_undos(&self) -> Vec<(Box<str>, Undo<A>)> {
        self.undos.take()
    }

    pub(crate) fn take_again(&self) -> Option<Envelope> {
        self.again.take()
    }

    pub(crate) fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    /// This actor's key.
    pub fn key(&self) -> &str {
        self.about.address.key()
    }

    /// This actor's own address, to send itself messages.
    pub fn me(&self) -> At<A> {
        self.me.clone()
    }

    /// Which attempt this is, from 1. A command that goes on after waiting is still in the same attempt.
    pub fn attempt(&self) -> u32 {
        self.about.attempt
    }

    /// When the command was accepted, in milliseconds since the Unix epoch.
    pub fn accepted(&self) -> i64 {
        self.about.envelope.accepted
    }

    /// A text that is the same in every attempt of this command and in no other command: give it
    /// to a vendor as the idempotency key. A [step](Context::run) has one of its own.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.about.address.kind(), self.about.position)
    }

    /// The trace this command belongs to, for calls to other systems.
    pub fn trace(&self) -> Option<Trace> {
        self.about.envelope.trace
    }

    /// Sends a command when this one commits; it is then handled exactly as one accepted from a
    /// client. A command or key that cannot be stored fails this command with a terminal error.
    pub fn tell<B: Actor>(&self, to: At<B>, command: B::Command) -> Tell<'_> {
        let mut outbox = self.outbox.borrow_mut();
        let index = match self.envelope(to, &command) {
            Ok(envelope) => {
                outbox.sent.push(Sent { envelope: envelope.into(), due: None });
                Some(outbox.sent.len() - 1)
            }
            Err(error) => {
                outbox.error.get_or_insert(error);
                None
            }
        };
        Tell { outbox: &self.outbox, index, clock: &self.journal.shared.clock }
    }

    fn envelope<B: Actor>(&self, to: At<B>, command: &B::Command) -> Result<Envelope> {
        let to = to.address()?;
        Ok(Envelope {
            command: to_raw_value(command)
                .map_err(|e| Error::from(e).into_terminal().context(format!("encoding a command for {to}")))?,
            to,
            accepted: self.about.now,
            request: false,
            trace: self.trace().map(Trace::child),
            reply: None,
            cause: Some(self.about.position),
            asked: None,
            note: None,
        })
    }
}

/// A message that will leave with the commit; may be given a time.
pub struct Tell<'a> {
    outbox: &'a RefCell<Outbox>,
    index: Option<usize>,
    clock: &'a Clock,
}

impl Tell<'_> {
    /// Not before `wait` from now: a durable timer.
    pub fn after(self, wait: Duration) {
        let due = self.clock.now().saturating_add(wait.as_millis().min(i64::MAX as u128) as i64);
        self.at(due);
    }

    /// Not before `time`, in milliseconds since the Unix epoch.
    pub fn at(self, time: i64) {
        let mut outbox = self.outbox.borrow_mut();
        if let Some(sent) = self.index.and_then(|index| outbox.sent.get_mut(index)) {
            sent.due = Some(time);
        }
    }
}
