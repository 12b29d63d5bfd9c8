//! What a handler does durably: written into the command's journal, so that it is not repeated when the
//! handler is run again.

use std::{future::Future, marker::PhantomData, time::Duration};

use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::to_raw_value;
use uuid::Uuid;

use super::Context;
use crate::{
    actor::Actor,
    address::{Address, At},
    durable::{
        Ask, Run, Signal,
        entry::Entry,
        ticket::{Ticket, read},
        undo, wait,
    },
    envelope::{Asked, Envelope},
    error::{Error, Result},
};

/// The longest path of actors that wait for each other.
const PATH: usize = 64;

impl<A: Actor> Context<A> {
    /// A step: calls something outside of Greenroom, and writes what it answered before the handler goes
    /// on. `call` is given the step's idempotency [`Key`](crate::Key), and may be called again with it
    /// until its result is written. Its error, when it gives up, is terminal.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # struct Stripe;
    /// # impl Stripe { async fn charge(&self, _: &str, _: u64) -> Result<String> { Ok("ch_1".into()) } }
    /// # async fn pay<A: Actor>(stripe: &Stripe, cx: &Context<A>) -> Result<()> {
    /// let charge = cx
    ///     .run("stripe.charge", |key| async move { stripe.charge(&key, 900).await })
    ///     .retry(Retry::times(5))
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn run<'a, T, F, Fut>(&'a self, name: &str, call: F) -> Run<'a, F>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(crate::Key) -> Fut + 'a,
        Fut: Future<Output = Result<T>> + 'a,
    {
        Run {
            scope: PhantomData,
            ticket: Ticket::new(&self.journal, "run", name),
            name: name.to_owned(),
            key: self.journal.shared.step_key(self.about.position),
            call,
            retry: self.retry,
            timeout: self.time_limit,
            heartbeat: None,
            tokens: None,
            permit: None,
        }
    }

    /// Asks another actor, and waits for its reply: for seconds or weeks, without holding anything. The
    /// question leaves at once, not with the commit. Terminal error when the command failed, was
    /// cancelled or dead-lettered; and at once, naming the path, when a command would wait for itself
    /// through others. Two commands that had begun before each asks the other's actor are not found that
    /// way: where that can happen, give the call a [deadline](crate::Ask::within) or make one of them
    /// [shared](crate::Waits).
    pub fn ask<B: Actor<Reply: DeserializeOwned>>(&self, to: At<B>, command: B::Command) -> Ask<B::Reply> {
        let address = to.address();
        let name = address.as_ref().map(Address::to_string).unwrap_or_default();
        let ticket = Ticket::new(&self.journal, "ask", &name);
        let (by, position) = (self.about.address.clone(), self.about.position);
        let asking = |address: &Address| {
            let path = self.path(address)?;
            let asked = Some(Box::new(Asked { by, position, op: 0, path }));
            Ok(Envelope { asked, ..self.envelope(to, &command)? })
        };
        let sent = match &address {
            Ok(address) => asking(address),
            Err(error) => Err(error.failure(0, 0).to_error()),
        };
        Ask { ticket, to: address, sent, within: None, reply: PhantomData }
    }

    /// Actors that wait for an answer of `to`, and let nothing else be handled meanwhile. Terminal error
    /// when it is one of them.
    fn path(&self, to: &Address) -> Result<Vec<Address>> {
        let asked = self.about.envelope.asked.as_ref();
        let mut path = asked.map(|asked| asked.path.clone()).unwrap_or_default();
        if self.journal.alone {
            path.push(self.about.address.clone());
        }
        path.extend(self.locks.borrow().iter().cloned());
        let text = || path.iter().map(Address::to_string).collect::<Vec<_>>().join(" → ");
        if path.contains(to) {
            let cycle = format!("{} → {to}: they would wait for each other for ever", text());
            return Err(Error::terminal(cycle).code("cycle"));
        }
        if path.len() > PATH {
            return Err(
                Error::terminal(format!("more than {PATH} actors wait for each other: {}", text())).code("cycle")
            );
        }
        Ok(path)
    }

    /// Sleeps durably: for a second or a year. Error when the command is cancelled meanwhile.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = Result<()>> + use<A> {
        let ticket = Ticket::new(&self.journal, "sleep", "");
        wait::sleep(ticket, move |now| now.saturating_add(time.as_millis().min(i64::MAX as u128) as i64))
    }

    /// Sleeps durably until a time, in milliseconds since the Unix epoch.
    pub fn sleep_until(&self, time: i64) -> impl Future<Output = Result<()>> + use<A> {
        wait::sleep(Ticket::new(&self.journal, "sleep", ""), move |_| time)
    }

    /// Waits for a value from outside: what somebody posts to `POST /signals/{id}`, the id being
    /// [`signal_id`](Context::signal_id)`(name)`. One that came before is not missed; of several under
    /// one name each is taken once, in order.
    pub fn signal<T: DeserializeOwned>(&self, name: &str) -> Signal<T> {
        Signal {
            ticket: Ticket::new(&self.journal, "signal", name),
            name: name.to_owned(),
            within: None,
            value: PhantomData,
        }
    }

    /// The id under which a signal of this command is completed. Whoever knows it may complete it, and it
    /// cannot be guessed: put it into the link of an e-mail, or give it to a vendor for its webhook. It
    /// begins with the id of the request, so whoever knows that one knows this one too. In a URL the name
    /// must be escaped like any part of a path.
    pub fn signal_id(&self, name: &str) -> String {
        format!("{}.{name}", self.journal.shared.id(self.about.position))
    }

    /// Now, in milliseconds since the Unix epoch: the same when the command is run again.
    pub fn now(&self) -> i64 {
        let now = self.journal.shared.clock.now();
        self.value("now", || now).unwrap_or(now)
    }

    /// A random number: the same when the command is run again.
    pub fn random(&self) -> u64 {
        // JSON has 53 bits for numbers, so it is kept as text.
        let made = self.value("random", || self.journal.shared.random().to_string());
        made.and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// A random id (UUID version 4): the same when the command is run again.
    pub fn uuid(&self) -> Uuid {
        let fresh = || {
            let (high, low) = (self.journal.shared.random(), self.journal.shared.random());
            uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
        };
        self.value("uuid", fresh).unwrap_or_default()
    }

    /// A value that is written the first time. `None` when the journal has something else here: then the
    /// command is not going on.
    fn value<T: Serialize + DeserializeOwned>(&self, name: &str, fresh: impl FnOnce() -> T) -> Option<T> {
        let op = self.journal.begin("value", name)?;
        self.journal.dropped(op);
        if let Some(Entry::Value { value, .. }) = self.journal.begun(op) {
            return match read(name, &value) {
                Ok(value) => Some(value),
                Err(error) => {
                    self.journal.stop(error.to_string());
                    None
                }
            };
        }
        let value = fresh();
        if let Ok(json) = to_raw_value(&value) {
            self.journal.note(Entry::Value { op, name: name.to_owned(), value: json });
        }
        Some(value)
    }

    /// Whether to go the new way at a change of this handler: commands that came past here under an older
    /// build go the old one to their end.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # async fn go<A: Actor>(cx: &Context<A>) -> Result<()> {
    /// if cx.version("check the address first") {
    ///     cx.run("address.check", |_| async { Ok(()) }).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn version(&self, change: &str) -> bool {
        self.journal.changed(change)
    }

    /// Registers how to take back what was just done, should the command fail or be cancelled: the last
    /// one registered runs first. It does durable things through its own `cx`. When it fails, the command
    /// is tried again, and in the end goes to the dead letters, which say what is still done.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # struct Shop;
    /// # impl Shop { async fn refund(&self, _: &str, _: &str) -> Result<()> { Ok(()) } }
    /// # impl Actor for Shop {
    /// #     const KIND: &'static str = "shop"; type State = (); type Command = (); type Reply = ();
    /// # async fn handle(&self, _: &mut (), _: (), cx: &Context<Self>) -> Result<()> {
    /// # let charge = "ch_1".to_owned();
    /// cx.undo("charge", async move |shop: &Shop, cx: &Context<Shop>| {
    ///     cx.run("stripe.refund", |key| { let charge = &charge; async move { shop.refund(&key, charge).await } }).await
    /// });
    /// # Ok(()) } }
    /// ```
    pub fn undo(&self, name: &str, undo: impl AsyncFnOnce(&A, &Context<A>) -> Result<()> + 'static) {
        self.undos.borrow_mut().push((name.into(), undo::boxed(undo)));
    }

    /// Ends this command, and goes on as a new one that begins with an empty journal: for loops without
    /// end. The state commits; whoever asked or waits is answered by the last one. Return what this
    /// returns.
    pub fn again<T>(&self, command: A::Command) -> Result<T> {
        let envelope = self.envelope(self.me.clone(), &command)?;
        let me = &self.about.envelope;
        let carried = Envelope {
            asked: me.asked.clone(),
            then: me.then.clone(),
            slot: me.slot,
            reply: me.reply,
            request: me.request,
            ..envelope
        };
        *self.again.borrow_mut() = Some(carried);
        Err(Error::terminal("goes on as a new command").code("again"))
    }

    /// Runs many durable things at once, `limit` of them at a time: what each answered, in their order.
    /// The first error is the answer, and those that had not begun do not begin.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # async fn send(_: &str, _: u32) -> Result<()> { Ok(()) }
    /// # async fn go<A: Actor>(cx: &Context<A>, users: Vec<u32>) -> Result<()> {
    /// let send = |user| cx.run("mail.send", move |key| async move { send(&key, user).await });
    /// cx.all(20, users.into_iter().map(send)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn all<T, I>(&self, limit: usize, of: I) -> Result<Vec<T>>
    where
        I: IntoIterator<Item: IntoFuture<Output = Result<T>>>,
    {
        let begun = of.into_iter().map(IntoFuture::into_future);
        let mut running = futures_util::stream::iter(begun).buffered(limit.max(1));
        let mut answers = Vec::new();
        while let Some(answer) = running.next().await {
            answers.push(answer?);
        }
        Ok(answers)
    }
}
