//! Waiting for something from outside: a time, another actor's answer, a signal. While a command waits
//! it need not be in memory.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    entry::{Entry, Outcome},
    journal::cancelled,
    op::{Then, Told},
    ticket::{Ticket, read},
};
use crate::{
    address::Address,
    backend::Sent,
    envelope::Envelope,
    error::{Error, Result},
};

/// Waits until a time; made by [`Context::sleep`](crate::Context::sleep).
pub(crate) async fn sleep(ticket: Ticket, until: impl FnOnce(i64) -> i64) -> Result<()> {
    let (journal, op) = (ticket.journal().clone(), ticket.op().await);
    if !journal.ended(op) {
        let until = match journal.begun(op) {
            Some(Entry::Slept { until, .. }) => until,
            _ => {
                journal.refuses()?;
                let now = ticket.clock().now();
                let until = until(now);
                journal.note(Entry::Slept { op, until, at: now });
                until
            }
        };
        journal.waits(op, Some((until, Then::Wake)));
    }
    match ticket.told().await {
        Told::Cancelled => Err(cancelled()),
        _ => Ok(()),
    }
}

/// A question to another actor: await it, perhaps after saying how long. Made by
/// [`Context::ask`](crate::Context::ask).
#[must_use = "a question leaves when it is awaited"]
pub struct Ask<T> {
    pub(crate) ticket: Ticket,
    pub(crate) to: Result<Address>,
    /// What leaves, but for the number of the operation.
    pub(crate) sent: Result<Envelope>,
    pub(crate) within: Option<Duration>,
    pub(crate) reply: PhantomData<fn() -> T>,
}

impl<T> Ask<T> {
    /// Waits no longer than this: then the answer is an error with the code `deadline`. Whoever was asked
    /// goes on.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Ask<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

impl<T: DeserializeOwned> Ask<T> {
    async fn wait(self) -> Result<T> {
        let (journal, op) = (self.ticket.journal().clone(), self.ticket.op().await);
        let to = self.to?;
        if !journal.ended(op) {
            let until = match journal.begun(op) {
                Some(Entry::Called { until, .. }) => until,
                _ => {
                    journal.refuses()?;
                    let mut envelope = self.sent?;
                    if let Some(asked) = &mut envelope.asked {
                        asked.op = op;
                    }
                    let now = self.ticket.clock().now();
                    let until = self.within.map(|limit| now.saturating_add(millis(limit)));
                    let sent = Sent { envelope: envelope.into(), due: None };
                    journal.write(Entry::Called { op, to: to.clone(), until, at: now }, Some(sent));
                    until
                }
            };
            journal.waits(op, until.map(|until| (until, Then::Expire)));
        }
        match self.ticket.told().await {
            Told::Outcome(Outcome::Ok(value)) => read(&format!("the answer of {to}"), &value),
            Told::Outcome(Outcome::Err(failure)) => {
                Err(failure.to_error().into_terminal().context(format!("asking {to}")))
            }
            Told::Expired => Err(Error::terminal(format!("{to} did not answer in time")).code("deadline")),
            _ => Err(cancelled()),
        }
    }
}

fn millis(time: Duration) -> i64 {
    time.as_millis().min(i64::MAX as u128) as i64
}

/// A signal that is waited for: await it, perhaps after saying how long. Made by
/// [`Context::signal`](crate::Context::signal).
#[must_use = "a signal is waited for when it is awaited"]
pub struct Signal<T> {
    pub(crate) ticket: Ticket,
    pub(crate) name: String,
    pub(crate) within: Option<Duration>,
    pub(crate) value: PhantomData<fn() -> T>,
}

impl<T> Signal<T> {
    /// Waits no longer than this: then the answer is an error with the code `deadline`.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Signal<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

impl<T: DeserializeOwned> Signal<T> {
    async fn wait(self) -> Result<T> {
        let (journal, op) = (self.ticket.journal().clone(), self.ticket.op().await);
        if !journal.ended(op) {
            journal.take_signal(op, &self.name);
        }
        if !journal.ended(op) {
            let until = match journal.begun(op) {
                Some(Entry::Listened { until, .. }) => until,
                _ => {
                    journal.refuses()?;
                    let now = self.ticket.clock().now();
                    let until = self.within.map(|limit| now.saturating_add(millis(limit)));
                    journal.note(Entry::Listened { op, name: self.name.clone(), until, at: now });
                    until
                }
            };
            journal.waits(op, until.map(|until| (until, Then::Expire)));
        }
        match self.ticket.told().await {
            Told::Signal(value) => read(&format!("signal {:?}", self.name), &value),
            Told::Expired => {
                Err(Error::terminal(format!("the signal {:?} did not come in time", self.name)).code("deadline"))
            }
            _ => Err(cancelled()),
        }
    }
}
