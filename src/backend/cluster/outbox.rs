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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, oneshot};
use tracing::warn;

use super::{
    Core, Fault,
    append::{Delivery, Item, NotReceived},
    encode,
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
    parcels: Mutex<Parcels>,
    wake: Notify,
    /// Rises when all that is in memory is forgotten.
    starts: AtomicU64,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Parcels> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parcels that a commit has just put there, in order.
    pub(super) fn push(&self, leaving: impl Iterator<Item = Leaving>) {
        let mut parcels = self.lock();
        leaving.for_each(|leaving| parcels.push(leaving));
        drop(parcels);
        self.wake.notify_one();
    }

    /// Looks into Redis for what is there.
    pub(super) fn look_again(&self) {
        self.lock().look_again();
        self.wake.notify_one();
    }

    /// Forgets what the last owner knew.
    pub(super) fn restart(&self) {
        *self.lock() = Parcels::default();
        self.starts.fetch_add(1, Ordering::SeqCst);
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
    let starts = place.outbox.starts.load(Ordering::SeqCst);
    let (mut paces, mut flying) = (BTreeMap::<u16, Pace>::new(), FuturesUnordered::new());
    let mut arrived: Vec<u64> = Vec::new();
    let over = || place.epoch() != epoch || place.outbox.starts.load(Ordering::SeqCst) != starts || core.closed();
    while !over() {
        let behind = place.outbox.lock().behind();
        if let Some(after) = behind
            && let Err(fault) = refill(&core, partition, epoch, after).await
        {
            warn!(partition, %fault, "the outbox could not be read, trying again");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        let now = Instant::now();
        let ready = |to: u16| paces.get(&to).and_then(|pace| pace.again).is_none_or(|again| again <= now);
        let batches = place.outbox.lock().take(BATCH, BATCH_BYTES, ready);
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
                        place.outbox.lock().arrived(to);
                    }
                    Err(why) => {
                        pace.gaps = if matches!(why, NotReceived::Gap) { pace.gaps + 1 } else { 0 };
                        if let NotReceived::Fault(fault) = why && pace.failed == 0 {
                            warn!(from = partition, to, %fault, "not delivered, trying again");
                        }
                        pace.failed += 1;
                        let wait = AGAIN * 2u32.pow(pace.failed.min(6) - 1);
                        pace.again = Some(Instant::now() + wait.min(AGAIN_AT_MOST));
                        match pace.gaps {
                            0 => place.outbox.lock().put_back(to, leaving),
                            _ => place.outbox.lock().again(to),
                        }
                    }
                }
            }
            () = place.outbox.wake.notified() => {}
            () = pause => {}
        }
        // Together, as far as nothing else has come meanwhile.
        if !arrived.is_empty() && (flying.is_empty() || arrived.len() >= BATCH) {
            remove(&core, partition, epoch, std::mem::take(&mut arrived)).await;
        }
    }
    // What woke this one was meant for the next owner.
    place.outbox.wake.notify_one();
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

/// Reads on in the outbox.
async fn refill(core: &Core, partition: u16, epoch: u64, after: u64) -> Result<(), Fault> {
    let place = &core.places[usize::from(partition)];
    place.outbox.lock().begin();
    let args = [epoch, after, PAGE as u64, PAGE_BYTES as u64].map(number).into();
    let page = list(core.look_durably(partition, "leaving", args).await?);
    let mut found = Vec::with_capacity(page.len() / 2);
    for pair in page.chunks_exact(2) {
        let serial = int(&pair[0]) as u64;
        let leaving = read(serial, raw(pair[1].clone()));
        found.push(leaving.ok_or_else(|| Fault::Refused(format!("entry {serial} of the outbox cannot be read")))?);
    }
    place.outbox.lock().found(after, found);
    Ok(())
}

fn read(serial: u64, packed: Vec<u8>) -> Option<Leaving> {
    let (era, seq, parcel) = encode::leaving(&packed)?;
    Some(Leaving { serial, era, seq, parcel })
}

/// Sends parcels of one receiver and era.
async fn send(core: &Core, from: u16, to: u16, leaving: Vec<Leaving>, force: bool) -> Sent {
    let era = leaving.first().map_or(0, |first| first.era);
    let parcels = leaving.iter().map(|leaving| (leaving.seq, leaving.parcel.clone())).collect();
    let (reply, answer) = oneshot::channel();
    core.send(to, Item::Receive(Delivery { from, to, era, force, parcels, reply }));
    let closing = || Err(NotReceived::Fault(Fault::Refused("the store is closing".into())));
    let result = answer.await.unwrap_or_else(|_| closing());
    Sent { to, leaving, result }
}
