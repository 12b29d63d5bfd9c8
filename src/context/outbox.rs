//! What a handler sends: gathered while it runs, and leaving with its commit or not at all.

use std::{cell::RefCell, sync::Arc, time::Duration};

use crate::{
    actor::Actor,
    address::At,
    backend::Sent,
    clock::Clock,
    ended::{Ended, hole},
    envelope::Envelope,
    error::{Error, Result},
};

/// What was sent so far, or why it cannot be.
#[derive(Default)]
pub(super) struct Outbox {
    sent: Vec<Sent>,
    /// The first send that could not be made; it fails the command.
    error: Option<Error>,
}

impl Outbox {
    /// Takes an envelope in; its place, if it could be made.
    pub(super) fn push(&mut self, envelope: Result<Envelope>) -> Option<usize> {
        match envelope {
            Ok(envelope) => {
                self.sent.push(Sent { envelope: envelope.into(), due: None });
                Some(self.sent.len() - 1)
            }
            Err(error) => {
                self.refuse(error);
                None
            }
        }
    }

    /// Fails the command.
    pub(super) fn refuse(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// What was sent, or the first mistake in sending.
    pub(super) fn done(self) -> Result<Vec<Sent>> {
        self.error.map_or(Ok(self.sent), Err)
    }
}

/// A message that will leave with the commit; may be given a time, and somebody who is told how it ended.
pub struct Tell<'a> {
    pub(super) outbox: &'a RefCell<Outbox>,
    pub(super) index: Option<usize>,
    pub(super) clock: &'a Clock,
    /// A number that nobody outside of this process knows.
    pub(super) mark: u64,
}

impl Tell<'_> {
    /// Not before `wait` from now: a durable timer.
    pub fn after(self, wait: Duration) -> Self {
        let due = self.clock.now().saturating_add(wait.as_millis().min(i64::MAX as u128) as i64);
        self.at(due)
    }

    /// Not before `time`, in milliseconds since the Unix epoch.
    pub fn at(self, time: i64) -> Self {
        let mut outbox = self.outbox.borrow_mut();
        if let Some(sent) = self.index.and_then(|index| outbox.sent.get_mut(index)) {
            sent.due = Some(time);
        }
        drop(outbox);
        self
    }

    /// Says for which slot of a schedule it is.
    pub(crate) fn slot(self, slot: i64) -> Self {
        let mut outbox = self.outbox.borrow_mut();
        if let Some(sent) = self.index.and_then(|index| outbox.sent.get_mut(index)) {
            Arc::make_mut(&mut sent.envelope).slot = Some(slot);
        }
        drop(outbox);
        self
    }

    /// Tells `to` how it ended, by the very commit that ends it: a command that holds the [`Ended`] it is
    /// given. `command` is called at once, with something that stands in for it, so it must only put it in
    /// its place.
    ///
    /// A message that is given up has ended, as [dead-lettered](crate::ended::End::DeadLettered); if it is
    /// redriven it is told of once more.
    ///
    /// ```
    /// # use greenroom::{Ended, prelude::*};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # enum Import { Begin, Row(u32), Done(Ended) }
    /// # struct Rows;
    /// # impl Actor for Rows {
    /// #     const KIND: &'static str = "rows"; type State = u64; type Command = Import; type Reply = ();
    /// # async fn handle(&self, done: &mut u64, command: Import, cx: &Context<Self>) -> Result<()> {
    /// cx.tell(Rows::at("7"), Import::Row(7)).then(cx.me(), Import::Done);
    /// # Ok(()) } }
    /// ```
    pub fn then<B: Actor>(self, to: At<B>, command: impl FnOnce(Ended) -> B::Command) -> Self {
        let then = hole(&to, self.mark, command);
        let mut outbox = self.outbox.borrow_mut();
        match then {
            Ok(then) => {
                if let Some(sent) = self.index.and_then(|index| outbox.sent.get_mut(index)) {
                    Arc::make_mut(&mut sent.envelope).then = Some(Box::new(then));
                }
            }
            Err(error) => outbox.refuse(error),
        }
        drop(outbox);
        self
    }

    /// Names it for [`Context::withdraw`](crate::Context::withdraw), among what the same actor is
    /// [told](Tell::then) of. Say it after `then`.
    pub fn tag(self, tag: u64) -> Self {
        let mut outbox = self.outbox.borrow_mut();
        if let Some(sent) = self.index.and_then(|index| outbox.sent.get_mut(index)) {
            match &mut Arc::make_mut(&mut sent.envelope).then {
                Some(then) => then.tag = tag,
                None => outbox.refuse(Error::terminal("`tag` names what was given to `then`: say it after it")),
            }
        }
        drop(outbox);
        self
    }
}
