//! A partition on its owner: an actix actor that reads the mailbox in order and the deferred
//! messages as they fall due, and hands each to its activation, loading it when needed.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{ActorContext, ResponseFuture};
use tracing::{info, warn};

use super::{
    faults::Point,
    room::{Delivery, Room, Signal, Slot},
    shared::Shared,
};
use crate::{
    address::Address,
    backend::{Home, Lease, Loaded, Stored},
    envelope::Position,
    error::{Error, Failure, Result},
};

/// Messages read at once.
const BATCH: usize = 256;
/// Activations opened at once for parked messages found at start.
const WAKE: usize = 256;
/// A handler that has run this long may have what waits behind it parked when memory is short.
const SLOW: i64 = 250;

/// The partition's actor: answers questions from other threads.
pub(crate) struct Partition {
    room: Rc<Room>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Takes the lease and starts reading.
pub(crate) async fn open(shared: Arc<Shared>, partition: u16) -> Result<actix::Addr<Partition>> {
    let lease = shared.backend.acquire(partition).await?;
    let accepted = shared.backend.ledgers().await?.get(usize::from(partition)).map_or(0, |ledger| ledger.accepted);
    if !lease.clean {
        info!(partition, epoch = lease.epoch, "the last owner did not let go in order: what it ran is suspect");
    }
    let suspects = Position::new(partition, if lease.clean { 0 } else { accepted });
    let room = Room::new(shared, lease, suspects);
    let tasks = vec![
        actix::spawn({
            let room = room.clone();
            async move { room.committer.run().await }
        }),
        actix::spawn(read(room.clone())),
        actix::spawn(due(room.clone())),
        actix::spawn(wake_parked(room.clone())),
        actix::spawn(passivate(room.clone())),
    ];
    Ok(actix::Actor::start(Partition { room, tasks }))
}

impl actix::Actor for Partition {
    type Context = actix::Context<Self>;
}

/// Which attempt of a message is running, if any.
#[derive(actix::Message)]
#[rtype(result = "Option<u32>")]
pub(crate) struct Running(pub(crate) Position);

impl actix::Handler<Running> for Partition {
    type Result = Option<u32>;

    fn handle(&mut self, Running(position): Running, _: &mut Self::Context) -> Option<u32> {
        self.room.running.borrow().get(&position).copied()
    }
}

/// Cancel a message that no attempt has begun of.
#[derive(actix::Message)]
#[rtype(result = "Result<bool, Error>")]
pub(crate) struct Cancel(pub(crate) Position);

impl actix::Handler<Cancel> for Partition {
    type Result = ResponseFuture<Result<bool, Error>>;

    fn handle(&mut self, Cancel(position): Cancel, _: &mut Self::Context) -> Self::Result {
        let room = self.room.clone();
        Box::pin(async move {
            if room.running.borrow().contains_key(&position) {
                return Ok(false);
            }
            let cancelled = room.shared.backend.cancel(position, room.shared.clock.now()).await?;
            if cancelled {
                room.remember_cancelled(position);
                room.handed.borrow_mut().remove(&position);
            }
            Ok(cancelled)
        })
    }
}

/// How much the partition holds: messages in memory, and whether its store accepts commits.
#[derive(actix::Message)]
#[rtype(result = "(usize, bool)")]
pub(crate) struct Load;

impl actix::Handler<Load> for Partition {
    type Result = actix::MessageResult<Load>;

    fn handle(&mut self, _: Load, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult((self.room.held(), !self.room.committer.down()))
    }
}

/// Begin nothing new, wait until nothing runs, and let the lease go; whether all ended in time.
#[derive(actix::Message)]
#[rtype(result = "bool")]
pub(crate) struct Drain(pub(crate) Duration);

impl actix::Handler<Drain> for Partition {
    type Result = actix::ResponseActFuture<Self, bool>;

