//! What a handler may do besides changing its state: see who and when it is, and send.

use std::{cell::RefCell, time::Duration};

use serde_json::value::to_raw_value;

use crate::{
    actor::Actor,
    address::{Address, At},
    backend::Sent,
    envelope::{Envelope, Position},
    error::{Error, Result},
    trace::Trace,
};

/// The handler's view of the command it is handling.
///
/// Everything sent leaves with the commit: if the handler fails, nothing was sent.
pub struct Context<A: Actor> {
    pub(crate) me: At<A>,
    pub(crate) about: About,
    outbox: RefCell<Outbox>,
}

/// What is known of the command being handled.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) address: Address,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) accepted: i64,
    pub(crate) now: i64,
    pub(crate) trace: Option<Trace>,
}

#[derive(Default)]
struct Outbox {
    sent: Vec<Sent>,
    /// The first send that could not be made; it fails the command.
    error: Option<Error>,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(me: At<A>, about: About) -> Self {
        Self { me, about, outbox: RefCell::default() }
    }

    /// What was sent, or the first mistake in sending.
    pub(crate) fn into_sent(self) -> Result<Vec<Sent>> {
        let outbox = self.outbox.into_inner();
        match outbox.error {
            Some(error) => Err(error),
            None => Ok(outbox.sent),
        }
    }

    /// This actor's key.
    pub fn key(&self) -> &str {
        self.about.address.key()
    }

    /// This actor's own address, to send itself messages.
    pub fn me(&self) -> At<A> {
        self.me.clone()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.about.attempt
    }

    /// Now, in milliseconds since the Unix epoch, read once when the attempt began.
    pub fn now(&self) -> i64 {
        self.about.now
    }

    /// When the command was accepted, in milliseconds since the Unix epoch.
    pub fn accepted(&self) -> i64 {
        self.about.accepted
    }

    /// A text that is the same in every attempt of this command and in no other command: give it
    /// to a vendor as the idempotency key.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.about.address.kind(), self.about.position)
    }

    /// The trace this command belongs to, for calls to other systems.
    pub fn trace(&self) -> Option<Trace> {
        self.about.trace
    }

    /// Sends a command when this one commits; it is then handled exactly as one accepted from a
    /// client. A command or key that cannot be stored fails this command with a terminal error.
    pub fn tell<B: Actor>(&self, to: At<B>, command: B::Command) -> Tell<'_> {
        let mut outbox = self.outbox.borrow_mut();
        let envelope = to.address().and_then(|to| {
            Ok(Envelope {
                command: to_raw_value(&command)
                    .map_err(|e| Error::from(e).into_terminal().context(format!("encoding a command for {to}")))?,
                to,
                accepted: self.about.now,
                request: false,
                trace: self.about.trace.map(Trace::child),
                reply: None,
                cause: Some(self.about.position),
            })
        });
        let index = match envelope {
            Ok(envelope) => {
                outbox.sent.push(Sent { envelope: envelope.into(), due: None });
                Some(outbox.sent.len() - 1)
            }
            Err(error) => {
                outbox.error.get_or_insert(error);
                None
            }
        };
        Tell { outbox: &self.outbox, index, now: self.about.now }
    }
}

/// A message that will leave with the commit; may be given a time.
pub struct Tell<'a> {
    outbox: &'a RefCell<Outbox>,
    index: Option<usize>,
    now: i64,
}

impl Tell<'_> {
    /// Not before `wait` from now: a durable timer.
    pub fn after(self, wait: Duration) {
        let due = self.now.saturating_add(wait.as_millis().min(i64::MAX as u128) as i64);
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
