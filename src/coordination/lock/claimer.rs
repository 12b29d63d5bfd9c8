//! Somebody outside of any actor who wants a lock: claims it, waits, renews, lets go.
//!
//! Invariant: a lease is counted from when the message left that made or renewed it, by this process's clock
//! that is never set; the lock counts from when it arrived. So this one's end comes first.

use std::{sync::Arc, time::Duration};

use serde_json::value::to_raw_value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::actor::{Command, Lock, News, Reply, channel};
use crate::{
    actor::Actor,
    backend::Append,
    envelope::Envelope,
    error::{Error, Result},
    runtime::{
        broadcast::{Heard, Listener},
        node::Node,
    },
};

/// Leases that may be asked for.
pub(crate) const SHORTEST: Duration = Duration::from_millis(500);
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// Somebody who claims a lock.
pub(crate) struct Claimer {
    pub(crate) node: Node,
    pub(crate) name: Arc<str>,
    /// Its own id.
    pub(crate) by: String,
    pub(crate) lease: Duration,
    news: Arc<Mutex<Listener<News>>>,
}

/// What somebody got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// The lock, with this token; the lease counts from `since` of the steady clock.
    Held { token: u64, since: i64 },
    /// A place in the queue, behind so many.
    Waits { before: u64 },
    /// Nothing: somebody else has it.
    Busy,
    /// Nothing: it was lost, or never had.
    Lost,
}

impl Claimer {
    /// Terminal error when the name or the lease cannot be used.
    pub(crate) fn new(node: &Node, name: &str, by: String, lease: Duration) -> Result<Self> {
        Lock::at(name).address()?;
        if !(SHORTEST..=LONGEST).contains(&lease) {
            return Err(Error::terminal(format!(
                "a lease of {lease:?} was asked for: expected between {SHORTEST:?} and {LONGEST:?}"
            )));
        }
        let news = Arc::new(Mutex::new(node.listen(&channel(&by))));
        Ok(Self { node: node.clone(), name: name.into(), by, lease, news })
    }

    fn steady(&self) -> i64 {
        self.node.clock().steady()
    }

    fn millis(&self) -> i64 {
        self.lease.as_millis().min(i64::MAX as u128) as i64
    }

    /// How long there is between two renewals.
    pub(crate) fn rhythm(&self) -> Duration {
        self.lease / 3
    }

    /// Until when of the steady clock a lease that counts from `since` may be relied on: a little less than
    /// it is, for what comes between looking and doing.
    pub(crate) fn until(&self, since: i64) -> i64 {
        since + self.millis() - self.millis() / 10
    }

    async fn ask(&self, command: Command) -> Result<Got> {
        let since = self.steady();
        Ok(match self.node.ask(Lock::at(self.name.clone()), command).await? {
            Reply::Held { token } => Got::Held { token, since },
            Reply::Waits { before } => Got::Waits { before },
            Reply::Busy => Got::Busy,
            Reply::Released | Reply::Lost | Reply::Done => Got::Lost,
        })
    }

    /// Claims the lock, or renews what was claimed before; only if it is free with `now`.
    pub(crate) async fn claim(&self, now: bool) -> Result<Got> {
        let node = Some(self.node.shared.backend.me() as i64);
        let by = self.by.clone();
        self.ask(Command::Claim { by, lease: Some(self.millis()), within: None, node, now }).await
    }

    /// Renews what was claimed.
    pub(crate) async fn renew(&self) -> Result<Got> {
        self.ask(Command::Renew { by: self.by.clone() }).await
    }

    /// Lets go; whether it had the lock until now.
    pub(crate) async fn release(&self) -> Result<bool> {
        let release = Command::Release { by: self.by.clone() };
        Ok(self.node.ask(Lock::at(self.name.clone()), release).await? == Reply::Released)
    }

    /// Lets go without waiting to hear of it, also when the node is ending.
    pub(crate) async fn leave(&self) {
        let left = async {
            let command = to_raw_value(&Command::Release { by: self.by.clone() })?;
            let to = Lock::at(self.name.clone()).address()?;
            let envelope = Envelope { command, accepted: self.node.clock().now(), ..Envelope::empty(to) };
            let append = Append { envelope, due: None, idempotency: None, fence: None };
            let answers = self.node.shared.backend.append(vec![append]).await;
            answers.into_iter().next().map_or(Ok(()), |answer| answer.map(drop).map_err(Error::from))
        };
        if let Err(error) = left.await {
            tracing::debug!(lock = %self.name, %error, "a lock was not let go: its lease will be over");
        }
    }

    /// What is said to this one next; `None` when something may have been missed. One at a time hears.
    pub(crate) async fn hears(&self) -> Option<News> {
        let mut news: OwnedMutexGuard<_> = self.news.clone().lock_owned().await;
        match news.next().await {
            Ok(Heard::Value(news)) => Some(news),
            Ok(Heard::Missed(_)) => None,
            // The node has ended: nothing more is said.
            Err(_) => std::future::pending().await,
        }
    }

    /// Claims, and waits for its turn, renewing meanwhile.
    pub(crate) async fn wait(&self) -> Result<Got> {
        let clock = self.node.clock().clone();
        let mut since = self.steady();
        loop {
            let asked = self.steady();
            match self.claim(false).await {
                Ok(Got::Waits { .. }) => since = asked,
                // Whoever was stopped for long meanwhile asks again.
                Ok(Got::Held { since, .. }) if self.until(since) <= self.steady() => continue,
                Ok(got) => return Ok(got),
                Err(error) if error.is_terminal() => return Err(error),
                // Its place is kept as long as the lease; whoever has no patience says `within`.
                Err(error) => tracing::debug!(lock = %self.name, %error, "a lock could not be claimed, trying again"),
            }
            tokio::select! {
                news = self.hears() => if let Some(News::Held { token }) = news {
                    // Given after it was last heard of.
                    if self.until(since) > self.steady() {
                        return Ok(Got::Held { token, since });
                    }
                },
                () = clock.sleep(self.rhythm()) => {}
            }
        }
    }
}
