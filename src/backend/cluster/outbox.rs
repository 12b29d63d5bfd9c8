//! Delivering what left a partition to the others. What is in `:outbox` was put there by the very call
//! that ended the message that sent it; it stays until its receiver has it.
//!
//! Invariant: for each receiver, parcels are sent in order of their sequence, and the next ones only
//! after the receiver said it has those before. The receiver takes each sequence once, so it does not
//! matter who sends, how often, or that a stale owner still does.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::types::Value;
use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use super::{
    Core,
    append::{Delivery, Item, NotReceived},
    encode::Parcel,
    redis::{list, raw},
};

/// Most parcels on their way at once.
const BATCH: usize = 1024;

/// A parcel with its place in the outbox.
pub(super) struct Leaving {
    serial: u64,
    seq: u64,
    parcel: Parcel,
}

/// What has left a partition and has not arrived.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<VecDeque<Leaving>>,
    /// There may be more in Redis than in memory.
    behind: AtomicBool,
    wake: Notify,
    /// Parcels on their way.
    open: AtomicU64,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Leaving>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parcels that a commit has just put there, in order.
    pub(super) fn push(&self, leaving: impl Iterator<Item = (u64, u64, Parcel)>) {
        self.lock().extend(leaving.map(|(serial, seq, parcel)| Leaving { serial, seq, parcel }));
        self.wake.notify_one();
    }

    /// Looks into Redis for what is there.
    pub(super) fn look_again(&self) {
        self.behind.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Forgets what the last owner knew.
    pub(super) fn restart(&self) {
        self.lock().clear();
        self.look_again();
    }
}

/// Delivers for the owner of a partition, until its lease is over.
pub(super) async fn deliver(core: Arc<Core>, partition: u16, epoch: u64) {
    let place = core.places[usize::from(partition)].clone();
    let mut gaps = 0;
    while place.epoch() == epoch && !core.closed() {
        if place.outbox.behind.swap(false, Ordering::SeqCst)
            && let Err(why) = refill(&core, partition).await
        {
            warn!(partition, why, "the outbox could not be read, trying again");
            place.outbox.behind.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let batch: Vec<Leaving> = {
            let mut queue = place.outbox.lock();
            let most = queue.len().min(BATCH);
            queue.drain(..most).collect()
        };
        if batch.is_empty() {
            place.outbox.wake.notified().await;
            continue;
        }
        place.outbox.open.fetch_add(1, Ordering::SeqCst);
        let sent = send(&core, partition, batch, gaps > 3).await;
        place.outbox.open.fetch_sub(1, Ordering::SeqCst);
        match sent {
            Ok(()) => gaps = 0,
            Err(gap) => {
                gaps = if gap { gaps + 1 } else { 0 };
                // Whatever did not arrive is in Redis still, in order.
                place.outbox.restart();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Reads all that is in the outbox.
async fn refill(core: &Core, partition: u16) -> Result<(), String> {
    let place = &core.places[usize::from(partition)];
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = core.redis.range(partition, "outbox", after, BATCH).await.map_err(|fault| fault.to_string())?;
        let page = list(page);
        let full = page.len() == BATCH;
        for entry in page {
            let leaving = read(entry).ok_or("an entry of the outbox cannot be read")?;
            after = leaving.serial;
            found.push(leaving);
        }
        if !full {
            break;
        }
    }
    let mut queue = place.outbox.lock();
    // Commits that came meanwhile are in both.
    queue.retain(|leaving| leaving.serial > after);
    for leaving in found.into_iter().rev() {
        queue.push_front(leaving);
    }
    Ok(())
}

/// `[<serial>-0, [q, …, s, …, h, …, e, …]]`
fn read(entry: Value) -> Option<Leaving> {
    let mut parts = list(entry).into_iter();
    let serial = parts.next()?.into_string()?.split_once('-')?.0.parse().ok()?;
    let fields = list(parts.next()?);
    let field = |at: usize| fields.get(at).cloned();
    let bytes = raw(field(7)?);
    let parcel = Parcel {
        to: field(1)?.as_u64()? as u16,
        head: raw(field(5)?),
        envelope: serde_json::from_slice(&bytes).ok()?,
        bytes,
    };
    Some(Leaving { serial, seq: field(3)?.as_u64()?, parcel })
}

/// Sends a batch, to all receivers at once; on failure, whether a receiver misses something before it.
async fn send(core: &Core, partition: u16, batch: Vec<Leaving>, force: bool) -> Result<(), bool> {
    let mut receivers: BTreeMap<u16, Vec<Leaving>> = BTreeMap::new();
    for leaving in batch {
        receivers.entry(leaving.parcel.to).or_default().push(leaving);
    }
    let mut failed = None;
    let sent = join_all(receivers.into_iter().map(|(to, leaving)| send_to(core, partition, to, leaving, force))).await;
    let mut arrived = Vec::new();
    for result in sent {
        match result {
            Ok(serials) => arrived.extend(serials),
            Err(gap) => failed = Some(failed.unwrap_or(false) | gap),
        }
    }
    if !arrived.is_empty()
        && let Err(fault) = core.redis.remove(partition, "outbox", arrived).await
    {
        warn!(partition, %fault, "what arrived could not be removed from the outbox, it is sent again");
        return Err(false);
    }
    failed.map_or(Ok(()), Err)
}

async fn send_to(core: &Core, from: u16, to: u16, leaving: Vec<Leaving>, force: bool) -> Result<Vec<u64>, bool> {
    let Some(first) = leaving.first().map(|first| first.seq) else { return Ok(Vec::new()) };
    let serials: Vec<u64> = leaving.iter().map(|leaving| leaving.serial).collect();
    if force {
        error!(from, to, first, "messages before this one are missing: Redis has lost some");
    }
    let parcels = leaving.into_iter().map(|leaving| leaving.parcel).collect();
    let (reply, answer) = oneshot::channel();
    core.send(to, Item::Receive(Delivery { from, to, first, force, parcels, reply }));
    match answer.await {
        Ok(Ok(())) => Ok(serials),
        Ok(Err(NotReceived::Gap)) => Err(true),
        Ok(Err(NotReceived::Fault(fault))) => {
            warn!(from, to, %fault, "not delivered, trying again");
            Err(false)
        }
        Err(_) => Err(false),
    }
}
