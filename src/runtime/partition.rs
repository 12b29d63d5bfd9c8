//! A partition on its owner: an actix actor that reads the mailbox in order and the deferred
//! messages as they fall due, and hands each to its activation, loading it when needed.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{ActorContext, ResponseFuture};
use tracing::{info, warn};

use super::{
    faults::Point,
    room::{Delivery, Room, Signal, Slot},
    shared::Shared,
    supervisor::Beat,
};
use crate::{
    address::Address,
    backend::{Acquired, Home, Lookup, Stored},
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

/// What a partition is opened with.
pub(crate) struct Opening {
    pub(crate) shared: Arc<Shared>,
    pub(crate) partition: u16,
    pub(crate) beat: Arc<Beat>,
    /// The message that blocked the last owner's thread.
    pub(crate) blamed: Option<Position>,
}

/// Takes the lease and starts reading.
pub(crate) async fn open(Opening { shared, partition, beat, blamed }: Opening) -> Result<actix::Addr<Partition>> {
    let lease = match shared.backend.acquire(partition).await? {
        Acquired::Taken(lease) => lease,
        Acquired::Held(node) => return Err(Error::new(format!("partition {partition} is held by node {node}"))),
    };
    if !lease.clean {
        info!(partition, epoch = lease.epoch, "the last owner did not let go in order: what it ran is suspect");
    }
    let suspects = Position::new(partition, if lease.clean { 0 } else { lease.last });
    let room = Room::new(shared, lease, suspects, beat);
    if let Some(position) = blamed {
        quarantine(&room, position).await?;
    }
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
            let cancelled = room.shared.backend.cancel(room.lease, position, room.shared.clock.now()).await?;
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

/// Ends the message that blocked the last owner's thread in the dead letters.
async fn quarantine(room: &Rc<Room>, position: Position) -> Result<()> {
    let Lookup::Waiting(stored) = room.shared.backend.lookup(position).await? else { return Ok(()) };
    let Some(address) = address(room, &stored).await else { return Ok(()) };
    let message = format!(
        "the handler blocked its thread for {:?} without awaiting: move blocking work to the blocking pool",
        room.shared.settings.stall
    );
    let buried = room.bury(&stored, address, failure(room, "blocked", message));
    // The committer's task is not running yet.
    tokio::select! {
        () = buried => {}
        () = room.committer.run() => {}
    }
    Ok(())
}

/// Reads the mailbox in order, as far as there is memory for it.
async fn read(room: Rc<Room>) {
    let backend = room.shared.backend.clone();
    let partition = room.lease.partition;
    let mut cursor = Position::new(partition, 0);
    // What the last owner had in memory is at the front of the mailbox, and no more than fits a window.
    let mut suspects = room.shared.settings.window_messages;
    while !room.stopping() {
        let space = room_for_more(&room).await;
        match backend.read(partition, cursor, space.min(BATCH)).await {
            Ok(batch) if batch.is_empty() => room.signals.arrived.notified().await,
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
    while !room.stopping() {
        let space = room_for_more(&room).await;
        let now = room.shared.clock.now();
        let handed = room.handed.borrow().clone();
        match backend.due(partition, now, handed, space.min(BATCH)).await {
            Ok(due) if due.messages.is_empty() => {
                let deferred = room.signals.deferred.notified();
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
                let mut missing = Vec::new();
                for address in addresses {
                    match room.slots.borrow().get(&address) {
                        Some(slot) => send(slot, Signal::Wake),
                        None => missing.push(Arrivals { address, deliveries: Vec::new() }),
                    }
                }
                activate(&room, missing).await;
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
        room.shared.clock.rest(room.shared.settings.idle / 2).await;
        room.passivate_idle();
    }
}

fn send(slot: &Slot, signal: Signal) {
    slot.state.pending.set(slot.state.pending.get() + 1);
    slot.to.do_send(signal);
}

/// Messages for an actor that is not in memory.
struct Arrivals {
    address: Address,
    deliveries: Vec<Delivery>,
}

/// Hands messages to their activations, in order.
async fn distribute(room: &Rc<Room>, mut batch: Vec<Stored>, suspicious: bool) {
    let _one = room.distributing.lock().await;
    let counted = match count(room, &mut batch, suspicious).await {
        Ok(counted) => counted,
        Err(error) => {
            warn!(partition = room.lease.partition, %error, "attempts could not be counted");
            return room.stop();
        }
    };
    let (mut absent, mut index) = (Vec::<Arrivals>::new(), HashMap::new());
    for stored in batch {
        room.hold(&stored);
        let Some(address) = address(room, &stored).await else { continue };
        let delivery = Delivery {
            counted: counted.contains(&stored.position),
            suspect: suspicious && room.suspect(&stored),
            stored,
        };
        if let Some(slot) = room.slots.borrow().get(&address) {
            send(slot, Signal::Deliver(Box::new(delivery)));
            continue;
        }
        let at = *index.entry(address.clone()).or_insert_with(|| {
            absent.push(Arrivals { address, deliveries: Vec::new() });
            absent.len() - 1
        });
        absent[at].deliveries.push(delivery);
    }
    activate(room, absent).await;
}

/// Who a message is for; one that no actor can handle is buried (G12).
async fn address(room: &Room, stored: &Stored) -> Option<Address> {
    match &stored.envelope {
        Ok(envelope) if room.shared.kinds.contains_key(envelope.to.kind()) => Some(envelope.to.clone()),
        Ok(envelope) => {
            let message = format!("no feature of this build has the kind {:?}", envelope.to.kind());
            room.bury(stored, envelope.to.clone(), failure(room, "unknown_kind", message)).await;
            None
        }
        Err(undecodable) => {
            // A name that is always valid.
            let address = Address::new("unreadable", "message").ok()?;
            room.bury(stored, address, failure(room, "undecodable", undecodable.reason.clone())).await;
            None
        }
    }
}

/// Counts the first attempt of messages that may have been running when the last owner died, all
/// at once, and says which. Those that were counted before are counted one by one, each before it
/// runs.
async fn count(room: &Rc<Room>, batch: &mut [Stored], suspicious: bool) -> Result<HashSet<Position>> {
    let suspect = |stored: &Stored| suspicious && stored.attempts == 0 && room.suspect(stored);
    let suspects: Vec<(Position, Home)> =
        batch.iter().filter(|stored| suspect(stored)).map(|stored| (stored.position, stored.home)).collect();
    if suspects.is_empty() {
        return Ok(HashSet::new());
    }
    let counts = room.shared.backend.begin(room.lease, suspects.clone()).await?;
    let counts: HashMap<Position, u32> = suspects.into_iter().map(|(position, _)| position).zip(counts).collect();
    for stored in batch.iter_mut() {
        if let Some(attempts) = counts.get(&stored.position) {
            stored.attempts = *attempts;
        }
    }
    room.shared.faults.at(Point::Counted).await;
    Ok(counts.into_keys().collect())
}

fn failure(room: &Room, code: &'static str, message: String) -> Failure {
    Error::terminal(message).code(code).failure(0, room.shared.clock.now())
}

/// Loads actors, brings them into memory and hands them their messages.
async fn activate(room: &Rc<Room>, absent: Vec<Arrivals>) {
    if absent.is_empty() {
        return;
    }
    let addresses: Vec<Address> = absent.iter().map(|arrivals| arrivals.address.clone()).collect();
    let loaded = loop {
        if room.stopping() {
            return;
        }
        match room.shared.backend.open(room.lease, addresses.clone()).await {
            Ok(loaded) => break loaded,
            Err(error) => {
                warn!(%error, "states could not be loaded, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    };
    room.shared.faults.at(Point::Activated).await;
    for (arrivals, loaded) in absent.into_iter().zip(loaded) {
        let Some(kind) = room.shared.kinds.get(arrivals.address.kind()) else { continue };
        let parked = loaded.parked;
        match kind.activate(room, arrivals.address.clone(), loaded) {
            Ok(slot) => {
                if arrivals.deliveries.is_empty() && parked {
                    send(&slot, Signal::Wake);
                }
                for delivery in arrivals.deliveries {
                    send(&slot, Signal::Deliver(Box::new(delivery)));
                }
                // Only now: what is admitted with nothing to do may have to leave at once.
                room.admit(arrivals.address, slot);
            }
            Err(error) => {
                for delivery in arrivals.deliveries {
                    let failure = error.failure(delivery.stored.attempts, room.shared.clock.now());
                    room.bury(&delivery.stored, arrivals.address.clone(), failure).await;
                }
            }
        }
    }
}
