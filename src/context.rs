//! What a handler may do besides changing its state: see who and when it is, send, and do durable
//! things (those are in `durable`).

mod batch;
mod durable;
mod limits;
mod lock;
mod outbox;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use self::outbox::Outbox;
pub use self::{
    batch::Batch,
    lock::{Locked, Locking},
    outbox::Tell,
};

use crate::{
    actor::Actor,
    address::{Address, At},
    backend::Sent,
    coordination::batch::draft::Parts,
    durable::{journal::Journal, undo::Undo},
    envelope::{Asked, Envelope, Note, Position},
    error::{Error, Result},
    retry::Retry,
    runtime::broadcast::Cast,
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
    casts: RefCell<Vec<Cast>>,
    forgets: Cell<bool>,
    later: Cell<bool>,
    undos: RefCell<Vec<(Box<str>, Undo<A>)>>,
    /// Batches that leave with it.
    batches: RefCell<Vec<Parts>>,
    /// Locks that it has.
    locks: RefCell<Vec<Address>>,
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

/// What a handler did besides answering and changing its state.
#[derive(Default)]
pub(crate) struct Effects {
    /// What it sent.
    pub(crate) sent: Vec<Sent>,
    /// What is said to all nodes once it is committed.
    pub(crate) casts: Vec<Cast>,
    /// Nothing of the actor is kept.
    pub(crate) forgets: bool,
    /// Whoever asked is answered later, by another command.
    pub(crate) later: bool,
    /// The command goes on as a new one, which is among what is sent.
    pub(crate) continues: bool,
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
            casts: RefCell::default(),
            forgets: Cell::default(),
            later: Cell::default(),
            undos: RefCell::default(),
            batches: RefCell::default(),
            locks: RefCell::default(),
            again: RefCell::default(),
        }
    }

    /// What it did, or the first mistake in sending.
    pub(crate) fn take_effects(&self) -> Result<Effects> {
        self.send_batches();
        Ok(Effects {
            sent: self.outbox.take().done()?,
            casts: self.casts.take(),
            forgets: self.forgets.get(),
            later: self.later.get(),
            continues: false,
        })
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

    /// Who this command is: the same in every attempt of it, and after a resize.
    fn identity(&self) -> String {
        self.journal.key().unwrap_or_else(|| self.journal.shared.step_key(self.about.position))
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

    /// Which slot of a schedule this command is for, in milliseconds since the Unix epoch: when it was to run,
    /// however late it does. `None` when no schedule told it.
    pub fn slot(&self) -> Option<i64> {
        self.about.envelope.slot
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
        self.leave(self.envelope(to, &command))
    }

    /// Sends a command, as JSON, to an actor whose type is not known here. What that kind does not
    /// understand becomes a dead letter there.
    pub fn send(&self, to: Address, command: Box<RawValue>) -> Tell<'_> {
        self.leave(Ok(self.carry(to, command)))
    }

    fn leave(&self, envelope: Result<Envelope>) -> Tell<'_> {
        let index = self.outbox.borrow_mut().push(envelope);
        Tell { outbox: &self.outbox, index, clock: &self.journal.shared.clock, mark: self.journal.shared.token() }
    }

    /// Fails this command for what it did.
    pub(crate) fn refuse(&self, error: Error) {
        self.outbox.borrow_mut().refuse(error);
    }

    /// Takes back what was told to `to` with [`then`](Tell::then) this actor and this
    /// [`tag`](Tell::tag): it is cancelled if it has not begun, or told to end if it is waiting for
    /// something; else it ends by itself. What became of it is told all the same.
    pub fn withdraw(&self, to: Address, tag: u64) {
        let note = Note::Withdraw { told: self.about.address.clone(), tag };
        let envelope = Envelope { trace: self.trace().map(Trace::child), ..Envelope::note(to, note, self.about.now) };
        self.outbox.borrow_mut().push(Ok(envelope));
    }

    /// Says something to everybody who [listens](crate::Node::listen), on all nodes, once this commits: at
    /// most once, and to who is there now. For what must not be lost there are messages.
    pub fn broadcast(&self, name: &str, value: &impl Serialize) {
        match Cast::to_all(name, value) {
            Ok(cast) => self.casts.borrow_mut().push(cast),
            Err(error) => self.outbox.borrow_mut().refuse(error),
        }
    }

    /// Says something that was made ready once this commits.
    pub(crate) fn cast(&self, cast: Cast) {
        self.casts.borrow_mut().push(cast);
    }

    /// Leaves nothing behind: with this commit the actor's state is as if it had never been. What is in its
    /// mailbox is handled as ever.
    pub fn forget(&self) {
        self.forgets.set(true);
    }

    /// Who [asked](Context::ask) for this command, if an actor did: this handler's reply is then not sent,
    /// another command of any actor [answers](Context::answer) it.
    pub(crate) fn answer_later(&self) -> Option<Asked> {
        let asked = self.about.envelope.asked.as_deref().cloned();
        self.later.set(asked.is_some());
        asked
    }

    /// Answers a command that was to be answered later.
    pub(crate) fn answer(&self, asked: &Asked, reply: Result<&impl Serialize, &Error>) {
        let (mut value, mut failure) = (None, None);
        match reply.map(to_raw_value) {
            Ok(Ok(json)) => value = Some(json),
            Ok(Err(error)) => return self.outbox.borrow_mut().refuse(error.into()),
            Err(error) => failure = Some(error.failure(self.about.attempt, self.about.now)),
        }
        let (to, op, from) = (asked.position, asked.op, self.about.position);
        let note = Note::Answer { to, op, reply: value, failure, from };
        let envelope = Envelope::note(asked.by.clone(), note, self.about.now);
        self.outbox.borrow_mut().push(Ok(Envelope { trace: self.trace().map(Trace::child), ..envelope }));
    }

    fn envelope<B: Actor>(&self, to: At<B>, command: &B::Command) -> Result<Envelope> {
        let to = to.address()?;
        let json = to_raw_value(command)
            .map_err(|e| Error::from(e).into_terminal().context(format!("encoding a command for {to}")))?;
        Ok(self.carry(to, json))
    }

    fn carry(&self, to: Address, command: Box<RawValue>) -> Envelope {
        Envelope {
            command,
            to,
            accepted: self.about.now,
            request: false,
            trace: self.trace().map(Trace::child),
            reply: None,
            cause: Some(self.about.position),
            asked: None,
            then: None,
            slot: None,
            note: None,
        }
    }
}
