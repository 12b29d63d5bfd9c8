//! Delivering what left a partition to the others. What is in `:out` was put there by the very call that ended
//! the message that sent it; it stays until its receiver has it.
//!
//! Invariant: for each receiver, parcels are sent in order of their serial, which is that of their sequence, one
//! delivery at a time. Each parcel names its own sequence, and the receiver takes each once and skips none: so it
//! does not matter who sends, how often, or that a stale owner still does.
//!
//! A receiver that does not answer holds up itself alone: each has a [queue](super::parcels) and a pace of its
//! own. Memory is bounded: what a receiver has beyond its share is read from Redis when its turn comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use super::{
    Core, Fault,
    append::{Delivery, Item, NotReceived},
    parcels::{Leaving, Parcels},
    redis::{int, list, number, raw},
};

/// Most parcels and bytes of one delivery.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Entries and bytes read at once.
const PAGE: usize = 1024;
const PAGE_BYTES: usize = 4 << 20;
/// After so many gaps what is missing is given up: the receiver's server has lost it.
const GAPS: u32 = 3;
/// How long to wait before a delivery is tried again, at first and at most.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// What has left a partition and has not arrived.
#[derive(Default)]
pub(super) struct Outbox {
    window: Mutex<Window>,
    wake: Notify,
}

/// The part of the outbox that is in memory.
#[derive(Default)]
struct Window {
    /// Rises when all that is in memory is forgotten.
    starts: u64,
    /// The highest serial of an entry that cannot be read: it is said once of each.
    unreadable: u64,
    parcels: Parcels,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the parcels of one tenure; nothing when it is over, so that an answer to what the last
    /// owner asked says nothing to the next one.
    fn of<T>(&self, starts: u64, act: impl FnOnce(&mut Parcels) -> T) -> Option<T> {
        let mut window = self.lock();
        (window.starts == starts).then(|| act(&mut window.parcels))
    }

    /// Whether it was not yet said in this tenure that an entry cannot be read.
    fn is_news(&self, starts: u64, serial: u64) -> bool {
        let mut window = self.lock();
        let news = window.starts == starts && window.unreadable < serial;
        if news {
            window.unreadable = serial;
        }
        news
    }

    /// Parcels that a commit has just put there, in order.
    pub(super) fn push(&self, leaving: impl Iterator<Item = Leaving>) {
        let mut window = self.lock();
        leaving.for_each(|leaving| window.parcels.push(leaving));
        drop(window);
        self.wake.notify_one();
    }

    /// Looks into Redis for what is there.
    pub(super) fn look_again(&self) {
        self.lock().parcels.look_again();
        self.wake.notify_one();
    }

    /// Forgets what the last owner knew.
    pub(super) fn restart(&self) {
        let mut window = self.lock();
        *window = Window { starts: window.starts + 1, ..Window::default() };
        drop(window);
        self.wake.notify_one();
    }
}

/// How deliveries to a receiver go.
#[derive(Default)]
struct Pace {
    gaps: u32,
    failed: u32,
    /// Not before.
    again: Option<Instant>,
}

/// How a delivery ended.
struct Sent {
    to: u16,
    leaving: Vec<Leaving>,
    result: Result<(), NotReceived>,
}

/// Delivers for the owner of a partition, until its lease is over.
pub(super) async fn deliver(core: Arc<Core>, partition: u16, epoch: u64) {
    let place = core.places[usize::from(partition)].clone();
    let outbox = &place.outbox;
    let starts = outbox.lock().starts;
    let (mut paces, mut flying) = (BTreeMap::<u16, Pace>::new(), FuturesUnordered::new());
    let mut arrived: Vec<u64> = Vec::new();
    let over = || place.epoch() != epoch || core.closed();
    while !over() {
        let Some(behind) = outbox.of(starts, |parcels| parcels.behind()) else { break };
        if let Some(after) = behind
            && let Err(fault) = refill(&core, partition, (epoch, starts), after).await
        {
            warn!(partition, %fault, "the outbox could not be read, trying again");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        let now = Instant::now();
        let ready = |to: u16| paces.get(&to).and_then(|pace| pace.again).is_none_or(|again| again <= now);
        let taken = outbox.of(starts, |parcels| (parcels.take(BATCH, BATCH_BYTES, ready), parcels.behind()));
        let Some((batches, behind)) = taken else { break };
        for (to, leaving) in batches {
            let force = paces.get(&to).is_some_and(|pace| pace.gaps > GAPS);
            flying.push(send(&core, partition, to, leaving, force));
        }
        let next = paces.values().filter_map(|pace| pace.again).filter(|again| *again > now).min();
        let pause = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(Sent { to, leaving, result }) = flying.next(), if !flying.is_empty() => {
                let pace = paces.entry(to).or_default();
                match result {
                    Ok(()) => {
                        arrived.extend(leaving.iter().map(|leaving| leaving.serial));
                        *pace = Pace::default();
                        outbox.of(starts, |parcels| parcels.arrived(to));
                    }
                    Err(why) => {
                        pace.gaps = if matches!(why, NotReceived::Gap) { pace.gaps + 1 } else { 0 };
                        if let NotReceived::Fault(fault) = why && pace.failed == 0 {
                            warn!(from = partition, to, %fault, "not delivered, trying again");
                        }
                        pace.failed += 1;
                        let wait = AGAIN * 2u32.pow(pace.failed.min(6) - 1);
                        pace.again = Some(Instant::now() + wait.min(AGAIN_AT_MOST));
                        let gap = pace.gaps > 0;
                        outbox.of(starts, |parcels| if gap { parcels.again(to) } else { parcels.put_back(to, leaving) });
                    }
                }
            }
            () = outbox.wake.notified() => {}
            () = pause => {}
            // There is more to read: nothing else would wake this.
            () = std::future::ready(()), if behind.is_some() => {}
        }
        // Together, as far as nothing else has come meanwhile.
        if !arrived.is_empty() && (flying.is_empty() || arrived.len() >= BATCH) {
            remove(&core, partition, epoch, std::mem::take(&mut arrived)).await;
        }
    }
    // What woke this one was meant for the next owner.
    outbox.wake.notify_one();
}

