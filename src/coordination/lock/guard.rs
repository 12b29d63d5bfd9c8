//! Locks for code outside of actors: taken with a lease that is renewed in the background, and with a guard
//! that knows when it is lost.
//!
//! Invariant: a guard says that it is lost before the lock gives it to another, whatever the store does and
//! whatever clocks are set to; unless the whole process is stopped, which is what the token is for.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::value::to_raw_value;
use tokio::sync::{oneshot, watch};

use super::{
    Command, Lock, Reply,
    claimer::{Claimer, Got},
    lost,
};
use crate::{
    actor::Actor,
    address::At,
    backend::{Fence, NotAppended},
    clock::Clock,
    error::{Error, Result},
    request::RequestId,
    runtime::node::{Accept, Node},
    trace::Trace,
};

/// The lease of who names none.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

impl Node {
    /// Takes a lock, from outside of any actor: waits, in order, until nobody else has it.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # App::embedded(dir.path()).run_until(|node| async move {
    /// let guard = node.lock("warehouse").within(std::time::Duration::from_secs(30)).await?;
    /// assert!(node.try_lock("warehouse").await?.is_none());
    /// // … write something, naming guard.token() …
    /// guard.release().await?;
    /// # Ok(())
    /// # })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn lock(&self, name: &str) -> Locking {
        Locking { node: self.clone(), name: name.to_owned(), lease: LEASE, within: None }
    }

    /// Takes a lock if nobody has it, or waits for it.
    pub async fn try_lock(&self, name: &str) -> Result<Option<Guard>> {
        self.lock(name).at_once().await
    }
}

impl Node {
    /// Takes a lock away from whoever has it: the next one gets it at once. Whoever had it finds out when it
    /// renews or checks; what it writes until then only its token can stop. Whether anybody had it.
    pub async fn break_lock(&self, name: &str) -> Result<bool> {
        Ok(self.ask(Lock::at(name), Command::Break).await? == Reply::Released)
    }
}

/// A lock that is waited for: await it. Made by [`Node::lock`].
#[must_use = "a lock is taken when it is awaited"]
pub struct Locking {
    node: Node,
    name: String,
    lease: Duration,
    within: Option<Duration>,
}

impl Locking {
    /// How long the lock is good for when nothing is heard of this process: from half a second to an hour, 15
    /// seconds when not said. It is renewed at each third of that.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Waits no longer than this: then the answer is an error with the code `deadline`, and the place in the
    /// queue is given up.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Takes it if nobody has it, or waits for it.
    pub async fn at_once(self) -> Result<Option<Guard>> {
        let leaving = self.claimer()?;
        match leaving.claimer.claim(true).await? {
            Got::Held { token, since } => Ok(Some(Guard::start(leaving, token, since))),
            _ => Ok(None),
        }
    }

    fn claimer(&self) -> Result<Leaving> {
        let by = uuid::Uuid::new_v4().to_string();
        Ok(Leaving { claimer: Arc::new(Claimer::new(&self.node, &self.name, by, self.lease)?), armed: true })
    }

    async fn wait(self) -> Result<Guard> {
        let leaving = self.claimer()?;
        let clock = self.node.clock().clone();
        let got = match self.within {
            Some(limit) => clock.limit(limit, leaving.claimer.wait()).await,
            None => Some(leaving.claimer.wait().await),
        };
        match got {
            Some(Ok(Got::Held { token, since })) => Ok(Guard::start(leaving, token, since)),
            Some(Ok(_)) => Err(lost(&self.name)),
            Some(Err(error)) => Err(error),
            None => {
                let late =
                    format!("the lock {:?} was not free within {:?}", self.name, self.within.unwrap_or_default());
                Err(Error::terminal(late).code("deadline"))
            }
        }
    }
}

impl IntoFuture for Locking {
    type Output = Result<Guard>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Guard>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// Lets go of whatever was claimed, when it is dropped before there is a guard.
struct Leaving {
    claimer: Arc<Claimer>,
    armed: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.armed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let claimer = self.claimer.clone();
            runtime.spawn(async move { claimer.leave().await });
        }
    }
}

/// A lock that is held. Dropped, it is let go soon.
pub struct Guard {
    claimer: Arc<Claimer>,
    token: u64,
    clock: Clock,
    /// Until when of the steady clock it may be relied on.
    until: Arc<AtomicI64>,
    lost: watch::Receiver<bool>,
    /// Ends the renewing, when it is dropped or told; it says then whether the lock was held to the end.
    stop: Option<oneshot::Sender<oneshot::Sender<Result<bool>>>>,
}

