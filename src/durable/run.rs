//! A step: something outside of Greenroom that is done once as far as anybody can see. Its result is
//! written before the handler goes on; until then it is called again with the same idempotency key (G5).

use std::{
    cell::Cell,
    fmt,
    future::{Future, IntoFuture},
    ops::Deref,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::to_raw_value;

use super::{
    entry::{Entry, Outcome},
    journal::cancelled,
    op::Told,
    ticket::{Ticket, read},
};
use crate::{
    coordination::limit::{
        Permit,
        wait::{PermitGate, TokenGate, WITHIN},
    },
    error::{Error, Result},
    retry::Retry,
    runtime::handle::panicked,
};

/// What a step is called with: its idempotency key, the same in every attempt of this step and in no
/// other step of any command. Dereferences to the text to give to the vendor.
#[derive(Clone)]
pub struct Key {
    text: Rc<str>,
    attempt: u32,
    beats: Rc<Cell<u64>>,
}

impl Key {
    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says that the step is alive: see [`Run::heartbeat`].
    pub fn beat(&self) {
        self.beats.set(self.beats.get() + 1);
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, attempt {})", self.text, self.attempt)
    }
}

/// A step that is about to run: await it, perhaps after saying how. Made by
/// [`Context::run`](crate::Context::run).
#[must_use = "a step runs when it is awaited"]
pub struct Run<'a, F> {
    pub(crate) scope: std::marker::PhantomData<&'a ()>,
    pub(crate) ticket: Ticket,
    pub(crate) name: String,
    /// Makes the key of a command that has none written yet.
    pub(crate) key: String,
    pub(crate) call: F,
    pub(crate) retry: Retry,
    pub(crate) timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) tokens: Option<Box<TokenGate>>,
    pub(crate) permit: Option<Box<PermitGate>>,
}

impl<F> Run<'_, F> {
    /// Takes so many tokens of a limit (`name` or `name/who`) before each call, also before one that is
    /// made again because the last one failed; waits for them as [`Context::limit`](crate::Context::limit)
    /// does. Waiting is no attempt, and does not count into the time limit.
    pub fn limit(mut self, limit: &str, cost: u64) -> Self {
        self.tokens = Some(Box::new(TokenGate::new(self.ticket.journal(), limit, cost)));
        self
    }

    /// Holds a permit of a limit (`name` or `name/who`) while it is called, and waits for one before each
    /// call, after the tokens if it takes any. For a moment it waits in memory, then outside of it, asking
    /// now and then; whoever waits longest is let in first.
    pub fn permit(mut self, limit: &str) -> Self {
        self.permit = Some(Box::new(PermitGate::new(self.ticket.journal(), limit)));
        self
    }

    /// How often it is called, and how far apart, before its error is the handler's. The default is
    /// that of the actor.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The longest one call may take; longer is a failure like any other. The default is the actor's
    /// time limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// A call that does not [`beat`](Key::beat) this often hangs, and has failed.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = Some(every);
        self
    }
}

impl<'a, T, F, Fut> IntoFuture for Run<'a, F>
where
    T: Serialize + DeserializeOwned + 'a,
    F: FnMut(Key) -> Fut + 'a,
    Fut: Future<Output = Result<T>> + 'a,
{
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.go())
    }
}

