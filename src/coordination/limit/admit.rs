//! Taking permits, and what is done for them beside those who hold them: renewing and giving back.
//!
//! Invariant: what was asked of the store and not answered is given back until the store has heard of it,
//! so nobody holds a permit without knowing.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    declared::Declared,
    draw::{OUT, PARTS, PATIENCE},
    handle::Limits,
    permits::{Chore, Permit},
};
use crate::{
    backend::limits::{Enter, Entered, Held},
    error::{Error, Result},
};

/// How often whoever waits for a permit asks again, in milliseconds, should nobody say that one is free.
const ASK: u64 = 500;
/// For how long somebody who waits stands in the store's line without asking again, in milliseconds.
const STANDS: u64 = 4 * ASK;

/// Whether somebody got a permit.
#[derive(Debug)]
pub(crate) enum Admission {
    In(Permit),
    /// Not yet; it waits since then, by the store's clock.
    Wait(i64),
}

impl Limits {
    /// Takes a permit for somebody who waits since some time, within so long.
    pub(crate) async fn admit(
        &self,
        of: &Declared,
        who: &str,
        since: Option<i64>,
        patience: Duration,
    ) -> Result<Admission> {
        let Some(most) = of.at_once else {
            let error = format!("the limit {:?} does not say how many at once", of.name);
            return Err(Error::terminal(error).code("bad_limit"));
        };
        let inner = &*self.inner;
        let (name, lease) = (of.stored(who, "permits"), of.lease.as_millis() as u64);
        let number = inner.numbers.fetch_add(1, Ordering::Relaxed);
        let holder = format!("{}-{number:x}", inner.store.me());
        let mut freed = inner.store.permits_freed();
        let began = self.tick();
        let left = || (patience.as_millis() as u64).saturating_sub(self.tick().saturating_sub(began));
        let waits = since.unwrap_or_else(|| inner.clock.now());
        let wish = Held { name, holder: holder.clone(), lease };
        let mut place = inner.permits.stand(wish, waits, number);
        let mut since = since;
        while left() > 0 && !place.is_first() {
            inner.clock.limit(Duration::from_millis(left()), place.turn()).await;
        }
        loop {
            let stands = if left() > 0 { STANDS } else { 0 };
            let enter = Enter { name, holder: holder.clone(), most, lease, since, patience: stands };
            place.asked = true;
            let asked = self.tick();
            match self.asked(name, inner.store.enter_permit(enter, self.given())).await? {
                Entered::In => {
                    place.asked = false;
                    if of.rate.is_none() && of.quota.is_none() {
                        of.book.counts.allowed();
                    }
                    return Ok(Admission::In(inner.permits.got(Held { name, holder, lease }, asked)));
                }
                Entered::Wait { since: waits, next } => {
                    if left() == 0 {
                        of.book.saw(who, false, 0, u64::from(most), inner.clock.now());
                        return Ok(Admission::Wait(waits));
                    }
                    if since.replace(waits).is_none() {
                        of.book.counts.waited();
                    }
                    let pause = next.unwrap_or(ASK).clamp(1, ASK).min(left());
                    let told = async {
                        loop {
                            match freed.recv().await {
                                Ok(told) if told != name => {}
                                // It is, or something was missed.
                                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return,
                                // Nobody will tell any more: look by the clock.
                                Err(_) => std::future::pending().await,
                            }
                        }
                    };
                    inner.clock.limit(Duration::from_millis(pause), told).await;
                }
            }
        }
    }

    /// Does what is to be done for permits beside those who hold them, until all handles are gone.
    pub(crate) fn keep(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.inner.permits.chores();
        let (inner, clock) = (Arc::downgrade(&self.inner), self.inner.clock.clone());
        async move {
            let Some(mut queue) = queue else { return };
            let (mut chores, mut next) = (Vec::new(), None::<u64>);
            loop {
                let Some(inner) = inner.upgrade() else { return };
                let limits = Limits { inner };
                limits.do_all(&mut chores, &mut next).await;
                let pause = next.map(|next| Duration::from_millis(next.saturating_sub(limits.tick()).max(1)));
                drop(limits);
                tokio::select! {
                    count = queue.recv_many(&mut chores, 256) => if count == 0 { return },
                    () = async {
                        match pause {
                            Some(pause) => clock.sleep(pause).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                }
            }
        }
    }

    /// Gives back and renews what there is, and says when there is more to do.
    async fn do_all(&self, chores: &mut Vec<Chore>, next: &mut Option<u64>) {
        let inner = &*self.inner;
        let (mut flushed, mut back) = (Vec::new(), Vec::new());
        for chore in chores.drain(..) {
            match chore {
                Chore::Back(held, until) => back.push((held, until)),
                Chore::Renew => {}
                Chore::Flush(done) => flushed.push(done),
            }
        }
        let back = back.into_iter().map(async |(held, until)| {
            let until = until.unwrap_or(self.tick() + held.lease);
            let left = inner.store.leave_permit(held.name, held.holder.clone(), self.given());
            // What was asked for and never answered may have been given: it is left again until it has ended.
            let failed = self.asked(held.name, left).await.is_err() && self.tick() < until;
            failed.then_some(Chore::Back(held, Some(until)))
        });
        chores.extend(futures_util::future::join_all(back).await.into_iter().flatten());
        for done in flushed {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
        let now = self.tick();
        let due = inner.permits.to_renew(now).0;
        let mut parts: HashMap<usize, Vec<Held>> = HashMap::new();
        due.into_iter().for_each(|held| parts.entry(held.name.spread() % PARTS).or_default().push(held));
        let renewed = parts.into_values().map(async |held| {
            let Some(name) = held.first().map(|held| held.name) else { return };
            let still = self.asked(name, inner.store.renew_permits(held.clone(), self.given())).await;
            inner.permits.renewed(held, still.ok(), now);
        });
        futures_util::future::join_all(renewed).await;
        let again = (!chores.is_empty()).then_some(self.tick() + OUT);
        *next = inner.permits.to_renew(now).1.into_iter().chain(again).min();
    }

    /// Waits until every permit that was given back here is free for the others.
    pub(crate) async fn flush(&self) {
        // Nobody waits for a store that is out: leases end by themselves.
        let _ = tokio::time::timeout(PATIENCE, self.inner.permits.flush()).await;
    }
}