impl Guard {
    fn start(mut leaving: Leaving, token: u64, since: i64) -> Self {
        leaving.armed = false;
        let claimer = leaving.claimer.clone();
        let until = Arc::new(AtomicI64::new(claimer.until(since)));
        let ((says, lost), (stop, stopped)) = (watch::channel(false), oneshot::channel());
        let renewing = Renewing { claimer: claimer.clone(), token, until: until.clone(), says };
        tokio::spawn(renewing.run(stopped));
        Self { clock: claimer.node.clock().clone(), claimer, token, until, lost, stop: Some(stop) }
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.claimer.name
    }

    /// The fencing token: each who has the lock has a higher one than all before. Give it to whatever is
    /// written under the lock, to refuse whoever had it before and does not know.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The lock's name and the token, for [`Accept`].
    pub fn fence(&self) -> Fence {
        Fence { lock: self.name().to_owned(), token: self.token }
    }

    /// Whether the lock is lost, as far as this process can know without asking.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow() || self.clock.steady() >= self.until.load(Ordering::Acquire)
    }

    /// Returns when the lock is lost; before another has it.
    pub async fn lost(&self) {
        // The other end is dropped only after saying so, or with this guard.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Tells an actor something under the lock: refused with the code `lock_lost` if it is known to be lost,
    /// and with the code `fenced` once a newer holder has written to the same mailbox.
    pub async fn tell<A: Actor>(&self, to: At<A>, command: A::Command) -> Result<RequestId> {
        if self.is_lost() {
            return Err(lost(self.name()));
        }
        let accept = Accept {
            to: to.address()?,
            command: to_raw_value(&command)?,
            due: None,
            trace: Some(Trace::start()),
            idempotency: None,
            fence: Some(self.fence()),
            wait: false,
        };
        match self.claimer.node.accept(accept).await {
            Ok(accepted) => Ok(accepted.request),
            Err(fenced @ NotAppended::Fenced { .. }) => Err(Error::terminal(fenced.to_string()).code("fenced")),
            Err(other) => Err(other.into()),
        }
    }

    /// Lets it go. Terminal error (`lock_lost`) when it was lost before: then somebody else may have had it
    /// meanwhile.
    pub async fn release(mut self) -> Result<()> {
        let (say, said) = oneshot::channel();
        let told = self.stop.take().is_some_and(|stop| stop.send(say).is_ok());
        match said.await {
            Ok(held) if told => match held? {
                true => Ok(()),
                false => Err(lost(self.name())),
            },
            // It has ended by itself, having said that it is lost.
            _ => Err(lost(self.name())),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({}, token {}{})", self.name(), self.token, if self.is_lost() { ", lost" } else { "" })
    }
}

/// How long it is until a time of the steady clock.
fn left(clock: &Clock, until: i64) -> Duration {
    Duration::from_millis((until - clock.steady()).max(0) as u64)
}

/// Keeps a lease.
struct Renewing {
    claimer: Arc<Claimer>,
    token: u64,
    until: Arc<AtomicI64>,
    says: watch::Sender<bool>,
}

impl Renewing {
    async fn run(self, mut stopped: oneshot::Receiver<oneshot::Sender<Result<bool>>>) {
        let kept = tokio::select! {
            biased;
            stop = &mut stopped => Some(stop),
            () = self.keep() => None,
        };
        match kept {
            Some(Ok(say)) => {
                let left = left(self.claimer.node.clock(), self.until.load(Ordering::Acquire));
                let late = || Err(Error::new("whether the lock was let go in time cannot be said"));
                let released = self.claimer.node.clock().limit(left, self.claimer.release()).await;
                let released = released.unwrap_or_else(late);
                if released.is_err() {
                    self.claimer.leave().await;
                }
                self.over();
                // Whoever released it may not wait for it.
                let _ = say.send(released);
            }
            Some(Err(_)) => {
                self.over();
                self.claimer.leave().await;
            }
            None => {
                self.over();
                drop(stopped);
                // The lock may still be kept for this one, for as long as the lease is counted there.
                self.claimer.leave().await;
            }
        }
    }

    fn over(&self) {
        self.until.store(i64::MIN, Ordering::Release);
        self.says.send_replace(true);
    }

    /// Renews until it is lost.
    async fn keep(&self) {
        let clock = self.claimer.node.clock().clone();
        let mut wait = self.claimer.rhythm();
        loop {
            let until = self.until.load(Ordering::Acquire);
            tokio::select! {
                // That it was lost is found out by renewing, as is anything else that is said.
                _ = self.claimer.hears() => {}
                () = clock.sleep(wait.min(left(&clock, until))) => {}
            }
            match clock.limit(left(&clock, until), self.claimer.renew()).await {
                Some(Ok(Got::Held { token, since })) if token == self.token => {
                    self.until.store(self.claimer.until(since), Ordering::Release);
                    wait = self.claimer.rhythm();
                }
                Some(Err(error)) if clock.steady() < until => {
                    tracing::debug!(lock = %self.claimer.name, %error, "a lock could not be renewed, trying again");
                    wait = self.claimer.rhythm() / 4;
                }
                _ => return,
            }
        }
    }
}
