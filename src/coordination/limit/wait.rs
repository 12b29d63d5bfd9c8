//! How a command waits for tokens and permits: durably, so that one that waits long holds no memory and
//! is where it was after any crash.
//!
//! Tokens are not polled for. The store is asked once, and says when they will be there: from then on that
//! time is the command's own, whoever comes later. The time is written into its journal, and it sleeps.
//!
//! Invariant: a time that is written is not asked for again, unless it passed while nobody could use it;
//! and nothing is taken by a command that is only looked at (see [`dry`](crate::durable::dry)).

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{admit::Admission, draw::UNAVAILABLE, permits::Permit};
use crate::{
    backend::limits::LONGEST_WAIT,
    durable::{
        entry::Entry,
        ticket::{Ticket, read},
    },
    error::Result,
};

/// How late a time may be used, in milliseconds: a node that is busy is a little late. Whoever was away
/// longer asks anew, or all that could not run for an hour would run at once.
const LATE: i64 = 10_000;
/// When to ask again while the store cannot answer, in milliseconds.
const OUT: i64 = 1_000;
/// How far apart a command asks for a permit once it has left memory, in milliseconds; half of it is
/// random.
const PAUSE: i64 = 4_000;

/// Tokens that are waited for: await it, perhaps after saying how long. Made by
/// [`Context::limit`](crate::Context::limit).
#[must_use = "tokens are taken when this is awaited"]
pub struct Tokens {
    pub(crate) gate: TokenGate,
    pub(crate) within: Duration,
}

impl Tokens {
    /// Waits no longer than this: if the tokens are not there by then, the answer is an error with the
    /// code `limited`, at once. The default is a day, which is the longest.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }
}

impl IntoFuture for Tokens {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.gate.pass(1, self.within).await })
    }
}

/// When tokens may be used: written under the number of the operation that waits for them.
#[derive(Serialize, Deserialize)]
struct Booked {
    until: i64,
    /// For which attempt of a step.
    attempt: u32,
}

/// Since when a permit is waited for, by the store's clock.
#[derive(Serialize, Deserialize)]
struct Waits {
    since: i64,
}

/// Where a command waits for tokens.
pub(crate) struct TokenGate {
    ticket: Ticket,
    limit: String,
    cost: u64,
}

impl TokenGate {
    /// The next operation of a command is to wait for tokens.
    pub(crate) fn new(journal: &std::rc::Rc<crate::durable::journal::Journal>, limit: &str, cost: u64) -> Self {
        Self { ticket: Ticket::new(journal, "value", &format!("limit {limit}")), limit: limit.to_owned(), cost }
    }

    /// Waits for the tokens of an attempt.
    pub(crate) async fn pass(&self, attempt: u32, within: Duration) -> Result<()> {
        let (journal, op) = (self.ticket.journal().clone(), self.ticket.op().await);
        let clock = self.ticket.clock().clone();
        let name = format!("limit {}", self.limit);
        let mut booked = written::<Booked>(&self.ticket, op, &name)?.filter(|booked| booked.attempt == attempt);
        loop {
            let until = match booked.take() {
                Some(booked) => booked.until,
                None => {
                    journal.refuses()?;
                    self.ticket.opened().await;
                    journal.lives(op);
                    let wait = match journal.shared.limits.book(&self.limit, self.cost, within).await {
                        Ok(wait) => wait,
                        Err(error) if error.has_code(UNAVAILABLE) => {
                            self.ticket.rest(clock.now() + OUT).await?;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let until = clock.now().saturating_add(wait.as_millis() as i64);
                    let value = to_raw_value(&Booked { until, attempt })?;
                    journal.note(Entry::Value { op, name: name.clone(), value });
                    until
                }
            };
            self.ticket.rest(until).await?;
            if clock.now() <= until + LATE || journal.goes_on(op) {
                return Ok(());
            }
        }
    }
}

/// Where a command waits for a permit.
pub(crate) struct PermitGate {
    ticket: Ticket,
    limit: String,
}

impl PermitGate {
    /// The next operation of a command is to wait for a permit.
    pub(crate) fn new(journal: &std::rc::Rc<crate::durable::journal::Journal>, limit: &str) -> Self {
        Self { ticket: Ticket::new(journal, "value", &format!("permit {limit}")), limit: limit.to_owned() }
    }

    /// Waits for a permit: for a moment in memory, then now and then. Whoever waits longest goes first.
    pub(crate) async fn enter(&self) -> Result<Permit> {
        let (journal, op) = (self.ticket.journal().clone(), self.ticket.op().await);
        let (clock, limits) = (self.ticket.clock().clone(), journal.shared.limits.clone());
        let name = format!("permit {}", self.limit);
        let mut since = written::<Waits>(&self.ticket, op, &name)?.map(|waits| waits.since);
        let linger = journal.shared.settings.linger;
        loop {
            journal.refuses()?;
            self.ticket.opened().await;
            journal.lives(op);
            let (of, who) = limits.find(&self.limit)?;
            let pause = match limits.admit(&of, who, since, linger).await {
                Ok(Admission::In(permit)) => return Ok(permit),
                Ok(Admission::Wait(waits)) => {
                    if since.replace(waits).is_none() {
                        let value = to_raw_value(&Waits { since: waits })?;
                        journal.note(Entry::Value { op, name: name.clone(), value });
                    }
                    PAUSE / 2 + (journal.shared.random() % (PAUSE as u64 / 2)) as i64
                }
                Err(error) if error.has_code(UNAVAILABLE) => OUT,
                Err(error) => return Err(error),
            };
            self.ticket.rest(clock.now() + pause).await?;
        }
    }
}

/// What is written of an operation.
fn written<T: for<'de> Deserialize<'de>>(ticket: &Ticket, op: u32, name: &str) -> Result<Option<T>> {
    match ticket.journal().begun(op) {
        Some(Entry::Value { value, .. }) => read(name, &value).map(Some),
        _ => Ok(None),
    }
}

/// The longest that tokens are waited for unless said otherwise.
pub(crate) const WITHIN: Duration = LONGEST_WAIT;