/// Removes what has arrived. What cannot be removed now is sent again by the next owner, and known then.
async fn remove(core: &Core, partition: u16, epoch: u64, arrived: Vec<u64>) {
    for some in arrived.chunks(PAGE) {
        let mut wait = AGAIN;
        loop {
            let args = std::iter::once(number(epoch)).chain(some.iter().map(number)).collect();
            // Repeated it removes nothing more. Its loss is repeated work, so it need not be on a disk.
            match core.redis.call(partition, "arrived", args).await {
                Ok(_) | Err(Fault::Stale | Fault::Cold | Fault::Lost) => break,
                Err(_) if core.closed() || core.places[usize::from(partition)].epoch() != epoch => return,
                Err(fault) => {
                    warn!(partition, %fault, "what arrived could not be removed from the outbox, trying again")
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_AT_MOST);
        }
    }
}

/// Reads on in the outbox, for the owner with this epoch and tenure.
async fn refill(core: &Core, partition: u16, (epoch, starts): (u64, u64), after: u64) -> Result<(), Fault> {
    let outbox = &core.places[usize::from(partition)].outbox;
    outbox.of(starts, |parcels| parcels.begin());
    let args = [epoch, after, PAGE as u64, PAGE_BYTES as u64].map(number).into();
    let page = list(core.look_durably(partition, "leaving", args).await?);
    let (mut to, mut found) = (None, Vec::with_capacity(page.len() / 2));
    for pair in page.chunks_exact(2) {
        let serial = int(&pair[0]) as u64;
        to = Some(serial);
        let leaving = Leaving::read(serial, &raw(pair[1].clone()));
        match leaving.filter(|leaving| usize::from(leaving.to) < core.places.len()) {
            Some(leaving) => found.push(leaving),
            None if outbox.is_news(starts, serial) => {
                error!(partition, serial, "an entry of the outbox cannot be read: it stays there, and others go on")
            }
            None => {}
        }
    }
    outbox.of(starts, |parcels| parcels.found(after, to, found));
    Ok(())
}

/// Sends parcels of one receiver and era.
async fn send(core: &Core, from: u16, to: u16, leaving: Vec<Leaving>, force: bool) -> Sent {
    let era = leaving.first().map_or(0, |first| first.era);
    let (reply, answer) = oneshot::channel();
    core.send(to, Item::Receive(Delivery { from, to, era, force, parcels: leaving.clone(), reply }));
    let closing = || Err(NotReceived::Fault(Fault::Refused("the store is closing".into())));
    let result = answer.await.unwrap_or_else(|_| closing());
    Sent { to, leaving, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_tenure_has_read_says_nothing_to_the_next_one() {
        let outbox = Outbox::default();
        let last = outbox.lock().starts;
        outbox.of(last, |parcels| parcels.begin()).unwrap();
        outbox.restart();
        let next = outbox.lock().starts;
        assert!(outbox.of(last, |parcels| parcels.found(0, None, Vec::new())).is_none());
        let behind = || outbox.of(next, |parcels| parcels.behind()).unwrap();
        assert_eq!(behind(), Some(0), "the next one reads by itself");
        outbox.of(next, |parcels| parcels.begin()).unwrap();
        outbox.of(next, |parcels| parcels.found(0, None, Vec::new())).unwrap();
        assert_eq!(behind(), None);
    }
}