impl<F> Run<'_, F> {
    async fn go<T, Fut>(mut self) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Key) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let journal = self.ticket.journal().clone();
        let op = self.ticket.op().await;
        if !journal.ended(op) {
            if journal.retried(op).is_none() {
                // What is refused has no effect, so it need not wait until effects may begin.
                journal.refuses()?;
            }
            self.ticket.opened().await;
            journal.lives(op);
            if journal.retried(op).is_none() {
                journal.refuses()?;
            }
            self.call(op).await?;
        }
        match self.ticket.told().await {
            Told::Outcome(Outcome::Ok(value)) => read(&format!("step {:?}", self.name), &value),
            Told::Outcome(Outcome::Err(failure)) => Err(failure.to_error().into_terminal()),
            _ => Err(cancelled()),
        }
    }

    /// Calls it until it is known how it ends, and writes that. Error when that must not be written: what
    /// undoes is tried again with its command.
    async fn call<T, Fut>(&mut self, op: u32) -> Result<()>
    where
        T: Serialize,
        F: FnMut(Key) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let journal = self.ticket.journal().clone();
        let clock = journal.shared.clock.clone();
        let base = journal.key().unwrap_or_else(|| self.key.clone());
        let (mut attempt, mut until) = journal.retried(op).map_or((0, 0), |(attempt, until)| (attempt, until));
        let began = clock.now();
        let (outcome, attempts) = loop {
            if self.ticket.rest(until).await.is_err() {
                break (Outcome::Err(cancelled().failure(attempt, clock.now())), attempt);
            }
            attempt += 1;
            let key = Key { text: format!("{base}-{op}").into(), attempt, beats: Rc::default() };
            let called = match self.admitted(op, attempt).await {
                Ok(_permit) => self.once(key).await,
                Err(error) => Err(error),
            };
            let error = match called.and_then(|value| {
                to_raw_value(&value).map_err(|e| Error::from(e).into_terminal().context("encoding the step's result"))
            }) {
                Ok(value) => break (Outcome::Ok(value), attempt),
                Err(error) => error,
            };
            let failure = error.failure(attempt, clock.now());
            if error.is_terminal() || attempt >= self.retry.limit() {
                if journal.is_undoing() {
                    return Err(error.context(format!("step {:?}", self.name)));
                }
                break (Outcome::Err(failure), attempt);
            }
            let jitter = (journal.shared.random() >> 11) as f64 / (1u64 << 53) as f64;
            let wait = self.retry.wait(attempt, jitter).max(error.wait().unwrap_or_default());
            until = clock.now().saturating_add(wait.as_millis().min(i64::MAX as u128) as i64);
            journal.write(Entry::Retried { op, name: self.name.clone(), attempt, failure, until }, None);
        };
        journal.write(Entry::Ran { op, name: self.name.clone(), outcome, attempts, began, at: clock.now() }, None);
        Ok(())
    }

    /// Waits for what the limits say; what it holds meanwhile.
    async fn admitted(&self, op: u32, attempt: u32) -> Result<Option<Permit>> {
        if self.tokens.is_none() && self.permit.is_none() {
            return Ok(None);
        }
        // A command that waits for them need not be in memory.
        self.ticket.journal().pauses(op);
        if let Some(tokens) = &self.tokens {
            tokens.pass(attempt, WITHIN).await?;
        }
        let permit = match &self.permit {
            Some(permit) => Some(permit.enter().await?),
            None => None,
        };
        self.ticket.journal().lives(op);
        Ok(permit)
    }

    async fn once<T, Fut>(&mut self, key: Key) -> Result<T>
    where
        F: FnMut(Key) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let clock = self.ticket.clock().clone();
        let (beats, limit) = (key.beats.clone(), self.timeout);
        let call = std::panic::catch_unwind(AssertUnwindSafe(|| (self.call)(key)));
        let call = match call {
            Ok(call) => AssertUnwindSafe(call).catch_unwind(),
            Err(panic) => return Err(panicked(panic.as_ref())),
        };
        let hangs = async {
            let Some(every) = self.heartbeat else { return std::future::pending().await };
            loop {
                let before = beats.get();
                clock.sleep(every).await;
                if beats.get() == before {
                    return every;
                }
            }
        };
        let late = || Error::new(format!("the step took longer than its time limit of {limit:?}")).code("timeout");
        let called = clock.limit(limit, async {
            tokio::select! {
                biased;
                called = call => called.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
                every = hangs => Err(Error::new(format!("the step gave no sign of life for {every:?}")).code("hung")),
            }
        });
        called.await.unwrap_or_else(|| Err(late()))
    }
}