    fn handle(&mut self, Drain(deadline): Drain, _: &mut Self::Context) -> Self::Result {
        let room = self.room.clone();
        room.stop();
        let drained = async move {
            let quiet = async {
                while room.busy() {
                    room.quiet.notified().await;
                }
            };
            let quiet = room.shared.clock.limit(deadline, quiet).await.is_some();
            if quiet && let Err(error) = room.shared.backend.release(room.lease).await {
                warn!(partition = room.lease.partition, %error, "the lease was not let go");
            }
            quiet
        };
        let stop = actix::fut::wrap_future::<_, Self>(drained);
        Box::pin(actix::ActorFutureExt::map(stop, |quiet, partition, ctx| {
            for task in &partition.tasks {
                task.abort();
            }
            ctx.stop();
            quiet
        }))
    }
}

/// Reads the mailbox in order, as far as there is memory for it.
async fn read(room: Rc<Room>) {
    let backend = room.shared.backend.clone();
    let partition = room.lease.partition;
    let signals = backend.signals(partition);
    let mut cursor = Position::new(partition, 0);
    // What the last owner had in memory is at the front of the mailbox, and no more than fits a window.
    let mut suspects = room.shared.settings.window_messages;
    while !room.stopping() {
        let space = room_for_more(&room).await;
        match backend.read(partition, cursor, space.min(BATCH)).await {
            Ok(batch) if batch.is_empty() => signals.arrived.notified().await,
            Ok(batch) => {
                cursor = batch.last().map_or(cursor, |last| last.position);
                room.shared.faults.at(Point::Read).await;
                let suspicious = suspects > 0;
                suspects = suspects.saturating_sub(batch.len());
                distribute(&room, batch, suspicious).await;
            }
            Err(error) => {
                warn!(partition, %error, "the mailbox could not be read, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Waits until there is memory for more; when none comes free because keys are stuck behind slow
/// handlers, what waits behind those goes back to the store (G6: they must not stop the others).
async fn room_for_more(room: &Rc<Room>) -> usize {
    loop {
        let space = room.space();
        if space > 0 {
            return space;
        }
        let freed = room.freed.notified();
        if room.shared.clock.limit(Duration::from_millis(SLOW as u64), freed).await.is_some() {
            continue;
        }
        let slow = room.shared.clock.now() - SLOW;
        for slot in room.slots.borrow().values() {
            if (1..=slow).contains(&slot.state.since.get()) && slot.state.pending.get() > 1 {
                send(slot, Signal::Park);
            }
        }
    }
}

/// Reads deferred messages as they fall due.
async fn due(room: Rc<Room>) {
    let backend = room.shared.backend.clone();
    let partition = room.lease.partition;
    let signals = backend.signals(partition);
    while !room.stopping() {
        let space = room_for_more(&room).await;
        let now = room.shared.clock.now();
        let handed = room.handed.borrow().clone();
        match backend.due(partition, now, handed, space.min(BATCH)).await {
            Ok(due) if due.messages.is_empty() => {
                let deferred = signals.deferred.notified();
                match due.next {
                    Some(next) => {
                        let wait = Duration::from_millis((next - now).max(1) as u64);
                        room.shared.clock.limit(wait, deferred).await;
                    }
                    None => deferred.await,
                }
            }
            Ok(due) => {
                room.handed.borrow_mut().extend(due.messages.iter().map(|stored| stored.position));
                distribute(&room, due.messages, true).await;
            }
            Err(error) => {
                warn!(partition, %error, "deferred messages could not be read, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Wakes the actors that had messages parked when the last owner stopped.
async fn wake_parked(room: Rc<Room>) {
    let mut after = None;
    while !room.stopping() {
        match room.shared.backend.blocked(room.lease.partition, after.clone(), WAKE).await {
            Ok(addresses) => {
                let Some(last) = addresses.last() else { return };
                after = Some(last.clone());
                let _one = room.distributing.lock().await;
                let missing = addresses
                    .iter()
                    .filter(|address| !room.slots.borrow().contains_key(*address))
                    .cloned()
                    .collect();
                activate(&room, missing).await;
                for address in &addresses {
                    if let Some(slot) = room.slots.borrow().get(address) {
                        send(slot, Signal::Wake);
                    }
                }
            }
            Err(error) => {
                warn!(%error, "parked messages could not be found, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Lets activations leave that were not used for the idle time (twice its half, see
/// [`Room::passivate_idle`]).
async fn passivate(room: Rc<Room>) {
    while !room.stopping() {
        room.shared.clock.sleep(room.shared.settings.idle / 2).await;
        room.passivate_idle();
    }
}

fn send(slot: &Slot, signal: Signal) {
    slot.state.pending.set(slot.state.pending.get() + 1);
    slot.to.do_send(signal);
}

/// Hands messages to their activations, in order.
async fn distribute(room: &Rc<Room>, mut batch: Vec<Stored>, suspicious: bool) {
    let _one = room.distributing.lock().await;
    if suspicious && let Err(error) = count(room, &mut batch).await {
        warn!(partition = room.lease.partition, %error, "attempts could not be counted");
        return room.stop();
    }
    let mut waiting: Vec<(Address, Delivery)> = Vec::new();
    for stored in batch {
        room.hold(&stored);
        let address = match &stored.envelope {
            Ok(envelope) if room.shared.kinds.contains_key(envelope.to.kind()) => envelope.to.clone(),
            Ok(envelope) => {
                let address = envelope.to.clone();
                let message = format!("no feature of this build has the kind {:?}", address.kind());
                room.bury(&stored, address, failure(room, "unknown_kind", message)).await;
                continue;
            }
            Err(undecodable) => {
                let failure = failure(room, "undecodable", undecodable.reason.clone());
                // A name that is always valid.
                if let Ok(address) = Address::new("unreadable", "message") {
                    room.bury(&stored, address, failure).await;
                }
                continue;
            }
        };
        let counted = suspicious && room.suspect(&stored) && stored.attempts == 1 && stored.failures.is_empty();
        let suspect = suspicious && room.suspect(&stored);
        let delivery = Delivery { stored, counted, suspect };
        // Behind a message of the same key that waits for its actor to be loaded.
        let queued = waiting.iter().any(|(waits, _)| *waits == address);
        match room.slots.borrow().get(&address).filter(|_| !queued) {
            Some(slot) => send(slot, Signal::Deliver(Box::new(delivery))),
            None => waiting.push((address, delivery)),
        }
    }
    let mut missing: Vec<Address> = waiting.iter().map(|(address, _)| address.clone()).collect();
    missing.sort_unstable();
    missing.dedup();
    activate(room, missing).await;
    for (address, delivery) in waiting {
        match room.slots.borrow().get(&address) {
            Some(slot) => send(slot, Signal::Deliver(Box::new(delivery))),
            // Its state cannot be read: it was buried with the reason by `activate`… or the store
            // is gone, and the message stays where it is.
            None => room.let_go(delivery.stored.position, delivery.stored.size),
        }
    }
}

/// Counts the first attempt of messages that may have been running when the last owner died, all
/// at once. Those that were counted before are counted one by one, each before it runs.
async fn count(room: &Rc<Room>, batch: &mut [Stored]) -> Result<()> {
    let suspects: Vec<(Position, Home)> = batch
        .iter()
        .filter(|stored| room.suspect(stored) && stored.attempts == 0)
        .map(|stored| (stored.position, stored.home))
        .collect();
    if suspects.is_empty() {
        return Ok(());
    }
    let counts = room.shared.backend.begin(room.lease, suspects.clone()).await?;
    let mut counts = suspects.into_iter().map(|(position, _)| position).zip(counts);
    for stored in batch.iter_mut().filter(|stored| room.suspect(stored) && stored.attempts == 0) {
        if let Some((_, attempts)) = counts.next() {
            stored.attempts = attempts;
        }
    }
    Ok(())
}

fn failure(room: &Room, code: &'static str, message: String) -> Failure {
    Error::terminal(message).code(code).failure(0, room.shared.clock.now())
}

/// Loads actors and brings them into memory.
async fn activate(room: &Rc<Room>, addresses: Vec<Address>) {
    if addresses.is_empty() {
        return;
    }
    let loaded = loop {
        if room.stopping() {
            return;
        }
        match room.shared.backend.load(addresses.clone()).await {
            Ok(loaded) => break loaded,
            Err(error) => {
                warn!(%error, "states could not be loaded, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    };
    room.shared.faults.at(Point::Activated).await;
    for (address, loaded) in addresses.into_iter().zip(loaded) {
        start(room, address, loaded);
    }
}

fn start(room: &Rc<Room>, address: Address, loaded: Loaded) {
    let Some(kind) = room.shared.kinds.get(address.kind()) else { return };
    match kind.activate(room, address.clone(), loaded) {
        Ok(slot) => room.admit(address, slot),
        Err(error) => warn!(%address, %error, "the actor cannot be activated"),
    }
}

/// The lease a partition runs under, for those who ask.
#[derive(actix::Message)]
#[rtype(result = "u64")]
pub(crate) struct Epoch;

impl actix::Handler<Epoch> for Partition {
    type Result = u64;

    fn handle(&mut self, _: Epoch, _: &mut Self::Context) -> u64 {
        let Lease { epoch, .. } = self.room.lease;
        epoch
    }
}
