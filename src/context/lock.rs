//! Locks that a command takes. It has what it took until it ends, however it ends, and whatever crashes.
//!
//! Invariant: a command never waits for itself, nor without a deadline for whoever may wait for it.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use futures_util::poll;

use super::Context;
use crate::{
    actor::Actor,
    address::Address,
    backend::Fence,
    coordination::lock::{Command, Lock, Reply, lost},
    durable::{Ask, ticket::Ticket},
    envelope::{Asked, Envelope},
    error::{Error, Result},
};

impl<A: Actor> Context<A> {
    /// Takes a lock: waits, in order, until nobody else has it. A durable call: after a crash the command has
    /// the lock still, with the same token. It has it until it lets it [go](Locked::release) or ends.
    ///
    /// Whoever takes a second one must say [how long](Locking::within) it waits: two that take them in
    /// different order would wait for each other for ever. Terminal error (`cycle`) when the command has the
    /// lock already, or is waited for by one that has.
    ///
    /// Where what the lock protects can be one actor, that actor is the better lock: its commands are handled
    /// one at a time anyway. See `docs/LOCKS.md`.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # async fn import(_: &str, _: u64) -> Result<()> { Ok(()) }
    /// # async fn go<A: Actor>(cx: &Context<A>) -> Result<()> {
    /// let lock = cx.lock("warehouse").await?;
    /// let token = lock.token();
    /// cx.run("warehouse.import", |key| async move { import(&key, token).await }).await?;
    /// lock.release().await?;
    /// # Ok(()) }
    /// ```
    pub fn lock(&self, name: &str) -> Locking<'_, A> {
        let to = Lock::at(name).address();
        let ticket = self.lock_ticket(to.as_ref().map(Address::to_string).unwrap_or_default());
        Locking { cx: self, to, ticket, within: None }
    }

    fn lock_ticket(&self, name: String) -> Ticket {
        Ticket::new(self.journal(), "ask", &name)
    }

    /// A question to a lock, which never waits for anybody and so is no part of any path.
    fn ask_lock(&self, to: &Address, ticket: Ticket, command: &Command, within: Option<Duration>) -> Ask<Reply> {
        let asking = || {
            let (by, position) = (self.about.address.clone(), self.about.position);
            let asked = Some(Box::new(Asked { by, position, op: 0, path: Vec::new() }));
            Ok(Envelope { asked, ..self.carry(to.clone(), serde_json::value::to_raw_value(command)?) })
        };
        Ask { ticket, to: Ok(to.clone()), sent: asking(), within, reply: std::marker::PhantomData }
    }

    /// Locks that this command has, and those of whoever waits for it.
    fn locks_around(&self) -> Vec<Address> {
        let asked = self.about.envelope.asked.as_deref();
        let theirs = asked.into_iter().flat_map(|asked| asked.path.iter().filter(|at| at.kind() == Lock::KIND));
        theirs.chain(self.locks.borrow().iter()).cloned().collect()
    }

    /// Whether a lock may be waited for.
    fn may_wait(&self, to: &Address, within: Option<Duration>) -> Result<()> {
        let around = self.locks_around();
        if around.contains(to) {
            let why = format!("the lock {:?} is held by this command, or by one that waits for it", to.key());
            return Err(Error::terminal(why).code("cycle"));
        }
        match (around.first(), within) {
            (Some(held), None) => {
                let why = format!(
                    "{:?} is waited for while {:?} is held: say how long with `within`, since whoever takes them the \
                     other way round would wait for ever, and this command with it",
                    to.key(),
                    held.key()
                );
                Err(Error::terminal(why).code("needs_deadline"))
            }
            _ => Ok(()),
        }
    }
}

/// A lock that is waited for: await it, perhaps after saying how long. Made by
/// [`Context::lock`](crate::Context::lock).
#[must_use = "a lock is taken when it is awaited"]
pub struct Locking<'a, A: Actor> {
    cx: &'a Context<A>,
    to: Result<Address>,
    ticket: Ticket,
    within: Option<Duration>,
}

impl<A: Actor> Locking<'_, A> {
    /// Waits no longer than this: then the answer is an error with the code `deadline`, and the place in the
    /// queue is given up.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }
}

impl<'a, A: Actor> IntoFuture for Locking<'a, A> {
    type Output = Result<Locked<'a, A>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

impl<'a, A: Actor> Locking<'a, A> {
    async fn wait(self) -> Result<Locked<'a, A>> {
        let Self { cx, to, ticket, within } = self;
        let to = to?;
        cx.may_wait(&to, within)?;
        let by = cx.identity();
        let patience = within.map(|within| within.as_millis().min(i64::MAX as u128) as i64);
        let claim = Command::Claim { by: by.clone(), lease: None, within: patience, node: None, now: false };
        match cx.ask_lock(&to, ticket, &claim, within).await {
            Ok(Reply::Held { token }) => {
                cx.locks.borrow_mut().push(to.clone());
                Ok(Locked { cx, to, token })
            }
            Ok(other) => Err(Error::terminal(format!("the lock {:?} answered {other:?}", to.key()))),
            Err(error) => {
                if error.has_code("deadline") {
                    // It may have been given meanwhile. That this is taken in need not be waited for.
                    let ticket = cx.lock_ticket(to.to_string());
                    let leaving = cx.ask_lock(&to, ticket, &Command::Release { by }, None).into_future();
                    let _ = poll!(leaving);
                }
                Err(error)
            }
        }
    }
}

/// A lock that a command has. Dropping it does nothing: the command has it until it ends.
pub struct Locked<'a, A: Actor> {
    cx: &'a Context<A>,
    to: Address,
    token: u64,
}

impl<A: Actor> Locked<'_, A> {
    /// The fencing token: each who has the lock has a higher one than all before. Give it to whatever is
    /// written under the lock, to refuse whoever had it before and does not know.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The lock's name and the token.
    pub fn fence(&self) -> Fence {
        Fence { lock: self.to.key().to_owned(), token: self.token }
    }

    /// Asks whether the command has the lock still. Terminal error (`lock_lost`) when not: somebody broke it,
    /// or the command had died for good and was redriven.
    pub async fn check(&self) -> Result<()> {
        let renew = Command::Renew { by: self.cx.identity() };
        match self.cx.ask_lock(&self.to, self.cx.lock_ticket(self.to.to_string()), &renew, None).await? {
            Reply::Held { token } if token == self.token => Ok(()),
            _ => Err(lost(self.to.key())),
        }
    }

    /// Lets it go now, while the command goes on.
    pub async fn release(self) -> Result<()> {
        let release = Command::Release { by: self.cx.identity() };
        self.cx.locks.borrow_mut().retain(|held| *held != self.to);
        self.cx.ask_lock(&self.to, self.cx.lock_ticket(self.to.to_string()), &release, None).await.map(drop)
    }
}
