//! Limits of the one process, in its memory: what was used is forgotten with it, and so are permits.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use super::Embedded;
use crate::{
    backend::{
        Fut,
        bucket::Buckets,
        limits::{Enter, Entered, Held, Limits, Name, Take, Taken},
    },
    clock::Clock,
    error::Result,
};

/// Names told of at once, before somebody who does not listen misses some.
const TOLD: usize = 1024;

pub(super) struct Counted {
    buckets: Buckets,
    permits: Mutex<HashMap<Name, Permits>>,
    freed: broadcast::Sender<Name>,
}

impl Default for Counted {
    fn default() -> Self {
        Self { buckets: Buckets::default(), permits: Mutex::default(), freed: broadcast::Sender::new(TOLD) }
    }
}

/// The permits of one name.
#[derive(Default)]
struct Permits {
    /// Until when each holder has one.
    held: HashMap<String, i64>,
    /// Who waits, first come first.
    line: Vec<Waiting>,
}

struct Waiting {
    holder: String,
    since: i64,
    /// Until when it is thought to wait.
    until: i64,
}

impl Permits {
    fn sweep(&mut self, now: i64) {
        self.held.retain(|_, until| *until > now);
        self.line.retain(|waiting| waiting.until > now);
    }

    fn enter(&mut self, enter: Enter, now: i64) -> Entered {
        let free = (enter.most as usize).saturating_sub(self.held.len());
        let since = enter.since.unwrap_or(now);
        let place = self.line.iter().position(|waiting| waiting.holder == enter.holder);
        let before = place.unwrap_or_else(|| self.line.iter().filter(|waiting| waiting.since <= since).count());
        if self.held.contains_key(&enter.holder) || before < free {
            self.line.retain(|waiting| waiting.holder != enter.holder);
            self.held.insert(enter.holder, now.saturating_add_unsigned(enter.lease));
            return Entered::In;
        }
        let until = now.saturating_add_unsigned(enter.patience);
        match place {
            Some(place) => self.line[place].until = until,
            None if enter.patience > 0 => {
                let at = self.line.partition_point(|waiting| waiting.since <= since);
                self.line.insert(at, Waiting { holder: enter.holder, since, until });
            }
            None => {}
        }
        Entered::Wait { since, next: self.held.values().min().map(|until| (until - now).max(0) as u64) }
    }
}

impl Counted {
    fn permits(&self) -> MutexGuard<'_, HashMap<Name, Permits>> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, enter: Enter, now: i64) -> Entered {
        let (name, most) = (enter.name, enter.most as usize);
        let mut all = self.permits();
        let permits = all.entry(name).or_default();
        permits.sweep(now);
        let entered = permits.enter(enter, now);
        if entered == Entered::In && permits.held.len() < most && !permits.line.is_empty() {
            // There is one for the next as well. Nobody may be listening.
            let _ = self.freed.send(name);
        }
        entered
    }

    fn renew(&self, held: Held, now: i64) -> bool {
        let mut all = self.permits();
        let until = all.get_mut(&held.name).and_then(|permits| permits.held.get_mut(&held.holder));
        let Some(until) = until.filter(|until| **until > now) else { return false };
        *until = now.saturating_add_unsigned(held.lease);
        true
    }

    fn leave(&self, name: Name, holder: &str, now: i64) {
        let mut all = self.permits();
        let Some(permits) = all.get_mut(&name) else { return };
        permits.held.remove(holder);
        permits.line.retain(|waiting| waiting.holder != holder);
        permits.sweep(now);
        if !permits.line.is_empty() {
            // Nobody may be listening.
            let _ = self.freed.send(name);
        } else if permits.held.is_empty() {
            all.remove(&name);
        }
    }
}

/// The store's own clock is that of the process.
fn time(given: Option<i64>) -> i64 {
    given.unwrap_or_else(|| Clock::System.now())
}

impl Limits for Embedded {
    fn take_tokens(&self, take: Take, now: Option<i64>) -> Fut<'_, Result<Taken>> {
        Box::pin(async move { Ok(self.counted.buckets.take(&take, time(now))) })
    }

    fn enter_permit(&self, enter: Enter, now: Option<i64>) -> Fut<'_, Result<Entered>> {
        Box::pin(async move { Ok(self.counted.enter(enter, time(now))) })
    }

    fn renew_permits(&self, held: Vec<Held>, now: Option<i64>) -> Fut<'_, Result<Vec<bool>>> {
        Box::pin(async move { Ok(held.into_iter().map(|held| self.counted.renew(held, time(now))).collect()) })
    }

    fn leave_permit(&self, name: Name, holder: String, now: Option<i64>) -> Fut<'_, Result<()>> {
        Box::pin(async move {
            self.counted.leave(name, &holder, time(now));
            Ok(())
        })
    }

    fn permits_freed(&self) -> broadcast::Receiver<Name> {
        self.counted.freed.subscribe()
    }
}
